//! What is asked of the DNS and what comes back, reduced to what routing needs.

use core::net::IpAddr;
use core::time::Duration;

use crate::words::Domain;

/// The record types mail routing asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    Mx,
    A,
    Aaaa,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    pub name: Domain,
    pub kind: RecordType,
}

/// What the name servers made of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The name exists; the records asked for may still be none.
    Exists,
    /// NXDOMAIN for the name or for the end of its aliases.
    NoSuchName,
    /// Nobody gave a usable answer; says nothing about the name.
    Failed(&'static str),
}

/// The host of an MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The root, `.`: RFC 7505.
    Root,
    Name(Domain),
    /// A name no host can have. Kept, because a domain with a bad MX has no implicit one.
    Malformed,
}

/// One record of the type that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Mx { preference: u16, exchange: Exchange },
    Address(IpAddr),
}

/// The answer to one [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    /// Where the name's CNAME chain leads when the answer stops short of its end; to be asked next.
    pub alias: Option<Domain>,
    pub records: Vec<Data>,
    /// How long this holds, for negative answers too (RFC 2308).
    pub ttl: Duration,
}

impl Answer {
    /// No usable answer, for `ttl`.
    pub const fn failed(why: &'static str, ttl: Duration) -> Self {
        Self {
            status: Status::Failed(why),
            alias: None,
            records: Vec::new(),
            ttl,
        }
    }
}
