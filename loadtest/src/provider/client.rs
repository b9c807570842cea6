//! How a sender paces itself against a provider, as models for the simulation: what one source of a mail server would do. Sees replies only,
//! never the hidden state.

use posthaste_core::words::Moment;
use std::time::Duration;

/// What a sender learns from one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    Delivered,
    /// The session came about, the message was put off.
    Deferred,
    Refused,
    /// No connection, or none that lived to the end of EHLO.
    NoHandshake,
}

/// One per source.
pub trait Client {
    /// Connections it would have open.
    fn window(&self, now: Moment) -> u32;
    /// When it would start its next message; `now` or before: at once.
    fn next_start(&self, now: Moment) -> Moment;
    fn handle_start(&mut self, now: Moment);
    fn handle_hint(&mut self, hint: Hint, open: u32, now: Moment);
    fn messages_per_connection(&self) -> u32;
    /// The wait before the attempt after `attempts` failed ones; `None` gives the message up.
    fn retry_after(&self, attempts: u16) -> Option<Duration>;
}

const MINUTE: u64 = 60;
/// Seconds before the second, third, … attempt; the last repeats.
const LADDER: [u64; 7] = [
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    40 * MINUTE,
    80 * MINUTE,
    160 * MINUTE,
    240 * MINUTE,
];
/// Attempts that make five days of the ladder.
const ATTEMPTS_MAX: u16 = 36;

fn ladder(attempts: u16) -> Option<Duration> {
    let step = usize::from(attempts.max(1) - 1).min(LADDER.len() - 1);
    (attempts < ATTEMPTS_MAX).then(|| Duration::from_secs(LADDER[step]))
}

/// Always the same connections, whatever is answered.
#[derive(Clone, Debug)]
pub struct Steady {
    pub connections: u32,
    pub per_connection: u32,
}

impl Client for Steady {
    fn window(&self, _now: Moment) -> u32 {
        self.connections
    }
    fn next_start(&self, now: Moment) -> Moment {
        now
    }
    fn handle_start(&mut self, _now: Moment) {}
    fn handle_hint(&mut self, _hint: Hint, _open: u32, _now: Moment) {}
    fn messages_per_connection(&self) -> u32 {
        self.per_connection
    }
    fn retry_after(&self, attempts: u16) -> Option<Duration> {
        ladder(attempts)
    }
}

/// Additive increase, multiplicative decrease of the message rate, with a hold after each decrease and suspension after many failures.
#[derive(Clone, Debug)]
pub struct Aimd {
    connections: u32,
    per_connection: u32,
    /// Messages per second.
    rate: f64,
    rate_max: f64,
    next: Moment,
    held_until: Moment,
    grown: Moment,
    failures: u32,
    suspended_until: Moment,
    suspension: Duration,
}

impl Aimd {
    const RATE_MIN: f64 = 1.0 / 120.0;
    const HOLD: Duration = Duration::from_secs(120);
    const FAILURES_MAX: u32 = 10;
    const SUSPENSION: Duration = Duration::from_secs(15 * 60);
    const SUSPENSION_MAX: Duration = Duration::from_secs(4 * 3600);

    /// Begins at a hundredth of `rate_max` messages per second.
    pub fn new(connections: u32, per_connection: u32, rate_max: f64) -> Self {
        Self {
            connections,
            per_connection,
            rate: (rate_max / 100.0).max(Self::RATE_MIN),
            rate_max,
            next: Moment::default(),
            held_until: Moment::default(),
            grown: Moment::default(),
            failures: 0,
            suspended_until: Moment::default(),
            suspension: Self::SUSPENSION,
        }
    }

    fn put_off(&mut self, now: Moment) {
        self.failures += 1;
        if now >= self.held_until {
            self.rate = (self.rate * 0.6).max(Self::RATE_MIN);
            self.held_until = now + Self::HOLD;
        }
        if self.failures >= Self::FAILURES_MAX {
            self.failures = 0;
            self.suspended_until = now + self.suspension;
            self.suspension = (self.suspension * 2).min(Self::SUSPENSION_MAX);
        }
    }
}

impl Client for Aimd {
    fn window(&self, now: Moment) -> u32 {
        if now < self.suspended_until {
            0
        } else if self.suspension > Self::SUSPENSION {
            1
        } else {
            self.connections
        }
    }
    fn next_start(&self, now: Moment) -> Moment {
        self.next.max(self.suspended_until).max(now)
    }
    fn handle_start(&mut self, now: Moment) {
        self.next = self.next.max(now) + Duration::from_secs_f64(1.0 / self.rate);
    }
    fn handle_hint(&mut self, hint: Hint, _open: u32, now: Moment) {
        match hint {
            Hint::Deferred | Hint::NoHandshake => self.put_off(now),
            Hint::Refused => {}
            Hint::Delivered => {
                self.failures = 0;
                self.suspension = Self::SUSPENSION;
                if now >= self.held_until && now.since(self.grown) >= Duration::from_secs(30) {
                    self.rate = (self.rate * 1.02 + self.rate_max * 1e-4).min(self.rate_max);
                    self.grown = now;
                }
            }
        }
    }
    fn messages_per_connection(&self) -> u32 {
        self.per_connection
    }
    fn retry_after(&self, attempts: u16) -> Option<Duration> {
        ladder(attempts)
    }
}
