//! The events of a shard's brain, one function each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use core::iter::{repeat, repeat_n};
use core::net::SocketAddr;
use core::time::Duration;

use smallvec::SmallVec;

use super::agenda::Agenda;
use super::curb::{Reshaping, Waiter};
use super::firing::Mail;
use super::fleet::PoolId;
use super::flush::Flushes;
use super::interface::{Action, Config, Reporter, Work};
use super::lane::{
    Company, Connection, ConnectionState, DomainState, Lane, LaneKey, Peer, Route, Verdict, Wake,
};
use super::order::Sentences;
use super::overview::{Counters, PoolCounters};
use super::settle::{Attempt, PendingReport};
use super::standing::Egress;
use super::table::Table;
use super::terms::{Shapes, StrandTerms};
use crate::queue::{Entries, Entry, EntryId, LabelTable, Recipients};
use crate::shaping::limit::Parking;
use crate::words::{
    Cause, ConnectionId, Domain, Host, IdSequence, Message, MessageId, Moment, Outcome, Plan,
    Recovered, RouteError, Stage,
};

/// A route is not asked for again sooner than this, whatever its TTL says.
const ROUTE_TTL_MIN: Duration = Duration::from_secs(1);
/// Timers dealt with in one go: others of the shard must have their turn.
const WAKES_MAX: usize = 4096;
/// After a message could not be read, or a report not be stored.
pub(super) const OWN_TROUBLE_PAUSE: Duration = Duration::from_secs(60);

/// One per shard.
pub struct Dispatch {
    pub(super) config: Arc<Config>,
    pub(super) shapes: Arc<Shapes>,
    /// Grows each time `shapes` are to be asked anew.
    pub(super) shapes_stamp: u64,
    /// When they are, for the hour or an override that expires.
    pub(super) shapes_until: Moment,
    pub(super) reshaping: Reshaping,
    /// Lanes that wait for permits.
    pub(super) parking: Parking<Waiter>,
    pub(super) reporter: Box<dyn Reporter>,
    pub(super) ids: IdSequence,
    pub(super) random: u64,
    pub(super) entries: Entries,
    /// Those of the entries.
    pub(super) labels: LabelTable,
    pub(super) due: Agenda,
    pub(super) flushes: Flushes,
    pub(super) sentences: Sentences,
    pub(super) lanes: Table<Lane>,
    pub(super) lane_by_key: BTreeMap<LaneKey, u32>,
    pub(super) lane_serial: u64,
    pub(super) domains: Table<DomainState>,
    pub(super) domain_by_name: BTreeMap<Box<str>, u32>,
    pub(super) egress: Egress,
    /// Of mail of which nothing else is said.
    pub(super) default_pool: PoolId,
    /// How often a pool was asked for a source.
    #[cfg(test)]
    pub(super) selections: u64,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) connection_next: u64,
    pub(super) seq_next: u64,
    /// What transactions in flight hold places of, for their labels.
    pub(super) places: BTreeMap<u64, Arc<StrandTerms>>,
    pub(super) loading: BTreeMap<MessageId, SmallVec<[(EntryId, Verdict); 1]>>,
    /// Entries with a verdict that wait for a load to end.
    pub(super) loads_waiting: VecDeque<(EntryId, Verdict)>,
    /// What loads for lanes will bring, as far as known.
    pub(super) loading_octets: usize,
    pub(super) reports: BTreeMap<u32, PendingReport>,
    pub(super) report_next: u32,
    /// Batches with a report that are not answered yet.
    pub(super) reports_asked: usize,
    /// Settles that are not answered yet.
    pub(super) unsynced: usize,
    /// Lanes whose work waits for such answers.
    pub(super) held_back: Vec<u32>,
    pub(super) held_octets: usize,
    /// Messages with more than one recipient that are held, and by how many entries.
    pub(super) shared: BTreeMap<MessageId, (Arc<Message>, u32)>,
    pub(super) shutting_down: bool,
    pub(super) actions: VecDeque<Action>,
    pub(super) counters: Counters,
}

impl Dispatch {
    pub fn new(
        config: Arc<Config>,
        shapes: Arc<Shapes>,
        ids: IdSequence,
        random_seed: u64,
        reporter: Box<dyn Reporter>,
    ) -> Self {
        assert!(config.shards > config.shard.0, "shards are numbered from 0");
        let connection_next = u64::from(config.shard.0) << 48;
        let counters = Counters {
            pools: vec![PoolCounters::default(); config.fleet.pools().len()],
            ..Counters::default()
        };
        Self {
            parking: Parking::new(config.shard, usize::MAX),
            egress: Egress::new(&config.fleet, config.shard),
            default_pool: config.fleet.default_pool(&shapes),
            #[cfg(test)]
            selections: 0,
            config,
            shapes,
            shapes_stamp: 0,
            shapes_until: Moment::NEVER,
            reshaping: Reshaping::default(),
            reporter,
            ids,
            random: random_seed | 1,
            entries: Entries::default(),
            labels: LabelTable::default(),
            due: Agenda::default(),
            flushes: Flushes::default(),
            sentences: Sentences::default(),
            lanes: Table::default(),
            lane_by_key: BTreeMap::new(),
            lane_serial: 0,
            domains: Table::default(),
            domain_by_name: BTreeMap::new(),
            connections: BTreeMap::new(),
            connection_next,
            seq_next: 0,
            places: BTreeMap::new(),
            loading: BTreeMap::new(),
            loads_waiting: VecDeque::new(),
            loading_octets: 0,
            reports: BTreeMap::new(),
            report_next: 0,
            reports_asked: 0,
            unsynced: 0,
            held_back: Vec::new(),
            held_octets: 0,
            shared: BTreeMap::new(),
            shutting_down: false,
            actions: VecDeque::new(),
            counters,
        }
    }

    pub fn shapes(&self) -> Arc<Shapes> {
        Arc::clone(&self.shapes)
    }

    /// A message is durable and all its recipients are to be tried.
    pub fn handle_committed(&mut self, message: Arc<Message>, now: Moment) {
        let recipients = &message.envelope.recipients;
        let of = u16::try_from(recipients.len()).expect("an envelope has at most 65,535");
        // Its first entry may be on another shard, and its number free, before its last is made.
        let labels = self.labels.number(&message.labels);
        self.labels.hold(labels);
        if let [one] = &recipients[..] {
            let domain = self.domain_id_of(one.address.domain_str());
            let mut entry = Entry::new(message.id, Recipients::One(0), domain, of);
            entry.labels = labels;
            self.admit(entry, Some(message), now);
            self.labels.release(labels);
            return;
        }
        let mut by_domain: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for (index, recipient) in (0..of).zip(recipients) {
            let domain = self.domain_id_of(recipient.address.domain_str());
            by_domain.entry(domain).or_default().push(index);
        }
        for (domain, indices) in by_domain {
            for chunk in indices.chunks(self.config.recipients_per_entry_max.max(1)) {
                let mut entry = Entry::new(message.id, Recipients::from_slice(chunk), domain, of);
                entry.labels = labels;
                self.admit(entry, Some(Arc::clone(&message)), now);
            }
        }
        self.labels.release(labels);
    }

    fn admit(&mut self, entry: Entry, message: Option<Arc<Message>>, now: Moment) {
        let id = self.add_entry(entry);
        if let Some(message) = message {
            self.hold(id, message);
        }
        self.enqueue(id, now);
    }

    /// From the spool at start; due times are kept.
    pub fn handle_recovered(&mut self, recovered: Recovered, now: Moment) {
        let mut groups: BTreeMap<(u32, u16, Moment), Vec<u16>> = BTreeMap::new();
        for state in &recovered.unsettled {
            let domain = self.domain_id_of(state.domain.as_str());
            let why = &mut self.domains[domain].why;
            if why.is_empty() && !state.last.is_empty() {
                why.clone_from(&state.last);
            }
            groups
                .entry((domain, state.attempts, state.due))
                .or_default()
                .push(state.recipient);
        }
        let labels = self.labels.number(&recovered.labels);
        self.labels.hold(labels);
        for ((domain, attempts, due), indices) in groups {
            self.domains[domain].is_doubtful |= attempts > 0;
            for chunk in indices.chunks(self.config.recipients_per_entry_max.max(1)) {
                let recipients = Recipients::from_slice(chunk);
                let mut entry = Entry::new(recovered.id, recipients, domain, recovered.of);
                entry.attempts = attempts;
                entry.labels = labels;
                let warn_after = self.config.warn_after;
                // The warning itself is not recorded; better none than one at each start.
                entry.warned = warn_after.is_some_and(|after| entry.age(now) >= after);
                let id = self.add_entry(entry);
                if due <= now {
                    self.enqueue(id, now);
                } else {
                    self.due.push(due, Wake::Entry(id));
                }
            }
        }
        self.labels.release(labels);
    }

    /// From a shard where the work's lane does not live.
    pub fn handle_forwarded(&mut self, work: Work, now: Moment) {
        let domain = self.domain_id_of(work.domain.as_str());
        let recipients = Recipients::from_slice(&work.recipients);
        let mut entry = Entry::new(work.id, recipients, domain, work.of);
        entry.attempts = work.attempts;
        entry.warned = work.warned;
        entry.counted = work.counted;
        let labels = self.labels.number(&work.labels);
        self.labels.hold(labels);
        entry.labels = labels;
        entry.octets = work.octets;
        let head = self.lane_id(&work.plan, work.domain.as_str(), now);
        let lane = match work.source {
            Some((pool, source)) => {
                let gate = self.gate_of(head, pool, now);
                self.add_exit(gate, source, now)
            }
            None => head,
        };
        if matches!(self.domains[domain].route, Route::Unknown) {
            // Good enough until somebody asks here, and for what waits for a route here too.
            let route = Route::Lane {
                lane: head,
                valid_until: now,
            };
            // It had no lane to leave.
            self.set_route(domain, route, now);
            self.drain_pending(domain, now);
        }
        let id = self.add_entry(entry);
        self.labels.release(labels);
        if let Some(message) = work.message {
            self.hold(id, message);
        }
        self.take_in(id, lane, now);
        self.forget_lane(lane, now);
    }

    /// Answer to [`Action::Resolve`].
    pub fn handle_route(
        &mut self,
        domain: &Domain,
        route: Result<Arc<Plan>, RouteError>,
        valid_until: Moment,
        now: Moment,
    ) {
        let Some(&index) = self.domain_by_name.get(domain.as_str()) else {
            return;
        };
        let valid_until = valid_until.max(now + ROUTE_TTL_MIN);
        self.domains[index].resolving = false;
        if self.shutting_down {
            return;
        }
        match route {
            Ok(plan) => {
                let lane = self.lane_id(&plan, domain.as_str(), now);
                self.set_plan(lane, &plan);
                let left = self.set_route(index, Route::Lane { lane, valid_until }, now);
                let state = &mut self.domains[index];
                state.failures = 0;
                state.paused_until = now;
                self.drain_pending(index, now);
                if let Some(left) = left {
                    self.move_on(left, now);
                }
            }
            Err(why) if why.is_permanent() => {
                let outcome = Arc::new(Outcome::Refused(Cause::Route(why)));
                let route = Route::Refused {
                    outcome,
                    valid_until,
                };
                let left = self.set_route(index, route, now);
                self.drain_pending(index, now);
                if let Some(left) = left {
                    self.move_on(left, now);
                }
            }
            Err(why) => self.fail_route(index, why, now),
        }
    }

    /// The dialogue is ready for its first transaction.
    pub fn handle_connected(&mut self, c: ConnectionId, now: Moment) {
        let Some(connection) = self.connections.get_mut(&c) else {
            return;
        };
        if connection.state != ConnectionState::Opening {
            return;
        }
        connection.state = ConnectionState::Busy;
        let lane = connection.lane;
        let state = &mut self.lanes[lane];
        state.opening -= 1;
        state.connected += 1;
        // It is about to pull: nobody else needs to be woken or opened for what it takes.
        if !self.shutting_down {
            self.load_ahead(lane, now);
        }
    }

    /// Who answered, and whether it takes over the reports of successes (DSN in its EHLO, RFC 3461
    /// §5.2.2). To be told before the first transaction; a peer of which nothing is told is taken
    /// for one without DSN.
    pub fn handle_greeted(
        &mut self,
        c: ConnectionId,
        peer: &Host,
        source: Option<SocketAddr>,
        offers_dsn: bool,
        esmtp: bool,
    ) {
        if let Some(connection) = self.connections.get_mut(&c) {
            connection.peer = Some(Box::new(Peer {
                host: peer.clone(),
                source,
                offers_dsn,
                esmtp,
            }));
        }
    }

    /// No source of ours leads there before `until`. That is neither the site's doing nor the
    /// message's: no attempt is counted, the lane waits.
    pub fn handle_no_source(&mut self, c: ConnectionId, why: Cause, until: Moment, now: Moment) {
        if let Some(connection) = self.connections.get(&c) {
            let lane = connection.lane;
            let state = &mut self.lanes[lane];
            let is_barred = now < state.barred_until;
            if now < until && state.paused_until < until && !is_barred {
                state.paused_until = until;
                self.due.push(until, Wake::Lane(lane));
            }
        }
        self.handle_closed(c, Some(why), now);
    }

    /// All hosts of the plan were tried.
    pub fn handle_connect_failed(&mut self, c: ConnectionId, cause: Cause, now: Moment) {
        self.handle_closed(c, Some(cause), now);
    }

    /// One answer per transaction; a second one for the same `seq` is ignored.
    pub fn handle_outcome(
        &mut self,
        c: ConnectionId,
        seq: u64,
        outcomes: &[(u16, Outcome)],
        peer: &Host,
        source: Option<SocketAddr>,
        now: Moment,
    ) {
        let Some((entries, lane)) = self.take_in_flight(c, seq, now) else {
            return;
        };
        if self.connections.get(&c).is_some_and(|c| c.peer.is_none()) {
            self.handle_greeted(c, peer, source, false, true);
        }
        let mut offers_dsn = false;
        let mut esmtp = true;
        let (mut egress, mut session) = (None, None);
        if let Some(connection) = self.connections.get_mut(&c) {
            session = Some(connection.session);
            offers_dsn = connection.peer.as_ref().is_some_and(|p| p.offers_dsn);
            esmtp = connection.peer.as_ref().is_none_or(|p| p.esmtp);
            egress.clone_from(&connection.egress);
            if outcomes.iter().any(|(_, outcome)| is_answer(outcome)) {
                connection.answered = true;
                self.lanes[lane].set_back.forget(peer.address);
                self.handle_answer(lane, now);
            }
        }
        let fallback = Outcome::Deferred(Cause::Ours {
            detail: "no outcome was given".into(),
        });
        let mut attempt = Attempt {
            outcomes,
            at: 0,
            fallback: &fallback,
            peer: Some((peer, source)),
            egress,
            session,
            lane: Some(lane),
            offers_dsn,
            esmtp,
            is_told: true,
        };
        let whose = self.whose_failed(&entries, outcomes);
        for id in entries {
            let count = self.entries.get(id).recipients.as_slice().len();
            self.settle(id, &attempt, now);
            attempt.at += count;
        }
        let mails = whose.iter();
        let mails = mails.flat_map(|(mail, count)| repeat_n(Some(mail), *count));
        let told = outcomes.iter().map(|(_, outcome)| outcome);
        self.judge(lane, told.zip(mails.chain(repeat(None))), now);
        self.go_on(lane, now);
    }

    /// Whose mail a transaction carried, each with the number of its outcomes. Nobody asks where all
    /// went well.
    fn whose_failed(&self, entries: &[EntryId], outcomes: &[(u16, Outcome)]) -> Vec<(Mail, usize)> {
        let is_well = |(_, outcome): &(u16, Outcome)| matches!(outcome, Outcome::Delivered(_));
        if outcomes.iter().all(is_well) {
            return Vec::new();
        }
        let mail = |id: &EntryId| {
            let entry = self.entries.get(*id);
            let mail = Mail {
                domain: self.domains[entry.domain].name.clone(),
                labels: self.labels.get(entry.labels).clone(),
            };
            (mail, entry.recipients.as_slice().len())
        };
        entries.iter().map(mail).collect()
    }

    /// The transaction was never sent: its work is first in its lane again, not an attempt.
    pub fn handle_returned(&mut self, c: ConnectionId, seq: u64, now: Moment) {
        let Some((entries, lane)) = self.take_in_flight(c, seq, now) else {
            return;
        };
        for id in entries.into_iter().rev() {
            if self.is_stray(id, lane) {
                self.send_on(id, now);
            } else {
                self.stage_first(id, lane, now);
            }
        }
        self.go_on(lane, now);
    }

    /// A transaction of this connection is over. One that waits for work while we shut down would
    /// wait for ever.
    fn go_on(&mut self, lane: u32, now: Moment) {
        if self.shutting_down {
            self.close_idle(lane, Duration::ZERO, now);
        } else {
            self.serve(lane, now);
        }
    }

    fn take_in_flight(&mut self, c: ConnectionId, seq: u64, now: Moment) -> Option<(Company, u32)> {
        let connection = self.connections.get_mut(&c)?;
        let at = connection.in_flight.iter().position(|f| f.seq == seq)?;
        let flight = connection.in_flight.remove(at);
        connection.idle_since = now;
        let lane = connection.lane;
        self.lanes[lane].in_flight -= 1;
        self.leave_places(seq, now);
        Some((flight.entries, lane))
    }

    /// The transaction is over: its labels' places are free.
    fn leave_places(&mut self, seq: u64, now: Moment) {
        if let Some(terms) = self.places.remove(&seq) {
            self.spread(&terms.own.release(), now);
        }
    }

    /// The connection is gone; whatever it had no outcome for may or may not have arrived.
    pub fn handle_closed(&mut self, c: ConnectionId, cause: Option<Cause>, now: Moment) {
        let Some(connection) = self.connections.remove(&c) else {
            return;
        };
        let lane = &mut self.lanes[connection.lane];
        match connection.state {
            ConnectionState::Opening => lane.opening -= 1,
            ConnectionState::Busy => lane.connected -= 1,
            ConnectionState::Idle => {
                lane.connected -= 1;
                lane.idle.retain(|idle| *idle != c);
            }
            ConnectionState::Waking => {
                lane.connected -= 1;
                lane.waking -= 1;
            }
            ConnectionState::Quitting => {
                lane.connected -= 1;
                lane.quitting -= 1;
            }
        }
        lane.in_flight -= connection.in_flight.len();
        self.spread(&connection.release(), now);
        let lost = Cause::Lost {
            stage: Stage::Dot,
            detail: "connection closed without an outcome".into(),
        };
        let fallback = Outcome::Deferred(cause.clone().unwrap_or(lost));
        let peer = connection.peer.as_deref();
        for flight in &connection.in_flight {
            self.leave_places(flight.seq, now);
        }
        for id in connection.in_flight.iter().flat_map(|f| &f.entries) {
            let attempt = Attempt {
                outcomes: &[],
                at: 0,
                fallback: &fallback,
                peer: peer.map(|peer| (&peer.host, peer.source)),
                egress: connection.egress.clone(),
                session: Some(connection.session),
                lane: Some(connection.lane),
                offers_dsn: false,
                esmtp: peer.is_none_or(|peer| peer.esmtp),
                is_told: true,
            };
            self.settle(*id, &attempt, now);
        }
        let is_opening = connection.state == ConnectionState::Opening;
        let failure = match cause {
            Some(cause) if !connection.answered => Some(cause),
            None if is_opening => Some(Cause::Connect {
                detail: "closed before it was ready".into(),
            }),
            Some(_) | None => None,
        };
        if let Some(cause) = failure.filter(|_| !self.shutting_down) {
            self.fail_connect(&connection, &cause, now);
            if is_opening || connection.sent == 0 {
                let outcome = Outcome::Deferred(cause);
                self.judge(connection.lane, core::iter::once((&outcome, None)), now);
            }
            if self.lanes[connection.lane].is_closed(now) {
                self.vacate(connection.lane, now);
            }
        }
        if self.shutting_down || self.lanes[connection.lane].is_paused(now) {
            self.drop_held(connection.lane, now);
        }
        self.serve(connection.lane, now);
        self.forget_lane(connection.lane, now);
    }

    /// Answer to [`Action::Load`]. `None`: it could not be read. Its work is tried again after a
    /// while; what has expired meanwhile leaves the queue, but not the spool, since nobody can be
    /// told whose it was.
    pub fn handle_loaded(&mut self, id: MessageId, message: Option<Arc<Message>>, now: Moment) {
        self.handle_recalled(id, message, &[], now);
    }

    /// Answer to [`Action::Recall`]. `last`: what recipients that were deferred had for an answer.
    pub fn handle_recalled(
        &mut self,
        id: MessageId,
        message: Option<Arc<Message>>,
        last: &[(u16, Box<str>)],
        now: Moment,
    ) {
        let waiting = self.take_loading(id);
        for (entry, verdict) in waiting {
            match &message {
                Some(message) => {
                    self.hold(entry, Arc::clone(message));
                    self.carry_out(entry, verdict, last, now);
                }
                None => {
                    self.counters.unreadable += 1;
                    if self.is_expired(entry, now) {
                        self.drop_entry(entry, now);
                    } else {
                        self.due.push(now + OWN_TROUBLE_PAUSE, Wake::Entry(entry));
                    }
                    self.load_another(&verdict, now);
                }
            }
        }
        self.load_next(now);
    }

    /// The other answer to [`Action::Load`]: the spool has no such message, because all its
    /// recipients are settled.
    pub fn handle_gone(&mut self, id: MessageId, now: Moment) {
        for (entry, verdict) in self.take_loading(id) {
            self.drop_entry(entry, now);
            self.load_another(&verdict, now);
        }
        self.load_next(now);
    }

    /// So many of [`Action::Settle`] are durable, or will never be.
    pub fn handle_settled(&mut self, count: usize, now: Moment) {
        self.unsynced = self.unsynced.saturating_sub(count);
        if self.is_behind() {
            return;
        }
        for lane in core::mem::take(&mut self.held_back) {
            if let Some(state) = self.lanes.get_mut(lane) {
                state.held_back = false;
                self.serve(lane, now);
            }
        }
    }

    /// Answer to [`Action::Store`].
    pub fn handle_stored(&mut self, token: u32, ok: bool, now: Moment) {
        if !self.take_asked(token) {
            return;
        }
        if ok {
            if let Some(report) = self.reports.remove(&token) {
                self.handle_committed(report.message, now);
            }
        } else {
            self.keep_report(token, now);
        }
    }

    /// No transaction and no connection is begun from here on. Work that is not on a connection
    /// stays where it is: the spool knows it.
    pub fn handle_shutdown(&mut self, now: Moment) {
        self.shutting_down = true;
        for lane in self.lanes.numbers() {
            self.close_idle(lane, Duration::ZERO, now);
        }
        self.quit_opening();
        self.announce(now);
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Nothing is to come at its time once we shut down.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let next = self.due.next().into_iter();
        let next = next.chain(self.parking.poll_timeout());
        let next = next.chain(self.flushes.poll_timeout()).min();
        next.filter(|_| !self.shutting_down)
    }

    /// Does a bounded part of what is due; `poll_timeout` lies in the past while there is more.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.shutting_down {
            return;
        }
        self.flush_on(now);
        for _ in 0..WAKES_MAX {
            let Some(wake) = self.due.pop(now) else {
                break;
            };
            self.handle_wake(wake, now);
        }
        self.handle_turns(WAKES_MAX, now);
    }

    /// Timers of a lane or a domain may outlive it, and meet another one of its number: then they
    /// find nothing to do.
    fn handle_wake(&mut self, wake: Wake, now: Moment) {
        match wake {
            Wake::Entry(id) => self.enqueue(id, now),
            Wake::Lane(lane) => self.wake_lane(lane, now),
            Wake::Idle(lane) => {
                let Some(state) = self.lanes.get_mut(lane) else {
                    return;
                };
                state.idle_timer = false;
                self.close_idle(lane, self.idle_max(lane), now);
                self.forget_lane(lane, now);
            }
            Wake::Domain(index) => self.wake_domain(index, now),
            Wake::Rest(index) => self.forget_domain(index, now),
            Wake::Report(token) => self.resubmit_report(token),
            Wake::Shaping => self.wake_shaping(now),
            Wake::News => self.announce(now),
        }
    }

    /// xorshift64*: jitter needs no more.
    pub(super) fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }
}

/// Whether the peer dealt with the transaction; 421 says that it does not deal with any.
fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Delivered(_) | Outcome::Refused(_) => true,
        Outcome::Deferred(Cause::Reply { reply, .. }) => reply.code != 421,
        Outcome::Deferred(_) => false,
    }
}
