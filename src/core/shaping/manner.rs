//! How connections of a path behave, as values that outlive the files they come from.

use super::effective::Effective;
use super::path::{IpLookup, Waits};
use crate::words::{Network, Plan};

/// What those who speak to a host of the path need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    pub waits: Waits,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Send 8-bit content to a peer without 8BITMIME too.
    pub ignores_8bit: bool,
    /// Name in EHLO, if the path has one of its own.
    pub ehlo_name: Option<Box<str>>,
    /// Addresses that are passed over.
    pub skipped: Vec<Network>,
    pub lookup: IpLookup,
}

impl Effective<'_> {
    /// What holds at this moment.
    pub fn manner(&self) -> Manner {
        let path = self.path();
        Manner {
            waits: path.waits,
            pipelining: path.enable_pipelining,
            ignores_8bit: path.ignore_8bit_checks,
            ehlo_name: path.ehlo_domain.map(Box::from),
            skipped: path.skip_hosts.to_vec(),
            lookup: path.ip_lookup_strategy,
        }
    }
}

impl Manner {
    /// As [`Plan::order`], without the addresses that are not to be used. A family that goes first
    /// does so among hosts of one preference; may be empty.
    pub fn order(&self, plan: &Plan, turn: u64) -> Vec<usize> {
        let mut order = plan.order(turn);
        let (is_v4_used, is_v6_used) = match self.lookup {
            IpLookup::V4Only => (true, false),
            IpLookup::V6Only => (false, true),
            IpLookup::V4AndV6 | IpLookup::V6ThenV4 | IpLookup::V4ThenV6 => (true, true),
        };
        order.retain(|index| {
            let address = plan.hosts[*index].address.ip();
            let is_used = if address.is_ipv4() {
                is_v4_used
            } else {
                is_v6_used
            };
            is_used && !self.skipped.iter().any(|network| network.contains(address))
        });
        let is_v4_first = match self.lookup {
            IpLookup::V4ThenV6 => true,
            IpLookup::V6ThenV4 => false,
            IpLookup::V4AndV6 | IpLookup::V4Only | IpLookup::V6Only => return order,
        };
        order.sort_by_key(|index| {
            let host = &plan.hosts[*index];
            (host.preference, host.address.is_ipv4() != is_v4_first)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::{File, Layer, Overrides, Party, Shaping, SiteFacts};
    use crate::words::{Host, Moment, SiteName};

    fn manner(text: &str) -> Manner {
        let text = format!("[\"default\"]\n{text}");
        let file = File {
            name: "t.toml",
            text: &text,
            layer: Layer::Operator,
        };
        let shaping = Shaping::read(&[file]).unwrap();
        let facts = SiteFacts {
            domain: "x.example",
            mx_hosts: &[],
            site: "x",
        };
        let party = Party {
            source: "s",
            tenant: "t",
            campaign: "c",
        };
        let overrides = Overrides::default();
        let effective = shaping.resolve(&overrides, facts, party, Moment::from_secs(1));
        effective.manner()
    }

    #[test]
    fn families_and_skipped_addresses_are_obeyed() {
        let hosts = [
            ("192.0.2.1:25", 10),
            ("[2001:db8::1]:25", 10),
            ("192.0.2.2:25", 20),
            ("[2001:db8::2]:25", 20),
        ];
        let host = |(address, preference): &(&str, u16)| Host {
            name: "mx".into(),
            address: address.parse().unwrap(),
            preference: *preference,
        };
        let plan = Plan {
            site: SiteName::new("x"),
            names: "x".into(),
            mx_hosts: Vec::new(),
            hosts: hosts.iter().map(host).collect(),
        };
        let order = |text: &str| manner(text).order(&plan, 0);
        assert_eq!(order(""), [0, 1, 2, 3]);
        assert_eq!(order("ip_lookup_strategy = \"Ipv4Only\""), [0, 2]);
        assert_eq!(order("ip_lookup_strategy = \"Ipv6Only\""), [1, 3]);
        assert_eq!(order("ip_lookup_strategy = \"Ipv6ThenIpv4\""), [1, 0, 3, 2]);
        assert_eq!(order("ip_lookup_strategy = \"Ipv4ThenIpv6\""), [0, 1, 2, 3]);
        assert_eq!(order("skip_hosts = [\"192.0.2.0/24\"]"), [1, 3]);
    }
}
