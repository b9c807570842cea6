//! Which messages are in memory: held within a budget, let go, and loaded when their turn comes.

use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use smallvec::SmallVec;

use super::brain::Dispatch;
use super::interface::Action;
use super::lane::{Route, Verdict, Wake};
use super::settle::Attempt;
use crate::queue::EntryId;
use crate::words::{Cause, Message, MessageId, Moment, Outcome};

/// Loads under way for entries that have a verdict already.
const VERDICT_LOADS_MAX: usize = 256;
/// A message whose size is not known is taken for this part of the budget.
const UNKNOWN_PART: usize = 64;

impl Dispatch {
    /// A message that several entries hold counts once.
    pub(super) fn hold(&mut self, id: EntryId, message: Arc<Message>) {
        self.release(id);
        let entry = self.entries.edit(id);
        entry.octets = u32::try_from(message.size()).unwrap_or(u32::MAX);
        if entry.of <= 1 {
            self.held_octets += message.size();
            entry.message = Some(message);
            return;
        }
        match self.shared.entry(message.id) {
            Slot::Occupied(mut slot) => {
                let (message, holders) = slot.get_mut();
                *holders += 1;
                entry.message = Some(Arc::clone(message));
            }
            Slot::Vacant(slot) => {
                self.held_octets += message.size();
                slot.insert((Arc::clone(&message), 1));
                entry.message = Some(message);
            }
        }
    }

    pub(super) fn release(&mut self, id: EntryId) {
        let entry = self.entries.edit(id);
        let Some(message) = entry.message.take() else {
            return;
        };
        if entry.of <= 1 {
            self.held_octets -= message.size();
            return;
        }
        let Slot::Occupied(mut slot) = self.shared.entry(message.id) else {
            return;
        };
        slot.get_mut().1 -= 1;
        if slot.get().1 == 0 {
            slot.remove();
            self.held_octets -= message.size();
        }
    }

    /// Lets the message go if there is a pause, or if the budget is used up. Whether the entry is a
    /// retry, and whether it holds its message now.
    pub(super) fn keep_unless(&mut self, is_paused: bool, id: EntryId) -> (bool, bool) {
        let octets = self.held_octets + self.loading_octets;
        if is_paused || octets > self.config.held_octets_max {
            self.release(id);
        }
        let entry = self.entries.get(id);
        (entry.attempts > 0, entry.message.is_some())
    }

    /// Whether the entry holds its message, or another entry does and shares it.
    pub(super) fn acquire(&mut self, id: EntryId) -> bool {
        let entry = self.entries.get(id);
        if entry.message.is_some() {
            return true;
        }
        if entry.of <= 1 {
            return false;
        }
        let Some((message, _)) = self.shared.get(&entry.id()) else {
            return false;
        };
        let message = Arc::clone(message);
        self.hold(id, message);
        true
    }

    fn is_roomy(&self) -> bool {
        self.held_octets + self.loading_octets < self.config.held_octets_max
    }

    /// What a load is going to bring.
    fn estimate(&self, id: EntryId) -> usize {
        match self.entries.get(id).octets {
            0 => self.config.held_octets_max / UNKNOWN_PART,
            octets => octets as usize,
        }
    }

    /// Carries the verdict out as soon as the entry's message is in memory.
    pub(super) fn load(&mut self, id: EntryId, verdict: Verdict, now: Moment) {
        if self.shutting_down {
            self.release(id);
            self.due.push(now, Wake::Entry(id));
        } else if !self.is_to_recall(id, &verdict) && self.acquire(id) {
            self.carry_out(id, verdict, &[], now);
        } else if self.loading.len() >= VERDICT_LOADS_MAX {
            self.loads_waiting.push_back((id, verdict));
        } else {
            self.ask_for(id, verdict);
        }
    }

    fn ask_for(&mut self, id: EntryId, verdict: Verdict) {
        let message = self.entries.get(id).id();
        let is_to_recall = self.is_to_recall(id, &verdict);
        let waiting = self.loading.entry(message).or_default();
        waiting.push((id, verdict));
        if waiting.len() == 1 {
            self.actions.push_back(if is_to_recall {
                Action::Recall(message)
            } else {
                Action::Load(message)
            });
        }
    }

    /// Who expires is told the last answer it had, which the spool keeps, for nothing of it is kept
    /// here: it may be older than this start, and what its lane heard last was said to another.
    fn is_to_recall(&self, id: EntryId, verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Expire) && self.entries.get(id).attempts > 0
    }

    /// What waited for a load that is answered.
    pub(super) fn take_loading(&mut self, id: MessageId) -> SmallVec<[(EntryId, Verdict); 1]> {
        let waiting = self.loading.remove(&id).unwrap_or_default();
        for (entry, verdict) in &waiting {
            if let Verdict::Stage(lane) = verdict {
                self.lanes[*lane].loading -= 1;
                self.loading_octets -= self.estimate(*entry);
            }
        }
        waiting
    }

    /// A load came to nothing: its lane may load something else.
    pub(super) fn load_another(&mut self, verdict: &Verdict, now: Moment) {
        // What was loaded for the same lane before this may have been the last that kept it.
        if let Verdict::Stage(lane) = verdict
            && self.lanes.get(*lane).is_some()
        {
            self.serve(*lane, now);
            self.forget_lane(*lane, now);
        }
    }

    pub(super) fn load_next(&mut self, now: Moment) {
        while self.loading.len() < VERDICT_LOADS_MAX {
            let Some((id, verdict)) = self.loads_waiting.pop_front() else {
                return;
            };
            self.load(id, verdict, now);
        }
    }

    pub(super) fn load_ahead(&mut self, lane: u32, now: Moment) {
        while self.lanes[lane].wants_load(self.is_roomy()) {
            let state = &mut self.lanes[lane];
            let entries = &self.entries;
            let unloaded = |id| entries.get(id).message.is_none();
            let Some(id) = state.strands.take_unloaded(unloaded) else {
                return;
            };
            if self.is_expired(id, now) {
                self.load(id, Verdict::Expire, now);
            } else if self.is_stray(id, lane) {
                self.send_on(id, now);
            } else if self.acquire(id) {
                self.stage(id, lane, now);
            } else {
                self.lanes[lane].loading += 1;
                self.loading_octets += self.estimate(id);
                self.ask_for(id, Verdict::Stage(lane));
            }
        }
    }

    fn stage(&mut self, id: EntryId, lane: u32, now: Moment) {
        self.put_loaded(id, lane, false, now);
    }

    /// First in its strand again; it holds its message.
    pub(super) fn stage_first(&mut self, id: EntryId, lane: u32, now: Moment) {
        self.put_loaded(id, lane, true, now);
    }

    fn put_loaded(&mut self, id: EntryId, lane: u32, is_first: bool, now: Moment) {
        let entry = self.entries.get(id);
        let (is_retry, accepted) = (entry.attempts > 0, entry.accepted());
        let strand = self.strand_of(lane, entry.labels, now);
        let strands = &mut self.lanes[lane].strands;
        strands.stage(strand, id, is_retry, is_first, accepted);
        self.spare_memory(lane, strand);
    }

    /// A strand that is set aside keeps no message for which others lack room.
    pub(super) fn spare_memory(&mut self, lane: u32, index: u32) {
        let strands = &self.lanes[lane].strands;
        let Some(strand) = strands.get(index).filter(|strand| strand.is_aside()) else {
            return;
        };
        if self.is_roomy() && !strand.is_closed() {
            return;
        }
        let entries = &self.entries;
        let accepted = |id| entries.get(id).accepted();
        for id in self.lanes[lane].strands.strip_one(index, accepted) {
            self.release(id);
        }
    }

    /// The entry holds its message. `last`: as far as known, the last outcomes of its recipients.
    pub(super) fn carry_out(
        &mut self,
        id: EntryId,
        verdict: Verdict,
        last: &[(u16, Box<str>)],
        now: Moment,
    ) {
        match verdict {
            Verdict::Stage(lane) if self.lanes.get(lane).is_none() || self.is_stray(id, lane) => {
                self.send_on(id, now);
            }
            Verdict::Stage(lane) if self.lanes[lane].is_closed(now) => {
                self.take_back(id, lane, now);
                self.send_on(id, now);
            }
            Verdict::Stage(lane) if self.lanes[lane].is_paused(now) => {
                if let Some(refusal) = self.lanes[lane].refusal(now) {
                    return self.carry_out(id, Verdict::Settle(refusal), last, now);
                }
                self.release(id);
                let entry = self.entries.get(id);
                let (is_retry, accepted) = (entry.attempts > 0, entry.accepted());
                let strand = self.strand_of(lane, entry.labels, now);
                let strands = &mut self.lanes[lane].strands;
                strands.push_front(strand, id, is_retry, accepted);
                self.arm_lane_expiry(lane, now);
            }
            Verdict::Stage(lane) => {
                self.stage(id, lane, now);
                self.serve(lane, now);
            }
            Verdict::Expire | Verdict::Settle(_) | Verdict::End(_) if self.shutting_down => {
                self.load(id, verdict, now);
            }
            Verdict::Expire => {
                let expired = |last: &str| Outcome::Refused(Cause::Expired { last: last.into() });
                let known = last
                    .iter()
                    .map(|(recipient, last)| (*recipient, expired(last)));
                let fallback = Outcome::Refused(self.expiry(id));
                self.decide(id, &known.collect::<Vec<_>>(), (&fallback, true), now);
            }
            Verdict::Settle(outcome) => self.decide(id, &[], (&outcome, true), now),
            Verdict::End(sentence) => {
                self.decide(id, &[], (&sentence.outcome, sentence.is_told), now);
            }
        }
    }

    /// Settles an entry that no connection has carried. With the fallback, whether senders hear of a
    /// refusal.
    fn decide(
        &mut self,
        id: EntryId,
        outcomes: &[(u16, Outcome)],
        (fallback, is_told): (&Outcome, bool),
        now: Moment,
    ) {
        let lane = match self.domains[self.entries.get(id).domain].route {
            Route::Lane { lane, .. } => Some(lane),
            Route::Unknown | Route::Refused { .. } => None,
        };
        let attempt = Attempt {
            outcomes,
            at: 0,
            fallback,
            peer: None,
            egress: None,
            session: None,
            lane,
            offers_dsn: false,
            esmtp: true,
            is_told,
        };
        self.settle(id, &attempt, now);
    }
}
