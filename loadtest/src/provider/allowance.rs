//! How many messages a limit by standing would have let through, had its sender always asked: what goodput is held against. Bounds each
//! kind of window from above, wherever in a window the sender began.

use super::profile::{Limit, Window};
use posthaste_core::words::Moment;

/// One per capacity and key.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    /// What is over: windows by the clock that have ended, or time at its rate.
    past: f64,
    /// The number of the clock's window that is looked at: of a sliding one that in which the sender began, of a fixed one the last.
    window: u64,
    /// The most at once: in the window that is open for a fixed one, ever for the others.
    peak: f64,
}

impl Allowance {
    pub(super) fn new(limit: &Limit, scale: f64, now: Moment) -> Self {
        Self {
            past: 0.0,
            window: limit.window_at(now),
            peak: limit.at_once(scale),
        }
    }

    /// Time from `since` to `now` went by at `rate` messages a second.
    pub(super) fn pass(&mut self, limit: &Limit, rate: f64, since: Moment, now: Moment) {
        match limit.window {
            Window::Bucket => self.past += rate * now.since(since).as_secs_f64(),
            Window::Sliding => {
                // What is used up at once comes back as the window after it passes; until then nothing does.
                let first_ends = limit.window_end(self.window);
                let from = since.max(first_ends);
                if now > from {
                    self.past += rate * now.since(from).as_secs_f64();
                }
            }
            Window::Fixed => {
                let passed = limit.window_at(now).saturating_sub(self.window);
                if passed > 0 {
                    let between = (passed - 1) as f64 * rate * limit.span.as_secs_f64();
                    self.past += self.peak + between;
                    self.window += passed;
                    self.peak = 0.0;
                }
            }
        }
    }

    /// What can be had at `scale`.
    pub(super) fn look(&mut self, limit: &Limit, scale: f64) {
        self.peak = self.peak.max(limit.at_once(scale));
    }

    pub(super) fn sum(&self) -> f64 {
        self.past + self.peak
    }
}
