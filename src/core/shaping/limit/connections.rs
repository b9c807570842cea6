//! How many at once: a counter with a bound, shared by all shards, and who waits for a free place.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::words::ShardId;

/// Shards that are to be told something. From the 65th on two shards share a place, and one of them
/// may be told in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Shards(u64);

impl Shards {
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, shard: ShardId) -> bool {
        self.0 & bit(shard) != 0
    }
}

const fn bit(shard: ShardId) -> u64 {
    1 << (shard.0 % 64)
}

/// Shards where somebody waits for what has no due time.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicU64);

impl Waiting {
    /// To be followed by one more try: what was freed before nobody is told of.
    pub(super) fn add(&self, shard: ShardId) {
        if self.0.load(Ordering::SeqCst) & bit(shard) == 0 {
            self.0.fetch_or(bit(shard), Ordering::SeqCst);
        }
    }

    /// All of them, who have to come again.
    pub(super) fn take(&self) -> Shards {
        if self.0.load(Ordering::SeqCst) == 0 {
            return Shards::default();
        }
        Shards(self.0.swap(0, Ordering::SeqCst))
    }
}

/// Places that are taken and given back. Its bound may change at any time.
#[derive(Debug)]
#[repr(align(64))]
pub struct Connections {
    open: AtomicU32,
    max: AtomicU32,
    waiting: Waiting,
}

impl Connections {
    pub fn new(max: u32) -> Self {
        Self {
            open: AtomicU32::new(0),
            max: AtomicU32::new(max),
            waiting: Waiting::default(),
        }
    }

    /// Whether there was a place.
    pub fn take(&self) -> bool {
        let max = self.max();
        self.open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
                (open < max).then_some(open + 1)
            })
            .is_ok()
    }

    /// A place is free again, for these shards to ask for.
    pub fn give(&self) -> Shards {
        let before = self.open.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a place is given back once");
        self.waiting.take()
    }

    /// Tells `shard` of the next place that is given back. Ask for a place again after this.
    pub fn wait(&self, shard: ShardId) {
        self.waiting.add(shard);
    }

    /// A smaller bound closes nothing; it is met as places are given back.
    pub fn change(&self, max: u32) -> Shards {
        let before = self.max.swap(max, Ordering::SeqCst);
        if max > before {
            self.waiting.take()
        } else {
            Shards::default()
        }
    }

    pub fn is_full(&self) -> bool {
        self.open() >= self.max()
    }

    pub fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    pub fn max(&self) -> u32 {
        self.max.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_bound_and_who_waits_is_told_once() {
        let connections = Connections::new(2);
        assert!(connections.take() && connections.take() && !connections.take());
        connections.wait(ShardId(3));
        assert!(!connections.take(), "nothing was freed between");
        let told = connections.give();
        assert!(told.contains(ShardId(3)) && !told.contains(ShardId(2)));
        assert!(connections.give().is_empty());
    }

    #[test]
    fn a_lowered_bound_is_met_as_places_come_back() {
        let connections = Connections::new(3);
        assert!(connections.take() && connections.take() && connections.take());
        assert!(connections.change(1).is_empty());
        let _ = connections.give();
        assert!(!connections.take());
        let _ = connections.give();
        assert!(!connections.take());
        let _ = connections.give();
        assert!(connections.take());
        connections.wait(ShardId(0));
        assert!(!connections.change(2).is_empty(), "a wider bound is news");
    }
}
