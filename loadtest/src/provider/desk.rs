//! What a provider's event loops carry: dialogues, the brain that decides in them, and the account of what was taken. One per thread; all
//! of one provider share its mind.

use super::brain::Brain;
use super::dialogue::{Access, Dialogue, FAREWELL};
use super::returned::Event;
use crate::measure;
use crate::sink::ledger::{Arrival, Batch, Ledger};
use crate::worker::{Host, Need};
use posthaste_core::words::Moment;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a provider knows, shared by its threads and with those who report. The account is locked apart, so that nobody waits for it who
/// wants a verdict.
pub(super) struct Mind {
    pub(super) brain: Mutex<Brain>,
    pub(super) ledger: Mutex<Ledger>,
}

impl Mind {
    pub(super) fn new(brain: Brain) -> Self {
        Self {
            brain: Mutex::new(brain),
            ledger: Mutex::new(Ledger::new()),
        }
    }
}

pub(super) fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
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

/// One thread's turn with the brain that all share: what one read brings is decided under one lock, as long as no content lies between.
struct Turn<'a> {
    brain: &'a Mutex<Brain>,
    clock: Clock,
    held: Option<(MutexGuard<'a, Brain>, Moment)>,
}

impl Access for Turn<'_> {
    fn brain(&mut self) -> (&mut Brain, Moment) {
        let (brain, now) = self.held.get_or_insert_with(|| {
            let brain = lock(self.brain);
            // Read under the lock: no thread brings a time that lies before another's.
            (brain, self.clock.now())
        });
        (brain, *now)
    }

    fn let_go(&mut self) {
        self.held = None;
    }
}

/// One thread of a provider.
pub(super) struct Desk {
    pub(super) mind: Arc<Mind>,
    /// Takes complaints and bounces; what it has no room for is told as not returned.
    pub(super) events: Option<SyncSender<Event>>,
    pub(super) clock: Clock,
    /// Taken since the last round: it is written down once a round, not once a message.
    pub(super) batch: Batch,
}

impl Host for Desk {
    type Session = Dialogue;
    const FAREWELL: &'static [u8] = FAREWELL;

    fn open(&mut self, peer: IpAddr) -> (Dialogue, Need) {
        self.batch.counts.connections += 1;
        let brain = &mut *lock(&self.mind.brain);
        Dialogue::open(brain, peer, self.clock.now())
    }

    fn take(&mut self, dialogue: &mut Dialogue, input: &[u8]) -> (usize, Need) {
        let mut access = Turn {
            brain: &self.mind.brain,
            clock: self.clock,
            held: None,
        };
        let (used, need) = dialogue.take(input, &mut access);
        drop(access);
        for taken in dialogue.taken.drain(..) {
            self.batch.recipients.extend_from_slice(&taken.recipients);
            self.batch.arrivals.push(Arrival {
                label: taken.label,
                // A provider may hold mail back: order says nothing here.
                sender: 0,
                recipients: taken.recipients.len(),
                octets: taken.octets,
                at_us: measure::epoch_us(),
            });
        }
        (used, need)
    }

    fn release(&mut self, dialogue: &mut Dialogue) -> Need {
        dialogue.release()
    }

    fn handle_secured(&mut self, dialogue: &mut Dialogue) {
        dialogue.handle_secured(&mut lock(&self.mind.brain));
    }

    fn close(&mut self, dialogue: Dialogue) {
        let mut brain = lock(&self.mind.brain);
        brain.handle_close(dialogue.id, self.clock.now());
    }

    /// Writes down what was taken, and hands on the complaints and bounces that are due.
    fn handle_round(&mut self) {
        if !self.batch.is_empty() {
            lock(&self.mind.ledger).book(&mut self.batch);
        }
        let mut brain = lock(&self.mind.brain);
        let now = self.clock.now();
        while let Some(event) = brain.poll_event(now) {
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
