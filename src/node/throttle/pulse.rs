//! How the exchange with Redis goes: written by its thread, read by whoever shows it.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::words::Moment;

/// In place of a number: there is none.
const NONE: u64 = u64::MAX;

/// What is seen at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// How long the last answer took; `None` while Redis is lost.
    pub lag: Option<Duration>,
    /// Since that was asked which was answered last.
    pub silence: Duration,
    /// Of the limits that are asked for, the one whose last answer is oldest: what it lives on is so old.
    pub lease_age: Duration,
    /// Without an answer so far.
    pub questions: u64,
}

/// Shared by the throttle's thread and those who look. Clones show the same.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    lag_micros: AtomicU64,
    /// Moments in microseconds.
    answered: AtomicU64,
    lease: AtomicU64,
    questions: AtomicU64,
}

impl Vitals {
    pub(super) fn new(now: Moment) -> Self {
        Self(Arc::new(Numbers {
            lag_micros: AtomicU64::new(0),
            answered: AtomicU64::new(now.as_micros()),
            lease: AtomicU64::new(NONE),
            questions: AtomicU64::new(0),
        }))
    }

    pub fn pulse(&self, now: Moment) -> Pulse {
        let load = |number: &AtomicU64| {
            let number = number.load(Ordering::Relaxed);
            (number != NONE).then_some(number)
        };
        let age = |number: &AtomicU64| {
            load(number).map_or(Duration::ZERO, |micros| {
                now.since(Moment::from_micros(micros))
            })
        };
        let numbers = &self.0;
        Pulse {
            lag: load(&numbers.lag_micros).map(Duration::from_micros),
            silence: age(&numbers.answered),
            lease_age: age(&numbers.lease),
            questions: numbers.questions.load(Ordering::Relaxed),
        }
    }

    /// Leases are as old as the last answer from here on, if not older.
    pub(super) fn set_lost(&self) {
        let answered = self.0.answered.load(Ordering::Relaxed);
        self.0.lag_micros.store(NONE, Ordering::Relaxed);
        self.0.lease.fetch_min(answered, Ordering::Relaxed);
    }

    /// What was asked at `asked` was answered after `lag`, and nothing is failing.
    pub(super) fn set_lag(&self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(NONE - 1);
        self.0.lag_micros.store(micros, Ordering::Relaxed);
    }

    pub(super) fn set_answered(&self, asked: Moment) {
        let micros = asked.as_micros();
        self.0.answered.fetch_max(micros, Ordering::Relaxed);
    }

    /// `oldest` is when that limit had its last answer which has waited longest.
    pub(super) fn set_questions(&self, count: usize, oldest: Option<Moment>) {
        let oldest = oldest.map_or(NONE, Moment::as_micros);
        self.0.lease.store(oldest, Ordering::Relaxed);
        self.0.questions.store(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_grow_until_the_next_answer() {
        let start = Moment::from_secs(1000);
        let after = |secs| start + Duration::from_secs(secs);
        let vitals = Vitals::new(start);
        vitals.set_questions(2, Some(start));
        assert_eq!(vitals.pulse(after(3)).lease_age, Duration::from_secs(3));
        vitals.set_questions(2, None);
        vitals.set_lost();
        let seen = vitals.pulse(after(7));
        assert_eq!((seen.lag, seen.questions), (None, 2));
        assert_eq!(seen.silence, Duration::from_secs(7));
        assert_eq!(seen.lease_age, Duration::from_secs(7));
        vitals.set_answered(after(7));
        vitals.set_lag(Duration::from_millis(3));
        vitals.set_questions(0, None);
        let seen = vitals.pulse(after(8));
        assert_eq!(seen.lag, Some(Duration::from_millis(3)));
        assert_eq!(seen.silence, Duration::from_secs(1));
        assert_eq!((seen.lease_age, seen.questions), (Duration::ZERO, 0));
    }
}
