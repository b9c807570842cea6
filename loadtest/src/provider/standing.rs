//! What a provider thinks of a sender: reputation and warm-up, and the hidden capacity that follows from them. One per capacity and key.

use super::allowance::Allowance;
use super::meter::{Meter, Recent};
use super::profile::{Capacity, ComplaintBound, Reputation};
use posthaste_core::words::Moment;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Attempts are compared with capacity over so long.
const BIN: Duration = Duration::from_secs(60);
/// Use of a day's capacity that warms fully.
const GOOD_USE: f64 = 0.5;
/// Days without mail after which warmth fades.
const IDLE_DAYS_MAX: u64 = 7;

/// The hidden state of one key.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) meter: Meter,
    pub(super) reputation: f64,
    pub(super) warmth: f64,
    /// Drawn by seed, fixed.
    luck: f64,
    touched: Moment,
    day: Moment,
    accepted_today: u64,
    complaints_today: u64,
    idle_days: u64,
    sent: Recent,
    complaints: Recent,
    /// Complaints have turned what it sends into 5xx until then.
    pub(super) blocked_until: Moment,
    allowance: Allowance,
    bin: Moment,
    bin_attempts: u64,
    attempts: u64,
    seconds_above: f64,
}

impl Standing {
    /// `luck` is even in 0..1.
    pub(super) fn new(
        capacity: &Capacity,
        reputation: &Reputation,
        luck: f64,
        now: Moment,
    ) -> Self {
        let initial = reputation.initial.max(reputation.floor);
        let luck = 1.0 + capacity.randomised * (2.0 * luck - 1.0);
        Self {
            meter: Meter::default(),
            reputation: initial,
            warmth: 1.0,
            luck,
            touched: now,
            day: now,
            accepted_today: 0,
            complaints_today: 0,
            idle_days: 0,
            sent: Recent::default(),
            complaints: Recent::default(),
            blocked_until: Moment::default(),
            allowance: Allowance::new(&capacity.limit, initial * luck, now),
            bin: now,
            bin_attempts: 0,
            attempts: 0,
            seconds_above: 0.0,
        }
    }

    /// By what the cold amount is multiplied.
    pub(super) fn scale(&self) -> f64 {
        self.reputation * self.warmth * self.luck
    }

    /// Messages per second it is good for.
    pub(super) fn rate(&self, capacity: &Capacity) -> f64 {
        capacity.limit.rate() * self.scale()
    }

    /// Lets the time since the last event pass.
    pub(super) fn pass(&mut self, capacity: &Capacity, reputation: &Reputation, now: Moment) {
        while now.since(self.day) >= DAY {
            let midnight = self.day + DAY;
            self.recover(capacity, reputation, midnight);
            self.end_day(capacity);
            self.day = midnight;
        }
        self.recover(capacity, reputation, now);
        self.allowance.look(&capacity.limit, self.scale());
    }

    fn recover(&mut self, capacity: &Capacity, reputation: &Reputation, now: Moment) {
        let passed = now.since(self.touched).as_secs_f64();
        if passed == 0.0 {
            return;
        }
        let (before, since) = (self.rate(capacity), self.touched);
        let gap = (1.0 - self.reputation).max(0.0);
        self.reputation = 1.0 - gap * (-passed / reputation.recovery.as_secs_f64()).exp();
        let rate = (before + self.rate(capacity)) / 2.0;
        self.allowance.pass(&capacity.limit, rate, since, now);
        self.touched = now;
        if now.since(self.bin) >= BIN {
            if self.bin_attempts as f64 > before * BIN.as_secs_f64() {
                self.seconds_above += BIN.as_secs_f64();
            }
            self.bin_attempts = 0;
            let bins = now.since(self.bin).as_secs() / BIN.as_secs();
            self.bin = self.bin + BIN * u32::try_from(bins).unwrap_or(u32::MAX);
        }
    }

    fn end_day(&mut self, capacity: &Capacity) {
        let full = self.rate(capacity) * DAY.as_secs_f64() * GOOD_USE;
        let use_share = (self.accepted_today as f64 / full.max(1.0)).min(1.0);
        let complaints = self.complaints_today as f64 / (self.accepted_today as f64).max(1.0);
        if self.accepted_today == 0 {
            self.idle_days += 1;
        } else {
            self.idle_days = 0;
        }
        if complaints <= capacity.complaints_max {
            self.warmth *= 1.0 + (capacity.growth - 1.0) * use_share;
        }
        if self.idle_days > IDLE_DAYS_MAX {
            self.warmth /= capacity.growth;
        }
        self.warmth = self.warmth.clamp(1.0, capacity.warmth_max);
        self.accepted_today = 0;
        self.complaints_today = 0;
    }

    /// Messages let through by a sender that always asked.
    pub(super) fn capacity_sum(&self) -> f64 {
        self.allowance.sum()
    }

    /// Whether anything was attempted in its name.
    pub(super) const fn is_used(&self) -> bool {
        self.attempts > 0
    }

    /// With the minute that is not over yet, where it is above already.
    pub(super) fn seconds_above(&self, capacity: &Capacity, now: Moment) -> f64 {
        let is_above = self.bin_attempts as f64 > self.rate(capacity) * BIN.as_secs_f64();
        let partial = now.since(self.bin).as_secs_f64();
        self.seconds_above + if is_above { partial } else { 0.0 }
    }

    pub(super) fn lose(&mut self, by: f64, floor: f64) {
        self.reputation = (self.reputation - by).max(floor);
    }

    pub(super) fn count_attempt(&mut self) {
        self.bin_attempts += 1;
        self.attempts += 1;
    }

    pub(super) fn count_accepted(&mut self, bound: Option<&ComplaintBound>, now: Moment) {
        self.accepted_today += 1;
        if let Some(bound) = bound {
            self.sent.add(bound.within, now);
        }
    }

    /// True when it is the one that leads to a block.
    pub(super) fn count_complaint(&mut self, bound: Option<&ComplaintBound>, now: Moment) -> bool {
        self.complaints_today += 1;
        let Some(bound) = bound else { return false };
        let complaints = self.complaints.add(bound.within, now);
        let sent = self.sent.count(bound.within, now).max(1.0);
        if self.blocked_until > now || complaints < bound.least || complaints <= sent * bound.share
        {
            return false;
        }
        self.blocked_until = now + bound.length;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Profile;

    fn profile() -> Profile {
        Profile::parse(
            "x",
            "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n[[capacity]]\ncold = \"1000/h\"\nwarm = \"2000/h\"\n\
             growth = 1.5\n[reputation]\nrecovery = \"1h\"\nfloor = 0.2",
        )
        .unwrap()
    }

    fn after_days(days: u64, per_day: u64, complaints: u64) -> Standing {
        let profile = profile();
        let (capacity, reputation) = (&profile.capacities[0], &profile.reputation);
        let start = Moment::from_secs(1_000_000);
        let mut standing = Standing::new(capacity, reputation, 0.5, start);
        for day in 1..=days {
            (0..per_day).for_each(|_| standing.count_accepted(None, start));
            (0..complaints).for_each(|_| assert!(!standing.count_complaint(None, start)));
            standing.pass(
                capacity,
                reputation,
                start + DAY * u32::try_from(day).unwrap(),
            );
        }
        standing
    }

    #[test]
    fn use_warms_up_to_the_bound_and_complaints_hold_it() {
        assert!((after_days(1, 20_000, 0).warmth - 1.5).abs() < 1e-9);
        assert!((after_days(9, 40_000, 0).warmth - 2.0).abs() < 1e-9);
        assert!((after_days(9, 40_000, 400).warmth - 1.0).abs() < 1e-9);
        assert!((after_days(9, 0, 0).warmth - 1.0).abs() < 1e-9);
    }

    #[test]
    fn reputation_falls_to_its_floor_and_comes_back() {
        let profile = profile();
        let (capacity, reputation) = (&profile.capacities[0], &profile.reputation);
        let start = Moment::from_secs(1_000_000);
        let mut standing = Standing::new(capacity, reputation, 0.5, start);
        standing.lose(5.0, reputation.floor);
        assert!((standing.reputation - 0.2).abs() < 1e-9);
        standing.pass(capacity, reputation, start + Duration::from_secs(3600));
        assert!(
            (0.69..0.72).contains(&standing.reputation),
            "{}",
            standing.reputation
        );
        let sum = standing.capacity_sum();
        assert!(sum > 200.0 && sum < 1000.0, "{sum}");
    }

    #[test]
    fn minutes_above_capacity_are_told() {
        let profile = profile();
        let (capacity, reputation) = (&profile.capacities[0], &profile.reputation);
        let start = Moment::from_secs(1_000_000);
        let mut standing = Standing::new(capacity, reputation, 0.5, start);
        for minute in 0..10_u32 {
            // 1000/h are 16.7 in a minute.
            (0..if minute < 5 { 17 } else { 16 }).for_each(|_| standing.count_attempt());
            standing.pass(capacity, reputation, start + BIN * (minute + 1));
        }
        let now = start + BIN * 10;
        assert!((standing.seconds_above(capacity, now) - 300.0).abs() < 1e-9);
        (0..20).for_each(|_| standing.count_attempt());
        let now = now + Duration::from_secs(30);
        assert!((standing.seconds_above(capacity, now) - 330.0).abs() < 1e-9);
    }
}
