//! Queued work in few bytes: a million entries must fit in memory beside everything else.

use std::collections::VecDeque;
use std::sync::Arc;

use core::time::Duration;

use crate::words::{Message, MessageId, Moment};

/// Index of an entry in [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(u32);

/// Recipients of one entry: indices into the message's envelope. Mostly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    One(u16),
    // A thin pointer: a fat one would cost every entry 8 bytes.
    Many(Box<Box<[u16]>>),
}

impl Recipients {
    pub fn from_slice(recipients: &[u16]) -> Self {
        match recipients {
            [one] => Self::One(*one),
            many => Self::Many(Box::new(many.into())),
        }
    }

    pub fn as_slice(&self) -> &[u16] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// One message for recipients of one domain that share their count of attempts.
#[derive(Clone, Debug)]
pub struct Entry {
    id: [u8; 16],
    /// Held only while its turn is near and the memory budget allows.
    pub message: Option<Arc<Message>>,
    pub recipients: Recipients,
    /// The owner's number for the recipients' domain.
    pub domain: u32,
    /// Recipients in the whole message.
    pub of: u16,
    pub attempts: u16,
    /// The sender has been told of the delay.
    pub warned: bool,
}

impl Entry {
    pub fn new(id: MessageId, recipients: Recipients, domain: u32, of: u16) -> Self {
        Self {
            id: id.to_bytes(),
            message: None,
            recipients,
            domain,
            of,
            attempts: 0,
            warned: false,
        }
    }

    pub fn id(&self) -> MessageId {
        MessageId::from_bytes(self.id)
    }

    /// Since its acceptance; the id tells when that was.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.accepted())
    }

    /// To the millisecond.
    pub fn accepted(&self) -> Moment {
        Moment::from_micros(self.id().millis().saturating_mul(1000))
    }
}

/// All entries of a shard, by index; freed places are used again.
#[derive(Debug, Default)]
pub struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Entries {
    pub fn insert(&mut self, entry: Entry) -> EntryId {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(entry);
            return EntryId(index);
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 4 billion entries a shard");
        self.slots.push(Some(entry));
        EntryId(index)
    }

    pub fn get(&self, id: EntryId) -> &Entry {
        self.slots[id.0 as usize]
            .as_ref()
            .expect("an entry id is held in one place and dropped on removal")
    }

    pub fn edit(&mut self, id: EntryId) -> &mut Entry {
        self.slots[id.0 as usize]
            .as_mut()
            .expect("an entry id is held in one place and dropped on removal")
    }

    pub fn remove(&mut self, id: EntryId) -> Entry {
        let entry = self.slots[id.0 as usize]
            .take()
            .expect("an entry id is held in one place and dropped on removal");
        self.free.push(id.0);
        entry
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Ready work: two queues in order of arrival that take turns, so that neither fresh mail nor
/// retries starve the other.
#[derive(Debug, Default)]
pub struct Ready {
    queues: [VecDeque<EntryId>; 2],
    turn: usize,
}

impl Ready {
    pub fn push(&mut self, id: EntryId, is_retry: bool) {
        self.queues[usize::from(is_retry)].push_back(id);
    }

    /// What [`Ready::pop`] would give.
    pub fn peek(&self) -> Option<EntryId> {
        let first = self.queues[self.turn].front();
        first
            .or_else(|| self.queues[1 - self.turn].front())
            .copied()
    }

    pub fn pop(&mut self) -> Option<EntryId> {
        if self.queues[self.turn].is_empty() {
            self.turn = 1 - self.turn;
        }
        let id = self.queues[self.turn].pop_front();
        self.turn = 1 - self.turn;
        id
    }

    /// The head of either queue that matches, taken out; the queues take turns here too.
    pub fn pop_head_where(&mut self, matches: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        for queue in [self.turn, 1 - self.turn] {
            if self.queues[queue].front().is_some_and(|id| matches(*id)) {
                self.turn = 1 - queue;
                return self.queues[queue].pop_front();
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = EntryId> {
        self.queues.iter().flatten().copied()
    }

    pub fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Option<Entry>>() <= 56);
    }

    #[test]
    fn fresh_and_retries_take_turns() {
        let mut entries = Entries::default();
        let mut ready = Ready::default();
        let id = MessageId::from_u128(1);
        let ids: Vec<_> = (0..6)
            .map(|n| entries.insert(Entry::new(id, Recipients::One(n), 0, 6)))
            .collect();
        for (index, id) in ids.iter().enumerate() {
            ready.push(*id, index >= 3);
        }
        let order: Vec<_> = core::iter::from_fn(|| {
            assert!(ready.peek().is_some() || ready.is_empty());
            ready.pop()
        })
        .collect();
        assert_eq!(order, [ids[0], ids[3], ids[1], ids[4], ids[2], ids[5]]);
    }
}
