//! What waits for permits on one shard. A limiter has one timer, however many wait for it, and wakes
//! the first in line with the permit in hand; so a thousand lanes behind one limiter cost one step
//! for each permit, and none between.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::connections::Shards;
use super::gcra::Reservation;
use super::set::{Limit, LimitId, Meter};
use crate::words::{Moment, ShardId};

/// A permit that was waited for. To be used ([`Set::take`](super::Set::take)), or passed on
/// ([`Parking::pass`]).
#[derive(Debug)]
#[must_use]
pub struct Held {
    limit: Arc<Limit>,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    Reserved(Reservation),
    At(Moment),
}

impl Held {
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// It is used now.
    pub(super) fn settle(&self, now: Moment) {
        if let (Taken::Reserved(reservation), Meter::Rate(gcra)) = (&self.taken, &self.limit.meter)
        {
            gcra.use_up(reservation, now);
        }
    }

    fn give_back(self, now: Moment) -> Shards {
        match (self.taken, &self.limit.meter) {
            (Taken::Reserved(reservation), Meter::Rate(gcra)) => gcra.cancel(reservation),
            (Taken::At(at), _) => self.limit.give(at, now),
            (Taken::Reserved(_), Meter::Connections(_) | Meter::Leased(_)) => {
                unreachable!("only rates are reserved")
            }
        }
    }
}

/// Somebody's turn has come.
#[derive(Debug)]
pub struct Woken<W> {
    pub waiter: W,
    pub held: Held,
}

/// No more may wait here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many wait as may wait")]
pub struct Full;

/// A limiter somebody waits for.
#[derive(Debug)]
struct Place<W> {
    limit: Arc<Limit>,
    /// Never empty.
    line: VecDeque<W>,
    /// The permit of the first in line.
    reserved: Option<Reservation>,
    /// Of its timer; those with another number are of no account.
    stamp: u64,
}

/// One per shard. Waiters of one limiter are woken in the order in which they came; what a waiter
/// is, a lane or a tenant of one, is not known here.
#[derive(Debug)]
pub struct Parking<W> {
    shard: ShardId,
    places: BTreeMap<LimitId, Place<W>>,
    due: BinaryHeap<Reverse<(Moment, LimitId, u64)>>,
    passed: VecDeque<Held>,
    freed: VecDeque<(LimitId, Shards)>,
    waiters: usize,
    waiters_max: usize,
    stamp: u64,
    #[cfg(test)]
    pub(super) steps: u64,
}

impl<W> Parking<W> {
    pub fn new(shard: ShardId, waiters_max: usize) -> Self {
        Self {
            shard,
            places: BTreeMap::new(),
            due: BinaryHeap::new(),
            passed: VecDeque::new(),
            freed: VecDeque::new(),
            waiters: 0,
            waiters_max,
            stamp: 0,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Last in the line of `limit`, which refused.
    pub fn park(&mut self, limit: &Arc<Limit>, waiter: W, now: Moment) -> Result<(), Full> {
        if self.waiters >= self.waiters_max {
            return Err(Full);
        }
        self.waiters += 1;
        if let Some(place) = self.places.get_mut(&limit.id) {
            place.line.push_back(waiter);
            return Ok(());
        }
        let place = Place {
            limit: Arc::clone(limit),
            line: VecDeque::from([waiter]),
            reserved: None,
            stamp: 0,
        };
        self.places.insert(limit.id, place);
        self.arm(limit.id, now);
        Ok(())
    }

    /// Sets the timer of a place, or has its shard told.
    fn arm(&mut self, id: LimitId, now: Moment) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let place = self.places.get_mut(&id).expect("only places are armed");
        self.stamp += 1;
        place.stamp = self.stamp;
        let limit = &place.limit;
        let due = match &limit.meter {
            Meter::Rate(gcra) => {
                let reservation = gcra.reserve(self.shard, now);
                place.reserved = Some(reservation);
                Some(reservation.due)
            }
            Meter::Connections(_) | Meter::Leased(_) => limit.when(now).or_else(|| {
                limit.wait(self.shard);
                limit.when(now)
            }),
        };
        if let Some(due) = due {
            self.due.push(Reverse((due, id, place.stamp)));
        }
    }

    /// The next whose turn has come. Ask until there is none, after each event and at
    /// `poll_timeout`.
    pub fn poll(&mut self, now: Moment) -> Option<Woken<W>> {
        if let Some(woken) = self.poll_passed(now) {
            return Some(woken);
        }
        while let Some(Reverse((due, id, stamp))) = self.due.peek().copied() {
            if due > now {
                return None;
            }
            #[cfg(test)]
            {
                self.steps += 1;
            }
            self.due.pop();
            let Some(place) = self.places.get_mut(&id).filter(|p| p.stamp == stamp) else {
                continue;
            };
            let taken = match place.reserved.take() {
                Some(reservation) => Taken::Reserved(reservation),
                None if place.limit.take(now).is_ok() => Taken::At(now),
                None => {
                    self.arm(id, now);
                    continue;
                }
            };
            let limit = Arc::clone(&place.limit);
            let waiter = self.next_of(id, now);
            self.arm_if_waiting(id, now);
            return waiter.map(|waiter| Woken {
                waiter,
                held: Held { limit, taken },
            });
        }
        None
    }

    fn poll_passed(&mut self, now: Moment) -> Option<Woken<W>> {
        while let Some(held) = self.passed.pop_front() {
            if let Some(waiter) = self.next_of(held.limit.id, now) {
                return Some(Woken { waiter, held });
            }
            self.give_back(held, now);
        }
        None
    }

    /// The first in line, who leaves it. A line that ends gives up its reservation.
    fn next_of(&mut self, id: LimitId, now: Moment) -> Option<W> {
        let place = self.places.get_mut(&id)?;
        let waiter = place.line.pop_front().expect("no line is empty");
        self.waiters -= 1;
        if place.line.is_empty() {
            self.leave(id, now);
        }
        Some(waiter)
    }

    fn leave(&mut self, id: LimitId, now: Moment) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        if let Some(reservation) = place.reserved {
            let held = Held {
                limit: place.limit,
                taken: Taken::Reserved(reservation),
            };
            self.give_back(held, now);
        }
    }

    fn give_back(&mut self, held: Held, now: Moment) {
        let id = held.limit.id;
        let shards = held.give_back(now);
        if !shards.is_empty() {
            self.freed.push_back((id, shards));
        }
    }

    fn arm_if_waiting(&mut self, id: LimitId, now: Moment) {
        if self.places.contains_key(&id) {
            self.arm(id, now);
        }
    }

    /// The waiter had no use for its permit: the next in line has it. What nobody here wants goes
    /// back.
    pub fn pass(&mut self, held: Held, now: Moment) {
        if self.places.contains_key(&held.limit.id) {
            self.passed.push_back(held);
        } else {
            self.give_back(held, now);
        }
    }

    /// A limit that has a place again by what went back here, and whose `handle_freed` is to be
    /// called on these shards.
    pub fn poll_freed(&mut self) -> Option<(LimitId, Shards)> {
        self.freed.pop_front()
    }

    /// A place of this limit was given back, a lease came, or a permit is to spare.
    pub fn handle_freed(&mut self, limit: LimitId, now: Moment) {
        let Some(place) = self.places.get_mut(&limit) else {
            return;
        };
        let (Some(own), Meter::Rate(gcra)) = (place.reserved, &place.limit.meter) else {
            return self.arm(limit, now);
        };
        let Some(better) = gcra.take_spare(&own, self.shard, now) else {
            return;
        };
        self.stamp += 1;
        place.stamp = self.stamp;
        place.reserved = Some(better);
        self.due.push(Reverse((better.due, limit, place.stamp)));
        let held = Held {
            limit: Arc::clone(&place.limit),
            taken: Taken::Reserved(own),
        };
        self.give_back(held, now);
    }

    /// The rate of this limit is another one: who waits for the next permit waits anew.
    pub fn handle_changed(&mut self, limit: LimitId, now: Moment) {
        let Some(place) = self.places.get_mut(&limit) else {
            return;
        };
        if let Some(reservation) = place.reserved.take() {
            let held = Held {
                limit: Arc::clone(&place.limit),
                taken: Taken::Reserved(reservation),
            };
            self.give_back(held, now);
        }
        self.arm(limit, now);
    }

    /// Takes out waiters that have ended or are suspended. O(n): for an operator's command.
    pub fn take_where(&mut self, mut matches: impl FnMut(&W) -> bool, now: Moment) -> Vec<W> {
        let mut taken = Vec::new();
        let mut ended = Vec::new();
        for (id, place) in &mut self.places {
            let (gone, kept) = place.line.drain(..).partition(|w| matches(w));
            place.line = kept;
            let gone: VecDeque<W> = gone;
            taken.extend(gone);
            if place.line.is_empty() {
                ended.push(*id);
            }
        }
        for id in ended {
            self.leave(id, now);
        }
        self.waiters -= taken.len();
        taken
    }

    /// When to `poll` next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if !self.passed.is_empty() {
            return Some(Moment::default());
        }
        self.due.peek().map(|Reverse((due, _, _))| *due)
    }

    /// Who waits, and how many, by limit.
    pub fn lines(&self) -> impl Iterator<Item = (&Arc<Limit>, usize)> {
        self.places.values().map(|p| (&p.limit, p.line.len()))
    }

    pub fn len(&self) -> usize {
        self.waiters
    }

    pub fn is_empty(&self) -> bool {
        self.waiters == 0
    }
}
