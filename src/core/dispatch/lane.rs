//! Lanes, their connections, and the routes of domains, as values.

use std::collections::VecDeque;
use std::sync::Arc;

use core::net::SocketAddr;

use smallvec::SmallVec;

use super::cede::Ceded;
use super::curb::{Turn, Wants};
use super::hosts::{SetBack, Tried};
use super::terms::Terms;
use crate::queue::{EntryId, Ready};
use crate::shaping::limit::Meter;
use crate::words::{
    ConnectionId, Domain, Host, Moment, Outcome, Plan, SessionId, ShardId, SiteName,
};

/// Ready entries a connection has to find ahead of it before another one is opened.
const READY_PER_CONNECTION: usize = 4;
/// Messages loaded ahead for each connection.
const PREFETCH: usize = 8;

/// What a lane is for. The names are part of it, because the name of a site is for people: mail
/// must not follow another domain's plan. The source joins the site here once sources exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) site: SiteName,
    pub(super) names: Arc<str>,
    /// A domain for which shaping says something that does not hold for the whole site.
    pub(super) apart: Option<Box<str>>,
}

/// Ready work for one site, and the connections that carry it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    /// No other lane of this shard has or had it.
    pub(super) serial: u64,
    pub(super) plan: Arc<Plan>,
    pub(super) terms: Arc<Terms>,
    /// Which shaping `terms` are of.
    pub(super) stamp: u64,
    pub(super) connection_turn: Turn,
    pub(super) message_turn: Turn,
    /// Domains whose route leads here.
    pub(super) domains: u32,
    pub(super) ready: Ready,
    /// Ready entries that hold their message.
    pub(super) held: usize,
    /// Loaded, next to go.
    pub(super) staged: Ready,
    /// Whether a retry goes next.
    retry_next: bool,
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
        Self {
            key,
            serial: 0,
            plan,
            terms: Arc::new(terms),
            stamp: 0,
            connection_turn: Turn::Free,
            message_turn: Turn::Free,
            domains: 0,
            ready: Ready::default(),
            held: 0,
            staged: Ready::default(),
            retry_next: false,
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

    pub(super) const fn turn(&mut self, wants: Wants) -> &mut Turn {
        match wants {
            Wants::Connection => &mut self.connection_turn,
            Wants::Message => &mut self.message_turn,
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

    /// Until when its work may find no way out; `None` while it moves.
    pub(super) fn waits_until(&self, now: Moment) -> Option<Moment> {
        let is_curbed = self.connection_turn.waits() || self.message_turn.waits();
        if is_curbed || self.terms.connections_max == 0 {
            return Some(Moment::NEVER);
        }
        self.is_paused(now).then_some(self.paused_until)
    }

    /// Why its work is still here: the last thing that went wrong, or the limits it waits for.
    pub(super) fn trouble(&self) -> Box<str> {
        match self.waits_for() {
            limits if limits.is_empty() => self.why.clone(),
            limits => format!("waiting for {limits}").into(),
        }
    }

    /// Nothing in it was accepted before this, as far as is known.
    pub(super) fn oldest(&self) -> Moment {
        self.ready.oldest().min(self.staged.oldest())
    }

    /// Entries that want to go.
    pub(super) fn demand(&self) -> usize {
        self.ready.len() + self.staged.len() + self.loading
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

    pub(super) fn wants_connection(&self, now: Moment) -> bool {
        // A permit in hand is one message's: only if nobody will come for it.
        let is_wanted = match self.message_turn {
            Turn::Has(_) => self.idle.is_empty() && self.waking + self.opening == 0,
            Turn::Free | Turn::Waits(_) => true,
        };
        is_wanted && self.may_open(now) && self.demand() > self.usable() * READY_PER_CONNECTION
    }

    /// `is_roomy`: the budget of memory allows more than is needed at once.
    pub(super) fn wants_load(&self, is_roomy: bool) -> bool {
        let ahead = self.loading + self.staged.len();
        if is_roomy {
            ahead < PREFETCH * self.usable()
        } else {
            ahead + self.in_flight < self.usable()
        }
    }

    /// The next entry that holds its message. Fresh mail and retries take turns over staged and
    /// ready work together: what is loaded ahead must not always go first.
    pub(super) fn take_next(&mut self, is_held: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        for is_retry in [self.retry_next, !self.retry_next] {
            let staged = self.staged.pop_from_where(is_retry, |_| true);
            let next = staged.or_else(|| {
                let id = self.ready.pop_from_where(is_retry, &is_held)?;
                self.held -= 1;
                Some(id)
            });
            if next.is_some() {
                self.retry_next = !is_retry;
                return next;
            }
        }
        None
    }

    /// The first in line, with its message or without.
    pub(super) fn take_head(&mut self, is_held: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        self.staged.pop().or_else(|| {
            let id = self.ready.pop()?;
            self.held -= usize::from(is_held(id));
            Some(id)
        })
    }

    /// Nothing needs it any more.
    pub(super) fn is_bare(&self) -> bool {
        self.domains == 0
            && self.ready.is_empty()
            && self.staged.is_empty()
            && self.loading + self.in_flight + self.opening + self.connected == 0
            && !self.idle_timer
    }
}

/// Where a lane lives that may have fewer connections than there are shards; wider ones live on all.
/// FNV-1a, the same on every shard.
pub(super) fn home(site: &SiteName, shards: u16) -> ShardId {
    let hash = site
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The low bits of FNV are its weakest.
    ShardId(u16::try_from((hash >> 32) % u64::from(shards)).unwrap_or(0))
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
    /// Under which it was opened: its places are given back to their limits.
    pub(super) terms: Arc<Terms>,
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
}
