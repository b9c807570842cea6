//! A source: as whom we connect, and by whom.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::proxy::haproxy::Version;
use super::proxy::socks5::Login;
use crate::words::Domain;

/// The owner's number for a source; the same on all shards of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// By whom a connection is made for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// It is told in a PROXY header from which address to connect, and whither.
    HaProxy {
        version: Version,
        server: SocketAddr,
        source: IpAddr,
    },
    /// It connects from where it likes.
    Socks5 {
        server: SocketAddr,
        login: Option<Login>,
    },
}

impl Proxy {
    pub const fn server(&self) -> SocketAddr {
        match self {
            Self::HaProxy { server, .. } | Self::Socks5 { server, .. } => *server,
        }
    }
}

/// An identity mail is sent under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Named in delivery records. Empty where nothing is configured: those name none.
    pub name: Arc<str>,
    /// Bound before connecting, on the way to a proxy only where this host has it; `None`: what the
    /// system chooses.
    pub address: Option<IpAddr>,
    /// Said in EHLO; `None`: the node's name.
    pub ehlo: Option<Domain>,
    pub proxy: Option<Proxy>,
    /// IP_TTL or the hop limit, 1 to 255; `None`: the system's.
    pub ttl: Option<u8>,
    /// Whether mail leaves from it.
    pub enabled: bool,
}

impl Source {
    /// One that has nothing but an address.
    pub fn new(name: &str, address: Option<IpAddr>) -> Self {
        Self {
            name: name.into(),
            address,
            ehlo: None,
            proxy: None,
            ttl: None,
            enabled: true,
        }
    }

    /// The address this host must have, lest no mail leave: that of another is for the proxy to use.
    pub fn own(&self) -> Option<IpAddr> {
        self.address.filter(|_| self.proxy.is_none())
    }

    /// The address peers see, as far as it is known here: what lies behind SOCKS5 is not.
    pub const fn seen(&self) -> Option<IpAddr> {
        match &self.proxy {
            Some(Proxy::HaProxy { source, .. }) => Some(*source),
            Some(Proxy::Socks5 { .. }) => None,
            None => self.address,
        }
    }

    /// Whether it can reach that address at all: one of its own family, or any if that is not known.
    pub fn reaches(&self, peer: &IpAddr) -> bool {
        self.seen()
            .is_none_or(|own| own.is_ipv4() == peer.is_ipv4())
    }
}
