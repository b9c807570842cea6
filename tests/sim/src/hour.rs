//! An hour of traffic by many sources: four shards, 1,000 domains at 50 sites, 20 sources that have
//! less to give than is asked of them. Peers and the spool answer on time; what is looked at is which
//! limits are exceeded, and which permits nobody takes while work waits.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::dispatch::{
    Action, Config, Dispatch, Fleet, News, PoolPlan, Pull, Shapes, Suspension, Work,
};
use posthaste_core::egress::{HealthRules, Member, Selection, Source, SourceId};
use posthaste_core::shaping::limit::LimitId;
use posthaste_core::shaping::{File, Layer, Shaping};
use posthaste_core::words::{
    Address, BodyKind, Cause, ConnectionId, Content, Domain, Envelope, Host, IdSequence, Labels,
    Message, MessageId, Moment, Notify, Outcome, Plan, Reception, Recipient, Reply, ShardId,
    SiteName, Stage,
};

use crate::postmaster::Postmaster;
use crate::rng::Rng;
use crate::rules::Meter;

const START: Moment = Moment::from_secs(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const SHARDS: u16 = 4;
const DOMAINS: usize = 1000;
const SITES: usize = 50;
/// They have four parts in five of the traffic, more than sources have for them.
const HOT: usize = 25;
const SOURCES: u32 = 20;
const PER_SECOND: u64 = 60;
/// Of a source towards a site, and of a source, a minute.
const LANE_RATE: (u64, u64) = (60, 2);
const SOURCE_RATE: (u64, u64) = (150, 2);
const CONNECTIONS: usize = 4;
/// It takes offence at a source for ten minutes.
const AVERSE: usize = 7;
const BLOCKED: u32 = 3;
/// All mail is spam to it.
const FUSSY: usize = 9;
/// It is of no use for five minutes.
const AWAY: u32 = 5;

enum Event {
    Inject,
    Route {
        shard: usize,
        domain: Domain,
    },
    Connected {
        shard: usize,
        c: ConnectionId,
    },
    Answered {
        shard: usize,
        c: ConnectionId,
        seq: u64,
    },
    Loaded {
        shard: usize,
        id: MessageId,
    },
    Freed {
        shard: usize,
        limit: LimitId,
    },
    Forwarded {
        shard: usize,
        work: Work,
    },
    News {
        shard: usize,
        news: Arc<News>,
    },
    Suspend,
    Resume,
}

struct Link {
    site: usize,
    source: u32,
    is_busy: bool,
}

#[derive(Default)]
struct Seen {
    lanes: BTreeMap<(usize, u32), Meter>,
    sources: BTreeMap<u32, Meter>,
    /// Messages of a source by minute.
    sent: BTreeMap<(u32, u64), u64>,
    blocked: u64,
    /// Of the fussy site, by source.
    spam: BTreeMap<u32, u64>,
}

struct World {
    now: Moment,
    rng: Rng,
    ids: IdSequence,
    brains: Vec<Dispatch>,
    events: BTreeMap<(Moment, u64), Event>,
    tie: u64,
    messages: BTreeMap<MessageId, Arc<Message>>,
    links: BTreeMap<(usize, ConnectionId), Link>,
    seen: Seen,
}

fn fleet() -> Arc<Fleet> {
    let name = |n: u32| format!("s{n}");
    let member = |n| Member {
        source: SourceId(n),
        name: name(n).into(),
        weight: 1 + n % 3,
        off_hours: None,
    };
    let pool = PoolPlan {
        name: "default".into(),
        members: (0..SOURCES).map(member).collect(),
        hours: None,
        selection: Selection::Weighted,
        rules: HealthRules::default(),
    };
    let sources = (0..SOURCES).map(|n| Source::new(&name(n), Some([198, 51, 100, n as u8].into())));
    let fleet = Fleet::new(sources.collect(), vec![pool], Vec::new(), Vec::new());
    Arc::new(fleet)
}

fn shapes() -> Arc<Shapes> {
    let rate = |(count, burst)| format!("\"{count}/min,max_burst={burst}\"");
    let mut text = format!(
        "[\"default\"]\nconnection_limit = {CONNECTIONS}\nmax_message_rate = {}\n",
        rate(LANE_RATE)
    );
    for n in 0..SOURCES {
        let rate = rate(SOURCE_RATE);
        text += &format!("[source.\"s{n}\"]\nmax_message_rate = {rate}\n");
    }
    let file = File {
        name: "hour.toml",
        text: &text,
        layer: Layer::Operator,
    };
    Arc::new(Shapes {
        shaping: Arc::new(Shaping::read(&[file]).expect("well formed")),
        ..Shapes::default()
    })
}

fn plan(site: usize) -> Arc<Plan> {
    let name = format!("mx.site{site}.example");
    Arc::new(Plan {
        site: SiteName::new(&format!("site{site}")),
        names: name.as_str().into(),
        mx_hosts: vec![name.as_str().into()],
        hosts: vec![host(site)],
    })
}

fn host(site: usize) -> Host {
    Host {
        name: format!("mx.site{site}.example").into(),
        address: ([192, 0, 2, site as u8], 25).into(),
        preference: 10,
    }
}

impl World {
    fn new() -> Self {
        let (fleet, shapes) = (fleet(), shapes());
        let brain = |shard| {
            let config = Config {
                shard: ShardId(shard),
                shards: SHARDS,
                fleet: Arc::clone(&fleet),
                ..Config::default()
            };
            let name = Domain::parse("sim.example").expect("a domain");
            let ids = IdSequence::new(ShardId(shard), 1);
            let reporter = Box::new(Postmaster(name));
            Dispatch::new(Arc::new(config), Arc::clone(&shapes), ids, 7, reporter)
        };
        Self {
            now: START,
            rng: Rng::new(11),
            ids: IdSequence::new(ShardId(999), 1),
            brains: (0..SHARDS).map(brain).collect(),
            events: BTreeMap::new(),
            tie: 0,
            messages: BTreeMap::new(),
            links: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.tie += 1;
        self.events.insert((self.now + time, self.tie), event);
    }

    fn minute(&self) -> u64 {
        self.now.since(START).as_secs() / 60
    }

    fn run(&mut self) {
        let end = START + 60 * MINUTE;
        self.after(Duration::ZERO, Event::Inject);
        self.after(30 * MINUTE, Event::Suspend);
        self.after(35 * MINUTE, Event::Resume);
        loop {
            let timers = self.brains.iter().filter_map(Dispatch::poll_timeout);
            let event = self.events.keys().next().map(|(at, _)| *at);
            let next = timers.chain(event).min().expect("there is always more");
            self.now = self.now.max(next);
            if self.now >= end {
                return;
            }
            if event.is_some_and(|at| at <= self.now) {
                let (_, event) = self.events.pop_first().expect("it was seen");
                self.happen(event);
            } else {
                for brain in &mut self.brains {
                    if brain.poll_timeout().is_some_and(|due| due <= self.now) {
                        brain.handle_timeout(self.now);
                    }
                }
            }
            for shard in 0..self.brains.len() {
                self.drain(shard);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Inject => self.inject(),
            Event::Route { shard, domain } => {
                let number = domain.as_str().trim_start_matches('d');
                let number = number
                    .split('.')
                    .next()
                    .and_then(|n| n.parse::<usize>().ok());
                let site = number.expect("domains are numbered") % SITES;
                let until = now + 60 * MINUTE;
                self.brains[shard].handle_route(&domain, Ok(plan(site)), until, now);
            }
            Event::Connected { shard, c } => {
                if self.links.contains_key(&(shard, c)) {
                    self.brains[shard].handle_connected(c, now);
                    self.pull(shard, c);
                }
            }
            Event::Answered { shard, c, seq } => self.answered(shard, c, seq),
            Event::Loaded { shard, id } => {
                let message = self.messages.get(&id).cloned();
                self.brains[shard].handle_loaded(id, message, now);
            }
            Event::Freed { shard, limit } => self.brains[shard].handle_freed(limit, now),
            Event::Forwarded { shard, work } => self.brains[shard].handle_forwarded(work, now),
            Event::News { shard, news } => self.brains[shard].handle_news(&news, now),
            Event::Suspend => {
                let until = now + 5 * MINUTE;
                let why = "not on this host".into();
                let suspension = Suspension { until, why };
                self.brains[0].handle_source_suspended(SourceId(AWAY), suspension, now);
            }
            Event::Resume => self.brains[0].handle_source_resumed(SourceId(AWAY), now),
        }
    }

    fn inject(&mut self) {
        let is_hot = self.rng.below(5) < 4;
        let of_site = if is_hot {
            self.rng.below(HOT)
        } else {
            HOT + self.rng.below(SITES - HOT)
        };
        let domain = of_site + SITES * self.rng.below(DOMAINS / SITES);
        let recipient = Recipient {
            address: Address::parse(&format!("a@d{domain}.example")).expect("an address"),
            notify: Notify::default(),
            orcpt: None,
        };
        let message = Arc::new(Message {
            id: self.ids.next(self.now),
            envelope: Envelope {
                sender: None,
                body: BodyKind::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
                recipients: vec![recipient],
            },
            reception: Reception {
                at: self.now,
                peer: None,
                helo: "".into(),
                protocol: "ESMTP",
            },
            content: Content::default(),
            labels: Labels::default(),
            data: Bytes::from_static(b"x"),
        });
        self.messages.insert(message.id, Arc::clone(&message));
        let shard = self.rng.below(self.brains.len());
        self.brains[shard].handle_committed(message, self.now);
        self.after(Duration::from_micros(1_000_000 / PER_SECOND), Event::Inject);
    }

    fn drain(&mut self, shard: usize) {
        while let Some(action) = self.brains[shard].poll_action() {
            match action {
                Action::Resolve(domain) => {
                    self.after(Duration::from_millis(5), Event::Route { shard, domain });
                }
                Action::Connect {
                    connection,
                    plan,
                    source,
                    ..
                } => self.connect(shard, connection, &plan, source),
                Action::Freed { limit, shards } => {
                    for other in self.others(shard) {
                        if shards.contains(ShardId(other as u16)) {
                            let shard = other;
                            self.after(Duration::from_micros(50), Event::Freed { shard, limit });
                        }
                    }
                }
                Action::Tell(news) => {
                    for shard in self.others(shard) {
                        let news = Arc::clone(&news);
                        self.after(Duration::from_micros(50), Event::News { shard, news });
                    }
                }
                Action::Wake(c) => self.pull(shard, c),
                Action::Load(id) | Action::Recall(id) => {
                    self.after(Duration::from_micros(200), Event::Loaded { shard, id });
                }
                Action::Settle(_) => self.brains[shard].handle_settled(1, self.now),
                Action::Store { token, .. } => {
                    self.brains[shard].handle_stored(token, true, self.now);
                }
                Action::Forward { to, work } => {
                    let shard = usize::from(to.0);
                    self.after(Duration::from_micros(50), Event::Forwarded { shard, work });
                }
                Action::Quit(c) => self.quit(shard, c),
            }
        }
    }

    fn others(&self, shard: usize) -> Vec<usize> {
        (0..self.brains.len())
            .filter(|other| *other != shard)
            .collect()
    }

    fn connect(&mut self, shard: usize, c: ConnectionId, plan: &Plan, source: Option<SourceId>) {
        let site = plan.site.as_str().trim_start_matches("site");
        let link = Link {
            site: site.parse().expect("sites are numbered"),
            source: source.expect("one was chosen").0,
            is_busy: false,
        };
        let (site, source) = (link.site, link.source);
        self.links.insert((shard, c), link);
        let alike = |link: &&Link| link.site == site && link.source == source;
        let count = self.links.values().filter(alike).count();
        assert!(
            count <= CONNECTIONS,
            "{count} connections from s{source} to {site}"
        );
        self.after(Duration::from_millis(20), Event::Connected { shard, c });
    }

    fn quit(&mut self, shard: usize, c: ConnectionId) {
        if self
            .links
            .get(&(shard, c))
            .is_some_and(|link| !link.is_busy)
        {
            self.links.remove(&(shard, c));
            self.brains[shard].handle_closed(c, None, self.now);
        }
    }

    fn pull(&mut self, shard: usize, c: ConnectionId) {
        let Some(link) = self.links.get_mut(&(shard, c)) else {
            return;
        };
        if link.is_busy {
            return;
        }
        match self.brains[shard].pull(c, self.now) {
            Pull::Work { seq, .. } => {
                link.is_busy = true;
                let (site, source) = (link.site, link.source);
                let lane = self.seen.lanes.entry((site, source)).or_default();
                lane.count(LANE_RATE, SHARDS, self.now);
                let all = self.seen.sources.entry(source).or_default();
                all.count(SOURCE_RATE, SHARDS, self.now);
                let minute = self.minute();
                *self.seen.sent.entry((source, minute)).or_default() += 1;
                self.after(Duration::from_millis(50), Event::Answered { shard, c, seq });
            }
            Pull::Wait => {}
            Pull::Quit => {
                self.links.remove(&(shard, c));
                self.brains[shard].handle_closed(c, None, self.now);
            }
        }
    }

    fn answered(&mut self, shard: usize, c: ConnectionId, seq: u64) {
        let minute = self.minute();
        let link = self.links.get_mut(&(shard, c)).expect("busy links stay");
        link.is_busy = false;
        let (site, source) = (link.site, link.source);
        let is_averse = site == AVERSE && source == BLOCKED && (10..20).contains(&minute);
        let outcome = if is_averse {
            self.seen.blocked += 1;
            let text = "client host blocked using zen.spamhaus.org";
            let reply = Reply::new(450, None, text);
            let stage = Stage::Mail;
            Outcome::Deferred(Cause::Reply { stage, reply })
        } else if site == FUSSY {
            *self.seen.spam.entry(source).or_default() += 1;
            let reply = Reply::new(550, None, "message content looks like spam, block list");
            let stage = Stage::Dot;
            Outcome::Refused(Cause::Reply { stage, reply })
        } else {
            Outcome::Delivered(Reply::new(250, None, "ok"))
        };
        let brain = &mut self.brains[shard];
        brain.handle_outcome(c, seq, &[(0, outcome)], &host(site), None, self.now);
        self.pull(shard, c);
    }
}

#[test]
fn for_an_hour_no_limit_is_exceeded_and_no_permit_is_wasted_while_work_waits() {
    let mut world = World::new();
    world.run();
    let seen = &world.seen;
    let sent = |source: u32, minutes: core::ops::Range<u64>| -> u64 {
        minutes
            .map(|minute| seen.sent.get(&(source, minute)).copied().unwrap_or(0))
            .sum()
    };
    // More waits at each busy site than sources may send there.
    for source in 0..SOURCES {
        let last = sent(source, 40..60);
        let whole = SOURCE_RATE.0 * 20;
        assert!(
            last * 100 >= whole * 97 && last <= whole + 8,
            "s{source}: {last} of {whole} permits"
        );
        let away = sent(source, 31..35);
        assert_eq!(away == 0, source == AWAY, "s{source}: {away} messages");
    }
    // Its first offences, and a probe or two.
    assert!((1..=20).contains(&seen.blocked), "{}", seen.blocked);
    assert!(seen.spam.len() == SOURCES as usize, "content moves nobody");
    let queued: usize = world.brains.iter().map(|b| b.counters().queued).sum();
    let all: u64 = (0..SOURCES).map(|source| sent(source, 0..60)).sum();
    assert!(
        queued > 10_000,
        "there was more than could go: {queued}, {all} went"
    );
}
