//! The gates of one path, one for each pool that has mail for it. The route of a domain leads to the
//! first of them, the head; the others are its siblings, and end with it.

use std::sync::Arc;

use super::brain::Dispatch;
use super::fleet::{Fleet, PoolId, PoolPlan};
use super::lane::{LaneKey, Via, Wake};
use super::terms::Shapes;
use crate::queue::{EntryId, LabelId};
use crate::words::{Labels, Moment};

impl Fleet {
    /// The pool of mail of which nothing else is said.
    pub(super) fn default_pool(&self, shapes: &Shapes) -> PoolId {
        let name = shapes.shaping.labels().default_pool();
        self.pool_named(name).unwrap_or(PoolId::DEFAULT)
    }

    /// Of the mail of a lane; `None` where nothing is to be chosen.
    pub(super) fn pool_behind(&self, via: Via) -> Option<&PoolPlan> {
        match via {
            Via::Gate(pool) | Via::Source(pool, _) => Some(self.pool(pool)),
            Via::Sole => None,
        }
    }

    /// The pool that mail of `labels` leaves by. One that was there when the mail came, and is not
    /// any more, is the default one.
    pub fn pool_of(&self, labels: &Labels, default: PoolId) -> PoolId {
        let named = labels.pool().map(|name| self.pool_named(name));
        named.flatten().unwrap_or(default)
    }
}

impl Dispatch {
    fn pool_of(&self, labels: LabelId) -> PoolId {
        let labels = self.labels.get(labels);
        self.config.fleet.pool_of(labels, self.default_pool)
    }

    /// By which gate mail of these labels leaves, at any site.
    pub(super) fn via_of_labels(&self, labels: &Labels) -> Via {
        let fleet = &self.config.fleet;
        if fleet.has_choice() {
            Via::Gate(fleet.pool_of(labels, self.default_pool))
        } else {
            Via::Sole
        }
    }

    /// The gate of mail of `labels` whose route leads to `head`; the lane itself where nothing is to
    /// be chosen.
    pub(super) fn gate_for(&mut self, head: u32, labels: LabelId, now: Moment) -> u32 {
        self.gate_of(head, self.pool_of(labels), now)
    }

    pub(super) fn gate_of(&mut self, head: u32, pool: PoolId, now: Moment) -> u32 {
        if let Some(gate) = self.find_gate(head, pool) {
            return gate;
        }
        let state = &self.lanes[head];
        let plan = Arc::clone(&state.plan);
        let key = LaneKey {
            via: Via::Gate(pool),
            ..state.key.clone()
        };
        let gate = self.lane_of(key, &plan, now);
        self.lanes[gate].head = head;
        self.lanes[head].siblings.insert(pool, gate);
        gate
    }

    /// The same, if it is there.
    pub(super) fn find_gate(&self, head: u32, pool: PoolId) -> Option<u32> {
        let state = &self.lanes[head];
        match state.key.via {
            Via::Gate(own) if own != pool => state.siblings.get(&pool).copied(),
            Via::Gate(_) | Via::Sole | Via::Source(..) => Some(head),
        }
    }

    /// Where work of the entry waits for a source, as far as that is known.
    pub(super) fn gate_of_entry(&self, head: u32, labels: LabelId) -> u32 {
        self.find_gate(head, self.pool_of(labels)).unwrap_or(head)
    }

    /// The head of the lane's path.
    pub(super) fn head_of(&self, lane: u32) -> u32 {
        self.lanes[self.lanes[lane].gate].head
    }

    /// Whether no domain leads to the lane's path any more.
    pub(super) fn is_left(&self, lane: u32) -> bool {
        self.lanes[self.head_of(lane)].domains == 0
    }

    /// The gate, its siblings if it is the head, and the lanes behind all these: gates first.
    pub(super) fn family(&self, gate: u32) -> Vec<u32> {
        let siblings = self.lanes[gate].siblings.values().copied();
        let mut all: Vec<u32> = core::iter::once(gate).chain(siblings).collect();
        for number in 0..all.len() {
            all.extend(self.lanes[all[number]].exits.values());
        }
        all
    }

    /// Whether the entry waits at the gate of a pool that is not its own any more. What has a source
    /// already leaves by it.
    pub(super) fn is_at_wrong_gate(&self, id: EntryId, lane: u32) -> bool {
        match self.lanes[lane].key.via {
            Via::Gate(pool) => self.pool_of(self.entries.get(id).labels) != pool,
            Via::Sole | Via::Source(..) => false,
        }
    }

    /// Mail of which nothing is said may leave by another pool from here on.
    pub(super) fn know_default_pool(&mut self, now: Moment) {
        let pool = self.config.fleet.default_pool(&self.shapes);
        if core::mem::replace(&mut self.default_pool, pool) == pool {
            return;
        }
        for lane in self.lanes.numbers() {
            if self.lanes[lane].is_gate() {
                self.lanes[lane].has_strays = true;
                self.due.push(now, Wake::Lane(lane));
            }
        }
    }
}
