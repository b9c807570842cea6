//! What became of an attempt, and whose trouble it was.

use core::fmt;

use super::{Enhanced, Reply, RouteError};

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

impl Outcome {
    /// The code of RFC 3463 for it, as reports give it: the peer's own where it fits its reply, else
    /// one made of what we know.
    pub fn enhanced(&self) -> Enhanced {
        let (cause, class) = match self {
            Self::Delivered(reply) => return reply_code(reply),
            Self::Deferred(cause) => (cause, 4),
            Self::Refused(cause) => (cause, 5),
        };
        match cause {
            Cause::Reply { reply, .. } => reply_code(reply),
            Cause::Connect { .. } => Enhanced::new(class, 4, 1),
            Cause::Lost { .. } => Enhanced::new(class, 4, 2),
            Cause::Protocol { .. } => Enhanced::new(class, 5, 0),
            Cause::Route(error) => route_code(error),
            Cause::NotSupported { extension } if *extension == "SMTPUTF8" => Enhanced::new(5, 6, 7),
            Cause::NotSupported { .. } => Enhanced::new(5, 6, 3),
            // RFC 3464 §2.3.4 lets a failure be of class 4: it might have gone well later.
            Cause::Expired { .. } => Enhanced::new(4, 4, 7),
            Cause::Operator { .. } => Enhanced::new(class, 7, 0),
            Cause::Ours { .. } => Enhanced::new(class, 3, 0),
        }
    }
}

const fn route_code(error: &RouteError) -> Enhanced {
    match error {
        RouteError::NoSuchDomain => Enhanced::new(5, 1, 2),
        RouteError::NullMx => Enhanced::new(5, 1, 10),
        RouteError::LoopsToUs => Enhanced::new(5, 4, 6),
        RouteError::Prohibited(_) => Enhanced::new(5, 4, 4),
        RouteError::Dns(_) => Enhanced::new(4, 4, 3),
    }
}

fn reply_code(reply: &Reply) -> Enhanced {
    let class = u8::try_from(reply.code / 100).unwrap_or(5);
    let fits = reply.enhanced.filter(|enhanced| enhanced.class == class);
    fits.unwrap_or_else(|| Enhanced::new(class, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, enhanced: Option<Enhanced>) -> Cause {
        Cause::Reply {
            stage: Stage::Dot,
            reply: Reply::new(code, enhanced, "x"),
        }
    }

    #[test]
    fn each_cause_has_its_code() {
        let (stage, detail) = (Stage::Mail, || "x".into());
        let nowhere = RouteError::Prohibited([10, 0, 0, 1].into());
        let unsupported = |extension| Cause::NotSupported { extension };
        for (cause, deferred, refused) in [
            (Cause::Connect { detail: detail() }, "4.4.1", "5.4.1"),
            (
                Cause::Lost {
                    stage,
                    detail: detail(),
                },
                "4.4.2",
                "5.4.2",
            ),
            (
                Cause::Protocol {
                    stage,
                    detail: detail(),
                },
                "4.5.0",
                "5.5.0",
            ),
            (Cause::Route(RouteError::NoSuchDomain), "5.1.2", "5.1.2"),
            (Cause::Route(RouteError::NullMx), "5.1.10", "5.1.10"),
            (Cause::Route(RouteError::LoopsToUs), "5.4.6", "5.4.6"),
            (Cause::Route(nowhere), "5.4.4", "5.4.4"),
            (Cause::Route(RouteError::Dns("x")), "4.4.3", "4.4.3"),
            (unsupported("SMTPUTF8"), "5.6.7", "5.6.7"),
            (unsupported("8BITMIME"), "5.6.3", "5.6.3"),
            (Cause::Expired { last: detail() }, "4.4.7", "4.4.7"),
            (Cause::Operator { reason: detail() }, "4.7.0", "5.7.0"),
            (Cause::Ours { detail: detail() }, "4.3.0", "5.3.0"),
        ] {
            let outcomes = [
                (Outcome::Deferred(cause.clone()), deferred),
                (Outcome::Refused(cause), refused),
            ];
            for (outcome, code) in outcomes {
                assert_eq!(outcome.enhanced().to_string(), code, "{outcome:?}");
            }
        }
    }

    #[test]
    fn a_peers_own_code_stands_where_it_fits_its_reply() {
        let own = Some(Enhanced::new(5, 1, 1));
        for (outcome, code) in [
            (Outcome::Refused(said(550, own)), "5.1.1"),
            (Outcome::Refused(said(550, None)), "5.0.0"),
            (Outcome::Deferred(said(450, own)), "4.0.0"),
            (Outcome::Delivered(Reply::new(250, None, "")), "2.0.0"),
        ] {
            assert_eq!(outcome.enhanced().to_string(), code, "{outcome:?}");
        }
    }
}
