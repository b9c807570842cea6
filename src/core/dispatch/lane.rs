//! Lanes, their connections, and the routes of domains, as values.

use std::collections::VecDeque;
use std::sync::Arc;

use core::net::SocketAddr;

use smallvec::SmallVec;

use crate::queue::{EntryId, Ready};
use crate::words::{ConnectionId, Domain, Host, Moment, Outcome, Plan, ShardId, SiteName};

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
}

impl LaneKey {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            site: plan.site.clone(),
            names: Arc::clone(&plan.names),
        }
    }
}

/// Ready work for one site, and the connections that carry it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) plan: Arc<Plan>,
    /// Domains whose route leads here.
    pub(super) domains: u32,
    /// Connections this shard may have.
    pub(super) share: usize,
    pub(super) ready: Ready,
    /// Ready entries that hold their message.
    pub(super) held: usize,
    /// Loaded, next to go.
    pub(super) staged: Ready,
    /// Whether a retry goes next.
    retry_next: bool,
    pub(super) loading: usize,
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
    /// When something in it may expire while it is paused; the wake for it is set.
    pub(super) expires_at: Moment,
    /// It may have work of domains that have left it.
    pub(super) has_strays: bool,
    /// It is looked at once the disk has caught up.
    pub(super) held_back: bool,
    /// Connects that failed in a row.
    pub(super) failures: u16,
    /// The last thing that went wrong.
    pub(super) why: Box<str>,
}

impl Lane {
    pub(super) fn new(plan: Arc<Plan>, share: usize) -> Self {
        Self {
            plan,
            domains: 0,
            share,
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
            failures: 0,
            why: "".into(),
        }
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
        let limit = if self.failures > 0 { 1 } else { self.share };
        now >= self.paused_until && self.opening + self.connected < limit
    }

    pub(super) fn wants_connection(&self, now: Moment) -> bool {
        let demand = self.ready.len() + self.staged.len() + self.loading;
        self.may_open(now) && demand > self.usable() * READY_PER_CONNECTION
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

/// Connections of a lane that `shard` may have; zero where the lane does not live. A lane narrower
/// than the node lives on as many shards as it may have connections, from one chosen by hash.
pub(super) fn share(site: &SiteName, connections_max: u16, shards: u16, shard: ShardId) -> usize {
    let (max, shards) = (usize::from(connections_max.max(1)), usize::from(shards));
    let place = (usize::from(shard.0) + shards - home(site, shards)) % shards;
    max / shards + usize::from(place < max % shards)
}

/// The shard where an entry of a narrow lane goes.
pub(super) fn forward_to(site: &SiteName, max: u16, shards: u16, salt: u64) -> ShardId {
    let shards = usize::from(shards);
    let offset = usize::try_from(salt % u64::from(max.max(1))).unwrap_or(0);
    let to = (home(site, shards) + offset) % shards;
    ShardId(u16::try_from(to).expect("less than the number of shards"))
}

/// FNV-1a, the same on every shard.
fn home(site: &SiteName, shards: usize) -> usize {
    let hash = site
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The low bits of FNV are its weakest.
    usize::try_from((hash >> 32) % shards as u64).unwrap_or(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Opening,
    Busy,
    Idle,
    Waking,
    Quitting,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) lane: u32,
    pub(super) state: ConnectionState,
    /// Transactions given to it.
    pub(super) sent: u32,
    pub(super) in_flight: SmallVec<[(u64, EntryId); 2]>,
    pub(super) idle_since: Moment,
    /// The peer has said yes or no to something.
    pub(super) answered: bool,
    pub(super) peer: Option<Box<Peer>>,
    /// As which source.
    pub(super) egress: Option<Arc<str>>,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_limit_and_forwards_find_a_share() {
        for (max, shards) in [(1, 4), (3, 4), (4, 4), (32, 3), (5, 1), (7, 64)] {
            for name in ["a.example", "(mx1|mx2).example.net", "x"] {
                let site = SiteName::new(name);
                let of = |shard| share(&site, max, shards, ShardId(shard));
                assert_eq!((0..shards).map(of).sum::<usize>(), usize::from(max));
                for salt in 0..100 {
                    let to = forward_to(&site, max, shards, salt);
                    assert!(max >= shards || of(to.0) > 0);
                }
            }
        }
    }
}
