//! Rates and caps as operators write them: `100/s`, `10,000/h,max_burst=50`, `local:5`.

use core::cmp::Ordering;
use core::fmt;
use core::time::Duration;

use super::fault::Wrong;
use super::limit;

const UNITS: &str = "s, m, h, d and their long forms";
const FORM: &str = "a rate such as \"100/s\" or \"10,000/h,max_burst=50\"";
/// The longest period of a rate; so that arithmetic in microseconds never overflows.
const PERIOD_SECS_MAX: u64 = 366 * 86_400;
/// The largest count of a rate; beyond a billion a microsecond clock cannot pace.
const COUNT_MAX: u64 = 1_000_000_000;

/// So many in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// 1 to 1,000,000,000.
    pub count: u64,
    /// Whole seconds, 1 to 366 days.
    pub period: Duration,
    /// How many may come at once after a pause; `None` is as many as `count`.
    pub burst: Option<u64>,
    /// Each node counts for itself.
    pub local: bool,
}

impl Rate {
    /// How many may come at once after a pause.
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.count)
    }

    /// The rate as a machine keeps it: without `max_burst` it is spread evenly, see
    /// [`limit::Pace::smooth`].
    pub fn paced(&self) -> limit::Pace {
        self.try_paced().expect("tried when it was read")
    }

    /// The `n`th part of it, spread evenly; one permit a period at least.
    pub fn part(&self, n: u64) -> limit::Pace {
        let part = limit::Pace::smooth(self.count.div_ceil(n.max(1)), self.period);
        part.expect("slower than what was tried when it was read")
    }

    fn try_paced(&self) -> Result<limit::Pace, limit::PaceError> {
        match self.burst {
            Some(burst) => limit::Pace::new(self.count, self.period, burst),
            None => limit::Pace::smooth(self.count, self.period),
        }
    }

    /// Compares what is let through in the long run.
    pub fn cmp_sustained(&self, other: &Self) -> Ordering {
        let left = u128::from(self.count) * other.period.as_micros();
        left.cmp(&(u128::from(other.count) * self.period.as_micros()))
    }

    /// Whether it lets less through in the long run, and no more at once than the other does within a
    /// second; what each node counts for itself is as much for each of them.
    pub(super) fn is_under(&self, other: &Self) -> bool {
        let at_once = self.burst.unwrap_or(1);
        let a_second =
            u64::try_from(u128::from(other.count) * 1_000_000 / other.period.as_micros());
        let may = other.burst.unwrap_or(1).max(a_second.unwrap_or(u64::MAX));
        self.cmp_sustained(other).is_lt() && at_once <= may && self.local <= other.local
    }

    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let form = || Wrong::Form {
            expected: FORM,
            found: format!("{text:?}"),
        };
        let (local, rest) = strip_local(text);
        let (rest, burst) = match rest.split_once(",max_burst=") {
            Some((rest, burst)) => (rest, Some(count(burst, text, form)?)),
            None => (rest, None),
        };
        let (number, unit) = rest.split_once('/').ok_or_else(form)?;
        let number = count(number, text, form)?;
        let digits = unit
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (scale, unit) = unit.split_at(digits);
        let scale: u64 = match scale {
            "" => 1,
            digits => digits.parse().map_err(|_| bounds(text))?,
        };
        let seconds = unit_secs(unit).ok_or_else(|| Wrong::Unit {
            found: format!("{text:?}"),
            units: UNITS,
        })?;
        match scale.checked_mul(seconds) {
            Some(secs) if (1..=PERIOD_SECS_MAX).contains(&secs) => {
                let rate = Self {
                    count: number,
                    period: Duration::from_secs(secs),
                    burst,
                    local,
                };
                let unkept = |_| Wrong::Bounds {
                    found: format!("{text:?}"),
                    bound: "100,000,000 a second at most, and a burst that is back within ten years",
                };
                rate.try_paced().map(|_| rate).map_err(unkept)
            }
            _ => Err(bounds(text)),
        }
    }
}

fn unit_secs(unit: &str) -> Option<u64> {
    match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3_600),
        "d" | "day" | "days" => Some(86_400),
        _ => None,
    }
}

fn count(digits: &str, text: &str, form: impl Fn() -> Wrong) -> Result<u64, Wrong> {
    if digits.starts_with('-') {
        return Err(Wrong::Negative(format!("{text:?}")));
    }
    match number(digits).ok_or_else(form)? {
        count @ 1..=COUNT_MAX => Ok(count),
        _ => Err(bounds(text)),
    }
}

fn bounds(text: &str) -> Wrong {
    Wrong::Bounds {
        found: format!("{text:?}"),
        bound: "1 to 1000000000 in 1 second to 366 days",
    }
}

fn strip_local(text: &str) -> (bool, &str) {
    match text.strip_prefix("local:") {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// Digits, parted by `_` or `,` where the operator likes; saturates.
fn number(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.period.as_secs();
        let (scale, unit) = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")]
            .into_iter()
            .find(|(unit, _)| secs.is_multiple_of(*unit))
            .map_or((secs, "s"), |(unit, name)| (secs / unit, name));
        let local = if self.local { "local:" } else { "" };
        write!(f, "{local}{}/", self.count)?;
        if scale != 1 {
            write!(f, "{scale}")?;
        }
        f.write_str(unit)?;
        self.burst
            .map_or(Ok(()), |burst| write!(f, ",max_burst={burst}"))
    }
}

/// At most so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cap {
    /// Zero stops everything.
    pub most: u32,
    /// Each node counts for itself.
    pub local: bool,
}

impl Cap {
    pub(super) const BOUND: &'static str = "0 to 1000000";
    const MAX: u64 = 1_000_000;

    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let (local, digits) = strip_local(text);
        if digits.starts_with('-') {
            return Err(Wrong::Negative(format!("{text:?}")));
        }
        let most = number(digits).ok_or_else(|| Wrong::Form {
            expected: "a number or \"local:number\"",
            found: format!("{text:?}"),
        })?;
        let (true, Ok(most)) = (most <= Self::MAX, u32::try_from(most)) else {
            return Err(Wrong::Bounds {
                found: text.into(),
                bound: Self::BOUND,
            });
        };
        Ok(Self { most, local })
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = if self.local { "local:" } else { "" };
        write!(f, "{local}{}", self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_written_and_print_as_read() {
        for (text, count, secs, burst, local, print) in [
            ("100/s", 100, 1, 100, false, "100/s"),
            ("1/minute", 1, 60, 1, false, "1/m"),
            ("2/hr", 2, 3_600, 2, false, "2/h"),
            ("100/min", 100, 60, 100, false, "100/m"),
            ("5/day", 5, 86_400, 5, false, "5/d"),
            ("10,000/h", 10_000, 3_600, 10_000, false, "10000/h"),
            ("1_000/30s", 1_000, 30, 1_000, false, "1000/30s"),
            (
                "local:7/2h,max_burst=1_0",
                7,
                7_200,
                10,
                true,
                "local:7/2h,max_burst=10",
            ),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.count, rate.period.as_secs()), (count, secs), "{text}");
            assert_eq!((rate.burst(), rate.local), (burst, local), "{text}");
            assert_eq!(rate.to_string(), print);
            assert_eq!(Rate::parse(print), Ok(rate));
        }
    }

    #[test]
    fn wrong_rates_say_what_is_wrong() {
        for (text, says) in [
            ("100", "must be a rate"),
            ("", "must be a rate"),
            ("ten/s", "must be a rate"),
            ("1.5/s", "must be a rate"),
            ("/s", "must be a rate"),
            ("100/fortnight", "no known unit"),
            ("100/", "no known unit"),
            ("100/ms", "no known unit"),
            ("-1/s", "must not be negative"),
            ("5/s,max_burst=-2", "must not be negative"),
            ("0/s", "out of bounds"),
            ("5/0s", "out of bounds"),
            ("5/400d", "out of bounds"),
            ("99999999999999999999999/s", "out of bounds"),
            ("5/s,max_burst=0", "out of bounds"),
        ] {
            let wrong = Rate::parse(text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
    }

    #[test]
    fn the_slower_rate_is_less() {
        let rate = |text| Rate::parse(text).unwrap();
        assert_eq!(rate("60/m").cmp_sustained(&rate("1/s")), Ordering::Equal);
        assert_eq!(rate("59/m").cmp_sustained(&rate("1/s")), Ordering::Less);
        assert_eq!(rate("1/s").cmp_sustained(&rate("1/d")), Ordering::Greater);
    }

    #[test]
    fn caps_may_be_local() {
        let local = Cap {
            most: 5,
            local: true,
        };
        assert_eq!(Cap::parse("local:5"), Ok(local));
        assert_eq!(local.to_string(), "local:5");
        for bad in ["", "x", "-1", "local:", "1000001", "local:-2"] {
            assert!(Cap::parse(bad).is_err(), "{bad}");
        }
    }
}
