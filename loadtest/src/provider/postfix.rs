//! Postfix's concurrency scheduler as its SCHEDULER_README describes it (2.5 and later): a window per destination that grows and shrinks by
//! feedback with hysteresis, and a destination declared dead after failed pseudo-cohorts. A model for comparison, written from the text.

use super::client::{Client, Hint};
use posthaste_core::words::Moment;
use std::time::Duration;

/// What one delivery adds to or takes from the window of N connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feedback {
    /// 1/N.
    PerWindow,
    /// 1/√N.
    PerRoot,
    Fixed(f64),
}

impl Feedback {
    /// `1/N`, `1/sqrt(N)` or a number, as SCHEDULER_README writes them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "1/N" => Ok(Self::PerWindow),
            "1/sqrt(N)" => Ok(Self::PerRoot),
            number => match number.parse() {
                Ok(amount) if (0.0..=1.0).contains(&amount) => Ok(Self::Fixed(amount)),
                _ => Err(format!("{text:?} is none of 1/N, 1/sqrt(N), 0 to 1")),
            },
        }
    }

    fn of(self, window: u32) -> f64 {
        match self {
            Self::PerWindow => 1.0 / f64::from(window),
            Self::PerRoot => 1.0 / f64::from(window).sqrt(),
            Self::Fixed(amount) => amount,
        }
    }
}

/// One destination's scheduler; one delivery per connection.
#[derive(Clone, Debug)]
pub struct Postfix {
    positive: Feedback,
    negative: Feedback,
    window: u32,
    initial: u32,
    limit: u32,
    success: f64,
    failure: f64,
    failed_cohorts: f64,
    cohorts_max: f64,
    dead_until: Moment,
    retries: bool,
}

impl Postfix {
    /// `minimal_backoff_time`.
    const DEAD: Duration = Duration::from_secs(300);

    /// Feedback both ways alike; with `retries` a deferred message comes back, else the first attempt decides.
    pub const fn new(feedback: Feedback, initial: u32, limit: u32, retries: bool) -> Self {
        Self {
            positive: feedback,
            negative: feedback,
            window: initial,
            initial,
            limit,
            success: 0.0,
            failure: 0.0,
            failed_cohorts: 0.0,
            cohorts_max: 1.0,
            dead_until: Moment::NEVER,
            retries,
        }
    }

    fn succeed(&mut self, open: u32) {
        self.failed_cohorts = 0.0;
        if self.window >= open + self.initial {
            return;
        }
        self.success += self.positive.of(self.window);
        // Five fifths may fall short of one by rounding.
        while self.success + 1e-9 >= 1.0 {
            self.window += 1;
            self.failure = 0.0;
            self.success -= 1.0;
        }
        self.window = self.window.min(self.limit);
    }

    fn fail(&mut self, now: Moment) {
        self.failed_cohorts += 1.0 / f64::from(self.window);
        if self.failed_cohorts > self.cohorts_max {
            self.window = 0;
            self.dead_until = now + Self::DEAD;
            return;
        }
        self.failure -= self.negative.of(self.window);
        while self.failure < 0.0 {
            self.window = self.window.saturating_sub(1);
            self.failure += 1.0;
            self.success = 0.0;
        }
        self.window = self.window.max(1);
    }

    /// The window as it stands; 0 when the destination is dead.
    pub const fn concurrency(&self) -> u32 {
        self.window
    }
}

impl Client for Postfix {
    fn window(&self, now: Moment) -> u32 {
        if self.window == 0 && now >= self.dead_until {
            self.initial
        } else {
            self.window
        }
    }
    fn next_start(&self, now: Moment) -> Moment {
        if self.window == 0 {
            self.dead_until.max(now)
        } else {
            now
        }
    }
    fn handle_start(&mut self, now: Moment) {
        if self.window == 0 && now >= self.dead_until {
            self.window = self.initial;
            self.failed_cohorts = 0.0;
            self.success = 0.0;
            self.failure = 0.0;
        }
    }
    fn handle_hint(&mut self, hint: Hint, open: u32, now: Moment) {
        match hint {
            _ if self.window == 0 => {}
            Hint::NoHandshake => self.fail(now),
            Hint::Delivered | Hint::Deferred | Hint::Refused => self.succeed(open),
        }
    }
    fn messages_per_connection(&self) -> u32 {
        1
    }
    fn retry_after(&self, attempts: u16) -> Option<Duration> {
        let minutes = 5_u64 << attempts.min(10);
        self.retries
            .then(|| Duration::from_secs(60 * minutes.min(66)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_falls_at_the_start_of_a_cycle_and_grows_at_its_end() {
        let mut postfix = Postfix::new(Feedback::PerWindow, 5, 20, false);
        let now = Moment::from_secs(1);
        for _ in 0..4 {
            postfix.handle_hint(Hint::Delivered, 5, now);
            assert_eq!(postfix.concurrency(), 5);
        }
        postfix.handle_hint(Hint::Delivered, 5, now);
        assert_eq!(postfix.concurrency(), 6);
        postfix.handle_hint(Hint::NoHandshake, 6, now);
        assert_eq!(postfix.concurrency(), 5);
        postfix.handle_hint(Hint::NoHandshake, 6, now);
        assert_eq!(postfix.concurrency(), 5);
    }

    #[test]
    fn a_destination_that_fails_a_cohort_is_dead_for_a_while() {
        let mut postfix = Postfix::new(Feedback::Fixed(0.1), 5, 20, false);
        let now = Moment::from_secs(1);
        (0..8).for_each(|_| postfix.handle_hint(Hint::NoHandshake, 5, now));
        assert_eq!(postfix.window(now), 0);
        assert_eq!(postfix.window(now + Postfix::DEAD), 5);
    }
}
