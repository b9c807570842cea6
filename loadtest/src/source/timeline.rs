//! The run's intervals, gathered from its threads: each is told once it is whole, and all add up to the run.

use super::supply::Bounds;
use super::tally::Tally;
use super::worker::Window;
use crate::measure::{Latency, ratio};
use serde::Serialize;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::time::Duration;

/// How long after its end an interval waits for threads that are late to look at the clock.
const PATIENCE: Duration = Duration::from_millis(300);

/// One interval, as it is told.
#[derive(Serialize)]
pub(crate) struct Row {
    kind: &'static str,
    /// Seconds from the start of the run to the end of the interval.
    at: f64,
    seconds: f64,
    accepted: u64,
    failed: u64,
    unanswered: u64,
    messages_per_second: f64,
    /// Planned starts per second; none in a closed loop.
    offered_per_second: Option<f64>,
    transaction: Latency,
    dot_to_250: Latency,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    errors: BTreeMap<String, u64>,
}

/// One per run.
pub(crate) struct Timeline {
    interval: Duration,
    open: BTreeMap<u64, Tally>,
    /// The first interval that was not told.
    next: u64,
    total: Tally,
    offered: Option<Peekable<Box<dyn Iterator<Item = Duration>>>>,
}

impl Timeline {
    pub(crate) fn new(interval: Duration, bounds: &Bounds) -> Self {
        let offered = bounds.arrivals().map(|arrivals| {
            let boxed: Box<dyn Iterator<Item = Duration>> = Box::new(arrivals);
            boxed.peekable()
        });
        Self {
            interval,
            open: BTreeMap::new(),
            next: 0,
            total: Tally::new(),
            offered,
        }
    }

    pub(crate) fn handle_window(&mut self, window: &Window) {
        // What comes too late for its own interval counts in the first that is open.
        self.open
            .entry(window.index.max(self.next))
            .or_insert_with(Tally::new)
            .add(&window.tally);
    }

    /// The intervals that are whole at `elapsed`, or with `is_over` all there are.
    pub(crate) fn rows(&mut self, elapsed: Duration, is_over: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        loop {
            let start = self.interval.mul_f64(self.next as f64);
            let end = start + self.interval;
            let is_whole = elapsed >= end + PATIENCE || (is_over && elapsed > start);
            let has_more = !self.open.is_empty();
            let is_next = is_whole || (is_over && has_more);
            if !is_next {
                return rows;
            }
            let tally = self.open.remove(&self.next).unwrap_or_else(Tally::new);
            self.next += 1;
            let end = if is_over {
                end.min(elapsed.max(start))
            } else {
                end
            };
            rows.push(self.row(&tally, start, end));
            self.total.add(&tally);
        }
    }

    fn row(&mut self, tally: &Tally, start: Duration, end: Duration) -> Row {
        let seconds = (end - start).as_secs_f64();
        let offered_per_second = self.offered.as_mut().map(|offered| {
            let mut count = 0.0;
            while offered.next_if(|at| *at < end).is_some() {
                count += 1.0;
            }
            ratio(count, seconds)
        });
        Row {
            kind: "interval",
            at: end.as_secs_f64(),
            seconds,
            accepted: tally.accepted,
            failed: tally.failed,
            unanswered: tally.unanswered,
            messages_per_second: ratio(tally.accepted as f64, seconds),
            offered_per_second,
            transaction: Latency::of(&tally.transaction),
            dot_to_250: Latency::of(&tally.dot),
            errors: tally.errors.clone(),
        }
    }

    /// The whole run, once all rows were taken.
    pub(crate) const fn total(&self) -> &Tally {
        &self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(index: u64, accepted: u64) -> Window {
        let mut tally = Tally::new();
        tally.accepted = accepted;
        Window { index, tally }
    }

    #[test]
    fn intervals_are_told_once_and_add_up() {
        let bounds = Bounds {
            messages: None,
            duration: None,
            patience: Duration::ZERO,
            plan: None,
            seed: 1,
        };
        let second = Duration::from_secs(1);
        let mut timeline = Timeline::new(second, &bounds);
        for (index, accepted) in [(0, 5), (0, 6), (2, 7)] {
            timeline.handle_window(&window(index, accepted));
        }
        assert!(
            timeline.rows(second, false).is_empty(),
            "a thread may be late"
        );
        let rows = timeline.rows(second * 2, false);
        assert_eq!(
            rows.iter().map(|row| row.accepted).collect::<Vec<_>>(),
            [11]
        );
        timeline.handle_window(&window(0, 1));
        let rows = timeline.rows(Duration::from_millis(2500), true);
        let told: Vec<_> = rows.iter().map(|row| (row.accepted, row.seconds)).collect();
        assert_eq!(told, [(1, 1.0), (7, 0.5)]);
        assert_eq!(timeline.total().accepted, 19);
    }
}
