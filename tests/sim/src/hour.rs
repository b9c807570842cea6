//! An hour of traffic, all at once: four shards, 1,000 domains at 50 sites, 20 sources that have less to
//! give than is asked of them, five tenants with weights and limits of their own. Peers and the spool
//! answer on time; what is looked at is which limits are exceeded, which permits nobody takes while work
//! waits, and what each tenant gets where they contend.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::dispatch::{
    Action, Config, Dispatch, Fleet, LaneRow, News, PoolPlan, Pull, StrandRow, Suspension, Work,
};
use posthaste_core::egress::{HealthRules, Member, Selection, Source, SourceId};
use posthaste_core::shaping::limit::LimitId;
use posthaste_core::shaping::{LimitKey, Limited, Scope};
use posthaste_core::words::{
    Address, BodyKind, Cause, ConnectionId, Content, Domain, Envelope, Host, IdSequence, Labels,
    Message, MessageId, Moment, Notify, Outcome, Plan, Reception, Recipient, Reply, ShardId,
    SiteName, Stage,
};

use crate::bounds::{
    CAMPAIGNS, Judges, Link, RATED, SHARDS, SINGLE, SITES, SOURCE_RATE, SOURCES, STRICT_RATE,
    TENANT_RATE, TENANTS, Whose, rates_of, shapes,
};
use crate::postmaster::Postmaster;
use crate::rng::Rng;

const START: Moment = Moment::from_secs(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const DOMAINS: usize = 1000;
/// They have four parts in five of the traffic, more than sources have for them.
const HOT: usize = 25;
const PER_SECOND: u64 = 60;
/// How often it is looked for permits that nobody takes, and when again if there are some.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Minutes by which the lanes of all sources have what they may have: before, the heavier ones of the pool
/// are given theirs first.
const FILLED: u64 = 2;
/// Minutes by which all tenants wait wherever they contend.
const SETTLED: u64 = 15;
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
    Look,
}

#[derive(Default)]
struct Seen {
    /// Limits that were waited for and had permits at the last look.
    free: BTreeSet<String>,
    looks: u64,
    judges: Judges,
    /// Since then, of the tenants that contend, by site.
    shares: BTreeMap<usize, BTreeMap<Box<str>, u64>>,
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

/// As [`LimitKey`] is written.
fn limit_of(name: &str) -> LimitKey {
    let (limited, rest) = name.split_once(" of ").expect("what, of which");
    let mut spaces = rest.rmatch_indices(' ').map(|(at, _)| at);
    let scope = spaces.find_map(|at| Some((Scope::find(&rest[..at])?, &rest[at + 1..])));
    let (scope, name) = scope.expect("a known scope");
    LimitKey {
        limited: Limited::find(limited).expect("a known limit"),
        scope,
        name: name.into(),
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
        self.after(LOOK_EVERY, Event::Look);
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
            Event::Look => self.look(),
            Event::Resume => self.brains[0].handle_source_resumed(SourceId(AWAY), now),
        }
    }

    /// Nothing that is free stays free while work waits that could use it: what has fallen due a moment
    /// ago is in somebody's hand, and so looked at twice.
    fn look(&mut self) {
        let rows = self.brains.iter();
        let rows = rows.flat_map(|brain| brain.lanes(usize::MAX, self.now));
        let rows: Vec<LaneRow> = rows.filter(|row| row.ready > 0).collect();
        let mut free = self.waited_for(&rows);
        if self.minute() >= FILLED {
            free.extend(self.open_ways(&rows));
        }
        let again = core::mem::take(&mut self.seen.free);
        if again.is_empty() && !free.is_empty() {
            self.seen.free = free;
            self.after(LOOK_AGAIN, Event::Look);
            return;
        }
        let wasted: Vec<&String> = again.intersection(&free).collect();
        assert!(wasted.is_empty(), "permits nobody takes: {wasted:?}");
        self.seen.looks += 1;
        self.after(LOOK_EVERY, Event::Look);
    }

    /// Limits that somebody says he waits for, and that have a permit.
    fn waited_for(&self, rows: &[LaneRow]) -> BTreeSet<String> {
        let names = rows.iter().flat_map(|row| row.waits_for.split(", "));
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        let has_one = |name: &String| {
            let limit = self.brains[0].shapes().registry.find(&limit_of(name));
            let due = limit.expect("it is waited for").when(self.now);
            due.is_some_and(|due| due <= self.now)
        };
        names.filter(has_one).collect()
    }

    /// Sites with work of tenants without limits of their own, and a source by which it might go: every
    /// rate that the two are under has a permit.
    fn open_ways(&self, rows: &[LaneRow]) -> BTreeSet<String> {
        let registry = &self.brains[0].shapes().registry;
        let has_one = |name: String| {
            let limit = registry.find(&limit_of(&name));
            let due = limit.map(|limit| limit.when(self.now));
            due.is_none_or(|due| due.is_some_and(|due| due <= self.now))
        };
        let is_free = |row: &&LaneRow| {
            let of_all = |strand: &StrandRow| {
                let tenant = strand.labels.tenant();
                TENANTS.iter().any(|(name, _)| Some(*name) == tenant)
            };
            row.strands.iter().any(of_all)
        };
        let sites = rows.iter().filter(is_free).map(|row| row.site.as_str());
        let sites: BTreeSet<&str> = sites.collect();
        let minute = self.minute();
        let mut ways = BTreeSet::new();
        for (site, source) in sites
            .into_iter()
            .flat_map(|site| (0..SOURCES).map(move |n| (site, n)))
        {
            let is_aside = site == format!("site{AVERSE}") && source == BLOCKED;
            let is_away = source == AWAY && (30..35).contains(&minute);
            if !is_aside && !is_away && rates_of(site, source).into_iter().all(has_one) {
                ways.insert(format!("{site} by s{source}"));
            }
        }
        ways
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
            labels: self.labels(),
            data: Bytes::from_static(b"x"),
        });
        self.messages.insert(message.id, Arc::clone(&message));
        let shard = self.rng.below(self.brains.len());
        self.brains[shard].handle_committed(message, self.now);
        self.after(Duration::from_micros(1_000_000 / PER_SECOND), Event::Inject);
    }

    /// Of ten messages three each are of those that contend.
    fn labels(&mut self) -> Labels {
        let draw = self.rng.below(20);
        let tenant = match draw {
            0 => RATED,
            1 => SINGLE,
            _ => TENANTS[draw % TENANTS.len()].0,
        };
        let campaign = match draw {
            0 => Some(CAMPAIGNS[self.rng.below(CAMPAIGNS.len())]),
            _ => None,
        };
        Labels::new(Some(tenant), campaign, None)
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
                Action::Fire(_) => {}
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
            busy: None,
            carried: 0,
        };
        let lane = (link.site, link.source);
        self.links.insert((shard, c), link);
        let links = self.links.values();
        self.seen.judges.connect(lane, links, self.now);
        self.after(Duration::from_millis(20), Event::Connected { shard, c });
    }

    fn quit(&mut self, shard: usize, c: ConnectionId) {
        if self
            .links
            .get(&(shard, c))
            .is_some_and(|link| link.busy.is_none())
        {
            self.links.remove(&(shard, c));
            self.brains[shard].handle_closed(c, None, self.now);
        }
    }

    fn pull(&mut self, shard: usize, c: ConnectionId) {
        let Some(link) = self.links.get_mut(&(shard, c)) else {
            return;
        };
        if link.busy.is_some() {
            return;
        }
        match self.brains[shard].pull(c, self.now) {
            Pull::Work { seq, message, .. } => {
                let tenant: Box<str> = message.labels.tenant().expect("all have one").into();
                let campaign = message.labels.campaign().map(Box::from);
                link.busy = Some(Whose {
                    tenant: tenant.clone(),
                    campaign,
                });
                link.carried += 1;
                let (site, source) = (link.site, link.source);
                let is_single = |link: &&Link| {
                    link.busy
                        .as_ref()
                        .is_some_and(|whose| &*whose.tenant == SINGLE)
                };
                let single = if &*tenant == SINGLE {
                    self.links.values().filter(is_single).count()
                } else {
                    0
                };
                let link = &self.links[&(shard, c)];
                self.seen.judges.send(link, single, self.now);
                if self.minute() >= SETTLED {
                    let shares = self.seen.shares.entry(site).or_default();
                    *shares.entry(tenant).or_default() += 1;
                }
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
        link.busy = None;
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
fn for_an_hour_no_limit_is_exceeded_no_permit_wasted_and_tenants_get_their_shares() {
    let mut world = World::new();
    world.run();
    let seen = &world.seen;
    let sent = |source: u32, minutes: core::ops::Range<u64>| -> u64 {
        minutes
            .map(|minute| seen.sent.get(&(source, minute)).copied().unwrap_or(0))
            .sum()
    };
    seen.judges.check_totals(60 * MINUTE);
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
    assert!(seen.looks > 200, "permits are looked for");
    // A message needs the permit of a source as well, and none of those is left: until one falls due here, that
    // of the site or the tenant is of no use to anybody, as the looks have shown.
    for (name, rate) in [("strict", STRICT_RATE), (RATED, TENANT_RATE)] {
        let (went, whole) = (seen.judges.total(name), rate.0 * 60);
        assert!(
            went * 100 >= whole * 70,
            "{name}: {went} of {whole} permits"
        );
    }
    fair(&seen.shares);
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

/// At each site that has more to do than it can, tenants get what their weights say.
fn fair(shares: &BTreeMap<usize, BTreeMap<Box<str>, u64>>) {
    let weights: u64 = TENANTS.iter().map(|(_, weight)| weight).sum();
    let mut contended = 0;
    let mut all: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for site in (0..HOT).filter(|site| *site != FUSSY) {
        let of = |tenant: &str| shares[&site].get(tenant).copied().unwrap_or(0);
        let sum: u64 = TENANTS.iter().map(|(tenant, _)| of(tenant)).sum();
        contended += 1;
        for (tenant, weight) in TENANTS {
            let (got, fair) = (of(tenant), sum * weight / weights);
            let entry = all.entry(tenant).or_default();
            entry.0 += got;
            entry.1 += fair;
            // Beside that, each shard may be in the midst of a turn.
            let most = fair / 20 + u64::from(SHARDS);
            assert!(
                got.abs_diff(fair) <= most,
                "site {site}: {tenant} got {got}, {fair} is fair"
            );
        }
    }
    assert_eq!(contended, HOT - 1, "all busy sites contend");
    for (tenant, (got, fair)) in all {
        assert!(
            got.abs_diff(fair) * 100 <= fair * 2,
            "{tenant}: {got}, {fair}"
        );
    }
}
