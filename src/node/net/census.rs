//! How many connections are open on one listener, and from each client network, over all shards.

use core::hash::BuildHasher;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use std::hash::RandomState;
use std::sync::Arc;

use posthaste_core::admission::ConnectionLimits;
use posthaste_core::words::{Network, Reply};

/// Counters in each of two rows. A network's count is the lesser of its two, so that it is wrong
/// only where two other networks share both places with it; it is never too low.
const PLACES: usize = 1 << 15;

/// One per listener, shared by all shards without a lock.
#[derive(Debug)]
pub struct Census {
    limits: ConnectionLimits,
    open: AtomicU32,
    rows: [Box<[AtomicU32]>; 2],
    /// Clients must not be able to choose whom they collide with.
    keys: [RandomState; 2],
}

/// One open connection's place in the census; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    census: Arc<Census>,
    places: [usize; 2],
}

impl Census {
    pub fn new(limits: ConnectionLimits) -> Self {
        let row = || (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Self {
            limits,
            open: AtomicU32::new(0),
            rows: [row(), row()],
            keys: [RandomState::new(), RandomState::new()],
        }
    }

    /// Connections open.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.open() >= self.limits.per_listener_max
    }

    /// A place for a connection from `peer`, or what it is told instead of the greeting.
    pub fn seat(self: &Arc<Self>, peer: IpAddr) -> Result<Seat, Reply> {
        let network = self.limits.network(peer);
        let places = [0, 1].map(|row| place(&self.keys[row], network));
        let counts = [0, 1].map(|row: usize| &self.rows[row][places[row]]);
        let of_network = counts.map(|count| count.fetch_add(1, Ordering::Relaxed));
        let on_listener = self.open.fetch_add(1, Ordering::Relaxed);
        let seat = Seat {
            census: Arc::clone(self),
            places,
        };
        let of_network = of_network[0].min(of_network[1]);
        self.limits.judge(on_listener, of_network)?;
        Ok(seat)
    }
}

fn place(key: &RandomState, network: Network) -> usize {
    usize::try_from(key.hash_one(network) % PLACES as u64).unwrap_or(0)
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.open.fetch_sub(1, Ordering::Relaxed);
        for (row, place) in self.census.rows.iter().zip(self.places) {
            row[place].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_others_are_not_counted() {
        let census = Arc::new(Census::new(ConnectionLimits {
            per_network_max: 2,
            per_listener_max: 4,
            ..ConnectionLimits::default()
        }));
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let first = census.seat(client).unwrap();
        let _second = census.seat(client).unwrap();
        assert!(census.seat(client).is_err());
        let _other = census.seat("192.0.2.2".parse().unwrap()).unwrap();
        assert_eq!(census.open(), 3);
        drop(first);
        let _third = census.seat(client).unwrap();
        let _last = census.seat("2001:db8::1".parse().unwrap()).unwrap();
        assert!(census.seat("2001:db8:1::1".parse().unwrap()).is_err());
    }
}
