//! Where Redis is, and how it is spoken to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use posthaste_core::words::Moment;

/// What stands behind the URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// The URLs are those of sentinels, which know the server of this name.
    Sentinel { master: String },
    /// The URLs are those of some nodes of a cluster.
    Cluster,
}

/// Text that no log and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Of this node; no other of the same Redis and prefix has it.
    pub node: String,
    pub topology: Topology,
    /// `redis://host:port/db`, or `rediss://…` for TLS; at least one.
    pub urls: Vec<String>,
    pub user: Option<String>,
    pub password: Option<Password>,
    /// PEM of the authorities that are trusted; `None`: those of the system.
    pub authorities: Option<Vec<u8>>,
    /// Begins each key.
    pub prefix: String,
    /// For a connection, and for each answer.
    pub timeout: Duration,
    /// Notes that Redis knew at the end of the last run, with text and end: those it has forgotten with
    /// all else are told again, those it lacks alone were withdrawn meanwhile.
    pub known: BTreeMap<String, (String, Moment)>,
    /// The name its memory had then.
    pub epoch: Option<String>,
}
