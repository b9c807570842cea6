//! Where mail goes.

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;

/// The name of a set of MX hosts that share limits (MX rollup), or of a static next hop.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(Arc<str>);

impl SiteName {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The MX or next-hop name, as records and TLS want it.
    pub name: Arc<str>,
    pub address: SocketAddr,
}

/// The ordered hosts of a site: try the first, then the next. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub site: SiteName,
    pub hosts: Vec<Host>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Permanent: no such domain, or one without MX and address.
    #[error("domain does not exist")]
    NoSuchDomain,
    /// Permanent: RFC 7505.
    #[error("domain does not accept mail (null MX)")]
    NullMx,
    /// Permanent: the best MX is ourselves (RFC 5321 §5.1).
    #[error("mail for this domain loops back to this host")]
    LoopsToUs,
    /// Permanent: the domain points to private or loopback addresses and these are not allowed.
    #[error("domain resolves only to prohibited addresses ({0})")]
    Prohibited(core::net::IpAddr),
    /// Temporary: no name server gave a usable answer.
    #[error("DNS failure: {0}")]
    Dns(&'static str),
}

impl RouteError {
    pub const fn is_permanent(&self) -> bool {
        !matches!(self, Self::Dns(_))
    }
}
