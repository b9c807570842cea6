//! One SMTP session of the sink, without its socket: octets in, replies out. Skips bodies, reads headers only.

use super::ledger::{self, Label};
use super::options::Options;
use crate::quantity::Random;
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
    pub(crate) delay: Duration,
    fail_rcpt: f64,
    refuse: f64,
    drop: f64,
    pipelining: bool,
    random: Random,
    end: memmem::Finder<'static>,
}

impl Behaviour {
    pub(crate) fn new(options: &Options, thread: u64) -> Self {
        Self {
            delay: options.delay,
            fail_rcpt: options.fail_rcpt,
            refuse: options.refuse,
            drop: options.drop,
            pipelining: !options.no_pipelining,
            random: Random::new(options.seed.wrapping_add(thread.wrapping_mul(7919))),
            end: memmem::Finder::new(END),
        }
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
}

/// One connection's dialogue. Holds no buffer while idle.
pub(crate) struct Session {
    state: State,
    /// The part of a line or header that the last read ended in.
    partial: Vec<u8>,
    pub(crate) out: Vec<u8>,
    /// The number in each accepted recipient's local part.
    pub(crate) recipients: Vec<u32>,
    has_sender: bool,
    /// Last four octets of the data so far, to find an end that spans reads.
    tail: [u8; 4],
    octets: u64,
    header_done: bool,
    label: Option<Label>,
    errors: u32,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Command,
            partial: Vec::new(),
            out: b"220 sink.test ESMTP posthaste-load\r\n".to_vec(),
            recipients: Vec::new(),
            has_sender: false,
            tail: [0; 4],
            octets: 0,
            header_done: false,
            label: None,
            errors: 0,
        }
    }

    /// Takes octets up to the next event and says how many it took.
    pub(crate) fn take(&mut self, input: &[u8], behaviour: &mut Behaviour) -> (usize, Event) {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let (used, event) = match self.state {
                State::Data => self.take_data(rest, behaviour),
                State::Command | State::Overlong => self.take_line(rest, behaviour),
            };
            taken += used;
            if let Some(event) = event {
                return (taken, event);
            }
        }
        (taken, Event::Hungry)
    }

    /// The answer to a final dot.
    pub(crate) fn settle(&mut self) {
        self.out.extend_from_slice(b"250 2.0.0 Ok\r\n");
        self.reset();
    }

    fn reset(&mut self) {
        self.has_sender = false;
        self.recipients.clear();
    }

    fn take_line(&mut self, input: &[u8], behaviour: &mut Behaviour) -> (usize, Option<Event>) {
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
        let mut verb = [0; 4];
        if let Some(head) = line.get(..4) {
            verb.copy_from_slice(head);
            verb.make_ascii_uppercase();
        }
        match &verb {
            b"MAIL" | b"RCPT" if memchr::memchr(b'<', line).is_none() => {
                self.say("501 5.5.4 A path in angle brackets is missing\r\n")
            }
            b"MAIL" if !self.has_sender => {
                self.has_sender = true;
                self.say("250 2.1.0 Ok\r\n")
            }
            b"RCPT" if self.has_sender => self.recipient(line, behaviour),
            b"DATA" if !self.recipients.is_empty() => {
                self.state = State::Data;
                // The end may be the very first line.
                self.tail = *b"\0\0\r\n";
                self.octets = 0;
                self.header_done = false;
                self.label = None;
                self.say("354 Go on\r\n")
            }
            b"DATA" if self.has_sender => self.say("554 5.5.1 No valid recipients\r\n"),
            b"MAIL" | b"RCPT" | b"DATA" => {
                Some(self.bad_command("503 5.5.1 Bad sequence of commands\r\n"))
            }
            b"EHLO" => {
                self.reset();
                self.say(if behaviour.pipelining {
                    "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250-SMTPUTF8\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
                } else {
                    "250-sink.test\r\n250-8BITMIME\r\n250-SIZE 0\r\n250-SMTPUTF8\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
                })
            }
            b"HELO" => {
                self.reset();
                self.say("250 sink.test\r\n")
            }
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
            self.say("451 4.3.0 Try again later\r\n");
            return Some(Event::RecipientFailed);
        }
        if behaviour.random.falls_in(behaviour.refuse) {
            self.say("550 5.1.1 No such mailbox\r\n");
            return Some(Event::RecipientRefused);
        }
        if self.recipients.len() == RECIPIENTS_MAX {
            return self.say("452 4.5.3 Too many recipients\r\n");
        }
        self.recipients.push(number_of(line));
        self.say("250 2.1.5 Ok\r\n")
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
        if behaviour.random.falls_in(behaviour.drop) {
            return (data.len(), Some(Event::Dropped));
        }
        let octets = self.octets.saturating_sub(3);
        (
            data.len(),
            Some(Event::Message {
                label: self.label.take(),
                octets,
            }),
        )
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
        if self.partial.is_empty()
            && let Some(end) = memmem::find(data, GAP)
        {
            self.label = ledger::label(&data[..end]);
            self.header_done = true;
            return;
        }
        // Enough of the earlier part to find a gap that spans the seam.
        let from = self.partial.len().saturating_sub(GAP.len() - 1);
        self.partial.extend_from_slice(data);
        let end = memmem::find(&self.partial[from..], GAP).map(|at| from + at);
        if end.is_some() || is_last || self.partial.len() > HEADER_MAX {
            let header = std::mem::take(&mut self.partial);
            self.label = ledger::label(&header[..end.unwrap_or(header.len())]);
            self.header_done = true;
        }
    }
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
            delay: Duration::ZERO,
            fail_rcpt: 0.0,
            refuse: 0.0,
            drop: 0.0,
            pipelining: true,
            random: Random::new(1),
            end: memmem::Finder::new(END),
        }
    }

    fn messages(chunk: usize, input: &[u8]) -> Vec<(Option<Label>, u64)> {
        let (mut session, mut behaviour, mut found) = (Session::new(), behaviour(), Vec::new());
        for mut part in input.chunks(chunk) {
            while !part.is_empty() {
                let (taken, event) = session.take(part, &mut behaviour);
                part = &part[taken..];
                if let Event::Message { label, octets } = event {
                    found.push((label, octets));
                    session.settle();
                }
            }
        }
        found
    }

    #[test]
    fn messages_are_found_at_every_seam() {
        let one = "MAIL FROM:<>\r\nRCPT TO:<load0@x>\r\nDATA\r\nX-Load-Id: a-5\r\n\r\nhe\r\n..\r\n.\rllo\r\n.\r\n";
        let empty = "MAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n";
        let input = format!("EHLO x\r\n{one}{empty}{one}");
        let whole = messages(input.len(), input.as_bytes());
        assert_eq!(whole.len(), 3);
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
        let (mut session, mut behaviour) = (Session::new(), behaviour());
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
    fn recipient_numbers_are_read() {
        assert_eq!(number_of(b"RCPT TO:<load17@sink.test>"), 17);
        assert_eq!(number_of(b"RCPT TO:<bob@sink.test>"), 0);
        assert_eq!(number_of(b"RCPT TO:<postmaster>"), 0);
    }
}
