//! How much of a limit is in use: token bucket, sliding or fixed window, each in constant space.

use super::profile::{Limit, Window};
use posthaste_core::words::Moment;

/// One count of one limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    /// Microseconds for a bucket, the number of the window else.
    at: u64,
    current: f64,
    previous: f64,
}

impl Meter {
    /// What is in use, as a share of the limit scaled by `scale`, if one more were admitted.
    pub(super) fn share_with_one(&mut self, limit: &Limit, scale: f64, now: Moment) -> f64 {
        let in_use = self.in_use(limit, scale, now);
        (in_use + 1.0) / limit.at_once(scale)
    }

    pub(super) fn add(&mut self, limit: &Limit, scale: f64, now: Moment) {
        self.in_use(limit, scale, now);
        self.current += 1.0;
    }

    /// True when nothing would be lost by forgetting this.
    pub(super) fn is_spent(&mut self, limit: &Limit, now: Moment) -> bool {
        self.in_use(limit, 1.0, now) < 0.01
    }

    fn in_use(&mut self, limit: &Limit, scale: f64, now: Moment) -> f64 {
        if limit.window == Window::Bucket {
            let passed = now.as_micros().saturating_sub(self.at) as f64 / 1e6;
            self.current = (self.current - passed * limit.rate() * scale).max(0.0);
            self.at = now.as_micros();
            return self.current;
        }
        let (within, share) = self.roll(limit.span.as_micros() as u64, now);
        match limit.window {
            Window::Sliding => within + self.previous * (1.0 - share),
            Window::Bucket | Window::Fixed => within,
        }
    }

    /// Moves to the window that `now` is in; gives its count and the share of it that has passed.
    fn roll(&mut self, span_us: u64, now: Moment) -> (f64, f64) {
        let span_us = span_us.max(1);
        let number = now.as_micros() / span_us;
        if number != self.at {
            self.previous = if number == self.at + 1 {
                self.current
            } else {
                0.0
            };
            self.current = 0.0;
            self.at = number;
        }
        let share = (now.as_micros() % span_us) as f64 / span_us as f64;
        (self.current, share)
    }
}

/// Events of the last `span_us`, for rules that ask how many there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent(Meter);

impl Recent {
    pub(super) fn count(&mut self, span: std::time::Duration, now: Moment) -> f64 {
        let (within, share) = self.0.roll(span.as_micros() as u64, now);
        within + self.0.previous * (1.0 - share)
    }

    /// Counts one more and gives the sum.
    pub(super) fn add(&mut self, span: std::time::Duration, now: Moment) -> f64 {
        let sum = self.count(span, now);
        self.0.current += 1.0;
        sum + 1.0
    }

    pub(super) fn clear(&mut self) {
        self.0 = Meter::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Profile;
    use std::time::Duration;

    fn limit(window: &str, amount: &str) -> Limit {
        let text = format!(
            "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n[[limit]]\namount = \"{amount}\"\nwindow = \"{window}\"\nburst = 10"
        );
        Profile::parse("x", &text).unwrap().limits[0].clone()
    }

    fn admitted(limit: &Limit, per_second: u64, from: u64, seconds: u64) -> u64 {
        let (mut meter, mut admitted) = (Meter::default(), 0);
        for tick in 0..seconds * per_second {
            let now = Moment::from_micros(from * 1_000_000 + tick * 1_000_000 / per_second);
            if meter.share_with_one(limit, 1.0, now) <= 1.0 {
                meter.add(limit, 1.0, now);
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_bucket_admits_its_burst_and_its_rate() {
        let admitted = admitted(&limit("bucket", "5/s"), 100, 1_000, 100);
        assert!((500..=511).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_half_hour_window_ends_by_the_clock() {
        let limit = limit("fixed", "100/30m");
        assert_eq!(admitted(&limit, 1, 1_800 * 1_000, 1_800), 100);
        // From ten minutes before the end: two windows.
        assert_eq!(admitted(&limit, 1, 1_800 * 1_000 - 600, 1_200), 200);
    }

    #[test]
    fn a_sliding_window_never_admits_twice_its_amount_at_a_border() {
        let admitted = admitted(&limit("sliding", "100/30m"), 1, 1_800 * 1_000 - 600, 1_200);
        assert!((100..=140).contains(&admitted), "{admitted}");
    }

    #[test]
    fn recent_events_fade() {
        let (mut recent, span) = (Recent::default(), Duration::from_secs(100));
        let at = |secs: u64| Moment::from_secs(10_000 + secs);
        assert!((recent.add(span, at(0)) - 1.0).abs() < 1e-9);
        assert!((recent.add(span, at(50)) - 2.0).abs() < 1e-9);
        assert!((recent.count(span, at(150)) - 1.0).abs() < 1e-9);
        assert!(recent.count(span, at(300)) < 1e-9);
    }
}
