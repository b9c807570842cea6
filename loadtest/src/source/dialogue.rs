//! What every protocol of the source shares: wishes, the task in hand, the ways a run speaks. Knows no socket.

use super::http::Http;
use super::message::Template;
use super::output::Output;
use super::smtp::Smtp;
use super::supply::{Next, Supply, Task};
use super::tally::Tally;
use crate::measure;
use std::time::Instant;

/// What the dialogue wants of its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing but more replies, or a flush of what is to be written.
    Go,
    /// Nothing to do before then.
    Sleep(Instant),
    /// TLS from the next octet on.
    Secure,
    /// The connection has served: close it.
    Close,
    /// The peer broke off or broke the protocol: count it as a failed connection.
    Fail,
}

/// How all sessions of a run speak. One per run.
pub(crate) struct Manner {
    pub(crate) pipelining: bool,
    /// `u64::MAX` for no limit.
    pub(crate) per_connection: u64,
    /// BDAT in place of DATA, in chunks of at most so many octets.
    pub(crate) bdat: Option<usize>,
    pub(crate) starttls: bool,
    pub(crate) login: Option<super::smtp::Login>,
    /// HTTP in place of SMTP.
    pub(crate) request: Option<super::http::Request>,
}

/// A message on its way.
pub(crate) struct Transaction {
    pub(crate) task: Task,
    began: Instant,
    /// Recipients accepted.
    pub(crate) accepted: u32,
    /// Octets of the message that were given to the output.
    pub(crate) octets: usize,
    /// How many of them are header; counted where chunks need it.
    pub(crate) header_octets: usize,
    /// When its last octet left.
    pub(crate) ended: Option<Instant>,
}

impl Transaction {
    pub(crate) fn new(task: Task) -> Self {
        Self {
            task,
            began: Instant::now(),
            accepted: 0,
            octets: 0,
            header_octets: 0,
            ended: None,
        }
    }

    /// The answer: accepted for at least one recipient.
    pub(crate) fn accept(&self, context: &mut Context<'_>) {
        context.supply.settle();
        let (now, tally) = (Instant::now(), &mut *context.tally);
        tally.accepted += 1;
        tally.recipients_accepted += u64::from(self.accepted);
        tally.octets += self.octets as u64;
        let began = self.task.planned.unwrap_or(self.began);
        measure::record(&mut tally.dot, now - self.ended.unwrap_or(now));
        measure::record(&mut tally.transaction, now.saturating_duration_since(began));
    }

    /// The answer: not accepted.
    pub(crate) fn fail(&self, context: &mut Context<'_>) {
        context.supply.settle();
        context.tally.failed += 1;
    }

    /// The connection is gone: what was sent whole is without an answer, what was not comes back.
    pub(crate) fn abandon(&self, context: &mut Context<'_>) {
        if self.ended.is_some() {
            context.tally.unanswered += 1;
            context.supply.settle();
        } else {
            context.returned.push(self.task);
        }
    }
}

/// Where a connection is, in either protocol.
pub(crate) struct Course {
    /// The transaction whose answers come first.
    pub(crate) current: Option<Transaction>,
    /// Transactions that may still begin.
    pub(crate) left: u64,
    /// Whether any message was taken over this connection.
    pub(crate) has_delivered: bool,
    pub(crate) output: Output,
}

impl Course {
    pub(crate) fn new(per_connection: u64) -> Self {
        Self {
            current: None,
            left: per_connection,
            has_delivered: false,
            output: Output::default(),
        }
    }

    fn handle_written(&mut self, octets: usize) {
        if self.output.handle_written(octets)
            && let Some(current) = &mut self.current
        {
            current.ended.get_or_insert_with(Instant::now);
        }
    }
}

/// What sessions of one thread share.
pub(crate) struct Context<'a> {
    pub(crate) template: &'a Template,
    pub(crate) manner: &'a Manner,
    pub(crate) supply: &'a Supply,
    pub(crate) tally: &'a mut Tally,
    /// Tasks whose connection failed before their end: to be sent again.
    pub(crate) returned: &'a mut Vec<Task>,
}

impl Context<'_> {
    pub(crate) fn next(&mut self) -> Next {
        if !self.supply.is_stopped()
            && let Some(task) = self.returned.pop()
        {
            return Next::Task(task);
        }
        let next = self.supply.next();
        if let Next::Task(Task {
            planned: Some(at), ..
        }) = next
        {
            measure::record(&mut self.tally.lag, at.elapsed());
        }
        next
    }
}

/// The dialogue of one connection, in either protocol.
pub(crate) enum Dialogue {
    Smtp(Smtp),
    Http(Http),
}

impl Dialogue {
    pub(crate) fn new(manner: &Manner) -> Self {
        if manner.request.is_some() {
            Self::Http(Http::new(manner.per_connection))
        } else {
            Self::Smtp(Smtp::new(manner.per_connection))
        }
    }

    /// The connection stands.
    pub(crate) fn handle_connected(&mut self, context: &mut Context<'_>) -> Wish {
        match self {
            // The server speaks first.
            Self::Smtp(_) => Wish::Go,
            Self::Http(http) => http.begin(context),
        }
    }

    pub(crate) fn handle_secured(&mut self) {
        match self {
            Self::Smtp(smtp) => smtp.handle_secured(),
            Self::Http(_) => {}
        }
    }

    pub(crate) fn handle_bytes(&mut self, input: &[u8], context: &mut Context<'_>) -> Wish {
        match self {
            Self::Smtp(smtp) => smtp.handle_bytes(input, context),
            Self::Http(http) => http.handle_bytes(input, context),
        }
    }

    /// Starts the next transaction, or ends the session.
    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Wish {
        match self {
            Self::Smtp(smtp) => smtp.begin(context),
            Self::Http(http) => http.begin(context),
        }
    }

    const fn course(&self) -> &Course {
        match self {
            Self::Smtp(smtp) => &smtp.course,
            Self::Http(http) => &http.course,
        }
    }

    pub(crate) const fn output(&self) -> &Output {
        &self.course().output
    }

    /// So many octets went out.
    pub(crate) fn handle_written(&mut self, octets: usize) {
        let course = match self {
            Self::Smtp(smtp) => &mut smtp.course,
            Self::Http(http) => &mut http.course,
        };
        course.handle_written(octets);
    }

    /// True while a reply or a write is awaited: then the time-out counts.
    pub(crate) fn is_waiting(&self) -> bool {
        let is_expecting = match self {
            Self::Smtp(smtp) => smtp.is_expecting(),
            Self::Http(http) => http.is_expecting(),
        };
        is_expecting || !self.output().is_empty()
    }

    /// Whether any message was taken over this connection.
    pub(crate) const fn has_delivered(&self) -> bool {
        self.course().has_delivered
    }

    pub(crate) fn abandon(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Smtp(smtp) => smtp.abandon(context),
            Self::Http(http) => http.abandon(context),
        }
    }
}

/// A reply's text for a count of errors: printable, short, digits as `#` so that ids do not make each one different.
pub(crate) fn excerpt(reply: &[u8]) -> String {
    const OCTETS: usize = 60;
    let line = reply
        .split(|octet| *octet == b'\r' || *octet == b'\n')
        .next()
        .unwrap_or(&[]);
    line.iter()
        .take(OCTETS)
        .map(|octet| {
            if octet.is_ascii_digit() {
                '#'
            } else if (b' '..=b'~').contains(octet) {
                char::from(*octet)
            } else {
                '?'
            }
        })
        .collect()
}
