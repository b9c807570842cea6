//! One SMTP session of a provider, without its socket: octets in, the brain asked, replies out. Holds a reply back where the brain says
//! wait. One per connection.

use super::brain::{Brain, SessionId, Then, Verdict};
use crate::sink::{ledger, session::number_of};
use crate::worker::Need;
use memchr::memmem;
use posthaste_core::smtp::command::{self, Command};
use posthaste_core::smtp::data::{Framing, LineEnds, Scanner};
use posthaste_core::words::{Domain, Moment};
use std::net::IpAddr;
use std::time::Duration;

/// A command line longer than this is answered once and its rest skipped.
const LINE_MAX: usize = 2048;
const HEADER_MAX: usize = 64 << 10;
/// Bad commands before the session ends with 421.
const ERRORS_MAX: u32 = 20;
/// The reply given when the simulator itself ends.
pub(super) const FAREWELL: &[u8] = b"421 4.3.2 Service shutting down\r\n";

/// A message that was taken, for the account of loss and duplicates.
pub(super) struct Taken {
    pub(super) label: Option<ledger::Label>,
    pub(super) recipients: Vec<u32>,
    pub(super) octets: u64,
}

/// The way to the brain, which others may share. Asked for when something is to be decided, let go while content passes.
pub(super) trait Access {
    fn brain(&mut self) -> (&mut Brain, Moment);
    fn let_go(&mut self);
}

enum State {
    Command,
    /// Skipping the rest of an endless line.
    Overlong,
    Data(Box<Data>),
}

struct Data {
    scanner: Scanner,
    content: Vec<u8>,
    header: Option<Vec<u8>>,
    octets: u64,
}

/// The dialogue of one connection.
pub(super) struct Dialogue {
    pub(super) id: SessionId,
    state: State,
    partial: Vec<u8>,
    pub(super) out: Vec<u8>,
    held: Option<Verdict>,
    has_sender: bool,
    recipients: Vec<u32>,
    errors: u32,
    hostname: Domain,
    pub(super) taken: Vec<Taken>,
}

impl Dialogue {
    pub(super) fn open(brain: &mut Brain, peer: IpAddr, now: Moment) -> (Self, Need) {
        let (id, verdict) = brain.handle_connect(peer, now);
        let hostname = Domain::parse(&brain.profile().host)
            .unwrap_or_else(|_| Domain::parse("provider.test").expect("a constant domain"));
        let mut dialogue = Self {
            id,
            state: State::Command,
            partial: Vec::new(),
            out: Vec::new(),
            held: None,
            has_sender: false,
            recipients: Vec::new(),
            errors: 0,
            hostname,
            taken: Vec::new(),
        };
        let need = dialogue.obey(verdict).unwrap_or(Need::Octets);
        (dialogue, need)
    }

    /// Takes octets until there is something to be done; says how many it took.
    pub(super) fn take(&mut self, input: &[u8], access: &mut impl Access) -> (usize, Need) {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let (used, need) = if let State::Data(data) = &mut self.state {
                access.let_go();
                let (used, is_end) = data.scan(rest);
                if !is_end {
                    taken += used;
                    continue;
                }
                let (brain, now) = access.brain();
                (used, self.end_of_data(brain, now))
            } else {
                let (brain, now) = access.brain();
                self.take_line(rest, brain, now)
            };
            taken += used;
            if let Some(need) = need {
                return (taken, need);
            }
        }
        (taken, Need::Octets)
    }

    /// Gives the reply that was held back.
    pub(super) fn release(&mut self) -> Need {
        let Some(mut verdict) = self.held.take() else {
            return Need::Octets;
        };
        verdict.delay = Duration::ZERO;
        self.obey(verdict).unwrap_or(Need::Octets)
    }

    /// TLS stands: the session starts anew (RFC 3207 §4.2).
    pub(super) fn handle_secured(&mut self, brain: &mut Brain) {
        self.partial.clear();
        self.forget(brain);
        brain.handle_secured(self.id);
    }

    fn obey(&mut self, verdict: Verdict) -> Option<Need> {
        if !verdict.delay.is_zero() {
            let delay = verdict.delay;
            self.held = Some(verdict);
            return Some(Need::Wait(delay));
        }
        match verdict.then {
            Then::Reset => Some(Need::Reset),
            Then::Silence => Some(Need::Silence),
            Then::Secure => {
                self.out.extend_from_slice(&verdict.reply.octets);
                Some(Need::Secure)
            }
            Then::Close => {
                self.out.extend_from_slice(&verdict.reply.octets);
                Some(Need::Close)
            }
            Then::Go => {
                self.out.extend_from_slice(&verdict.reply.octets);
                None
            }
        }
    }

    fn say(&mut self, line: &str) -> Option<Need> {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        None
    }

    fn take_line(&mut self, input: &[u8], brain: &mut Brain, now: Moment) -> (usize, Option<Need>) {
        let Some(end) = memchr::memchr(b'\n', input) else {
            if matches!(self.state, State::Command) {
                self.partial.extend_from_slice(input);
                if self.partial.len() > LINE_MAX {
                    self.partial = Vec::new();
                    self.state = State::Overlong;
                }
            }
            return (input.len(), None);
        };
        let need = if matches!(self.state, State::Overlong) {
            self.state = State::Command;
            self.complain("500 5.5.6 Line too long")
        } else if self.partial.is_empty() {
            self.command(&input[..end], brain, now)
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&input[..end]);
            self.command(&line, brain, now)
        };
        (end + 1, need)
    }

    fn command(&mut self, line: &[u8], brain: &mut Brain, now: Moment) -> Option<Need> {
        // The core's own server has no TLS to offer.
        if line.trim_ascii_end().eq_ignore_ascii_case(b"STARTTLS") {
            let verdict = brain.handle_starttls(self.id, now);
            return self.obey(verdict);
        }
        // Lines may end in LF alone here: providers are as they are.
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let command = match command::parse(text) {
            Ok(command) => command,
            Err(fault) => return self.complain(fault.reply()),
        };
        match command {
            Command::Ehlo(_) => {
                self.forget(brain);
                let verdict = brain.handle_ehlo(self.id, now);
                self.obey(verdict)
            }
            Command::Helo(_) => {
                self.forget(brain);
                let reply = format!("250 {}", self.hostname);
                self.say(&reply)
            }
            Command::Mail(rest) => self.mail(rest, brain, now),
            Command::Rcpt(rest) => self.rcpt(rest, brain, now),
            Command::Data => self.data(brain, now),
            Command::Rset => {
                self.forget(brain);
                self.say("250 2.0.0 OK")
            }
            Command::Noop => self.say("250 2.0.0 OK"),
            Command::Quit => {
                self.say("221 2.0.0 Closing connection");
                Some(Need::Close)
            }
            Command::Help | Command::Vrfy => self.say("252 2.5.0 Send some mail"),
            Command::Bdat { .. } => self.complain("502 5.5.1 Unrecognized command"),
        }
    }

    fn mail(&mut self, rest: &[u8], brain: &mut Brain, now: Moment) -> Option<Need> {
        if self.has_sender {
            return self.complain("503 5.5.1 Sender already given");
        }
        let mail = match command::parse_mail(rest) {
            Ok(mail) => mail,
            Err(fault) => return self.complain(fault.reply()),
        };
        let sender = mail.sender.as_ref().map_or("", |sender| sender.as_str());
        let verdict = brain.handle_mail(self.id, sender, now);
        self.has_sender = verdict.is_positive();
        self.recipients.clear();
        self.obey(verdict)
    }

    fn rcpt(&mut self, rest: &[u8], brain: &mut Brain, now: Moment) -> Option<Need> {
        if !self.has_sender {
            return self.complain("503 5.5.1 MAIL first");
        }
        let recipient = match command::parse_rcpt(rest, true, &self.hostname) {
            Ok(recipient) => recipient,
            Err(fault) => return self.complain(fault.reply()),
        };
        let verdict = brain.handle_rcpt(self.id, recipient.address.as_str(), now);
        if verdict.is_positive() {
            self.recipients
                .push(number_of(recipient.address.as_str().as_bytes()));
        }
        self.obey(verdict)
    }

    fn data(&mut self, brain: &mut Brain, now: Moment) -> Option<Need> {
        if !self.has_sender {
            return self.complain("503 5.5.1 MAIL first");
        }
        let verdict = brain.handle_data(self.id, now);
        if verdict.reply.code == 354 {
            self.state = State::Data(Box::new(Data {
                scanner: Scanner::new(Framing::Dots, LineEnds::Normalise, usize::MAX),
                content: Vec::new(),
                header: None,
                octets: 0,
            }));
        }
        self.obey(verdict)
    }

    fn end_of_data(&mut self, brain: &mut Brain, now: Moment) -> Option<Need> {
        let State::Data(data) = std::mem::replace(&mut self.state, State::Command) else {
            return None;
        };
        let (header, octets) = (data.header.unwrap_or_default(), data.octets);
        self.has_sender = false;
        if data.scanner.fault().is_some() {
            brain.handle_reset(self.id);
            return self.complain("554 5.6.0 Message content is malformed");
        }
        let verdict = brain.handle_end_of_data(self.id, &header, now);
        let recipients = std::mem::take(&mut self.recipients);
        if verdict.is_taken {
            self.taken.push(Taken {
                label: ledger::label(&header),
                recipients,
                octets,
            });
        }
        self.obey(verdict)
    }

    fn forget(&mut self, brain: &mut Brain) {
        self.has_sender = false;
        self.recipients.clear();
        brain.handle_reset(self.id);
    }

    fn complain(&mut self, reply: &str) -> Option<Need> {
        self.errors += 1;
        if self.errors > ERRORS_MAX || reply.starts_with("421") {
            self.say("421 4.7.0 Too many errors");
            return Some(Need::Close);
        }
        self.say(reply)
    }
}

impl Data {
    /// How much of it belongs to the message, and whether that is all of it. What is not its end it takes whole.
    fn scan(&mut self, input: &[u8]) -> (usize, bool) {
        let (used, is_end) = self.scanner.scan(input, &mut self.content);
        self.octets += used as u64;
        self.find_header(is_end);
        (used, is_end)
    }

    /// Keeps the header block and drops what follows it.
    fn find_header(&mut self, is_end: bool) {
        if self.header.is_none() {
            let end = memmem::find(&self.content, b"\r\n\r\n").map(|at| at + 4);
            if end.is_some() || is_end || self.content.len() > HEADER_MAX {
                let end = end.unwrap_or(self.content.len()).min(HEADER_MAX);
                self.content.truncate(end);
                self.header = Some(std::mem::take(&mut self.content));
            }
        } else {
            self.content.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Profile;
    use std::sync::Arc;

    const BASE: &str =
        "name = \"x\"\nhost = \"x.test\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n";

    /// A brain that nobody shares.
    struct Alone<'a>(&'a mut Brain, Moment);

    impl Access for Alone<'_> {
        fn brain(&mut self) -> (&mut Brain, Moment) {
            (self.0, self.1)
        }

        fn let_go(&mut self) {}
    }

    fn brain(text: &str) -> Brain {
        let profile = Profile::parse("x", &format!("{BASE}{text}")).unwrap();
        Brain::new(Arc::new(profile), 1, Moment::from_secs(1_000_000))
    }

    /// Feeds `input` in pieces; replies that are held back are released at once.
    fn converse(brain: &mut Brain, input: &[u8], step: usize) -> (String, Need, usize) {
        let now = Moment::from_secs(1_000_000);
        let (mut dialogue, mut need) = Dialogue::open(brain, [127, 0, 0, 1].into(), now);
        'all: for mut piece in input.chunks(step) {
            loop {
                if let Need::Wait(_) = need {
                    need = dialogue.release();
                    continue;
                }
                if need != Need::Octets {
                    break 'all;
                }
                if piece.is_empty() {
                    break;
                }
                let (used, next) = dialogue.take(piece, &mut Alone(brain, now));
                piece = &piece[used..];
                need = next;
            }
        }
        let out = String::from_utf8_lossy(&dialogue.out).into_owned();
        brain.handle_close(dialogue.id, now);
        (out, need, dialogue.taken.len())
    }

    const MESSAGE: &str = "EHLO c\r\nMAIL FROM:<a@s.test>\r\nRCPT TO:<load3@x.test>\r\nDATA\r\nX-Load-Id: a-1\r\n\r\n..\r\nhi\r\n.\r\nQUIT\r\n";

    #[test]
    fn a_message_is_taken_at_every_seam() {
        let mut brain = brain("");
        let whole = converse(&mut brain, MESSAGE.as_bytes(), MESSAGE.len());
        assert!(whole.0.starts_with("220 "), "{}", whole.0);
        assert!(whole.0.contains("\r\n354 ") && whole.0.contains("\r\n250 2.0.0 Ok\r\n221"));
        assert_eq!((&whole.1, whole.2), (&Need::Close, 1));
        for step in 1..30 {
            assert_eq!(converse(&mut brain, MESSAGE.as_bytes(), step), whole);
        }
    }

    /// For what needs no decision.
    struct Absent {
        is_held: bool,
    }

    impl Access for Absent {
        fn brain(&mut self) -> (&mut Brain, Moment) {
            panic!("nothing is to be decided");
        }

        fn let_go(&mut self) {
            self.is_held = false;
        }
    }

    #[test]
    fn content_passes_without_the_brain() {
        let mut brain = brain("");
        let now = Moment::from_secs(1_000_000);
        let (mut dialogue, _) = Dialogue::open(&mut brain, [127, 0, 0, 1].into(), now);
        let (start, end) = MESSAGE.split_once("\r\nhi").unwrap();
        let (envelope, content) = start.split_once("DATA\r\n").unwrap();
        for line in [envelope, "DATA\r\n"] {
            dialogue.take(line.as_bytes(), &mut Alone(&mut brain, now));
        }
        let mut absent = Absent { is_held: true };
        let (used, need) = dialogue.take(content.as_bytes(), &mut absent);
        assert_eq!((used, need), (content.len(), Need::Octets));
        assert!(!absent.is_held);
        let rest = format!("\r\nhi{end}");
        let (_, need) = dialogue.take(rest.as_bytes(), &mut Alone(&mut brain, now));
        assert_eq!((need, dialogue.taken.len()), (Need::Close, 1));
    }

    #[test]
    fn replies_are_held_back_for_their_delay() {
        let mut brain = brain("[delay]\nbanner = \"3s\"\n");
        let now = Moment::from_secs(1_000_000);
        let (mut dialogue, need) = Dialogue::open(&mut brain, [127, 0, 0, 1].into(), now);
        assert_eq!(need, Need::Wait(Duration::from_secs(3)));
        assert!(dialogue.out.is_empty());
        assert_eq!(dialogue.release(), Need::Octets);
        assert!(dialogue.out.starts_with(b"220 "));
    }

    #[test]
    fn a_421_in_the_middle_ends_a_pipeline() {
        let mut brain = brain("[fault]\ninterrupt = 1.0\n");
        let (out, need, taken) = converse(&mut brain, MESSAGE.as_bytes(), 4096);
        assert!(
            out.ends_with("421 4.3.2 x.test closing connection\r\n"),
            "{out}"
        );
        assert_eq!((need, taken), (Need::Close, 0));
    }

    #[test]
    fn a_reset_says_nothing_and_may_have_taken_the_message() {
        let mut brain = brain("[fault]\nreset = 1.0\nreset_takes = 1.0\n");
        let (out, need, taken) = converse(&mut brain, MESSAGE.as_bytes(), 4096);
        assert!(out.ends_with("354 Go ahead\r\n"), "{out}");
        assert_eq!((need, taken), (Need::Reset, 1));
    }

    #[test]
    fn garbage_ends_the_session() {
        let mut brain = brain("");
        let (out, need, _) = converse(&mut brain, &b"RCPT TO:<a@b>\r\n".repeat(50), 4096);
        assert!(out.ends_with("421 4.7.0 Too many errors\r\n"));
        assert_eq!(need, Need::Close);
        let (_, need, _) = converse(&mut brain, &vec![0xFE; 1 << 20], 4096);
        assert_eq!(need, Need::Octets);
    }
}
