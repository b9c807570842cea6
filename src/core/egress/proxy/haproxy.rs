//! The header of the PROXY protocol, versions 1 and 2, as a client sends it: to a HAProxy that is to
//! connect from `source` (`source 0.0.0.0 usesrc clientip`) to `target`.

use core::net::{IpAddr, SocketAddr};

/// What each header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The header that asks for a connection from `source` to `target`: at most 107 octets. `None` when
/// the addresses are not of one family.
pub fn header(version: Version, source: SocketAddr, target: SocketAddr) -> Option<Vec<u8>> {
    match version {
        Version::V1 => v1_header(source, target),
        Version::V2 => v2_header(source, target),
    }
}

/// One line.
fn v1_header(source: SocketAddr, target: SocketAddr) -> Option<Vec<u8>> {
    let family = match (source.ip(), target.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        target.ip(),
        source.port(),
        target.port()
    );
    Some(line.into_bytes())
}

/// 28 octets or 52.
fn v2_header(source: SocketAddr, target: SocketAddr) -> Option<Vec<u8>> {
    let mut addresses = Vec::with_capacity(36);
    let family = match (source.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            addresses.extend_from_slice(&from.octets());
            addresses.extend_from_slice(&to.octets());
            TCP_OVER_IPV4
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            addresses.extend_from_slice(&from.octets());
            addresses.extend_from_slice(&to.octets());
            TCP_OVER_IPV6
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    addresses.extend_from_slice(&source.port().to_be_bytes());
    addresses.extend_from_slice(&target.port().to_be_bytes());
    let length = u16::try_from(addresses.len()).expect("two addresses have 36 octets at most");
    let mut header = Vec::with_capacity(16 + addresses.len());
    header.extend_from_slice(&SIGNATURE);
    header.extend_from_slice(&[VERSION_COMMAND, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn version_1_is_the_line_of_the_specification() {
        let line = header(Version::V1, at("192.0.2.7:56324"), at("198.51.100.11:25")).unwrap();
        assert_eq!(line, b"PROXY TCP4 192.0.2.7 198.51.100.11 56324 25\r\n");
        let line = header(
            Version::V1,
            at("[2001:db8::7]:1"),
            at("[2001:db8::2]:65535"),
        )
        .unwrap();
        assert_eq!(line, b"PROXY TCP6 2001:db8::7 2001:db8::2 1 65535\r\n");
        let long = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert!(header(Version::V1, at(long), at(long)).unwrap().len() <= 107);
    }

    #[test]
    fn version_2_is_the_block_of_the_specification() {
        let block = header(Version::V2, at("192.0.2.7:56324"), at("198.51.100.11:25")).unwrap();
        let head = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0C";
        assert_eq!(&block[..16], head);
        assert_eq!(
            block[16..],
            [192, 0, 2, 7, 198, 51, 100, 11, 0xDC, 0x04, 0, 25]
        );
        let block = header(Version::V2, at("[2001:db8::7]:1"), at("[2001:db8::2]:25")).unwrap();
        assert_eq!(block[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((block.len(), block[31], block[47]), (52, 7, 2));
        assert_eq!(block[48..], [0, 1, 0, 25]);
    }

    #[test]
    fn families_are_not_mixed() {
        let (v4, v6) = (at("192.0.2.7:1"), at("[2001:db8::2]:25"));
        for (source, target) in [(v4, v6), (v6, v4)] {
            assert_eq!(header(Version::V1, source, target), None);
            assert_eq!(header(Version::V2, source, target), None);
        }
    }
}
