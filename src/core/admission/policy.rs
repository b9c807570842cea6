//! Relaying for named networks, and how many connections a client may hold.

use core::net::IpAddr;

use crate::words::{Address, Domain, Enhanced, Network, Reply};

/// One per node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Clients in these may send to anyone.
    pub relay_networks: Vec<Network>,
    /// This host's own name; mail for its postmaster is ours to take (RFC 5321 §4.5.1).
    pub hostname: Domain,
    /// Who reads what is sent to our postmaster; `None` sends it to the host by this name, as any other
    /// mail, and takes it from clients that may relay only.
    pub postmaster: Option<Address>,
}

impl Admission {
    /// Trusts nobody: an open relay has to be written down.
    pub const fn new(hostname: Domain) -> Self {
        Self {
            relay_networks: Vec::new(),
            hostname,
            postmaster: None,
        }
    }

    /// Whether `peer` may send to `recipient` through us; `Some` is the address that is meant.
    pub fn judge(&self, peer: IpAddr, recipient: &Address) -> Result<Option<Address>, Reply> {
        let is_ours = self.is_our_postmaster(recipient);
        if let Some(postmaster) = self.postmaster.as_ref().filter(|_| is_ours) {
            return Ok(Some(postmaster.clone()));
        }
        if self.relay_networks.iter().any(|net| net.contains(peer)) {
            return Ok(None);
        }
        if is_ours {
            let text = "No postmaster mailbox here: smtp.postmaster is not set";
            return Err(Reply::new(550, Some(Enhanced::new(5, 1, 1)), text));
        }
        let code = Some(Enhanced::new(5, 7, 1));
        Err(Reply::new(550, code, "Relaying denied"))
    }

    fn is_our_postmaster(&self, recipient: &Address) -> bool {
        let local = recipient.local();
        let quoted = local.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
        quoted.unwrap_or(local).eq_ignore_ascii_case("postmaster")
            && recipient.domain_str() == self.hostname.as_str()
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

    fn admission() -> Admission {
        Admission::new(Domain::parse("mx.test").unwrap())
    }

    fn judge(admission: &Admission, recipient: &str) -> String {
        let peer = "127.0.0.1".parse().unwrap();
        let recipient = Address::parse(recipient).unwrap();
        match admission.judge(peer, &recipient) {
            Ok(None) => "as it is".to_owned(),
            Ok(Some(address)) => address.to_string(),
            Err(reply) => reply.to_string(),
        }
    }

    #[test]
    fn nobody_relays_by_default() {
        let mut admission = admission();
        assert_eq!(judge(&admission, "a@b.test"), "550 5.7.1 Relaying denied");
        admission.relay_networks = vec!["127.0.0.0/8".parse().unwrap()];
        assert_eq!(judge(&admission, "a@b.test"), "as it is");
    }

    #[test]
    fn our_postmaster_is_reached_by_everybody_or_by_those_who_may_relay() {
        let mut admission = admission();
        let ours = [
            "postmaster@mx.test",
            "PostMaster@MX.test",
            "\"postmaster\"@mx.test",
        ];
        for trusted in [false, true] {
            if trusted {
                admission.relay_networks = vec!["127.0.0.0/8".parse().unwrap()];
            }
            admission.postmaster = None;
            for recipient in ours {
                let judged = judge(&admission, recipient);
                let expected = if trusted {
                    "as it is"
                } else {
                    "550 5.1.1 No postmaster"
                };
                assert!(judged.starts_with(expected), "{judged}");
            }
            admission.postmaster = Address::parse("ops@else.test").ok();
            for recipient in ours {
                assert_eq!(judge(&admission, recipient), "ops@else.test");
            }
        }
        assert_eq!(judge(&admission, "postmaster@b.test"), "as it is");
        admission.relay_networks.clear();
        for other in ["postmaster@b.test", "postmaster2@mx.test", "a@mx.test"] {
            assert_eq!(judge(&admission, other), "550 5.7.1 Relaying denied");
        }
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
