//! How an entry moves: to its route, into its lane, onto a connection; and when it stands still.

use std::sync::Arc;

use core::time::Duration;

use smallvec::SmallVec;

use super::brain::Dispatch;
use super::interface::{Action, Pull, Work};
use super::lane::{
    self, Connection, ConnectionState, DomainState, Lane, LaneKey, Route, Verdict, Wake,
};
use super::settle::Attempt;
use crate::queue::EntryId;
use crate::words::{
    Cause, ConnectionId, Domain, Message, Moment, Outcome, Plan, RouteError, ShardId,
};

/// Loads under way for entries that have a verdict already.
const VERDICT_LOADS_MAX: usize = 256;
/// Heads of a lane expired in one go; the next go follows soon.
const EXPIRIES_PER_WAKE: usize = 1000;
const EXPIRY_REST: Duration = Duration::from_millis(10);

impl Dispatch {
    pub(super) fn domain_id_of(&mut self, name: &str) -> u32 {
        if let Some(index) = self.domain_by_name.get(name) {
            return *index;
        }
        let index = u32::try_from(self.domains.len()).expect("fewer than 4 billion domains");
        let domain = Domain::parse(name).expect("an address holds a valid domain");
        self.domains.push(DomainState::new(domain));
        self.domain_by_name.insert(name.into(), index);
        index
    }

    pub(super) fn lane_id(&mut self, plan: &Arc<Plan>) -> u32 {
        let site = plan.site.clone();
        let key = LaneKey { site };
        if let Some(index) = self.lane_by_key.get(&key) {
            return *index;
        }
        let config = &self.config;
        let share = lane::share(
            &key.site,
            config.connections_max,
            config.shards,
            config.shard,
        );
        let index = u32::try_from(self.lanes.len()).expect("fewer than 4 billion sites");
        self.lanes.push(Lane::new(Arc::clone(plan), share));
        self.lane_by_key.insert(key, index);
        index
    }

    /// Keeps the message with its entry if the budget allows, or if it is needed at once.
    pub(super) fn hold(&mut self, id: EntryId, message: Arc<Message>) {
        self.release(id);
        self.held_octets += message.size();
        self.entries.edit(id).message = Some(message);
    }

    pub(super) fn release(&mut self, id: EntryId) {
        if let Some(message) = self.entries.edit(id).message.take() {
            self.held_octets -= message.size();
        }
    }

    fn release_beyond_budget(&mut self, id: EntryId) {
        if self.held_octets > self.config.held_octets_max {
            self.release(id);
        }
    }

    fn is_expired(&self, id: EntryId, now: Moment) -> bool {
        self.entries.get(id).age(now) >= self.config.schedule.max_age
    }

    /// The entry is due: to its lane if its route is known.
    pub(super) fn enqueue(&mut self, id: EntryId, now: Moment) {
        if self.is_expired(id, now) {
            return self.load(id, Verdict::Expire, now);
        }
        let (index, is_retry) = {
            let entry = self.entries.get(id);
            (entry.domain, entry.attempts > 0)
        };
        let domain = &mut self.domains[index as usize];
        match &domain.route {
            Route::Lane { lane, valid_until } => {
                let (lane, is_stale) = (*lane, now >= *valid_until);
                if is_stale {
                    self.resolve(index, now);
                }
                self.place(id, lane, now);
            }
            Route::Refused { why, valid_until } if now < *valid_until => {
                let outcome = Box::new(Outcome::Refused(Cause::Route(why.clone())));
                self.load(id, Verdict::Settle(outcome), now);
            }
            Route::Unknown | Route::Refused { .. } => {
                domain.pending.push(id, is_retry);
                if now < domain.paused_until {
                    self.release(id);
                } else {
                    self.release_beyond_budget(id);
                }
                self.resolve(index, now);
            }
        }
    }

    fn resolve(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index as usize];
        if !domain.resolving && now >= domain.paused_until && !self.shutting_down {
            domain.resolving = true;
            self.actions.push_back(Action::Resolve(domain.name.clone()));
        }
    }

    pub(super) fn drain_pending(&mut self, index: u32, now: Moment) {
        let mut pending = core::mem::take(&mut self.domains[index as usize].pending);
        while let Some(id) = pending.pop() {
            self.enqueue(id, now);
        }
    }

    /// No name server answered. An old plan stays in use; without one the domain pauses, and that
    /// counts as an attempt for the first in line only.
    pub(super) fn fail_route(&mut self, index: u32, why: RouteError, now: Moment) {
        let random = self.random();
        let domain = &mut self.domains[index as usize];
        domain.failures = domain.failures.saturating_add(1);
        domain.why = why.to_string().into();
        domain.paused_until = now + self.config.connect_backoff.next(domain.failures, random);
        if matches!(domain.route, Route::Lane { .. }) {
            return;
        }
        domain.route = Route::Unknown;
        self.due.push(domain.paused_until, Wake::Domain(index));
        let Some(head) = domain.pending.pop() else {
            return;
        };
        let held: Vec<EntryId> = domain.pending.iter().collect();
        for id in held {
            self.release(id);
        }
        let outcome = Box::new(Outcome::Deferred(Cause::Route(why)));
        self.load(head, Verdict::Settle(outcome), now);
    }

    pub(super) fn retry_route(&mut self, index: u32, now: Moment) {
        for _ in 0..EXPIRIES_PER_WAKE {
            let entries = &self.entries;
            let max_age = self.config.schedule.max_age;
            let expired = |id| entries.get(id).age(now) >= max_age;
            let pending = &mut self.domains[index as usize].pending;
            let Some(id) = pending.pop_head_where(expired) else {
                break;
            };
            self.load(id, Verdict::Expire, now);
        }
        if !self.domains[index as usize].pending.is_empty() {
            self.resolve(index, now);
        }
    }

    pub(super) fn unpause(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index as usize];
        domain.paused_until = domain.paused_until.min(now);
        if let Route::Lane { lane, .. } = &domain.route {
            let lane = *lane;
            let state = &mut self.lanes[lane as usize];
            state.paused_until = state.paused_until.min(now);
            self.serve(lane, now);
        }
        self.retry_route(index, now);
    }

    /// Makes the entry ready in its lane, here or on the shard where the lane lives.
    pub(super) fn place(&mut self, id: EntryId, lane: u32, now: Moment) {
        let state = &self.lanes[lane as usize];
        if state.share == 0 {
            return self.forward(id, lane);
        }
        if state.is_paused(now) {
            self.release(id);
        } else {
            self.release_beyond_budget(id);
        }
        let entry = self.entries.get(id);
        let state = &mut self.lanes[lane as usize];
        state.held += usize::from(entry.message.is_some());
        state.ready.push(id, entry.attempts > 0);
        self.serve(lane, now);
    }

    fn forward(&mut self, id: EntryId, lane: u32) {
        self.release_beyond_budget(id);
        let plan = Arc::clone(&self.lanes[lane as usize].plan);
        let entry = self.entries.get(id).clone();
        self.release(id);
        self.entries.remove(id);
        let salt = entry.id().as_u128() as u64;
        let config = &self.config;
        let to: ShardId = lane::forward_to(&plan.site, config.connections_max, config.shards, salt);
        let work = Work {
            id: entry.id(),
            of: entry.of,
            attempts: entry.attempts,
            warned: entry.warned,
            domain: self.domains[entry.domain as usize].name.clone(),
            recipients: entry.recipients.as_slice().into(),
            message: entry.message,
            plan,
        };
        self.counters.forwarded += 1;
        self.actions.push_back(Action::Forward { to, work });
    }

    /// Carries the verdict out as soon as the entry's message is in memory.
    pub(super) fn load(&mut self, id: EntryId, verdict: Verdict, now: Moment) {
        if self.entries.get(id).message.is_some() {
            return self.carry_out(id, verdict, now);
        }
        if !matches!(verdict, Verdict::Stage(_)) && self.loading.len() >= VERDICT_LOADS_MAX {
            self.loads_waiting.push_back((id, verdict));
            return;
        }
        let message = self.entries.get(id).id();
        let waiting = self.loading.entry(message).or_default();
        waiting.push((id, verdict));
        if waiting.len() == 1 {
            self.actions.push_back(Action::Load(message));
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

    pub(super) fn carry_out(&mut self, id: EntryId, verdict: Verdict, now: Moment) {
        let outcome = match verdict {
            Verdict::Stage(lane) if self.lanes[lane as usize].is_paused(now) => {
                return self.place(id, lane, now);
            }
            Verdict::Stage(lane) => {
                self.lanes[lane as usize].staged.push_back(id);
                return self.serve(lane, now);
            }
            Verdict::Expire => Outcome::Refused(self.expiry(id)),
            Verdict::Settle(outcome) => *outcome,
        };
        let lane = match self.domains[self.entries.get(id).domain as usize].route {
            Route::Lane { lane, .. } => Some(lane),
            Route::Unknown | Route::Refused { .. } => None,
        };
        let attempt = Attempt {
            outcomes: &[],
            fallback: &outcome,
            peer: None,
            lane,
        };
        self.settle(id, &attempt, now);
    }

    /// What is said of an expired entry: the last trouble of its site.
    fn expiry(&self, id: EntryId) -> Cause {
        let domain = &self.domains[self.entries.get(id).domain as usize];
        let last = match &domain.route {
            Route::Lane { lane, .. } => &self.lanes[*lane as usize].why,
            Route::Unknown | Route::Refused { .. } => &domain.why,
        };
        Cause::Expired { last: last.clone() }
    }

    pub(super) fn expire_heads(&mut self, lane: u32, now: Moment) {
        for _ in 0..EXPIRIES_PER_WAKE {
            let entries = &self.entries;
            let max_age = self.config.schedule.max_age;
            let state = &mut self.lanes[lane as usize];
            let expired = |id| entries.get(id).age(now) >= max_age;
            let Some(id) = state.ready.pop_head_where(expired) else {
                return;
            };
            state.held -= usize::from(entries.get(id).message.is_some());
            self.load(id, Verdict::Expire, now);
        }
        self.due.push(now + EXPIRY_REST, Wake::Lane(lane));
    }

    /// Brings work and connections together: opens, loads ahead, wakes. O(1) for one new entry.
    pub(super) fn serve(&mut self, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane as usize];
        if self.shutting_down || state.is_paused(now) {
            return;
        }
        while state.wants_connection(now) {
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
                    answered: false,
                },
            );
            let plan = Arc::clone(&state.plan);
            self.actions.push_back(Action::Connect { connection, plan });
        }
        self.load_ahead(lane, now);
        let state = &mut self.lanes[lane as usize];
        let at_hand = state.staged.len() + state.held;
        while state.waking < at_hand {
            // The one idle for the shortest time: the others may then close.
            let Some(c) = state.idle.pop_back() else {
                break;
            };
            state.waking += 1;
            if let Some(connection) = self.connections.get_mut(&c) {
                connection.state = ConnectionState::Waking;
            }
            self.actions.push_back(Action::Wake(c));
        }
    }

    fn load_ahead(&mut self, lane: u32, now: Moment) {
        while self.lanes[lane as usize].wants_load() {
            let state = &mut self.lanes[lane as usize];
            let entries = &self.entries;
            let unloaded = |id| entries.get(id).message.is_none();
            let Some(id) = state.ready.pop_head_where(unloaded) else {
                return;
            };
            if self.is_expired(id, now) {
                self.load(id, Verdict::Expire, now);
            } else {
                self.lanes[lane as usize].loading += 1;
                self.load(id, Verdict::Stage(lane), now);
            }
        }
    }

    /// The connection wants a transaction.
    pub fn pull(&mut self, c: ConnectionId, now: Moment) -> Pull {
        self.handle_connected(c, now);
        let Some(connection) = self.connections.get_mut(&c) else {
            return Pull::Quit;
        };
        let lane = connection.lane;
        let state = &mut self.lanes[lane as usize];
        match connection.state {
            ConnectionState::Quitting => return Pull::Quit,
            ConnectionState::Waking => state.waking -= 1,
            ConnectionState::Idle => state.idle.retain(|idle| *idle != c),
            ConnectionState::Opening | ConnectionState::Busy => {}
        }
        connection.state = ConnectionState::Busy;
        if self.shutting_down || connection.sent >= self.config.messages_per_connection_max {
            connection.state = ConnectionState::Quitting;
            state.quitting += 1;
            self.serve(lane, now);
            return Pull::Quit;
        }
        let Some(id) = self.next_work(lane, now) else {
            self.rest(c, lane, now);
            return Pull::Wait;
        };
        self.seq_next += 1;
        let seq = self.seq_next;
        self.lanes[lane as usize].in_flight += 1;
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.sent += 1;
            connection.in_flight.push((seq, id));
        }
        self.load_ahead(lane, now);
        let entry = self.entries.get(id);
        let message = entry.message.clone();
        Pull::Work {
            message: message.expect("next_work gives entries that hold their message"),
            recipients: SmallVec::from_slice(entry.recipients.as_slice()),
            seq,
        }
    }

    fn next_work(&mut self, lane: u32, now: Moment) -> Option<EntryId> {
        loop {
            let state = &mut self.lanes[lane as usize];
            let id = match state.staged.pop_front() {
                Some(id) => id,
                None => {
                    let entries = &self.entries;
                    let loaded = |id| entries.get(id).message.is_some();
                    let id = match state.ready.peek() {
                        Some(id) if loaded(id) => state.ready.pop(),
                        _ => state.ready.pop_head_where(loaded),
                    }?;
                    state.held -= 1;
                    id
                }
            };
            if !self.is_expired(id, now) {
                return Some(id);
            }
            self.load(id, Verdict::Expire, now);
        }
    }

    fn rest(&mut self, c: ConnectionId, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane as usize];
        state.idle.push_back(c);
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.state = ConnectionState::Idle;
            connection.idle_since = now;
        }
        if !state.idle_timer {
            state.idle_timer = true;
            self.due.push(now + self.config.idle, Wake::Idle(lane));
        }
        self.load_ahead(lane, now);
    }

    /// Quits what has been idle for `idle`; comes back for the others.
    pub(super) fn close_idle(&mut self, lane: usize, idle: Duration, now: Moment) {
        let state = &mut self.lanes[lane];
        let mut next = Moment::NEVER;
        let mut kept = std::collections::VecDeque::new();
        for c in core::mem::take(&mut state.idle) {
            let Some(connection) = self.connections.get_mut(&c) else {
                continue;
            };
            let busy = !connection.in_flight.is_empty();
            if !busy && now >= connection.idle_since + idle {
                connection.state = ConnectionState::Quitting;
                state.quitting += 1;
                self.actions.push_back(Action::Quit(c));
            } else {
                let since = if busy { now } else { connection.idle_since };
                next = next.min(since + idle);
                kept.push_back(c);
            }
        }
        state.idle = kept;
        if next < Moment::NEVER && !state.idle_timer && !self.shutting_down {
            state.idle_timer = true;
            self.due
                .push(next, Wake::Idle(u32::try_from(lane).unwrap_or(0)));
        }
    }

    /// A connection came to nothing. `tried`: its work has counted an attempt already.
    pub(super) fn fail_connect(&mut self, lane: u32, cause: &Cause, tried: bool, now: Moment) {
        let random = self.random();
        let state = &mut self.lanes[lane as usize];
        state.why = cause.to_string().into();
        if now < state.paused_until {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        state.paused_until = now + self.config.connect_backoff.next(state.failures, random);
        self.due.push(state.paused_until, Wake::Lane(lane));
        if state.connected > state.quitting {
            // Others work: the site limits us, or one host is sick. No pause, only no growth.
            return;
        }
        if !tried && cause.blames_site() {
            let head = state.staged.pop_front().or_else(|| {
                let id = state.ready.pop()?;
                state.held -= usize::from(self.entries.get(id).message.is_some());
                Some(id)
            });
            if let Some(id) = head {
                let outcome = Box::new(Outcome::Deferred(cause.clone()));
                self.load(id, Verdict::Settle(outcome), now);
            }
        }
        self.drop_held(lane);
    }

    /// A paused lane keeps no message in memory.
    fn drop_held(&mut self, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        let staged = core::mem::take(&mut state.staged);
        let mut held = Vec::with_capacity(state.held);
        if state.held > 0 {
            let entries = &self.entries;
            let loaded = |id: &EntryId| entries.get(*id).message.is_some();
            held.extend(state.ready.iter().filter(loaded).take(state.held));
        }
        state.held = 0;
        for id in staged {
            let is_retry = self.entries.get(id).attempts > 0;
            self.lanes[lane as usize].ready.push(id, is_retry);
            held.push(id);
        }
        for id in held {
            self.release(id);
        }
    }
}
