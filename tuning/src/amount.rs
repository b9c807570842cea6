//! Amounts as profiles write them and as people read them.

use serde::Deserialize;

/// What an amount counts, which decides how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Octets,
    Micros,
    Percent,
    /// A kernel release: major × 1000 + minor.
    Release,
}

const SUFFIXES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("us", 1),
    ("ms", 1000),
    ("%", 1),
    ("s", 1_000_000),
];

/// A whole number, or text with a suffix (`"1MiB"`, `"5ms"`, `"50%"`), or a release (`"5.19"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Amount(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Amount {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => parse(&text)
                .map(Self)
                .ok_or_else(|| format!("`{text}` is no amount")),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    for (suffix, factor) in SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            return number.trim().parse::<u64>().ok()?.checked_mul(*factor);
        }
    }
    release(text)
}

/// `6.1.0-18-amd64` → 6001.
pub(crate) fn release(text: &str) -> Option<u64> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let major: u64 = parts.next()?.parse().ok()?;
    let minor: u64 = parts.next()?.parse().ok()?;
    major.checked_mul(1000)?.checked_add(minor)
}

/// `amount` in words; the largest number means that there is no limit.
pub(crate) fn show(amount: u64, unit: Unit) -> String {
    if amount == u64::MAX {
        return "unlimited".into();
    }
    match unit {
        Unit::Count => thousands(amount),
        Unit::Octets => scaled(
            amount,
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
            "octets",
        ),
        Unit::Micros => scaled(amount, &[(1_000_000, "s"), (1000, "ms")], "µs"),
        Unit::Percent => format!("{} %", thousands(amount)),
        Unit::Release => format!("{}.{}", amount / 1000, amount % 1000),
    }
}

fn scaled(amount: u64, scales: &[(u64, &str)], rest: &str) -> String {
    for (scale, name) in scales {
        if amount >= *scale {
            let (whole, tenths) = (amount / scale, amount % scale * 10 / scale);
            return if tenths == 0 || whole >= 100 {
                format!("{} {name}", thousands(whole))
            } else {
                format!("{whole}.{tenths} {name}")
            };
        }
    }
    format!("{amount} {rest}")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, amount) in [
            ("512KiB", 512 << 10),
            ("4 GiB", 4 << 30),
            ("5ms", 5000),
            ("2s", 2_000_000),
            ("50%", 50),
            ("5.19", 5019),
        ] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        for text in ["", "x", "5", "-1ms", "99999999999GiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_as_people_read_them() {
        for (amount, unit, text) in [
            (1_048_576, Unit::Count, "1,048,576"),
            (512, Unit::Octets, "512 octets"),
            (1_572_864, Unit::Octets, "1.5 MiB"),
            (850, Unit::Micros, "850 µs"),
            (1900, Unit::Micros, "1.9 ms"),
            (5019, Unit::Release, "5.19"),
            (u64::MAX, Unit::Octets, "unlimited"),
        ] {
            assert_eq!(show(amount, unit), text);
        }
        assert_eq!(release("6.18.44-fc"), Some(6018));
        assert_eq!(release("six"), None);
    }
}
