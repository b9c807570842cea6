//! Addresses a stranger's DNS may not send us to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether mail found by DNS or by an address literal must not go to this address: private, shared
/// (RFC 6598), loopback, link-local, multicast, unspecified or reserved, also when an IPv6 address
/// wraps such an IPv4 one. Documentation addresses are not: they lead nowhere and harm nobody.
pub fn is_prohibited(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_prohibited_v4(v4),
        IpAddr::V6(v6) => is_prohibited_v6(v6),
    }
}

fn is_prohibited_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
}

fn is_prohibited_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        // fc00::/7 unique local, fe80::/10 link-local, fec0::/10 the site-local of old.
        || first & 0xfe00 == 0xfc00
        || first & 0xff80 == 0xfe80
        || wrapped_v4(address).is_some_and(is_prohibited_v4)
}

/// The IPv4 address a packet would end up at: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn wrapped_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |s6: u16, s7: u16| {
        let ([a, b], [c, d]) = (s6.to_be_bytes(), s7.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, s6, s7] | [0x64, 0xff9b, 0, 0, 0, 0, s6, s7] => {
            Some(last(s6, s7))
        }
        [0x2002, s1, s2, ..] => Some(last(s1, s2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_targets_are_prohibited_in_every_disguise() {
        for bad in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::1",
        ] {
            assert!(is_prohibited(bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn public_and_documentation_targets_are_not() {
        for good in [
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "2001:db8::1",
            "2a00:1450::1",
            "::ffff:192.0.2.1",
            "2002:c000:201::1",
        ] {
            assert!(!is_prohibited(good.parse().unwrap()), "{good}");
        }
    }
}
