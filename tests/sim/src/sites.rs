//! Sites and domains of a run, as its seed draws them.

use core::time::Duration;
use std::collections::BTreeMap;

use posthaste_core::egress::SourceId;
use posthaste_core::words::{Domain, Moment};

use crate::peer::Temper;
use crate::rng::Rng;
use crate::rules::Meter;

pub(crate) struct Site {
    pub(crate) temper: Temper,
    pub(crate) latency: Duration,
    /// Nobody reaches it within.
    pub(crate) outage: (Moment, Moment),
    /// Of each source.
    pub(crate) messages: BTreeMap<Option<SourceId>, Meter>,
    pub(crate) connections: BTreeMap<Option<SourceId>, Meter>,
}

impl Site {
    pub(crate) fn draw(rng: &mut Rng, start: Moment) -> Self {
        let begin = start + rng.micros(0, 4 * 3_600_000_000);
        Self {
            temper: Temper::draw(rng),
            latency: rng.micros(100, 200_000),
            outage: (begin, begin + rng.micros(0, 8 * 3_600_000_000)),
            messages: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }
}

/// What a name server says of a domain.
#[derive(Clone, Copy)]
pub(crate) enum Lookup {
    Sound,
    Flaky,
    NoSuchDomain,
}

pub(crate) struct Zone {
    pub(crate) domain: Domain,
    pub(crate) site: usize,
    pub(crate) lookup: Lookup,
}

impl Zone {
    /// The domain of this number, at one of so many sites.
    pub(crate) fn draw(rng: &mut Rng, number: usize, sites: usize) -> Self {
        Self {
            domain: Domain::parse(&format!("d{number}.example")).expect("well formed"),
            site: rng.below(sites),
            lookup: match rng.below(8) {
                0 => Lookup::NoSuchDomain,
                1 | 2 => Lookup::Flaky,
                _ => Lookup::Sound,
            },
        }
    }
}
