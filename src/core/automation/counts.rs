//! Counting within a period that moves along, in bounded memory however much happens.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::words::Moment;

/// A period is counted in so many parts: what happened is forgotten when its part ends, so that a count
/// reaches back one period, and up to a part more.
const PARTS: u32 = 32;
const KEPT: usize = PARTS as usize + 1;
/// Things counted at once. Beyond, what happened longest ago is forgotten first.
const COUNTED_MAX: usize = 65_536;

/// So many times within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Often {
    /// At least one.
    pub times: u64,
    pub period: Duration,
}

/// What happened in each part of a period.
#[derive(Debug)]
struct Window {
    part: Duration,
    parts: [u32; KEPT],
    /// The number of the newest part since the beginning of time.
    newest: u64,
    last: Moment,
}

impl Window {
    fn new(period: Duration) -> Self {
        Self {
            part: (period / PARTS).max(Duration::from_micros(1)),
            parts: [0; KEPT],
            newest: 0,
            last: Moment::default(),
        }
    }

    fn part_at(&self, now: Moment) -> u64 {
        let part = u64::try_from(self.part.as_micros()).unwrap_or(u64::MAX);
        now.as_micros() / part
    }

    fn index(part: u64) -> usize {
        usize::try_from(part % KEPT as u64).unwrap_or(0)
    }

    /// Forgets what is over. A clock that went back counts to the newest part.
    fn move_to(&mut self, now: Moment) {
        let newest = self.part_at(now);
        for part in self.newest.max(newest.saturating_sub(KEPT as u64))..newest {
            self.parts[Self::index(part + 1)] = 0;
        }
        self.newest = self.newest.max(newest);
    }

    fn add(&mut self, now: Moment) -> u64 {
        self.move_to(now);
        let part = &mut self.parts[Self::index(self.newest)];
        *part = part.saturating_add(1);
        self.last = now;
        self.sum()
    }

    fn sum(&self) -> u64 {
        self.parts.iter().map(|count| u64::from(*count)).sum()
    }
}

/// How often each of many things happened lately.
#[derive(Debug)]
pub struct Counts<K> {
    of: BTreeMap<K, Window>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            of: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Counts<K> {
    /// It happened once more. How often within the period, this time included, and whether that is as
    /// often as is wanted.
    pub fn count(&mut self, what: &K, often: Often, now: Moment) -> (u64, bool) {
        if !self.of.contains_key(what) && self.of.len() >= COUNTED_MAX {
            self.forget_oldest();
        }
        let window = self.of.entry(what.clone());
        let window = window.or_insert_with(|| Window::new(often.period));
        if window.part != Window::new(often.period).part {
            *window = Window::new(often.period);
        }
        let count = window.add(now);
        (count, count >= often.times)
    }

    /// Drops what has not happened for its whole period.
    pub fn sweep(&mut self, now: Moment) {
        self.of.retain(|_, window| {
            window.move_to(now);
            window.sum() > 0
        });
    }

    /// Half of all, so that it costs little each time.
    fn forget_oldest(&mut self) {
        let all = self.of.iter();
        let mut last: Vec<(Moment, K)> = all
            .map(|(what, window)| (window.last, what.clone()))
            .collect();
        let half = last.len() / 2;
        last.select_nth_unstable(half);
        for (_, what) in last.into_iter().take(half) {
            self.of.remove(&what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Moment = Moment::from_secs(1_800_000_000);

    fn often(times: u64, secs: u64) -> Often {
        Often {
            times,
            period: Duration::from_secs(secs),
        }
    }

    #[test]
    fn a_count_is_reached_within_its_period_and_not_over_two() {
        let mut counts = Counts::default();
        let three = often(3, 600);
        assert_eq!(counts.count(&"a", three, T0), (1, false));
        let later = T0 + Duration::from_secs(300);
        assert_eq!(counts.count(&"a", three, later), (2, false));
        assert_eq!(counts.count(&"b", three, later), (1, false), "another");
        // The first is over by then.
        let later = T0 + Duration::from_secs(640);
        assert_eq!(counts.count(&"a", three, later), (2, false));
        let later = T0 + Duration::from_secs(700);
        assert_eq!(counts.count(&"a", three, later), (3, true));
        assert_eq!(counts.count(&"a", three, later), (4, true), "and on");
        let later = T0 + Duration::from_secs(100_000);
        assert_eq!(counts.count(&"a", three, later), (1, false));
    }

    #[test]
    fn a_count_reaches_back_no_less_than_its_period() {
        for offset in 0..40 {
            let mut counts = Counts::default();
            let at = T0 + Duration::from_secs(offset);
            counts.count(&(), often(2, 60), at);
            let later = at + Duration::from_secs(60);
            assert_eq!(counts.count(&(), often(2, 60), later), (2, true));
        }
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut counts = Counts::default();
        let two = often(2, 60);
        counts.count(&(), two, T0);
        let before = Moment::from_secs(1_799_990_000);
        assert_eq!(counts.count(&(), two, before), (2, true));
    }

    #[test]
    fn another_period_begins_anew() {
        let mut counts = Counts::default();
        counts.count(&(), often(2, 60), T0);
        assert_eq!(counts.count(&(), often(2, 90), T0), (1, false));
    }

    #[test]
    fn what_has_passed_is_swept_and_what_is_too_much_forgotten() {
        let mut counts = Counts::default();
        let two = often(2, 60);
        counts.count(&1, two, T0);
        counts.count(&2, two, T0 + Duration::from_secs(50));
        counts.sweep(T0 + Duration::from_secs(70));
        assert_eq!(counts.of.len(), 1);
        for number in 0..100_000u32 {
            // Many in one moment: half of them stay.
            let at = T0 + Duration::from_secs(100 + u64::from(number / 10_000));
            counts.count(&number, two, at);
            assert!(counts.of.len() <= COUNTED_MAX);
            assert!(number < COUNTED_MAX as u32 || counts.of.len() >= COUNTED_MAX / 2);
        }
        assert!(counts.of.contains_key(&99_999) && !counts.of.contains_key(&1));
    }
}
