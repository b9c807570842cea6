//! How fast: so many permits a period, and so many of them at once.

use core::fmt;
use core::time::Duration;

use crate::words::Moment;

/// A slower clock than this would make bursts of a few permits span decades.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Permits a microsecond.
const DENSITY_MAX: u64 = 100;
/// The longest a full burst may take to come back.
const BURST_SPAN_MAX: Duration = Duration::from_secs(3650 * 86_400);
/// What a smooth rate lets through at once, in time: a timer that rings this late loses nothing.
const SMOOTH: Duration = Duration::from_millis(20);
/// Ticks a microsecond, at most; the fastest rate has two ticks a permit.
const TICKS_PER_MICRO_MAX: u64 = 256;
/// `per_micro` is in units of 2^-55 ticks: over the years since 1970 its error stays below a tick.
const SCALE: u32 = 55;
/// Moments are counted up to here, in the year 2084, so that ticks fit their 60 bits.
const LATEST: u64 = 3_600_000_000_000_000;

/// A checked rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    count: u64,
    period: Duration,
    burst: u64,
}

/// What is wrong with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    #[error("a rate of zero never lets anything through; suspend instead")]
    Zero,
    #[error("the period must be between a microsecond and 366 days")]
    Period,
    #[error("more than 100,000,000 a second cannot be told apart")]
    TooFast,
    #[error("a burst of zero never lets anything through")]
    NoBurst,
    #[error("the burst is so large that it would take more than ten years to come back")]
    BurstTooLarge,
}

impl Pace {
    /// `count` permits a `period`, at most `burst` of them at once.
    pub fn new(count: u64, period: Duration, burst: u64) -> Result<Self, PaceError> {
        if count == 0 {
            return Err(PaceError::Zero);
        }
        if period < Duration::from_micros(1) || period > PERIOD_MAX {
            return Err(PaceError::Period);
        }
        let rate = Self {
            count,
            period,
            burst,
        };
        if count > rate.period_micros().saturating_mul(DENSITY_MAX) {
            return Err(PaceError::TooFast);
        }
        if burst == 0 {
            return Err(PaceError::NoBurst);
        }
        let span = u128::from(burst) * period.as_micros() / u128::from(count);
        if span > BURST_SPAN_MAX.as_micros() {
            return Err(PaceError::BurstTooLarge);
        }
        Ok(rate)
    }

    /// Spread as evenly as timers can: what falls due in 20 ms may go at once, at least one.
    pub fn smooth(count: u64, period: Duration) -> Result<Self, PaceError> {
        let within = u128::from(count) * SMOOTH.as_micros() / period.as_micros().max(1);
        let burst = u64::try_from(within).unwrap_or(u64::MAX).max(1);
        Self::new(count, period, burst)
    }

    pub const fn count(&self) -> u64 {
        self.count
    }

    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Permits that may go at once after a rest.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    fn period_micros(&self) -> u64 {
        u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Pace {
    /// `100/s, burst 20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.count)?;
        match (self.period.as_secs(), self.period.subsec_micros()) {
            (1, 0) => f.write_str("s")?,
            (60, 0) => f.write_str("min")?,
            (3600, 0) => f.write_str("h")?,
            (86_400, 0) => f.write_str("d")?,
            (secs, 0) => write!(f, "{secs}s")?,
            (_, _) => write!(f, "{}us", self.period.as_micros())?,
        }
        write!(f, ", burst {}", self.burst)
    }
}

/// A rate on a clock of its own, of which a permit costs a whole number of ticks: so nothing is
/// rounded from permit to permit, and no rate drifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Ticks a microsecond, in units of 2^-[`SCALE`].
    pub(super) per_micro: u64,
    /// Ticks a permit.
    pub(super) cost: u64,
    /// Ticks of a full burst, and of what is less than a microsecond and less than a permit: a permit
    /// that falls due between two microseconds goes at the earlier one, or each would lose a little.
    pub(super) room: u64,
}

impl Terms {
    pub(super) fn of(rate: &Pace) -> Self {
        let period = u128::from(rate.period_micros());
        let count = u128::from(rate.count);
        let cost = u128::from(TICKS_PER_MICRO_MAX) * period / count;
        // Rounded up, so that a moment on which a permit falls due exactly is not missed.
        let per_micro = ((count * cost) << SCALE).div_ceil(period);
        let slack = per_micro.div_ceil(1 << SCALE).min(cost) - 1;
        let room = u128::from(rate.burst) * cost + slack;
        let narrow = |wide: u128| u64::try_from(wide).expect("a checked rate fits its ticks");
        Self {
            per_micro: narrow(per_micro),
            cost: narrow(cost),
            room: narrow(room),
        }
    }

    /// Ticks of a burst that is gone.
    pub(super) const fn empty(&self) -> u64 {
        self.room - self.room % self.cost
    }

    /// Ticks since 1970.
    pub(super) fn clock(&self, now: Moment) -> u64 {
        let micros = u128::from(now.as_micros().min(LATEST));
        ((micros * u128::from(self.per_micro)) >> SCALE) as u64
    }

    /// The first moment at which the clock has reached `ticks`.
    pub(super) fn moment(&self, ticks: u64) -> Moment {
        let micros = (u128::from(ticks) << SCALE).div_ceil(u128::from(self.per_micro));
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_checked_before_it_is_held() {
        let second = Duration::from_secs(1);
        assert_eq!(Pace::smooth(0, second), Err(PaceError::Zero));
        assert_eq!(Pace::new(1, second, 0), Err(PaceError::NoBurst));
        assert_eq!(Pace::smooth(1, Duration::ZERO), Err(PaceError::Period));
        assert_eq!(Pace::smooth(1, PERIOD_MAX * 2), Err(PaceError::Period));
        assert_eq!(Pace::smooth(100_000_001, second), Err(PaceError::TooFast));
        let day = Duration::from_secs(86_400);
        assert_eq!(Pace::new(1, day, 5000), Err(PaceError::BurstTooLarge));
        assert_eq!(Pace::smooth(100, second).unwrap().burst(), 2);
        assert_eq!(Pace::smooth(1, day).unwrap().burst(), 1);
        let text = Pace::new(5, Duration::from_secs(3600), 2).unwrap();
        assert_eq!(text.to_string(), "5/h, burst 2");
    }

    #[test]
    fn the_clock_and_its_moments_agree() {
        for (count, secs) in [(1, 86_400), (7, 60), (3, 1), (999_983, 1), (100_000_000, 1)] {
            let rate = Pace::new(count, Duration::from_secs(secs), 1).unwrap();
            let terms = Terms::of(&rate);
            for micros in [1, 1_795_512_600_000_042, LATEST] {
                let ticks = terms.clock(Moment::from_micros(micros));
                let first = terms.moment(ticks);
                assert!(first <= Moment::from_micros(micros) && terms.clock(first) >= ticks);
                assert!(ticks < 1 << 60, "{rate}");
            }
        }
    }
}
