//! A shard's queue: what is ready, and what waits for its time.

use core::time::Duration;

use posthaste_core::queue::{Due, Entries, Entry, EntryId, Ready, Recipients};
use posthaste_core::words::{IdSequence, MessageId, Moment, ShardId};

use crate::T0;

/// A queue with `depth` entries: two thirds ready, fresh mail and retries, the rest waiting for its
/// time. One step takes an entry out and puts another one in, as a busy shard does.
pub struct Queue {
    entries: Entries,
    ready: Ready,
    due: Due<EntryId>,
    ids: IdSequence,
    seed: u64,
}

impl Queue {
    pub fn filled(depth: usize) -> Self {
        let mut queue = Self {
            entries: Entries::default(),
            ready: Ready::default(),
            due: Due::default(),
            ids: IdSequence::new(ShardId(0), 1),
            seed: 1,
        };
        for n in 0..depth {
            let id = queue.insert();
            if n % 3 == 2 {
                let due = queue.moment();
                queue.due.push(due, id);
            } else {
                queue.ready.push(id, n % 3 == 1, false, T0);
            }
        }
        queue
    }

    fn insert(&mut self) -> EntryId {
        let id = self.ids.next(T0);
        self.entries
            .insert(Entry::new(id, Recipients::One(0), 0, 1))
    }

    /// Within four hours, spread as jitter spreads them.
    fn moment(&mut self) -> Moment {
        self.seed = next(self.seed);
        T0 + Duration::from_micros(self.seed % 14_400_000_000)
    }

    /// The first ready entry leaves, a new one comes.
    pub fn insert_pop(&mut self) -> Option<MessageId> {
        let gone = self.ready.pop().map(|id| self.entries.remove(id).id());
        let id = self.insert();
        self.ready.push(id, false, false, T0);
        gone
    }

    /// The earliest timer goes off, and its entry is put off again.
    pub fn defer(&mut self) -> Option<Moment> {
        let due = self.due.next()?;
        let id = self.due.pop(due)?;
        let again = due
            + Duration::from_secs(300)
            + Duration::from_micros(next(self.seed) % 14_000_000_000);
        self.seed = next(self.seed);
        self.due.push(again, id);
        Some(due)
    }
}

/// Marsaglia's xorshift: spread without chance.
pub const fn next(mut seed: u64) -> u64 {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    seed
}
