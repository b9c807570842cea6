//! How work and connections come together, and what becomes of a lane whose connections fail.

use std::collections::VecDeque;
use std::sync::Arc;

use core::time::Duration;

use smallvec::SmallVec;

use super::brain::Dispatch;
use super::curb::{Permit, Turn, Wants};
use super::hosts::Tried;
use super::interface::{Action, Pull};
use super::lane::{Connection, ConnectionState, Flight, Verdict, Via, Wake};
use super::terms::StrandTerms;
use crate::queue::EntryId;
use crate::words::{Cause, ConnectionId, Moment, Outcome};

/// An idle connection that waits for the reply to its last dot is looked at again after this time, at
/// least, however short it may be idle.
const BUSY_LOOK_MIN: Duration = Duration::from_millis(50);

impl Dispatch {
    /// Brings work and connections together: loads ahead, wakes, opens. O(1) for one new entry.
    pub(super) fn serve(&mut self, lane: u32, now: Moment) {
        if self.lanes[lane].is_gate() {
            self.release_gate(lane, now);
            return self.pass_turns(lane, now);
        }
        if !self.shutting_down && !self.lanes[lane].is_paused(now) {
            self.refresh(lane, now);
            self.curb(lane, now);
            self.load_ahead(lane, now);
            self.wake(lane, now);
            let mut has_opened = false;
            let gate = self.lanes[lane].gate;
            let has_more = gate != lane && self.lanes[gate].awaits_room;
            while self.lanes[lane].wants_connection(has_more, now) && self.open(lane, now) {
                has_opened = true;
            }
            if has_opened {
                self.load_ahead(lane, now);
            }
        }
        self.pass_turns(lane, now);
    }

    /// Wakes connections for what is at hand, but none that waits for the reply to its last dot: that
    /// may take minutes, and the work would be promised to it. It is looked at again when that reply
    /// is there; until then a further connection is the better one.
    fn wake(&mut self, lane: u32, now: Moment) {
        let is_behind = self.is_behind();
        loop {
            let state = &mut self.lanes[lane];
            let at_hand = match &state.message_turn {
                Turn::Free => state.strands.at_hand(),
                Turn::Has(_) => state.strands.at_hand().min(1),
                Turn::Waits(_) => 0,
            };
            if state.waking >= at_hand || state.idle.is_empty() {
                return;
            }
            if is_behind {
                return self.hold_back(lane);
            }
            let connections = &self.connections;
            let is_free = |c: &ConnectionId| {
                let connection = connections.get(c);
                connection.is_none_or(|connection| connection.in_flight.is_empty())
            };
            // The one idle for the shortest time: the others may then close.
            let free = state.idle.iter().rposition(is_free);
            let Some(c) = free.and_then(|free| state.idle.remove(free)) else {
                if state.waking + state.opening >= at_hand
                    || !state.may_open(now)
                    || !self.open(lane, now)
                {
                    return;
                }
                continue;
            };
            state.waking += 1;
            if let Some(connection) = self.connections.get_mut(&c) {
                connection.state = ConnectionState::Waking;
            }
            self.actions.push_back(Action::Wake(c));
        }
    }

    /// The disk lags behind our deliveries: what it does not know would be delivered again after a
    /// crash.
    pub(super) fn is_behind(&self) -> bool {
        self.unsynced >= self.config.unsynced_max
    }

    fn hold_back(&mut self, lane: u32) {
        let state = &mut self.lanes[lane];
        if !core::mem::replace(&mut state.held_back, true) {
            self.held_back.push(lane);
        }
    }

    /// Whether its limits let it.
    fn open(&mut self, lane: u32, now: Moment) -> bool {
        if !self.permit(lane, Wants::Connection, now) {
            return false;
        }
        let source = match self.lanes[lane].key.via {
            Via::Source(_, source) => Some(source),
            Via::Sole | Via::Gate(_) => None,
        };
        let state = &mut self.lanes[lane];
        self.connection_next += 1;
        let connection = ConnectionId(self.connection_next);
        state.opening += 1;
        self.connections.insert(
            connection,
            Connection {
                lane,
                state: ConnectionState::Opening,
                sent: 0,
                in_flight: SmallVec::new(),
                idle_since: now,
                tried: Tried::default(),
                answered: false,
                terms: Arc::clone(&state.terms),
                cedes: false,
                messages_max: u32::MAX,
                peer: None,
                egress: source.map(|source| Arc::clone(&self.config.fleet.source(source).name)),
                session: self.ids.next_session(now),
            },
        );
        let mut order = state.terms.manner.order(&state.plan, connection.0);
        state.set_back.arrange(&mut order, &state.plan, now);
        self.actions.push_back(Action::Connect {
            connection,
            plan: Arc::clone(&state.plan),
            order,
            manner: Arc::clone(&state.terms.manner),
            source,
        });
        true
    }

    /// The connection wants a transaction.
    pub fn pull(&mut self, c: ConnectionId, now: Moment) -> Pull {
        self.handle_connected(c, now);
        let Some(connection) = self.connections.get_mut(&c) else {
            return Pull::Quit;
        };
        let lane = connection.lane;
        let state = &mut self.lanes[lane];
        let most = state.terms.messages_per_connection_max;
        let is_worn = connection.sent >= most.min(connection.messages_max);
        match connection.state {
            ConnectionState::Quitting => return Pull::Quit,
            ConnectionState::Waking => state.waking -= 1,
            ConnectionState::Idle => state.idle.retain(|idle| *idle != c),
            ConnectionState::Opening | ConnectionState::Busy => {}
        }
        connection.state = ConnectionState::Busy;
        if self.shutting_down || is_worn || self.ends_early(c, lane, now) {
            self.retire(c, lane);
            self.serve(lane, now);
            return Pull::Quit;
        }
        if self.is_behind() {
            self.hold_back(lane);
            self.rest(c, lane, now);
            return Pull::Wait;
        }
        let Some((id, own)) = self.next_permitted(lane, now) else {
            self.rest(c, lane, now);
            self.pass_turns(lane, now);
            return Pull::Wait;
        };
        self.seq_next += 1;
        let seq = self.seq_next;
        self.lanes[lane].in_flight += 1;
        let (entries, recipients) = self.gather(id, lane, now);
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.sent += 1;
            connection.in_flight.push(Flight { seq, entries });
            if let Some(own) = &own {
                let most = connection.messages_max;
                connection.messages_max = most.min(own.messages_per_connection_max);
            }
        }
        if let Some(own) = own.filter(|own| own.has_places()) {
            self.places.insert(seq, own);
        }
        self.load_ahead(lane, now);
        self.top_up(lane, now);
        let message = self.entries.get(id).message.clone();
        Pull::Work {
            message: message.expect("next_work gives entries that hold their message"),
            recipients,
            seq,
        }
    }

    /// Whether it ends between two messages for the sake of a limit, or of who waits for its place.
    fn ends_early(&mut self, c: ConnectionId, lane: u32, now: Moment) -> bool {
        if self.is_too_many(c, lane, now) {
            return true;
        }
        let terms = self.connections.get(&c).map(|c| Arc::clone(&c.terms));
        terms.is_some_and(|terms| self.gives_way(lane, &terms, now))
    }

    /// It takes no more work.
    fn retire(&mut self, c: ConnectionId, lane: u32) {
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.state = ConnectionState::Quitting;
            self.lanes[lane].quitting += 1;
        }
    }

    /// The next work, with its permits; without them it stays first in line. With it, what its labels
    /// obey.
    fn next_permitted(
        &mut self,
        lane: u32,
        now: Moment,
    ) -> Option<(EntryId, Option<Arc<StrandTerms>>)> {
        self.refresh(lane, now);
        if self.lanes[lane].message_turn.waits() {
            return None;
        }
        loop {
            let (strand, id) = self.next_work(lane, now)?;
            match self.permit_message(lane, strand, now) {
                Permit::Go => {
                    let strands = &mut self.lanes[lane].strands;
                    let own = strands.edit(strand).terms.clone();
                    strands.served(strand);
                    self.curb_strand(lane, strand, now);
                    self.lanes[lane].strands.forget_if_many(strand);
                    return Some((id, own));
                }
                Permit::LaneWaits => {
                    self.stage_first(id, lane, now);
                    return None;
                }
                Permit::StrandWaits => self.stage_first(id, lane, now),
            }
        }
    }

    /// With it, its strand.
    fn next_work(&mut self, lane: u32, now: Moment) -> Option<(u32, EntryId)> {
        loop {
            let entries = &self.entries;
            let is_held = |id| entries.get(id).message.is_some();
            let (strand, id) = self.lanes[lane].strands.take_next(is_held)?;
            if self.is_expired(id, now) {
                self.load(id, Verdict::Expire, now);
            } else if self.is_stray(id, lane) {
                self.send_on(id, now);
            } else {
                return Some((strand, id));
            }
        }
    }

    fn rest(&mut self, c: ConnectionId, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane];
        state.idle.push_back(c);
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.state = ConnectionState::Idle;
            connection.idle_since = now;
        }
        if !core::mem::replace(&mut state.idle_timer, true) {
            self.due.push(now + self.idle_look(lane), Wake::Idle(lane));
        }
        // What another entry of its message holds is here at once.
        self.load_ahead(lane, now);
        // Held work behind a head that is not loaded cannot be taken, so it wakes nobody here.
        if self.lanes[lane].strands.staged() > 0 {
            self.curb(lane, now);
            self.wake(lane, now);
        }
    }

    /// Quits what has been idle for `idle`; comes back for the others.
    pub(super) fn close_idle(&mut self, lane: u32, idle: Duration, now: Moment) {
        let state = &mut self.lanes[lane];
        let mut next = Moment::NEVER;
        let mut kept = VecDeque::new();
        for c in core::mem::take(&mut state.idle) {
            let Some(connection) = self.connections.get_mut(&c) else {
                continue;
            };
            let is_busy = !connection.in_flight.is_empty();
            let is_over = now >= connection.idle_since + idle;
            if !is_busy && (is_over || connection.cede()) {
                connection.state = ConnectionState::Quitting;
                state.quitting += 1;
                self.actions.push_back(Action::Quit(c));
            } else {
                let again = if is_busy {
                    now + idle.max(BUSY_LOOK_MIN)
                } else {
                    connection.idle_since + idle
                };
                next = next.min(again);
                kept.push_back(c);
            }
        }
        state.idle = kept;
        if next < Moment::NEVER && !state.idle_timer && !self.shutting_down {
            state.idle_timer = true;
            let look = now + self.idle_look(lane).max(BUSY_LOOK_MIN);
            self.due.push(next.min(look), Wake::Idle(lane));
        }
    }

    /// Connections that are being opened while we shut down are of no use.
    pub(super) fn quit_opening(&mut self) {
        for (c, connection) in &mut self.connections {
            if connection.state == ConnectionState::Opening {
                connection.state = ConnectionState::Quitting;
                let lane = &mut self.lanes[connection.lane];
                lane.opening -= 1;
                lane.connected += 1;
                lane.quitting += 1;
                self.actions.push_back(Action::Quit(*c));
            }
        }
    }

    /// The site deals with what the lane sends.
    pub(super) fn handle_answer(&mut self, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane];
        let had_failed = core::mem::take(&mut state.failures) > 0;
        let (gate, head) = (state.gate, state.head);
        self.lanes[head].is_doubtful = false;
        if had_failed && gate != lane {
            self.due.push(now, Wake::Lane(gate));
        }
    }

    /// A connection, gone by now, came to nothing.
    pub(super) fn fail_connect(&mut self, connection: &Connection, cause: &Cause, now: Moment) {
        let lane = connection.lane;
        self.set_back(connection, cause, now);
        let random = self.random();
        let state = &mut self.lanes[lane];
        state.why = cause.to_string().into();
        if now < state.paused_until.max(state.barred_until) {
            self.refuse_ready(lane, now);
            return;
        }
        state.refusal = None;
        state.failures = state.failures.saturating_add(1);
        state.paused_until = now + self.config.connect_backoff.next(state.failures, random);
        self.due.push(state.paused_until, Wake::Lane(lane));
        if state.connected > state.quitting {
            // Others work: the site limits us, or one host is sick. No pause, only no growth.
            return;
        }
        let is_opening = connection.state == ConnectionState::Opening;
        if is_opening && connection.tried.is_shut_out() {
            return self.shut(lane, cause, now);
        }
        let has_counted = !is_opening && connection.sent > 0;
        if has_counted || !cause.blames_site() {
            return;
        }
        let entries = &self.entries;
        let is_held = |id| entries.get(id).message.is_some();
        if let Some(id) = state.strands.take_head(is_held) {
            if self.is_stray(id, lane) {
                return self.send_on(id, now);
            }
            let outcome = Arc::new(Outcome::Deferred(cause.clone()));
            self.load(id, Verdict::Settle(outcome), now);
        }
    }

    /// A paused lane keeps no message in memory.
    pub(super) fn drop_held(&mut self, lane: u32, now: Moment) {
        let accepted = |id| self.entries.get(id).accepted();
        for id in self.lanes[lane].strands.strip(accepted) {
            self.release(id);
        }
        self.arm_lane_expiry(lane, now);
    }
}
