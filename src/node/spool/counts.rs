//! How many recipients of each message are still to be settled. Messages with one recipient need no
//! entry: their only settle is the last. One per spool, owned by the committer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use posthaste_core::words::MessageId;
use smallvec::SmallVec;

/// What a settle means for the rows of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was settled before, or its message is gone: nothing is to be written.
    Again,
    /// Others are still to come.
    Marked,
    /// It was the last one.
    Last,
}

/// Of messages with several recipients. Changes are undone unless they are confirmed, because a
/// batch that was not written did not happen.
#[derive(Debug, Default)]
pub(super) struct Counts {
    several: HashMap<MessageId, Remaining>,
    undo: Vec<Undo>,
}

#[derive(Debug)]
struct Remaining {
    left: u16,
    /// A bit for each recipient that is settled.
    settled: SmallVec<[u64; 1]>,
}

#[derive(Debug)]
enum Undo {
    Stored(MessageId),
    Settled(MessageId, u16),
    Removed(MessageId, Remaining),
}

impl Remaining {
    fn new(of: u16) -> Self {
        Self {
            left: of,
            settled: SmallVec::from_elem(0, usize::from(of).div_ceil(64)),
        }
    }

    fn bit(recipient: u16) -> (usize, u64) {
        (usize::from(recipient / 64), 1 << (recipient % 64))
    }

    /// A recipient that the message does not have counts as settled.
    fn is_settled(&self, recipient: u16) -> bool {
        let (word, bit) = Self::bit(recipient);
        self.settled.get(word).is_none_or(|w| w & bit != 0)
    }

    fn flip(&mut self, recipient: u16) {
        let (word, bit) = Self::bit(recipient);
        self.settled[word] ^= bit;
    }
}

impl Counts {
    /// A message with `of` recipients is in the spool.
    pub(super) fn store(&mut self, id: MessageId, of: u16) {
        if of > 1 {
            self.several.insert(id, Remaining::new(of));
            self.undo.push(Undo::Stored(id));
        }
    }

    /// `of` as in [`Change::Settle`](posthaste_core::words::Change::Settle).
    pub(super) fn settle(&mut self, id: MessageId, recipient: u16, of: u16) -> Verdict {
        if of <= 1 {
            return Verdict::Last;
        }
        let Entry::Occupied(mut entry) = self.several.entry(id) else {
            return Verdict::Again;
        };
        if recipient >= of || entry.get().is_settled(recipient) {
            return Verdict::Again;
        }
        if entry.get().left == 1 {
            self.undo.push(Undo::Removed(id, entry.remove()));
            return Verdict::Last;
        }
        entry.get_mut().left -= 1;
        entry.get_mut().flip(recipient);
        self.undo.push(Undo::Settled(id, recipient));
        Verdict::Marked
    }

    /// True only for what is known: a message with one recipient never is.
    pub(super) fn is_settled(&self, id: MessageId, recipient: u16) -> bool {
        let remaining = self.several.get(&id);
        remaining.is_some_and(|r| r.is_settled(recipient))
    }

    /// What changed since the last confirmation did happen.
    pub(super) fn confirm(&mut self) {
        self.undo.clear();
    }

    /// What changed since the last confirmation did not happen.
    pub(super) fn undo(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Stored(id) => {
                    self.several.remove(&id);
                }
                Undo::Settled(id, recipient) => {
                    let remaining = self.several.get_mut(&id);
                    let remaining = remaining.expect("steps are undone in reverse order");
                    remaining.left += 1;
                    remaining.flip(recipient);
                }
                Undo::Removed(id, remaining) => {
                    self.several.insert(id, remaining);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId::from_u128(1);

    #[test]
    fn the_last_of_several_is_the_last_and_no_other() {
        let mut counts = Counts::default();
        counts.store(ID, 130);
        for recipient in (1..130).rev() {
            assert_eq!(counts.settle(ID, recipient, 130), Verdict::Marked);
            assert_eq!(counts.settle(ID, recipient, 130), Verdict::Again);
            assert!(counts.is_settled(ID, recipient));
        }
        assert_eq!(counts.settle(ID, 130, 130), Verdict::Again, "no such");
        assert!(!counts.is_settled(ID, 0));
        assert_eq!(counts.settle(ID, 0, 130), Verdict::Last);
        assert_eq!(counts.settle(ID, 0, 130), Verdict::Again, "gone");
    }

    #[test]
    fn what_was_not_written_did_not_happen() {
        let mut counts = Counts::default();
        counts.store(ID, 2);
        counts.confirm();
        assert_eq!(counts.settle(ID, 1, 2), Verdict::Marked);
        assert_eq!(counts.settle(ID, 0, 2), Verdict::Last);
        counts.undo();
        assert_eq!(counts.settle(ID, 0, 2), Verdict::Marked);
        counts.confirm();
        assert_eq!(counts.settle(ID, 1, 2), Verdict::Last);
        counts.undo();
        assert_eq!(counts.settle(ID, 0, 2), Verdict::Again);
        assert_eq!(counts.settle(ID, 1, 2), Verdict::Last);
        counts.confirm();
        counts.store(ID, 2);
        counts.undo();
        assert_eq!(counts.settle(ID, 1, 2), Verdict::Again);
    }

    #[test]
    fn one_recipient_needs_no_entry() {
        let mut counts = Counts::default();
        counts.store(ID, 1);
        assert!(counts.several.is_empty());
        assert_eq!(counts.settle(ID, 0, 1), Verdict::Last);
    }
}
