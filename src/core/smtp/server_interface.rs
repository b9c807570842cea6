//! What a server session is told, what it asks for, and what it says of those it refused.

use core::time::Duration;
use std::sync::Arc;

use super::data::LineEnds;
use crate::words::{Address, Content, Domain, Enhanced, Envelope, Reply};

/// Refused commands kept until they are asked for; the others are only counted.
const REJECTIONS_MAX: usize = 32;

/// Bounds of one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// With CRLF; at least 512 (RFC 5321 §4.5.3.1.4).
    pub command_octets_max: usize,
    /// Per transaction; at most 65,535.
    pub recipients_max: usize,
    pub message_octets_max: usize,
    pub commands_max: u32,
    /// Refused commands since the last accepted message.
    pub errors_max: u32,
    pub messages_max: Option<u32>,
    /// Without a whole command or an octet of content.
    pub idle: Duration,
    pub session: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_octets_max: 2048,
            recipients_max: 1000,
            message_octets_max: 50 * 1024 * 1024,
            commands_max: 100_000,
            errors_max: 20,
            messages_max: None,
            idle: Duration::from_secs(300),
            session: Duration::from_secs(3600),
        }
    }
}

/// One per listener.
#[derive(Clone, Debug)]
pub struct Config {
    pub hostname: Domain,
    pub limits: Limits,
    pub line_ends: LineEnds,
    /// Behind `220 hostname `; printable ASCII.
    pub greeting: Box<str>,
}

impl Config {
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            limits: Limits::default(),
            line_ends: LineEnds::default(),
            greeting: "ESMTP Posthaste".into(),
        }
    }
}

/// What the node is to do. `Admit`, `Open` and `Commit` each want their answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// [`Session::take_output`](super::server::Session::take_output) has replies: write them all, at once.
    Send,
    /// Answered by [`Session::handle_admitted`](super::server::Session::handle_admitted).
    Admit {
        recipient: Address,
        sender: Option<Address>,
    },
    /// Content is about to come: answered by [`Session::handle_opened`](super::server::Session::handle_opened) with the trace field.
    Open {
        helo: Arc<str>,
        esmtp: bool,
        smtputf8: bool,
    },
    /// Answered by [`Session::handle_committed`](super::server::Session::handle_committed) once it is durable.
    Commit(Submission),
    Close,
}

/// A whole message, not yet ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Submission {
    pub envelope: Envelope,
    /// The prefix given to [`Session::handle_opened`](super::server::Session::handle_opened) and the unstuffed content; ends with CRLF.
    pub data: Vec<u8>,
    pub content: Content,
    /// `Received:` fields the client's header has.
    pub received_count: u16,
}

/// Messages and recipients that the session itself refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// By a bound on size or recipients.
    pub limit: u32,
    /// For what the message is: bare line ends, NUL, a loop.
    pub content: u32,
    /// For the end of the connection, in the midst of their content.
    pub unfinished: u32,
}

/// A MAIL, RCPT, DATA or BDAT that was refused, or whose content did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub command: &'static str,
    /// As far as it is known.
    pub sender: Option<Address>,
    /// Of a RCPT that made sense.
    pub recipient: Option<Address>,
    /// What the client was told, or would have been if it were still there.
    pub reply: Reply,
}

/// Refused commands, a bounded number of them.
#[derive(Debug, Default)]
pub struct Rejections {
    pub kept: Vec<Rejection>,
    /// How many more there were.
    pub lost: u32,
}

impl Rejections {
    pub const NONE: Self = Self {
        kept: Vec::new(),
        lost: 0,
    };

    pub(super) fn keep(
        &mut self,
        command: &'static str,
        sender: Option<Address>,
        recipient: Option<Address>,
        reply: Reply,
    ) {
        if self.kept.len() >= REJECTIONS_MAX {
            self.lost += 1;
            return;
        }
        self.kept.push(Rejection {
            command,
            sender,
            recipient,
            reply,
        });
    }

    /// `line` is a reply of ours: `code x.y.z text`.
    pub(super) fn keep_line(&mut self, command: &'static str, sender: Option<Address>, line: &str) {
        let (code, text) = line.split_at_checked(4).unwrap_or((line, ""));
        let code = code.trim_end().parse().unwrap_or(500);
        let reply = match Enhanced::parse_prefix(text) {
            Some((enhanced, text)) => Reply::new(code, Some(enhanced), text),
            None => Reply::new(code, None, text),
        };
        self.keep(command, sender, None, reply);
    }
}
