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
    /// Octets of the message's data, saturating; zero while its message was never held.
    pub octets: u32,
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
            octets: 0,
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

    /// `None` for an id whose entry was removed.
    pub fn peek(&self, id: EntryId) -> Option<&Entry> {
        self.slots.get(id.0 as usize)?.as_ref()
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

/// One queue of [`Ready`].
#[derive(Debug, Default)]
struct Line {
    ids: VecDeque<EntryId>,
    /// This many from the front are known to hold no message.
    bare: usize,
}

impl Line {
    fn pop_front(&mut self) -> Option<EntryId> {
        self.bare = self.bare.saturating_sub(1);
        self.ids.pop_front()
    }
}

/// Ready work: two queues in order of arrival, fresh mail and retries, that take turns, so that
/// neither starves the other.
#[derive(Debug, Default)]
pub struct Ready {
    lines: [Line; 2],
    turn: usize,
}

impl Ready {
    /// `is_held`: the entry holds its message.
    pub fn push(&mut self, id: EntryId, is_retry: bool, is_held: bool) {
        let line = &mut self.lines[usize::from(is_retry)];
        if !is_held && line.bare == line.ids.len() {
            line.bare += 1;
        }
        line.ids.push_back(id);
    }

    /// First in its queue again.
    pub fn push_front(&mut self, id: EntryId, is_retry: bool, is_held: bool) {
        let line = &mut self.lines[usize::from(is_retry)];
        line.bare = if is_held { 0 } else { line.bare + 1 };
        line.ids.push_front(id);
    }

    pub fn pop(&mut self) -> Option<EntryId> {
        self.pop_head_where(|_| true)
    }

    /// The head of either queue that matches, taken out.
    pub fn pop_head_where(&mut self, matches: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        for index in [self.turn, 1 - self.turn] {
            let line = &mut self.lines[index];
            if line.ids.front().is_some_and(|id| matches(*id)) {
                self.turn = 1 - index;
                return line.pop_front();
            }
        }
        None
    }

    /// The head of one queue if it matches, taken out.
    pub fn pop_from_where(
        &mut self,
        is_retry: bool,
        matches: impl Fn(EntryId) -> bool,
    ) -> Option<EntryId> {
        let line = &mut self.lines[usize::from(is_retry)];
        line.ids.front().filter(|id| matches(**id))?;
        line.pop_front()
    }

    /// The last of one queue, taken out.
    pub fn pop_back_from(&mut self, is_retry: bool) -> Option<EntryId> {
        let line = &mut self.lines[usize::from(is_retry)];
        let id = line.ids.pop_back();
        line.bare = line.bare.min(line.ids.len());
        id
    }

    /// All that may hold a message; the caller takes their messages away. Each entry is met once
    /// for each time it is pushed, so this is O(1) amortised.
    pub fn strip(&mut self) -> Vec<EntryId> {
        let mut stripped = Vec::new();
        for line in &mut self.lines {
            stripped.extend(line.ids.range(line.bare..));
            line.bare = line.ids.len();
        }
        stripped
    }

    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.ids.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.ids.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Option<Entry>>() <= 56);
    }

    fn entries(count: u16) -> Vec<EntryId> {
        let mut entries = Entries::default();
        let id = MessageId::from_u128(1);
        (0..count)
            .map(|n| entries.insert(Entry::new(id, Recipients::One(n), 0, count)))
            .collect()
    }

    #[test]
    fn fresh_and_retries_take_turns() {
        let mut ready = Ready::default();
        let ids = entries(6);
        for (index, id) in ids.iter().enumerate() {
            ready.push(*id, index >= 3, false);
        }
        let order: Vec<_> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [ids[0], ids[3], ids[1], ids[4], ids[2], ids[5]]);
    }

    #[test]
    fn what_holds_no_message_is_not_stripped_again() {
        let mut ready = Ready::default();
        let ids = entries(6);
        ready.push(ids[0], false, false);
        ready.push(ids[1], false, true);
        ready.push(ids[2], false, false);
        assert_eq!(ready.strip(), [ids[1], ids[2]]);
        assert_eq!(ready.strip(), []);
        ready.push_front(ids[3], false, false);
        assert_eq!(ready.pop_back_from(false), Some(ids[2]));
        assert_eq!(ready.strip(), []);
        ready.push(ids[4], false, true);
        assert_eq!(ready.strip(), [ids[4]]);
        ready.push_front(ids[5], false, true);
        assert_eq!(ready.strip().first(), Some(&ids[5]));
        assert_eq!(ready.len(), 5);
    }
}
