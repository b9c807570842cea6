//! How an entry finds its lane: routes, pauses, other shards; and when domains and lanes end.

use std::sync::Arc;

use core::time::Duration;

use super::brain::Dispatch;
use super::interface::{Action, Work};
use super::lane::{self, DomainState, Lane, LaneKey, Route, Verdict, Wake};
use crate::queue::{Entry, EntryId};
use crate::words::{Cause, Domain, Moment, Outcome, Plan, RouteError, ShardId};

/// Heads of a lane or a domain expired in one go; the next go follows soon.
const EXPIRIES_PER_WAKE: usize = 1000;
const EXPIRY_REST: Duration = Duration::from_millis(10);
/// A domain without work is remembered about this long, its route with it.
const DOMAIN_REST: Duration = Duration::from_secs(60);

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
        let index = self.lanes.insert(Lane::new(Arc::clone(plan), share));
        self.lane_by_key.insert(key, index);
        index
    }

    pub(super) fn add_entry(&mut self, entry: Entry) -> EntryId {
        self.domains[entry.domain].entries += 1;
        self.entries.insert(entry)
    }

    /// The entry is gone from this shard. The last of its domain starts the clock for the domain.
    pub(super) fn drop_entry(&mut self, id: EntryId, now: Moment) {
        self.release(id);
        let index = self.entries.remove(id).domain;
        let domain = &mut self.domains[index];
        domain.entries -= 1;
        if domain.entries == 0 && !domain.rest_timer {
            domain.rest_timer = true;
            self.due.push(now + DOMAIN_REST, Wake::Rest(index));
        }
    }

    pub(super) fn forget_domain(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index];
        domain.rest_timer = false;
        if domain.entries > 0 {
            return;
        }
        if domain.resolving {
            domain.rest_timer = true;
            self.due.push(now + DOMAIN_REST, Wake::Rest(index));
            return;
        }
        self.set_route(index, Route::Unknown);
        if let Some(domain) = self.domains.remove(index) {
            self.domain_by_name.remove(domain.name.as_str());
        }
    }

    pub(super) fn set_route(&mut self, index: u32, route: Route) {
        if let Route::Lane { lane, .. } = &route {
            self.lanes[*lane].domains += 1;
        }
        let before = core::mem::replace(&mut self.domains[index].route, route);
        if let Route::Lane { lane, .. } = before {
            self.lanes[lane].domains -= 1;
            self.forget_lane(lane);
        }
    }

    /// No domain leads to the lane any more: what is ready in it goes where its domain leads. While
    /// another domain still leads there, all that is in it stays.
    pub(super) fn leave_lane(&mut self, lane: u32, now: Moment) {
        let Some(state) = self.lanes.get_mut(lane).filter(|lane| lane.domains == 0) else {
            return;
        };
        let mut left = [
            core::mem::take(&mut state.staged),
            core::mem::take(&mut state.ready),
        ];
        state.held = 0;
        for ready in &mut left {
            while let Some(id) = ready.pop() {
                self.enqueue(id, now);
            }
        }
        self.forget_lane(lane);
    }

    /// Ends a lane that no domain leads to and that has neither work nor connections.
    pub(super) fn forget_lane(&mut self, lane: u32) {
        if !self.lanes.get(lane).is_some_and(Lane::is_bare) {
            return;
        }
        if let Some(lane) = self.lanes.remove(lane) {
            let site = lane.plan.site.clone();
            self.lane_by_key.remove(&LaneKey { site });
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
                self.domains[index].pending.push(id, is_retry, is_held);
                self.resolve(index, now);
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

    pub(super) fn drain_pending(&mut self, index: u32, now: Moment) {
        let mut pending = core::mem::take(&mut self.domains[index].pending);
        while let Some(id) = pending.pop() {
            self.enqueue(id, now);
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
        for id in domain.pending.strip() {
            self.release(id);
        }
        if let Some(head) = head {
            let outcome = Arc::new(Outcome::Deferred(Cause::Route(why)));
            self.load(head, Verdict::Settle(outcome), now);
        }
    }

    pub(super) fn retry_route(&mut self, index: u32, now: Moment) {
        for _ in 0..EXPIRIES_PER_WAKE {
            let entries = &self.entries;
            let max_age = self.config.schedule.max_age;
            let expired = |id| entries.get(id).age(now) >= max_age;
            let pending = &mut self.domains[index].pending;
            let Some(id) = pending.pop_head_where(expired) else {
                break;
            };
            self.load(id, Verdict::Expire, now);
        }
        if !self.domains[index].pending.is_empty() {
            self.resolve(index, now);
        }
    }

    pub(super) fn unpause(&mut self, index: u32, now: Moment) {
        let domain = &mut self.domains[index];
        domain.paused_until = domain.paused_until.min(now);
        if let Route::Lane { lane, .. } = &domain.route {
            let lane = *lane;
            let state = &mut self.lanes[lane];
            state.paused_until = state.paused_until.min(now);
            self.serve(lane, now);
        }
        self.retry_route(index, now);
    }

    /// Makes the entry ready in its lane, here or on the shard where the lane lives.
    pub(super) fn place(&mut self, id: EntryId, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        if state.share == 0 {
            return self.forward(id, lane, now);
        }
        let is_paused = state.is_paused(now);
        let (is_retry, is_held) = self.keep_unless(is_paused, id);
        let state = &mut self.lanes[lane];
        state.held += usize::from(is_held);
        state.ready.push(id, is_retry, is_held);
        self.serve(lane, now);
    }

    fn forward(&mut self, id: EntryId, lane: u32, now: Moment) {
        self.keep_unless(false, id);
        let plan = Arc::clone(&self.lanes[lane].plan);
        let entry = self.entries.get(id).clone();
        self.drop_entry(id, now);
        let salt = entry.id().as_u128() as u64;
        let config = &self.config;
        let to: ShardId = lane::forward_to(&plan.site, config.connections_max, config.shards, salt);
        let work = Work {
            id: entry.id(),
            of: entry.of,
            attempts: entry.attempts,
            warned: entry.warned,
            domain: self.domains[entry.domain].name.clone(),
            recipients: entry.recipients.as_slice().into(),
            message: entry.message,
            octets: entry.octets,
            plan,
        };
        self.counters.forwarded += 1;
        self.actions.push_back(Action::Forward { to, work });
    }

    /// What is said of an expired entry: the last trouble of its site.
    pub(super) fn expiry(&self, id: EntryId) -> Cause {
        let domain = &self.domains[self.entries.get(id).domain];
        let last = match &domain.route {
            Route::Lane { lane, .. } => &self.lanes[*lane].why,
            Route::Unknown | Route::Refused { .. } => &domain.why,
        };
        Cause::Expired { last: last.clone() }
    }

    pub(super) fn expire_heads(&mut self, lane: u32, now: Moment) {
        for _ in 0..EXPIRIES_PER_WAKE {
            let entries = &self.entries;
            let max_age = self.config.schedule.max_age;
            let state = &mut self.lanes[lane];
            let expired = |id| entries.get(id).age(now) >= max_age;
            let Some(id) = state.ready.pop_head_where(expired) else {
                return;
            };
            state.held -= usize::from(entries.get(id).message.is_some());
            self.load(id, Verdict::Expire, now);
        }
        self.due.push(now + EXPIRY_REST, Wake::Lane(lane));
    }
}
