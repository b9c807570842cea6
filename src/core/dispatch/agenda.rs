//! What a shard does at its time: entries that wait for their next attempt, and timers.

use std::cmp::Reverse;
use std::vec::IntoIter;

use super::lane::Wake;
use crate::queue::{Due, EntryId};
use crate::words::Moment;

/// Entries stand apart: a flush takes them all at once, however many they are, and timers keep theirs.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: Due<EntryId>,
    timers: Due<Wake>,
}

impl Agenda {
    pub(super) fn push(&mut self, due: Moment, wake: Wake) {
        match wake {
            Wake::Entry(id) => self.entries.push(due, id),
            Wake::Lane(_)
            | Wake::Idle(_)
            | Wake::Domain(_)
            | Wake::Rest(_)
            | Wake::Report(_)
            | Wake::Shaping
            | Wake::News => self.timers.push(due, wake),
        }
    }

    /// The earliest due time.
    pub(super) fn next(&self) -> Option<Moment> {
        let next = self.entries.next().into_iter();
        next.chain(self.timers.next()).min()
    }

    /// The earliest of all, if it is due; of one moment entries come first.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Wake> {
        let timer = self.timers.next().unwrap_or(Moment::NEVER);
        match self.entries.next() {
            Some(entry) if entry <= timer => self.entries.pop(now).map(Wake::Entry),
            Some(_) | None => self.timers.pop(now),
        }
    }

    /// All entries that wait, and when each is due: the earliest first, the others in any order. O(1).
    pub(super) fn take_entries(&mut self) -> IntoIter<Reverse<(Moment, EntryId)>> {
        self.entries.take_all()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.timers.len()
    }
}

/// A timer must not cost more than a due time and a number.
const _: () = assert!(size_of::<(Moment, Wake)>() == 16);
