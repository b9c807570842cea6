//! A run without sockets: sources that follow a client model against one brain, on one clock. As fast as the processor goes, and the same
//! for the same seed.

use super::brain::{Brain, SessionId, Then, Verdict};
use super::client::{Aimd, Client, Hint, Steady};
use super::postfix::{Feedback, Postfix};
use super::profile::Profile;
use super::truth::Truth;
use crate::quantity::Random;
use posthaste_core::words::Moment;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Midnight, so that windows and days begin together.
const START: Moment = Moment::from_secs(1_767_225_600);
/// Messages waiting; further ones are shed.
const BACKLOG_MAX: usize = 10_000_000;
/// All mail of a simulated sender is of one domain, and signed for it.
const SENDER: &str = "news@sender-1.test";
const HEADER: &[u8] = b"From: <news@sender-1.test>\r\nDKIM-Signature: v=1; d=sender-1.test\r\n\r\n";
/// Recipients of a message: as many as a mask has bits.
const RECIPIENTS_MAX: u32 = 8;
/// Events between two looks at the stop flag.
const LOOK_EVENTS: u64 = 4096;

/// Which client model drives the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Model {
    Steady,
    Aimd,
    Postfix,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub start: Moment,
    pub duration: Duration,
    /// Messages per second, at even distances; 0 for none after `batch`.
    pub rate: f64,
    /// Messages there at the start.
    pub batch: u64,
    pub recipients: u32,
    pub sources: u32,
    /// Different recipients before they repeat.
    pub audience: u64,
    pub round_trip: (Duration, Duration),
    /// How long a sender waits for a reply.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            start: START,
            duration: Duration::from_secs(86_400),
            rate: 1.0,
            batch: 0,
            recipients: 1,
            sources: 1,
            audience: 1_000_000,
            round_trip: (Duration::from_millis(10), Duration::from_millis(30)),
            patience: Duration::from_secs(300),
        }
    }
}

/// What came of it, as the sender sees it, and the truth beside.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub offered: u64,
    pub attempts: u64,
    pub delivered: u64,
    pub refused: u64,
    /// Recipients put off, each time counted.
    pub deferrals: u64,
    pub expired: u64,
    pub shed: u64,
    pub waiting: u64,
    /// Most connections at once.
    pub open_max: u32,
    /// Time-weighted mean of open connections while any was open.
    pub open_mean: f64,
    pub interrupted: bool,
    pub truth: Truth,
}

/// What the sources talk to: a brain, or whatever stands before one.
pub(super) trait Peer {
    fn connect(&mut self, from: IpAddr, now: Moment) -> (SessionId, Verdict);
    /// TLS stands when the verdict says so.
    fn starttls(&mut self, id: SessionId, now: Moment) -> Verdict;
    fn mail(&mut self, id: SessionId, sender: &str, now: Moment) -> Verdict;
    fn rcpt(&mut self, id: SessionId, recipient: &str, now: Moment) -> Verdict;
    fn data(&mut self, id: SessionId, now: Moment) -> Verdict;
    fn end_of_data(&mut self, id: SessionId, header: &[u8], now: Moment) -> Verdict;
    fn close(&mut self, id: SessionId, now: Moment);
    /// Complaints and bounces that are due happen.
    fn pass(&mut self, now: Moment);
    fn truth(&mut self, now: Moment) -> Truth;
}

impl Peer for Brain {
    fn connect(&mut self, from: IpAddr, now: Moment) -> (SessionId, Verdict) {
        self.handle_connect(from, now)
    }

    fn starttls(&mut self, id: SessionId, now: Moment) -> Verdict {
        let verdict = self.handle_starttls(id, now);
        if verdict.then == Then::Secure {
            self.handle_secured(id);
        }
        verdict
    }

    fn mail(&mut self, id: SessionId, sender: &str, now: Moment) -> Verdict {
        self.handle_mail(id, sender, now)
    }

    fn rcpt(&mut self, id: SessionId, recipient: &str, now: Moment) -> Verdict {
        self.handle_rcpt(id, recipient, now)
    }

    fn data(&mut self, id: SessionId, now: Moment) -> Verdict {
        self.handle_data(id, now)
    }

    fn end_of_data(&mut self, id: SessionId, header: &[u8], now: Moment) -> Verdict {
        self.handle_end_of_data(id, header, now)
    }

    fn close(&mut self, id: SessionId, now: Moment) {
        self.handle_close(id, now);
    }

    fn pass(&mut self, now: Moment) {
        while self.poll_event(now).is_some() {}
    }

    fn truth(&mut self, now: Moment) -> Truth {
        Self::truth(self, now)
    }
}

/// Runs `plan` against `profile`, each source with a client from `client`; ends early when `stop` is set.
pub fn simulate(
    profile: Arc<Profile>,
    plan: &Plan,
    client: &mut dyn FnMut(u32) -> Box<dyn Client>,
    stop: &AtomicBool,
) -> Outcome {
    let mut brain = Brain::new(Arc::clone(&profile), plan.seed, plan.start);
    drive(&mut brain, profile, plan, client, stop)
}

pub(super) fn drive<P: Peer>(
    peer: &mut P,
    profile: Arc<Profile>,
    plan: &Plan,
    client: &mut dyn FnMut(u32) -> Box<dyn Client>,
    stop: &AtomicBool,
) -> Outcome {
    let mut world = World::new(peer, profile, plan, client);
    let end = plan.start + plan.duration;
    let mut events = 0_u64;
    let mut interrupted = false;
    while let Some(Reverse((at, _, _))) = world.agenda.peek() {
        if *at > end {
            break;
        }
        events += 1;
        if events.is_multiple_of(LOOK_EVENTS) && stop.load(Ordering::Relaxed) {
            interrupted = true;
            break;
        }
        world.turn();
        world.peer.pass(world.now);
    }
    let now = if interrupted || world.is_drained() {
        world.now
    } else {
        end
    };
    world.finish(now, interrupted)
}

impl Model {
    /// A client of this model. `rate` is the offered rate of one source.
    pub fn client(self, connections: u32, per_connection: u32, rate: f64) -> Box<dyn Client> {
        match self {
            Self::Steady => Box::new(Steady {
                connections,
                per_connection,
            }),
            Self::Aimd => Box::new(Aimd::new(connections, per_connection, rate * 4.0)),
            Self::Postfix => Box::new(Postfix::new(Feedback::Fixed(1.0), 5, connections, true)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mail {
    number: u64,
    /// A bit for each recipient not settled.
    pending: u8,
    attempts: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Offer,
    Retry(Mail),
    Wake(u32),
    Step(u32),
}

#[derive(Clone, Copy)]
enum Stage {
    Envelope,
    Dot,
    Settle(Hint),
}

struct Line {
    source: u32,
    session: SessionId,
    mail: Mail,
    stage: Stage,
    /// Recipients the envelope was taken for.
    taken: u8,
    sent: u32,
    closes: bool,
}

struct Sender {
    client: Box<dyn Client>,
    ip: IpAddr,
    open: u32,
    /// When it is to be looked at again, if it waits.
    wakes: Moment,
}

struct World<'a, P> {
    plan: &'a Plan,
    peer: &'a mut P,
    profile: Arc<Profile>,
    now: Moment,
    random: Random,
    agenda: BinaryHeap<Reverse<(Moment, u64, Due)>>,
    serial: u64,
    lines: Vec<Option<Line>>,
    free: Vec<u32>,
    ready: VecDeque<Mail>,
    senders: Vec<Sender>,
    turn: u32,
    retrying: u64,
    open: u32,
    open_seconds: f64,
    busy_seconds: f64,
    touched: Moment,
    address: String,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    offered: u64,
    attempts: u64,
    delivered: u64,
    refused: u64,
    deferrals: u64,
    expired: u64,
    shed: u64,
    open_max: u32,
}

impl<'a, P: Peer> World<'a, P> {
    fn new(
        peer: &'a mut P,
        profile: Arc<Profile>,
        plan: &'a Plan,
        client: &mut dyn FnMut(u32) -> Box<dyn Client>,
    ) -> Self {
        let senders = (0..plan.sources.max(1)).map(|number| Sender {
            client: client(number),
            // Each in a /24 of its own: 198.18.0.0/15 is for benchmarks (RFC 2544).
            ip: Ipv4Addr::from(0xC612_0001 + (number << 8)).into(),
            open: 0,
            wakes: Moment::NEVER,
        });
        let mut world = Self {
            peer,
            plan,
            profile,
            now: plan.start,
            random: Random::new(plan.seed ^ 0x5EED),
            agenda: BinaryHeap::new(),
            serial: 0,
            lines: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            senders: senders.collect(),
            turn: 0,
            retrying: 0,
            open: 0,
            open_seconds: 0.0,
            busy_seconds: 0.0,
            touched: plan.start,
            address: String::new(),
            counts: Counts::default(),
        };
        for _ in 0..plan.batch {
            world.offer();
        }
        world.at(
            plan.start,
            if plan.rate > 0.0 {
                Due::Offer
            } else {
                Due::Wake(0)
            },
        );
        for number in 1..world.senders.len() {
            world.at(plan.start, Due::Wake(number as u32));
        }
        world
    }

    fn at(&mut self, moment: Moment, due: Due) {
        self.serial += 1;
        self.agenda.push(Reverse((moment, self.serial, due)));
    }

    fn is_drained(&self) -> bool {
        self.agenda.is_empty()
    }

    /// Takes the next event.
    fn turn(&mut self) {
        let Some(Reverse((at, _, due))) = self.agenda.pop() else {
            return;
        };
        self.now = at;
        match due {
            Due::Offer => {
                self.offer();
                let gap = Duration::from_secs_f64(1.0 / self.plan.rate);
                self.at(at + gap, Due::Offer);
                self.begin_any();
            }
            Due::Retry(mail) => {
                self.retrying -= 1;
                self.ready.push_back(mail);
                self.begin_any();
            }
            Due::Wake(sender) => {
                self.senders[sender as usize].wakes = Moment::NEVER;
                self.begin(sender);
            }
            Due::Step(line) => self.step(line),
        }
    }

    fn offer(&mut self) {
        let number = self.counts.offered;
        self.counts.offered += 1;
        if self.ready.len() >= BACKLOG_MAX {
            self.counts.shed += 1;
            return;
        }
        let recipients = self.plan.recipients.clamp(1, RECIPIENTS_MAX);
        self.ready.push_back(Mail {
            number,
            pending: 0xFF >> (RECIPIENTS_MAX - recipients),
            attempts: 0,
        });
    }

    fn begin_any(&mut self) {
        let senders = self.senders.len() as u32;
        for _ in 0..senders {
            self.turn = (self.turn + 1) % senders;
            if self.ready.is_empty() {
                return;
            }
            self.begin(self.turn);
        }
    }

    /// Opens what connections the client would.
    fn begin(&mut self, number: u32) {
        loop {
            let sender = &mut self.senders[number as usize];
            if self.ready.is_empty() {
                return;
            }
            let start = sender.client.next_start(self.now);
            if start > self.now {
                if start < sender.wakes {
                    sender.wakes = start;
                    self.at(start, Due::Wake(number));
                }
                return;
            }
            if sender.open >= sender.client.window(self.now) {
                return;
            }
            let Some(mail) = self.ready.pop_front() else {
                return;
            };
            self.connect(number, mail);
        }
    }

    fn connect(&mut self, number: u32, mail: Mail) {
        self.weigh();
        let sender = &mut self.senders[number as usize];
        sender.client.handle_start(self.now);
        sender.open += 1;
        self.open += 1;
        self.counts.open_max = self.counts.open_max.max(self.open);
        let (session, verdict) = self.peer.connect(sender.ip, self.now);
        let mut line = Line {
            source: number,
            session,
            mail,
            stage: Stage::Envelope,
            taken: 0,
            sent: 0,
            closes: false,
        };
        if !verdict.is_positive() {
            line.stage = Stage::Settle(Hint::NoHandshake);
            line.closes = true;
        }
        let mut wait = self.wait(&verdict);
        if !line.closes && self.profile.tls.offer > 0.0 {
            wait += self.secure(&mut line);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.lines.push(None);
            self.lines.len() as u32 - 1
        });
        self.lines[index as usize] = Some(line);
        self.at(self.now + wait, Due::Step(index));
    }

    /// TLS where it is offered; what fails of it in order leaves the session plain (RFC 3207 §4).
    fn secure(&mut self, line: &mut Line) -> Duration {
        let verdict = self.peer.starttls(line.session, self.now);
        match verdict.then {
            Then::Go | Then::Secure => {}
            Then::Close | Then::Reset | Then::Silence => {
                line.stage = Stage::Settle(Hint::NoHandshake);
                line.closes = true;
            }
        }
        self.wait(&verdict)
    }

    fn weigh(&mut self) {
        let passed = self.now.since(self.touched).as_secs_f64();
        self.open_seconds += passed * f64::from(self.open);
        if self.open > 0 {
            self.busy_seconds += passed;
        }
        self.touched = self.now;
    }

    /// How long the reply takes to arrive, or the sender to give up.
    fn wait(&mut self, verdict: &Verdict) -> Duration {
        let (low, high) = self.plan.round_trip;
        let trip = self.random.between(low, high);
        match verdict.then {
            Then::Silence => self.plan.patience,
            Then::Reset => trip,
            Then::Go | Then::Secure | Then::Close => (trip + verdict.delay).min(self.plan.patience),
        }
    }

    fn step(&mut self, index: u32) {
        let mut line = self.lines[index as usize]
            .take()
            .expect("a step is due for a line that lives");
        let wait = match line.stage {
            Stage::Envelope => self.envelope(&mut line),
            Stage::Dot => self.dot(&mut line),
            Stage::Settle(hint) => {
                self.settle(&mut line, hint);
                let sender = &mut self.senders[line.source as usize];
                let goes_on = !line.closes
                    && line.sent < sender.client.messages_per_connection()
                    && sender.open <= sender.client.window(self.now)
                    && sender.client.next_start(self.now) <= self.now;
                let next = if goes_on {
                    self.ready.pop_front()
                } else {
                    None
                };
                let Some(mail) = next else {
                    self.close(index, &line);
                    return;
                };
                self.senders[line.source as usize]
                    .client
                    .handle_start(self.now);
                line.mail = mail;
                self.envelope(&mut line)
            }
        };
        self.lines[index as usize] = Some(line);
        self.at(self.now + wait, Due::Step(index));
    }

    fn close(&mut self, index: u32, line: &Line) {
        self.weigh();
        self.peer.close(line.session, self.now);
        self.free.push(index);
        self.senders[line.source as usize].open -= 1;
        self.open -= 1;
        self.begin(line.source);
    }

    /// MAIL, RCPT and DATA in one go (RFC 2920).
    fn envelope(&mut self, line: &mut Line) -> Duration {
        self.counts.attempts += 1;
        line.sent += 1;
        line.taken = 0;
        let verdict = self.peer.mail(line.session, SENDER, self.now);
        let mut wait = self.wait(&verdict);
        if !verdict.is_positive() {
            settle_by(line, &verdict);
            return wait;
        }
        let mut is_put_off = false;
        for bit in 0..RECIPIENTS_MAX as u8 {
            if line.mail.pending & (1 << bit) == 0 {
                continue;
            }
            self.name_recipient(line.mail.number, bit);
            let verdict = self.peer.rcpt(line.session, &self.address, self.now);
            wait += verdict.delay;
            if verdict.is_positive() {
                line.taken |= 1 << bit;
            } else if verdict.reply.code >= 500 {
                line.mail.pending &= !(1 << bit);
                self.counts.refused += 1;
            } else {
                is_put_off = true;
            }
            if verdict.then != Then::Go {
                line.taken = 0;
                settle_by(line, &verdict);
                return wait;
            }
        }
        if line.taken == 0 {
            let hint = if is_put_off {
                Hint::Deferred
            } else {
                Hint::Refused
            };
            line.stage = Stage::Settle(hint);
            return wait;
        }
        let verdict = self.peer.data(line.session, self.now);
        line.stage = Stage::Dot;
        wait + verdict.delay
    }

    fn name_recipient(&mut self, number: u64, bit: u8) {
        let domains = &self.profile.domains;
        let domain = &domains[(number % domains.len() as u64) as usize];
        self.address.clear();
        // Writing into a String cannot fail.
        let _ = write!(
            self.address,
            "user{}-{bit}@{domain}",
            number % self.plan.audience
        );
    }

    fn dot(&mut self, line: &mut Line) -> Duration {
        let verdict = self.peer.end_of_data(line.session, HEADER, self.now);
        let wait = self.wait(&verdict);
        if verdict.is_positive() {
            line.stage = Stage::Settle(Hint::Delivered);
        } else {
            settle_by(line, &verdict);
        }
        wait
    }

    fn settle(&mut self, line: &mut Line, hint: Hint) {
        let mail = &mut line.mail;
        match hint {
            Hint::Delivered => {
                self.counts.delivered += u64::from(line.taken.count_ones());
                mail.pending &= !line.taken;
            }
            Hint::Refused => {
                self.counts.refused += u64::from(mail.pending.count_ones());
                mail.pending = 0;
            }
            Hint::Deferred | Hint::NoHandshake => {}
        }
        let sender = &mut self.senders[line.source as usize];
        sender.client.handle_hint(hint, sender.open, self.now);
        let left = u64::from(mail.pending.count_ones());
        if left == 0 {
            return;
        }
        self.counts.deferrals += left;
        mail.attempts += 1;
        match sender.client.retry_after(mail.attempts) {
            Some(wait) => {
                let jittered = wait.mul_f64(1.0 + 0.1 * self.random.unit());
                self.retrying += 1;
                self.at(self.now + jittered, Due::Retry(*mail));
            }
            None => self.counts.expired += left,
        }
    }

    fn finish(mut self, now: Moment, interrupted: bool) -> Outcome {
        self.weigh();
        let lines = self.lines.iter().flatten().count() as u64;
        Outcome {
            offered: self.counts.offered,
            attempts: self.counts.attempts,
            delivered: self.counts.delivered,
            refused: self.counts.refused,
            deferrals: self.counts.deferrals,
            expired: self.counts.expired,
            shed: self.counts.shed,
            waiting: self.ready.len() as u64 + self.retrying + lines,
            open_max: self.counts.open_max,
            open_mean: crate::measure::ratio(self.open_seconds, self.busy_seconds),
            interrupted,
            truth: self.peer.truth(now),
        }
    }
}

fn settle_by(line: &mut Line, verdict: &Verdict) {
    line.closes = verdict.then != Then::Go;
    let is_refused = verdict.reply.code >= 500 && matches!(verdict.then, Then::Go | Then::Close);
    line.stage = Stage::Settle(if is_refused {
        Hint::Refused
    } else {
        Hint::Deferred
    });
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
