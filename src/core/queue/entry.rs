//! Queued work in few bytes: a million entries must fit in memory beside everything else.

use std::collections::VecDeque;
use std::sync::Arc;

use core::cell::Cell;
use core::time::Duration;

use super::labels::LabelId;
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
    /// The owner's number for the message's labels.
    pub labels: LabelId,
    /// The sender has been told of the delay.
    pub warned: bool,
    /// The day whose count it is in, as the owner numbers them; zero: in none.
    pub counted: u8,
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
            labels: LabelId::DEFAULT,
            warned: false,
            counted: 0,
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

    pub fn iter_with_ids(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        let slots = (0..).map(EntryId).zip(&self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
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
    /// Where the next window begins.
    swept: usize,
}

impl Line {
    fn pop_front(&mut self) -> Option<EntryId> {
        self.bare = self.bare.saturating_sub(1);
        self.swept = self.swept.saturating_sub(1);
        self.ids.pop_front()
    }

    /// See [`Ready::take_near`].
    fn take_near(
        &mut self,
        strangers_max: usize,
        taken: &mut Vec<EntryId>,
        mut matches: impl FnMut(EntryId) -> bool,
    ) {
        let mut at = 0;
        while at < self.ids.len().min(strangers_max) {
            if matches(self.ids[at]) {
                taken.extend(self.ids.remove(at));
                self.bare -= usize::from(at < self.bare);
                self.swept -= usize::from(at < self.swept);
            } else {
                at += 1;
            }
        }
    }

    /// Takes out what matches of the next `window` entries, in their order, and how many were
    /// looked at. The others keep their places.
    fn sweep(
        &mut self,
        window: usize,
        taken: &mut Vec<EntryId>,
        matches: impl Fn(EntryId) -> bool,
    ) -> usize {
        let start = self.swept.min(self.ids.len());
        let end = self.ids.len().min(start + window);
        let mut kept = start;
        let mut bare = self.bare;
        for at in start..end {
            let id = self.ids[at];
            if matches(id) {
                taken.push(id);
                bare -= usize::from(at < self.bare);
            } else {
                self.ids[kept] = id;
                kept += 1;
            }
        }
        self.ids.drain(kept..end);
        self.bare = bare;
        self.swept = if kept < self.ids.len() { kept } else { 0 };
        end - start
    }
}

/// Ready work: two queues in order of arrival, fresh mail and retries, that take turns, so that
/// neither starves the other.
#[derive(Debug)]
pub struct Ready {
    lines: [Line; 2],
    turn: usize,
    /// The queue in which the next window is.
    sweeping: usize,
    /// No entry was accepted before.
    oldest: Moment,
    /// The same of what was met or pushed since the sweep began from the start.
    oldest_met: Moment,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            lines: Default::default(),
            turn: 0,
            sweeping: 0,
            oldest: Moment::NEVER,
            oldest_met: Moment::NEVER,
        }
    }
}

impl Ready {
    /// Nothing in it was accepted before this. A bound, not exact: what leaves does not raise it, a
    /// whole sweep does.
    pub fn oldest(&self) -> Moment {
        if self.is_empty() {
            return Moment::NEVER;
        }
        self.oldest
    }

    fn note(&mut self, accepted: Moment) {
        self.oldest = self.oldest().min(accepted);
        self.oldest_met = self.oldest_met.min(accepted);
    }

    /// `is_held`: the entry holds its message. `accepted`: when it was.
    pub fn push(&mut self, id: EntryId, is_retry: bool, is_held: bool, accepted: Moment) {
        self.note(accepted);
        let line = &mut self.lines[usize::from(is_retry)];
        if !is_held && line.bare == line.ids.len() {
            line.bare += 1;
        }
        line.ids.push_back(id);
    }

    /// First in its queue again.
    pub fn push_front(&mut self, id: EntryId, is_retry: bool, is_held: bool, accepted: Moment) {
        self.note(accepted);
        let line = &mut self.lines[usize::from(is_retry)];
        line.bare = if is_held { 0 } else { line.bare + 1 };
        line.swept += usize::from(line.swept > 0);
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

    /// The last of one queue.
    pub fn last_of(&self, is_retry: bool) -> Option<EntryId> {
        self.lines[usize::from(is_retry)].ids.back().copied()
    }

    /// Takes out what matches near the front of one queue, in its order: the search ends behind
    /// `strangers_max` entries that do not match.
    pub fn take_near(
        &mut self,
        is_retry: bool,
        strangers_max: usize,
        taken: &mut Vec<EntryId>,
        matches: impl FnMut(EntryId) -> bool,
    ) {
        self.lines[usize::from(is_retry)].take_near(strangers_max, taken, matches);
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

    /// Looks at the next `window` entries, wherever they stand in their queues, and takes out what
    /// matches. With it, whether all were looked at since this began from the start. Amortised
    /// O(window), but for a move of small numbers when something is taken. `look` says whether an
    /// entry is taken, and when it was accepted.
    pub fn sweep(
        &mut self,
        window: usize,
        look: impl Fn(EntryId) -> (bool, Moment),
    ) -> (Vec<EntryId>, bool) {
        let mut taken = Vec::new();
        if self.sweeping == 0 && self.lines[0].swept == 0 {
            self.oldest_met = Moment::NEVER;
        }
        let met = Cell::new(self.oldest_met);
        let matches = |id| {
            let (is_taken, accepted) = look(id);
            if !is_taken {
                met.set(met.get().min(accepted));
            }
            is_taken
        };
        let is_through = self.sweep_lines(window, &mut taken, &matches);
        self.oldest_met = met.get();
        if is_through {
            self.oldest = self.oldest_met;
        }
        (taken, is_through)
    }

    fn sweep_lines(
        &mut self,
        window: usize,
        taken: &mut Vec<EntryId>,
        matches: &impl Fn(EntryId) -> bool,
    ) -> bool {
        let mut left = window;
        loop {
            let line = &mut self.lines[self.sweeping];
            if left == 0 && !line.ids.is_empty() {
                return false;
            }
            left -= line.sweep(left, taken, matches);
            if line.swept > 0 {
                return false;
            }
            self.sweeping = 1 - self.sweeping;
            if self.sweeping == 0 {
                return true;
            }
        }
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

    fn at(secs: u64) -> Moment {
        Moment::from_secs(secs)
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
            ready.push(*id, index >= 3, false, at(0));
        }
        let order: Vec<_> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [ids[0], ids[3], ids[1], ids[4], ids[2], ids[5]]);
    }

    #[test]
    fn a_sweep_meets_everything_and_keeps_the_order() {
        let mut ready = Ready::default();
        let ids = entries(20);
        for (index, id) in ids.iter().enumerate() {
            let accepted = at(u64::from(id.0) + 3);
            ready.push(*id, index % 2 == 1, index == 16, accepted);
        }
        assert_eq!(ready.oldest(), at(3));
        let matches = |id: EntryId| (id.0.is_multiple_of(3), at(u64::from(id.0) + 3));
        let mut taken = Vec::new();
        for window in 1..=7 {
            let (some, is_through) = ready.sweep(3, matches);
            taken.extend(some);
            assert_eq!(is_through, window == 7, "{window}");
        }
        assert_eq!(taken.len(), 7);
        assert_eq!(ready.oldest(), at(4), "the first is taken");
        assert_eq!(ready.strip(), [ids[16]]);
        let order = |is_retry: bool, ready: &mut Ready| -> Vec<EntryId> {
            core::iter::from_fn(|| ready.pop_from_where(is_retry, |_| true)).collect()
        };
        assert_eq!(
            order(false, &mut ready),
            [2, 4, 8, 10, 14, 16].map(|n| ids[n])
        );
        assert_eq!(
            order(true, &mut ready),
            [1, 5, 7, 11, 13, 17, 19].map(|n| ids[n])
        );
    }

    #[test]
    fn what_is_near_is_taken_and_the_rest_keeps_its_order() {
        let mut ready = Ready::default();
        let ids = entries(10);
        for id in &ids {
            ready.push(*id, false, id.0 >= 4, at(0));
        }
        let mut taken = Vec::new();
        ready.take_near(false, 3, &mut taken, |id| [0, 3, 5, 9].contains(&id.0));
        assert_eq!(taken, [ids[0], ids[3]], "1, 2 and 4 end the search");
        assert_eq!(ready.last_of(false), Some(ids[9]));
        assert_eq!(ready.last_of(true), None);
        assert_eq!(ready.strip(), [4, 5, 6, 7, 8, 9].map(|n| ids[n]));
        let order: Vec<_> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [1, 2, 4, 5, 6, 7, 8, 9].map(|n| ids[n]));
    }

    #[test]
    fn what_holds_no_message_is_not_stripped_again() {
        let mut ready = Ready::default();
        let ids = entries(6);
        ready.push(ids[0], false, false, at(0));
        ready.push(ids[1], false, true, at(0));
        ready.push(ids[2], false, false, at(0));
        assert_eq!(ready.strip(), [ids[1], ids[2]]);
        assert_eq!(ready.strip(), []);
        ready.push_front(ids[3], false, false, at(0));
        assert_eq!(ready.pop_back_from(false), Some(ids[2]));
        assert_eq!(ready.strip(), []);
        ready.push(ids[4], false, true, at(0));
        assert_eq!(ready.strip(), [ids[4]]);
        ready.push_front(ids[5], false, true, at(0));
        assert_eq!(ready.strip().first(), Some(&ids[5]));
        assert_eq!(ready.len(), 5);
    }
}
