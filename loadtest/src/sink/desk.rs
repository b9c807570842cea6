//! What the sink's event loop carries: sessions and what is booked of them. One per thread; all share the ledger.

use super::ledger::{Arrival, Batch, Label, Ledger};
use super::session::{Behaviour, Event, Session};
use crate::measure;
use crate::worker::{Host, Need};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// One thread's part of the sink.
pub(crate) struct Desk {
    behaviour: Behaviour,
    ledger: Arc<Mutex<Ledger>>,
    batch: Batch,
}

impl Desk {
    pub(crate) fn new(behaviour: Behaviour, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            behaviour,
            ledger,
            batch: Batch::default(),
        }
    }

    fn book(&mut self, session: &mut Session, label: Option<Label>, octets: u64) {
        if let Some(label) = label {
            let here = (label.run, label.sequence);
            let is_overtaken = |(run, sequence)| run == here.0 && sequence > here.1;
            if session.last.is_some_and(is_overtaken) {
                self.batch.counts.overtaken_in_session += 1;
            } else {
                session.last = Some(here);
            }
        }
        self.batch.recipients.extend_from_slice(&session.recipients);
        self.batch.arrivals.push(Arrival {
            label,
            sender: session.sender,
            recipients: session.recipients.len(),
            octets,
            at_us: measure::epoch_us(),
        });
    }
}

impl Host for Desk {
    type Session = Session;
    const FAREWELL: &'static [u8] = b"";

    fn open(&mut self, _peer: IpAddr) -> (Session, Need) {
        self.batch.counts.connections += 1;
        let session = Session::new(&mut self.behaviour);
        let need = session.pause.map_or(Need::Octets, Need::Wait);
        (session, need)
    }

    fn take(&mut self, session: &mut Session, input: &[u8]) -> (usize, Need) {
        let mut used = 0;
        loop {
            let (taken, event) = session.take(&input[used..], &mut self.behaviour);
            used += taken;
            let counts = &mut self.batch.counts;
            match event {
                Event::Hungry => return (used, Need::Octets),
                Event::Message { label, octets } => {
                    self.book(session, label, octets);
                    session.settle(&mut self.behaviour);
                }
                Event::Dropped => {
                    counts.dropped += 1;
                    return (used, Need::Drop);
                }
                Event::RecipientFailed => counts.recipients_failed += 1,
                Event::RecipientRefused => counts.recipients_refused += 1,
                Event::BadCommand => counts.bad_commands += 1,
                Event::Paused => {}
                Event::Secure => return (used, Need::Secure),
                Event::Close => return (used, Need::Close),
            }
            if let Some(delay) = session.pause {
                return (used, Need::Wait(delay));
            }
        }
    }

    fn release(&mut self, session: &mut Session) -> Need {
        session.release();
        Need::Octets
    }

    fn handle_secured(&mut self, session: &mut Session) {
        session.handle_secured();
    }

    fn close(&mut self, _session: Session) {}

    fn handle_round(&mut self) {
        if !self.batch.is_empty() {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.book(&mut self.batch);
        }
    }

    fn out(session: &mut Session) -> &mut Vec<u8> {
        &mut session.out
    }
}
