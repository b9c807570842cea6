//! A source: as whom we connect.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::words::Domain;

/// The owner's number for a source; the same on all shards of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// By whom a connection is made for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// It is told our source address in a PROXY header, version 2.
    HaProxy {
        server: SocketAddr,
        source: IpAddr,
    },
    Socks5 {
        server: SocketAddr,
        source: IpAddr,
    },
}

/// An identity mail is sent under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: Arc<str>,
    /// Bound before connecting; `None`: what the system chooses.
    pub address: Option<IpAddr>,
    /// Said in EHLO; `None`: the node's name.
    pub ehlo: Option<Domain>,
    pub proxy: Option<Proxy>,
}

impl Source {
    /// Whether it can reach that address at all: one of its own family, or by any if it has none.
    pub fn reaches(&self, peer: &IpAddr) -> bool {
        let own = match &self.proxy {
            Some(Proxy::HaProxy { source, .. } | Proxy::Socks5 { source, .. }) => Some(source),
            None => self.address.as_ref(),
        };
        own.is_none_or(|own| own.is_ipv4() == peer.is_ipv4())
    }
}
