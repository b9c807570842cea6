//! Admission: a permit of one rate, the limits of a lane together, and lanes that wait for permits.

use core::time::Duration;
use std::sync::Arc;

use posthaste_core::shaping::limit::{
    Connections, Gcra, Limit, LimitId, Meter, Pace, Parking, Set,
};
use posthaste_core::shaping::{LimitKey, Limited, Scope};
use posthaste_core::words::{Moment, ShardId};

use crate::T0;

const SECOND: Duration = Duration::from_secs(1);
/// A permit of [`open`] falls due in less.
const STEP: Duration = Duration::from_micros(2);

/// A million a second, so that a step apart each permit is there.
fn open() -> Pace {
    Pace::new(1_000_000, SECOND, 1_000).expect("a valid rate")
}

/// One a second, and none at once after the first.
fn narrow() -> Pace {
    Pace::new(1, SECOND, 1).expect("a valid rate")
}

fn limit(id: u64, scope: Scope, limited: Limited, meter: Meter) -> Arc<Limit> {
    let name = LimitKey {
        limited,
        scope,
        name: format!("limit{id}").into(),
    };
    Arc::new(Limit {
        id: LimitId(id),
        name,
        meter,
    })
}

fn rate(id: u64, scope: Scope, rate: Pace) -> Arc<Limit> {
    limit(id, scope, Limited::Messages, Meter::Rate(Gcra::new(rate)))
}

/// One rate, and the time at it.
pub struct Tap {
    gcra: Gcra,
    now: Moment,
    step: Duration,
}

impl Tap {
    /// Grants each permit.
    pub fn open() -> Self {
        Self {
            gcra: Gcra::new(open()),
            now: T0,
            step: STEP,
        }
    }

    /// Refuses each permit.
    pub fn shut() -> Self {
        let gcra = Gcra::new(narrow());
        gcra.take(1, T0).expect("the first permit is there");
        Self {
            gcra,
            now: T0,
            step: Duration::ZERO,
        }
    }

    pub fn take(&mut self) -> bool {
        self.now = self.now + self.step;
        self.gcra.take(1, self.now).is_ok()
    }
}

/// The limits of one lane: its site's rate, its source's rate, and its connections.
pub struct Gate {
    set: Set,
    now: Moment,
    step: Duration,
}

impl Gate {
    fn new(source: Pace, step: Duration) -> Self {
        let connections = Meter::Connections(Connections::new(100));
        let set = Set::new([
            rate(1, Scope::Site, open()),
            rate(2, Scope::Source, source),
            limit(3, Scope::Site, Limited::Connections, connections),
        ]);
        Self { set, now: T0, step }
    }

    /// Every limit gives.
    pub fn open() -> Self {
        Self::new(open(), STEP)
    }

    /// The site's rate gives, the source's refuses, and the site's permit goes back.
    pub fn shut() -> Self {
        let gate = Self::new(narrow(), Duration::ZERO);
        let first = gate.set.take(None, T0);
        first.expect("the first permit is there");
        gate
    }

    /// A connection is admitted and closed again; gives whether it was admitted.
    pub fn pass(&mut self) -> bool {
        self.now = self.now + self.step;
        let passed = self.set.take(None, self.now).is_ok();
        if passed {
            let freed = self.set.release();
            debug_assert!(freed.is_empty(), "nobody waits for a connection");
        }
        passed
    }
}

/// Lanes that wait for a thousand permits a second of each limiter.
pub struct Lanes {
    parking: Parking<usize>,
    limiters: Vec<(Arc<Limit>, Set)>,
}

impl Lanes {
    /// `lanes` wait, lane n behind limiter n % `limiters`.
    pub fn parked(lanes: usize, limiters: usize) -> Self {
        let thousand = Pace::new(1_000, SECOND, 1).expect("a valid rate");
        let limiters: Vec<_> = (1..)
            .take(limiters)
            .map(|id| {
                let limit = rate(id, Scope::Site, thousand);
                let set = Set::new([Arc::clone(&limit)]);
                (limit, set)
            })
            .collect();
        let mut parked = Self {
            parking: Parking::new(ShardId(0), lanes),
            limiters,
        };
        for lane in 0..lanes {
            parked.park(lane, T0);
        }
        parked
    }

    fn park(&mut self, lane: usize, now: Moment) {
        let (limit, _) = &self.limiters[lane % self.limiters.len()];
        let parked = self.parking.park(limit, lane, now);
        parked.expect("as many places as lanes");
    }

    /// The next permit falls due: a lane is woken, uses it, and waits for another one.
    pub fn wake(&mut self) -> usize {
        let now = self.parking.poll_timeout().expect("lanes wait");
        let woken = self.parking.poll(now).expect("a permit is due");
        let lane = woken.waiter;
        let (_, set) = &self.limiters[lane % self.limiters.len()];
        let taken = set.take(Some(&woken.held), now);
        assert!(taken.is_ok(), "its permit is in hand");
        self.park(lane, now);
        lane
    }
}
