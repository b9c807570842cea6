//! What a provider's event loop carries: dialogues, the brain that decides in them, and the account of what was taken. One per provider.

use super::brain::Brain;
use super::dialogue::{Dialogue, FAREWELL};
use super::returned::Event;
use crate::measure;
use crate::sink::ledger::{Arrival, Ledger};
use crate::worker::{Host, Need};
use posthaste_core::words::Moment;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a provider knows, shared with those who report.
pub(super) struct Mind {
    pub(super) brain: Brain,
    pub(super) ledger: Ledger,
}

pub(super) fn lock(mind: &Mutex<Mind>) -> MutexGuard<'_, Mind> {
    mind.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wall clock that never goes back: read once, then a monotonic clock is added.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// Nothing where it stands still.
    began: Option<Instant>,
    wall: Moment,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            began: Some(Instant::now()),
            wall: Moment::from_micros(measure::epoch_us()),
        }
    }

    pub(super) fn now(&self) -> Moment {
        match self.began {
            Some(began) => self.wall + began.elapsed(),
            None => self.wall,
        }
    }

    #[cfg(test)]
    const fn stopped_at(wall: Moment) -> Self {
        Self { began: None, wall }
    }
}

/// One provider's thread.
pub(super) struct Desk {
    pub(super) mind: Arc<Mutex<Mind>>,
    /// Takes complaints and bounces; what it has no room for is told as not returned.
    pub(super) events: Option<SyncSender<Event>>,
    pub(super) clock: Clock,
}

impl Host for Desk {
    type Session = Dialogue;
    const FAREWELL: &'static [u8] = FAREWELL;

    fn open(&mut self, peer: IpAddr) -> (Dialogue, Need) {
        let now = self.clock.now();
        let mind = &mut *lock(&self.mind);
        mind.ledger.counts.connections += 1;
        Dialogue::open(&mut mind.brain, peer, now)
    }

    fn take(&mut self, dialogue: &mut Dialogue, input: &[u8]) -> (usize, Need) {
        let now = self.clock.now();
        let mind = &mut *lock(&self.mind);
        let (used, need) = dialogue.take(input, &mut mind.brain, now);
        for taken in dialogue.taken.drain(..) {
            let arrival = Arrival {
                label: taken.label,
                // A provider may hold mail back: order says nothing here.
                sender: 0,
                recipients: taken.recipients.len(),
                octets: taken.octets,
                at_us: measure::epoch_us(),
            };
            mind.ledger.accept(&arrival, &taken.recipients);
        }
        (used, need)
    }

    fn release(&mut self, dialogue: &mut Dialogue) -> Need {
        dialogue.release()
    }

    fn handle_secured(&mut self, dialogue: &mut Dialogue) {
        dialogue.handle_secured(&mut lock(&self.mind).brain);
    }

    fn close(&mut self, dialogue: Dialogue) {
        let now = self.clock.now();
        lock(&self.mind).brain.handle_close(dialogue.id, now);
    }

    /// Hands on the complaints and bounces that are due.
    fn handle_round(&mut self) {
        let now = self.clock.now();
        let mut mind = lock(&self.mind);
        while let Some(event) = mind.brain.poll_event(now) {
            if let Some(events) = &self.events {
                // A full queue means that nobody takes them: then they are lost, as in life, and told by the account.
                let _ = events.try_send(event);
            }
        }
    }

    fn out(dialogue: &mut Dialogue) -> &mut Vec<u8> {
        &mut dialogue.out
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
