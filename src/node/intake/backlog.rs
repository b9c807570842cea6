//! How much the shards have queued together, and where intake stops.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use posthaste_core::words::ShardId;

/// Memory of one entry of the queue, a message for recipients of one domain: 136 to 167 octets by
/// `bench/measure.py deep`.
const ENTRY_OCTETS: u64 = 200;

/// One per node. Each shard writes its own number; a message that moves from one to another is counted
/// twice or not at all for a moment, so the bound holds to within what is under way.
#[derive(Debug)]
pub struct Backlog {
    queued: Box<[CachePadded<AtomicUsize>]>,
    entries_max: usize,
}

impl Backlog {
    /// `octets_max`: memory that the queue may take.
    pub fn new(shards: u16, octets_max: u64) -> Self {
        Self {
            queued: (0..shards).map(|_| CachePadded::default()).collect(),
            entries_max: usize::try_from(octets_max / ENTRY_OCTETS).unwrap_or(usize::MAX),
        }
    }

    /// The shard has so many entries.
    pub fn tell(&self, shard: ShardId, entries: usize) {
        self.queued[usize::from(shard.0)].store(entries, Ordering::Relaxed);
    }

    /// No message is taken until some have left. Those that are queued already, found at a start or made
    /// here, are not asked.
    pub fn is_full(&self) -> bool {
        let all = self.queued.iter().map(|one| one.load(Ordering::Relaxed));
        all.sum::<usize>() >= self.entries_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_fill_it_together_and_it_has_room_again() {
        let backlog = Backlog::new(2, 10 * ENTRY_OCTETS);
        backlog.tell(ShardId(0), 5);
        backlog.tell(ShardId(1), 4);
        assert!(!backlog.is_full());
        backlog.tell(ShardId(1), 5);
        assert!(backlog.is_full());
        backlog.tell(ShardId(0), 0);
        assert!(!backlog.is_full());
    }
}
