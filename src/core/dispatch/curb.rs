//! How a lane, or a strand of one, waits for the permits of its limits, and what becomes of a permit
//! that was waited for.

use std::sync::Arc;

use smallvec::SmallVec;

use super::brain::Dispatch;
use super::interface::Action;
use super::lane::{Route, Wake};
use super::terms::Shapes;
use crate::egress::SourceId;
use crate::queue::LabelId;
use crate::shaping::limit::{Freed, Held, Limit, LimitId, Set, Woken};
use crate::words::Moment;

/// Lanes and domains looked at in one go when shaping has changed.
const RESHAPED_PER_WAKE: usize = 4096;

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Connection,
    /// Of the lane's own limits.
    Message,
    /// Of the limits of one strand's labels.
    Strand(u32),
    /// Of a gate: of the limits on how often that source is picked there.
    Selection(SourceId),
}

/// Who waits in a line of [`Parking`](crate::shaping::limit::Parking).
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) lane: u32,
    /// Of the lane: its number may be another one's by then.
    pub(super) serial: u64,
    pub(super) wants: Wants,
}

/// What a message may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    Go,
    /// Its lane stands in line.
    LaneWaits,
    /// Its strand does; others of the lane may go.
    StrandWaits,
}

/// A lane's place in line for one kind of permit, or a strand's.
#[derive(Debug, Default)]
pub(super) enum Turn {
    #[default]
    Free,
    Waits(Arc<Limit>),
    /// Its turn has come.
    Has(Held),
}

impl Turn {
    pub(super) const fn waits(&self) -> bool {
        matches!(self, Self::Waits(_))
    }

    pub(super) const fn has(&self) -> bool {
        matches!(self, Self::Has(_))
    }
}

/// Lanes and domains that have not heard of the newest shaping.
#[derive(Debug, Default)]
pub(super) struct Reshaping {
    lanes: Vec<u32>,
    domains: Vec<u32>,
}

impl Dispatch {
    /// Takes the permits of all limits on this; else the lane stands in the line of the tightest.
    pub(super) fn permit(&mut self, lane: u32, wants: Wants, now: Moment) -> bool {
        let state = &mut self.lanes[lane];
        let terms = Arc::clone(&state.terms);
        let (set, turn) = match wants {
            Wants::Connection => (&terms.connections, &mut state.connection_turn),
            Wants::Message => (&terms.messages, &mut state.message_turn),
            Wants::Strand(strand) => return self.permit_strand(lane, strand, now),
            Wants::Selection(_) => unreachable!("a pool takes it as it picks"),
        };
        let held = match core::mem::take(turn) {
            Turn::Free if set.is_empty() => return true,
            Turn::Free => None,
            Turn::Has(held) => Some(held),
            waits @ Turn::Waits(_) => {
                *turn = waits;
                return false;
            }
        };
        self.take(lane, wants, set, held, now)
    }

    fn permit_strand(&mut self, lane: u32, index: u32, now: Moment) -> bool {
        let strands = &mut self.lanes[lane].strands;
        let strand = strands.edit(index);
        let Some(terms) = strand.terms.clone() else {
            return true;
        };
        let held = match &strand.turn {
            Turn::Free => None,
            Turn::Waits(_) => return false,
            Turn::Has(_) => match strands.turned(index, Turn::Free) {
                Turn::Has(held) => Some(held),
                Turn::Free | Turn::Waits(_) => None,
            },
        };
        self.take(lane, Wants::Strand(index), &terms.own, held, now)
    }

    /// The permits that one message needs, of its labels and of its lane.
    pub(super) fn permit_message(&mut self, lane: u32, strand: u32, now: Moment) -> Permit {
        let terms = self.lanes[lane].strands.edit(strand).terms.clone();
        let Some(terms) = terms.filter(|terms| !terms.own.is_empty()) else {
            return if self.permit(lane, Wants::Message, now) {
                Permit::Go
            } else {
                Permit::LaneWaits
            };
        };
        if !self.permit(lane, Wants::Strand(strand), now) {
            return Permit::StrandWaits;
        }
        if self.permit(lane, Wants::Message, now) {
            return Permit::Go;
        }
        // Who waits for the lane keeps nothing from others meanwhile.
        self.spread(&terms.own.undo(None, now), now);
        Permit::LaneWaits
    }

    fn take(
        &mut self,
        lane: u32,
        wants: Wants,
        set: &Set,
        held: Option<Held>,
        now: Moment,
    ) -> bool {
        match set.take(held.as_ref(), now) {
            Ok(()) => {
                if let Some(held) = held.filter(|held| !set.has(held.limit().id)) {
                    self.parking.pass(held, now);
                }
                true
            }
            Err(tight) => {
                if let Some(held) = held {
                    self.parking.pass(held, now);
                }
                self.spread(&tight.freed, now);
                self.park(lane, wants, tight.limit, now);
                false
            }
        }
    }

    pub(super) fn park(&mut self, lane: u32, wants: Wants, limit: Arc<Limit>, now: Moment) {
        let waiter = Waiter {
            lane,
            serial: self.lanes[lane].serial,
            wants,
        };
        let parked = self.parking.park(&limit, waiter, now);
        parked.expect("as many may wait as there are lanes, strands and sources");
        self.turn(lane, wants, Turn::Waits(limit));
        if let Wants::Strand(index) = wants {
            self.spare_memory(lane, index);
        }
        self.arm_lane_expiry(lane, now);
    }

    /// Says where in a line a lane stands, or a strand of it. The place it had before is given back.
    fn turn(&mut self, lane: u32, wants: Wants, turn: Turn) -> Turn {
        let state = &mut self.lanes[lane];
        match wants {
            Wants::Connection => core::mem::replace(&mut state.connection_turn, turn),
            Wants::Message => core::mem::replace(&mut state.message_turn, turn),
            Wants::Strand(index) => state.strands.turned(index, turn),
            Wants::Selection(source) => {
                let before = state.selection_turns.remove(&source);
                if !matches!(turn, Turn::Free) {
                    state.selection_turns.insert(source, turn);
                }
                before.unwrap_or_default()
            }
        }
    }

    /// Stands in line at once where a message would have to wait, so that no connection is woken for
    /// nothing.
    pub(super) fn curb(&mut self, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        let is_free = matches!(state.message_turn, Turn::Free);
        if state.terms.messages.is_empty() || !is_free || state.demand() == 0 {
            return;
        }
        let tightest = state.terms.messages.tightest(now);
        if let Some((limit, _)) = tightest.filter(|(_, due)| *due != Some(now)) {
            let limit = Arc::clone(limit);
            self.park(lane, Wants::Message, limit, now);
        }
    }

    /// The same for a strand: work of it has come, or one of its messages has gone.
    pub(super) fn curb_strand(&mut self, lane: u32, index: u32, now: Moment) {
        let strands = &self.lanes[lane].strands;
        let Some(strand) = strands.get(index).filter(|strand| strand.len() > 0) else {
            return;
        };
        let Some(terms) = &strand.terms else {
            return;
        };
        if !matches!(strand.turn, Turn::Free) || terms.closed.is_some() {
            return;
        }
        let tightest = terms.own.tightest(now);
        if let Some((limit, _)) = tightest.filter(|(_, due)| *due != Some(now)) {
            let limit = Arc::clone(limit);
            self.park(lane, Wants::Strand(index), limit, now);
        }
    }

    /// Tells those who wait for a place of these limits, here and on other shards.
    pub(super) fn spread(&mut self, freed: &Freed, now: Moment) {
        for (limit, shards) in freed.iter() {
            if shards.contains(self.config.shard) {
                self.parking.handle_freed(limit, now);
            }
            if self.config.shards > 1 {
                self.actions.push_back(Action::Freed { limit, shards });
            }
        }
    }

    /// A limit has a place again, another shard says.
    pub fn handle_freed(&mut self, limit: LimitId, now: Moment) {
        self.parking.handle_freed(limit, now);
    }

    /// Lanes whose turn has come, a bounded part of them.
    pub(super) fn handle_turns(&mut self, turns_max: usize, now: Moment) {
        for _ in 0..turns_max {
            let Some(Woken { waiter, held }) = self.parking.poll(now) else {
                break;
            };
            let lane = self.lanes.get(waiter.lane);
            if lane.is_some_and(|lane| lane.serial == waiter.serial) {
                self.turn(waiter.lane, waiter.wants, Turn::Has(held));
                self.serve(waiter.lane, now);
                self.forget_lane(waiter.lane, now);
            } else {
                self.parking.pass(held, now);
            }
        }
        while let Some((limit, shards)) = self.parking.poll_freed() {
            let mut freed = Freed::default();
            freed.add(limit, shards);
            self.spread(&freed, now);
        }
    }

    /// Permits the lane has and will not use are the next one's: a place for a connection that it
    /// does not open, and a message's when nothing will carry it.
    pub(super) fn pass_turns(&mut self, lane: u32, now: Moment) {
        self.pass_strand_turns(lane, now);
        self.pass_selection_turns(lane, now);
        let state = &mut self.lanes[lane];
        if !state.connection_turn.has() && !state.message_turn.has() {
            return;
        }
        let mut unused = Vec::new();
        if state.connection_turn.has() {
            unused.push(core::mem::take(&mut state.connection_turn));
        }
        let is_idle = state.demand() == 0 || state.usable() == 0 || self.shutting_down;
        if state.message_turn.has() && is_idle {
            unused.push(core::mem::take(&mut state.message_turn));
        }
        for turn in unused {
            if let Turn::Has(held) = turn {
                self.parking.pass(held, now);
            }
        }
    }

    /// The same of a gate, which keeps none: it has let go what it could.
    fn pass_selection_turns(&mut self, gate: u32, now: Moment) {
        let turns = &mut self.lanes[gate].selection_turns;
        if turns.is_empty() {
            return;
        }
        let granted: SmallVec<[SourceId; 4]> = turns
            .iter()
            .filter(|(_, turn)| turn.has())
            .map(|(source, _)| *source)
            .collect();
        for source in granted {
            if let Some(Turn::Has(held)) = self.lanes[gate].selection_turns.remove(&source) {
                self.parking.pass(held, now);
            }
        }
    }

    /// The same of its strands. None keeps a permit while the lane itself waits.
    fn pass_strand_turns(&mut self, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        if state.strands.granted().is_empty() {
            return;
        }
        let is_idle = state.usable() == 0 || state.message_turn.waits() || self.shutting_down;
        for index in state.strands.granted().to_vec() {
            let strands = &mut self.lanes[lane].strands;
            let strand = strands.edit(index);
            if !is_idle && strand.len() > 0 && !strand.is_closed() {
                continue;
            }
            if let Turn::Has(held) = strands.turned(index, Turn::Free) {
                self.parking.pass(held, now);
            }
            self.lanes[lane].strands.forget_if_many(index);
        }
    }

    /// Other files, or other overrides. Nothing is dropped; who waits, waits anew under what holds
    /// now.
    pub fn handle_shaping(&mut self, shapes: Arc<Shapes>, now: Moment) {
        self.shapes = shapes;
        self.know_default_pool(now);
        self.reshape(now);
    }

    fn reshape(&mut self, now: Moment) {
        self.shapes_stamp += 1;
        self.shapes_until = Moment::NEVER;
        for waiter in self.parking.take_where(|_| true, now) {
            let lane = self.lanes.get(waiter.lane);
            if lane.is_some_and(|lane| lane.serial == waiter.serial) {
                self.turn(waiter.lane, waiter.wants, Turn::Free);
            }
        }
        self.reshaping = Reshaping {
            lanes: self.lanes.numbers(),
            domains: self.domains.numbers(),
        };
        self.due.push(now, Wake::Shaping);
    }

    /// The lane's terms, if they are not of now.
    pub(super) fn refresh(&mut self, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        if state.stamp == self.shapes_stamp {
            return;
        }
        let plan = Arc::clone(&state.plan);
        let key = state.key.clone();
        let terms = self.terms_of(&plan, &key, now);
        let state = &mut self.lanes[lane];
        state.terms = Arc::new(terms);
        state.stamp = self.shapes_stamp;
        self.fit(lane);
        for index in self.lanes[lane].strands.numbers() {
            self.refresh_strand(lane, index, now);
            self.lanes[lane].strands.forget_if_many(index);
        }
        self.arm_lane_expiry(lane, now);
    }

    /// The strand of a label in a lane, which knows its terms.
    pub(super) fn strand_of(&mut self, lane: u32, labels: LabelId, now: Moment) -> u32 {
        let serial = self.labels.serial(labels);
        let strands = &mut self.lanes[lane].strands;
        if let Some(index) = strands.find(labels, serial) {
            return index;
        }
        let tenant = self.labels.get(labels).tenant();
        let index = strands.add(labels, serial, tenant);
        self.refresh_strand(lane, index, now);
        index
    }

    fn refresh_strand(&mut self, lane: u32, index: u32, now: Moment) {
        let state = &self.lanes[lane];
        let Some(strand) = state.strands.get(index) else {
            return;
        };
        let labels = self.labels.get(strand.labels);
        let of_lane = (&state.key, &*state.terms);
        let (terms, freed) = match self.shapes.strand_terms(&state.plan, of_lane, labels, now) {
            Some((terms, freed)) => (Some(terms), freed),
            None => (None, Freed::default()),
        };
        if let Some(terms) = &terms {
            self.watch_until(terms.until);
        }
        let strands = &mut self.lanes[lane].strands;
        strands.weigh(index, terms.as_ref().map_or(1, |terms| terms.weight));
        strands.edit(index).terms = terms.map(Arc::new);
        strands.judge(index);
        self.spare_memory(lane, index);
        self.spread(&freed, now);
    }

    /// Shaping is asked again then: an hour begins or ends, or an override expires.
    pub(super) fn watch_until(&mut self, until: Moment) {
        if until < self.shapes_until {
            self.shapes_until = until;
            self.due.push(until, Wake::Shaping);
        }
    }

    pub(super) fn wake_shaping(&mut self, now: Moment) {
        if now >= self.shapes_until {
            return self.reshape(now);
        }
        let Reshaping { lanes, domains } = &mut self.reshaping;
        let lanes = lanes.split_off(lanes.len().saturating_sub(RESHAPED_PER_WAKE));
        let domains = domains.split_off(domains.len().saturating_sub(RESHAPED_PER_WAKE));
        for domain in &domains {
            self.regroup(*domain, now);
        }
        for lane in &lanes {
            if self.lanes.get(*lane).is_some() {
                self.refresh(*lane, now);
                self.close_idle(*lane, self.idle_max(*lane), now);
                self.serve(*lane, now);
                self.reshape_exit(*lane, now);
                self.forget_lane(*lane, now);
            }
        }
        if !lanes.is_empty() || !domains.is_empty() {
            self.due.push(now, Wake::Shaping);
        }
    }

    /// Its source may take work of the gate again, or none any more.
    fn reshape_exit(&mut self, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        let gate = state.gate;
        if gate == lane {
            return;
        }
        if state.terms.closed.is_some() {
            self.vacate(lane, now);
        }
        self.serve(gate, now);
    }

    /// A domain may have come to need a lane of its own, or need it no more.
    fn regroup(&mut self, index: u32, now: Moment) {
        let Some(domain) = self.domains.get_mut(index) else {
            return;
        };
        let Route::Lane { lane, valid_until } = domain.route else {
            return;
        };
        let name = domain.name.clone();
        let plan = Arc::clone(&self.lanes[lane].plan);
        let key = self.key(&plan, name.as_str());
        if key == self.lanes[lane].key {
            return;
        }
        let lane = self.lane_id(&plan, name.as_str(), now);
        if let Some(left) = self.set_route(index, Route::Lane { lane, valid_until }, now) {
            self.move_on(left, now);
        }
    }
}
