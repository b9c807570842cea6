//! The brain driven by events, with time as a value.

mod automation;
mod company;
mod connections;
mod delivery;
mod egress;
mod flush;
mod hosts;
mod labels;
mod memory;
mod order;
mod pools;
mod reports;
mod routes;
mod shaping;
mod shutdown;
mod tls;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::{
    Action, Config, Dispatch, Firing, News, Pull, ReportKind, Reporter, Shapes, Whose, Work,
};
use crate::mail::{self, Kind, Told};
use crate::queue::Schedule;
use crate::shaping::limit::{LimitId, Registry};
use crate::shaping::{File, Layer, Overrides, Shaping};
use crate::words::{
    Address, BodyKind, Cause, Change, ConnectionId, Content, Domain, Enhanced, Envelope, Host,
    IdSequence, Labels, Message, MessageId, Moment, Notify, Outcome, Plan, Reception, Recipient,
    Recovered, RecoveredRecipient, Reply, RouteError, ShardId, SiteName, Stage,
};

const T0: Moment = Moment::from_secs(1_800_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Writes real reports.
struct Postmaster;

impl Reporter for Postmaster {
    fn report(
        &self,
        kind: ReportKind,
        original: &Arc<Message>,
        outcomes: &[(u16, Outcome)],
        peer: Option<&str>,
        id: MessageId,
        now: Moment,
    ) -> Option<Message> {
        let told: Vec<Told<'_>> = outcomes
            .iter()
            .map(|(recipient, outcome)| Told {
                recipient: *recipient,
                outcome,
                peer,
                last_attempt: Some(now),
            })
            .collect();
        let kind = match kind {
            ReportKind::Failed => Kind::Failed,
            ReportKind::Delayed => Kind::Delayed { until: now },
            ReportKind::Relayed => Kind::Relayed,
        };
        let hostname = Domain::parse("mx.example").unwrap();
        let by = mail::Reporter {
            hostname: &hostname,
            id,
            now,
            full_octets_max: 0,
        };
        mail::report(kind, original, &told, &by)
    }
}

/// What a batch asked for, in words.
#[derive(Debug)]
struct Batch {
    token: Option<u32>,
    /// `Settle 0`, `Defer 1`, `Store`, `Delivery`, `Bounce` …
    what: Vec<String>,
    records: Vec<Value>,
    stored: Vec<Arc<Message>>,
    due: Vec<Moment>,
}

impl Batch {
    fn new(changes: Vec<Change>, token: Option<u32>) -> Self {
        let mut batch = Self {
            token,
            what: Vec::new(),
            records: Vec::new(),
            stored: Vec::new(),
            due: Vec::new(),
        };
        for change in changes {
            let what = match change {
                Change::Store(message) => {
                    batch.stored.push(message);
                    "Store".to_owned()
                }
                Change::Defer {
                    recipient, state, ..
                } => {
                    batch.due.push(state.due);
                    format!("Defer {recipient}")
                }
                Change::Settle { recipient, .. } => format!("Settle {recipient}"),
                Change::Append(row) => {
                    let record: Value = serde_json::from_slice(&row).unwrap();
                    let kind = record["type"].as_str().unwrap().to_owned();
                    batch.records.push(record);
                    kind
                }
            };
            batch.what.push(what);
        }
        batch.what.sort();
        batch
    }
}

/// Everything the brain asked for since the last look.
#[derive(Debug, Default)]
struct Asked {
    resolves: Vec<String>,
    connects: Vec<ConnectionId>,
    /// The names of the hosts that each is to try.
    orders: Vec<String>,
    wakes: Vec<ConnectionId>,
    loads: Vec<MessageId>,
    batches: Vec<Batch>,
    forwards: Vec<(ShardId, Work)>,
    quits: Vec<ConnectionId>,
    freed: Vec<LimitId>,
}

impl Asked {
    fn is_nothing(&self) -> bool {
        self.resolves.is_empty()
            && self.connects.is_empty()
            && self.wakes.is_empty()
            && self.loads.is_empty()
            && self.batches.is_empty()
            && self.forwards.is_empty()
            && self.quits.is_empty()
            && self.freed.is_empty()
    }

    fn batch(&self) -> &Batch {
        assert_eq!(self.batches.len(), 1, "one batch: {:?}", self.batches);
        &self.batches[0]
    }
}

/// A brain, its clock and all messages it was ever given.
struct Bench {
    brain: Dispatch,
    now: Moment,
    made: u128,
    spool: BTreeMap<MessageId, Arc<Message>>,
    /// Outcomes are durable as soon as they are asked for.
    disk_answers: bool,
    /// What the spool knows of recipients that were deferred.
    last: BTreeMap<MessageId, Vec<(u16, Box<str>)>>,
    /// Loads that are to bring it.
    recalled: BTreeSet<MessageId>,
    /// Limits of which other shards are to hear, while loads were answered.
    told: Vec<LimitId>,
    /// Of sources, for other shards to hear of.
    news: Vec<Arc<News>>,
    /// Rules that matched.
    fired: Vec<Firing>,
    /// Work for other shards, while connections were served.
    sent_on: Vec<Work>,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self::shaped(config, "")
    }

    /// `rules` are keys of the default block.
    fn shaped(config: Config, rules: &str) -> Self {
        let ids = IdSequence::new(config.shard, 7);
        let shapes = shapes(rules, &Arc::default());
        Self {
            brain: Dispatch::new(Arc::new(config), shapes, ids, 42, Box::new(Postmaster)),
            now: T0,
            made: 0,
            spool: BTreeMap::new(),
            disk_answers: true,
            last: BTreeMap::new(),
            recalled: BTreeSet::new(),
            told: Vec::new(),
            news: Vec::new(),
            fired: Vec::new(),
            sent_on: Vec::new(),
        }
    }

    fn plain() -> Self {
        Self::new(Config::default())
    }

    fn message(&mut self, recipients: &[&str], edit: impl Fn(&mut Message)) -> Arc<Message> {
        self.made += 1;
        let millis = u128::from(self.now.as_micros() / 1000);
        let recipient = |text: &&str| Recipient {
            address: Address::parse(text).unwrap(),
            notify: Notify::default(),
            orcpt: None,
        };
        let mut message = Message {
            id: MessageId::from_u128(millis << 80 | self.made),
            envelope: Envelope {
                sender: Some(Address::parse("sender@origin.example").unwrap()),
                body: BodyKind::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
                recipients: recipients.iter().map(recipient).collect(),
            },
            reception: Reception {
                at: self.now,
                peer: None,
                helo: "".into(),
                protocol: "ESMTP",
            },
            content: Content::default(),
            labels: Labels::default(),
            data: Bytes::from(vec![b'x'; 1000]),
        };
        edit(&mut message);
        let message = Arc::new(message);
        self.spool.insert(message.id, Arc::clone(&message));
        message
    }

    /// One entry that the spool had at the start, tried so often and due at `due`.
    fn recover(&mut self, domain: &str, attempts: u16, due: Moment) {
        let message = self.message(&[&format!("a@{domain}")], |_| {});
        let state = RecoveredRecipient {
            recipient: 0,
            domain: Domain::parse(domain).unwrap(),
            attempts,
            due,
            last: Box::default(),
        };
        let recovered = Recovered {
            id: message.id,
            received: T0,
            of: 1,
            labels: Labels::default(),
            unsettled: vec![state],
        };
        self.brain.handle_recovered(recovered, self.now);
    }

    fn commit(&mut self, recipients: &[&str]) -> Arc<Message> {
        self.commit_with(recipients, |_| {})
    }

    fn commit_with(&mut self, recipients: &[&str], edit: impl Fn(&mut Message)) -> Arc<Message> {
        let message = self.message(recipients, edit);
        self.brain.handle_committed(Arc::clone(&message), self.now);
        message
    }

    fn asked(&mut self) -> Asked {
        let mut asked = Asked::default();
        while let Some(action) = self.brain.poll_action() {
            match action {
                Action::Resolve(domain) => asked.resolves.push(domain.to_string()),
                Action::Connect {
                    connection,
                    plan,
                    order,
                    ..
                } => {
                    let names = order.iter().map(|index| &*plan.hosts[*index].name);
                    asked.orders.push(names.collect::<Vec<_>>().join(" "));
                    asked.connects.push(connection);
                }
                Action::Wake(c) => asked.wakes.push(c),
                Action::Load(id) => asked.loads.push(id),
                Action::Recall(id) => {
                    self.recalled.insert(id);
                    asked.loads.push(id);
                }
                Action::Settle(changes) => {
                    if self.disk_answers {
                        self.brain.handle_settled(1, self.now);
                    }
                    for change in &changes {
                        if let Change::Defer {
                            id,
                            recipient,
                            state,
                        } = change
                        {
                            let last = self.last.entry(*id).or_default();
                            last.retain(|(other, _)| other != recipient);
                            last.push((*recipient, state.last.clone()));
                        }
                    }
                    asked.batches.push(Batch::new(changes, None));
                }
                Action::Store { changes, token } => {
                    asked.batches.push(Batch::new(changes, Some(token)));
                }
                Action::Forward { to, work } => asked.forwards.push((to, work)),
                Action::Quit(c) => asked.quits.push(c),
                Action::Freed { limit, .. } => asked.freed.push(limit),
                Action::Tell(news) => self.news.push(news),
                Action::Fire(firing) => self.fired.push(*firing),
            }
        }
        asked
    }

    /// Limits that have a place again, for other shards to hear of.
    fn freed(&mut self) -> Vec<LimitId> {
        let mut freed = core::mem::take(&mut self.told);
        freed.append(&mut self.asked().freed);
        freed
    }

    fn route_to(&mut self, domain: &str, site: &str) {
        let domain = Domain::parse(domain).unwrap();
        let until = self.now + HOUR;
        self.brain
            .handle_route(&domain, Ok(plan(site)), until, self.now);
    }

    fn route(&mut self, domain: &str) {
        self.route_to(domain, domain);
    }

    fn no_route(&mut self, domain: &str, why: RouteError) {
        let domain = Domain::parse(domain).unwrap();
        let until = self.now + HOUR;
        self.brain.handle_route(&domain, Err(why), until, self.now);
    }

    fn connect_fails(&mut self, c: ConnectionId) {
        let detail = "connection refused".into();
        self.brain
            .handle_connect_failed(c, Cause::Connect { detail }, self.now);
    }

    /// A message whose domain has a route, and the first connection for it.
    fn under_way(config: Config, recipients: &[&str]) -> (Self, ConnectionId) {
        Self::new(config).start(recipients)
    }

    fn shaped_under_way(rules: &str, recipients: &[&str]) -> (Self, ConnectionId) {
        Self::shaped(Config::default(), rules).start(recipients)
    }

    fn start(self, recipients: &[&str]) -> (Self, ConnectionId) {
        let mut bench = self;
        bench.commit(recipients);
        let domain = recipients[0].split_once('@').unwrap().1;
        assert_eq!(bench.asked().resolves[0], domain);
        bench.route(domain);
        let c = bench.asked().connects[0];
        bench.brain.handle_connected(c, bench.now);
        (bench, c)
    }

    fn try_pull(&mut self, c: ConnectionId) -> Option<(Arc<Message>, Vec<u16>, u64)> {
        match self.brain.pull(c, self.now) {
            Pull::Work {
                message,
                recipients,
                seq,
            } => Some((message, recipients.to_vec(), seq)),
            Pull::Wait | Pull::Quit => None,
        }
    }

    fn pull(&mut self, c: ConnectionId) -> (Arc<Message>, Vec<u16>, u64) {
        self.try_pull(c).expect("there is work")
    }

    fn settle(&mut self, c: ConnectionId, seq: u64, outcomes: &[(u16, Outcome)]) {
        self.brain.handle_outcome(
            c,
            seq,
            outcomes,
            &host("mx1.peer.example"),
            source(),
            self.now,
        );
    }

    /// One more transaction of `c`, all its recipients with the same outcome.
    fn transact(&mut self, c: ConnectionId, outcome: &Outcome) -> Arc<Message> {
        let (message, recipients, seq) = self.pull(c);
        let outcomes: Vec<_> = recipients.iter().map(|r| (*r, outcome.clone())).collect();
        self.settle(c, seq, &outcomes);
        message
    }

    /// In the order in which they were made.
    fn message_ids(&self) -> Vec<MessageId> {
        self.spool.keys().copied().collect()
    }

    /// Work for other shards that was met while loads were answered.
    fn forwarded(&mut self) -> Vec<Work> {
        let mut forwards = core::mem::take(&mut self.sent_on);
        forwards.extend(self.asked().forwards.into_iter().map(|(_, work)| work));
        forwards
    }

    fn load(&mut self, id: MessageId) {
        let message = self.spool.get(&id).cloned();
        if self.recalled.remove(&id) {
            let last = self.last.get(&id).map_or(&[][..], |last| last);
            return self.brain.handle_recalled(id, message, last, self.now);
        }
        self.brain.handle_loaded(id, message, self.now);
    }

    /// Answers loads until none is asked for; the rest of what was asked for is given back.
    fn answer_loads(&mut self) -> Asked {
        let mut all = Asked::default();
        loop {
            let mut asked = self.asked();
            let loads = core::mem::take(&mut asked.loads);
            all.resolves.append(&mut asked.resolves);
            all.connects.append(&mut asked.connects);
            all.orders.append(&mut asked.orders);
            all.wakes.append(&mut asked.wakes);
            all.batches.append(&mut asked.batches);
            all.forwards.append(&mut asked.forwards);
            all.quits.append(&mut asked.quits);
            self.told.append(&mut asked.freed);
            if loads.is_empty() {
                return all;
            }
            for id in loads {
                self.load(id);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.brain.handle_timeout(self.now);
    }

    /// To the next timer and through it.
    fn wait_for_timer(&mut self) -> Duration {
        let due = self.brain.poll_timeout().expect("something is to come");
        let time = due.since(self.now);
        self.wait(time);
        time
    }
}

/// `rules` are keys of the default block, and blocks behind them.
fn shapes(rules: &str, registry: &Arc<Registry>) -> Arc<Shapes> {
    let text = format!("[\"default\"]\n{rules}");
    let file = File {
        name: "t.toml",
        text: &text,
        layer: Layer::Operator,
    };
    Arc::new(Shapes {
        shaping: Arc::new(Shaping::read(&[file]).unwrap()),
        overrides: Overrides::default(),
        registry: Arc::clone(registry),
        sharing: None,
    })
}

fn plan(site: &str) -> Arc<Plan> {
    Arc::new(Plan {
        site: SiteName::new(site),
        names: site.into(),
        mx_hosts: vec![site.into()],
        hosts: vec![host("mx1.peer.example")],
    })
}

fn host(name: &str) -> Host {
    Host {
        name: name.into(),
        address: "192.0.2.25:25".parse().unwrap(),
        preference: 10,
    }
}

fn source() -> Option<SocketAddr> {
    Some("198.51.100.1:40000".parse().unwrap())
}

fn delivered() -> Outcome {
    Outcome::Delivered(Reply::new(250, Some(Enhanced::new(2, 0, 0)), "ok"))
}

fn said(code: u16, text: &str) -> Cause {
    Cause::Reply {
        stage: Stage::Rcpt,
        reply: Reply::new(code, None, text),
    }
}

fn deferred() -> Outcome {
    Outcome::Deferred(said(451, "later"))
}

fn refused() -> Outcome {
    Outcome::Refused(said(550, "no such user"))
}

fn lost() -> Cause {
    Cause::Lost {
        stage: Stage::Dot,
        detail: "reset by peer".into(),
    }
}
