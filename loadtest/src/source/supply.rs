//! Which message is next, and when it may start. One per run, shared by the threads. The seam for other arrival patterns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The messages still to be given out.
pub(crate) struct Supply {
    pub(crate) messages: u64,
    next: AtomicU64,
    /// Accepted, failed or given up, for the progress line.
    pub(crate) settled: AtomicU64,
    started: Instant,
    interval: Option<Duration>,
    stop: Arc<AtomicBool>,
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
    pub(crate) fn new(
        messages: u64,
        rate: Option<f64>,
        started: Instant,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            messages,
            next: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            started,
            interval: rate.map(|rate| Duration::from_secs_f64((1.0 / rate).min(86_400.0))),
            stop,
        }
    }

    pub(crate) fn next(&self) -> Next {
        if self.is_stopped() {
            return Next::Done;
        }
        let mut sequence = self.next.load(Ordering::Relaxed);
        loop {
            if sequence >= self.messages {
                return Next::Done;
            }
            let planned = self
                .interval
                .map(|interval| self.started + interval.mul_f64(sequence as f64));
            if let Some(at) = planned
                && at > Instant::now()
            {
                return Next::At(at);
            }
            match self.next.compare_exchange_weak(
                sequence,
                sequence + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Next::Task(Task { sequence, planned }),
                Err(actual) => sequence = actual,
            }
        }
    }

    /// True when every message was given out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.messages
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

    #[test]
    fn planned_messages_wait_for_their_time() {
        let stop = Arc::new(AtomicBool::new(false));
        let supply = Supply::new(3, Some(0.1), Instant::now(), Arc::clone(&stop));
        assert!(matches!(
            supply.next(),
            Next::Task(Task { sequence: 0, .. })
        ));
        assert!(matches!(supply.next(), Next::At(_)));
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(supply.next(), Next::Done));
    }
}
