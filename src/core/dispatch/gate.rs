//! Gates: where work gets the source it leaves by, and waits while there is none. A lane behind a gate
//! has little more work than it can carry, so that what one source cannot take goes by another.

use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use super::brain::Dispatch;
use super::curb::{Turn, Wants};
use super::fleet::{Fleet, PoolId};
use super::lane::{Chosen, Lane, LaneKey, Verdict, Via, Wake, hash};
use super::standing::Suspension;
use super::table::Table;
use crate::egress::{Advice, Choice, Query, Reputation, Score, SourceId, Standing};
use crate::queue::EntryId;
use crate::shaping::limit::Limit;
use crate::words::Moment;

/// Work that is let through, or sent back, in one go; the next go follows at once.
const LET_PER_WAKE: usize = 1024;
/// A gate with work is looked at again after this, whatever it waits for.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same where nodes share a rate and no lease is at hand.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// What waits longer keeps no message in memory.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// Sources that a reason names.
const NAMED_MAX: usize = 3;

/// How long a gate has no source for its work.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// When to look again, whatever happens.
    look: Moment,
    /// When its turn may be the next in a line it stands in.
    turn: Moment,
}

impl Wait {
    const UNTIL_TOLD: Self = Self {
        look: Moment::NEVER,
        turn: Moment::NEVER,
    };
}

/// What a shard knows of sources, for a pool that chooses.
struct Clerk<'a> {
    gate: &'a Lane,
    lanes: &'a Table<Lane>,
    fleet: &'a Fleet,
    suspended: &'a [Option<Suspension>],
    reputation: &'a Reputation,
    now: Moment,
    /// It has no lane yet.
    missing: Option<SourceId>,
    /// Whose picking is limited, and when a permit would be there if nobody else waited.
    curbed: SmallVec<[(SourceId, Arc<Limit>); 2]>,
    /// Of those, and of the lines in which the gate stands, the earliest.
    turn: Moment,
    /// One has work enough, and says so when it has less.
    is_full: bool,
}

impl Advice for Clerk<'_> {
    fn score(&mut self, source: SourceId) -> Score {
        let name = &self.fleet.source(source).name;
        let provider = &self.gate.terms.provider;
        self.reputation.score(name, provider, self.now)
    }

    fn take(&mut self, source: SourceId) -> Result<(), Moment> {
        if self.missing.is_some() {
            return Err(Moment::NEVER);
        }
        if let Some(suspension) = &self.suspended[source.0 as usize] {
            return Err(suspension.until.max(self.now) + LEASE_LOOK);
        }
        let Some(exit) = self.gate.exits.get(&source) else {
            self.missing = Some(source);
            return Err(Moment::NEVER);
        };
        let lane = &self.lanes[*exit];
        lane.has_room(self.now).inspect_err(|until| {
            self.is_full |= *until == Moment::NEVER && lane.is_usable();
        })?;
        let held = match self.gate.selection_turns.get(&source) {
            Some(Turn::Waits(limit)) => {
                let limit = Arc::clone(limit);
                return Err(self.wait_for(&limit));
            }
            Some(Turn::Has(held)) => Some(held),
            Some(Turn::Free) | None => None,
        };
        if let Some(warmup) = &lane.warmup {
            warmup.admit(self.now)?;
        }
        if let Err(tight) = lane.terms.selections.take(held, self.now) {
            if let Some(warmup) = &lane.warmup {
                warmup.give(self.now);
            }
            self.curbed.push((source, Arc::clone(&tight.limit)));
            return Err(self.wait_for(&tight.limit));
        }
        Ok(())
    }
}

impl Clerk<'_> {
    /// Its turn in line tells when; no timer has to.
    fn wait_for(&mut self, limit: &Limit) -> Moment {
        let due = limit.when(self.now).unwrap_or(self.now + LEASE_LOOK);
        self.turn = self.turn.min(due);
        Moment::NEVER
    }
}

impl Dispatch {
    pub(super) fn key(&self, plan: &crate::words::Plan, domain: &str) -> LaneKey {
        // The head of a path is of this pool whoever has mail there, so that no change of labels moves it.
        let via = if self.config.fleet.has_choice() {
            Via::Gate(PoolId::DEFAULT)
        } else {
            Via::Sole
        };
        LaneKey {
            via,
            ..self.shapes.key(plan, domain)
        }
    }

    /// The lane of the source whose turn it is; without one the entry waits at the gate.
    pub(super) fn leave(&mut self, id: EntryId, gate: u32, now: Moment) -> Option<u32> {
        self.refresh(gate, now);
        let state = &self.lanes[gate];
        // Who waits was here before.
        if state.strands.demand() == 0 {
            match self.select(gate, id, now) {
                Ok(lane) => return Some(lane),
                Err(wait) => self.bar_gate(gate, wait, now),
            }
        }
        self.wait_at(gate, id, false, now);
        None
    }

    /// `Err`: nobody, before then.
    fn select(&mut self, gate: u32, id: EntryId, now: Moment) -> Result<u32, Wait> {
        let Via::Gate(pool_id) = self.lanes[gate].key.via else {
            return Ok(gate);
        };
        if let Some(lane) = self.follow(gate, id, now) {
            return Ok(lane);
        }
        let domain = self.entries.get(id).domain;
        #[cfg(test)]
        {
            self.selections += 1;
        }
        loop {
            let (lanes, config) = (&self.lanes, &self.config);
            let (pool, suspended, reputation) = self.egress.of(pool_id, &config.fleet, now);
            let Some(pool) = pool else {
                return Err(Wait::UNTIL_TOLD);
            };
            let mut clerk = Clerk {
                gate: &lanes[gate],
                lanes,
                fleet: &config.fleet,
                suspended,
                reputation,
                now,
                missing: None,
                curbed: SmallVec::new(),
                turn: Moment::NEVER,
                is_full: false,
            };
            let query = Query {
                site: &lanes[gate].key.site,
                key: hash(&[self.domains[domain].name.as_str()]),
                now,
            };
            let choice = pool.select(&query, &mut clerk);
            let Clerk {
                missing,
                curbed,
                turn,
                is_full,
                ..
            } = clerk;
            if let Some(source) = missing {
                self.add_exit(gate, source, now);
                continue;
            }
            return match choice {
                Choice::Source { source, is_probe } => {
                    let lane = self.take_source(gate, source, id, now);
                    if is_probe {
                        self.lanes[lane].barred_until = now;
                        self.tell_standing(pool_id, "tries whether it may return", now);
                    }
                    Ok(lane)
                }
                Choice::Nobody { until } => {
                    self.lanes[gate].awaits_room = is_full;
                    for (source, limit) in curbed {
                        self.stand_in_line(gate, source, limit, now);
                    }
                    Err(Wait { look: until, turn })
                }
            };
        }
    }

    /// The lane of the source that was picked for the entry, which is remembered for its message.
    fn take_source(&mut self, gate: u32, source: SourceId, id: EntryId, now: Moment) -> u32 {
        let lane = self.lanes[gate].exits[&source];
        self.use_turn(gate, source, lane, now);
        let most = self.lanes[lane].terms.recipients_per_transaction_max;
        let entry = self.entries.edit(id);
        entry.counted = day_mark(now);
        self.lanes[gate].chosen = Some(Chosen {
            message: entry.id(),
            source,
            room: most.saturating_sub(entry.recipients.as_slice().len()),
        });
        lane
    }

    /// The permit that was waited for is used, if it was for this.
    fn use_turn(&mut self, gate: u32, source: SourceId, lane: u32, now: Moment) {
        let Some(Turn::Has(held)) = self.lanes[gate].selection_turns.remove(&source) else {
            return;
        };
        if !self.lanes[lane].terms.selections.has(held.limit().id) {
            self.parking.pass(held, now);
        }
    }

    /// A permit of another limit, if it has one in hand, is the next one's.
    fn stand_in_line(&mut self, gate: u32, source: SourceId, limit: Arc<Limit>, now: Moment) {
        if let Some(Turn::Has(held)) = self.lanes[gate].selection_turns.remove(&source) {
            self.parking.pass(held, now);
        }
        self.park(gate, Wants::Selection(source), limit, now);
    }

    /// The lane of the entry before it, if it is of the same message and may go in one transaction
    /// with it: then one choice is for both.
    fn follow(&mut self, gate: u32, id: EntryId, now: Moment) -> Option<u32> {
        let state = &self.lanes[gate];
        let chosen = state.chosen?;
        let entry = self.entries.get(id);
        let count = entry.recipients.as_slice().len();
        let is_part = count < usize::from(entry.of) && count <= chosen.room;
        if !is_part || entry.id() != chosen.message {
            return None;
        }
        let lane = *state.exits.get(&chosen.source)?;
        let serial = self.labels.serial(entry.labels);
        let strand = self.lanes[lane].strands.find(entry.labels, serial);
        let has_company = strand.is_some_and(|strand| self.has_company(id, lane, strand));
        let is_together = has_company || !self.lives_here(lane);
        if !is_together || self.lanes[lane].is_closed(now) {
            return None;
        }
        let room = chosen.room - count;
        self.lanes[gate].chosen = Some(Chosen { room, ..chosen });
        self.entries.edit(id).counted = 0;
        Some(lane)
    }

    /// The lane of that source behind the gate.
    pub(super) fn add_exit(&mut self, gate: u32, source: SourceId, now: Moment) -> u32 {
        let state = &self.lanes[gate];
        let Via::Gate(pool) = state.key.via else {
            return gate;
        };
        if let Some(lane) = state.exits.get(&source) {
            return *lane;
        }
        let plan = Arc::clone(&state.plan);
        let key = LaneKey {
            via: Via::Source(pool, source),
            ..state.key.clone()
        };
        let lane = self.lane_of(key, &plan, now);
        self.lanes[lane].gate = gate;
        let head = self.lanes[gate].head;
        self.lanes[lane].head = head;
        self.lanes[lane].failures = u16::from(self.lanes[head].is_doubtful);
        self.lanes[gate].exits.insert(source, lane);
        self.lanes[lane].barred_until = self.barred_until(pool, source, lane, now);
        lane
    }

    /// What follows for the lane of a source from its plan and its terms.
    pub(super) fn fit(&mut self, lane: u32) {
        let state = &mut self.lanes[lane];
        let Via::Source(_, source) = state.key.via else {
            return;
        };
        let fleet = &self.config.fleet;
        let order = state.terms.manner.order(&state.plan, 0);
        let mut hosts = order.iter().map(|index| &state.plan.hosts[*index]);
        state.reaches = hosts.any(|host| fleet.source(source).reaches(&host.address.ip()));
        state.warmup = fleet.warmup(source, &state.terms.provider);
    }

    /// Nobody may have work of the gate before then.
    fn bar_gate(&mut self, gate: u32, wait: Wait, now: Moment) {
        let why = self.reasons(gate, now);
        let state = &mut self.lanes[gate];
        let until = wait.look.min(wait.turn);
        // Who stands in line is woken when it is his turn.
        let look = match state.is_in_line() {
            true => wait.look,
            false => wait.look.min(now + LOOK_AGAIN),
        };
        state.why = why;
        state.paused_until = if until < Moment::NEVER { until } else { look };
        if look < state.looks_at {
            state.looks_at = look;
            self.due.push(look, Wake::Lane(gate));
        }
        if self.is_long(gate, now) && self.lanes[gate].strands.at_hand() > 0 {
            self.drop_held(gate, now);
        }
    }

    /// Whether what waits there does so for more than a moment.
    fn is_long(&self, gate: u32, now: Moment) -> bool {
        let state = &self.lanes[gate];
        !state.awaits_room && state.paused_until > now + HOLD_MAX
    }

    /// `is_first`: it was the first before.
    fn wait_at(&mut self, gate: u32, id: EntryId, is_first: bool, now: Moment) {
        let is_bare = is_first || self.is_long(gate, now);
        let (is_retry, is_held) = self.keep_unless(is_bare, id);
        let entry = self.entries.get(id);
        let (accepted, labels) = (entry.accepted(), entry.labels);
        let strand = self.strand_of(gate, labels, now);
        let strands = &mut self.lanes[gate].strands;
        if is_first {
            strands.push_front(strand, id, is_retry, accepted);
        } else {
            strands.push(strand, id, is_retry, is_held, accepted);
        }
        self.arm_lane_expiry(gate, now);
    }

    /// Lets go what may: something is different from when the gate was shut.
    pub(super) fn release_gate(&mut self, gate: u32, now: Moment) {
        if self.shutting_down {
            return;
        }
        self.refresh(gate, now);
        self.lanes[gate].paused_until = now;
        let mut has_let = false;
        for _ in 0..LET_PER_WAKE {
            let entries = &self.entries;
            let is_held = |id| entries.get(id).message.is_some();
            let Some((strand, id)) = self.lanes[gate].strands.take_free_head(is_held) else {
                let state = &mut self.lanes[gate];
                state.awaits_room = false;
                // What has expired is yet to say for what it waited.
                if has_let {
                    state.why = "".into();
                }
                return;
            };
            if self.is_expired(id, now) {
                self.load(id, Verdict::Expire, now);
            } else if self.is_stray(id, gate) {
                self.send_on(id, now);
            } else {
                match self.select(gate, id, now) {
                    Ok(lane) => {
                        has_let = true;
                        self.lanes[gate].strands.served(strand);
                        self.place_in(id, lane, now);
                    }
                    Err(wait) => {
                        self.bar_gate(gate, wait, now);
                        return self.wait_at(gate, id, true, now);
                    }
                }
            }
        }
        self.due.push(now, Wake::Lane(gate));
    }

    /// A lane that has become short of work gets more, if more waits for it.
    pub(super) fn top_up(&mut self, lane: u32, now: Moment) {
        let state = &self.lanes[lane];
        let gate = state.gate;
        if gate == lane || !self.lanes[gate].awaits_room {
            return;
        }
        if state.demand() * 2 <= state.terms.ready_max {
            self.release_gate(gate, now);
        }
    }

    /// All that has not begun goes by other sources. No attempt is counted.
    pub(super) fn vacate(&mut self, lane: u32, now: Moment) {
        for _ in 0..LET_PER_WAKE {
            let entries = &self.entries;
            let is_held = |id| entries.get(id).message.is_some();
            let Some(id) = self.lanes[lane].strands.take_head(is_held) else {
                return;
            };
            self.take_back(id, lane, now);
            self.enqueue(id, now);
        }
        self.due.push(now, Wake::Lane(lane));
    }

    /// What was for the lane does not leave by it.
    pub(super) fn take_back(&mut self, id: EntryId, lane: u32, now: Moment) {
        let counted = core::mem::take(&mut self.entries.edit(id).counted);
        if let Some(warmup) = &self.lanes[lane].warmup
            && counted == day_mark(now)
        {
            warmup.give(now);
        }
    }

    /// Why no source takes work, in words.
    fn reasons(&mut self, gate: u32, now: Moment) -> Box<str> {
        let Via::Gate(pool_id) = self.lanes[gate].key.via else {
            return "".into();
        };
        let (lanes, config) = (&self.lanes, &self.config);
        let (pool, suspended, _) = self.egress.of(pool_id, &config.fleet, now);
        let state = &lanes[gate];
        let Some(pool) = pool else {
            return "no source is enabled".into();
        };
        let mut named: SmallVec<[String; NAMED_MAX]> = SmallVec::new();
        let mut more = 0;
        for (member, standing) in pool.standings(&state.key.site) {
            if named.len() == NAMED_MAX {
                more += 1;
                continue;
            }
            let place = member.source.0 as usize;
            let lane = state.exits.get(&member.source).map(|lane| &lanes[*lane]);
            let why = match (standing, &suspended[place], lane) {
                (_, Some(suspension), _) => suspension.why.to_string(),
                (Standing::Aside { until, fault }, _, _) => {
                    format!("aside for {} until {}", fault.name(), until.rfc3339())
                }
                (Standing::Probing { .. }, _, _) => "one message tries it".into(),
                (Standing::Well, _, Some(lane)) => lane.want(now),
                (Standing::Well, _, None) => "not in use".into(),
            };
            named.push(format!("{} ({why})", member.name));
        }
        let rest = if more > 0 {
            format!(", {more} more")
        } else {
            String::new()
        };
        format!("no source is of use: {}{rest}", named.join(", ")).into()
    }
}

/// Never zero, and another one for each day of many.
fn day_mark(now: Moment) -> u8 {
    (now.as_secs() / 86_400 % 255) as u8 + 1
}

impl Lane {
    /// More work alone keeps it from taking work.
    pub(super) fn is_usable(&self) -> bool {
        self.reaches && self.terms.connections_max > 0 && self.terms.closed.is_none()
    }

    /// What a lane of a source lacks to take work, in words.
    fn want(&self, now: Moment) -> String {
        if !self.reaches {
            return "reaches no address of the site".into();
        }
        if self.terms.connections_max == 0 {
            return "may have no connection".into();
        }
        if let Some(closed) = &self.terms.closed {
            return format!("waiting for {closed}");
        }
        if self.failures > 0 || now < self.paused_until {
            return self.why.to_string();
        }
        if let Some((limit, due)) = self.terms.selections.tightest(now)
            && due != Some(now)
        {
            return format!("waiting for {}", limit.name);
        }
        let today = self.warmup.as_ref().map(|warmup| warmup.today(now));
        if let Some(today) = today
            && let Some(cap) = today.cap
            && today.sent >= cap
        {
            return format!("has sent its {cap} of today");
        }
        if self.warmup.as_ref().is_some_and(|w| w.awaits_writing(now)) {
            return "what it has sent is yet to be written down".into();
        }
        match self.waits_for() {
            limits if limits.is_empty() => "has work enough".into(),
            limits => format!("waiting for {limits}"),
        }
    }
}
