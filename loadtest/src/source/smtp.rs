//! One SMTP session of the source, without its socket: replies in, segments out. One per connection.

use super::dialogue::{Context, Course, Transaction, Wish, excerpt};
use super::supply::{Next, Task};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::collections::VecDeque;

/// A reply, all its lines together, is no longer than this.
const REPLY_OCTETS_MAX: usize = 64 << 10;

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Banner,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// A BDAT that is not the last.
    Chunk,
    /// The final dot, or the last BDAT.
    Dot,
    Rset,
    Quit,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Chunk => "BDAT",
            Self::Dot => "final dot",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

/// How AUTH is done (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mechanism {
    Plain,
    Login,
}

/// AUTH as it goes over the wire. One per run.
pub(crate) struct Login {
    mechanism: Mechanism,
    command: Vec<u8>,
    /// What each 334 is answered with, in turn.
    answers: Vec<Vec<u8>>,
}

impl Login {
    pub(crate) fn new(mechanism: Mechanism, user: &str, password: &str) -> Self {
        let line = |text: &str| format!("{}\r\n", BASE64_STANDARD.encode(text)).into_bytes();
        let (command, answers) = match mechanism {
            Mechanism::Plain => {
                let mut command = b"AUTH PLAIN ".to_vec();
                command.extend(line(&format!("\0{user}\0{password}")));
                (command, Vec::new())
            }
            Mechanism::Login => (b"AUTH LOGIN\r\n".to_vec(), vec![line(user), line(password)]),
        };
        Self {
            mechanism,
            command,
            answers,
        }
    }

    const fn name(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// A command held back where pipelining is not to be had.
enum Held {
    Command(Stage, Vec<u8>),
    /// The first BDAT, made when its turn comes.
    Chunk,
}

/// The dialogue of one connection.
pub(crate) struct Smtp {
    expected: VecDeque<Stage>,
    held: VecDeque<Held>,
    pipelining: bool,
    is_secured: bool,
    /// Answers of the AUTH exchange given so far.
    answered: usize,
    pub(crate) course: Course,
    /// The transaction pipelined behind the current one.
    following: Option<Transaction>,
    reply: Vec<u8>,
}

impl Smtp {
    pub(crate) fn new(per_connection: u64) -> Self {
        Self {
            expected: VecDeque::from([Stage::Banner]),
            held: VecDeque::new(),
            pipelining: false,
            is_secured: false,
            answered: 0,
            course: Course::new(per_connection),
            following: None,
            reply: Vec::new(),
        }
    }

    pub(crate) fn is_expecting(&self) -> bool {
        !self.expected.is_empty()
    }

    /// TLS stands: the session starts anew (RFC 3207 §4.2).
    pub(crate) fn handle_secured(&mut self) {
        self.is_secured = true;
        if !self.expected.contains(&Stage::Banner) {
            self.command(Stage::Ehlo, b"EHLO load.test\r\n");
        }
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
            if matches!(wish, Wish::Secure) && !rest.is_empty() {
                context
                    .tally
                    .error("plain octets behind the reply to STARTTLS");
                return Wish::Fail;
            }
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
            let is_chunk = stage == Stage::Dot && context.manner.bdat.is_some();
            let name = if is_chunk { Stage::Chunk } else { stage }.name();
            context.tally.error(&format!(
                "{code} to {name}: {}",
                excerpt(&reply[(last_line + 4).min(reply.len())..])
            ));
        }
        if code == 421 {
            return Wish::Fail;
        }
        match stage {
            Stage::Banner if code < 300 => self.command(Stage::Ehlo, b"EHLO load.test\r\n"),
            Stage::Ehlo if code < 300 => return self.handle_offers(reply, context),
            Stage::StartTls if code < 300 => return Wish::Secure,
            Stage::Auth if code < 400 => return self.handle_challenge(code, context),
            Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth => return Wish::Fail,
            Stage::Mail => {}
            Stage::Rcpt if code < 300 => {
                if let Some(current) = &mut self.course.current {
                    current.accepted += 1;
                }
            }
            Stage::Rcpt => context.tally.recipients_refused += 1,
            Stage::Data => return self.handle_data(code, context),
            Stage::Chunk => return self.handle_chunk(code, context),
            Stage::Dot => return self.handle_dot(code, context),
            Stage::Rset => return self.begin(context),
            Stage::Quit => return Wish::Close,
        }
        self.send_held(context);
        Wish::Go
    }

    /// What EHLO was answered with: secures, logs in or begins, as the run's manner wants it.
    fn handle_offers(&mut self, reply: &[u8], context: &mut Context<'_>) -> Wish {
        let manner = context.manner;
        let missing = if manner.starttls && !self.is_secured {
            if offers(reply, "STARTTLS", "") {
                self.command(Stage::StartTls, b"STARTTLS\r\n");
                return Wish::Go;
            }
            "STARTTLS is not offered".to_owned()
        } else if manner.bdat.is_some() && !offers(reply, "CHUNKING", "") {
            "CHUNKING is not offered".to_owned()
        } else {
            self.pipelining = manner.pipelining && offers(reply, "PIPELINING", "");
            let Some(login) = &manner.login else {
                return self.begin(context);
            };
            if offers(reply, "AUTH", login.name()) {
                self.command(Stage::Auth, &login.command);
                return Wish::Go;
            }
            format!("AUTH {} is not offered", login.name())
        };
        context.tally.error(&missing);
        Wish::Fail
    }

    fn handle_challenge(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        if code < 300 {
            return self.begin(context);
        }
        let answers = context.manner.login.as_ref().map(|login| &login.answers);
        let Some(answer) = answers.and_then(|answers| answers.get(self.answered)) else {
            context.tally.error("AUTH: one question too many");
            return Wish::Fail;
        };
        self.answered += 1;
        self.command(Stage::Auth, answer);
        Wish::Go
    }

    fn handle_data(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        let Some(mut current) = self.course.current.take() else {
            return Wish::Fail;
        };
        if code != 354 {
            return self.give_up(&current, context);
        }
        if current.accepted == 0 {
            // 354 without a recipient: nothing but the dot, whatever it is answered.
            self.course.output.head.extend_from_slice(b".\r\n");
        } else {
            let before = self.course.output.head.len();
            context
                .template
                .header(current.task, &mut self.course.output.head);
            self.course.output.body = context.template.body_with_dot(current.task);
            self.course.output.ends_message = true;
            current.octets = self.course.output.head.len() - before + self.course.output.body.len();
        }
        self.expected.push_back(Stage::Dot);
        self.course.current = Some(current);
        if self.pipelining {
            self.follow(context);
        }
        Wish::Go
    }

    /// What was refused half-way may have left a sender behind.
    fn give_up(&mut self, current: &Transaction, context: &mut Context<'_>) -> Wish {
        current.fail(context);
        self.command(Stage::Rset, b"RSET\r\n");
        Wish::Go
    }

    /// Lets the next envelope, or QUIT, ride behind the dot.
    fn follow(&mut self, context: &mut Context<'_>) {
        if self.course.left == 0 {
            self.course.output.tail.extend_from_slice(b"QUIT\r\n");
            self.expected.push_back(Stage::Quit);
            return;
        }
        if let Next::Task(task) = context.next() {
            let mut envelope = std::mem::take(&mut self.course.output.tail);
            self.following = Some(self.envelope(task, &mut envelope, context));
            self.course.output.tail = envelope;
        }
    }

    fn handle_chunk(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        if code < 300 {
            self.send_chunk(context);
            return Wish::Go;
        }
        match self.course.current.take() {
            Some(current) => self.give_up(&current, context),
            None => Wish::Fail,
        }
    }

    fn handle_dot(&mut self, code: u16, context: &mut Context<'_>) -> Wish {
        let Some(current) = self.course.current.take() else {
            return Wish::Fail;
        };
        if code < 300 && current.accepted > 0 {
            self.course.has_delivered = true;
            current.accept(context);
        } else if context.manner.bdat.is_some() {
            // RFC 3030 §2: after a failed BDAT only RSET is sure to be heard.
            return self.give_up(&current, context);
        } else {
            current.fail(context);
        }
        self.course.current = self.following.take();
        if self.course.current.is_none() && self.expected.is_empty() {
            self.begin(context)
        } else {
            Wish::Go
        }
    }

    /// Starts the next transaction, or ends the session.
    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Wish {
        let next = if self.course.left == 0 {
            Next::Done
        } else {
            context.next()
        };
        match next {
            Next::At(at) => return Wish::Sleep(at),
            Next::Done => self.command(Stage::Quit, b"QUIT\r\n"),
            Next::Task(task) if self.pipelining => {
                let mut envelope = std::mem::take(&mut self.course.output.head);
                self.course.current = Some(self.envelope(task, &mut envelope, context));
                self.course.output.head = envelope;
                if context.manner.bdat.is_some() {
                    self.send_chunk(context);
                }
            }
            Next::Task(task) => {
                self.course.current = Some(self.hold(task, context));
                self.send_held(context);
            }
        }
        Wish::Go
    }

    fn envelope(&mut self, task: Task, out: &mut Vec<u8>, context: &Context<'_>) -> Transaction {
        let template = context.template;
        self.course.left -= 1;
        template.mail(task, out);
        self.expected.push_back(Stage::Mail);
        for number in 0..template.recipients {
            template.recipient(task, number, out);
            self.expected.push_back(Stage::Rcpt);
        }
        if context.manner.bdat.is_none() {
            out.extend_from_slice(b"DATA\r\n");
            self.expected.push_back(Stage::Data);
        }
        Transaction::new(task)
    }

    fn hold(&mut self, task: Task, context: &Context<'_>) -> Transaction {
        let template = context.template;
        self.course.left -= 1;
        let mut mail = Vec::new();
        template.mail(task, &mut mail);
        self.held.push_back(Held::Command(Stage::Mail, mail));
        for number in 0..template.recipients {
            let mut recipient = Vec::new();
            template.recipient(task, number, &mut recipient);
            self.held.push_back(Held::Command(Stage::Rcpt, recipient));
        }
        self.held.push_back(if context.manner.bdat.is_some() {
            Held::Chunk
        } else {
            Held::Command(Stage::Data, b"DATA\r\n".to_vec())
        });
        Transaction::new(task)
    }

    fn send_held(&mut self, context: &Context<'_>) {
        if !self.expected.is_empty() {
            return;
        }
        match self.held.pop_front() {
            Some(Held::Command(stage, command)) => self.command(stage, &command),
            Some(Held::Chunk) => self.send_chunk(context),
            None => {}
        }
    }

    /// The next BDAT of the current message; the header goes out whole with the first.
    fn send_chunk(&mut self, context: &Context<'_>) {
        let (Some(current), Some(chunk)) = (&mut self.course.current, context.manner.bdat) else {
            return;
        };
        let body = context.template.body_of(current.task);
        let mut header = Vec::new();
        if current.octets == 0 {
            context.template.header(current.task, &mut header);
            current.header_octets = header.len();
        }
        let room = chunk.saturating_sub(header.len());
        let start = body.start + current.octets.saturating_sub(current.header_octets);
        let end = body.end.min(start.saturating_add(room));
        current.octets += header.len() + (end - start);
        let is_last = end == body.end;
        let last = if is_last { " LAST" } else { "" };
        let command = format!("BDAT {}{last}\r\n", header.len() + (end - start));
        self.course
            .output
            .head
            .extend_from_slice(command.as_bytes());
        self.course.output.head.extend_from_slice(&header);
        self.course.output.body = start..end;
        self.course.output.ends_message = is_last;
        self.expected
            .push_back(if is_last { Stage::Dot } else { Stage::Chunk });
    }

    fn command(&mut self, stage: Stage, command: &[u8]) {
        self.course.output.head.extend_from_slice(command);
        self.expected.push_back(stage);
    }

    /// The connection is gone.
    pub(crate) fn abandon(&mut self, context: &mut Context<'_>) {
        for transaction in [self.course.current.take(), self.following.take()]
            .into_iter()
            .flatten()
        {
            transaction.abandon(context);
        }
    }
}

/// Whether an EHLO reply has this keyword with this parameter (RFC 5321 §4.1.1.1: in any case).
fn offers(reply: &[u8], keyword: &str, parameter: &str) -> bool {
    String::from_utf8_lossy(reply).lines().any(|line| {
        let mut words = line.get(4..).unwrap_or("").split_ascii_whitespace();
        let is_keyword = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        is_keyword
            && (parameter.is_empty() || words.any(|word| word.eq_ignore_ascii_case(parameter)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_whole_words_in_any_case() {
        let reply =
            b"250-mx.test STARTTLS\r\n250-xchunking\r\n250-auth LOGIN plain\r\n250 Pipelining\r\n";
        assert!(offers(reply, "PIPELINING", "") && offers(reply, "AUTH", "PLAIN"));
        assert!(!offers(reply, "CHUNKING", "") && !offers(reply, "STARTTLS", ""));
        assert!(!offers(reply, "AUTH", "CRAM-MD5"));
    }
}
