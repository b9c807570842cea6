//! All named limits of a node. Asked when a lane is made or its shaping changes, never on the way of
//! a message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::connections::{Connections, Shards};
use super::gcra::Gcra;
use super::leased::{Leased, Loss};
use super::pace::Pace;
use super::set::{Limit, LimitId, Meter};
use crate::shaping::LimitKey;
use crate::words::Moment;

/// One per node, shared by its shards.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    limits: BTreeMap<LimitKey, Arc<Limit>>,
    last: u64,
}

impl Inner {
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
            Some(_) | None => inner.insert(name, Meter::Rate(Gcra::new(rate))),
        })
    }

    /// The connections of that name, and shards that a wider bound is news for.
    pub fn connections(&self, name: &LimitKey, max: u32) -> (Arc<Limit>, Shards) {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit)
                if let Meter::Connections(connections) = &limit.meter
                    && !connections.is_leased() =>
            {
                let told = connections.change(max);
                (Arc::clone(limit), told)
            }
            Some(_) | None => {
                let meter = Meter::Connections(Connections::new(max));
                (inner.insert(name, meter), Shards::default())
            }
        })
    }

    /// The connections of that name, which all nodes share, and shards that a wider bound is news
    /// for. `part` and `loss` count when it is made.
    pub fn leased_connections(
        &self,
        name: &LimitKey,
        total: u32,
        part: u32,
        loss: Loss,
    ) -> (Arc<Limit>, Shards) {
        self.with(|inner| match inner.limits.get(name) {
            Some(limit)
                if let Meter::Connections(connections) = &limit.meter
                    && connections.is_leased() =>
            {
                let told = connections.change(total);
                (Arc::clone(limit), told)
            }
            Some(_) | None => {
                let meter = Meter::Connections(Connections::leased(total, part, loss));
                (inner.insert(name, meter), Shards::default())
            }
        })
    }

    /// The shared rate of that name. `share` and `loss` count when it is made.
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
                let leased = Leased::new(rate, share, loss);
                inner.insert(name, Meter::Leased(Box::new(leased)))
            }
        })
    }

    /// Without making it.
    pub fn find(&self, name: &LimitKey) -> Option<Arc<Limit>> {
        self.with(|inner| inner.limits.get(name).cloned())
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
