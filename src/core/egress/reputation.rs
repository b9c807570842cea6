//! What a provider seems to think of a source: its outcomes, the old ones forgotten by and by.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::words::Moment;

/// What counts for or against a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Delivered,
    Deferred,
    /// Refused or deferred for what the provider has against the source.
    Blocked,
    /// A recipient called it spam (a feedback report).
    Complained,
}

/// How much things weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReputationRules {
    /// After this an outcome counts half.
    pub half_life: Duration,
    /// What a share of 1 of each kind would cost: at `1 / (1 + cost × share)` the score stands.
    pub deferred: f64,
    pub blocked: f64,
    /// Providers want fewer than one in a thousand, and act at three.
    pub complained: f64,
    /// Good outcomes that an unknown source is credited with.
    pub credit: f64,
}

impl Default for ReputationRules {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(86_400),
            deferred: 2.0,
            blocked: 20.0,
            complained: 300.0,
            credit: 20.0,
        }
    }
}

/// From 0, never use, to 1000, spotless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(u16);

impl Score {
    pub const SPOTLESS: Self = Self(1000);

    /// Of 1000; more than that counts as that.
    pub fn new(permille: u16) -> Self {
        Self(permille.min(1000))
    }

    pub const fn permille(self) -> u16 {
        self.0
    }
}

/// Outcomes of one source at one provider, as they count at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    delivered: f64,
    deferred: f64,
    blocked: f64,
    complained: f64,
    at: Moment,
}

impl Tally {
    fn age_to(&mut self, now: Moment, rules: &ReputationRules) {
        let age = now.since(self.at).as_secs_f64();
        let keep = (-age / rules.half_life.as_secs_f64().max(1.0)).exp2();
        self.delivered *= keep;
        self.deferred *= keep;
        self.blocked *= keep;
        self.complained *= keep;
        self.at = self.at.max(now);
    }

    fn count(&mut self, event: Event, now: Moment, rules: &ReputationRules) {
        self.age_to(now, rules);
        match event {
            Event::Delivered => self.delivered += 1.0,
            Event::Deferred => self.deferred += 1.0,
            Event::Blocked => self.blocked += 1.0,
            Event::Complained => self.complained += 1.0,
        }
    }

    fn add(&mut self, mut other: Self, now: Moment, rules: &ReputationRules) {
        self.age_to(now, rules);
        other.age_to(now, rules);
        self.delivered += other.delivered;
        self.deferred += other.deferred;
        self.blocked += other.blocked;
        self.complained += other.complained;
    }

    /// What is forgotten is credited, so that a bad score mends by rest.
    fn score(mut self, now: Moment, rules: &ReputationRules) -> Score {
        self.age_to(now, rules);
        // A complaint follows a delivery and is not one more message.
        let all = self.delivered + self.deferred + self.blocked + rules.credit;
        let cost = self.deferred * rules.deferred
            + self.blocked * rules.blocked
            + self.complained * rules.complained;
        let score = 1000.0 / (1.0 + cost / all.max(1.0));
        Score::new(score as u16)
    }

    fn is_nothing(&self) -> bool {
        self.delivered + self.deferred + self.blocked + self.complained < 0.01
    }
}

/// As told to other shards, and kept over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TallyState {
    pub source: Box<str>,
    pub provider: Box<str>,
    pub delivered: f64,
    pub deferred: f64,
    pub blocked: f64,
    pub complained: f64,
    /// Microseconds since 1970 for which the counts hold.
    pub at: u64,
}

type Tallies = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Tally>>;

/// One per shard. Each counts what it sees and tells the others; counts add up, in any order.
#[derive(Debug)]
pub struct Reputation {
    rules: ReputationRules,
    tallies: Tallies,
    /// What the others have not been told of.
    news: Tallies,
}

impl Reputation {
    pub const fn new(rules: ReputationRules) -> Self {
        Self {
            rules,
            tallies: BTreeMap::new(),
            news: BTreeMap::new(),
        }
    }

    pub fn handle(&mut self, source: &Arc<str>, provider: &Arc<str>, event: Event, now: Moment) {
        for tallies in [&mut self.tallies, &mut self.news] {
            tally(tallies, source, provider).count(event, now, &self.rules);
        }
    }

    pub fn score(&self, source: &str, provider: &str, now: Moment) -> Score {
        let providers = self.tallies.get(source);
        let tally = providers.and_then(|providers| providers.get(provider));
        tally.copied().unwrap_or_default().score(now, &self.rules)
    }

    /// At all providers of which something is known.
    pub fn scores(&self, source: &str, now: Moment) -> Vec<(Arc<str>, Score)> {
        let providers = self.tallies.get(source).into_iter().flatten();
        let score = |(provider, tally): (&Arc<str>, &Tally)| {
            (Arc::clone(provider), tally.score(now, &self.rules))
        };
        providers.map(score).collect()
    }

    /// What was counted here since the last time, for all other shards.
    pub fn take_news(&mut self) -> Vec<TallyState> {
        list(&core::mem::take(&mut self.news))
    }

    /// What another shard counted, or this node before a restart.
    pub fn handle_news(&mut self, state: &TallyState, now: Moment) {
        let (source, provider) = (Arc::from(&*state.source), Arc::from(&*state.provider));
        let other = Tally {
            delivered: state.delivered,
            deferred: state.deferred,
            blocked: state.blocked,
            complained: state.complained,
            at: Moment::from_micros(state.at),
        };
        tally(&mut self.tallies, &source, &provider).add(other, now, &self.rules);
    }

    /// To be kept.
    pub fn snapshot(&self) -> Vec<TallyState> {
        list(&self.tallies)
    }

    /// Drops what has been forgotten.
    pub fn sweep(&mut self, now: Moment) {
        for providers in self.tallies.values_mut() {
            providers.retain(|_, tally| {
                tally.age_to(now, &self.rules);
                !tally.is_nothing()
            });
        }
        self.tallies.retain(|_, providers| !providers.is_empty());
    }
}

fn tally<'a>(tallies: &'a mut Tallies, source: &Arc<str>, provider: &Arc<str>) -> &'a mut Tally {
    let providers = tallies.entry(Arc::clone(source)).or_default();
    providers.entry(Arc::clone(provider)).or_default()
}

fn list(tallies: &Tallies) -> Vec<TallyState> {
    let of = |(source, providers): (&Arc<str>, &BTreeMap<Arc<str>, Tally>)| {
        let state = |(provider, tally): (&Arc<str>, &Tally)| TallyState {
            source: (**source).into(),
            provider: (**provider).into(),
            delivered: tally.delivered,
            deferred: tally.deferred,
            blocked: tally.blocked,
            complained: tally.complained,
            at: tally.at.as_micros(),
        };
        providers.iter().map(state).collect::<Vec<_>>()
    };
    tallies.iter().flat_map(of).collect()
}
