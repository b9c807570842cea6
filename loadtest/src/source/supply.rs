//! Which message is next, and when it may start. One per run, shared by the threads.

use super::arrivals::{Arrivals, Plan};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What bounds a run. No bound at all is for the caller to avoid.
#[derive(Clone)]
pub(crate) struct Bounds {
    pub(crate) messages: Option<u64>,
    /// No message is planned after so long; in a closed loop none starts.
    pub(crate) duration: Option<Duration>,
    /// How long after `duration` a planned message may still start.
    pub(crate) patience: Duration,
    pub(crate) plan: Option<Plan>,
    pub(crate) seed: u64,
}

impl Bounds {
    /// The planned moments that lie within the bounds; none in a closed loop.
    pub(crate) fn arrivals(&self) -> Option<impl Iterator<Item = Duration> + use<>> {
        let limit = usize::try_from(self.messages.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let end = self.duration.unwrap_or(Duration::MAX);
        let plan = self.plan.as_ref()?;
        Some(
            plan.arrivals(self.seed)
                .take(limit)
                .take_while(move |at| *at < end),
        )
    }
}

/// The messages still to be given out.
pub(crate) struct Supply {
    bounds: Bounds,
    limit: u64,
    next: AtomicU64,
    /// Accepted, failed or given up, for the progress line.
    pub(crate) settled: AtomicU64,
    pub(crate) started: Instant,
    planned: Option<Mutex<Planned>>,
    is_dry: AtomicBool,
    stop: Arc<AtomicBool>,
}

struct Planned {
    arrivals: Arrivals,
    upcoming: Option<Duration>,
}

/// One message to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) sequence: u64,
    /// When it was meant to start, where arrivals are planned.
    pub(crate) planned: Option<Instant>,
}

/// The answer to "what next?".
pub(crate) enum Next {
    Task(Task),
    /// Nothing before then.
    At(Instant),
    /// Nothing any more.
    Done,
}

impl Supply {
    pub(crate) fn new(bounds: Bounds, started: Instant, stop: Arc<AtomicBool>) -> Self {
        let planned = bounds.plan.as_ref().map(|plan| {
            let mut arrivals = plan.arrivals(bounds.seed);
            let upcoming = arrivals.next();
            Mutex::new(Planned { arrivals, upcoming })
        });
        Self {
            limit: bounds.messages.unwrap_or(u64::MAX),
            next: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            started,
            planned,
            is_dry: AtomicBool::new(false),
            stop,
            bounds,
        }
    }

    pub(crate) fn next(&self) -> Next {
        if self.is_stopped() {
            return Next::Done;
        }
        let next = match &self.planned {
            Some(planned) => self.next_planned(planned),
            None => self.next_free(),
        };
        if matches!(next, Next::Done) {
            self.is_dry.store(true, Ordering::Relaxed);
        }
        next
    }

    fn next_free(&self) -> Next {
        let is_over = |duration| self.started.elapsed() >= duration;
        if self.bounds.duration.is_some_and(is_over) {
            return Next::Done;
        }
        let mut sequence = self.next.load(Ordering::Relaxed);
        while sequence < self.limit {
            match self.next.compare_exchange_weak(
                sequence,
                sequence + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Next::Task(Task {
                        sequence,
                        planned: None,
                    });
                }
                Err(actual) => sequence = actual,
            }
        }
        Next::Done
    }

    fn next_planned(&self, planned: &Mutex<Planned>) -> Next {
        let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.bounds.duration.unwrap_or(Duration::MAX);
        let sequence = self.next.load(Ordering::Relaxed);
        let Some(offset) = planned
            .upcoming
            .filter(|at| *at < end && sequence < self.limit)
        else {
            return Next::Done;
        };
        let now = Instant::now();
        let at = self.started + offset;
        if at > now {
            return Next::At(at);
        }
        if now - self.started > end.saturating_add(self.bounds.patience) {
            return Next::Done;
        }
        planned.upcoming = planned.arrivals.next();
        self.next.store(sequence + 1, Ordering::Relaxed);
        Next::Task(Task {
            sequence,
            planned: Some(at),
        })
    }

    /// Messages that the bounds come to; in a closed loop that time alone bounds, those that were given out.
    pub(crate) fn asked(&self) -> u64 {
        let is_endless = self
            .bounds
            .plan
            .as_ref()
            .is_none_or(|plan| !plan.is_finite());
        match (self.bounds.messages, self.bounds.arrivals()) {
            (Some(messages), _) if is_endless && self.bounds.duration.is_none() => messages,
            (_, Some(arrivals)) => arrivals.count() as u64,
            (Some(messages), None) if self.bounds.duration.is_none() => messages,
            (_, None) => self.next.load(Ordering::Relaxed),
        }
    }

    /// How far the run is after so long, from 0 to 1 and beyond, and what it is to reach, for people.
    /// Of two bounds the nearer one counts.
    pub(crate) fn progress(&self, elapsed: Duration) -> (f64, String) {
        let settled = self.settled.load(Ordering::Relaxed) as f64;
        let by_count = self.bounds.messages.map(|messages| {
            (
                settled / messages.max(1) as f64,
                format!("{settled}/{messages}"),
            )
        });
        let by_time = self.bounds.duration.map(|duration| {
            let (elapsed, all) = (elapsed.as_secs_f64(), duration.as_secs_f64());
            (elapsed / all, format!("{settled}, {elapsed:.0}/{all:.0} s"))
        });
        [by_count, by_time]
            .into_iter()
            .flatten()
            .max_by(|one, two| one.0.total_cmp(&two.0))
            .unwrap_or_else(|| (0.0, settled.to_string()))
    }

    /// True when every message was given out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_dry.load(Ordering::Relaxed) || self.next.load(Ordering::Relaxed) >= self.limit
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(plan: &str, messages: Option<u64>, duration: Option<Duration>) -> Supply {
        let bounds = Bounds {
            messages,
            duration,
            patience: Duration::from_secs(60),
            plan: Some(Plan::parse(plan).unwrap()),
            seed: 1,
        };
        Supply::new(bounds, Instant::now(), Arc::new(AtomicBool::new(false)))
    }

    /// What a run of these bounds shows when 30 messages are settled after 15 s.
    fn shown(messages: Option<u64>, duration: Option<u64>) -> (f64, String) {
        let supply = supply("constant:10/s", messages, duration.map(Duration::from_secs));
        for _ in 0..30 {
            supply.settle();
        }
        supply.progress(Duration::from_secs(15))
    }

    #[test]
    fn progress_is_by_count_by_time_or_unknown() {
        assert_eq!(shown(Some(120), None), (0.25, "30/120".to_owned()));
        assert_eq!(shown(None, Some(30)), (0.5, "30, 15/30 s".to_owned()));
        assert_eq!(shown(None, None), (0.0, "30".to_owned()));
        assert_eq!(shown(Some(40), Some(30)), (0.75, "30/40".to_owned()));
        assert_eq!(shown(Some(90), Some(30)), (0.5, "30, 15/30 s".to_owned()));
    }

    #[test]
    fn planned_messages_wait_for_their_time() {
        let supply = supply("constant:0.1/s", Some(3), None);
        assert!(matches!(
            supply.next(),
            Next::Task(Task { sequence: 0, .. })
        ));
        assert!(matches!(supply.next(), Next::At(_)));
        assert_eq!(supply.asked(), 3);
        supply.stop.store(true, Ordering::Relaxed);
        assert!(matches!(supply.next(), Next::Done));
    }

    #[test]
    fn what_was_planned_is_asked_whatever_was_sent() {
        let second = Duration::from_secs(1);
        assert_eq!(supply("constant:50/s", None, Some(second)).asked(), 50);
        assert_eq!(supply("constant:50/s", Some(20), Some(second)).asked(), 20);
        assert_eq!(supply("step:10/s,2s", None, None).asked(), 20);
        assert_eq!(supply("step:10/s,2s", Some(7), None).asked(), 7);
        assert_eq!(supply("step:10/s,2s", Some(900), None).asked(), 20);
    }

    #[test]
    fn nothing_starts_once_patience_is_over() {
        let supply = supply("burst:5/1s", None, Some(Duration::from_millis(1)));
        let begun = Instant::now() - Duration::from_secs(70);
        let late = Supply {
            started: begun,
            ..supply
        };
        assert!(matches!(late.next(), Next::Done));
        assert!(late.is_exhausted());
        assert_eq!(late.asked(), 5);
    }
}
