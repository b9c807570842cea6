//! Relaying for named networks, and how many connections a client may hold.

use core::net::IpAddr;

use crate::words::{Address, Enhanced, Reply};

use super::Network;

/// The default trusts nobody: an open relay has to be written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Clients in these may send to anyone.
    pub relay_networks: Vec<Network>,
}

impl Admission {
    /// Whether `peer` may send to `recipient` through us.
    pub fn judge(&self, peer: IpAddr, _recipient: &Address) -> Result<(), Reply> {
        if self.relay_networks.iter().any(|net| net.contains(peer)) {
            return Ok(());
        }
        let code = Some(Enhanced::new(5, 7, 1));
        Err(Reply::new(550, code, "Relaying denied"))
    }
}

/// Inbound connections open at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub per_listener_max: u32,
    pub per_network_max: u32,
    /// What counts as one client network.
    pub network_prefix_v4: u8,
    pub network_prefix_v6: u8,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            per_listener_max: 20_000,
            per_network_max: 5_000,
            network_prefix_v4: 32,
            network_prefix_v6: 64,
        }
    }
}

impl ConnectionLimits {
    /// The network `peer` is counted under.
    pub fn network(&self, peer: IpAddr) -> Network {
        let prefix = match peer.to_canonical() {
            IpAddr::V4(_) => self.network_prefix_v4,
            IpAddr::V6(_) => self.network_prefix_v6,
        };
        Network::around(peer, prefix)
    }

    /// Judges a new connection by what is open without it. An `Err` is sent in place of the
    /// greeting (RFC 5321 §3.8: 421).
    pub fn judge(&self, on_listener: u32, of_network: u32) -> Result<(), Reply> {
        let full = if on_listener >= self.per_listener_max {
            "Too many connections"
        } else if of_network >= self.per_network_max {
            "Too many connections from your network"
        } else {
            return Ok(());
        };
        Err(Reply::new(421, Some(Enhanced::new(4, 7, 0)), full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_relays_by_default() {
        let rcpt = Address::parse("a@b.test").unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        let refused = Admission::default().judge(peer, &rcpt).unwrap_err();
        assert_eq!(refused.to_string(), "550 5.7.1 Relaying denied");
        let relay_networks = vec!["127.0.0.0/8".parse().unwrap()];
        assert_eq!(Admission { relay_networks }.judge(peer, &rcpt), Ok(()));
    }

    #[test]
    fn connections_are_counted_per_listener_and_network() {
        let limits = ConnectionLimits::default();
        assert_eq!(limits.judge(0, 0), Ok(()));
        assert!(limits.judge(20_000, 0).is_err());
        assert!(limits.judge(5_000, 5_000).is_err());
        let near = limits.network("2001:db8::1".parse().unwrap());
        assert!(near.contains("2001:db8::ffff".parse().unwrap()));
    }
}
