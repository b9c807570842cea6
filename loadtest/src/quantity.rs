//! Quantities as typed on a command line: `10k`, `1M`, `250ms`, `10s`, `2%`, `0.02`.

use std::time::Duration;

/// Octets with an optional binary suffix `k`, `M` or `G`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| format!("{text:?} is no size; try 10k or 1M"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// A duration with unit `us`, `ms`, `s`, `m`, `h` or `d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?} has no known unit; try 250ms, 10s or 5m")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no duration; try 10s"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| format!("{text:?}: {error}"))
}

/// A name and a secret, as `user:password`.
pub(crate) fn credentials(text: &str) -> Result<(String, String), String> {
    text.split_once(':')
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
        .ok_or_else(|| "try user:password".to_owned())
}

/// A share of 1, as `0.02` or `2%`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (digits, divisor) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |digits| (digits, 100.0));
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no share; try 0.02 or 2%"))?;
    let share = number / divisor;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{text:?} is not between 0 and 1"))
    }
}

/// So many in so long, as `500/s`, `1000/h` or `300/30m`: the number and the time.
pub(crate) fn quota(text: &str) -> Result<(f64, Duration), String> {
    let wrong = || format!("{text:?} is no quota; try 500/s or 1000/h");
    let (digits, span) = text.split_once('/').ok_or_else(wrong)?;
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let span = span.trim();
    let window = if span.starts_with(|c: char| c.is_ascii_digit()) {
        duration(span)?
    } else {
        duration(&format!("1{span}"))?
    };
    if number.is_finite() && number > 0.0 && !window.is_zero() {
        Ok((number, window))
    } else {
        Err(format!("{text:?} is not above 0"))
    }
}

/// A small seeded generator (xorshift64*): choices and filler, never secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Even in `0.0 .. 1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// True for about `share` of all calls.
    pub(crate) fn falls_in(&mut self, share: f64) -> bool {
        share > 0.0 && self.unit() < share
    }

    /// Evenly between the two.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        if high <= low {
            return low;
        }
        low + (high - low).mul_f64(self.unit())
    }
}

/// A number that looks random and depends on nothing but its arguments, so that a message sent again is the same message.
pub(crate) fn scatter(seed: u64, number: u64) -> u64 {
    // The finaliser of splitmix64.
    let mut mixed = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// How long something takes: `5ms`, `fixed:5ms`, `uniform:1ms..10ms` or `exp:5ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delay {
    Fixed(Duration),
    Uniform(Duration, Duration),
    /// By its mean; cut off at twenty times the mean.
    Exponential(Duration),
}

impl Delay {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        match kind {
            "fixed" => duration(rest).map(Self::Fixed),
            "exp" => duration(rest).map(Self::Exponential),
            "uniform" => {
                let ends = rest.split_once("..");
                let (low, high) = ends.ok_or_else(|| format!("{text:?}: try uniform:1ms..10ms"))?;
                let (low, high) = (duration(low)?, duration(high)?);
                if low <= high {
                    Ok(Self::Uniform(low, high))
                } else {
                    Err(format!("{text:?}: the lesser end comes first"))
                }
            }
            _ => Err(format!(
                "{text:?} is no delay; try fixed:5ms, uniform:1ms..10ms or exp:5ms"
            )),
        }
    }

    /// True when it never takes any time.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) => mean.is_zero(),
            Self::Uniform(_, high) => high.is_zero(),
        }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> Duration {
        const MEANS_MAX: f64 = 20.0;
        match *self {
            Self::Fixed(delay) => delay,
            Self::Uniform(low, high) => random.between(low, high),
            Self::Exponential(mean) => mean.mul_f64(random.exponential().min(MEANS_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_parse_as_typed() {
        assert_eq!(size("10k"), Ok(10_240));
        assert_eq!(size("7"), Ok(7));
        assert!(size("k").is_err() && size("").is_err() && size("99999999999G").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert!(duration("10x").is_err() && duration("s").is_err());
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(quota("500/s"), Ok((500.0, Duration::from_secs(1))));
        assert_eq!(quota("300/30m"), Ok((300.0, Duration::from_secs(1800))));
        assert!(quota("5").is_err() && quota("0/s").is_err() && quota("1/0s").is_err());
        assert_eq!(share("2%"), Ok(0.02));
        assert!(share("1.5").is_err() && share("-1").is_err());
    }

    #[test]
    fn delays_keep_their_bounds_and_their_mean() {
        let mut random = Random::new(3);
        let ms = Duration::from_millis;
        for (text, low, mean, high) in [
            ("5ms", 5, 5, 5),
            ("fixed:7ms", 7, 7, 7),
            ("uniform:10ms..30ms", 10, 20, 30),
            ("exp:5ms", 0, 5, 100),
        ] {
            let delay = Delay::parse(text).unwrap();
            let mut sum = Duration::ZERO;
            for _ in 0..10_000 {
                let drawn = delay.draw(&mut random);
                assert!((ms(low)..=ms(high)).contains(&drawn), "{text}: {drawn:?}");
                sum += drawn;
            }
            let share = sum.as_secs_f64() / 10_000.0 / ms(mean).as_secs_f64();
            assert!((0.95..1.05).contains(&share), "{text}: {share}");
        }
        for bad in ["uniform:5ms", "uniform:9ms..1ms", "gauss:5ms", "exp:", ""] {
            assert!(Delay::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn draws_follow_the_share() {
        let mut random = Random::new(7);
        let hits = (0..100_000).filter(|_| random.falls_in(0.1)).count();
        assert!((9_000..11_000).contains(&hits), "{hits}");
    }
}
