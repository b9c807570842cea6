//! One session of the source, without its socket: replies in, segments out. One per connection.

use super::message::Template;
use super::supply::{Next, Supply, Task};
use super::tally::Tally;
use crate::measure;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

/// A reply, all its lines together, is no longer than this.
const REPLY_OCTETS_MAX: usize = 64 << 10;

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Banner,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Dot,
    Rset,
    Quit,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Dot => "final dot",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

/// What the session wants of its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing but more replies, or a flush of what is to be written.
    Go,
    /// Nothing to do before then.
    Sleep(Instant),
    /// The connection has served: close it.
    Close,
    /// The peer broke off or broke the protocol: count it as a failed connection.
    Fail,
}

struct Transaction {
    task: Task,
    began: Instant,
    accepted: u32,
    dot_at: Option<Instant>,
}

/// What is to be written: a head, the shared body where one is due, a tail.
#[derive(Default)]
struct Output {
    head: Vec<u8>,
    has_body: bool,
    tail: Vec<u8>,
    written: usize,
}

/// The dialogue of one connection.
pub(crate) struct Session {
    expected: VecDeque<Stage>,
    /// Commands held back where pipelining is not to be had.
    held: VecDeque<(Stage, Vec<u8>)>,
    pipelining: bool,
    wants_pipelining: bool,
    /// The transaction whose replies come first, and the one pipelined behind it.
    current: Option<Transaction>,
    following: Option<Transaction>,
    left: u64,
    has_delivered: bool,
    reply: Vec<u8>,
    output: Output,
}

/// What sessions of one thread share.
pub(crate) struct Context<'a> {
    pub(crate) template: &'a Template,
    pub(crate) supply: &'a Supply,
    pub(crate) tally: &'a mut Tally,
    /// Tasks whose connection failed before their dot: to be sent again.
    pub(crate) returned: &'a mut Vec<Task>,
}

impl Context<'_> {
    fn next(&mut self) -> Next {
        if !self.supply.is_stopped()
            && let Some(task) = self.returned.pop()
        {
            return Next::Task(task);
        }
        self.supply.next()
    }
}

impl Session {
    pub(crate) fn new(wants_pipelining: bool, per_connection: u64) -> Self {
        Self {
            expected: VecDeque::from([Stage::Banner]),
            held: VecDeque::new(),
            pipelining: false,
            wants_pipelining,
            current: None,
            following: None,
            left: if per_connection == 0 {
                u64::MAX
            } else {
                per_connection
            },
            has_delivered: false,
            reply: Vec::new(),
            output: Output::default(),
        }
    }

    /// True while a reply or a write is awaited: then the time-out counts.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.expected.is_empty() || self.has_output(usize::MAX)
    }

    /// Whether any message was taken over this connection.
    pub(crate) const fn has_delivered(&self) -> bool {
        self.has_delivered
    }

    fn has_output(&self, body: usize) -> bool {
        let output = &self.output;
        let all = output.head.len()
            + if output.has_body {
                body.min(1 << 40)
            } else {
                0
            }
            + output.tail.len();
        output.written < all
    }

    /// The segments still to be written, for one vectored write; empty when there are none.
    pub(crate) fn segments<'a>(&'a self, body: &'a [u8]) -> [IoSlice<'a>; 3] {
        let output = &self.output;
        let body = if output.has_body { body } else { &[] };
        let mut skip = output.written;
        [&output.head[..], body, &output.tail[..]].map(|part| {
            let from = skip.min(part.len());
            skip -= from;
            IoSlice::new(&part[from..])
        })
    }

    /// So many octets went out.
    pub(crate) fn handle_written(&mut self, octets: usize, body: usize) {
        self.output.written += octets;
        // The body ends with its dot; the next envelope may still be waiting behind it.
        if self.output.has_body
            && self.output.written >= self.output.head.len() + body
            && let Some(current) = &mut self.current
        {
            current.dot_at.get_or_insert_with(Instant::now);
        }
        if self.has_output(body) {
            return;
        }
        self.output.head.clear();
        self.output.tail.clear();
        (self.output.has_body, self.output.written) = (false, 0);
    }

    /// Takes replies.
    pub(crate) fn handle_bytes(&mut self, input: &[u8], context: &mut Context<'_>) -> Wish {
        let mut rest = input;
        let mut wish = Wish::Go;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, next) = rest.split_at(end + 1);
            rest = next;
            self.reply.extend_from_slice(line);
            let start = self.reply.len() - line.len();
            let start = self.reply[..start]
                .iter()
                .rposition(|octet| *octet == b'\n')
                .map_or(0, |at| at + 1);
            if self.reply.get(start + 3) == Some(&b'-') {
                continue;
            }
            let reply = std::mem::take(&mut self.reply);
            wish = self.handle_reply(&reply, start, context);
            self.reply = reply;
            self.reply.clear();
            if matches!(wish, Wish::Close | Wish::Fail) {
                return wish;
            }
        }
        self.reply.extend_from_slice(rest);
        if self.reply.len() > REPLY_OCTETS_MAX {
            context.tally.error("endless reply");
            return Wish::Fail;
        }
        wish
    }

    fn handle_reply(&mut self, reply: &[u8], last_line: usize, context: &mut Context<'_>) -> Wish {
        let code = reply
            .get(last_line..last_line + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code: u16 = code.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let Some(stage) = self
            .expected
            .pop_front()
            .filter(|_| (200..600).contains(&code))
        else {
            context
                .tally
                .error(&format!("not an SMTP reply: {}", excerpt(reply)));
            return Wish::Fail;
        };
        if code >= 400 {
            context.tally.error(&format!(
                "{code} to {}: {}",
                stage.name(),
                excerpt(&reply[(last_line + 4).min(reply.len())..])
            ));
        }
        if code == 421 {
            return Wish::Fail;
        }
        match stage {
            Stage::Banner if code < 300 => self.command(Stage::Ehlo, b"EHLO load.test\r\n"),
            Stage::Ehlo if code < 300 => {
                self.pipelining =
                    self.wants_pipelining && memchr::memmem::find(reply, b"PIPELINING").is_some();
                return self.begin(context);
            }
            Stage::Banner | Stage::Ehlo => return Wish::Fail,
            Stage::Mail => {}
            Stage::Rcpt if code < 300 => {
                if let Some(current) = &mut self.current {
                    current.accepted += 1;
                }
            }
            Stage::Rcpt => context.tally.recipients_refused += 1,
            Stage::Data => return self.handle_data(code, context),
            Stage::Dot => return self.handle_dot(code, context),
            Stage::Rset => return self.begin(context),
            Stage::Quit => return Wish::Close,
        }
        self.send_held();
        Wish::Go
    }

    fn handle_data(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        let Some(current) = self.current.take() else {
            return Wish::Fail;
        };
        if code != 354 {
            context.tally.failed += 1;
            context.supply.settle();
            // What was refused half-way may have left a sender behind.
            self.command(Stage::Rset, b"RSET\r\n");
            return Wish::Go;
        }
        if current.accepted == 0 {
            // 354 without a recipient: nothing but the dot, whatever it is answered.
            self.output.head.extend_from_slice(b".\r\n");
        } else {
            context.template.header(current.task, &mut self.output.head);
            self.output.has_body = true;
        }
        self.expected.push_back(Stage::Dot);
        self.current = Some(current);
        if self.pipelining {
            self.follow(context);
        }
        Wish::Go
    }

    /// Lets the next envelope, or QUIT, ride behind the dot.
    fn follow(&mut self, context: &mut Context<'_>) {
        if self.left == 0 {
            self.output.tail.extend_from_slice(b"QUIT\r\n");
            self.expected.push_back(Stage::Quit);
            return;
        }
        if let Next::Task(task) = context.next() {
            let mut envelope = std::mem::take(&mut self.output.tail);
            self.following = Some(self.envelope(task, &mut envelope, context.template));
            self.output.tail = envelope;
        }
    }

    fn handle_dot(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        let Some(current) = self.current.take() else {
            return Wish::Fail;
        };
        context.supply.settle();
        if code < 300 && current.accepted > 0 {
            let (now, tally) = (Instant::now(), &mut *context.tally);
            self.has_delivered = true;
            tally.accepted += 1;
            tally.recipients_accepted += u64::from(current.accepted);
            tally.octets += context.template.body.len() as u64;
            let began = current.task.planned.unwrap_or(current.began);
            measure::record(&mut tally.dot, now - current.dot_at.unwrap_or(now));
            measure::record(&mut tally.transaction, now.saturating_duration_since(began));
        } else {
            context.tally.failed += 1;
        }
        self.current = self.following.take();
        if self.current.is_none() && self.expected.is_empty() {
            self.begin(context)
        } else {
            Wish::Go
        }
    }

    /// Starts the next transaction, or ends the session.
    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Wish {
        let next = if self.left == 0 {
            Next::Done
        } else {
            context.next()
        };
        match next {
            Next::At(at) => return Wish::Sleep(at),
            Next::Done => self.command(Stage::Quit, b"QUIT\r\n"),
            Next::Task(task) if self.pipelining => {
                let mut envelope = std::mem::take(&mut self.output.head);
                self.current = Some(self.envelope(task, &mut envelope, context.template));
                self.output.head = envelope;
            }
            Next::Task(task) => {
                self.current = Some(self.hold(task, context.template));
                self.send_held();
            }
        }
        Wish::Go
    }

    fn envelope(&mut self, task: Task, out: &mut Vec<u8>, template: &Template) -> Transaction {
        self.left -= 1;
        template.mail(out);
        self.expected.push_back(Stage::Mail);
        for number in 0..template.recipients {
            template.recipient(task, number, out);
            self.expected.push_back(Stage::Rcpt);
        }
        out.extend_from_slice(b"DATA\r\n");
        self.expected.push_back(Stage::Data);
        Transaction {
            task,
            began: Instant::now(),
            accepted: 0,
            dot_at: None,
        }
    }

    fn hold(&mut self, task: Task, template: &Template) -> Transaction {
        self.left -= 1;
        let mut mail = Vec::new();
        template.mail(&mut mail);
        self.held.push_back((Stage::Mail, mail));
        for number in 0..template.recipients {
            let mut recipient = Vec::new();
            template.recipient(task, number, &mut recipient);
            self.held.push_back((Stage::Rcpt, recipient));
        }
        self.held.push_back((Stage::Data, b"DATA\r\n".to_vec()));
        Transaction {
            task,
            began: Instant::now(),
            accepted: 0,
            dot_at: None,
        }
    }

    fn send_held(&mut self) {
        if self.expected.is_empty()
            && let Some((stage, command)) = self.held.pop_front()
        {
            self.command(stage, &command);
        }
    }

    fn command(&mut self, stage: Stage, command: &[u8]) {
        self.output.head.extend_from_slice(command);
        self.expected.push_back(stage);
    }

    /// The connection is gone: what was not sent comes back, what is without an answer is counted so.
    pub(crate) fn abandon(&mut self, context: &mut Context<'_>) {
        if let Some(current) = self.current.take() {
            if current.dot_at.is_some() {
                context.tally.unanswered += 1;
                context.supply.settle();
            } else {
                context.returned.push(current.task);
            }
        }
        if let Some(following) = self.following.take() {
            context.returned.push(following.task);
        }
    }
}

/// A reply's text for a count of errors: printable, short, digits as `#` so that ids do not make each one different.
fn excerpt(reply: &[u8]) -> String {
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
