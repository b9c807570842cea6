//! Durations as operators write them: `90m`, `3 days`, `1h 30m`; a bare number is seconds.

use core::time::Duration;

use super::fault::Wrong;

const FORM: &str = "a duration such as \"90s\", \"1h 30m\" or \"3 days\"";
const UNITS: &str = "ms, s, m, h, d, w and their long forms";
/// The longest duration of any key.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);

/// Reads what KumoMTA reads: numbers with units, in any order, spaces between them or not.
pub(super) fn parse(text: &str) -> Result<Duration, Wrong> {
    let form = || Wrong::Form {
        expected: FORM,
        found: format!("{text:?}"),
    };
    let mut rest = text.trim();
    if rest.starts_with('-') {
        return Err(Wrong::Negative(format!("{text:?}")));
    }
    if rest.is_empty() {
        return Err(form());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = split(rest, |c| c.is_ascii_digit());
        let number: u64 = digits.0.parse().map_err(|_| form())?;
        let unit = split(digits.1.trim_start(), |c| c.is_alphabetic() || c == 'µ');
        let nanos = unit_nanos(unit.0).ok_or_else(|| Wrong::Unit {
            found: format!("{text:?}"),
            units: UNITS,
        })?;
        let nanos = number.checked_mul(nanos).ok_or_else(|| bounds(text))?;
        total = total.saturating_add(Duration::from_nanos(nanos));
        rest = unit.1.trim_start();
    }
    within(total, text)
}

/// A bare number of seconds.
pub(super) fn from_secs(secs: f64) -> Result<Duration, Wrong> {
    if secs < 0.0 {
        return Err(Wrong::Negative(secs.to_string()));
    }
    let text = secs.to_string();
    let duration = Duration::try_from_secs_f64(secs).map_err(|_| bounds(&text))?;
    within(duration, &text)
}

fn within(duration: Duration, text: &str) -> Result<Duration, Wrong> {
    let fits = duration <= LONGEST;
    fits.then_some(duration).ok_or_else(|| bounds(text))
}

fn bounds(text: &str) -> Wrong {
    Wrong::Bounds {
        found: format!("{text:?}"),
        bound: "at most 3660 days",
    }
}

fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// The months and years are KumoMTA's: 30.44 and 365.25 days.
fn unit_nanos(unit: &str) -> Option<u64> {
    let secs = match unit {
        "ns" | "nsec" | "nanos" => return Some(1),
        "us" | "usec" | "µs" => return Some(1_000),
        "ms" | "msec" | "millis" => return Some(1_000_000),
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "wk" | "wks" | "week" | "weeks" => 604_800,
        "M" | "month" | "months" => 2_630_016,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600,
        _ => return None,
    };
    Some(secs * 1_000_000_000)
}

/// The shortest text that [`parse`] reads back.
pub(super) fn print(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 && !duration.is_zero() {
        return format!("{}ns", duration.as_nanos());
    }
    [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ]
    .into_iter()
    .find(|(unit, _)| millis != 0 && millis.is_multiple_of(*unit))
    .map_or_else(
        || {
            if millis == 0 {
                "0s".into()
            } else {
                format!("{millis}ms")
            }
        },
        |(unit, name)| format!("{}{name}", millis / unit),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kumomta() {
        for (text, millis) in [
            ("90m", 5_400_000),
            ("3 days", 259_200_000),
            ("1 hours", 3_600_000),
            ("1h 30m", 5_400_000),
            ("1h30min", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("2 weeks", 1_209_600_000),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(parse(&print(duration)), Ok(duration));
        }
        assert_eq!(from_secs(1.5), Ok(Duration::from_millis(1_500)));
    }

    #[test]
    fn wrong_durations_say_what_is_wrong() {
        for (text, says) in [
            ("", "must be a duration"),
            ("m", "must be a duration"),
            ("5", "no known unit"),
            ("5 fortnights", "no known unit"),
            ("5m x", "must be a duration"),
            ("-5m", "negative"),
            ("99999999999999 d", "out of bounds"),
            ("4000 d", "out of bounds"),
        ] {
            let wrong = parse(text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
        assert!(from_secs(-1.0).is_err() && from_secs(f64::NAN).is_err());
    }
}
