//! What an operator sees of the egress sources, those that are not enabled included.

use std::sync::Arc;

use posthaste_core::dispatch::{Fleet, Suspension};
use posthaste_core::egress::{Progress, Score, Source, SourceId};
use posthaste_core::words::Moment;

use super::{Keeper, Sources};

/// A source's place in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub pool: Arc<str>,
    pub weight: u32,
    pub off_hours: Option<u32>,
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceState {
    pub source: Source,
    /// `None`: it is not enabled.
    pub id: Option<SourceId>,
    /// It is of no use to anybody.
    pub suspension: Option<Suspension>,
    pub seats: Vec<Seat>,
    /// By provider.
    pub scores: Vec<(Arc<str>, Score)>,
    pub warmups: Vec<Progress>,
}

/// One per node.
pub struct Roster {
    pub sources: Arc<Sources>,
    pub disabled: Vec<Source>,
    pub fleet: Arc<Fleet>,
    pub keeper: Arc<Keeper>,
}

impl Roster {
    /// All of them; none where the kernel chooses the address.
    pub fn states(&self, now: Moment) -> Vec<SourceState> {
        let warmups = self.keeper.warmups(now);
        let enabled = (0..).map(SourceId).zip(self.fleet.sources());
        let enabled = enabled.map(|(id, source)| SourceState {
            source: source.clone(),
            id: Some(id),
            suspension: self.sources.get(Some(id)).suspension(),
            seats: self.seats(id),
            scores: self.keeper.scores(&source.name, now),
            warmups: warmups
                .iter()
                .filter(|of| of.source == source.name)
                .cloned()
                .collect(),
        });
        let disabled = self.disabled.iter().map(|source| SourceState {
            source: source.clone(),
            id: None,
            suspension: None,
            seats: Vec::new(),
            scores: Vec::new(),
            warmups: Vec::new(),
        });
        enabled.chain(disabled).collect()
    }

    fn seats(&self, id: SourceId) -> Vec<Seat> {
        let pools = self.fleet.pools().iter();
        let members = pools.flat_map(|pool| pool.members.iter().map(move |of| (pool, of)));
        let of_source = members.filter(|(_, member)| member.source == id);
        of_source
            .map(|(pool, member)| Seat {
                pool: Arc::clone(&pool.name),
                weight: member.weight,
                off_hours: member.off_hours,
            })
            .collect()
    }
}
