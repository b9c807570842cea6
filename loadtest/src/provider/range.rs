//! Blocks of addresses that mail hosts are given, of this machine and of private networks only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    count: u32,
}

impl Range {
    /// Reads a block such as `127.1.0.0/24`.
    ///
    /// # Errors
    /// In plain words, what it is instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no block of addresses; try 127.1.0.0/24");
        let (base, length): (Ipv4Addr, u32) = split(text).ok_or_else(wrong)?;
        if !base.is_loopback() && !base.is_private() {
            return Err(format!("{text:?} is neither loopback nor private"));
        }
        if !(8..=30).contains(&length) {
            return Err("a block is between /8 and /30".to_owned());
        }
        let count = 1 << (32 - length);
        Ok(Self {
            // The first address of a block is its name.
            first: Ipv4Addr::from_bits((base.to_bits() & !(count - 1)) + 1).into(),
            count: count - 2,
        })
    }

    /// Reads a block such as `fd00:1::/112`, or one address, such as `::1/128`.
    ///
    /// # Errors
    /// In plain words, what it is instead.
    pub fn parse_v6(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no block of IPv6 addresses; try fd00:1::/112");
        let (base, length): (Ipv6Addr, u32) = split(text).ok_or_else(wrong)?;
        if !base.is_loopback() && !base.is_unique_local() {
            return Err(format!("{text:?} is neither loopback nor private"));
        }
        if length == 128 {
            let first = base.into();
            return Ok(Self { first, count: 1 });
        }
        if !(104..=126).contains(&length) {
            return Err("a block is between /104 and /126, or /128".to_owned());
        }
        let count = 1_u32 << (128 - length);
        let name = base.to_bits() & !(u128::from(count) - 1);
        Ok(Self {
            first: Ipv6Addr::from_bits(name + 1).into(),
            count: count - 2,
        })
    }

    /// The next so many addresses, which it then has no more; nothing where it has not so many.
    pub(super) fn take(&mut self, count: u8) -> Option<Vec<IpAddr>> {
        let taken = u32::from(count);
        self.count = self.count.checked_sub(taken)?;
        let addresses = (0..taken).map(|index| nth(self.first, index)).collect();
        self.first = nth(self.first, taken);
        Some(addresses)
    }
}

fn split<T: std::str::FromStr>(text: &str) -> Option<(T, u32)> {
    let (base, length) = text.split_once('/')?;
    Some((base.parse().ok()?, length.parse().ok()?))
}

/// A block's end is not an address's: what wraps round is never given out.
fn nth(first: IpAddr, index: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(index)).into(),
        IpAddr::V6(first) => {
            Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(index))).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_and_given_out_once() {
        let mut made = Range::parse("127.1.0.9/24").unwrap();
        assert_eq!(made.count, 254);
        assert_eq!(made.take(1).unwrap(), [IpAddr::from([127, 1, 0, 1])]);
        let two = [[127, 1, 0, 2], [127, 1, 0, 3]].map(IpAddr::from);
        assert_eq!(made.take(2).unwrap(), two);
        assert_eq!(made.take(252), None);
        for bad in ["127.1.0.0", "8.8.8.0/24", "127.0.0.1/31", "x/24", "::1/24"] {
            assert!(Range::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ipv6_blocks_may_be_one_address() {
        let mut one = Range::parse_v6("::1/128").unwrap();
        assert_eq!(one.take(1).unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(one.take(1), None);
        let mut block = Range::parse_v6("fd00:1::/112").unwrap();
        assert_eq!(block.count, 65_534);
        assert_eq!(block.take(1).unwrap()[0].to_string(), "fd00:1::1");
        for bad in [
            "::1",
            "2001:db8::/112",
            "fd00::/64",
            "fd00::/127",
            "127.1.0.0/24",
        ] {
            assert!(Range::parse_v6(bad).is_err(), "{bad}");
        }
    }
}
