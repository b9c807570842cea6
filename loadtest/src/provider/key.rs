//! Keys of what a provider remembers: hashes, the maps they index, and their bounds.

use super::meter::Meter;
use super::profile::{Limit, Scope};
use posthaste_core::words::Moment;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

/// Entries of one map; beyond, what is spent is forgotten, and then all.
const KEYS_MAX: usize = 1 << 20;

/// Keys are hashes already.
#[derive(Clone, Copy, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, octets: &[u8]) {
        self.0 = hash(&[octets], self.0);
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

pub(super) type Map<T> = HashMap<u64, T, BuildHasherDefault<AsIs>>;

pub(super) fn meter<'a>(
    meters: &'a mut Map<Meter>,
    key: u64,
    limit: &Limit,
    now: Moment,
) -> &'a mut Meter {
    if meters.len() >= KEYS_MAX {
        meters.retain(|_, meter| !meter.is_spent(limit, now));
    }
    meters.entry(key).or_default()
}

/// Forgets what is spent when the map is full, and all when nothing is.
pub(super) fn bound<T>(map: &mut Map<T>, is_alive: impl Fn(&T) -> bool) {
    if map.len() < KEYS_MAX {
        return;
    }
    map.retain(|_, value| is_alive(value));
    if map.len() >= KEYS_MAX {
        map.clear();
    }
}

/// `text` is the recipient, or the message's id.
pub(super) fn key(scope: Scope, ip: IpAddr, domain: u64, text: &str) -> u64 {
    match (scope, ip) {
        (Scope::Site, _) => 1,
        (Scope::Domain, _) => domain,
        (Scope::Recipient | Scope::MessageId, _) => hash(&[text.as_bytes()], 0),
        (Scope::Ip, IpAddr::V4(ip)) => hash(&[&ip.octets()], 0),
        (Scope::Ip, IpAddr::V6(ip)) => hash(&[&ip.octets()], 0),
        (Scope::Net, IpAddr::V4(ip)) => hash(&[&ip.octets()[..3]], 0),
        (Scope::Net, IpAddr::V6(ip)) => hash(&[&ip.octets()[..8]], 0),
    }
}

/// FNV-1a over the parts, then mixed; never 0.
pub(super) fn hash(parts: &[&[u8]], seed: u64) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for part in parts {
        for octet in *part {
            state = (state ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        state = (state ^ 0x1FF).wrapping_mul(0x0000_0100_0000_01B3);
    }
    state ^= state >> 31;
    state = state.wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^= state >> 29;
    state | 1
}

pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
