//! How many at once: a counter with a bound, shared by all shards, and who waits for a free place.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::leased::Loss;
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

const fn shared(loss: Loss) -> u8 {
    match loss {
        Loss::LastShare => SHARED,
        Loss::Stop => SHARED_STOPS,
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

    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    fn is_any_beside(&self, shard: ShardId) -> bool {
        self.0.load(Ordering::SeqCst) & !bit(shard) != 0
    }

    /// All of them, who have to come again.
    pub(super) fn take(&self) -> Shards {
        if self.0.load(Ordering::SeqCst) == 0 {
            return Shards::default();
        }
        Shards(self.0.swap(0, Ordering::SeqCst))
    }
}

/// What a node has to say of places it shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Of all nodes together.
    pub total: u32,
    /// This node's part of them.
    pub part: u32,
    pub open: u32,
    /// The part it could use.
    pub wanted: u32,
    /// Whether somebody waits for a place.
    pub is_short: bool,
}

/// Whose the places are, in one octet.
const OWN: u8 = 0;
const SHARED: u8 = 1;
/// Without anybody who grants parts there are none.
const SHARED_STOPS: u8 = 2;

/// Places that are taken and given back. Its bound may change at any time, and so may whether several
/// nodes share it: who has a place keeps it.
#[derive(Debug)]
#[repr(align(64))]
pub struct Connections {
    open: AtomicU32,
    /// Of those, such as end because fewer are allowed than are open.
    leaving: AtomicU32,
    /// Of a shared bound, this node's part.
    max: AtomicU32,
    /// Of a shared bound: the places of all nodes together.
    total: AtomicU32,
    missed: AtomicU32,
    whose: AtomicU8,
    waiting: Waiting,
}

impl Connections {
    pub fn new(max: u32) -> Self {
        Self {
            open: AtomicU32::new(0),
            leaving: AtomicU32::new(0),
            max: AtomicU32::new(max),
            total: AtomicU32::new(max),
            missed: AtomicU32::new(0),
            whose: AtomicU8::new(OWN),
            waiting: Waiting::default(),
        }
    }

    /// All nodes together have `total` places; this one has `part` of them until it is told another.
    pub fn leased(total: u32, part: u32, loss: Loss) -> Self {
        let connections = Self::new(part.min(total));
        connections.total.store(total, Ordering::SeqCst);
        connections.whose.store(shared(loss), Ordering::SeqCst);
        connections
    }

    /// Whether there was a place.
    pub fn take(&self) -> bool {
        let max = self.max();
        let taken = self
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
                (open < max).then_some(open + 1)
            });
        taken.is_ok() || self.miss()
    }

    #[cold]
    fn miss(&self) -> bool {
        self.missed.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// One that is open already counts here from now on, whatever the bound.
    pub(super) fn join(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// What is to be said to whoever grants parts; `None` for places that are this node's own.
    pub fn ask(&self) -> Option<Places> {
        if !self.is_leased() {
            return None;
        }
        let missed = self.missed.swap(0, Ordering::Relaxed);
        let missed = missed.max(u32::from(self.waiting.is_any()));
        let (open, total) = (self.open(), self.total.load(Ordering::SeqCst));
        // Some to spare, so that a connection that replaces another waits for nobody.
        let wanted = open.saturating_add(missed.max(open.div_ceil(4)));
        Some(Places {
            total,
            part: self.max(),
            open,
            wanted: wanted.min(total),
            is_short: missed > 0,
        })
    }

    /// Whether several nodes share the places.
    pub fn is_leased(&self) -> bool {
        self.whose.load(Ordering::SeqCst) != OWN
    }

    /// This node's part of the places is `part`. What was granted before they became its own is void.
    pub fn fill(&self, part: u32) -> Shards {
        if self.is_leased() {
            self.set_max(part.min(self.total.load(Ordering::SeqCst)))
        } else {
            Shards::default()
        }
    }

    /// Nobody grants parts.
    pub fn lose(&self) -> Shards {
        if self.whose.load(Ordering::SeqCst) == SHARED_STOPS {
            self.set_max(0)
        } else {
            Shards::default()
        }
    }

    /// Whether one of those that are open has to end: there are more than the bound allows, without
    /// those that end already. It is one of these from then on.
    pub fn cede(&self) -> bool {
        let (open, max) = (self.open(), self.max());
        if open <= max {
            return false;
        }
        let order = Ordering::SeqCst;
        let is_one = |leaving: u32| (open.saturating_sub(leaving) > max).then_some(leaving + 1);
        self.leaving.fetch_update(order, order, is_one).is_ok()
    }

    /// One that has a place here ends for the sake of another bound.
    pub(super) fn leave(&self) {
        self.leaving.fetch_add(1, Ordering::SeqCst);
    }

    /// Who was to end has ended.
    pub(super) fn give_ceded(&self) -> Shards {
        let told = self.give();
        self.leaving.fetch_sub(1, Ordering::SeqCst);
        told
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

    /// The places are this node's own, `max` of them. A smaller bound is met as places are given back;
    /// who has one hears by [`Connections::cede`] that it is too many.
    pub fn change(&self, max: u32) -> Shards {
        self.whose.store(OWN, Ordering::SeqCst);
        self.set_max(max)
    }

    /// The same where all nodes together have `total`. A part grows when it is granted: what was this
    /// node's own alone is worth the places that are taken.
    pub fn share(&self, total: u32, loss: Loss) -> Shards {
        self.total.store(total, Ordering::SeqCst);
        let before = self.whose.swap(shared(loss), Ordering::SeqCst);
        let most = if before == OWN { self.open() } else { total };
        self.max.fetch_min(most.min(total), Ordering::SeqCst);
        Shards::default()
    }

    fn set_max(&self, max: u32) -> Shards {
        let before = self.max.swap(max, Ordering::SeqCst);
        if max > before {
            self.waiting.take()
        } else {
            Shards::default()
        }
    }

    /// Whether somebody waits for a place, or did when the last one was given back.
    pub fn is_wanted(&self) -> bool {
        self.waiting.is_any()
    }

    /// The same of other shards than this one.
    pub fn is_wanted_beside(&self, shard: ShardId) -> bool {
        self.waiting.is_any_beside(shard)
    }

    /// Whether half of the places are taken, or more.
    pub fn is_crowded(&self) -> bool {
        self.open() >= self.max().div_ceil(2)
    }

    pub fn is_full(&self) -> bool {
        self.open() >= self.max()
    }

    pub fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    /// Of all nodes together, where they share the places.
    pub fn total(&self) -> Option<u32> {
        self.is_leased().then(|| self.total.load(Ordering::SeqCst))
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

    #[test]
    fn of_shared_places_a_node_has_its_part_and_says_what_it_lacks() {
        let places = Connections::leased(10, 1, Loss::Stop);
        assert!(places.take() && !places.take());
        let asked = places.ask().unwrap();
        assert_eq!((asked.total, asked.part, asked.open), (10, 1, 1));
        assert_eq!((asked.wanted, asked.is_short), (2, true));
        assert!(!places.ask().unwrap().is_short, "a miss is told once");
        places.wait(ShardId(1));
        assert!(places.ask().unwrap().is_short, "who waits is told of again");
        assert!(places.fill(3).contains(ShardId(1)));
        assert!(places.take() && places.take() && !places.take());
        assert!(places.share(2, Loss::Stop).is_empty() && places.max() == 2);
        assert!(
            places.fill(7).is_empty() && places.max() == 2,
            "of two in all"
        );
        let _ = places.lose();
        assert_eq!((places.max(), places.open()), (0, 3));
        let stays = Connections::leased(10, 4, Loss::LastShare);
        let _ = stays.lose();
        assert_eq!(stays.max(), 4);
        assert_eq!(Connections::new(4).ask(), None);
    }

    #[test]
    fn as_many_are_to_end_as_are_too_many() {
        let connections = Connections::new(5);
        for _ in 0..5 {
            assert!(connections.take());
        }
        assert!(!connections.cede());
        let _ = connections.change(3);
        assert!(connections.cede() && connections.cede());
        assert!(!connections.cede(), "two end");
        let _ = connections.give_ceded();
        assert!(!connections.cede(), "one of them has");
        let _ = connections.change(2);
        assert!(connections.cede() && !connections.cede());
        let _ = (connections.give_ceded(), connections.give_ceded());
        assert_eq!((connections.open(), connections.cede()), (2, false));
    }
}
