//! The stages of a session that may be slowed down.

use crate::quantity::{Delay, Random};
use std::time::Duration;

/// Whose answer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Banner,
    Helo,
    Mail,
    Rcpt,
    Data,
    /// The final dot, or the last BDAT.
    Dot,
}

const NAMES: [(&str, Stage); 6] = [
    ("banner", Stage::Banner),
    ("helo", Stage::Helo),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("data", Stage::Data),
    ("dot", Stage::Dot),
];

impl Stage {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, stage)| *stage)
            .ok_or_else(|| format!("{text:?} is none of banner, helo, mail, rcpt, data, dot"))
    }
}

/// The delay of each stage. One per thread.
#[derive(Default)]
pub(crate) struct Delays([Option<Delay>; NAMES.len()]);

impl Delays {
    /// The last delay given for a stage counts.
    pub(crate) fn new(delays: &[(Stage, Delay)]) -> Self {
        let mut all = Self::default();
        for (stage, delay) in delays {
            all.0[*stage as usize] = (!delay.is_zero()).then_some(*delay);
        }
        all
    }

    /// How long this answer waits; None for not at all.
    pub(crate) fn draw(&self, stage: Stage, random: &mut Random) -> Option<Duration> {
        self.0[stage as usize].map(|delay| delay.draw(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_delay() {
        let ms = |n| Delay::Fixed(Duration::from_millis(n));
        let delays = Delays::new(&[
            (Stage::Rcpt, ms(1)),
            (Stage::Dot, ms(2)),
            (Stage::Rcpt, ms(3)),
            (Stage::Data, ms(0)),
        ]);
        let mut random = Random::new(1);
        for (name, stage) in NAMES {
            assert_eq!(Stage::parse(name), Ok(stage));
            let expected = match name {
                "rcpt" => Some(Duration::from_millis(3)),
                "dot" => Some(Duration::from_millis(2)),
                _ => None,
            };
            assert_eq!(delays.draw(stage, &mut random), expected, "{name}");
        }
        assert!(Stage::parse("quit").is_err());
    }
}
