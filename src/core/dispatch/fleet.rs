//! What an operator set for egress: sources, pools of them, and the ladders of young ones. The same on
//! all shards of a node; it knows nothing of how a source stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::egress::{
    HealthRules, Hours, Ladder, Member, Selection, Source, SourceId, Warmup, WarmupState,
};
use crate::shaping::Zone;
use crate::words::Moment;

/// A pool's number: its place in [`Fleet::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId(pub u16);

impl PoolId {
    /// The one named `default`.
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
    pool_by_name: BTreeMap<Arc<str>, PoolId>,
    ladders: Vec<LadderPlan>,
    /// Asked when a lane is made, never on the way of a message.
    climbers: Mutex<Climbers>,
    /// From before a restart, of which no ladder tells: they are kept in case one does again.
    unused: Vec<WarmupState>,
    keeping: Keeping,
}

/// Whether somebody writes down what ladders have used.
#[derive(Clone, Copy, Debug, Default)]
pub enum Keeping {
    #[default]
    Nobody,
    /// Ahead of its use. `cut`: the last run ended without a word; the moment of this start.
    Ahead { cut: Option<Moment> },
}

impl Keeping {
    fn of(self, warmup: Warmup) -> Warmup {
        match self {
            Self::Nobody => warmup,
            Self::Ahead { cut } => warmup.kept(cut),
        }
    }
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
        Self::kept(sources, pools, ladders, before, Keeping::Nobody)
    }

    /// The same, and somebody keeps what is used.
    ///
    /// # Panics
    /// When there are sources and no pool.
    pub fn kept(
        sources: Vec<Source>,
        pools: Vec<PoolPlan>,
        ladders: Vec<LadderPlan>,
        before: Vec<WarmupState>,
        keeping: Keeping,
    ) -> Self {
        assert!(sources.is_empty() || !pools.is_empty(), "a default pool");
        let numbered = (0..).map(PoolId).zip(&pools);
        let pool_by_name = numbered.map(|(id, pool)| (Arc::clone(&pool.name), id));
        let mut fleet = Self {
            pool_by_name: pool_by_name.collect(),
            sources,
            pools,
            ladders,
            climbers: Mutex::default(),
            unused: Vec::new(),
            keeping,
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
        let source = self.source_named(&state.source)?;
        let ladder = self.ladder(source, &state.provider)?;
        let warmup = self.keeping.of(Warmup::restore(Arc::clone(ladder), state));
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
                let young = Warmup::new(name, Arc::clone(provider), Arc::clone(ladder));
                Arc::new(self.keeping.of(young))
            });
        Some(Arc::clone(climber))
    }

    /// Those that have sent, or whose state was kept.
    pub fn warmups(&self) -> Vec<Arc<Warmup>> {
        self.climbers().values().cloned().collect()
    }

    /// To be kept over a restart, once nothing is sent any more.
    pub fn snapshot(&self) -> Vec<WarmupState> {
        self.states(Warmup::snapshot)
    }

    /// To be kept while mail is sent; see [`Warmup::snapshot_ahead`].
    pub fn snapshot_ahead(&self) -> Vec<WarmupState> {
        self.states(Warmup::snapshot_ahead)
    }

    fn states(&self, of: impl Fn(&Warmup) -> WarmupState) -> Vec<WarmupState> {
        let climbing = self.warmups();
        let climbing = climbing.iter().map(|warmup| of(warmup));
        climbing.chain(self.unused.iter().cloned()).collect()
    }

    /// Those are on disk.
    pub fn handle_written(&self, states: &[WarmupState]) {
        for warmup in self.warmups() {
            let mut states = states.iter();
            if let Some(state) = states.find(|s| warmup.is_of(&s.source, &s.provider)) {
                warmup.handle_written(state);
            }
        }
    }

    /// Whether some ladder is about to wait for more to be written.
    pub fn wants_writing(&self) -> bool {
        self.climbers()
            .values()
            .any(|warmup| warmup.wants_writing())
    }

    /// That of a source that has sent something there.
    pub(super) fn climber(&self, source: SourceId, provider: &str) -> Option<Arc<Warmup>> {
        self.climbers().get(&(source, Arc::from(provider))).cloned()
    }

    pub fn source_named(&self, name: &str) -> Option<SourceId> {
        let place = self.sources.iter().position(|of| *of.name == *name)?;
        u32::try_from(place).ok().map(SourceId)
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

    pub(super) fn pool(&self, id: PoolId) -> &PoolPlan {
        &self.pools[usize::from(id.0)]
    }

    /// Whether one is to be chosen.
    pub(super) const fn has_choice(&self) -> bool {
        !self.pools.is_empty()
    }

    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        self.pool_by_name.get(name).copied()
    }
}
