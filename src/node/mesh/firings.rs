//! What automation has to look at, on its way from the shards to the node's main thread.

use core::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use posthaste_core::dispatch::Firing;

/// Matches that wait. They are looked at ten times a second; of what is beyond, one match like it has
/// mostly come before.
const WAITING_MAX: usize = 16_384;

/// One per node.
#[derive(Debug)]
pub struct Firings {
    waiting: ArrayQueue<Box<Firing>>,
    lost: AtomicU64,
}

impl Default for Firings {
    fn default() -> Self {
        Self {
            waiting: ArrayQueue::new(WAITING_MAX),
            lost: AtomicU64::new(0),
        }
    }
}

impl Firings {
    /// Never waits: one that finds no room is counted and gone.
    pub fn put(&self, firing: Box<Firing>) {
        if self.waiting.push(firing).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest.
    pub fn take(&self) -> Option<Box<Firing>> {
        self.waiting.pop()
    }

    /// How many found no room, since it was asked last.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}
