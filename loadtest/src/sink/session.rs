//! One SMTP session of the sink, without its socket: octets in, replies out. Skips bodies, reads headers only.

use super::ledger::{self, Label};
use super::options::Options;
use super::stage::{Delays, Stage};
use crate::quantity::Random;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use memchr::memmem;
use std::time::Duration;

/// A command line longer than this is answered once and its rest skipped.
const LINE_MAX: usize = 2048;
/// Header octets kept while looking for the label; a longer header goes unlabelled.
const HEADER_MAX: usize = 64 << 10;
const RECIPIENTS_MAX: usize = 10_000;
/// Bad commands before the session ends with 421.
const ERRORS_MAX: u32 = 50;
const END: &[u8; 5] = b"\r\n.\r\n";

/// How the sink answers. One per thread.
pub(crate) struct Behaviour {
    delays: Delays,
    fail_rcpt: f64,
    refuse: f64,
    drop: f64,
    /// What EHLO is answered with, before and within TLS.
    offers: [String; 2],
    auth: Option<(String, String)>,
    offers_tls: bool,
    /// TLS from the first octet on.
    is_implicit: bool,
    random: Random,
    end: memmem::Finder<'static>,
}

impl Behaviour {
    pub(crate) fn new(options: &Options, has_tls: bool, thread: u64) -> Self {
        let offer = |is_secured: bool| {
            let offers = [
                ("PIPELINING", !options.no_pipelining),
                ("8BITMIME", true),
                ("SIZE 0", true),
                ("SMTPUTF8", true),
                ("DSN", true),
                ("CHUNKING", !options.no_chunking),
                ("STARTTLS", has_tls && !options.tls && !is_secured),
                ("AUTH PLAIN LOGIN", options.auth.is_some()),
            ];
            let lines = offers.iter().filter(|(_, is_offered)| *is_offered);
            let lines: String = lines.map(|(name, _)| format!("250-{name}\r\n")).collect();
            format!("250-sink.test\r\n{lines}250 ENHANCEDSTATUSCODES\r\n")
        };
        Self {
            delays: Delays::new(&options.delay),
            fail_rcpt: options.fail_rcpt,
            refuse: options.refuse,
            drop: options.drop,
            offers: [offer(false), offer(true)],
            auth: options.auth.clone(),
            offers_tls: has_tls,
            is_implicit: options.tls,
            random: Random::new(options.seed.wrapping_add(thread.wrapping_mul(7919))),
            end: memmem::Finder::new(END),
        }
    }

    fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        self.auth
            .as_ref()
            .is_some_and(|(name, secret)| name.as_bytes() == user && secret.as_bytes() == password)
    }
}

/// What a session reports upwards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message is complete; `Session::recipients` are its recipients. Its 250 is to be given by `settle`.
    Message {
        label: Option<Label>,
        octets: u64,
    },
    /// A message is complete and to be left unanswered.
    Dropped,
    RecipientFailed,
    RecipientRefused,
    BadCommand,
    /// The answers just given are to wait: see `Session::pause`.
    Paused,
    /// Send what is left, then go on in TLS.
    Secure,
    /// Everything offered was taken and more is needed.
    Hungry,
    /// Send what is left, then close.
    Close,
}

enum State {
    Command,
    /// Skipping the rest of an endless line.
    Overlong,
    Data,
    /// Within a BDAT: octets still to come.
    Chunk {
        left: u64,
        is_last: bool,
    },
    /// Skipping the octets of a BDAT that has no place here.
    Astray(u64),
    /// The next line is an answer to 334.
    Login(Login),
}

/// Where an AUTH exchange is.
enum Login {
    Plain,
    User,
    Password(Vec<u8>),
}

/// One connection's dialogue. Holds no buffer while idle.
pub(crate) struct Session {
    state: State,
    /// The part of a line that the last read ended in.
    partial: Vec<u8>,
    /// The part of a header that the last read, or the last chunk, ended in.
    header: Vec<u8>,
    pub(crate) out: Vec<u8>,
    /// The number in each accepted recipient's local part.
    pub(crate) recipients: Vec<u32>,
    /// Of the sender's path, so that senders can be told apart.
    pub(crate) sender: u64,
    /// Run and sequence number of the last message, for the order within a session.
    pub(crate) last: Option<(u64, u64)>,
    /// Set while answers wait: how long from now.
    pub(crate) pause: Option<Duration>,
    withheld: Vec<u8>,
    is_secured: bool,
    is_logged_in: bool,
    has_sender: bool,
    /// Whether a chunk of this transaction was taken.
    is_chunked: bool,
    /// Last four octets of the data so far, to find an end that spans reads.
    tail: [u8; 4],
    octets: u64,
    header_done: bool,
    label: Option<Label>,
    errors: u32,
}

impl Session {
    /// A session that has said its banner.
    pub(crate) fn new(behaviour: &mut Behaviour) -> Self {
        let mut session = Self {
            state: State::Command,
            partial: Vec::new(),
            header: Vec::new(),
            out: Vec::new(),
            recipients: Vec::new(),
            sender: 0,
            last: None,
            pause: None,
            withheld: Vec::new(),
            is_secured: behaviour.is_implicit,
            is_logged_in: behaviour.auth.is_none(),
            has_sender: false,
            is_chunked: false,
            tail: [0; 4],
            octets: 0,
            header_done: false,
            label: None,
            errors: 0,
        };
        session.answer(
            Stage::Banner,
            "220 sink.test ESMTP posthaste-load\r\n",
            behaviour,
        );
        session
    }

    /// Takes octets up to the next event and says how many it took.
    pub(crate) fn take(&mut self, input: &[u8], behaviour: &mut Behaviour) -> (usize, Event) {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let (used, event) = match self.state {
                State::Data => self.take_data(rest, behaviour),
                State::Chunk { left, is_last } => self.take_chunk(rest, left, is_last, behaviour),
                State::Astray(left) => self.take_astray(rest, left),
                State::Command | State::Overlong | State::Login(_) => {
                    self.take_line(rest, behaviour)
                }
            };
            taken += used;
            if let Some(event) = event {
                return (taken, event);
            }
            if self.pause.is_some() {
                return (taken, Event::Paused);
            }
        }
        (taken, Event::Hungry)
    }

    /// The answer to a final dot, or to the last BDAT.
    pub(crate) fn settle(&mut self, behaviour: &mut Behaviour) {
        self.answer(Stage::Dot, "250 2.0.0 Ok\r\n", behaviour);
        self.reset();
    }

    /// The pause is over.
    pub(crate) fn release(&mut self) {
        self.pause = None;
        self.out.append(&mut self.withheld);
    }

    /// TLS stands: the session starts anew (RFC 3207 §4.2).
    pub(crate) fn handle_secured(&mut self) {
        self.is_secured = true;
        self.partial.clear();
        self.reset();
    }

    fn reset(&mut self) {
        self.has_sender = false;
        self.is_chunked = false;
        self.recipients.clear();
    }

    /// Says a reply that its stage may delay.
    fn answer(&mut self, stage: Stage, reply: &str, behaviour: &mut Behaviour) {
        match behaviour.delays.draw(stage, &mut behaviour.random) {
            None => self.out.extend_from_slice(reply.as_bytes()),
            delay => {
                self.withheld.extend_from_slice(reply.as_bytes());
                self.pause = delay;
            }
        }
    }

    fn take_line(&mut self, input: &[u8], behaviour: &mut Behaviour) -> (usize, Option<Event>) {
        let Some(end) = memchr::memchr(b'\n', input) else {
            if matches!(self.state, State::Command | State::Login(_)) {
                self.partial.extend_from_slice(input);
                if self.partial.len() > LINE_MAX {
                    self.partial = Vec::new();
                    self.state = State::Overlong;
                }
            }
            return (input.len(), None);
        };
        if matches!(self.state, State::Overlong) {
            self.state = State::Command;
            return (
                end + 1,
                Some(self.bad_command("500 5.5.6 Line too long\r\n")),
            );
        }
        let event = if self.partial.is_empty() {
            self.command(&input[..end], behaviour)
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&input[..end]);
            self.command(&line, behaviour)
        };
        (end + 1, event)
    }

    fn command(&mut self, line: &[u8], behaviour: &mut Behaviour) -> Option<Event> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let State::Login(login) = &mut self.state {
            let login = std::mem::replace(login, Login::Plain);
            self.state = State::Command;
            return self.credentials(login, line, behaviour);
        }
        let mut verb = [0; 4];
        if let Some(head) = line.get(..4) {
            verb.copy_from_slice(head);
            verb.make_ascii_uppercase();
        }
        match &verb {
            b"MAIL" | b"RCPT" if memchr::memchr(b'<', line).is_none() => {
                self.say("501 5.5.4 A path in angle brackets is missing\r\n")
            }
            b"MAIL" if !self.is_logged_in => Some(self.bad_command("530 5.7.0 Log in first\r\n")),
            b"MAIL" if !self.has_sender => {
                self.has_sender = true;
                self.sender = fingerprint(line);
                self.answer(Stage::Mail, "250 2.1.0 Ok\r\n", behaviour);
                None
            }
            b"RCPT" if self.has_sender && !self.is_chunked => self.recipient(line, behaviour),
            b"DATA" if !self.recipients.is_empty() && !self.is_chunked => {
                self.state = State::Data;
                // The end may be the very first line.
                self.tail = *b"\0\0\r\n";
                self.begin_message();
                self.answer(Stage::Data, "354 Go on\r\n", behaviour);
                None
            }
            b"DATA" if self.has_sender => self.say("554 5.5.1 No valid recipients\r\n"),
            b"MAIL" | b"RCPT" | b"DATA" => {
                Some(self.bad_command("503 5.5.1 Bad sequence of commands\r\n"))
            }
            b"BDAT" => self.chunk(line, behaviour),
            _ => self.rarer_command(verb, line, behaviour),
        }
    }

    fn rarer_command(
        &mut self,
        verb: [u8; 4],
        line: &[u8],
        behaviour: &mut Behaviour,
    ) -> Option<Event> {
        match &verb {
            b"EHLO" => {
                self.reset();
                let offers = std::mem::take(&mut behaviour.offers[usize::from(self.is_secured)]);
                self.answer(Stage::Helo, &offers, behaviour);
                behaviour.offers[usize::from(self.is_secured)] = offers;
                None
            }
            b"HELO" => {
                self.reset();
                self.answer(Stage::Helo, "250 sink.test\r\n", behaviour);
                None
            }
            b"STAR" if behaviour.offers_tls && !self.is_secured => {
                self.say("220 2.0.0 Go on\r\n");
                Some(Event::Secure)
            }
            b"AUTH" if behaviour.auth.is_some() => self.login(line, behaviour),
            b"RSET" => {
                self.reset();
                self.say("250 2.0.0 Ok\r\n")
            }
            b"NOOP" => self.say("250 2.0.0 Ok\r\n"),
            b"VRFY" => self.say("252 2.0.0 Try it\r\n"),
            b"QUIT" => {
                self.say("221 2.0.0 Bye\r\n");
                Some(Event::Close)
            }
            _ => Some(self.bad_command("500 5.5.2 Command not recognised\r\n")),
        }
    }

    fn recipient(&mut self, line: &[u8], behaviour: &mut Behaviour) -> Option<Event> {
        if behaviour.random.falls_in(behaviour.fail_rcpt) {
            self.answer(Stage::Rcpt, "451 4.3.0 Try again later\r\n", behaviour);
            return Some(Event::RecipientFailed);
        }
        if behaviour.random.falls_in(behaviour.refuse) {
            self.answer(Stage::Rcpt, "550 5.1.1 No such mailbox\r\n", behaviour);
            return Some(Event::RecipientRefused);
        }
        if self.recipients.len() == RECIPIENTS_MAX {
            return self.say("452 4.5.3 Too many recipients\r\n");
        }
        self.recipients.push(number_of(line));
        self.answer(Stage::Rcpt, "250 2.1.5 Ok\r\n", behaviour);
        None
    }

    fn login(&mut self, line: &[u8], behaviour: &Behaviour) -> Option<Event> {
        let mut words = line[4..].trim_ascii().splitn(2, |octet| *octet == b' ');
        let mechanism = words.next().unwrap_or(b"").to_ascii_uppercase();
        let login = match &mechanism[..] {
            b"PLAIN" => Login::Plain,
            b"LOGIN" => Login::User,
            _ => return Some(self.bad_command("504 5.5.4 PLAIN or LOGIN, please\r\n")),
        };
        if let Some(initial) = words.next() {
            return self.credentials(login, initial.trim_ascii(), behaviour);
        }
        let question = match login {
            Login::Plain => "334 \r\n",
            // `Username:`, as clients expect it.
            Login::User | Login::Password(_) => "334 VXNlcm5hbWU6\r\n",
        };
        self.state = State::Login(login);
        self.say(question)
    }

    fn credentials(&mut self, login: Login, line: &[u8], behaviour: &Behaviour) -> Option<Event> {
        let Ok(text) = BASE64_STANDARD.decode(line) else {
            return Some(self.bad_command("501 5.5.2 Not base64\r\n"));
        };
        let is_admitted = match login {
            Login::Plain => {
                // RFC 4616: who to act for, who to be, and the secret.
                let parts: Vec<_> = text.split(|octet| *octet == 0).collect();
                parts.len() == 3 && behaviour.admits(parts[1], parts[2])
            }
            Login::User => {
                self.state = State::Login(Login::Password(text));
                return self.say("334 UGFzc3dvcmQ6\r\n");
            }
            Login::Password(user) => behaviour.admits(&user, &text),
        };
        if !is_admitted {
            return Some(self.bad_command("535 5.7.8 Wrong user or password\r\n"));
        }
        self.is_logged_in = true;
        self.say("235 2.7.0 Welcome\r\n")
    }

    /// BDAT (RFC 3030): its octets follow whatever is answered.
    fn chunk(&mut self, line: &[u8], behaviour: &mut Behaviour) -> Option<Event> {
        let text = std::str::from_utf8(&line[4..]).unwrap_or("");
        let mut words = text.split_ascii_whitespace();
        let Some(left) = words.next().and_then(|size| size.parse().ok()) else {
            return Some(self.bad_command("501 5.5.4 A size is missing\r\n"));
        };
        let is_last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        if self.recipients.is_empty() {
            self.state = State::Astray(left);
            return self.take_astray(&[], left).1;
        }
        if !self.is_chunked {
            self.is_chunked = true;
            self.begin_message();
        }
        self.state = State::Chunk { left, is_last };
        self.take_chunk(&[], left, is_last, behaviour).1
    }

    fn take_chunk(
        &mut self,
        input: &[u8],
        left: u64,
        is_last: bool,
        behaviour: &mut Behaviour,
    ) -> (usize, Option<Event>) {
        let data = &input[..input.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let left = left - data.len() as u64;
        self.octets += data.len() as u64;
        if !self.header_done {
            self.read_header(data, is_last && left == 0);
        }
        if left > 0 {
            self.state = State::Chunk { left, is_last };
            return (data.len(), None);
        }
        self.state = State::Command;
        if is_last {
            return (data.len(), Some(self.end_message(self.octets, behaviour)));
        }
        self.say("250 2.0.0 Go on\r\n");
        (data.len(), None)
    }

    fn take_astray(&mut self, input: &[u8], left: u64) -> (usize, Option<Event>) {
        let used = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - used as u64;
        if left > 0 {
            self.state = State::Astray(left);
            return (used, None);
        }
        self.state = State::Command;
        let reply = if self.has_sender {
            "554 5.5.1 No valid recipients\r\n"
        } else {
            "503 5.5.1 Bad sequence of commands\r\n"
        };
        (used, Some(self.bad_command(reply)))
    }

    fn begin_message(&mut self) {
        self.octets = 0;
        self.header.clear();
        self.header_done = false;
        self.label = None;
    }

    fn end_message(&mut self, octets: u64, behaviour: &mut Behaviour) -> Event {
        if behaviour.random.falls_in(behaviour.drop) {
            return Event::Dropped;
        }
        Event::Message {
            label: self.label.take(),
            octets,
        }
    }

    fn say(&mut self, reply: &str) -> Option<Event> {
        self.out.extend_from_slice(reply.as_bytes());
        None
    }

    fn bad_command(&mut self, reply: &str) -> Event {
        self.errors += 1;
        if self.errors > ERRORS_MAX {
            self.say("421 4.7.0 Too many errors\r\n");
            return Event::Close;
        }
        self.say(reply);
        Event::BadCommand
    }

    fn take_data(&mut self, input: &[u8], behaviour: &mut Behaviour) -> (usize, Option<Event>) {
        let end = self
            .end_across(input)
            .or_else(|| behaviour.end.find(input).map(|at| at + END.len()));
        let data = &input[..end.unwrap_or(input.len())];
        self.octets += data.len() as u64;
        if !self.header_done {
            self.read_header(data, end.is_some());
        }
        if end.is_none() {
            self.keep_tail(data);
            return (data.len(), None);
        }
        self.state = State::Command;
        let octets = self.octets.saturating_sub(END.len() as u64 - 2);
        (data.len(), Some(self.end_message(octets, behaviour)))
    }

    /// An end of data that began in an earlier read: how many octets of `input` belong to it.
    fn end_across(&self, input: &[u8]) -> Option<usize> {
        let mut seam = [0; 8];
        let ahead = input.len().min(4);
        seam[..4].copy_from_slice(&self.tail);
        seam[4..4 + ahead].copy_from_slice(&input[..ahead]);
        let at = seam[..4 + ahead]
            .windows(END.len())
            .position(|window| window == END)?;
        Some(at + END.len() - 4)
    }

    fn keep_tail(&mut self, data: &[u8]) {
        if data.len() >= 4 {
            self.tail.copy_from_slice(&data[data.len() - 4..]);
        } else {
            self.tail.rotate_left(data.len());
            self.tail[4 - data.len()..].copy_from_slice(data);
        }
    }

    fn read_header(&mut self, data: &[u8], is_last: bool) {
        const GAP: &[u8] = b"\r\n\r\n";
        if self.header.is_empty()
            && let Some(end) = memmem::find(data, GAP)
        {
            self.label = ledger::label(&data[..end]);
            self.header_done = true;
            return;
        }
        // Enough of the earlier part to find a gap that spans the seam.
        let from = self.header.len().saturating_sub(GAP.len() - 1);
        self.header.extend_from_slice(data);
        let end = memmem::find(&self.header[from..], GAP).map(|at| from + at);
        if end.is_some() || is_last || self.header.len() > HEADER_MAX {
            let header = std::mem::take(&mut self.header);
            self.label = ledger::label(&header[..end.unwrap_or(header.len())]);
            self.header_done = true;
        }
    }
}

/// Tells senders apart (FNV-1a over the path, parameters left out).
fn fingerprint(line: &[u8]) -> u64 {
    let start = memchr::memchr(b'<', line).unwrap_or(0);
    let end = memchr::memchr(b'>', line).unwrap_or(line.len());
    line.get(start..end)
        .unwrap_or(line)
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3)
        })
}

/// The number in `RCPT TO:<load17@…`: digits right before the at sign; 0 where there are none.
pub(crate) fn number_of(line: &[u8]) -> u32 {
    let Some(at) = memchr::memchr(b'@', line) else {
        return 0;
    };
    let digits = line[..at]
        .iter()
        .rev()
        .take_while(|octet| octet.is_ascii_digit())
        .count();
    line[at - digits..at].iter().fold(0, |sum: u32, digit| {
        sum.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviour() -> Behaviour {
        Behaviour {
            delays: Delays::default(),
            fail_rcpt: 0.0,
            refuse: 0.0,
            drop: 0.0,
            offers: Default::default(),
            auth: None,
            offers_tls: false,
            is_implicit: false,
            random: Random::new(1),
            end: memmem::Finder::new(END),
        }
    }

    fn messages(chunk: usize, input: &[u8]) -> Vec<(Option<Label>, u64)> {
        let (mut behaviour, mut found) = (behaviour(), Vec::new());
        let mut session = Session::new(&mut behaviour);
        for mut part in input.chunks(chunk) {
            while !part.is_empty() {
                let (taken, event) = session.take(part, &mut behaviour);
                part = &part[taken..];
                if let Event::Message { label, octets } = event {
                    found.push((label, octets));
                    session.settle(&mut behaviour);
                }
            }
        }
        found
    }

    #[test]
    fn messages_are_found_at_every_seam() {
        let one = "MAIL FROM:<>\r\nRCPT TO:<load0@x>\r\nDATA\r\nX-Load-Id: a-5\r\n\r\nX-Load-Id: a-9\r\nhe\r\n..\r\n.\rllo\r\n.\r\n";
        let empty = "MAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n";
        let chunked = "MAIL FROM:<>\r\nRCPT TO:<load0@x>\r\nBDAT 9\r\nX-Load-IdBDAT 0\r\nbdat 9 last\r\n: a-6\r\n\r\n";
        let astray = "BDAT 6\r\nQUIT\r\n";
        let input = format!("EHLO x\r\n{one}{empty}{one}{astray}{chunked}{one}");
        let whole = messages(input.len(), input.as_bytes());
        assert_eq!(whole.len(), 5);
        assert_eq!(
            whole[3].0.map(|label| (label.sequence, whole[3].1)),
            Some((6, 18))
        );
        assert_eq!(whole[0].0.map(|label| label.sequence), Some(5));
        assert_eq!(whole[1], (None, 0));
        for chunk in 1..40 {
            assert_eq!(
                messages(chunk, input.as_bytes()),
                whole,
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn garbage_ends_the_session_with_bounded_memory() {
        let mut behaviour = behaviour();
        let mut session = Session::new(&mut behaviour);
        let garbage = vec![0xFE; 1 << 20];
        assert_eq!(
            session.take(&garbage, &mut behaviour),
            (1 << 20, Event::Hungry)
        );
        assert!(session.partial.capacity() <= 4 * LINE_MAX);
        let lines = b"\n".repeat(100);
        let mut rest = &lines[..];
        loop {
            let (taken, event) = session.take(rest, &mut behaviour);
            rest = &rest[taken..];
            assert_ne!(event, Event::Hungry);
            if event == Event::Close {
                break;
            }
        }
    }

    #[test]
    fn senders_are_told_apart_by_their_path() {
        let of = |line: &str| fingerprint(line.as_bytes());
        assert_eq!(of("MAIL FROM:<a@x>"), of("mail from:<a@x> SIZE=9"));
        assert_ne!(of("MAIL FROM:<a@x>"), of("MAIL FROM:<b@x>"));
        assert_ne!(of("MAIL FROM:>a<"), of("MAIL FROM:<>"));
    }

    #[test]
    fn recipient_numbers_are_read() {
        assert_eq!(number_of(b"RCPT TO:<load17@sink.test>"), 17);
        assert_eq!(number_of(b"RCPT TO:<bob@sink.test>"), 0);
        assert_eq!(number_of(b"RCPT TO:<postmaster>"), 0);
    }
}
