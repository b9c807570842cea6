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
    /// Lower goes first; hosts of one preference share the load (RFC 5321 §5.1).
    pub preference: u16,
}

/// The ordered hosts of a site: try the first, then the next. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub site: SiteName,
    /// Who may get the mail, in what order: all names by preference, equal ones sorted, those
    /// without an address at this moment included. Plans that differ in it never share connections.
    pub names: Arc<str>,
    /// The MX hosts by which providers are recognised: lower case, each once, those without an
    /// address included. Empty for a static route and an address literal.
    pub mx_hosts: Vec<Box<str>>,
    pub hosts: Vec<Host>,
}

impl Plan {
    /// Indices of all hosts in the order in which one connection tries them. With each `turn` another
    /// host of each preference goes first, and another address of each host; addresses of one family
    /// stay together.
    pub fn order(&self, turn: u64) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.hosts.len());
        for equals in runs(0..self.hosts.len(), |a, b| {
            self.hosts[a].preference == self.hosts[b].preference
        }) {
            let mut hosts = runs(equals, |a, b| self.hosts[a].name == self.hosts[b].name);
            let round = turn / hosts.len().max(1) as u64;
            rotate(&mut hosts, turn);
            for host in hosts {
                for mut family in runs(host, |a, b| {
                    let (a, b) = (self.hosts[a].address, self.hosts[b].address);
                    a.is_ipv4() == b.is_ipv4()
                }) {
                    rotate(&mut family, round);
                    order.append(&mut family);
                }
            }
        }
        order
    }
}

fn runs(
    of: impl IntoIterator<Item = usize>,
    alike: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<usize>> {
    let all: Vec<usize> = of.into_iter().collect();
    all.chunk_by(|a, b| alike(*a, *b))
        .map(<[usize]>::to_vec)
        .collect()
}

fn rotate<T>(items: &mut [T], turn: u64) {
    let places = turn.checked_rem(items.len() as u64).unwrap_or(0);
    items.rotate_left(usize::try_from(places).unwrap_or(0));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_take_turns_and_preference_holds() {
        let host = |(name, address, preference): &(&str, &str, u16)| Host {
            name: (*name).into(),
            address: address.parse().unwrap(),
            preference: *preference,
        };
        let hosts = [
            ("a", "192.0.2.1:25", 10),
            ("a", "192.0.2.2:25", 10),
            ("a", "[2001:db8::1]:25", 10),
            ("b", "192.0.2.3:25", 10),
            ("z", "192.0.2.4:25", 20),
        ];
        let plan = Plan {
            site: SiteName::new("x"),
            names: "x".into(),
            mx_hosts: Vec::new(),
            hosts: hosts.iter().map(host).collect(),
        };
        assert_eq!(plan.order(0), [0, 1, 2, 3, 4]);
        assert_eq!(plan.order(1), [3, 0, 1, 2, 4]);
        assert_eq!(plan.order(2), [1, 0, 2, 3, 4]);
        assert_eq!(plan.order(3), [3, 1, 0, 2, 4]);
        let firsts: Vec<usize> = (0..1000).map(|turn| plan.order(turn)[0]).collect();
        let of = |index| firsts.iter().filter(|first| **first == index).count();
        assert_eq!((of(0), of(1), of(3)), (250, 250, 500));
    }
}
