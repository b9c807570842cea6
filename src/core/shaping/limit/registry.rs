//! All named limits of a node. Asked when a lane is made or its shaping changes, never on the way of
//! a message.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::connections::{Connections, Shards};
use super::gcra::Gcra;
use super::leased::{Leased, Loss};
use super::pace::Pace;
use super::set::{Limit, LimitId, Meter};
use crate::shaping::{LimitKey, Limited, Scope};
use crate::words::Moment;

/// One per node, shared by its shards.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    limits: BTreeMap<LimitKey, Arc<Limit>>,
    of_node: Option<Arc<Limit>>,
    /// Of rates that nobody has asked for since the start.
    remembered: BTreeMap<LimitKey, Consumed>,
    last: u64,
}

/// What was gone of a rate, for what outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    pub name: LimitKey,
    pub rate: Pace,
    /// All of it has come back by then.
    pub until: Moment,
}

impl Inner {
    /// The rate of that name, as far as something is gone of it: under this name the node counted by
    /// itself and counts in leases from here on, or the other way round, or it was started anew.
    fn before(&mut self, name: &LimitKey, rate: Pace, now: Moment) -> Gcra {
        let counted = self.limits.get(name).map(|limit| &limit.meter);
        let gcra = match counted {
            Some(Meter::Rate(gcra)) => Gcra::resting_at(gcra.rate(), gcra.rests_at(), now),
            Some(Meter::Leased(leased)) => Gcra::resting_at(leased.rate(), leased.rests_at(), now),
            Some(Meter::Connections(_)) | None => match self.remembered.remove(name) {
                Some(before) => Gcra::resting_at(before.rate, before.until, now),
                None => return Gcra::new(rate),
            },
        };
        gcra.change(rate, now);
        gcra
    }

    fn insert(&mut self, name: &LimitKey, meter: Meter) -> Arc<Limit> {
        self.last += 1;
        let limit = Arc::new(Limit {
            id: LimitId(self.last),
            name: name.clone(),
            meter,
        });
        self.limits.insert(name.clone(), Arc::clone(&limit));
        limit
    }
}

impl Registry {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rate of that name, which from `now` on is `rate`. What waits for it is to be told, on
    /// every shard, if it changed (`Parking::handle_changed`).
    pub fn rate(&self, name: &LimitKey, rate: Pace, now: Moment) -> Arc<Limit> {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit) if let Meter::Rate(gcra) = &limit.meter => {
                gcra.change(rate, now);
                Arc::clone(limit)
            }
            Some(_) | None => {
                let gcra = inner.before(name, rate, now);
                inner.insert(name, Meter::Rate(gcra))
            }
        })
    }

    /// The connections of that name, and shards that a wider bound is news for.
    pub fn connections(&self, name: &LimitKey, max: u32) -> (Arc<Limit>, Shards) {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit) if let Meter::Connections(connections) = &limit.meter => {
                let told = connections.change(max);
                (Arc::clone(limit), told)
            }
            Some(_) | None => {
                let meter = Meter::Connections(Connections::new(max));
                (inner.insert(name, meter), Shards::default())
            }
        })
    }

    /// All connections of the node together are `max` at most: the system lets it have no more.
    pub fn bound(&self, max: u32) {
        let name = LimitKey {
            limited: Limited::Connections,
            scope: Scope::Node,
            name: "(open files)".into(),
        };
        let (limit, told) = self.connections(&name, max);
        assert!(told.is_empty(), "it is told once, before anybody waits");
        self.with(|inner| inner.of_node = Some(limit));
    }

    /// See [`Registry::bound`]; every connection takes a place of it.
    pub fn of_node(&self) -> Option<Arc<Limit>> {
        self.with(|inner| inner.of_node.clone())
    }

    /// The connections of that name, which all nodes share, and shards that a wider bound is news
    /// for. `part` counts when it is made.
    pub fn leased_connections(
        &self,
        name: &LimitKey,
        total: u32,
        part: u32,
        loss: Loss,
    ) -> (Arc<Limit>, Shards) {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit) if let Meter::Connections(connections) = &limit.meter => {
                let told = connections.share(total, loss);
                (Arc::clone(limit), told)
            }
            Some(_) | None => {
                let meter = Meter::Connections(Connections::leased(total, part, loss));
                (inner.insert(name, meter), Shards::default())
            }
        })
    }

    /// The shared rate of that name. `share` and `loss` count when it is made. What this node used of it
    /// while it was its own stays used.
    pub fn leased(
        &self,
        name: &LimitKey,
        rate: Pace,
        share: Pace,
        loss: Loss,
        now: Moment,
    ) -> Arc<Limit> {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit) if let Meter::Leased(leased) = &limit.meter => {
                leased.change(rate, now);
                Arc::clone(limit)
            }
            Some(_) | None => {
                let pace = inner.before(name, rate, now);
                let leased = Leased::new(pace, share, loss);
                inner.insert(name, Meter::Leased(Box::new(leased)))
            }
        })
    }

    /// Without making it.
    pub fn find(&self, name: &LimitKey) -> Option<Arc<Limit>> {
        self.with(|inner| inner.limits.get(name).cloned())
    }

    /// What is gone of this node's own rates with a period of `period_min` or longer.
    pub fn consumed(&self, period_min: Duration, now: Moment) -> Vec<Consumed> {
        self.with(|inner| {
            inner.remembered.retain(|_, consumed| consumed.until > now);
            let counted = inner
                .limits
                .values()
                .filter_map(|limit| match &limit.meter {
                    Meter::Rate(gcra) if gcra.rate().period() >= period_min => Some(Consumed {
                        name: limit.name.clone(),
                        rate: gcra.rate(),
                        until: gcra.rests_at(),
                    }),
                    Meter::Rate(_) | Meter::Connections(_) | Meter::Leased(_) => None,
                });
            let counted = counted.filter(|consumed| consumed.until > now);
            let remembered = inner.remembered.values().cloned();
            counted.chain(remembered).collect()
        })
    }

    /// Rates of these names begin with what was gone of them.
    pub fn remember(&self, consumed: impl IntoIterator<Item = Consumed>) {
        self.with(|inner| {
            let named = consumed.into_iter().map(|of| (of.name.clone(), of));
            inner.remembered.extend(named);
        });
    }

    /// All limits, for whoever fetches leases and for operators.
    pub fn list(&self) -> Vec<Arc<Limit>> {
        self.with(|inner| inner.limits.values().cloned().collect())
    }

    /// Forgets limits that nobody else holds and that have nothing to remember.
    pub fn sweep(&self, now: Moment) {
        self.with(|inner| {
            inner.limits.retain(|_, limit| {
                let is_held = Arc::strong_count(limit) > 1;
                is_held
                    || match &limit.meter {
                        Meter::Rate(gcra) => gcra.consumed(now) > 0,
                        Meter::Connections(connections) => connections.open() > 0,
                        Meter::Leased(leased) => leased.left(now) > 0,
                    }
            });
        });
    }
}
