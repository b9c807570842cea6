//! The machine itself: phases, the list of expected replies, at most two transactions in flight.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::flight::{Flight, refusal};
use super::wire::{self, Extensions};
use crate::smtp::reply_parser::{ReplyLimits, ReplyParser};
use crate::words::{Cause, Enhanced, Message, Moment, Outcome, Reply, Stage};

/// Pieces of one vectored write.
pub type Segments = SmallVec<[Bytes; 4]>;
/// Recipient index and what became of it.
pub type Outcomes = SmallVec<[(u16, Outcome); 1]>;

/// How long a reply may take (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
    pub banner: Duration,
    pub ehlo: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    pub dot: Duration,
    pub rset: Duration,
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            banner: Duration::from_secs(60),
            ehlo: five_minutes,
            mail: five_minutes,
            rcpt: five_minutes,
            data: five_minutes,
            dot: Duration::from_secs(600),
            rset: five_minutes,
            quit: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    const fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Connect | Stage::Banner => self.banner,
            Stage::Ehlo => self.ehlo,
            Stage::Mail => self.mail,
            Stage::Rcpt => self.rcpt,
            Stage::Data => self.data,
            Stage::Dot => self.dot,
            Stage::Rset => self.rset,
            Stage::Quit => self.quit,
        }
    }
}

/// A message with octets above 127 meets a peer without 8BITMIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// It goes as it is: nearly all such peers pass it on unharmed.
    #[default]
    Send,
    /// RFC 6152 §3 to the letter: it is refused.
    Refuse,
}

/// Shared by all connections of a source.
#[derive(Clone, Debug)]
pub struct Config {
    pub ehlo_name: String,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    pub eight_bit: EightBit,
    pub timeouts: Timeouts,
    pub replies: ReplyLimits,
}

impl Config {
    pub fn new(ehlo_name: &str) -> Self {
        Self {
            ehlo_name: ehlo_name.to_owned(),
            pipelining: true,
            eight_bit: EightBit::default(),
            timeouts: Timeouts::default(),
            replies: ReplyLimits::default(),
        }
    }
}

/// A message and those of its recipients that this connection is asked to deliver to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Comes back in [`Action::Outcome`] and [`Action::Returned`]; chosen by the caller.
    pub seq: u64,
    pub message: Arc<Message>,
    /// Indices into the envelope's recipients.
    pub recipients: SmallVec<[u16; 1]>,
}

/// What the owner of the connection is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write all of it, in order, as one write.
    Send(Segments),
    /// The next transaction is wanted now: answer with `handle_transaction` or `handle_no_work`
    /// before anything else. A body may be held back until then, so that the answer rides with it.
    Ready,
    /// All is settled and there was no work. A transaction may be given at any time.
    Idle,
    /// What became of each recipient of a transaction.
    Outcome { seq: u64, outcomes: Outcomes },
    /// The peer decided nothing about this transaction: no attempt was made.
    Returned(Transaction),
    /// The connection is over; close the socket. Outcomes of all transactions were given before.
    Closed {
        /// `None` when it ended as connections end: after QUIT, or by the peer while idle.
        cause: Option<Cause>,
        /// Nothing could be sent: the next host may be tried.
        before_ready: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Banner,
    Ehlo,
    Helo,
    Open,
    Quitting,
    Closed,
}

/// One outbound connection.
#[derive(Debug)]
pub struct Dialogue {
    config: Arc<Config>,
    parser: ReplyParser,
    phase: Phase,
    offered: Extensions,
    /// What the coming replies answer, in order. MAIL to dot belong to the front of `flights`.
    expected: VecDeque<Stage>,
    flights: VecDeque<Flight>,
    /// Written with the next `Send`.
    held: Segments,
    /// `Ready` was said and not answered.
    asking: bool,
    /// The last answer to `Ready` was that there is no work.
    dry: bool,
    quit_wanted: bool,
    /// MAIL was accepted and its transaction ended without a final dot.
    reset_needed: bool,
    /// An earlier transaction of this connection had its outcome.
    settled_any: bool,
    deadline: Option<Moment>,
    actions: VecDeque<Action>,
}

impl Dialogue {
    /// The connection stands; the peer speaks first.
    pub fn new(config: Arc<Config>, now: Moment) -> Self {
        let mut dialogue = Self {
            parser: ReplyParser::new(config.replies),
            config,
            phase: Phase::Banner,
            offered: Extensions::default(),
            expected: VecDeque::from([Stage::Banner]),
            flights: VecDeque::new(),
            held: Segments::new(),
            asking: false,
            dry: false,
            quit_wanted: false,
            reset_needed: false,
            settled_any: false,
            deadline: None,
            actions: VecDeque::new(),
        };
        dialogue.arm(now);
        dialogue
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub const fn poll_timeout(&self) -> Option<Moment> {
        self.deadline
    }

    /// What EHLO offered; nothing before it was answered.
    pub const fn offered(&self) -> &Extensions {
        &self.offered
    }

    pub fn handle_bytes(&mut self, bytes: &[u8], now: Moment) {
        let mut rest = bytes;
        // Commands that these bytes cause are not sent yet, so these bytes cannot answer them.
        let mut answerable = self.expected.len();
        while !rest.is_empty() && self.phase != Phase::Closed {
            match self.parser.feed(rest) {
                Ok((taken, reply)) => {
                    rest = &rest[taken..];
                    if let Some(reply) = reply {
                        self.take_reply(reply, answerable > 0, now);
                        answerable = answerable.saturating_sub(1);
                    }
                }
                Err(error) => {
                    let stage = self.stage();
                    let detail = error.to_string().into();
                    if answerable > 0 {
                        self.touch(stage);
                    }
                    self.end(Some(Cause::Protocol { stage, detail }));
                }
            }
        }
    }

    /// The peer closed or reset the connection, or a write failed.
    pub fn handle_closed(&mut self, detail: &str) {
        if self.phase == Phase::Closed {
            return;
        }
        let cause = self.expected.front().map(|stage| Cause::Lost {
            stage: *stage,
            detail: detail.into(),
        });
        self.end(cause);
    }

    /// Part of a large write went out: the wait for the reply starts anew.
    pub fn handle_progress(&mut self, now: Moment) {
        self.arm(now);
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.handle_closed("timed out");
        }
    }

    /// Legal as the answer to `Ready`, and any time after `Idle`. Too late for this connection, it
    /// comes back.
    pub fn handle_transaction(&mut self, transaction: Transaction, now: Moment) {
        if self.phase != Phase::Open || self.quit_wanted {
            self.actions.push_back(Action::Returned(transaction));
            return;
        }
        assert!(
            self.asking || self.flights.is_empty(),
            "a transaction is given when asked for, or when idle"
        );
        self.asking = false;
        self.dry = false;
        match self.admit(transaction) {
            Ok(flight) => {
                self.launch(flight);
                self.flush(now);
            }
            Err((seq, outcomes)) => {
                self.actions.push_back(Action::Outcome { seq, outcomes });
                self.ask();
            }
        }
    }

    /// The answer to `Ready` when nothing waits.
    pub fn handle_no_work(&mut self, now: Moment) {
        if !self.asking {
            return;
        }
        self.asking = false;
        self.dry = true;
        self.flush(now);
        if self.flights.is_empty() && self.phase == Phase::Open {
            self.actions.push_back(Action::Idle);
        }
    }

    /// Ends the connection politely: at once when idle, else after what is in flight.
    pub fn handle_quit(&mut self, now: Moment) {
        self.quit_wanted = true;
        match self.phase {
            Phase::Banner | Phase::Ehlo | Phase::Helo => self.end(None),
            Phase::Open => {
                self.asking = false;
                self.flush(now);
                if self.flights.is_empty() {
                    self.quit(now);
                }
            }
            Phase::Quitting | Phase::Closed => {}
        }
    }

    /// Nobody waits any longer: a transaction whose final dot is with the peer hears what became of it,
    /// all else ends at once and was not tried.
    pub fn handle_cut(&mut self, now: Moment) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.expected.contains(&Stage::Dot) {
            return self.handle_quit(now);
        }
        let untried = self.flights.drain(..).map(|flight| flight.transaction);
        self.actions.extend(untried.map(Action::Returned));
        self.end(None);
    }

    fn take_reply(&mut self, reply: Reply, answers: bool, now: Moment) {
        let Some(stage) = self.expected.front().copied().filter(|_| answers) else {
            return self.take_unasked(reply);
        };
        self.expected.pop_front();
        self.touch(stage);
        if reply.code == 421 && stage != Stage::Quit {
            return self.end(Some(Cause::Reply { stage, reply }));
        }
        let go_ahead = (300..400).contains(&reply.code);
        if reply.is_positive() && go_ahead != (stage == Stage::Data) && stage != Stage::Quit {
            let detail = format!("unexpected reply {reply}").into();
            return self.end(Some(Cause::Protocol { stage, detail }));
        }
        match stage {
            Stage::Connect | Stage::Banner => self.take_banner(reply, now),
            Stage::Ehlo => self.take_ehlo(reply, now),
            Stage::Mail => self.take_mail(reply, now),
            Stage::Rcpt => self.take_rcpt(reply, now),
            Stage::Data => self.take_data(reply, now),
            Stage::Dot => self.take_dot(reply, now),
            Stage::Rset if reply.is_positive() => self.step(now),
            Stage::Rset => self.end(Some(Cause::Reply { stage, reply })),
            Stage::Quit => self.end(None),
        }
        self.arm(now);
    }

    /// A peer that hangs up on an idle connection may say so with 421; anything else is no SMTP.
    fn take_unasked(&mut self, reply: Reply) {
        if reply.code == 421 && self.flights.is_empty() {
            return self.end(None);
        }
        let stage = self.stage();
        if reply.code == 421 {
            return self.end(Some(Cause::Reply { stage, reply }));
        }
        let detail = format!("reply without a command: {reply}").into();
        self.end(Some(Cause::Protocol { stage, detail }));
    }

    fn take_banner(&mut self, reply: Reply, now: Moment) {
        if !reply.is_positive() {
            let stage = Stage::Banner;
            return self.leave(Cause::Reply { stage, reply });
        }
        self.phase = Phase::Ehlo;
        let line = format!("EHLO {}\r\n", self.config.ehlo_name);
        self.say(Stage::Ehlo, line.into_bytes());
        self.flush(now);
    }

    fn take_ehlo(&mut self, reply: Reply, now: Moment) {
        if reply.is_positive() {
            if self.phase == Phase::Ehlo {
                self.offered = Extensions::parse(&reply.text);
            }
            self.phase = Phase::Open;
            self.ask();
        } else if reply.is_permanent() && reply.code != 521 && self.phase == Phase::Ehlo {
            // RFC 5321 §3.2: a server that knows no EHLO is greeted with HELO; one that takes no mail
            // (RFC 7504) is not.
            self.phase = Phase::Helo;
            let line = format!("HELO {}\r\n", self.config.ehlo_name);
            self.say(Stage::Ehlo, line.into_bytes());
            self.flush(now);
        } else {
            let stage = Stage::Ehlo;
            self.leave(Cause::Reply { stage, reply });
        }
    }

    fn take_mail(&mut self, reply: Reply, now: Moment) {
        let flight = self.flying();
        if reply.is_positive() {
            flight.mail_accepted = true;
        } else {
            flight.settle_rest(&refusal(Stage::Mail, reply));
            if !self.pipelines() {
                return self.land(now);
            }
        }
        self.step(now);
    }

    fn take_rcpt(&mut self, reply: Reply, now: Moment) {
        self.flying().take_rcpt_reply(reply);
        self.step(now);
    }

    fn take_data(&mut self, reply: Reply, now: Moment) {
        let flight = self.flying();
        if !reply.is_positive() {
            flight.settle_rest(&refusal(Stage::Data, reply));
            self.reset_needed = flight.mail_accepted;
            return self.land(now);
        }
        // With all recipients refused a lone dot leads back to where MAIL is understood
        // (RFC 2920 §3.1); the peer must not deliver that empty message to anybody.
        let data = flight
            .is_any_accepted()
            .then(|| flight.transaction.message.data.clone());
        if let Some(data) = data {
            wire::push_body(&mut self.held, &data);
        }
        self.say(Stage::Dot, b".\r\n".to_vec());
        if self.pipelines() && !self.quit_wanted {
            self.ask();
        } else {
            self.flush(now);
        }
    }

    fn take_dot(&mut self, reply: Reply, now: Moment) {
        let outcome = if reply.is_positive() {
            Outcome::Delivered(reply)
        } else {
            refusal(Stage::Dot, reply)
        };
        self.flying().settle_rest(&outcome);
        self.land(now);
    }

    /// Without PIPELINING: the one command that comes next.
    fn step(&mut self, now: Moment) {
        if self.pipelines() {
            return;
        }
        let offered = self.offered;
        let flight = self.flying();
        let mut line = Vec::new();
        let next = flight.asked().nth(flight.sent);
        let stage = if !flight.touched {
            wire::push_mail(
                &mut line,
                &flight.transaction.message,
                flight.utf8,
                &offered,
            );
            Stage::Mail
        } else if let Some(index) = next {
            flight.sent += 1;
            let message = &flight.transaction.message;
            let recipient = &message.envelope.recipients[usize::from(index)];
            wire::push_rcpt(&mut line, recipient, &offered);
            Stage::Rcpt
        } else if flight.is_any_accepted() {
            line.extend_from_slice(b"DATA\r\n");
            Stage::Data
        } else {
            self.reset_needed = true;
            return self.land(now);
        };
        self.say(stage, line);
        self.flush(now);
    }

    /// What can be known before the peer is asked: `Err` when nobody is left to ask for.
    fn admit(&self, transaction: Transaction) -> Result<Flight, (u64, Outcomes)> {
        let message = &transaction.message;
        let offered = &self.offered;
        let unsupported = |extension| Outcome::Refused(Cause::NotSupported { extension });
        let too_large = offered
            .size_max
            .is_some_and(|max| u64::try_from(message.size()).unwrap_or(u64::MAX) > max);
        let all = if too_large {
            Some(Outcome::Refused(too_large_cause()))
        } else if wire::needs_utf8(message) && !offered.smtputf8 {
            Some(unsupported("SMTPUTF8"))
        } else if message.content.eight_bit
            && !offered.eight_bit_mime
            && self.config.eight_bit == EightBit::Refuse
        {
            Some(unsupported("8BITMIME"))
        } else {
            None
        };
        let mut local = Outcomes::new();
        let mut asked: SmallVec<[u16; 8]> = SmallVec::new();
        let mut utf8 = wire::needs_utf8(message);
        for index in &transaction.recipients {
            let address = &message.envelope.recipients[usize::from(*index)].address;
            if let Some(outcome) = &all {
                local.push((*index, outcome.clone()));
            } else if address.needs_utf8() && !offered.smtputf8 {
                local.push((*index, unsupported("SMTPUTF8")));
            } else {
                utf8 |= address.needs_utf8();
                asked.push(*index);
            }
        }
        if asked.is_empty() {
            return Err((transaction.seq, local));
        }
        Ok(Flight::new(transaction, &asked, local, utf8))
    }

    fn launch(&mut self, flight: Flight) {
        let mut group = Vec::with_capacity(256);
        let reset = core::mem::take(&mut self.reset_needed);
        if reset {
            group.extend_from_slice(b"RSET\r\n");
            self.expected.push_back(Stage::Rset);
        }
        let message = &flight.transaction.message;
        if self.pipelines() {
            wire::push_mail(&mut group, message, flight.utf8, &self.offered);
            self.expected.push_back(Stage::Mail);
            for index in flight.asked() {
                let recipient = &message.envelope.recipients[usize::from(index)];
                wire::push_rcpt(&mut group, recipient, &self.offered);
                self.expected.push_back(Stage::Rcpt);
            }
            group.extend_from_slice(b"DATA\r\n");
            self.expected.push_back(Stage::Data);
        } else if !reset {
            wire::push_mail(&mut group, message, flight.utf8, &self.offered);
            self.expected.push_back(Stage::Mail);
        }
        self.held.push(group.into());
        self.flights.push_back(flight);
    }

    /// The front transaction is settled.
    fn land(&mut self, now: Moment) {
        let flight = self
            .flights
            .pop_front()
            .expect("a settled flight was flying");
        self.settled_any = true;
        self.actions.push_back(Action::Outcome {
            seq: flight.transaction.seq,
            outcomes: flight.into_outcomes(),
        });
        if !self.flights.is_empty() {
            return;
        }
        if self.quit_wanted {
            self.quit(now);
        } else if self.dry {
            self.actions.push_back(Action::Idle);
        } else {
            self.ask();
        }
    }

    fn flying(&mut self) -> &mut Flight {
        self.flights
            .front_mut()
            .expect("a reply from MAIL to dot is expected only while a transaction is in flight")
    }

    /// The peer answered to a command of the front transaction.
    fn touch(&mut self, stage: Stage) {
        if matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Dot)
            && let Some(flight) = self.flights.front_mut()
        {
            flight.touched = true;
        }
    }

    fn ask(&mut self) {
        self.asking = true;
        self.actions.push_back(Action::Ready);
    }

    fn quit(&mut self, now: Moment) {
        self.phase = Phase::Quitting;
        self.say(Stage::Quit, b"QUIT\r\n".to_vec());
        self.flush(now);
    }

    /// Refused at the door: QUIT is said, its reply not waited for.
    fn leave(&mut self, cause: Cause) {
        let quit = Bytes::from_static(b"QUIT\r\n");
        self.actions
            .push_back(Action::Send(Segments::from_iter([quit])));
        self.end(Some(cause));
    }

    /// The connection is over: whatever is in flight gets its outcome or comes back.
    fn end(&mut self, cause: Option<Cause>) {
        let before_ready = matches!(self.phase, Phase::Banner | Phase::Ehlo | Phase::Helo);
        // All was settled before QUIT: how the peer takes its leave blames nobody.
        let cause = cause.filter(|_| self.phase != Phase::Quitting);
        self.phase = Phase::Closed;
        self.asking = false;
        self.deadline = None;
        self.held.clear();
        self.expected.clear();
        while let Some(mut flight) = self.flights.pop_front() {
            // The first transaction of a connection counts as an attempt in any case: a peer that
            // always hangs up at MAIL would otherwise be tried without end.
            if !flight.touched && self.settled_any {
                self.actions.push_back(Action::Returned(flight.transaction));
                continue;
            }
            let lost = cause.clone().unwrap_or_else(|| Cause::Lost {
                stage: Stage::Mail,
                detail: "connection closed".into(),
            });
            flight.settle_rest(&Outcome::Deferred(lost));
            self.settled_any = true;
            self.actions.push_back(Action::Outcome {
                seq: flight.transaction.seq,
                outcomes: flight.into_outcomes(),
            });
        }
        self.actions.push_back(Action::Closed {
            cause,
            before_ready,
        });
    }

    fn say(&mut self, stage: Stage, line: Vec<u8>) {
        self.held.push(line.into());
        self.expected.push_back(stage);
    }

    fn flush(&mut self, now: Moment) {
        if !self.held.is_empty() {
            let segments = core::mem::take(&mut self.held);
            self.actions.push_back(Action::Send(segments));
            self.arm(now);
        }
    }

    fn arm(&mut self, now: Moment) {
        let stage = self.expected.front();
        self.deadline = stage.map(|stage| now + self.config.timeouts.of(*stage));
    }

    fn stage(&self) -> Stage {
        self.expected.front().copied().unwrap_or(Stage::Mail)
    }

    fn pipelines(&self) -> bool {
        self.offered.pipelining && self.config.pipelining
    }
}

fn too_large_cause() -> Cause {
    Cause::Reply {
        stage: Stage::Mail,
        reply: Reply::new(
            552,
            Some(Enhanced::new(5, 3, 4)),
            "message is larger than the next hop says it takes",
        ),
    }
}
