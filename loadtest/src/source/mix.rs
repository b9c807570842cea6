//! What messages are made up of, by weight: names and sizes. Pure; a message's share depends on its number and the seed alone.

use crate::quantity::{scatter, size};
use std::ops::RangeInclusive;

/// Names with weights: `a=3,b=1`; a name alone weighs 1.
#[derive(Clone, Debug)]
pub(crate) struct Mix<T> {
    /// Each with the end of its stretch of the number line.
    parts: Vec<(T, f64)>,
}

impl<T> Mix<T> {
    /// None where there is nothing to choose from.
    pub(crate) fn new(parts: impl IntoIterator<Item = (T, f64)>) -> Option<Self> {
        let mut end = 0.0;
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(part, weight)| {
                end += weight;
                (part, end)
            })
            .collect();
        (!parts.is_empty()).then_some(Self { parts })
    }

    /// The part that `number` falls to.
    pub(crate) fn pick(&self, seed: u64, number: u64) -> &T {
        let last = self.parts.len() - 1;
        if last == 0 {
            return &self.parts[0].0;
        }
        let unit = (scatter(seed, number) >> 11) as f64 / (1_u64 << 53) as f64;
        let at = unit * self.parts[last].1;
        let index = self.parts.partition_point(|(_, end)| *end <= at);
        &self.parts[index.min(last)].0
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().map(|(part, _)| part)
    }
}

/// One `NAME=WEIGHT` of the command line.
pub(crate) fn name(text: &str) -> Result<(String, f64), String> {
    let (name, weight) = match text.rsplit_once('=') {
        // Bounce addresses have equals signs of their own: `bounce+user=host@domain`.
        Some((name, weight)) if !weight.contains('@') => (name, weigh(weight, text)?),
        Some(_) | None => (text, 1.0),
    };
    // Names go into commands, header fields and JSON as they are.
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !br#""\<>"#.contains(&octet);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(format!(
            "{text:?}: a name is of printable ASCII, without blanks, quotes or angle brackets"
        ));
    }
    Ok((name.to_owned(), weight))
}

fn weigh(weight: &str, text: &str) -> Result<f64, String> {
    let weight: f64 = weight
        .parse()
        .map_err(|_| format!("{text:?}: the weight after `=` is no number"))?;
    if weight.is_finite() && weight > 0.0 {
        Ok(weight)
    } else {
        Err(format!("{text:?}: a weight is above 0"))
    }
}

/// Sizes of messages in octets: `10k`, `1k..100k` (even between the two), or parts of either kind with weights: `2k=7,20k..60k=3`.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    text: String,
    mix: Mix<RangeInclusive<usize>>,
}

impl Sizes {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(|part| {
                let (range, weight) = match part.rsplit_once('=') {
                    Some((range, weight)) => (range, weigh(weight, part)?),
                    None => (part, 1.0),
                };
                let (low, high) = match range.split_once("..") {
                    Some((low, high)) => (size(low)?, size(high)?),
                    None => (size(range)?, size(range)?),
                };
                if low > high {
                    return Err(format!("{part:?}: the lesser end comes first"));
                }
                Ok((low..=high, weight))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Mix::new(parts)
            .map(|mix| Self {
                text: text.to_owned(),
                mix,
            })
            .ok_or_else(|| "no size".to_owned())
    }

    /// As typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn pick(&self, seed: u64, number: u64) -> usize {
        let range = self.mix.pick(seed, number);
        let span = (range.end() - range.start()) as u64;
        if span == 0 {
            return *range.start();
        }
        // Another seed, or the place within a range would follow the choice of the range.
        range.start() + (scatter(!seed, number) % (span + 1)) as usize
    }

    pub(crate) fn largest(&self) -> usize {
        self.mix
            .parts()
            .map(|range| *range.end())
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights_and_the_seed() {
        for seed in 0..20 {
            let mix = Mix::new([('a', 5.0), ('b', 3.0), ('c', 2.0)]).unwrap();
            let mut counts = [0_u32; 3];
            for number in 0..20_000 {
                let part = *mix.pick(seed, number);
                assert_eq!(
                    part,
                    *mix.pick(seed, number),
                    "the same message, the same part"
                );
                counts[part as usize - 'a' as usize] += 1;
            }
            for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
                let off = (f64::from(*count) / 20_000.0 - share).abs();
                assert!(off < 0.02, "seed {seed}: {counts:?}");
            }
        }
    }

    #[test]
    fn names_and_sizes_parse_as_typed() {
        assert_eq!(name("gmail.test=2.5"), Ok(("gmail.test".to_owned(), 2.5)));
        assert_eq!(name("a"), Ok(("a".to_owned(), 1.0)));
        assert_eq!(name("b+u=h@d"), Ok(("b+u=h@d".to_owned(), 1.0)));
        for bad in ["", "=3", "a=", "a=0", "a=-1", "a=inf", "a b", "a\"=1", "é"] {
            assert!(name(bad).is_err(), "{bad}");
        }
        let sizes = Sizes::parse("1k=1,4k..8k=3").unwrap();
        assert_eq!(sizes.largest(), 8192);
        let drawn: Vec<_> = (0..4000).map(|number| sizes.pick(1, number)).collect();
        assert!(
            drawn
                .iter()
                .all(|size| *size == 1024 || (4096..=8192).contains(size))
        );
        let small = drawn.iter().filter(|size| **size == 1024).count();
        assert!((850..1150).contains(&small), "{small}");
        for bad in ["", "x", "2k..1k", "1k=x", "1k,"] {
            assert!(Sizes::parse(bad).is_err(), "{bad}");
        }
    }
}
