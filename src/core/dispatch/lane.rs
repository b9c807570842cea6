//! Lanes, their connections, and the routes of domains, as values.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use core::net::SocketAddr;

use smallvec::SmallVec;

use super::cede::Ceded;
use super::curb::Turn;
use super::fleet::PoolId;
use super::hosts::{SetBack, Tried};
use super::order::Sentence;
use super::strands::{Strand, Strands};
use super::terms::Terms;
use crate::egress::{SourceId, Warmup};
use crate::queue::{EntryId, LabelId, Ready};
use crate::shaping::limit::Meter;
use crate::words::{
    ConnectionId, Domain, Host, MessageId, Moment, Outcome, Plan, SessionId, ShardId, SiteName,
};

/// Ready entries a connection has to find ahead of it before another one is opened.
pub(super) const READY_PER_CONNECTION: usize = 4;
/// Messages loaded ahead for each connection.
const PREFETCH: usize = 8;
/// Things that strands of a lane wait for that are named at once.
const WAITS_NAMED_MAX: usize = 8;

/// By whom mail of a lane leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Via {
    /// The node's only way out: nothing is chosen.
    Sole,
    /// The lane is a gate: its work waits for a source of this pool.
    Gate(PoolId),
    Source(PoolId, SourceId),
}

/// What a lane is for. The names are part of it, because the name of a site is for people: mail
/// must not follow another domain's plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) site: SiteName,
    pub(super) names: Arc<str>,
    /// A domain for which shaping says something that does not hold for the whole site.
    pub(super) apart: Option<Box<str>>,
    pub(super) via: Via,
}

/// A source, and the message that it was chosen for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) message: MessageId,
    pub(super) source: SourceId,
    /// Recipients that may go in the same transaction.
    pub(super) room: usize,
}

/// Ready work for one site, and the connections that carry it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    /// No other lane of this shard has or had it.
    pub(super) serial: u64,
    /// Where its work waits for a source: the gate of its path, or the lane itself.
    pub(super) gate: u32,
    /// Of a gate: the gate to which the routes of its domains lead; of others the lane itself.
    pub(super) head: u32,
    /// Of such a gate: its mail had been put off before the start, and no connection has answered since.
    pub(super) is_doubtful: bool,
    /// Of such a gate: those of other pools.
    pub(super) siblings: BTreeMap<PoolId, u32>,
    /// Of a gate: the lanes of sources, by source.
    pub(super) exits: BTreeMap<SourceId, u32>,
    /// Of a gate: where it stands in line for the permit to pick a source, none of them free.
    pub(super) selection_turns: BTreeMap<SourceId, Turn>,
    /// Of a gate: the last choice.
    pub(super) chosen: Option<Chosen>,
    /// Of a gate: when it is looked at again.
    pub(super) looks_at: Moment,
    /// Of a gate: what waits there may go as soon as a lane has less work.
    pub(super) awaits_room: bool,
    /// Its source is not to be used here before; its work goes to others.
    pub(super) barred_until: Moment,
    /// What its source may send in a day.
    pub(super) warmup: Option<Arc<Warmup>>,
    /// Its source leads to one of the hosts.
    pub(super) reaches: bool,
    pub(super) plan: Arc<Plan>,
    pub(super) terms: Arc<Terms>,
    /// Which shaping `terms` are of.
    pub(super) stamp: u64,
    pub(super) connection_turn: Turn,
    pub(super) message_turn: Turn,
    /// Domains whose route leads here.
    pub(super) domains: u32,
    pub(super) strands: Strands,
    pub(super) loading: usize,
    /// Transactions.
    pub(super) in_flight: usize,
    pub(super) opening: usize,
    /// Connected, idle and quitting ones included.
    pub(super) connected: usize,
    pub(super) quitting: usize,
    /// Longest idle first.
    pub(super) idle: VecDeque<ConnectionId>,
    pub(super) waking: usize,
    pub(super) idle_timer: bool,
    /// No connection is opened before.
    pub(super) paused_until: Moment,
    /// When the next window of ready work is looked through, if that lies ahead.
    pub(super) swept_until: Moment,
    /// When something in it may expire while it waits; the wake for it is set.
    pub(super) expires_at: Moment,
    /// It may have work of domains that have left it.
    pub(super) has_strays: bool,
    /// It is looked at once the disk has caught up.
    pub(super) held_back: bool,
    pub(super) ceded: Ceded,
    /// Connects that failed in a row.
    pub(super) failures: u16,
    pub(super) set_back: SetBack,
    /// Of a site that takes no mail, as long as the lane pauses.
    pub(super) refusal: Option<Arc<Outcome>>,
    /// The last thing that went wrong.
    pub(super) why: Box<str>,
}

impl Lane {
    pub(super) fn new(key: LaneKey, plan: Arc<Plan>, terms: Terms) -> Self {
        let strands = match key.via {
            Via::Gate(_) => Strands::of_gate(),
            Via::Sole | Via::Source(..) => Strands::default(),
        };
        Self {
            key,
            serial: 0,
            gate: 0,
            head: 0,
            is_doubtful: false,
            siblings: BTreeMap::new(),
            exits: BTreeMap::new(),
            selection_turns: BTreeMap::new(),
            chosen: None,
            looks_at: Moment::NEVER,
            awaits_room: false,
            barred_until: Moment::default(),
            warmup: None,
            reaches: true,
            plan,
            terms: Arc::new(terms),
            stamp: 0,
            connection_turn: Turn::Free,
            message_turn: Turn::Free,
            domains: 0,
            strands,
            loading: 0,
            in_flight: 0,
            opening: 0,
            connected: 0,
            quitting: 0,
            idle: VecDeque::new(),
            waking: 0,
            idle_timer: false,
            paused_until: Moment::default(),
            swept_until: Moment::default(),
            expires_at: Moment::NEVER,
            has_strays: false,
            held_back: false,
            ceded: Ceded::default(),
            failures: 0,
            set_back: SetBack::default(),
            refusal: None,
            why: "".into(),
        }
    }

    /// The limits in whose lines it stands, and those that let nothing through.
    pub(super) fn waits_for(&self) -> Box<str> {
        // Of a limit that nodes share, a part of nothing is waited for like a place.
        let is_shut = self.terms.connections_max == 0;
        let limits = self.terms.connections.limits().iter();
        let shut = limits.filter(|limit| {
            is_shut && matches!(&limit.meter, Meter::Connections(places) if places.max() == 0)
        });
        let turns = [&self.connection_turn, &self.message_turn];
        let waited = turns.into_iter().filter_map(|turn| match turn {
            Turn::Waits(limit) => Some(limit),
            Turn::Free | Turn::Has(_) => None,
        });
        let names = shut.chain(waited).map(|limit| limit.name.to_string());
        names.collect::<Vec<_>>().join(", ").into()
    }

    /// The same, and what those of its strands wait for.
    pub(super) fn all_waits(&self, which: impl Fn(&Strand) -> bool) -> Box<str> {
        let mut all = String::from(self.waits_for());
        let strands = self.strands.iter().filter(|strand| which(strand));
        let names: BTreeSet<String> = strands.filter_map(Strand::waits_for).collect();
        for name in names.iter().take(WAITS_NAMED_MAX) {
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(name);
        }
        if names.len() > WAITS_NAMED_MAX {
            all.push_str(&format!(" and {} more", names.len() - WAITS_NAMED_MAX));
        }
        all.into()
    }

    /// Until when its work may find no way out, and since when the oldest of it is here; `None` while
    /// it moves.
    pub(super) fn waits_until(&self, now: Moment) -> Option<(Moment, Moment)> {
        let is_curbed = self.connection_turn.waits() || self.message_turn.waits();
        if is_curbed || self.is_in_line() || self.terms.connections_max == 0 {
            return Some((Moment::NEVER, self.strands.oldest()));
        }
        if self.is_paused(now) {
            return Some((self.paused_until, self.strands.oldest()));
        }
        Some((Moment::NEVER, self.strands.oldest_aside()))
            .filter(|(_, oldest)| *oldest < Moment::NEVER)
    }

    /// Why work of these labels is still here: the last thing that went wrong, or the limits it waits
    /// for.
    pub(super) fn trouble(&self, labels: LabelId) -> Box<str> {
        match self.all_waits(|strand| strand.labels == labels) {
            limits if limits.is_empty() => self.why.clone(),
            limits => format!("waiting for {limits}").into(),
        }
    }

    /// Entries that want to go.
    pub(super) fn demand(&self) -> usize {
        self.strands.demand() + self.loading
    }

    /// No work moves: no connection is there and none may be opened.
    pub(super) fn is_paused(&self, now: Moment) -> bool {
        self.usable() == 0 && now < self.paused_until
    }

    /// Connections that do or will take work.
    pub(super) fn usable(&self) -> usize {
        self.opening + self.connected - self.quitting
    }

    pub(super) fn may_open(&self, now: Moment) -> bool {
        // A site that failed is tried by one connection until it answers.
        let limit = match self.failures {
            0 => self.terms.connections_max,
            _ => self.terms.connections_max.min(1),
        };
        let is_curbed = self.connection_turn.waits() || self.message_turn.waits();
        now >= self.paused_until
            && !is_curbed
            && self.opening + self.connected < limit
            && self.ceded.allows(self.usable(), now)
    }

    /// `has_more`: more work waits at its gate.
    pub(super) fn wants_connection(&self, has_more: bool, now: Moment) -> bool {
        // A permit in hand is one message's: only if nobody will come for it.
        let is_wanted = match self.message_turn {
            Turn::Has(_) => self.idle.is_empty() && self.waking + self.opening == 0,
            Turn::Free | Turn::Waits(_) => true,
        };
        let has_many = self.demand() > self.usable() * READY_PER_CONNECTION;
        // What it has at hand does not tell how much there is.
        let is_short = has_more
            && !self.message_turn.waits()
            && self.idle.is_empty()
            && self.demand() > self.opening + self.waking;
        is_wanted && (has_many || is_short) && self.may_open(now)
    }

    /// `is_roomy`: the budget of memory allows more than is needed at once.
    pub(super) fn wants_load(&self, is_roomy: bool) -> bool {
        let ahead = self.loading + self.strands.staged();
        if is_roomy {
            ahead < PREFETCH * self.usable()
        } else {
            ahead + self.in_flight < self.usable()
        }
    }

    /// A gate whose turn to pick some source is yet to come.
    pub(super) fn is_in_line(&self) -> bool {
        self.selection_turns.values().any(Turn::waits)
    }

    pub(super) const fn is_gate(&self) -> bool {
        matches!(self.key.via, Via::Gate(_))
    }

    /// Its source is not to be used, or finds no way in: others are to have its work. What a site
    /// refuses for good it refuses here.
    pub(super) fn is_closed(&self, now: Moment) -> bool {
        let is_lost = self.refusal.is_none() && self.is_paused(now);
        let is_kept_out = now < self.barred_until || self.terms.closed.is_some();
        matches!(self.key.via, Via::Source(..)) && (is_kept_out || is_lost)
    }

    /// Whether it takes one message more: where connects fail one is enough to try, and who has
    /// plenty leaves the rest to others. `Err`: not before then; [`Moment::NEVER`] where something
    /// else has to happen first.
    pub(super) fn has_room(&self, now: Moment) -> Result<(), Moment> {
        if now < self.barred_until || self.is_paused(now) {
            return Err(self.barred_until.max(self.paused_until));
        }
        let has_enough = match self.failures {
            0 => self.demand() >= self.terms.ready_max,
            _ => self.demand() + self.in_flight > 0,
        };
        if !self.is_usable() || has_enough {
            return Err(Moment::NEVER);
        }
        Ok(())
    }

    /// Nothing needs it any more.
    pub(super) fn is_bare(&self) -> bool {
        self.domains == 0
            && self.exits.is_empty()
            && self.siblings.is_empty()
            && self.strands.is_empty()
            && self.loading + self.in_flight + self.opening + self.connected == 0
            && !self.idle_timer
    }
}

/// Where a lane lives that may have fewer connections than there are shards; wider ones live on all.
/// FNV-1a, the same on every shard.
/// `source` is empty where there is none.
pub(super) fn home(site: &SiteName, source: &str, shards: u16) -> ShardId {
    // The low bits of FNV are its weakest.
    let hash = hash(&[site.as_str(), source]) >> 32;
    ShardId(u16::try_from(hash % u64::from(shards)).unwrap_or(0))
}

pub(super) fn hash(texts: &[&str]) -> u64 {
    let octets = texts.iter().flat_map(|text| text.bytes());
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Opening,
    Busy,
    Idle,
    Waking,
    Quitting,
}

/// A transaction that has no outcome yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) seq: u64,
    /// Of one message; its recipients are theirs, in this order.
    pub(super) entries: Company,
}

/// Entries of one message that go together; mostly one.
pub(super) type Company = SmallVec<[EntryId; 4]>;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) lane: u32,
    pub(super) state: ConnectionState,
    /// Transactions given to it.
    pub(super) sent: u32,
    pub(super) in_flight: SmallVec<[Flight; 2]>,
    pub(super) idle_since: Moment,
    /// Before it stood.
    pub(super) tried: Tried,
    /// The peer has said yes or no to something.
    pub(super) answered: bool,
    /// Under which it was opened, or its lane was when it had the last message: its places are given
    /// back to their limits.
    pub(super) terms: Arc<Terms>,
    /// It is to end because fewer are allowed than there are.
    pub(super) cedes: bool,
    /// The fewest that labels of mail it has carried allow.
    pub(super) messages_max: u32,
    pub(super) peer: Option<Box<Peer>>,
    /// As which source.
    pub(super) egress: Option<Arc<str>>,
    /// Of its dialogue, for records.
    pub(super) session: SessionId,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) host: Host,
    pub(super) source: Option<SocketAddr>,
    pub(super) offers_dsn: bool,
    /// It answered EHLO.
    pub(super) esmtp: bool,
}

/// Where mail for a domain goes, as far as known.
#[derive(Debug)]
pub(super) enum Route {
    Unknown,
    Lane {
        lane: u32,
        valid_until: Moment,
    },
    Refused {
        outcome: Arc<Outcome>,
        valid_until: Moment,
    },
}

#[derive(Debug)]
pub(super) struct DomainState {
    pub(super) name: Domain,
    /// Entries, wherever they are.
    pub(super) entries: u32,
    /// Mail of it was put off before the start, and no lane knows yet.
    pub(super) is_doubtful: bool,
    /// Its end is being thought about.
    pub(super) rest_timer: bool,
    pub(super) route: Route,
    pub(super) resolving: bool,
    /// Work without a route.
    pub(super) pending: Ready,
    pub(super) failures: u16,
    pub(super) paused_until: Moment,
    /// As of a lane.
    pub(super) expires_at: Moment,
    pub(super) why: Box<str>,
}

impl DomainState {
    pub(super) fn new(name: Domain) -> Self {
        Self {
            name,
            entries: 0,
            is_doubtful: false,
            rest_timer: false,
            route: Route::Unknown,
            resolving: false,
            pending: Ready::default(),
            failures: 0,
            paused_until: Moment::default(),
            expires_at: Moment::NEVER,
            why: "".into(),
        }
    }
}

/// What is to be done with an entry once its message is loaded.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Deliver it by this lane.
    Stage(u32),
    Expire,
    Settle(Arc<Outcome>),
    /// An operator said so.
    End(Arc<Sentence>),
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    Entry(EntryId),
    Lane(u32),
    Idle(u32),
    Domain(u32),
    /// The domain may be forgotten if it is still without work.
    Rest(u32),
    Report(u32),
    /// Shaping is another one, or may be at this hour.
    Shaping,
    /// Other shards are to hear what was counted here.
    News,
}
