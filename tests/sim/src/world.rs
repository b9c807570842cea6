//! The world of one run: shards, spool, peers, and what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core::time::Duration;

use bytes::Bytes;
use posthaste_core::dispatch::{Action, Config, Dispatch, News, Work};
use posthaste_core::egress::SourceId;
use posthaste_core::queue::Schedule;
use posthaste_core::shaping::limit::LimitId;
use posthaste_core::smtp::client;
use posthaste_core::words::{
    Address, BodyKind, Change, ConnectionId, Content, Domain, Envelope, Host, IdSequence, Labels,
    Message, MessageId, Moment, Notify, Plan, Reception, Recipient, RouteError, ShardId, SiteName,
};

use crate::fleets::Fleets;
use crate::ledger::{Ledger, Taken};
use crate::peer::Server;
use crate::postmaster::Postmaster;
use crate::rng::Rng;
use crate::rules::{CAMPAIGNS, Meter, Rules};
use crate::sites::{Lookup, Site, Zone};
use crate::spool::{From, Spool};
use crate::wires::Link;

const START: Moment = Moment::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const MAX_AGE: Duration = Duration::from_secs(6 * 3600);
/// Octets of the largest message, a report with the whole of one included.
const MESSAGE_OCTETS_MAX: usize = 24_000;
/// Events of one run; more is a loop.
const EVENTS_MAX: u64 = 3_000_000;
/// Messages of one run that clients bring.
const MESSAGES: usize = 250;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub delivered: usize,
    pub bounced: usize,
    pub expired: usize,
    /// Recipients whose peer holds the message more than once.
    pub doubled: usize,
    pub records: u64,
    pub events: u64,
    pub starts: u32,
    /// Syncs that failed.
    pub poisoned: u32,
}

pub(crate) enum Event {
    Inject,
    Commit,
    Route {
        shard: usize,
        domain: Domain,
    },
    Connected {
        link: u64,
    },
    ToServer {
        link: u64,
        bytes: Bytes,
    },
    ToClient {
        link: u64,
        bytes: String,
        taken: Option<Taken>,
    },
    HungUp {
        link: u64,
    },
    Loaded {
        shard: usize,
        id: MessageId,
    },
    Forwarded {
        shard: usize,
        work: Work,
    },
    Freed {
        shard: usize,
        limit: LimitId,
    },
    News {
        shard: usize,
        news: Arc<News>,
    },
    Resumed {
        shard: usize,
        source: SourceId,
    },
    Crash,
    Shutdown,
    Full(bool),
    FailedSync,
    Flush,
}

pub(crate) struct Node {
    pub(crate) brain: Dispatch,
    links: BTreeMap<ConnectionId, u64>,
    /// Quiet after a shutdown: nothing more may be asked for.
    is_done: bool,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    /// What becomes of the disk, apart: what seeds have found stays what they find.
    disk_rng: Rng,
    pub(crate) now: Moment,
    pub(crate) ledger: Ledger,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) client: Arc<client::Config>,
    /// Recipients on connections.
    pub(crate) busy: BTreeSet<(MessageId, u16)>,
    config: Config,
    rules: Rules,
    pub(crate) fleets: Fleets,
    sites: Vec<Site>,
    zones: Vec<Zone>,
    spool: Spool,
    commit_at: Moment,
    events: BTreeMap<(Moment, u64), (u32, Event)>,
    tie: u64,
    /// Starts so far; events of an earlier one are void.
    starts: u32,
    is_draining: bool,
    uninjected: usize,
    links_next: u64,
    ids: IdSequence,
    happened: u64,
    poisoned: u32,
}

/// One whole run.
///
/// # Panics
/// When a promise is broken.
pub fn run(seed: u64) -> Summary {
    let mut world = World::new(seed);
    world.start();
    while world.step() {}
    world.check_end();
    Summary {
        delivered: world.ledger.ends("Delivery"),
        bounced: world.ledger.ends("Bounce"),
        expired: world.ledger.ends("Expiration"),
        doubled: world.ledger.doubled(),
        records: world.spool.records,
        events: world.happened,
        starts: world.starts,
        poisoned: world.poisoned,
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("well formed")
}

fn draw_config(rng: &mut Rng) -> Config {
    let shards = rng.pick(&[1, 1, 2, 4]);
    Config {
        schedule: Schedule {
            delays: [60, 300, 900, 1800].map(Duration::from_secs).to_vec(),
            jitter_percent: 10,
            max_age: MAX_AGE,
        },
        connect_backoff: Schedule::exponential(
            Duration::from_secs(30),
            Duration::from_secs(600),
            Duration::MAX,
        ),
        held_octets_max: rng.pick(&[0, 40_000, 2_000_000]),
        recipients_per_entry_max: rng.pick(&[1, 2, 100]),
        unsynced_max: rng.pick(&[1, 3, 128]),
        warn_after: rng.pick(&[None, Some(HOUR)]),
        nodeid: "sim".into(),
        shard: ShardId(0),
        shards,
        ..Config::default()
    }
}

impl World {
    /// A transaction has begun.
    pub(crate) fn count_message(&mut self, site: usize, source: Option<SourceId>, labels: &Labels) {
        self.fleets.count(source, self.now);
        // A shard whose connection was not ready when its turn came is late by one.
        if let Some(rate) = self.rules.rate {
            let meter = self.sites[site].messages.entry(source).or_default();
            meter.count(rate, u64::from(self.config.shards) - 1, self.now);
        }
        let links = self.links.values();
        let under_way = links
            .filter(|link| !link.is_over)
            .flat_map(|link| &link.in_flight);
        let of_tenant = under_way.filter(|(.., of)| of.tenant() == labels.tenant());
        // Each lane may wait for a slow connection with the turn of each campaign in hand.
        let lanes = self.sites.len() * CAMPAIGNS * usize::from(self.config.shards);
        self.rules
            .judge(labels, of_tenant.count() - 1, lanes as u64, self.now);
    }

    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = draw_config(&mut rng);
        let rules = Rules::draw(&mut rng);
        let count = 1 + rng.below(5);
        let sites = (0..count).map(|_| Site::draw(&mut rng, START)).collect();
        let zones = 0..=count + rng.below(8);
        let zones = zones.map(|n| Zone::draw(&mut rng, n, count)).collect();
        Self {
            rng,
            disk_rng: Rng::new(!seed),
            now: START,
            ledger: Ledger::default(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            client: Arc::new(client::Config::new("sim.example")),
            busy: BTreeSet::new(),
            config,
            rules,
            fleets: Fleets::draw(seed, START),
            sites,
            zones,
            spool: Spool::default(),
            commit_at: START,
            events: BTreeMap::new(),
            tie: 0,
            starts: 0,
            is_draining: false,
            uninjected: MESSAGES,
            links_next: 0,
            ids: IdSequence::new(ShardId(999), seed),
            happened: 0,
            poisoned: 0,
        }
    }

    fn start(&mut self) {
        self.boot();
        self.after(Duration::ZERO, Event::Inject);
        for _ in 0..self.rng.below(3) {
            let at = self.rng.micros(0, 5 * 3_600_000_000);
            self.after(at, Event::Crash);
        }
        for _ in 0..self.rng.below(3) {
            let at = self.rng.micros(0, 5 * 3_600_000_000);
            self.after(at, Event::Shutdown);
        }
        if self.rng.permille(300) {
            let at = self.rng.micros(0, 3 * 3_600_000_000);
            self.after(at, Event::Full(true));
            let length = self.rng.micros(0, 2 * 3_600_000_000);
            self.after(at + length, Event::Full(false));
        }
        for _ in 0..self.rng.below(4) {
            let at = self.rng.micros(0, 8 * 3_600_000_000);
            self.after(at, Event::Flush);
        }
        if self.disk_rng.permille(250) {
            let at = self.disk_rng.micros(0, 4 * 3_600_000_000);
            self.after(at, Event::FailedSync);
        }
    }

    pub(crate) fn after(&mut self, time: Duration, event: Event) {
        self.tie += 1;
        let key = (self.now + time, self.tie);
        self.events.insert(key, (self.starts, event));
    }

    /// Fresh brains, and what the spool knows.
    fn boot(&mut self) {
        self.starts += 1;
        self.spool.begin_anew();
        self.is_draining = false;
        self.busy.clear();
        self.commit_at = self.now;
        for link in self.links.values_mut() {
            link.dialogue = None;
            link.is_over = true;
        }
        // Rates begin anew with each start.
        self.rules.tenant_messages = Meter::default();
        for site in &mut self.sites {
            (site.messages, site.connections) = Default::default();
        }
        let shapes = Arc::new(self.rules.shapes());
        let before = self.config.fleet.snapshot();
        self.config.fleet = self.fleets.make(before);
        let node = |shard| {
            let shard = ShardId(shard);
            let config = Config {
                shard,
                ..self.config.clone()
            };
            let ids = IdSequence::new(shard, u64::from(self.starts) << 32);
            let reporter = Box::new(Postmaster(domain("sim.example")));
            Node {
                brain: Dispatch::new(Arc::new(config), Arc::clone(&shapes), ids, 99, reporter),
                links: BTreeMap::new(),
                is_done: false,
            }
        };
        self.nodes = (0..self.config.shards).map(node).collect();
        for recovered in self.spool.recover() {
            let shard = self.rng.below(self.nodes.len());
            let brain = &mut self.nodes[shard].brain;
            brain.handle_recovered(recovered, self.now);
        }
        for shard in 0..self.nodes.len() {
            self.drain(shard);
        }
    }

    /// One moment; false when nothing is to come any more.
    fn step(&mut self) -> bool {
        self.happened += 1;
        assert!(self.happened < EVENTS_MAX, "a loop");
        let event_at = self.events.keys().next().map(|(at, _)| *at);
        let timers = self.nodes.iter().filter_map(|n| n.brain.poll_timeout());
        let dialogues = self.links.values().filter_map(|l| l.dialogue.as_ref());
        let timer_at = timers
            .chain(dialogues.filter_map(client::Dialogue::poll_timeout))
            .min();
        let Some(next) = event_at.into_iter().chain(timer_at).min() else {
            return self.revive();
        };
        self.now = self.now.max(next);
        assert!(self.now < START + 60 * HOUR, "it does not end");
        if event_at.is_some_and(|at| at <= self.now) {
            if let Some((_, (start, event))) = self.events.pop_first() {
                self.happen(start, event);
            }
        } else {
            self.fire_timers();
        }
        for shard in 0..self.nodes.len() {
            self.drain(shard);
        }
        self.check();
        self.finish_shutdown();
        true
    }

    /// What could not be read when it expired waits in the spool for the next start.
    fn revive(&mut self) -> bool {
        if self.spool.messages.is_empty() {
            return false;
        }
        let queued: usize = self.nodes.iter().map(|n| n.brain.counters().queued).sum();
        assert_eq!(queued, 0, "queued work waits for nothing");
        let oldest = self.spool.oldest().expect("not empty");
        assert!(self.now.since(oldest) >= MAX_AGE, "lost before its time");
        self.boot();
        true
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        for node in &mut self.nodes {
            if is_due(node.brain.poll_timeout()) {
                node.brain.handle_timeout(now);
            }
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for l in links {
            let dialogue = self.links.get_mut(&l).and_then(|l| l.dialogue.as_mut());
            if let Some(dialogue) = dialogue.filter(|d| is_due(d.poll_timeout())) {
                dialogue.handle_timeout(now);
                self.pump(l);
            }
        }
    }

    fn happen(&mut self, start: u32, event: Event) {
        let is_void = start != self.starts;
        match event {
            // These outlive a crash of ours.
            Event::ToServer { link, bytes } => self.reach_server(link, &bytes),
            Event::ToClient { link, bytes, taken } => {
                self.reach_client(link, &bytes, taken.as_ref())
            }
            Event::HungUp { link } => self.hung_up(link),
            Event::Inject => self.inject(),
            Event::Full(is_full) => self.spool.is_full = is_full,
            Event::FailedSync => {
                self.poisoned += 1;
                self.spool.poison();
                // The operator hears of it, and comes.
                let length = self.disk_rng.micros(0, 2 * 3_600_000_000);
                self.after(length, Event::Crash);
            }
            Event::Crash => {
                self.spool.crash(&mut self.ledger);
                self.boot();
            }
            Event::Shutdown => {
                self.is_draining = true;
                for node in &mut self.nodes {
                    node.brain.handle_shutdown(self.now);
                }
            }
            Event::Flush => {
                for node in &mut self.nodes {
                    node.brain.handle_flush(None, self.now);
                }
            }
            Event::Commit
            | Event::Route { .. }
            | Event::Connected { .. }
            | Event::Loaded { .. }
            | Event::Forwarded { .. }
            | Event::Freed { .. }
            | Event::News { .. }
            | Event::Resumed { .. }
                if is_void => {}
            Event::Commit => self.commit(),
            Event::Route { shard, domain } => self.route(shard, &domain),
            Event::Connected { link } => {
                let site = &self.sites[self.links[&link].site];
                let is_out = (site.outage.0..site.outage.1).contains(&self.now);
                let fails = self.rng.permille(site.temper.unreachable);
                self.connected(link, !is_out && !fails);
            }
            Event::Loaded { shard, id } => self.loaded(shard, id),
            Event::Freed { shard, limit } => {
                self.nodes[shard].brain.handle_freed(limit, self.now);
            }
            Event::News { shard, news } => self.nodes[shard].brain.handle_news(&news, self.now),
            Event::Resumed { shard, source } => {
                self.nodes[shard]
                    .brain
                    .handle_source_resumed(source, self.now);
            }
            Event::Forwarded { shard, work } => {
                self.nodes[shard].brain.handle_forwarded(work, self.now);
            }
        }
    }

    fn inject(&mut self) {
        if self.is_draining {
            return self.after(Duration::from_secs(1), Event::Inject);
        }
        self.uninjected -= 1;
        if self.uninjected > 0 {
            // Bursts and lulls.
            let most = self.rng.pick(&[1_000, 1_000_000, 60_000_000, 120_000_000]);
            let pause = self.rng.micros(0, most);
            self.after(pause, Event::Inject);
        }
        let message = self.message();
        let shard = self.rng.below(self.nodes.len());
        self.submit(From::Intake { shard }, vec![Change::Store(message)]);
    }

    fn message(&mut self) -> Arc<Message> {
        let id = self.ids.next(self.now);
        let count = self.rng.pick(&[1, 1, 1, 2, 6]);
        let recipients = (0..count).map(|n| {
            let zone = self.rng.below(self.zones.len());
            let zone = &self.zones[zone].domain;
            let notify = match self.rng.below(6) {
                0 => Notify::NEVER,
                1 => Notify {
                    given: true,
                    success: true,
                    failure: true,
                    delay: true,
                },
                _ => Notify::default(),
            };
            Recipient {
                address: Address::parse(&format!("r{n}@{zone}")).expect("well formed"),
                notify,
                orcpt: None,
            }
        });
        let recipients = recipients.collect();
        let home = self.rng.below(self.zones.len());
        let home = &self.zones[home].domain;
        let sender = Address::parse(&format!("sender@{home}")).expect("well formed");
        let has_sender = self.rng.permille(900);
        let octets = self.rng.pick(&[10, 1000, 20_000]);
        let labels = self.rules.labels(&mut self.rng);
        let body = ".dots\r\n".repeat(octets / 7);
        let data = format!("Message-ID: <{id}@sim.example>\r\n\r\n{body}");
        Arc::new(Message {
            id,
            envelope: Envelope {
                sender: has_sender.then_some(sender),
                body: BodyKind::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
                recipients,
            },
            reception: Reception {
                at: self.now,
                peer: None,
                helo: "client.example".into(),
                protocol: "ESMTP",
            },
            content: Content::default(),
            labels,
            data: data.into(),
        })
    }

    fn submit(&mut self, from: From, changes: Vec<Change>) {
        self.spool.submit(from, changes);
        self.commit_at = self.commit_at.max(self.now + self.rng.micros(100, 20_000));
        let wait = self.commit_at.since(self.now);
        self.after(wait, Event::Commit);
    }

    fn commit(&mut self) {
        let Some((batch, is_durable)) = self.spool.complete(&mut self.ledger) else {
            return;
        };
        match batch.from {
            From::Intake { shard } => {
                for change in batch.changes {
                    if let Change::Store(message) = change
                        && is_durable
                    {
                        self.nodes[shard].brain.handle_committed(message, self.now);
                    }
                }
            }
            From::Outcome { shard } => self.nodes[shard].brain.handle_settled(1, self.now),
            From::Report { shard, token } => {
                let brain = &mut self.nodes[shard].brain;
                brain.handle_stored(token, is_durable, self.now);
            }
        }
    }

    fn route(&mut self, shard: usize, domain: &Domain) {
        let (valid, moves) = (
            self.rng.micros(0, 1_200_000_000),
            self.rng
                .permille(30)
                .then(|| self.rng.below(self.sites.len())),
        );
        let is_flaky = self.rng.permille(400);
        let zone = self.zones.iter_mut().find(|zone| zone.domain == *domain);
        let zone = zone.expect("only these domains exist");
        // An MX that changes.
        zone.site = moves.unwrap_or(zone.site);
        let route = match zone.lookup {
            Lookup::NoSuchDomain => Err(RouteError::NoSuchDomain),
            Lookup::Flaky if is_flaky => Err(RouteError::Dns("timeout")),
            Lookup::Flaky | Lookup::Sound => Ok(Arc::new(Plan {
                site: SiteName::new(&format!("site{}", zone.site)),
                names: format!("mx.site{}.example", zone.site).into(),
                mx_hosts: vec![format!("mx.site{}.example", zone.site).into()],
                hosts: vec![host(zone.site)],
            })),
        };
        let brain = &mut self.nodes[shard].brain;
        brain.handle_route(domain, route, self.now + valid, self.now);
    }

    fn loaded(&mut self, shard: usize, id: MessageId) {
        let stored = self.spool.messages.get(&id);
        let stored = stored.expect("only what is not settled is loaded");
        let message = Arc::clone(&stored.message);
        let is_readable = !self.rng.permille(20);
        let brain = &mut self.nodes[shard].brain;
        brain.handle_loaded(id, is_readable.then_some(message), self.now);
    }

    fn drain(&mut self, shard: usize) {
        while let Some(action) = self.nodes[shard].brain.poll_action() {
            let node = &mut self.nodes[shard];
            assert!(!node.is_done, "asked for after the end: {action:?}");
            match action {
                Action::Resolve(domain) => {
                    let time = self.rng.micros(100, 2_000_000);
                    self.after(time, Event::Route { shard, domain });
                }
                Action::Connect {
                    connection,
                    plan,
                    source,
                    ..
                } => self.connect(shard, connection, &plan, source),
                // No rule acts here: what automation does is overrides, as an operator's.
                Action::Fire(_) => {}
                Action::Tell(news) => {
                    for shard in (0..self.nodes.len()).filter(|other| *other != shard) {
                        let news = Arc::clone(&news);
                        let time = self.rng.micros(1, 1000);
                        self.after(time, Event::News { shard, news });
                    }
                }
                Action::Freed { limit, shards } => {
                    let shards = (0..self.nodes.len()).filter(|other| {
                        let id = ShardId(u16::try_from(*other).unwrap_or(0));
                        *other != shard && shards.contains(id)
                    });
                    for shard in shards.collect::<Vec<_>>() {
                        let time = self.rng.micros(1, 1000);
                        self.after(time, Event::Freed { shard, limit });
                    }
                }
                Action::Wake(c) => {
                    let link = node.links[&c];
                    self.wake(link);
                }
                Action::Load(id) | Action::Recall(id) => {
                    let time = self.rng.micros(10, 10_000);
                    self.after(time, Event::Loaded { shard, id });
                }
                Action::Settle(changes) => self.submit(From::Outcome { shard }, changes),
                Action::Store { changes, token } => {
                    self.submit(From::Report { shard, token }, changes);
                }
                Action::Forward { to, work } => {
                    let time = self.rng.micros(1, 1000);
                    let shard = usize::from(to.0);
                    self.after(time, Event::Forwarded { shard, work });
                }
                Action::Quit(c) => {
                    let link = node.links[&c];
                    self.quit(link);
                }
            }
        }
    }

    fn connect(&mut self, shard: usize, id: ConnectionId, plan: &Plan, source: Option<SourceId>) {
        assert!(!self.is_draining, "no connection is begun while we drain");
        let number = plan.site.as_str().trim_start_matches("site");
        let number: usize = number.parse().expect("sites are numbered");
        let site = &mut self.sites[number];
        if let Some(per_minute) = self.rules.connection_rate {
            let meter = site.connections.entry(source).or_default();
            let late = u64::from(self.config.shards) - 1;
            meter.count((per_minute, 1), late, self.now);
        }
        let server = Server::new(site.temper.clone());
        let latency = site.latency;
        let host = plan.hosts[0].clone();
        self.links_next += 1;
        let link = self.links_next;
        let wire = Link::new(shard, id, (number, source), host, latency, server);
        self.links.insert(link, wire);
        self.nodes[shard].links.insert(id, link);
        self.after(2 * latency, Event::Connected { link });
    }

    fn finish_shutdown(&mut self) {
        if !self.is_draining {
            return;
        }
        for node in &mut self.nodes {
            node.is_done = node.brain.is_quiet();
        }
        if !self.spool.is_idle() || self.nodes.iter().any(|node| !node.is_done) {
            return;
        }
        assert!(self.busy.is_empty(), "quiet with work under way");
        // Answers that come late must not begin anything.
        let events = core::mem::take(&mut self.events);
        for (key, (start, event)) in events {
            if start == self.starts
                && matches!(
                    event,
                    Event::Loaded { .. } | Event::Route { .. } | Event::Forwarded { .. }
                )
            {
                self.happen(start, event);
            } else {
                self.events.insert(key, (start, event));
            }
        }
        for shard in 0..self.nodes.len() {
            self.drain(shard);
        }
        self.boot();
    }

    fn check(&mut self) {
        let open: Vec<&Link> = self.links.values().filter(|l| !l.is_over).collect();
        for site in 0..self.sites.len() {
            let count = open.iter().filter(|link| link.site == site).count();
            let most = self.rules.connections_max * self.fleets.lanes();
            assert!(count <= most, "{count} connections to one site");
        }
        // One message for each connection beyond the budget, those that failed a moment ago
        // included, and one that is on its way in; after a start sizes are not known.
        let links = self.sites.len() * self.rules.connections_max * self.fleets.lanes();
        let unknown = if self.starts > 1 { 64 } else { 0 };
        let slack = (links + 1 + unknown) * MESSAGE_OCTETS_MAX;
        let most = self.config.held_octets_max + slack;
        for node in &self.nodes {
            let held = node.brain.counters().held_octets;
            assert!(held <= most, "{held} octets held, {most} allowed");
        }
        if self.happened.is_multiple_of(64) {
            self.check_places();
        }
        if self.happened.is_multiple_of(1024) {
            let events = &self.events;
            self.links
                .retain(|l, link| !link.is_over || Link::is_awaited(*l, events));
        }
    }

    /// No recipient is queued twice, and what is settled is not queued.
    fn check_places(&self) {
        let mut seen = BTreeSet::new();
        let mut see = |id: MessageId, recipients: &[u16]| {
            for recipient in recipients {
                assert!(seen.insert((id, *recipient)), "{id}/{recipient} twice");
            }
        };
        for node in &self.nodes {
            for (id, recipients) in node.brain.queued() {
                see(id, recipients);
                assert!(self.spool.messages.contains_key(&id), "{id} is settled");
            }
        }
        for (start, event) in self.events.values() {
            if let Event::Forwarded { work, .. } = event
                && *start == self.starts
            {
                see(work.id, &work.recipients);
            }
        }
    }

    fn check_end(&self) {
        assert_eq!(self.uninjected, 0);
        assert!(self.spool.is_idle());
        self.ledger.check();
        for node in &self.nodes {
            let counters = node.brain.counters();
            assert_eq!((counters.queued, counters.held_octets), (0, 0));
            assert_eq!(counters.connections, 0);
            assert_eq!(node.brain.known(), (0, 0), "domains and lanes");
            assert!(node.brain.is_quiet());
        }
    }
}

fn host(site: usize) -> Host {
    let last = u8::try_from(site).unwrap_or(0);
    Host {
        name: format!("mx.site{site}.example").into(),
        address: ([192, 0, 2, last], 25).into(),
        preference: 10,
    }
}
