//! Connections give way to who waits for their places: idle ones soon, busy ones down to an even part
//! for each shard. Where a limit came to allow fewer than there are, those beyond it end between two
//! messages.

use core::time::Duration;
use std::sync::Arc;

use super::brain::Dispatch;
use super::lane::{Connection, LaneKey, Via, Wake};
use super::terms::Terms;
use crate::shaping::Scope;
use crate::shaping::limit::{Connections, Freed};
use crate::words::{ConnectionId, Moment};

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

impl Connection {
    /// Whether it is to end because some limit that it counts in allows fewer than there are.
    pub(super) fn cede(&mut self) -> bool {
        self.cedes = self.terms.connections.cede();
        self.cedes
    }

    /// Its places are free again.
    pub(super) fn release(&self) -> Freed {
        let places = &self.terms.connections;
        if self.cedes {
            places.release_ceded()
        } else {
            places.release()
        }
    }
}

impl Dispatch {
    /// Whether a connection between two messages is to end because fewer are allowed than there are.
    /// It counts in the limits that its lane has by now.
    pub(super) fn is_too_many(&mut self, c: ConnectionId, lane: u32, now: Moment) -> bool {
        let terms = &self.lanes[lane].terms;
        let Some(connection) = self.connections.get_mut(&c) else {
            return false;
        };
        let mut freed = Freed::default();
        if !Arc::ptr_eq(&connection.terms, terms) {
            let before = core::mem::replace(&mut connection.terms, Arc::clone(terms));
            freed = connection.terms.connections.succeed(&before.connections);
        }
        let cedes = connection.cede();
        self.spread(&freed, now);
        cedes
    }

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

    /// Whether no other lane counts in the limits of this source at this site: none on another shard,
    /// and none of a domain that has one for itself.
    fn is_only(&self, lane: u32) -> bool {
        let key = &self.lanes[lane].key;
        let first = LaneKey {
            apart: None,
            via: Via::Sole,
            ..key.clone()
        };
        let is_here = |other: &&LaneKey| other.site == key.site && other.names == key.names;
        let all = self.lane_by_key.range(first..).map(|(key, _)| key);
        let mut here = all.take_while(is_here);
        self.config.shards < 2 && here.all(|other| other.via != key.via || other == key)
    }

    /// When idle connections of the lane are to be looked at, at the latest. Nobody tells a lane that
    /// its places have come to be wanted; that can only be where many of them are taken.
    pub(super) fn idle_look(&self, lane: u32) -> Duration {
        let terms = &self.lanes[lane].terms;
        let is_alone = |scope| scope == Scope::Lane && self.is_only(lane);
        let mut places = terms.connections.places();
        if places.any(|(limit, places)| places.is_crowded() && !is_alone(limit.name.scope)) {
            terms.idle.min(IDLE_WANTED)
        } else {
            terms.idle
        }
    }
}
