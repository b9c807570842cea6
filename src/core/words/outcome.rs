//! What became of an attempt, and whose trouble it was.

use core::fmt;

use super::{Reply, RouteError};

/// Where in a delivery something happened; names the command in delivery records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Banner,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// The final dot and the reply to it.
    Dot,
    Rset,
    Quit,
}

impl Stage {
    /// As written in the `command` field of records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Banner => "BANNER",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Dot => ".",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

/// Why a recipient is not delivered. Each variant is somebody's: the peer's answer, the path's, or
/// ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer answered so.
    Reply { stage: Stage, reply: Reply },
    /// No connection to any host of the site; the text says what the last one did.
    Connect { detail: Box<str> },
    /// The connection ended or fell silent in the midst.
    Lost { stage: Stage, detail: Box<str> },
    /// The peer's bytes were no SMTP.
    Protocol { stage: Stage, detail: Box<str> },
    /// Routing said no, or not now.
    Route(RouteError),
    /// The next hop lacks an extension this message needs (RFC 6152 §3, RFC 6531 §3.2).
    NotSupported { extension: &'static str },
    /// Older than the configured age; the last thing that went wrong, in words.
    Expired { last: Box<str> },
    /// An operator did it.
    Operator { reason: Box<str> },
    /// Our own trouble: shutting down, spool unreadable.
    Ours { detail: Box<str> },
}

impl Cause {
    /// Only a site's own behaviour may slow that site down.
    pub const fn blames_site(&self) -> bool {
        matches!(
            self,
            Self::Reply { .. } | Self::Connect { .. } | Self::Lost { .. } | Self::Protocol { .. }
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply { reply, .. } => fmt::Display::fmt(reply, f),
            Self::Connect { detail } => write!(f, "connect: {detail}"),
            Self::Lost { stage, detail } => {
                write!(f, "connection lost at {}: {detail}", stage.as_str())
            }
            Self::Protocol { stage, detail } => {
                write!(f, "protocol error at {}: {detail}", stage.as_str())
            }
            Self::Route(error) => fmt::Display::fmt(error, f),
            Self::NotSupported { extension } => {
                write!(f, "next hop does not support {extension}")
            }
            Self::Expired { last } => write!(f, "message expired; last: {last}"),
            Self::Operator { reason } => write!(f, "operator: {reason}"),
            Self::Ours { detail } => write!(f, "local: {detail}"),
        }
    }
}

/// What became of one recipient in one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer's 2xx to the final dot.
    Delivered(Reply),
    Deferred(Cause),
    Refused(Cause),
}
