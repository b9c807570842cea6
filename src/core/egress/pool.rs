//! A pool: which of its sources is next for a site.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::blame::{Blame, Fault};
use super::health::{Health, HealthRules, HealthState, Standing, Turn};
use super::hours::Hours;
use super::reputation::Score;
use super::source::SourceId;
use super::wheel::{WEIGHT_ONE, Wheel};
use crate::words::{Moment, Outcome, ShardId, SiteName};

/// Where nobody may send for a reason that has no end, it is looked at again after this: weights
/// and scores change.
const LOOK_AGAIN: Duration = Duration::from_secs(900);
/// Sites remembered; beyond, those at which all is well are forgotten.
const SITES_MAX: usize = 100_000;
const WEIGHT_MAX: u32 = 1_000_000;
/// The worst score leaves a source this share of its weight, so that it can show that it is better.
const SCORE_MIN: u16 = 50;

/// How the next source is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// By weight.
    #[default]
    Weighted,
    /// By weight times the score at the provider.
    Reputation,
    /// The same one for the same key, as long as it may send.
    Sticky,
}

/// A source of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub source: SourceId,
    /// The source's name: what its state is kept by.
    pub name: Arc<str>,
    /// Zero: not used.
    pub weight: u32,
    /// Outside of the pool's business hours; `None`: the same.
    pub off_hours: Option<u32>,
}

/// What is wrong with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("a pool needs a source with a weight")]
    Empty,
    #[error("a weight is at most 1,000,000")]
    Weight,
    #[error("a source is in a pool once")]
    Twice,
}

/// For what a source is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub site: &'a SiteName,
    /// What sticks to a source: a hash of tenant, recipient domain, or whatever it is.
    pub key: u64,
    pub now: Moment,
}

/// What others know of sources.
pub trait Advice {
    /// Asked by [`Selection::Reputation`] alone.
    fn score(&mut self, source: SourceId) -> Score;

    /// The source is about to be chosen: takes what limits and warm-up ask for. `Err`: nothing was
    /// taken, and not before then.
    fn take(&mut self, source: SourceId) -> Result<(), Moment>;
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Source {
        source: SourceId,
        /// It was aside, and this message tries whether it may return.
        is_probe: bool,
    },
    /// All are aside or full. Ask again then.
    Nobody { until: Moment },
}

/// A source left its place at one site, to be told to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteppedAside {
    pub source: Arc<str>,
    pub fault: Fault,
    pub until: Moment,
}

#[derive(Debug)]
struct Site {
    wheel: Wheel,
    health: Vec<Health>,
}

/// One per pool and shard. Shards tell each other of healths that change (`poll_told`,
/// `handle_told`); each turns a wheel of its own, and as each keeps the shares, all together do.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    hours: Option<Hours>,
    selection: Selection,
    rules: HealthRules,
    shard: ShardId,
    sites: BTreeMap<SiteName, Site>,
    told: VecDeque<HealthState>,
}

type Weights = SmallVec<[u32; 8]>;

impl Pool {
    pub fn new(
        members: Vec<Member>,
        hours: Option<Hours>,
        selection: Selection,
        rules: HealthRules,
        shard: ShardId,
    ) -> Result<Self, PoolError> {
        check(&members)?;
        Ok(Self {
            members,
            hours,
            selection,
            rules,
            shard,
            sites: BTreeMap::new(),
            told: VecDeque::new(),
        })
    }

    /// Other members, hours or selection. Those that stay keep their health, everywhere.
    pub fn change(
        &mut self,
        members: Vec<Member>,
        hours: Option<Hours>,
        selection: Selection,
    ) -> Result<(), PoolError> {
        check(&members)?;
        let before: Vec<_> = self.members.iter().map(|m| Arc::clone(&m.name)).collect();
        self.hours = hours;
        self.selection = selection;
        if before.iter().ne(members.iter().map(|member| &member.name)) {
            for site in self.sites.values_mut() {
                let health = |member: &Member| {
                    let place = before.iter().position(|name| *name == member.name);
                    place.map_or_else(Health::default, |place| site.health[place])
                };
                site.health = members.iter().map(health).collect();
                site.wheel = wheel(&members, self.shard);
            }
        }
        self.members = members;
        Ok(())
    }

    /// The source for the next message to a site. It is for the message's first way out or the next
    /// one of a message that was deferred: whatever the last outcome was, only what it said of the
    /// source matters here.
    pub fn select(&mut self, query: &Query<'_>, advice: &mut impl Advice) -> Choice {
        let now = query.now;
        let mut until = now + LOOK_AGAIN;
        self.add_site(query.site);
        let Some(site) = self.sites.get_mut(query.site) else {
            return Choice::Nobody { until };
        };
        let is_business = self.hours.is_none_or(|hours| hours.contains(now));
        let mut weights = Weights::new();
        for (member, health) in self.members.iter().zip(&site.health) {
            let off_hours = member.off_hours.filter(|_| !is_business);
            let weight = off_hours.unwrap_or(member.weight) * WEIGHT_ONE;
            weights.push(match health.turn(&self.rules, now) {
                Turn::Yes | Turn::Probe if self.selection == Selection::Reputation => {
                    let score = advice.score(member.source).permille().max(SCORE_MIN);
                    weight / WEIGHT_ONE * u32::from(score)
                }
                Turn::Yes | Turn::Probe => weight,
                Turn::NotBefore(moment) => {
                    until = until.min(moment);
                    0
                }
            });
        }
        loop {
            let chosen = match self.selection {
                Selection::Weighted | Selection::Reputation => site.wheel.next(&weights),
                Selection::Sticky => stick(&self.members, &weights, query.key),
            };
            let Some(chosen) = chosen else {
                return Choice::Nobody { until };
            };
            let source = self.members[chosen].source;
            if let Err(full) = advice.take(source) {
                until = until.min(full);
                weights[chosen] = 0;
                continue;
            }
            site.wheel.turn(&weights, chosen);
            let health = &mut site.health[chosen];
            let is_probe = health.turn(&self.rules, now) == Turn::Probe;
            if is_probe {
                health.probe(now);
                let name = &self.members[chosen].name;
                let state = health.state(query.site.as_str(), name, &self.rules);
                self.told.push_back(state);
            }
            return Choice::Source { source, is_probe };
        }
    }

    fn add_site(&mut self, name: &SiteName) {
        if self.sites.contains_key(name) {
            return;
        }
        if self.sites.len() >= SITES_MAX {
            self.sites
                .retain(|_, site| !site.health.iter().all(Health::is_blank));
        }
        let site = Site {
            wheel: wheel(&self.members, self.shard),
            health: vec![Health::default(); self.members.len()],
        };
        self.sites.insert(name.clone(), site);
    }

    /// What became of a message that went by `source`. `blame` is by [`Blame::of`], or by who knows
    /// the provider's words better. A verdict on content or domain moves nothing.
    pub fn handle_outcome(
        &mut self,
        site: &SiteName,
        source: SourceId,
        outcome: &Outcome,
        blame: Blame,
        random: u32,
        now: Moment,
    ) -> Option<SteppedAside> {
        let place = self.members.iter().position(|m| m.source == source)?;
        self.add_site(site);
        let health = &mut self.sites.get_mut(site)?.health[place];
        if !health.handle_outcome(outcome, blame, &self.rules, random, now) {
            return None;
        }
        let name = &self.members[place].name;
        self.told
            .push_back(health.state(site.as_str(), name, &self.rules));
        match health.standing() {
            Standing::Aside { until, fault } => Some(SteppedAside {
                source: Arc::clone(name),
                fault,
                until,
            }),
            Standing::Well | Standing::Probing { .. } => None,
        }
    }

    /// What the pools of this name on other shards are to be told, and what is to be kept.
    pub fn poll_told(&mut self) -> Option<HealthState> {
        self.told.pop_front()
    }

    /// From another shard, or from before a restart.
    pub fn handle_told(&mut self, state: &HealthState, now: Moment) {
        let site = SiteName::new(&state.site);
        let Some(place) = self.members.iter().position(|m| *m.name == *state.source) else {
            return;
        };
        self.add_site(&site);
        if let Some(site) = self.sites.get_mut(&site) {
            site.health[place].set(state, now);
        }
    }

    /// How the sources stand at a site, for an operator.
    pub fn standings(&self, site: &SiteName) -> impl Iterator<Item = (&Member, Standing)> {
        let health = self.sites.get(site).map(|site| &site.health);
        self.members.iter().enumerate().map(move |(place, member)| {
            let standing = health.map_or(Standing::Well, |health| health[place].standing());
            (member, standing)
        })
    }

    /// All that is not well, to be kept.
    pub fn snapshot(&self) -> Vec<HealthState> {
        let mut states = Vec::new();
        for (name, site) in &self.sites {
            for (member, health) in self.members.iter().zip(&site.health) {
                if !health.is_blank() {
                    states.push(health.state(name.as_str(), &member.name, &self.rules));
                }
            }
        }
        states
    }
}

fn wheel(members: &[Member], shard: ShardId) -> Wheel {
    let weights: Weights = members.iter().map(|m| m.weight * WEIGHT_ONE).collect();
    Wheel::new(&weights, shard.0)
}

fn check(members: &[Member]) -> Result<(), PoolError> {
    let is_used = |m: &Member| m.weight > 0 || m.off_hours.is_some_and(|weight| weight > 0);
    if !members.iter().any(is_used) {
        return Err(PoolError::Empty);
    }
    let is_large = |m: &Member| m.weight.max(m.off_hours.unwrap_or(0)) > WEIGHT_MAX;
    if members.iter().any(is_large) {
        return Err(PoolError::Weight);
    }
    let mut sources: Vec<_> = members.iter().map(|m| m.source).collect();
    sources.sort_unstable();
    sources.dedup();
    if sources.len() < members.len() {
        return Err(PoolError::Twice);
    }
    Ok(())
}

/// Weighted rendezvous hashing: when a member goes, only its own keys move.
fn stick(members: &[Member], weights: &[u32], key: u64) -> Option<usize> {
    let draw = |member: &Member, weight: u32| {
        let hash = scramble(key ^ scramble(u64::from(member.source.0)));
        // In (0, 1): 53 bits and a half.
        let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(weight) / unit.ln()
    };
    let entitled = members.iter().zip(weights).enumerate();
    entitled
        .filter(|(_, (_, weight))| **weight > 0)
        .map(|(place, (member, weight))| (place, draw(member, *weight)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(place, _)| place)
}

/// The finisher of splitmix64.
const fn scramble(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}
