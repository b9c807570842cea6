//! Entries of one message, of several domains, that one site takes in one transaction. Each stays an
//! entry of its own, with its attempts and its due time.

use smallvec::{SmallVec, smallvec};

use super::brain::Dispatch;
use super::lane::Company;
use crate::queue::EntryId;
use crate::words::Moment;

/// Entries of other messages that are looked at in search of company: mail for many domains enters a
/// lane as one, or one behind the other as their routes become known.
const STRANGERS_MAX: usize = 32;

impl Dispatch {
    /// What goes in one transaction with this entry, which holds its message, and all their
    /// recipients. O(1) for an entry that has all recipients of its message.
    pub(super) fn gather(
        &mut self,
        id: EntryId,
        lane: u32,
        now: Moment,
    ) -> (Company, SmallVec<[u16; 1]>) {
        let entry = self.entries.get(id);
        let mut company: Company = smallvec![id];
        let mut recipients = SmallVec::from_slice(entry.recipients.as_slice());
        if recipients.len() >= usize::from(entry.of) {
            return (company, recipients);
        }
        let serial = self.labels.serial(entry.labels);
        let strand = self.lanes[lane].strands.find(entry.labels, serial);
        let Some(strand) = strand else {
            return (company, recipients);
        };
        let room = self.recipients_max(lane, strand);
        let mut room = room.saturating_sub(recipients.len());
        if room == 0 {
            return (company, recipients);
        }
        let (message, is_retry) = (entry.id(), entry.attempts > 0);
        let mut strands = core::mem::take(&mut self.lanes[lane].strands);
        let mut is_mate = |other: EntryId| {
            let mate = self.entries.get(other);
            let count = mate.recipients.as_slice().len();
            let goes = mate.id() == message
                && count <= room
                && !self.is_expired(other, now)
                && !self.is_stray(other, lane);
            room -= if goes { count } else { 0 };
            goes
        };
        let is_held = |mate: &EntryId| self.entries.get(*mate).message.is_some();
        let mates = strands.take_near(strand, is_retry, STRANGERS_MAX, &mut is_mate, is_held);
        self.lanes[lane].strands = strands;
        for mate in mates {
            let is_held = self.acquire(mate);
            assert!(is_held, "what one entry of a message holds, all share");
            recipients.extend_from_slice(self.entries.get(mate).recipients.as_slice());
            company.push(mate);
        }
        (company, recipients)
    }

    /// Whether the entry, about to be the last in its lane, will go with the one before it: then it
    /// needs no connection of its own.
    pub(super) fn has_company(&self, id: EntryId, lane: u32, strand: u32) -> bool {
        let (entry, state) = (self.entries.get(id), &self.lanes[lane]);
        let count = entry.recipients.as_slice().len();
        if count >= usize::from(entry.of) {
            return false;
        }
        let last = state.strands.last_of(strand, entry.attempts > 0);
        last.map(|last| self.entries.get(last)).is_some_and(|last| {
            let together = count + last.recipients.as_slice().len();
            last.id() == entry.id() && together <= self.recipients_max(lane, strand)
        })
    }

    /// In one transaction of a strand.
    pub(super) fn recipients_max(&self, lane: u32, strand: u32) -> usize {
        let state = &self.lanes[lane];
        let own = state.strands.get(strand).and_then(|s| s.terms.as_ref());
        let own = own.map_or(usize::MAX, |terms| terms.recipients_per_transaction_max);
        own.min(state.terms.recipients_per_transaction_max)
    }
}
