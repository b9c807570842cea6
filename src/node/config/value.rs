//! Values as operators write them: durations, sizes, networks, next hops.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use posthaste_core::words::Domain;

use super::types::NextHop;

/// Units of durations, the longest first.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// Units of sizes, the largest first; powers of ten are accepted, never printed.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const SMTP_PORT: u16 = 25;

/// `90m`, `1h30m`, `5d`, `250ms`: numbers with units, the larger first.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis = 0u64;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        if *factor >= last_unit {
            return None;
        }
        last_unit = *factor;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// `10MiB`, `64KiB`, `512B`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// `host:port`, `address:port`, `host` or `address`; port 25 when none is given.
pub(super) fn next_hop(text: &str) -> Option<NextHop> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(NextHop::Address(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(NextHop::Address(SocketAddr::new(address, SMTP_PORT)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, SMTP_PORT),
    };
    let domain = Domain::parse(host).ok()?;
    domain
        .literal()
        .is_none()
        .then_some(NextHop::Name(domain, port))
}

/// `address:port` or an address, with `port` when none is given.
pub(super) fn endpoint(text: &str, port: u16) -> Option<SocketAddr> {
    text.parse()
        .ok()
        .or_else(|| Some(SocketAddr::new(text.parse().ok()?, port)))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The shortest text that [`duration`] reads back.
pub(super) fn duration_text(millis: u64) -> String {
    unit_text(millis, DURATION_UNITS, "0s")
}

/// The shortest text that [`size`] reads back.
pub(super) fn size_text(octets: u64) -> String {
    unit_text(
        octets,
        &[
            SIZE_UNITS[0],
            SIZE_UNITS[1],
            SIZE_UNITS[2],
            SIZE_UNITS[3],
            SIZE_UNITS[8],
        ],
        "0B",
    )
}

fn unit_text(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .map_or_else(
            || zero.into(),
            |(unit, factor)| format!("{}{unit}", value / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back_as_printed() {
        for (text, millis) in [
            ("90m", 5_400_000),
            ("5d", 432_000_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
            assert_eq!(duration(&duration_text(millis)), duration(text));
        }
        for bad in [
            "",
            "5",
            "m",
            "5 m",
            "5m1h",
            "1m1m",
            "-5s",
            "5w",
            "99999999999999999d",
            "ä",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for (text, octets) in [
            ("10MiB", 10 << 20),
            ("64KiB", 65_536),
            ("512B", 512),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(size(text), Some(octets), "{text}");
            assert_eq!(size(&size_text(octets)), Some(octets));
        }
        for bad in ["", "10", "MiB", "10mib", "10 MiB", "-1B", "99999999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn next_hops_have_a_port() {
        assert_eq!(
            next_hop("127.0.0.2:2526"),
            Some(NextHop::Address("127.0.0.2:2526".parse().unwrap()))
        );
        assert_eq!(
            next_hop("::1"),
            Some(NextHop::Address("[::1]:25".parse().unwrap()))
        );
        let name = Domain::parse("relay.example").unwrap();
        assert_eq!(
            next_hop("Relay.Example:587"),
            Some(NextHop::Name(name.clone(), 587))
        );
        assert_eq!(next_hop("relay.example"), Some(NextHop::Name(name, 25)));
        for bad in ["", ":25", "host:", "host:0", "host:70000", "a b:25", "[x]"] {
            assert_eq!(next_hop(bad), None, "{bad}");
        }
    }
}
