//! The retry schedule: how long after the nth attempt the next one is due.

use core::time::Duration;

/// Delays after the first, second, … attempt; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Never empty.
    pub delays: Vec<Duration>,
    /// A delay is lengthened by up to this many percent, so that a burst does not come back as one.
    pub jitter_percent: u32,
    /// Older messages expire.
    pub max_age: Duration,
}

impl Schedule {
    /// Doubling from `first` up to `cap`.
    pub fn exponential(first: Duration, cap: Duration, max_age: Duration) -> Self {
        let mut delays = vec![first.min(cap)];
        let mut next = first.max(Duration::from_millis(1)) * 2;
        while next < cap {
            delays.push(next);
            next *= 2;
        }
        delays.push(cap);
        Self {
            delays,
            jitter_percent: 10,
            max_age,
        }
    }

    /// The wait after `attempts` attempts; `random` is any number.
    pub fn next(&self, attempts: u16, random: u32) -> Duration {
        let index = usize::from(attempts.max(1) - 1).min(self.delays.len().saturating_sub(1));
        let base = self.delays.get(index).copied().unwrap_or(Duration::ZERO);
        let micros = u64::try_from(base.as_micros()).unwrap_or(u64::MAX);
        let spread = micros / 100 * u64::from(self.jitter_percent);
        base + Duration::from_micros(spread / 1000 * u64::from(random % 1001))
    }
}

impl Default for Schedule {
    /// 5 min, 10, 20, 40, 80, 160, then every 4 h, for 5 days (RFC 5321 §4.5.4.1 asks for 4-5).
    fn default() -> Self {
        Self::exponential(
            Duration::from_secs(300),
            Duration::from_secs(4 * 3600),
            Duration::from_secs(5 * 86_400),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_only_lengthens() {
        let schedule = Schedule::default();
        let minutes = |n| schedule.next(n, 0).as_secs() / 60;
        let all: Vec<_> = (1..=8).map(minutes).collect();
        assert_eq!(all, [5, 10, 20, 40, 80, 160, 240, 240]);
        let longest = schedule.next(1, 1000);
        assert!(longest > Duration::from_secs(329) && longest <= Duration::from_secs(330));
    }

    #[test]
    fn jitter_is_within_its_bounds_and_spreads_over_all_of_them() {
        for percent in [0, 10, 100] {
            let schedule = Schedule {
                jitter_percent: percent,
                ..Schedule::default()
            };
            let base = Duration::from_secs(300);
            let most = base * percent / 100;
            // Tenths of what it may add, by how many numbers there are in each.
            let mut tenths = [0; 10];
            for n in 0..10_000_u32 {
                let added = schedule.next(1, n.wrapping_mul(0x9E37_79B9)) - base;
                assert!(added <= most, "{added:?} of {most:?}");
                let tenth = added.as_micros() * 10 / (most.as_micros() + 1);
                tenths[usize::try_from(tenth).unwrap()] += 1;
            }
            match percent {
                0 => assert_eq!(tenths[0], 10_000),
                _ => assert!(tenths.iter().all(|n| (900..1100).contains(n)), "{tenths:?}"),
            }
        }
    }
}
