//! Several limits on one thing: all give a permit, or none does and the tightest is named.

use std::sync::Arc;

use smallvec::SmallVec;

use super::connections::{Connections, Shards};
use super::gcra::Gcra;
use super::leased::Leased;
use super::parking::Held;
use crate::shaping::LimitKey;
use crate::words::{Moment, ShardId};

/// A limit's number; not used again in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u64);

/// What counts.
#[derive(Debug)]
pub enum Meter {
    Rate(Gcra),
    Connections(Connections),
    Leased(Box<Leased>),
}

/// A named meter, shared by the shards of a node.
#[derive(Debug)]
pub struct Limit {
    pub id: LimitId,
    pub name: LimitKey,
    pub meter: Meter,
}

impl Limit {
    /// `Err`: when a permit falls due; `None`: when somebody gives one back, or a lease comes.
    pub fn take(&self, now: Moment) -> Result<(), Option<Moment>> {
        match &self.meter {
            Meter::Rate(gcra) => gcra.take(1, now).map_err(Some),
            Meter::Connections(connections) => connections.take().then_some(()).ok_or(None),
            Meter::Leased(leased) => leased.take(now),
        }
    }

    /// A permit taken at `taken` was not used, or a connection has closed.
    pub fn give(&self, taken: Moment, now: Moment) -> Shards {
        match &self.meter {
            Meter::Rate(gcra) => gcra.give(1, taken, now),
            Meter::Connections(connections) => return connections.give(),
            Meter::Leased(leased) => leased.give(taken, now),
        }
        Shards::default()
    }

    /// When a permit is there, `now` at the earliest, if nobody takes one before; `None`: when
    /// somebody gives one back, or a lease comes.
    pub fn when(&self, now: Moment) -> Option<Moment> {
        match &self.meter {
            Meter::Rate(gcra) => Some(gcra.when(1, now)),
            Meter::Connections(connections) => (!connections.is_full()).then_some(now),
            Meter::Leased(leased) => leased.when(now),
        }
    }

    /// Tells `shard` of what `when` knows no moment for. Ask `when` again after this.
    pub(super) fn wait(&self, shard: ShardId) {
        match &self.meter {
            Meter::Rate(_) => {}
            Meter::Connections(connections) => connections.wait(shard),
            Meter::Leased(leased) => leased.wait(shard),
        }
    }
}

/// Limits that have a place again, and the shards whose [`Parking`](super::Parking) is to hear of
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Freed(SmallVec<[(LimitId, Shards); 1]>);

impl Freed {
    pub(crate) fn add(&mut self, limit: LimitId, shards: Shards) {
        if !shards.is_empty() {
            self.0.push((limit, shards));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (LimitId, Shards)> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why nothing was taken.
#[derive(Clone, Debug)]
pub struct Tight {
    /// Of those that refuse, the one whose permit falls due last. Wait for this one.
    pub limit: Arc<Limit>,
    /// `None`: when a place is given back or a lease comes, which outlasts every moment.
    pub due: Option<Moment>,
    pub freed: Freed,
}

/// The limits on one kind of thing in one place; mostly a few.
#[derive(Clone, Debug, Default)]
pub struct Set {
    limits: SmallVec<[Arc<Limit>; 4]>,
}

fn is_held(limit: &Limit, held: Option<&Held>) -> bool {
    held.is_some_and(|held| held.limit().id == limit.id)
}

impl Set {
    /// Each limit counts once, however often it is named.
    pub fn new(limits: impl IntoIterator<Item = Arc<Limit>>) -> Self {
        let mut limits: SmallVec<[Arc<Limit>; 4]> = limits.into_iter().collect();
        // What can only be undone by telling others is taken last.
        limits.sort_by_key(|limit| (matches!(limit.meter, Meter::Connections(_)), limit.id));
        limits.dedup_by_key(|limit| limit.id);
        Self { limits }
    }

    pub fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }

    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Those of how many at once.
    pub fn places(&self) -> impl Iterator<Item = (&Limit, &Connections)> {
        self.limits.iter().filter_map(|limit| match &limit.meter {
            Meter::Connections(places) => Some((&**limit, places)),
            Meter::Rate(_) | Meter::Leased(_) => None,
        })
    }

    pub fn has(&self, limit: LimitId) -> bool {
        self.limits.iter().any(|own| own.id == limit)
    }

    /// A permit of each limit, or none. `held` is one that was waited for and is in hand: on
    /// success it is used, otherwise it is still to be used or passed on.
    pub fn take(&self, held: Option<&Held>, now: Moment) -> Result<(), Tight> {
        for (index, limit) in self.limits.iter().enumerate() {
            if is_held(limit, held) {
                continue;
            }
            if let Err(due) = limit.take(now) {
                return Err(self.refuse(index, due, held, now));
            }
        }
        if let Some(held) = held.filter(|held| self.has(held.limit().id)) {
            held.settle(now);
        }
        Ok(())
    }

    #[cold]
    fn refuse(&self, at: usize, due: Option<Moment>, held: Option<&Held>, now: Moment) -> Tight {
        let freed = self.undo_first(at, held, now);
        let mut tight = Tight {
            limit: Arc::clone(&self.limits[at]),
            due,
            freed,
        };
        for limit in self.limits.iter().skip(at + 1) {
            let due = limit.when(now);
            if !is_held(limit, held) && is_later(due, tight.due) {
                tight.due = due;
                tight.limit = Arc::clone(limit);
            }
        }
        tight
    }

    fn undo_first(&self, count: usize, held: Option<&Held>, now: Moment) -> Freed {
        let mut freed = Freed::default();
        for limit in self.limits[..count].iter().filter(|l| !is_held(l, held)) {
            freed.add(limit.id, limit.give(now, now));
        }
        freed
    }

    /// What `take` took at `now` is not used after all. `held` is not given back.
    pub fn undo(&self, held: Option<&Held>, now: Moment) -> Freed {
        self.undo_first(self.limits.len(), held, now)
    }

    /// The connection is closed: its places are free, its rates are used.
    pub fn release(&self) -> Freed {
        let mut freed = Freed::default();
        for (limit, places) in self.places() {
            freed.add(limit.id, places.give());
        }
        freed
    }

    /// A connection that has its places in `before` has them here instead.
    pub fn succeed(&self, before: &Self) -> Freed {
        for (_, places) in self.places().filter(|(limit, _)| !before.has(limit.id)) {
            places.join();
        }
        let mut freed = Freed::default();
        for (limit, places) in before.places().filter(|(limit, _)| !self.has(limit.id)) {
            freed.add(limit.id, places.give());
        }
        freed
    }

    /// Whether one connection that has its places here is to end, because fewer are allowed than there
    /// are. It gives them back by [`Set::release_ceded`].
    pub fn cede(&self) -> bool {
        let over = self.places().find(|(_, places)| places.cede());
        let Some((over, _)) = over else {
            return false;
        };
        for (_, places) in self.places().filter(|(limit, _)| limit.id != over.id) {
            places.leave();
        }
        true
    }

    /// [`Set::release`] of a connection that was to end.
    pub fn release_ceded(&self) -> Freed {
        let mut freed = Freed::default();
        for (limit, places) in self.places() {
            freed.add(limit.id, places.give_ceded());
        }
        freed
    }

    /// The limit whose permit is there last, whether anybody waits or not, for an operator who asks
    /// what holds mail back. `None` without limits.
    pub fn tightest(&self, now: Moment) -> Option<(&Arc<Limit>, Option<Moment>)> {
        let mut tightest: Option<(&Arc<Limit>, Option<Moment>)> = None;
        for limit in &self.limits {
            let due = limit.when(now);
            if tightest.is_none_or(|(_, before)| is_later(due, before)) {
                tightest = Some((limit, due));
            }
        }
        tightest
    }
}

/// No moment is later than every moment.
fn is_later(due: Option<Moment>, than: Option<Moment>) -> bool {
    match (due, than) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(due), Some(than)) => due > than,
    }
}
