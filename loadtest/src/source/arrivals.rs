//! When messages are meant to start: plans as typed, and the moments they come to. Pure but for `replay`, whose file is read once.

use crate::quantity::{Random, duration};
use std::sync::Arc;
use std::time::Duration;

/// Timestamps that a replay may hold: 400 MB.
const REPLAY_MAX: usize = 50_000_000;
/// Highest rate that is told from nonsense, per second.
const RATE_MAX: f64 = 1e9;

/// Arrivals that do not wait for answers: an open loop.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// As typed.
    pub(crate) text: String,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Constant(f64),
    Poisson(f64),
    Ramp {
        from: f64,
        to: f64,
        over: f64,
    },
    /// Rates, each with the seconds it holds for.
    Step(Arc<[(f64, f64)]>),
    Burst {
        size: u64,
        every: f64,
    },
    /// Distances from the first, in order.
    Replay(Arc<[Duration]>),
}

impl Plan {
    /// `constant:500/s`, `poisson:500/s`, `ramp:100..2000/s:60s`, `step:100/s,10s;500/s,20s`, `burst:1000/10s`, `replay:FILE`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is no plan; try constant:500/s"))?;
        let shape = match kind {
            "constant" => Shape::Constant(above_zero(rest)?),
            "poisson" => Shape::Poisson(above_zero(rest)?),
            "ramp" => ramp(rest)?,
            "step" => step(rest)?,
            "burst" => burst(rest)?,
            "replay" => {
                let log =
                    std::fs::read_to_string(rest).map_err(|error| format!("{rest}: {error}"))?;
                Shape::Replay(
                    timestamps(&log)
                        .map_err(|why| format!("{rest}: {why}"))?
                        .into(),
                )
            }
            _ => {
                return Err(format!(
                    "{kind:?} is none of constant, poisson, ramp, step, burst, replay"
                ));
            }
        };
        Ok(Self {
            text: text.to_owned(),
            shape,
        })
    }

    /// An even rate, as `--rate` asks for.
    pub(crate) fn constant(text: &str) -> Result<Self, String> {
        Self::parse(&format!("constant:{text}"))
    }

    /// True when the plan ends by itself.
    pub(crate) const fn is_finite(&self) -> bool {
        matches!(
            self.shape,
            Shape::Ramp { .. } | Shape::Step(_) | Shape::Replay(_)
        )
    }

    /// The moments, from the start of the run, in order. The seed matters to `poisson` alone.
    pub(crate) fn arrivals(&self, seed: u64) -> Arrivals {
        Arrivals {
            shape: self.shape.clone(),
            random: Random::new(seed),
            count: 0,
            clock: 0.0,
            level: 0,
            base: 0.0,
        }
    }
}

fn ramp(rest: &str) -> Result<Shape, String> {
    let wrong = || format!("{rest:?}: try ramp:100..2000/s:60s");
    let (rates, over) = rest.split_once(':').ok_or_else(wrong)?;
    let (from, to) = rates.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (rate(from)?, rate(to)?);
    let over = duration(over)?.as_secs_f64();
    if over == 0.0 || from + to == 0.0 {
        return Err(wrong());
    }
    Ok(Shape::Ramp { from, to, over })
}

fn step(rest: &str) -> Result<Shape, String> {
    let levels = rest
        .split(';')
        .map(|level| {
            let (height, length) = level
                .split_once(',')
                .ok_or_else(|| format!("{level:?}: try step:100/s,10s;500/s,20s"))?;
            Ok((rate(height)?, duration(length)?.as_secs_f64()))
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Shape::Step(levels.into()))
}

fn burst(rest: &str) -> Result<Shape, String> {
    let wrong = || format!("{rest:?}: try burst:1000/10s");
    let (size, every) = rest.split_once('/').ok_or_else(wrong)?;
    let size: u64 = size.parse().map_err(|_| wrong())?;
    let every = duration(every)?.as_secs_f64();
    if size == 0 || every == 0.0 {
        return Err(wrong());
    }
    Ok(Shape::Burst { size, every })
}

fn rate(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no rate; try 500/s"))?;
    if (0.0..=RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("{text:?}: a rate is between 0 and {RATE_MAX:e}"))
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    rate(text).and_then(|rate| {
        if rate > 0.0 {
            Ok(rate)
        } else {
            Err("a rate is above 0".to_owned())
        }
    })
}

/// One timestamp a line, or JSON objects with `timestamp`; sorted, as distances from the earliest.
fn timestamps(log: &str) -> Result<Vec<Duration>, String> {
    let mut seconds = Vec::new();
    for (index, line) in log.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = || {
            format!(
                "line {}: neither a timestamp nor an object with `timestamp`",
                index + 1
            )
        };
        let at = if line.starts_with('{') {
            let object: serde_json::Value = serde_json::from_str(line).map_err(|_| wrong())?;
            let value = object.get("timestamp").ok_or_else(wrong)?;
            match value.as_str() {
                Some(text) => timestamp(text),
                None => value.as_f64().and_then(epoch),
            }
        } else {
            timestamp(line)
        };
        seconds.push(at.ok_or_else(wrong)?);
        if seconds.len() > REPLAY_MAX {
            return Err(format!("more than {REPLAY_MAX} timestamps"));
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let first = *seconds.first().ok_or_else(|| "no timestamps".to_owned())?;
    Ok(seconds
        .into_iter()
        .map(|at| Duration::from_secs_f64(at - first))
        .collect())
}

fn timestamp(text: &str) -> Option<f64> {
    text.parse().ok().and_then(epoch).or_else(|| rfc3339(text))
}

/// Seconds, or milli-, micro- or nanoseconds where the number is too great for seconds.
fn epoch(number: f64) -> Option<f64> {
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let mut seconds = number;
    while seconds > 1e11 {
        seconds /= 1e3;
    }
    Some(seconds)
}

/// `2026-01-31T12:00:00.25Z` and with an offset; a blank may stand for the T.
fn rfc3339(text: &str) -> Option<f64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute) = (number(11..13)?, number(14..16)?);
    let rest = text.get(17..)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let second: f64 = rest[..zone].parse().ok()?;
    let offset = match rest[zone..].split_at(1) {
        ("Z" | "z", "") => 0.0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let minutes = hours.parse::<u16>().ok()? * 60 + minutes.parse::<u16>().ok()?;
            f64::from(minutes) * if sign == "-" { -60.0 } else { 60.0 }
        }
    };
    let fits = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&second);
    let of_day = f64::from(hour * 3600 + minute * 60) + second;
    fits.then(|| days(year, month, day) * 86_400.0 + of_day - offset)
}

/// Days since 1970-01-01 in the Gregorian calendar, years counted from March.
fn days(year: u32, month: u32, day: u32) -> f64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap = year / 4 - year / 100 + year / 400;
    f64::from(365 * year + leap + of_year) - 719_468.0
}

/// The moments of one run. Ends where its plan does.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    shape: Shape,
    random: Random,
    count: u64,
    /// Seconds: the last arrival of `poisson`, the start of a level of `step`.
    clock: f64,
    level: usize,
    /// Arrivals due before this level.
    base: f64,
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let count = self.count as f64;
        let seconds = match &self.shape {
            Shape::Constant(rate) => count / rate,
            Shape::Poisson(rate) => {
                self.clock += self.random.exponential() / rate;
                self.clock
            }
            Shape::Ramp { from, to, over } => on_ramp(count, *from, *to, *over)?,
            Shape::Step(levels) => loop {
                let (rate, length) = *levels.get(self.level)?;
                let at = self.clock + (count - self.base).max(0.0) / rate;
                // A rate of nought never comes to pass: at is infinite or no number.
                if at < self.clock + length {
                    break at;
                }
                self.level += 1;
                self.clock += length;
                self.base += rate * length;
            },
            Shape::Burst { size, every } => (self.count / size) as f64 * every,
            Shape::Replay(moments) => {
                let at = moments.get(usize::try_from(self.count).ok()?).copied();
                self.count += 1;
                return at;
            }
        };
        self.count += 1;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// When so many arrivals are over: the root of `from·t + (to − from)·t²/(2·over) = count`; none after the end.
fn on_ramp(count: f64, from: f64, to: f64, over: f64) -> Option<f64> {
    let slope = (to - from) / over;
    let under = from * from + 2.0 * slope * count;
    if count == 0.0 {
        return Some(0.0);
    }
    let at = 2.0 * count / (from + under.max(0.0).sqrt());
    (under >= 0.0 && at < over).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn within(plan: &Plan, seed: u64, seconds: f64) -> Vec<f64> {
        plan.arrivals(seed)
            .map(|at| at.as_secs_f64())
            .take_while(|at| *at < seconds)
            .collect()
    }

    #[test]
    fn any_plan_keeps_order_and_repeats_itself() {
        let mut random = Random::new(11);
        for round in 0..300 {
            let (low, high) = (random.unit() * 50.0, 1.0 + random.unit() * 500.0);
            let length = 0.5 + random.unit() * 10.0;
            let text = match round % 5 {
                0 => format!("constant:{high}/s"),
                1 => format!("poisson:{high}/s"),
                2 if round % 2 == 0 => format!("ramp:{low}..{high}/s:{length}s"),
                2 => format!("ramp:{high}..{low}/s:{length}s"),
                3 => format!("step:{low}/s,{length}s;0/s,1s;{high}/s,{length}s"),
                _ => format!("burst:{}/{length}s", 1 + round),
            };
            let (one, two) = (
                within(&plan(&text), round, 30.0),
                within(&plan(&text), round, 30.0),
            );
            assert!(!one.is_empty(), "{text}");
            assert!(one.is_sorted(), "{text}");
            assert_eq!(one, two, "{text}");
        }
    }

    #[test]
    fn counts_are_the_integral_of_the_rate() {
        let mut random = Random::new(12);
        for _ in 0..300 {
            let (from, to) = (random.unit() * 300.0, 1.0 + random.unit() * 300.0);
            let (length, pause) = (1.0 + random.unit() * 20.0, random.unit() * 5.0);
            for (text, expected) in [
                (format!("constant:{to}/s"), to * 60.0),
                (
                    format!("ramp:{from}..{to}/s:{length}s"),
                    (from + to) / 2.0 * length,
                ),
                (
                    format!("step:{from}/s,{length}s;0/s,{pause}s;{to}/s,{length}s"),
                    (from + to) * length,
                ),
            ] {
                let count = within(&plan(&text), 1, 60.0).len() as f64;
                assert!(
                    (count - expected).abs() <= 1.5,
                    "{text}: {count}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn a_ramp_climbs_evenly() {
        let moments = within(&plan("ramp:0..1000/s:10s"), 1, 60.0);
        let before = |end: f64| moments.iter().filter(|at| **at < end).count() as f64;
        for (end, expected) in [(2.5, 312.5), (5.0, 1250.0), (7.5, 2812.5), (10.0, 5000.0)] {
            assert!((before(end) - expected).abs() <= 1.5, "{end}");
        }
    }

    #[test]
    fn a_pause_between_steps_is_empty() {
        let moments = within(&plan("step:100/s,1s;0/s,2s;50/s,1s"), 1, 60.0);
        assert_eq!(moments.len(), 150);
        assert!(!moments.iter().any(|at| (1.0..3.0).contains(at)));
        assert!(moments.iter().all(|at| *at < 4.0));
    }

    #[test]
    fn poisson_has_its_mean_its_spread_and_its_seed() {
        for seed in 0..30 {
            let moments = within(&plan("poisson:1000/s"), seed, 20.0);
            let gaps: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!(
                (0.97..1.03).contains(&(mean * 1000.0)),
                "seed {seed}: {mean}"
            );
            // An exponential's deviation is its mean.
            assert!(
                (0.95..1.05).contains(&(variance.sqrt() / mean)),
                "seed {seed}: {variance}"
            );
            assert_ne!(moments, within(&plan("poisson:1000/s"), seed + 1, 20.0));
        }
    }

    #[test]
    fn bursts_come_whole() {
        let moments = within(&plan("burst:30/2s"), 1, 5.0);
        assert_eq!(moments.len(), 90);
        assert!(moments.chunks(30).enumerate().all(|(index, burst)| {
            burst
                .iter()
                .all(|at| (*at - index as f64 * 2.0).abs() < 1e-9)
        }));
    }

    #[test]
    fn logs_of_each_kind_replay_alike() {
        let expected = [0, 250, 1000, 61_000].map(Duration::from_millis);
        for log in [
            "1767225600\n1767225600.25\n1767225601\n1767225661\n",
            "1767225661000\n1767225600250\n\n1767225601000\n1767225600000",
            "2026-01-01T00:00:00Z\n2026-01-01 00:00:00.250Z\n2026-01-01T01:00:01+01:00\n2025-12-31T19:01:01-05:00\n",
            "{\"timestamp\":1767225600}\n{\"type\":\"x\",\"timestamp\":1767225600.25}\n{\"timestamp\":\"2026-01-01T00:00:01Z\"}\n{\"timestamp\":1767225661000000}\n",
        ] {
            let moments = timestamps(log).unwrap();
            assert_eq!(moments.len(), 4);
            for (at, expected) in moments.iter().zip(expected) {
                let off = at.as_secs_f64() - expected.as_secs_f64();
                assert!(off.abs() < 1e-5, "{log}: {moments:?}");
            }
        }
        let error = timestamps("1767225600\n{\"time\":1}\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(timestamps("\n").is_err());
        assert_eq!(days(1970, 1, 1), 0.0);
        assert_eq!(days(2000, 3, 1), 11_017.0);
    }

    #[test]
    fn plans_that_cannot_be_are_refused() {
        for bad in [
            "",
            "constant",
            "constant:0/s",
            "constant:-1/s",
            "constant:nan/s",
            "poisson:x",
            "ramp:1..2/s",
            "ramp:1/s:5s",
            "ramp:0..0/s:5s",
            "ramp:1..2/s:0s",
            "step:",
            "step:5/s",
            "burst:0/1s",
            "burst:5/0s",
            "burst:5",
            "replay:/nowhere/at/all",
            "storm:5/s",
        ] {
            assert!(Plan::parse(bad).is_err(), "{bad}");
        }
    }
}
