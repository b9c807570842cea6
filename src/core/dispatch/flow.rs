//! How an entry finds its lane: routes, pauses, other shards; and when domains and lanes end.

use std::sync::Arc;

use core::time::Duration;

use super::brain::Dispatch;
use super::interface::{Action, Work};
use super::lane::{self, DomainState, Lane, LaneKey, Route, Verdict, Via, Wake};
use super::strands::Strand;
use super::terms::Terms;
use crate::queue::{Entry, EntryId, Recipients};
use crate::words::{Cause, Domain, Moment, Outcome, Plan, RouteError, ShardId};

/// Entries of a lane, or of a domain without route, looked at in one go; the next go follows soon.
const SWEPT_PER_WAKE: usize = 1000;
const SWEEP_REST: Duration = Duration::from_millis(10);
/// Entries of a domain that has found its route, or of a lane without domains, that move in one go.
const MOVES_PER_WAKE: usize = 4096;
/// A domain without work is remembered about this long, its route with it.
const DOMAIN_REST: Duration = Duration::from_secs(60);
/// Work that came from another shard for a source which is of no use here is looked at again after
/// this: the other shard may not have heard of it, and would send it again.
const STRAY_REST: Duration = Duration::from_secs(1);

impl Dispatch {
    pub(super) fn domain_id_of(&mut self, name: &str) -> u32 {
        if let Some(index) = self.domain_by_name.get(name) {
            return *index;
        }
        let domain = Domain::parse(name).expect("an address holds a valid domain");
        let index = self.domains.insert(DomainState::new(domain));
        self.domain_by_name.insert(name.into(), index);
        index
    }

    /// The lane of `domain`'s mail by `plan`.
    pub(super) fn lane_id(&mut self, plan: &Arc<Plan>, domain: &str, now: Moment) -> u32 {
        let key = self.key(plan, domain);
        let lane = self.lane_of(key, plan, now);
        if let Some(number) = self.domain_by_name.get(domain)
            && core::mem::take(&mut self.domains[*number].is_doubtful)
        {
            self.doubt(lane);
        }
        lane
    }

    /// A start forgets why a lane paused; what is left of it is that one connection tries, of the lane or
    /// of each source behind it, until a peer answers.
    fn doubt(&mut self, lane: u32) {
        let state = &mut self.lanes[lane];
        if state.is_gate() {
            state.is_doubtful = state.exits.is_empty();
        } else if state.opening + state.connected == 0 {
            state.failures = state.failures.max(1);
        }
    }

    pub(super) fn lane_of(&mut self, key: LaneKey, plan: &Arc<Plan>, now: Moment) -> u32 {
        if let Some(index) = self.lane_by_key.get(&key) {
            return *index;
        }
        let terms = self.terms_of(plan, &key, now);
        let mut lane = Lane::new(key.clone(), Arc::clone(plan), terms);
        self.lane_serial += 1;
        lane.serial = self.lane_serial;
        lane.stamp = self.shapes_stamp;
        let index = self.lanes.insert(lane);
        self.lanes[index].gate = index;
        self.lanes[index].head = index;
        self.lane_by_key.insert(key, index);
        self.fit(index);
        index
    }

    /// What holds for such a lane.
    pub(super) fn terms_of(&mut self, plan: &Arc<Plan>, key: &LaneKey, now: Moment) -> Terms {
        let source = match key.via {
            Via::Gate(_) => {
                let terms = self.shapes.gate_terms(plan, key, now);
                self.watch_until(terms.until);
                return terms;
            }
            Via::Sole => None,
            Via::Source(_, source) => Some(&*self.config.fleet.source(source).name),
        };
        let (terms, freed) = self.shapes.terms(plan, key, source, now);
        self.watch_until(terms.until);
        self.spread(&freed, now);
        terms
    }

    pub(super) fn set_plan(&mut self, lane: u32, plan: &Arc<Plan>) {
        for lane in self.family(lane) {
            self.lanes[lane].plan = Arc::clone(plan);
            self.fit(lane);
        }
    }

    /// Whether the lane's mail leaves from this shard. That of a gate has not come so far.
    pub(super) fn lives_here(&self, lane: u32) -> bool {
        let (lane, config) = (&self.lanes[lane], &self.config);
        lane.is_gate()
            || lane.terms.connections_max >= usize::from(config.shards)
            || self.home_of(lane) == config.shard
    }

    /// The shard of the lane, if it does not live on all.
    fn home_of(&self, lane: &Lane) -> ShardId {
        let source = match lane.key.via {
            Via::Source(_, source) => &*self.config.fleet.source(source).name,
            Via::Sole | Via::Gate(_) => "",
        };
        lane::home(&lane.key.site, source, self.config.shards)
    }

    pub(super) fn add_entry(&mut self, entry: Entry) -> EntryId {
        self.domains[entry.domain].entries += 1;
        self.labels.hold(entry.labels);
        self.entries.insert(entry)
    }

    /// The entry is gone from this shard. The last of its domain starts the clock for the domain.
    pub(super) fn drop_entry(&mut self, id: EntryId, now: Moment) {
        self.release(id);
        self.sentences.forget(id);
        let entry = self.entries.remove(id);
        self.labels.release(entry.labels);
        let index = entry.domain;
        let domain = &mut self.domains[index];
        domain.entries -= 1;
        if domain.entries == 0 && !domain.rest_timer {
            domain.rest_timer = true;
            self.due.push(now + DOMAIN_REST, Wake::Rest(index));
        }
    }

    pub(super) fn forget_domain(&mut self, index: u32, now: Moment) {
        let Some(domain) = self.domains.get_mut(index) else {
            return;
        };
        domain.rest_timer = false;
        if domain.entries > 0 {
            return;
        }
        if domain.resolving {
            domain.rest_timer = true;
            self.due.push(now + DOMAIN_REST, Wake::Rest(index));
            return;
        }
        let left = self.set_route(index, Route::Unknown, now);
        if let Some(lane) = left {
            self.move_on(lane, now);
        }
        if let Some(domain) = self.domains.remove(index) {
            self.domain_by_name.remove(domain.name.as_str());
        }
    }

    /// Whether the entry is to leave the lane: its domain has left it, or an operator has ended it.
    pub(super) fn is_stray(&self, id: EntryId, lane: u32) -> bool {
        if self.sentences.has(id) {
            return true;
        }
        match &self.domains[self.entries.get(id).domain].route {
            // Where the other lane does not live, this one is as good: two shards that know
            // different routes would send the entry to and fro.
            Route::Lane { lane: other, .. } => {
                *other != lane && self.leads_here(*other, lane) || self.is_at_wrong_gate(id, lane)
            }
            Route::Refused { .. } => true,
            Route::Unknown => false,
        }
    }

    /// Whether work of `lane` that has left it for `other` would stay on this shard; it has not left
    /// the path that leads to it.
    fn leads_here(&self, other: u32, lane: u32) -> bool {
        if other == self.head_of(lane) {
            return false;
        }
        let Via::Source(pool, source) = self.lanes[lane].key.via else {
            return self.lives_here(other);
        };
        let config = &self.config;
        let gate = self.find_gate(other, pool);
        let exit = gate.and_then(|gate| self.lanes[gate].exits.get(&source));
        match exit {
            Some(exit) => self.lives_here(*exit),
            None => {
                let name = &config.fleet.source(source).name;
                lane::home(&self.lanes[other].key.site, name, config.shards) == config.shard
            }
        }
    }

    /// To where its domain's route leads, by way of the timer: from lane to lane directly this
    /// might go on without end.
    pub(super) fn send_on(&mut self, id: EntryId, now: Moment) {
        self.due.push(now, Wake::Entry(id));
    }

    /// Domains have left the lane. What it has is sent after them: at once if none is left, else
    /// as it is looked through.
    pub(super) fn move_on(&mut self, lane: u32, now: Moment) {
        if self.lanes.get(lane).is_none() {
            return;
        }
        let is_left = self.is_left(lane);
        for other in self.family(lane) {
            if other != lane || !is_left {
                self.lanes[other].has_strays = true;
                self.due.push(now, Wake::Lane(other));
            }
        }
        if !is_left {
            return;
        }
        for _ in 0..MOVES_PER_WAKE {
            let entries = &self.entries;
            let is_held = |id| entries.get(id).message.is_some();
            let Some(id) = self.lanes[lane].strands.take_head(is_held) else {
                return self.forget_lane(lane, now);
            };
            self.enqueue(id, now);
        }
        self.due.push(now, Wake::Lane(lane));
    }

    /// The lane that was left, if there was one.
    pub(super) fn set_route(&mut self, index: u32, route: Route, now: Moment) -> Option<u32> {
        let after = match &route {
            Route::Lane { lane, .. } => Some(*lane),
            Route::Unknown | Route::Refused { .. } => None,
        };
        if let Route::Lane { lane, .. } = &route {
            self.lanes[*lane].domains += 1;
        }
        let before = core::mem::replace(&mut self.domains[index].route, route);
        if let Route::Lane { lane, .. } = before {
            self.lanes[lane].domains -= 1;
            self.forget_lane(lane, now);
            return Some(lane).filter(|lane| Some(*lane) != after);
        }
        None
    }

    /// Ends a lane that no domain leads to and that has neither work nor connections, and then its gate
    /// and the head of its path if that was all they had.
    pub(super) fn forget_lane(&mut self, lane: u32, now: Moment) {
        let Some(state) = self.lanes.get(lane) else {
            return;
        };
        let (gate, head) = (state.gate, self.head_of(lane));
        if gate == lane && self.lanes[head].domains == 0 {
            // Lanes before their gates, and those before their head.
            for lane in self.family(lane).into_iter().rev() {
                self.remove_bare(lane, now);
            }
        }
        for lane in [lane, gate, head] {
            self.remove_bare(lane, now);
        }
    }

    fn remove_bare(&mut self, lane: u32, now: Moment) {
        if !self.lanes.get(lane).is_some_and(Lane::is_bare) {
            return;
        }
        // What has expired at a gate is yet to say for what it waited.
        if self.lanes[lane].is_gate() && !self.is_left(lane) {
            return;
        }
        // Its places in line are found empty.
        self.pass_turns(lane, now);
        let Some(state) = self.lanes.remove(lane) else {
            return;
        };
        self.lane_by_key.remove(&state.key);
        match state.key.via {
            Via::Source(_, source) => {
                self.lanes[state.gate].exits.remove(&source);
            }
            Via::Gate(pool) if state.head != lane => {
                self.lanes[state.head].siblings.remove(&pool);
            }
            Via::Gate(_) | Via::Sole => {}
        }
    }

    pub(super) fn is_expired(&self, id: EntryId, now: Moment) -> bool {
        self.entries.get(id).age(now) >= self.config.schedule.max_age
    }

    /// The entry is due: to its lane if its route is known.
    pub(super) fn enqueue(&mut self, id: EntryId, now: Moment) {
        if self.shutting_down {
            self.release(id);
            self.due.push(now, Wake::Entry(id));
            return;
        }
        if let Some(sentence) = self.sentences.get(id) {
            return self.load(id, Verdict::End(sentence), now);
        }
        if self.is_expired(id, now) {
            return self.load(id, Verdict::Expire, now);
        }
        let index = self.entries.get(id).domain;
        let domain = &self.domains[index];
        match &domain.route {
            Route::Lane { lane, valid_until } => {
                let (lane, is_stale) = (*lane, now >= *valid_until);
                if is_stale {
                    self.resolve(index, now);
                }
                self.place(id, lane, now);
            }
            Route::Refused {
                outcome,
                valid_until,
            } if now < *valid_until => {
                let verdict = Verdict::Settle(Arc::clone(outcome));
                self.load(id, verdict, now);
            }
            Route::Unknown | Route::Refused { .. } => {
                let is_paused = now < domain.paused_until;
                let (is_retry, is_held) = self.keep_unless(is_paused, id);
                let accepted = self.entries.get(id).accepted();
                let pending = &mut self.domains[index].pending;
                pending.push(id, is_retry, is_held, accepted);
                self.resolve(index, now);
                self.arm_domain_expiry(index, now);
            }
        }
    }

    fn resolve(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index];
        if !domain.resolving && now >= domain.paused_until && !self.shutting_down {
            domain.resolving = true;
            self.actions.push_back(Action::Resolve(domain.name.clone()));
        }
    }

    /// The domain's route is known: what waited for it goes on, a part at a time.
    pub(super) fn drain_pending(&mut self, index: u32, now: Moment) {
        for _ in 0..MOVES_PER_WAKE {
            let Some(id) = self.domains[index].pending.pop() else {
                return;
            };
            self.enqueue(id, now);
        }
        self.due.push(now, Wake::Domain(index));
    }

    /// The domain's pause may be over, something of it may have expired, or more of it can go on.
    pub(super) fn wake_domain(&mut self, index: u32, now: Moment) {
        let Some(domain) = self.domains.get_mut(index) else {
            return;
        };
        // A timer that is yet to come stays the only one: a second would beget a third.
        if now >= domain.expires_at {
            domain.expires_at = Moment::NEVER;
        }
        match &domain.route {
            Route::Lane { .. } => self.drain_pending(index, now),
            Route::Refused { valid_until, .. } if now < *valid_until => {
                self.drain_pending(index, now);
            }
            Route::Unknown | Route::Refused { .. } => self.retry_route(index, now),
        }
    }

    /// No name server answered. An old plan stays in use; without one the domain pauses, and that
    /// counts as an attempt for the first in line only.
    pub(super) fn fail_route(&mut self, index: u32, why: RouteError, now: Moment) {
        let random = self.random();
        let domain = &mut self.domains[index];
        domain.failures = domain.failures.saturating_add(1);
        domain.why = why.to_string().into();
        domain.paused_until = now + self.config.connect_backoff.next(domain.failures, random);
        if matches!(domain.route, Route::Lane { .. }) {
            return;
        }
        domain.route = Route::Unknown;
        self.due.push(domain.paused_until, Wake::Domain(index));
        let head = domain.pending.pop();
        self.arm_domain_expiry(index, now);
        let domain = &mut self.domains[index];
        for id in domain.pending.strip() {
            self.release(id);
        }
        if let Some(head) = head {
            let outcome = Arc::new(Outcome::Deferred(Cause::Route(why)));
            self.load(head, Verdict::Settle(outcome), now);
        }
    }

    pub(super) fn retry_route(&mut self, index: u32, now: Moment) {
        let mut pending = core::mem::take(&mut self.domains[index].pending);
        let has_expired = pending.oldest() + self.config.schedule.max_age <= now;
        if has_expired || !self.sentences.is_empty() {
            let is_over = |id| self.is_expired(id, now) || self.sentences.has(id);
            let look = |id| (is_over(id), self.entries.get(id).accepted());
            let (expired, is_through) = pending.sweep(SWEPT_PER_WAKE, look);
            if !is_through {
                self.due.push(now + SWEEP_REST, Wake::Domain(index));
            }
            for id in expired {
                self.enqueue(id, now);
            }
        }
        self.domains[index].pending = pending;
        if !self.domains[index].pending.is_empty() {
            self.resolve(index, now);
            self.arm_domain_expiry(index, now);
        }
    }

    /// What is too old is not kept until a pause ends.
    pub(super) fn arm_domain_expiry(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index];
        let expiry = domain.pending.oldest() + self.config.schedule.max_age;
        if now < domain.paused_until && expiry < domain.paused_until.min(domain.expires_at) {
            domain.expires_at = expiry.max(now + SWEEP_REST);
            self.due.push(domain.expires_at, Wake::Domain(index));
        }
    }

    /// What is too old is not kept until its lane's turn comes.
    pub(super) fn arm_lane_expiry(&mut self, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane];
        let Some((until, oldest)) = state.waits_until(now) else {
            return;
        };
        let expiry = oldest + self.config.schedule.max_age;
        let look = expiry.max(now + SWEEP_REST);
        if expiry < until && look < state.expires_at {
            state.expires_at = look;
            self.due.push(look, Wake::Lane(lane));
        }
    }

    pub(super) fn unpause(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index];
        domain.paused_until = domain.paused_until.min(now);
        if let Route::Lane { lane, .. } = &domain.route {
            // Gates last: what they let go finds its lane open.
            let lane = *lane;
            for lane in self.family(lane).into_iter().rev() {
                let state = &mut self.lanes[lane];
                state.paused_until = state.paused_until.min(now);
                self.serve(lane, now);
            }
        }
        self.retry_route(index, now);
    }

    /// Makes the entry ready in its lane, or has it wait at the lane's gate.
    fn place(&mut self, id: EntryId, lane: u32, now: Moment) {
        if !self.lanes[lane].is_gate() {
            return self.place_in(id, lane, now);
        }
        let gate = self.gate_for(lane, self.entries.get(id).labels, now);
        if let Some(lane) = self.leave(id, gate, now) {
            self.place_in(id, lane, now);
        }
    }

    /// The entry came from another shard.
    pub(super) fn take_in(&mut self, id: EntryId, lane: u32, now: Moment) {
        if self.lanes[lane].is_closed(now) {
            self.take_back(id, lane, now);
            self.due.push(now + STRAY_REST, Wake::Entry(id));
        } else {
            self.place(id, lane, now);
        }
    }

    /// Here, or on the shard where the lane lives.
    pub(super) fn place_in(&mut self, id: EntryId, lane: u32, now: Moment) {
        self.refresh(lane, now);
        if !self.lives_here(lane) {
            return self.forward(id, lane, now);
        }
        if let Some(refusal) = self.lanes[lane].refusal(now) {
            return self.load(id, Verdict::Settle(refusal), now);
        }
        let strand = self.strand_of(lane, self.entries.get(id).labels, now);
        self.part(id, lane, strand, now);
        let state = &self.lanes[lane];
        let is_closed = state.strands.get(strand).is_some_and(Strand::is_closed);
        let is_paused = is_closed || state.is_paused(now);
        let (is_retry, is_held) = self.keep_unless(is_paused, id);
        let has_company = self.has_company(id, lane, strand);
        let accepted = self.entries.get(id).accepted();
        let strands = &mut self.lanes[lane].strands;
        strands.push(strand, id, is_retry, is_held, accepted);
        self.curb_strand(lane, strand, now);
        self.arm_lane_expiry(lane, now);
        if !has_company {
            self.serve(lane, now);
        }
    }

    /// What is more than one transaction may carry is work of its own, behind this.
    fn part(&mut self, id: EntryId, lane: u32, strand: u32, now: Moment) {
        let most = self.recipients_max(lane, strand);
        let entry = self.entries.get(id);
        if entry.recipients.as_slice().len() <= most {
            return;
        }
        let (first, rest) = entry.recipients.as_slice().split_at(most);
        let first = Recipients::from_slice(first);
        let mut other = entry.clone();
        other.recipients = Recipients::from_slice(rest);
        other.counted = 0;
        let message = other.message.take();
        self.entries.edit(id).recipients = first;
        let other = self.add_entry(other);
        if let Some(message) = message {
            self.hold(other, message);
        }
        self.due.push(now, Wake::Entry(other));
    }

    fn forward(&mut self, id: EntryId, lane: u32, now: Moment) {
        self.keep_unless(false, id);
        let state = &self.lanes[lane];
        let plan = Arc::clone(&state.plan);
        let to = self.home_of(state);
        let source = match state.key.via {
            Via::Source(pool, source) => Some((pool, source)),
            Via::Sole | Via::Gate(_) => None,
        };
        let entry = self.entries.get(id).clone();
        let labels = self.labels.get(entry.labels).clone();
        self.drop_entry(id, now);
        let work = Work {
            id: entry.id(),
            of: entry.of,
            attempts: entry.attempts,
            warned: entry.warned,
            counted: entry.counted,
            labels,
            domain: self.domains[entry.domain].name.clone(),
            recipients: entry.recipients.as_slice().into(),
            message: entry.message,
            octets: entry.octets,
            plan,
            source,
        };
        self.counters.forwarded += 1;
        self.actions.push_back(Action::Forward { to, work });
    }

    /// What is said of an expired entry: what it waits for, or the last trouble of its site.
    pub(super) fn expiry(&self, id: EntryId) -> Cause {
        let entry = self.entries.get(id);
        let domain = &self.domains[entry.domain];
        let last = match &domain.route {
            Route::Lane { lane, .. } => {
                let gate = self.gate_of_entry(*lane, entry.labels);
                self.lanes[self.telling(gate)].trouble(entry.labels)
            }
            Route::Unknown | Route::Refused { .. } => domain.why.clone(),
        };
        Cause::Expired { last }
    }

    /// The lane's pause may be over, or there is something in it that does not belong there.
    pub(super) fn wake_lane(&mut self, lane: u32, now: Moment) {
        let Some(state) = self.lanes.get(lane) else {
            return;
        };
        let is_exit = state.gate != lane;
        if !is_exit && !state.strands.is_empty() && self.is_left(lane) {
            return self.move_on(lane, now);
        }
        let state = &self.lanes[lane];
        if is_exit && state.is_closed(now) {
            self.vacate(lane, now);
        }
        let state = &mut self.lanes[lane];
        // A timer that is yet to come stays the only one: a second would beget a third.
        if now >= state.expires_at {
            state.expires_at = Moment::NEVER;
        }
        if now >= state.looks_at {
            state.looks_at = Moment::NEVER;
        }
        self.sweep_lane(lane, now);
        let is_due = self.lanes[lane].is_gate() || now >= self.lanes[lane].paused_until;
        if !self.refuse_ready(lane, now) && is_due {
            self.serve(lane, now);
        }
        if is_exit {
            let gate = self.lanes[lane].gate;
            self.serve(gate, now);
        }
        self.arm_lane_expiry(lane, now);
        self.forget_lane(lane, now);
    }

    /// Expires what is too old, however young the entries ahead of it are, and sends strays on.
    /// One window at a time; the next one follows soon, until all is looked through.
    fn sweep_lane(&mut self, lane: u32, now: Moment) {
        let state = &mut self.lanes[lane];
        let has_expired = state.strands.oldest() + self.config.schedule.max_age <= now;
        if !has_expired && !state.has_strays {
            return;
        }
        let mut strands = core::mem::take(&mut state.strands);
        let look = |id| {
            let is_taken = self.is_expired(id, now) || self.is_stray(id, lane);
            (is_taken, self.entries.get(id).accepted())
        };
        let is_held = |id: &EntryId| self.entries.get(*id).message.is_some();
        let (taken, is_through) = strands.sweep(SWEPT_PER_WAKE, look, is_held);
        let state = &mut self.lanes[lane];
        state.strands = strands;
        state.has_strays &= !is_through;
        if !is_through && state.swept_until <= now {
            state.swept_until = now + SWEEP_REST;
            self.due.push(now + SWEEP_REST, Wake::Lane(lane));
        }
        for id in taken {
            if self.is_expired(id, now) {
                self.load(id, Verdict::Expire, now);
            } else {
                self.send_on(id, now);
            }
        }
    }
}
