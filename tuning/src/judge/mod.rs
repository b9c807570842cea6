//! Holds a host against a profile and a configuration. Pure: facts and measurements come as values.

mod disk;
mod machine;
mod names;
mod net;
mod sheet;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::finding::{Refusal, Report};
use crate::host::Host;
use crate::profile::Profile;
use sheet::Sheet;

/// What the configuration asks of the host.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The CPU of each shard; at least one.
    pub cpus: Vec<u16>,
    /// Open files for all connections that may be, and the node's own.
    pub files: u64,
    /// Octets the node may come to hold.
    pub memory: u64,
    /// `spool.free_min`.
    pub free_octets_min: u64,
    /// This host must have them. Empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Whether limits are shared with other nodes, and whether mail leaves by sources that have names.
    pub shares_limits: bool,
    pub names_sources: bool,
    /// Proxies connect from them: peers see them, this host need not have them.
    pub proxied: Vec<IpAddr>,
    pub resolvers: Vec<SocketAddr>,
    /// The spool's directory or the nearest above it that exists, without links.
    pub spool: PathBuf,
}

/// Of repeated measurements, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
}

/// Of one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_octets: u64,
    /// None where the file system has no fixed number.
    pub free_inodes: Option<u64>,
}

/// What the DNS says of an egress address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reverse {
    /// It has this name, which leads back to it.
    Confirmed(String),
    /// It has this name, which does not.
    Unconfirmed(String),
    Nameless,
    /// Nobody outside knows it.
    Private,
    /// No answer: why.
    Unreachable(String),
}

/// What was tried out. None and empty: not measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Appends to a file beside the spool, each synced; or why that failed.
    pub sync: Option<Result<Latency, String>>,
    /// By directory.
    pub spaces: Vec<(PathBuf, Space)>,
    pub resolvers: Vec<(SocketAddr, Result<Latency, String>)>,
    pub reverse: Vec<(IpAddr, Reverse)>,
}

/// All there is to say of `host`. What the node's own start-up check said (`refusals`) is fatal, and
/// nothing else is.
pub fn judge(
    host: &Host,
    wanted: &Wanted,
    measured: &Measured,
    refusals: &[Refusal],
    profile: &Profile,
) -> Report {
    let mut sheet = Sheet::new(profile, refusals);
    machine::judge(host, wanted, &mut sheet);
    net::judge(host, wanted, &mut sheet);
    disk::judge(host, wanted, measured, &mut sheet);
    names::judge(wanted, measured, &mut sheet);
    Report {
        profile: profile.name.to_owned(),
        place: host.place.clone(),
        hostname: host.hostname.clone().unwrap_or_default(),
        release: host.release.clone().unwrap_or_default(),
        findings: sheet.findings(),
        refused: refusals.first().map(|refusal| refusal.exit),
    }
}
