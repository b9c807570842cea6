//! The operator's word on routing: who we are, what is allowed, static routes.

use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use std::collections::BTreeMap;

use crate::words::Domain;

/// The port of a next hop or MX host unless told otherwise.
const SMTP_PORT: u16 = 25;

/// Which address families are looked up, and which comes first within a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    V4,
    V6,
    #[default]
    V4ThenV6,
    V6ThenV4,
}

/// How mail may be routed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Names we go by; an MX of such a name is ourselves.
    pub hostnames: Vec<Domain>,
    /// Where we listen; a host at such an address and port is ourselves.
    pub listeners: Vec<SocketAddr>,
    /// Let DNS and address literals lead to [`super::is_prohibited`] addresses.
    pub allow_private: bool,
    pub families: Families,
    /// The port of MX hosts and address literals.
    pub port: u16,
    pub routes: Routes,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hostnames: Vec::new(),
            listeners: Vec::new(),
            allow_private: false,
            families: Families::default(),
            port: SMTP_PORT,
            routes: Routes::default(),
        }
    }
}

/// Static routes: domains that are not looked up.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    exact: BTreeMap<Domain, Vec<NextHop>>,
    rest: Option<Vec<NextHop>>,
}

impl Routes {
    /// Sends `domain` to `next_hops` in this order. Replaces an earlier route of that domain.
    ///
    /// Panics when `next_hops` is empty: the caller checks its configuration first.
    pub fn insert(&mut self, domain: Domain, next_hops: Vec<NextHop>) {
        assert!(!next_hops.is_empty(), "a static route leads somewhere");
        self.exact.insert(domain, next_hops);
    }

    /// Sends every domain without a route of its own to `next_hops` (the `*` route).
    ///
    /// Panics when `next_hops` is empty.
    pub fn set_rest(&mut self, next_hops: Vec<NextHop>) {
        assert!(!next_hops.is_empty(), "a static route leads somewhere");
        self.rest = Some(next_hops);
    }

    pub fn find(&self, domain: &Domain) -> Option<&[NextHop]> {
        self.exact
            .get(domain)
            .or(self.rest.as_ref())
            .map(Vec::as_slice)
    }
}

/// The host of a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopHost {
    Address(IpAddr),
    /// Looked up by A and AAAA, never by MX.
    Name(Domain),
}

/// `host:port`, `192.0.2.1:25`, `[2001:db8::1]:25`; the port may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub host: HopHost,
    pub port: u16,
}

/// The text is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    #[error("next hop has no valid host")]
    Host,
    #[error("next hop has no valid port")]
    Port,
}

impl FromStr for NextHop {
    type Err = NextHopError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self {
                host: HopHost::Address(address),
                port: SMTP_PORT,
            });
        }
        let end = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[end..].rfind(':') {
            Some(colon) => (&text[..end + colon], &text[end + colon + 1..]),
            None => (text, "25"),
        };
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(NextHopError::Port),
            Ok(port) => port,
        };
        Ok(Self {
            host: hop_host(host).ok_or(NextHopError::Host)?,
            port,
        })
    }
}

fn hop_host(text: &str) -> Option<HopHost> {
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = bracketed.unwrap_or(text).parse() {
        return Some(HopHost::Address(address));
    }
    let domain = Domain::parse(text).ok()?;
    Some(match domain.literal() {
        Some(address) => HopHost::Address(address),
        None => HopHost::Name(domain),
    })
}

impl core::fmt::Display for NextHop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.host {
            HopHost::Address(address) => {
                core::fmt::Display::fmt(&SocketAddr::new(*address, self.port), f)
            }
            HopHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
