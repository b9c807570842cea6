//! Connections give way to who waits for their places: idle ones soon, busy ones down to an even part
//! for each shard.

use core::time::Duration;

use super::brain::Dispatch;
use super::lane::Wake;
use super::terms::Terms;
use crate::shaping::Scope;
use crate::shaping::limit::Connections;
use crate::words::Moment;

/// An idle connection whose place somebody waits for ends after this. Longer than the pauses of a
/// lane at work: a connection costs several round trips.
const IDLE_WANTED: Duration = Duration::from_millis(250);
/// For so long a lane that gave way leaves free places to others, who have to hear of them.
const REST: Duration = Duration::from_secs(1);

/// What a lane that gave way keeps to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ceded {
    until: Moment,
    connections_max: usize,
}

impl Ceded {
    pub(super) fn allows(self, usable: usize, now: Moment) -> bool {
        now >= self.until || usable < self.connections_max
    }
}

impl Dispatch {
    /// Whether a busy connection of the lane, which has these terms, is to end: its lane has more than
    /// an even part of places that another shard waits for. The lane keeps to its part then.
    pub(super) fn gives_way(&mut self, lane: u32, terms: &Terms, now: Moment) -> bool {
        let shards = usize::from(self.config.shards);
        if shards < 2 {
            return false;
        }
        let shard = self.config.shard;
        let wanted = terms.connections.places();
        let wanted = wanted.filter(|(_, places)| places.is_wanted_beside(shard));
        // Who has one keeps it: taking turns with it is for who carries less than all.
        let part = |places: &Connections| (places.max() as usize).div_ceil(shards).max(1);
        let Some(part) = wanted.map(|(_, places)| part(places)).min() else {
            return false;
        };
        let state = &mut self.lanes[lane];
        if state.usable() <= part {
            return false;
        }
        state.ceded = Ceded {
            until: now + REST,
            connections_max: part,
        };
        self.due.push(now + REST, Wake::Lane(lane));
        true
    }

    /// How long a connection of the lane may be idle, now.
    pub(super) fn idle_max(&self, lane: u32) -> Duration {
        let state = &self.lanes[lane];
        let is_waiting = state.connection_turn.waits();
        let mut places = state.terms.connections.places();
        let is_wanted = places.any(|(_, places)| {
            places.is_wanted_beside(self.config.shard) || !is_waiting && places.is_wanted()
        });
        if is_wanted {
            state.terms.idle.min(IDLE_WANTED)
        } else {
            state.terms.idle
        }
    }

    /// When idle connections of the lane are to be looked at, at the latest. Nobody tells a lane that
    /// its places have come to be wanted; that can only be where many of them are taken.
    pub(super) fn idle_look(&self, lane: u32) -> Duration {
        let terms = &self.lanes[lane].terms;
        let is_alone = |scope| self.config.shards < 2 && scope == Scope::Lane;
        let mut places = terms.connections.places();
        if places.any(|(limit, places)| places.is_crowded() && !is_alone(limit.name.scope)) {
            terms.idle.min(IDLE_WANTED)
        } else {
            terms.idle
        }
    }
}
