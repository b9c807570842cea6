//! The checked configuration, as plain data: what it holds is within its bounds.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::egress::{Hours, Ladder, Selection, Source};
use posthaste_core::shaping::Zone;
use posthaste_core::words::{Address, Domain, Network};

/// Everything `posthaste run` needs to know. One per node; only [`super::check`] makes it.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: Node,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub smtp: Smtp,
    /// Clients that may relay.
    pub trust: Vec<Network>,
    pub http: Http,
    pub spool: Spool,
    pub shaping: Shaping,
    pub delivery: Delivery,
    /// Those of `delivery.sources`, then those of `[[source]]`; no two have one name. Empty: the kernel
    /// chooses.
    pub sources: Vec<Source>,
    /// Those of the file; names are those of sources that there are.
    pub pools: Vec<Pool>,
    pub warmups: Vec<Warmup>,
    pub dns: Dns,
    /// Static routes; the first whose domain fits counts, the one without a domain fits all.
    pub routes: Vec<Route>,
    /// `None`: this node shares nothing with others.
    pub redis: Option<Redis>,
    pub log: Log,
}

impl Config {
    /// Those mail leaves from, in order.
    pub fn sources_enabled(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.enabled)
    }
}

/// Sources that mail of one kind leaves by.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: Arc<str>,
    pub selection: Selection,
    /// With the zone by whose clock they go.
    pub hours: Option<(Hours, Zone)>,
    /// No two are one source.
    pub members: Vec<PoolMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolMember {
    pub source: Arc<str>,
    pub weight: u32,
    pub off_hours: Option<u32>,
}

/// What a young source may send in a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    pub source: Arc<str>,
    /// Empty: all.
    pub providers: Vec<Box<str>>,
    pub ladder: Ladder,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub hostname: Domain,
    /// Named in delivery records.
    pub nodeid: String,
    pub shards: Shards,
}

/// On which CPUs shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One on each CPU this process may use.
    All,
    /// So many, on the first CPUs this process may use; at least one.
    Count(u16),
    /// One on each of these CPUs; not empty, none twice.
    Cpus(Vec<u16>),
}

/// One address that takes SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub connections_max: u32,
    /// Per client network: IPv4 /32, IPv6 /64.
    pub connections_per_client_max: u32,
}

/// What holds for each inbound session.
#[derive(Clone, Debug)]
pub struct Smtp {
    pub command_octets_max: usize,
    pub recipients_max: usize,
    pub message_octets_max: usize,
    pub commands_max: u32,
    pub errors_max: u32,
    pub messages_max: Option<u32>,
    pub idle: Duration,
    pub session: Duration,
    pub line_ends: LineEnds,
    /// Who gets mail for our postmaster.
    pub postmaster: Option<Address>,
}

/// What is done about a bare CR or LF in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    Reject,
    Normalise,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub address: SocketAddr,
    /// Without it the admin endpoints answer loopback clients only.
    pub token: Option<Secret>,
}

/// Text that no log and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for comparison or for sending.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Debug)]
pub struct Spool {
    pub path: PathBuf,
    pub durability: Durability,
    /// Below this much free disk no message is accepted.
    pub free_octets_min: u64,
    pub memtable_octets_max: u64,
    pub flush_octets_per_s: u64,
    /// Message data kept in memory for delivery, over all shards.
    pub bodies_octets_max: u64,
    pub queue_octets_max: u64,
}

/// What a 250 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk, past a power cut.
    Commit,
    /// With the kernel: past `kill -9`, not past a power cut.
    Relaxed,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub ehlo_name: Domain,
    pub port: u16,
    /// Per site, over all shards.
    pub connections_max: u32,
    pub messages_per_connection_max: u32,
    pub recipients_per_transaction_max: u32,
    /// Outcomes on their way to the disk, over all shards.
    pub unsynced_max: u32,
    /// How long an unused connection is kept.
    pub idle: Duration,
    pub pipelining: bool,
    pub eight_bit: EightBit,
    pub allow_private_targets: bool,
    pub timeouts: Timeouts,
    /// Delay before attempt 2, 3, …; the last repeats. Not empty.
    pub retry: Vec<Duration>,
    /// Share by which a delay is lengthened at most: 0 to 1.
    pub jitter: f64,
    pub max_age: Duration,
    /// Age at which the sender is told of a delay.
    pub warn_after: Option<Duration>,
}

/// Where shaping is read from.
#[derive(Clone, Debug)]
pub struct Shaping {
    /// In the order they are laid over each other.
    pub files: Vec<PathBuf>,
    /// Know the providers that come with the program.
    pub providers: bool,
}

/// What is done with 8-bit content for a next hop without 8BITMIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBit {
    Send,
    Refuse,
}

/// RFC 5321 §4.5.3.2, plus the connection itself.
#[derive(Clone, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub banner: Duration,
    pub ehlo: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    pub dot: Duration,
    pub quit: Duration,
}

#[derive(Clone, Debug)]
pub struct Dns {
    /// Empty: those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// For the answer of one server in the first round. None: not set.
    pub timeout: Option<Duration>,
    /// Rounds over all servers before a question fails. None: not set.
    pub attempts_max: Option<u32>,
    /// Answers kept per shard.
    pub cache_entries_max: usize,
    pub ttl_max: Duration,
    pub negative_ttl_max: Duration,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// None: every domain.
    pub domain: Option<Domain>,
    /// In the order to try; not empty.
    pub next_hops: Vec<NextHop>,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    Address(SocketAddr),
    /// Looked up as A and AAAA, not as MX.
    Name(Domain, u16),
}

/// Through which nodes share limits.
#[derive(Clone, Debug)]
pub struct Redis {
    /// At least one; of a single server, just that. No user or password in them.
    pub urls: Vec<String>,
    pub kind: RedisKind,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// PEM file; `None`: the system's authorities.
    pub tls_ca: Option<PathBuf>,
    pub prefix: String,
    pub on_loss: RedisLoss,
    pub timeout: Duration,
}

/// What answers at the URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisKind {
    Single,
    Sentinel {
        /// Not empty.
        master: String,
    },
    Cluster,
}

/// What a shared limit does while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisLoss {
    LastShare,
    Stop,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub dir: PathBuf,
    pub rotate_octets: u64,
    /// Rotated files kept.
    pub keep: u32,
    /// Fields of the message that records tell of; no two of one name.
    pub headers: Vec<Box<str>>,
}
