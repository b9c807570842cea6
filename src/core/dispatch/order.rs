//! What an operator orders for queued mail of some: that it ends, or that it is tried again at once.
//! Marked in one go, and carried out in bounded parts wherever the mail is; what is on a connection
//! ends with its attempt first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::brain::Dispatch;
use super::lane::Wake;
use super::overview::Whose;
use crate::queue::{Entry, EntryId};
use crate::words::{Cause, Moment, Outcome};

/// What is to become of mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing: it is counted.
    Count,
    /// It ends, refused for this reason. Without `is_told` no sender hears of it.
    Bounce { reason: Box<str>, is_told: bool },
    /// It is due, and pauses of its domains end. With `is_fresh` its attempts are forgotten.
    Requeue { is_fresh: bool },
}

/// How much mail an order is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// One message with its recipients of one domain each.
    pub entries: usize,
    pub recipients: usize,
}

/// How mail ends that an operator ended.
#[derive(Debug)]
pub(super) struct Sentence {
    pub(super) outcome: Outcome,
    pub(super) is_told: bool,
}

/// One per shard: entries that are to end and have not yet.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    of: BTreeMap<EntryId, Arc<Sentence>>,
}

impl Sentences {
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn has(&self, id: EntryId) -> bool {
        !self.of.is_empty() && self.of.contains_key(&id)
    }

    pub(super) fn get(&self, id: EntryId) -> Option<Arc<Sentence>> {
        if self.of.is_empty() {
            return None;
        }
        self.of.get(&id).cloned()
    }

    /// The entry is gone; its number may be another's.
    pub(super) fn forget(&mut self, id: EntryId) {
        if !self.of.is_empty() {
            self.of.remove(&id);
        }
    }
}

impl Dispatch {
    /// Operator: mail of these. O(entries), but for what follows. How much of it there is; what ends
    /// already counts no more.
    pub fn handle_order(&mut self, whose: &Whose, order: &Order, now: Moment) -> Tally {
        let is_meant = |(id, entry): &(EntryId, &Entry)| {
            self.is_entry_of(entry, whose) && !self.sentences.has(*id)
        };
        let meant = self.entries.iter_with_ids().filter(is_meant);
        let mut tally = Tally::default();
        let (mut ids, mut domains) = (Vec::new(), BTreeSet::new());
        for (id, entry) in meant {
            tally.entries += 1;
            tally.recipients += entry.recipients.as_slice().len();
            ids.push(id);
            domains.insert(entry.domain);
        }
        if self.shutting_down || ids.is_empty() {
            return tally;
        }
        match order {
            Order::Count => {}
            Order::Bounce { reason, is_told } => self.bounce(&ids, reason, *is_told, now),
            Order::Requeue { is_fresh } => {
                for id in ids.into_iter().filter(|_| *is_fresh) {
                    self.entries.edit(id).attempts = 0;
                }
                self.flush_of(whose.clone(), domains, now);
            }
        }
        tally
    }

    fn bounce(&mut self, ids: &[EntryId], reason: &str, is_told: bool, now: Moment) {
        let reason = reason.into();
        let sentence = Arc::new(Sentence {
            outcome: Outcome::Refused(Cause::Operator { reason }),
            is_told,
        });
        let each = ids.iter().map(|id| (*id, Arc::clone(&sentence)));
        self.sentences.of.extend(each);
        // Whoever holds one looks through what it has.
        for lane in self.lanes.numbers() {
            if !self.lanes[lane].strands.is_empty() {
                self.lanes[lane].has_strays = true;
                self.due.push(now, Wake::Lane(lane));
            }
        }
        for domain in self.domains.numbers() {
            if !self.domains[domain].pending.is_empty() {
                self.due.push(now, Wake::Domain(domain));
            }
        }
        self.flush_ended(now);
    }
}
