//! An address and how many of its leading bits count.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

/// A network such as `192.0.2.0/24` or `2001:db8::/32`. IPv4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Bits beyond the prefix are zero.
    base: IpAddr,
    prefix: u8,
}

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    #[error("not an IP address")]
    Address,
    #[error("prefix length is not a number within the address's length")]
    Prefix,
    #[error("address has bits set beyond its prefix length")]
    HostBits,
}

impl Network {
    /// The network of `prefix` bits around `address`; a longer prefix than the address is cut.
    pub fn around(address: IpAddr, prefix: u8) -> Self {
        let address = address.to_canonical();
        let prefix = prefix.min(width(address));
        Self {
            base: masked(address, prefix),
            prefix,
        }
    }

    /// Reads it as KumoMTA does, which drops bits beyond the prefix where [`FromStr`] refuses them.
    pub fn rounded(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = parts(text)?;
        Ok(Self::around(address, bits))
    }

    /// Bits that all addresses of the network share.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its first address.
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// Whether all of `other` is within.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.prefix) == self.base
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = parts(text)?;
        let network = Self::around(address, bits);
        let exact = network.base == address;
        exact.then_some(network).ok_or(NotANetwork::HostBits)
    }
}

/// An address, and how many of its bits count.
fn parts(text: &str) -> Result<(IpAddr, u8), NotANetwork> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let written: IpAddr = address.parse().map_err(|_| NotANetwork::Address)?;
    let address = written.to_canonical();
    let mut bits = match prefix {
        None => width(written),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| NotANetwork::Prefix)?
        }
        Some(_) => return Err(NotANetwork::Prefix),
    };
    if bits > width(written) {
        return Err(NotANetwork::Prefix);
    }
    if written.is_ipv6() && address.is_ipv4() {
        // `::ffff:192.0.2.0/120` is `192.0.2.0/24`.
        bits = bits.checked_sub(96).ok_or(NotANetwork::HostBits)?;
    }
    Ok((address, bits))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("127.0.0.0/8", "127.9.9.9", "128.0.0.1"),
            ("192.0.2.0/25", "::ffff:192.0.2.127", "192.0.2.128"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("::1", "::1", "127.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "fe80::1", "10.0.0.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
    }

    #[test]
    fn malformed_networks_are_refused() {
        for (text, why) in [
            ("", NotANetwork::Address),
            ("10.0.0/8", NotANetwork::Address),
            ("10.0.0.0/33", NotANetwork::Prefix),
            ("10.0.0.0/", NotANetwork::Prefix),
            ("10.0.0.0/+8", NotANetwork::Prefix),
            ("10.0.0.1/8", NotANetwork::HostBits),
            ("::ffff:0.0.0.0/95", NotANetwork::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(why), "{text}");
        }
    }

    #[test]
    fn bits_beyond_the_prefix_are_dropped_where_that_is_asked_for() {
        let rounded = Network::rounded("127.0.0.1/8").unwrap();
        assert_eq!(Ok(rounded), "127.0.0.0/8".parse());
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/"] {
            assert!(Network::rounded(bad).is_err(), "{bad}");
        }
    }
}
