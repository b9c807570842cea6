//! What an operator set for egress: sources, pools of them, and the ladders of young ones. The same on
//! all shards of a node; it knows nothing of how a source stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::egress::{
    HealthRules, Hours, Ladder, Member, Selection, Source, SourceId, Warmup, WarmupState,
};
use crate::shaping::Zone;

/// A pool's number: its place in [`Fleet::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId(pub u16);

impl PoolId {
    /// Of mail of which nothing else is said.
    pub const DEFAULT: Self = Self(0);
}

/// A pool as it was set.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    pub name: Arc<str>,
    pub members: Vec<Member>,
    /// Business hours, and by whose clock.
    pub hours: Option<(Hours, Zone)>,
    pub selection: Selection,
    pub rules: HealthRules,
}

/// A ladder, and who climbs it.
#[derive(Clone, Debug)]
pub struct LadderPlan {
    pub source: SourceId,
    /// Empty: all of them.
    pub providers: Vec<Box<str>>,
    pub ladder: Arc<Ladder>,
}

type Climbers = BTreeMap<(SourceId, Arc<str>), Arc<Warmup>>;

/// One per node. Without sources there is one way out, and nothing to choose.
#[derive(Debug, Default)]
pub struct Fleet {
    /// A [`SourceId`] is a place here.
    sources: Vec<Source>,
    /// The first is the default.
    pools: Vec<PoolPlan>,
    ladders: Vec<LadderPlan>,
    /// Asked when a lane is made, never on the way of a message.
    climbers: Mutex<Climbers>,
    /// From before a restart, of which no ladder tells: they are kept in case one does again.
    unused: Vec<WarmupState>,
}

impl Fleet {
    /// `before` is from before a restart.
    ///
    /// # Panics
    /// When there are sources and no pool.
    pub fn new(
        sources: Vec<Source>,
        pools: Vec<PoolPlan>,
        ladders: Vec<LadderPlan>,
        before: Vec<WarmupState>,
    ) -> Self {
        assert!(sources.is_empty() || !pools.is_empty(), "a default pool");
        let mut fleet = Self {
            sources,
            pools,
            ladders,
            climbers: Mutex::default(),
            unused: Vec::new(),
        };
        for state in before {
            match fleet.restored(&state) {
                Some((key, warmup)) => {
                    fleet.climbers().insert(key, Arc::new(warmup));
                }
                None => fleet.unused.push(state),
            }
        }
        fleet
    }

    fn restored(&self, state: &WarmupState) -> Option<((SourceId, Arc<str>), Warmup)> {
        let place = self.sources.iter().position(|s| *s.name == *state.source)?;
        let source = SourceId(u32::try_from(place).ok()?);
        let ladder = self.ladder(source, &state.provider)?;
        let warmup = Warmup::restore(Arc::clone(ladder), state);
        Some(((source, Arc::from(&*state.provider)), warmup))
    }

    fn climbers(&self) -> MutexGuard<'_, Climbers> {
        self.climbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ladder(&self, source: SourceId, provider: &str) -> Option<&Arc<Ladder>> {
        let is_for = |plan: &&LadderPlan| {
            plan.source == source
                && (plan.providers.is_empty() || plan.providers.iter().any(|p| **p == *provider))
        };
        self.ladders.iter().find(is_for).map(|plan| &plan.ladder)
    }

    /// What the source may send to the provider in a day; `None`: as much as it can.
    pub(super) fn warmup(&self, source: SourceId, provider: &Arc<str>) -> Option<Arc<Warmup>> {
        let ladder = self.ladder(source, provider)?;
        let mut climbers = self.climbers();
        let climber = climbers
            .entry((source, Arc::clone(provider)))
            .or_insert_with(|| {
                let name = Arc::clone(&self.source(source).name);
                Arc::new(Warmup::new(name, Arc::clone(provider), Arc::clone(ladder)))
            });
        Some(Arc::clone(climber))
    }

    /// Those that have sent, or whose state was kept.
    pub fn warmups(&self) -> Vec<Arc<Warmup>> {
        self.climbers().values().cloned().collect()
    }

    /// To be kept over a restart.
    pub fn snapshot(&self) -> Vec<WarmupState> {
        let climbing = self.warmups();
        let climbing = climbing.iter().map(|warmup| warmup.snapshot());
        climbing.chain(self.unused.iter().cloned()).collect()
    }

    pub fn pools(&self) -> &[PoolPlan] {
        &self.pools
    }

    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize]
    }

    /// Whether one is to be chosen.
    pub(super) const fn has_choice(&self) -> bool {
        !self.pools.is_empty()
    }

    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        let place = self.pools.iter().position(|pool| *pool.name == *name)?;
        u16::try_from(place).ok().map(PoolId)
    }
}
