//! Identities: of a message, a connection, a shard.

use core::fmt;
use core::str::FromStr;

use super::Moment;

/// Which shard of this node. Shards are numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// One outbound connection of one shard; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A message's name for life: 48 bits of milliseconds, 16 bits of shard, 64 bits that no other
/// message of that shard and start has. Sorts by time of reception.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

/// An SMTP session, inbound or outbound, as records name it. Never used twice, as message ids are
/// not, and of their form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u128);

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TEXT_LEN: usize = 26;

impl MessageId {
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Big-endian, so that byte order is time order.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Milliseconds since the epoch at which the id was made.
    pub const fn millis(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.0, f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.0, f)
    }
}

fn write_text(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Sixty bits at a time: a shift of 128 is several of 64.
    const DIGITS: usize = 12;
    let mut text = [0u8; TEXT_LEN];
    let mut rest = value;
    for digits in text.rchunks_mut(DIGITS) {
        let mut part = rest as u64;
        rest >>= 5 * DIGITS;
        for place in digits.iter_mut().rev() {
            *place = ALPHABET[(part & 31) as usize];
            part >>= 5;
        }
    }
    f.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a message id: 26 characters of Crockford's base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: 26 characters of 0-9 and A-Z without I, L, O, U")]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != TEXT_LEN {
            return Err(NotAnId);
        }
        let mut value = 0u128;
        for byte in text.bytes() {
            let digit = ALPHABET
                .iter()
                .position(|c| *c == byte.to_ascii_uppercase())
                .ok_or(NotAnId)?;
            if value >> 123 != 0 {
                return Err(NotAnId);
            }
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

/// Makes ids for one shard. Deterministic: the same seed gives the same ids.
#[derive(Clone, Debug)]
pub struct IdSequence {
    shard: ShardId,
    next: u64,
}

impl IdSequence {
    /// `seed` must differ from start to start of a node, or ids of one millisecond may repeat.
    pub const fn new(shard: ShardId, seed: u64) -> Self {
        Self { shard, next: seed }
    }

    pub fn next(&mut self, now: Moment) -> MessageId {
        let millis = u128::from(now.as_micros() / 1000) & ((1 << 48) - 1);
        // A Weyl step keeps ids of one millisecond far apart without a second state.
        self.next = self.next.wrapping_add(0x9E37_79B9_7F4A_7C15);
        MessageId(millis << 80 | u128::from(self.shard.0) << 64 | u128::from(self.next))
    }

    pub fn next_session(&mut self, now: Moment) -> SessionId {
        SessionId(self.next(now).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mut ids = IdSequence::new(ShardId(3), 42);
        for _ in 0..100 {
            let id = ids.next(Moment::from_secs(1_800_000_000));
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(MessageId::from_bytes(id.to_bytes()), id);
        }
        assert_eq!("Z".repeat(26).parse::<MessageId>(), Err(NotAnId));
        assert_eq!("short".parse::<MessageId>(), Err(NotAnId));
    }

    #[test]
    fn ids_sort_by_time() {
        let mut ids = IdSequence::new(ShardId(0), u64::MAX - 1);
        let early = ids.next(Moment::from_secs(10));
        let late = ids.next(Moment::from_secs(11));
        assert!(early < late && early.to_string() < late.to_string());
    }
}
