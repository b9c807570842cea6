//! One inbound SMTP session as a machine: octets in, replies and requests to the node out.
//!
//! It never says 250 to a message before [`Session::handle_committed`]. Replies coalesce until the
//! input is used up, so a pipelined group costs one write. An idle session holds no buffer.

use core::mem;
use core::net::SocketAddr;
use std::io::Write as _;
use std::sync::Arc;

use memchr::memchr;

use super::command::{self, Command, Fault};
use super::data::{self, ContentFault, Framing, LineEnds, Scanner};
pub use super::server_interface::{
    Action, Config, Limits, Refusals, Rejection, Rejections, Submission,
};
use crate::words::{Address, Committed, Envelope, MessageId, Moment, Recipient, Reply};

/// Replies held before the client has to read some: a pipelining flood cannot make us hold more.
const OUTPUT_OCTETS_MAX: usize = 16 * 1024;
/// Room made ahead for a message that announced its SIZE: a lie costs no more than this.
const RESERVE_OCTETS_MAX: u64 = 256 * 1024;
/// RFC 5321 §6.3: hops from which on we call it a loop.
const RECEIVED_MAX: u16 = 100;

#[derive(Debug)]
enum Mode {
    Command,
    /// The rest of an over-long line, up to its LF, and the octets that it announced as a BDAT.
    LongLine {
        announced: Option<u64>,
    },
    Data(Scanner),
    /// Inside a BDAT chunk with `left` octets to come.
    Chunk {
        left: u64,
        last: bool,
    },
    /// A refused BDAT's octets.
    Skip(u64),
    /// Whatever comes is ignored.
    Over,
}

#[derive(Debug)]
enum Waiting {
    Nothing,
    Admit(Recipient),
    Open,
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    None,
    Helo,
    Ehlo,
}

#[derive(Debug)]
struct Transaction {
    envelope: Envelope,
    size: Option<u64>,
    /// A BDAT was seen: its scanner.
    chunks: Option<Scanner>,
    /// The chunk that waits for `Open`.
    first_chunk: (u64, bool),
    data: Vec<u8>,
    prefix_len: usize,
}

/// One inbound connection.
#[derive(Debug)]
pub struct Session {
    refusals: Refusals,
    rejections: Rejections,
    config: Arc<Config>,
    peer: SocketAddr,
    began_at: Moment,
    active_at: Moment,
    mode: Mode,
    waiting: Waiting,
    hello: Hello,
    helo: Arc<str>,
    transaction: Option<Box<Transaction>>,
    /// The start of a line whose end has not come.
    pending: Vec<u8>,
    output: Vec<u8>,
    request: Option<Action>,
    send_due: bool,
    more_input: bool,
    greeted: bool,
    close_due: bool,
    shutting: bool,
    commands: u32,
    errors: u32,
    messages: u32,
}

impl Session {
    /// The connection was accepted; the first action sends the greeting.
    pub fn new(config: Arc<Config>, peer: SocketAddr, now: Moment) -> Self {
        let mut session = Self {
            refusals: Refusals::default(),
            rejections: Rejections::default(),
            config,
            peer,
            began_at: now,
            active_at: now,
            mode: Mode::Command,
            waiting: Waiting::Nothing,
            hello: Hello::None,
            helo: "".into(),
            transaction: None,
            pending: Vec::new(),
            output: Vec::new(),
            request: None,
            send_due: false,
            more_input: false,
            greeted: false,
            close_due: false,
            shutting: false,
            commands: 0,
            errors: 0,
            messages: 0,
        };
        let config = Arc::clone(&session.config);
        session.write(format_args!("220 {} {}", config.hostname, config.greeting));
        session
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The name given in EHLO or HELO; empty before.
    pub fn helo(&self) -> &Arc<str> {
        &self.helo
    }

    /// The open transaction, until its `Commit` has taken it.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|t| &t.envelope)
    }

    /// Whether the client said EHLO.
    pub const fn is_esmtp(&self) -> bool {
        matches!(self.hello, Hello::Ehlo)
    }

    /// Octets of content held for the message under way.
    pub fn held_octets(&self) -> usize {
        self.transaction.as_ref().map_or(0, |t| t.data.capacity())
    }

    /// What was refused since this was last asked, for whoever counts it.
    pub const fn take_refusals(&mut self) -> Refusals {
        mem::replace(
            &mut self.refusals,
            Refusals {
                limit: 0,
                content: 0,
                unfinished: 0,
            },
        )
    }

    /// Refused MAIL, RCPT, DATA and BDAT since this was last asked, for whoever tells of them.
    pub const fn take_rejections(&mut self) -> Rejections {
        mem::replace(&mut self.rejections, Rejections::NONE)
    }

    /// Replies to write, left empty behind: an idle session keeps no buffer.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.send_due = false;
        mem::take(&mut self.output)
    }

    /// Takes what was read and gives how much of it is used up. Less than all when an answer is
    /// awaited or replies must be sent first: carry out the actions and offer the rest again.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Moment) -> usize {
        if !self.greeted && !bytes.is_empty() && !matches!(self.mode, Mode::Over) {
            // RFC 5321 §4.3.1: a client waits for the greeting; those who do not are bots.
            self.output.clear();
            self.close_with("554 5.5.0 You spoke before the greeting");
        }
        let mut used = 0;
        while used < bytes.len() && self.is_reading() {
            used += self.step(&bytes[used..], now);
        }
        self.more_input = used < bytes.len();
        used
    }

    fn is_reading(&self) -> bool {
        matches!(self.waiting, Waiting::Nothing) && self.output.len() < OUTPUT_OCTETS_MAX
            || matches!(self.mode, Mode::Over)
    }

    fn step(&mut self, bytes: &[u8], now: Moment) -> usize {
        match &mut self.mode {
            Mode::Over => bytes.len(),
            Mode::Command => self.step_command(bytes, now),
            Mode::LongLine { announced } => match (memchr(b'\n', bytes), *announced) {
                (None, _) => bytes.len(),
                (Some(at), announced) => {
                    self.mode = Mode::Command;
                    self.active_at = now;
                    if let Some(octets) = announced {
                        self.skip_chunk(octets);
                    }
                    self.refuse("500 5.5.2 Line too long");
                    at + 1
                }
            },
            Mode::Data(scanner) => {
                self.active_at = now;
                let open = self
                    .transaction
                    .as_mut()
                    .expect("content has a transaction");
                let (used, end) = scanner.scan(bytes, &mut open.data);
                if end {
                    let scanner = scanner.clone();
                    self.finish_content(&scanner);
                }
                used
            }
            Mode::Skip(left) => {
                self.active_at = now;
                let used = at_most(bytes.len(), *left);
                *left -= used as u64;
                if *left == 0 {
                    self.mode = Mode::Command;
                }
                used
            }
            Mode::Chunk { .. } => self.step_chunk(bytes, now),
        }
    }

    fn step_command(&mut self, bytes: &[u8], now: Moment) -> usize {
        if self.pending.is_empty() && bytes[0] == 0x16 {
            // A TLS ClientHello has no line end to wait for.
            self.close_with("421 4.7.0 This port does not begin with TLS");
            return bytes.len();
        }
        let max = self.config.limits.command_octets_max.max(512);
        let line_end = memchr(b'\n', bytes);
        let len = line_end.map_or(bytes.len(), |at| at + 1);
        if self.pending.len() + len > max {
            let mut head = mem::take(&mut self.pending);
            head.extend_from_slice(&bytes[..len.min(max)]);
            return self.give_up_line(&head, line_end.unwrap_or(len));
        }
        if line_end.is_none() {
            self.pending.extend_from_slice(bytes);
            return len;
        }
        self.active_at = now;
        if self.pending.is_empty() {
            self.handle_line(&bytes[..len]);
        } else {
            let mut line = mem::take(&mut self.pending);
            line.extend_from_slice(&bytes[..len]);
            self.handle_line(&line);
        }
        len
    }

    /// An over-long line is not kept; `head` is what there was of it, and `used` octets were read.
    fn give_up_line(&mut self, head: &[u8], used: usize) -> usize {
        match command::announced_in_head(head) {
            Ok(announced) => self.mode = Mode::LongLine { announced },
            // Its content could not be told from commands.
            Err(_) => self.close_with("421 4.7.0 Line too long before a chunk"),
        }
        used
    }

    fn handle_line(&mut self, line: &[u8]) {
        self.commands += 1;
        if self.commands > self.config.limits.commands_max {
            return self.close_with("421 4.7.0 Too many commands");
        }
        let lax = self.config.line_ends == LineEnds::Normalise;
        let text = match line.strip_suffix(b"\r\n") {
            Some(text) => text,
            None if lax => &line[..line.len() - 1],
            None => return self.refuse_line(line, "500 5.5.2 Lines end with CR LF"),
        };
        match command::parse(text) {
            Ok(command) => self.handle_command(command),
            Err(Fault::Foreign) => self.close_with(Fault::Foreign.reply()),
            Err(fault) => self.refuse_line(line, fault.reply()),
        }
    }

    fn refuse_line(&mut self, line: &[u8], reply: &str) {
        if let Some(octets) = command::announced(line) {
            self.skip_chunk(octets);
        }
        self.refuse(reply);
    }

    fn handle_command(&mut self, command: Command<'_>) {
        match command {
            Command::Ehlo(name) => self.handle_hello(name, Hello::Ehlo),
            Command::Helo(name) => self.handle_hello(name, Hello::Helo),
            Command::Mail(rest) => self.handle_mail(rest),
            Command::Rcpt(rest) => self.handle_rcpt(rest),
            Command::Data => self.handle_data(),
            Command::Bdat { octets, last } => self.handle_bdat(octets, last),
            Command::Rset => {
                self.transaction = None;
                self.say("250 2.0.0 Ok");
            }
            Command::Noop => self.say("250 2.0.0 Ok"),
            Command::Quit => self.close_with("221 2.0.0 Bye"),
            Command::Help => self.say("214 2.0.0 See RFC 5321"),
            Command::Vrfy => self.say("252 2.0.0 Send some mail, it will be tried"),
        }
    }

    fn handle_hello(&mut self, name: &str, hello: Hello) {
        self.transaction = None;
        self.helo = name.into();
        self.hello = hello;
        let config = Arc::clone(&self.config);
        if hello == Hello::Helo {
            return self.write(format_args!("250 {}", config.hostname));
        }
        self.write(format_args!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n\
             250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250 HELP",
            config.hostname, config.limits.message_octets_max
        ));
    }

    fn handle_mail(&mut self, rest: &[u8]) {
        let limits = &self.config.limits;
        if self.hello == Hello::None {
            return self.reject("MAIL", "503 5.5.1 Say EHLO first");
        }
        if self.transaction.is_some() {
            return self.reject("MAIL", "503 5.5.1 A transaction is open");
        }
        if limits.messages_max.is_some_and(|max| self.messages >= max) {
            let line = "421 4.7.0 Too many messages in one session";
            self.note("MAIL", line);
            return self.close_with(line);
        }
        let octets_max = limits.message_octets_max as u64;
        let mail = match command::parse_mail(rest) {
            Ok(mail) => mail,
            Err(fault) => return self.reject("MAIL", fault.reply()),
        };
        if mail.size.is_some_and(|size| size > octets_max) {
            self.refusals.limit += 1;
            let line = Fault::SizeTooLarge.reply();
            self.rejections.keep_line("MAIL", mail.sender, line);
            return self.refuse(line);
        }
        self.transaction = Some(Box::new(Transaction {
            envelope: Envelope {
                sender: mail.sender,
                body: mail.body,
                smtputf8: mail.smtputf8,
                ret: mail.ret,
                envid: mail.envid,
                recipients: Vec::new(),
            },
            size: mail.size,
            chunks: None,
            first_chunk: (0, false),
            data: Vec::new(),
            prefix_len: 0,
        }));
        self.say("250 2.1.0 Ok");
    }

    fn handle_rcpt(&mut self, rest: &[u8]) {
        let Some(open) = self.transaction.as_ref().filter(|t| t.chunks.is_none()) else {
            return self.reject("RCPT", "503 5.5.1 Say MAIL first");
        };
        let max = self.config.limits.recipients_max.min(usize::from(u16::MAX));
        if open.envelope.recipients.len() >= max {
            self.refusals.limit += 1;
            let line = "452 4.5.3 Too many recipients";
            self.note("RCPT", line);
            return self.say(line);
        }
        let smtputf8 = open.envelope.smtputf8;
        match command::parse_rcpt(rest, smtputf8, &self.config.hostname) {
            Ok(recipient) => {
                self.request = Some(Action::Admit {
                    recipient: recipient.address.clone(),
                    sender: open.envelope.sender.clone(),
                });
                self.waiting = Waiting::Admit(recipient);
            }
            Err(fault) => self.reject("RCPT", fault.reply()),
        }
    }

    /// The answer to [`Action::Admit`]; `Some` is the address that was meant.
    pub fn handle_admitted(&mut self, verdict: Result<Option<Address>, Reply>, _now: Moment) {
        let Waiting::Admit(mut recipient) = mem::replace(&mut self.waiting, Waiting::Nothing)
        else {
            return;
        };
        match (verdict, &mut self.transaction) {
            (Ok(meant), Some(open)) => {
                if let Some(address) = meant {
                    recipient.address = address;
                }
                open.envelope.recipients.push(recipient);
                self.say("250 2.1.5 Ok");
            }
            (Ok(_), None) => self.reject("RCPT", "503 5.5.1 Say MAIL first"),
            (Err(reply), _) => {
                let sender = self.envelope().and_then(|e| e.sender.clone());
                let recipient = Some(recipient.address);
                self.rejections
                    .keep("RCPT", sender, recipient, reply.clone());
                self.write_reply(&reply);
                self.count_error();
            }
        }
        self.end_if_shutting();
    }

    fn handle_data(&mut self) {
        match &self.transaction {
            None => self.reject("DATA", "503 5.5.1 Say MAIL first"),
            Some(open) if open.chunks.is_some() => self.reject("DATA", "503 5.5.1 BDAT has begun"),
            Some(open) if open.envelope.recipients.is_empty() => {
                self.reject("DATA", "554 5.5.1 No valid recipients");
            }
            Some(_) => self.ask_open(),
        }
    }

    fn ask_open(&mut self) {
        self.request = Some(Action::Open {
            helo: Arc::clone(&self.helo),
            esmtp: self.hello == Hello::Ehlo,
            smtputf8: self.envelope().is_some_and(|e| e.smtputf8),
        });
        self.waiting = Waiting::Open;
    }

    /// RFC 3030 §2: a chunk's octets follow at once, so they are read even when refused.
    fn handle_bdat(&mut self, octets: u64, last: bool) {
        let max = self.config.limits.message_octets_max as u64;
        let why = match &mut self.transaction {
            None => "503 5.5.1 Say MAIL first",
            Some(open) if open.envelope.recipients.is_empty() => "554 5.5.1 No valid recipients",
            Some(_) if octets > max => {
                self.refusals.limit += 1;
                Fault::SizeTooLarge.reply()
            }
            Some(open) if open.chunks.is_some() => {
                self.mode = Mode::Chunk { left: octets, last };
                return self.end_chunk_if_whole();
            }
            Some(open) => {
                let framing = Framing::Counted;
                open.chunks = Some(Scanner::new(framing, self.config.line_ends, usize::MAX));
                open.first_chunk = (octets, last);
                return self.ask_open();
            }
        };
        self.note("BDAT", why);
        self.skip_chunk(octets);
        self.refuse(why);
    }

    fn skip_chunk(&mut self, octets: u64) {
        self.transaction = None;
        self.mode = match octets {
            0 => Mode::Command,
            left => Mode::Skip(left),
        };
    }

    /// The answer to [`Action::Open`]: what the message begins with, or why none can be taken.
    pub fn handle_opened(&mut self, prefix: Result<Vec<u8>, Reply>, now: Moment) {
        if !matches!(self.waiting, Waiting::Open) {
            return;
        }
        self.waiting = Waiting::Nothing;
        self.active_at = now;
        let Some(open) = &mut self.transaction else {
            return;
        };
        let (left, last) = open.first_chunk;
        match prefix {
            _ if self.shutting => {}
            Err(reply) => {
                let command = content_command(open);
                let sender = open.envelope.sender.take();
                self.rejections.keep(command, sender, None, reply.clone());
                self.skip_chunk(left);
                self.write_reply(&reply);
            }
            Ok(mut data) => {
                let limits = &self.config.limits;
                let length_max = data.len().saturating_add(limits.message_octets_max);
                let room = open.size.unwrap_or(0).min(RESERVE_OCTETS_MAX);
                data.reserve(usize::try_from(room).unwrap_or(0));
                open.prefix_len = data.len();
                open.data = data;
                let line_ends = self.config.line_ends;
                if let Some(scanner) = &mut open.chunks {
                    *scanner = Scanner::new(Framing::Counted, line_ends, length_max);
                    self.mode = Mode::Chunk { left, last };
                    self.end_chunk_if_whole();
                } else {
                    self.mode = Mode::Data(Scanner::new(Framing::Dots, line_ends, length_max));
                    self.say("354 End data with <CR><LF>.<CR><LF>");
                }
            }
        }
        self.end_if_shutting();
    }

    fn step_chunk(&mut self, bytes: &[u8], now: Moment) -> usize {
        let Mode::Chunk { left, .. } = &mut self.mode else {
            return 0;
        };
        self.active_at = now;
        let used = at_most(bytes.len(), *left);
        *left -= used as u64;
        let open = self
            .transaction
            .as_mut()
            .expect("a chunk has a transaction");
        let scanner = open.chunks.as_mut().expect("a chunk has a scanner");
        scanner.scan(&bytes[..used], &mut open.data);
        self.end_chunk_if_whole();
        used
    }

    fn end_chunk_if_whole(&mut self) {
        let Mode::Chunk { left: 0, last } = self.mode else {
            return;
        };
        self.mode = Mode::Command;
        let open = self
            .transaction
            .as_mut()
            .expect("a chunk has a transaction");
        let scanner = open.chunks.as_mut().expect("a chunk has a scanner");
        if last {
            scanner.finish_counted(&mut open.data);
        }
        if last || scanner.fault().is_some() {
            let scanner = scanner.clone();
            self.finish_content(&scanner);
        } else {
            self.say("250 2.0.0 Chunk taken");
            self.end_if_shutting();
        }
    }

    fn finish_content(&mut self, scanner: &Scanner) {
        self.mode = Mode::Command;
        let open = self.transaction.take().expect("content has a transaction");
        let command = content_command(&open);
        let why = match scanner.fault() {
            Some(ContentFault::BareLineEnd) => "554 5.6.0 Bare CR or LF in message",
            Some(ContentFault::Nul) => "554 5.6.0 NUL in message",
            Some(ContentFault::TooLarge) => Fault::SizeTooLarge.reply(),
            None => {
                let message = &open.data[open.prefix_len..];
                let (content, received_count) = data::survey(message, scanner.eight_bit());
                if received_count <= RECEIVED_MAX {
                    self.request = Some(Action::Commit(Submission {
                        envelope: open.envelope,
                        data: open.data,
                        content,
                        received_count,
                    }));
                    self.waiting = Waiting::Commit;
                    return;
                }
                "554 5.4.6 Too many hops, this is a loop"
            }
        };
        match scanner.fault() {
            Some(ContentFault::TooLarge) => self.refusals.limit += 1,
            Some(ContentFault::BareLineEnd | ContentFault::Nul) | None => {
                self.refusals.content += 1
            }
        }
        self.rejections
            .keep_line(command, open.envelope.sender, why);
        self.refuse(why);
        self.end_if_shutting();
    }

    /// The answer to [`Action::Commit`]. `Ok`, which takes the proof, makes the message ours
    /// (RFC 5321 §4.2.5).
    pub fn handle_committed(&mut self, answer: Result<(MessageId, Committed), Reply>, now: Moment) {
        if !matches!(self.waiting, Waiting::Commit) {
            return;
        }
        self.waiting = Waiting::Nothing;
        self.active_at = now;
        match answer {
            Ok((id, _)) => {
                self.messages += 1;
                self.errors = 0;
                self.write(format_args!("250 2.0.0 Ok: queued as {id}"));
            }
            Err(reply) => self.write_reply(&reply),
        }
        self.end_if_shutting();
    }

    /// The peer is gone. Nothing more is asked of the node; a message that waits for its commit
    /// may still become ours.
    pub fn handle_closed(&mut self, _now: Moment) {
        self.note_unfinished("451 4.4.2 The client left before the end of its message");
        self.mode = Mode::Over;
        self.waiting = Waiting::Nothing;
        self.transaction = None;
        self.request = None;
        self.close_due = false;
        self.pending = Vec::new();
        self.output = Vec::new();
        self.send_due = false;
    }

    /// 421 where RFC 5321 §3.8 allows it; content in flight is taken to its end first.
    pub fn handle_shutdown(&mut self, _now: Moment) {
        self.shutting = true;
        self.end_if_shutting();
    }

    /// The node waits no longer for the end of what is under way; a reply that is owed is still
    /// given.
    pub fn handle_cut(&mut self, _now: Moment) {
        self.shutting = true;
        if matches!(self.waiting, Waiting::Nothing) && !matches!(self.mode, Mode::Over) {
            let line = "421 4.3.2 Shutting down";
            self.note_unfinished(line);
            self.close_with(line);
        }
    }

    /// Memory has run out under the message that comes in: it is given up, to be sent again later.
    pub fn handle_no_room(&mut self, _now: Moment) {
        if matches!(self.waiting, Waiting::Nothing) && !matches!(self.mode, Mode::Over) {
            let line = "421 4.3.1 Too much mail at once, try again later";
            self.note("DATA", line);
            self.close_with(line);
        }
    }

    fn end_if_shutting(&mut self) {
        let free = matches!(self.waiting, Waiting::Nothing);
        let between = matches!(
            self.mode,
            Mode::Command | Mode::LongLine { .. } | Mode::Skip(_)
        );
        if self.shutting && free && between {
            self.close_with("421 4.3.2 Shutting down");
        }
    }

    /// `None` while an answer of the node is awaited: no client is cut off between its dot and
    /// the reply.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let limits = &self.config.limits;
        let free = matches!(self.waiting, Waiting::Nothing) && !matches!(self.mode, Mode::Over);
        free.then(|| (self.active_at + limits.idle).min(self.began_at + limits.session))
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            let line = "421 4.4.2 Timeout";
            self.note_unfinished(line);
            self.close_with(line);
        }
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(request) = self.request.take() {
            return Some(request);
        }
        let over = matches!(self.mode, Mode::Over);
        let held = self.more_input && self.output.len() < OUTPUT_OCTETS_MAX;
        let asking = !matches!(self.waiting, Waiting::Nothing);
        if self.send_due && (over || !held && !asking) {
            self.send_due = false;
            self.greeted = true;
            return Some(Action::Send);
        }
        mem::take(&mut self.close_due).then_some(Action::Close)
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.send_due = true;
    }

    fn write(&mut self, line: core::fmt::Arguments<'_>) {
        write!(self.output, "{line}\r\n").expect("a Vec takes all that is written");
        self.send_due = true;
    }

    fn write_reply(&mut self, reply: &Reply) {
        let mut lines = reply.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            match reply.enhanced {
                Some(code) => self.write(format_args!("{}{mark}{code} {line}", reply.code)),
                None => self.write(format_args!("{}{mark}{line}", reply.code)),
            }
        }
    }

    fn refuse(&mut self, line: &str) {
        self.say(line);
        self.count_error();
    }

    fn reject(&mut self, command: &'static str, line: &str) {
        self.note(command, line);
        self.refuse(line);
    }

    fn note(&mut self, command: &'static str, line: &str) {
        let sender = self.envelope().and_then(|e| e.sender.clone());
        self.rejections.keep_line(command, sender, line);
    }

    /// The connection is over: if that is in the midst of a message, nothing of it was taken.
    fn note_unfinished(&mut self, line: &str) {
        let open = self.transaction.as_ref();
        let is_coming = matches!(
            self.mode,
            Mode::Data(_) | Mode::Chunk { .. } | Mode::Command
        );
        let command = match open {
            Some(open) if is_coming && open.chunks.is_some() => "BDAT",
            Some(_) if matches!(self.mode, Mode::Data(_)) => "DATA",
            Some(_) | None => return,
        };
        self.refusals.unfinished += 1;
        self.note(command, line);
    }

    fn count_error(&mut self) {
        self.errors += 1;
        if self.errors > self.config.limits.errors_max {
            self.close_with("421 4.7.0 Too many errors");
        }
    }

    fn close_with(&mut self, line: &str) {
        self.say(line);
        self.mode = Mode::Over;
        self.transaction = None;
        self.request = None;
        self.pending = Vec::new();
        self.close_due = true;
    }
}

const fn content_command(open: &Transaction) -> &'static str {
    if open.chunks.is_some() {
        "BDAT"
    } else {
        "DATA"
    }
}

/// How many of `len` octets a chunk with `left` octets to come takes.
fn at_most(len: usize, left: u64) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}
