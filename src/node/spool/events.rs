//! What was committed, in order, for the log: read from a channel while the log keeps up, and from
//! the rows themselves when it does not. The committer never waits for it. One per spool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::handle::{Health, Shared};
use super::store::{Rows, Store, StoreError, Table};

/// Rows read in one go when catching up.
const ROWS_MAX: usize = 1024;
/// Octets of lines read in one go, give or take the last line.
const OCTETS_MAX: usize = 1 << 20;
/// The event cursor's key in the meta table: the last event that was passed, u64 big-endian.
pub(super) const CURSOR_KEY: &[u8] = b"event cursor";

/// A delivery record that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Without gaps, for the life of the spool.
    pub sequence: u64,
    /// As in [`Change::Append`](posthaste_core::words::Change::Append).
    pub line: Box<[u8]>,
}

/// What [`Events::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// At least one, the next in order.
    Events(Vec<Event>),
    /// Nothing was committed in the time given, or the rows cannot be read for the moment.
    Nothing,
    /// The spool has stopped, and everything was given that can be read. The cursor is durable, unless the
    /// disk has failed.
    Over,
}

/// Where committed events come out, each once since the durable cursor.
pub struct Events {
    /// Gone once all is over, so that the store can be opened again.
    store: Option<Arc<dyn Store>>,
    shared: Arc<Shared>,
    channel: Receiver<Vec<Event>>,
    /// The number of the next event to give.
    next: u64,
    /// Taken from the channel, and to be given after the rows before it.
    ahead: Vec<Event>,
    /// The last event that was there at the start.
    found: u64,
}

impl Events {
    pub(super) const fn new(
        store: Arc<dyn Store>,
        shared: Arc<Shared>,
        channel: Receiver<Vec<Event>>,
        passed: u64,
        found: u64,
    ) -> Self {
        Self {
            store: Some(store),
            shared,
            channel,
            next: passed + 1,
            ahead: Vec::new(),
            found,
        }
    }

    /// The last event that was there at the start; 0 if there never was one.
    pub const fn found(&self) -> u64 {
        self.found
    }

    /// Waits at most `patience` for the next events.
    pub fn next(&mut self, patience: Duration) -> Next {
        let Some(store) = self.store.clone() else {
            return Next::Over;
        };
        let deadline = Instant::now() + patience;
        loop {
            if let Some(last) = self.missing_until() {
                return self.read(&*store, last, deadline);
            }
            if !self.ahead.is_empty() {
                let ahead = core::mem::take(&mut self.ahead);
                return self.give(ahead);
            }
            match self.channel.recv_deadline(deadline) {
                Ok(mut events) => {
                    events.retain(|event| event.sequence >= self.next);
                    self.ahead = events;
                }
                Err(ended) => {
                    let last = self.shared.last_event.load(Ordering::Acquire);
                    if self.next <= last {
                        return self.read(&*store, last, deadline);
                    }
                    if ended == RecvTimeoutError::Timeout {
                        return Next::Nothing;
                    }
                    self.finish(store);
                    return Next::Over;
                }
            }
        }
    }

    /// The last of the events that must come from rows before anything else is given.
    fn missing_until(&self) -> Option<u64> {
        let ahead = self.ahead.first().map(|event| event.sequence - 1);
        let last = ahead.unwrap_or(self.found);
        (self.next <= last).then_some(last)
    }

    fn give(&mut self, events: Vec<Event>) -> Next {
        match events.last() {
            Some(last) => {
                self.next = last.sequence + 1;
                Next::Events(events)
            }
            None => Next::Nothing,
        }
    }

    fn read(&mut self, store: &dyn Store, last: u64, deadline: Instant) -> Next {
        match read_rows(store, self.next, last) {
            Ok(events) if events.is_empty() => {
                // Rows that are not there will not come: go on behind them.
                self.next = last + 1;
                Next::Nothing
            }
            Ok(events) => self.give(events),
            Err(_) => {
                let stopping = self.shared.stopping.load(Ordering::Acquire);
                if stopping && self.shared.health() == Health::Poisoned {
                    // A disk that has failed gives no more of them; the next start does.
                    self.store = None;
                    return Next::Over;
                }
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
                Next::Nothing
            }
        }
    }

    /// What the log passed since the committer's last word would come again after the next start.
    fn finish(&mut self, store: Arc<dyn Store>) {
        self.store = None;
        let passed = self.shared.passed.load(Ordering::Acquire);
        let passed = passed.min(self.next - 1);
        let durable = read_cursor(&*store);
        if self.shared.health() == Health::Poisoned || durable.is_ok_and(|d| d >= passed) {
            return;
        }
        let mut rows = store.rows();
        write_cursor(0, passed, &mut *rows);
        // If it fails they do come again: better twice in the log than never.
        let _ = rows.write(true);
    }
}

fn read_rows(store: &dyn Store, first: u64, last: u64) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    let mut octets = 0;
    let mut cursor = store.scan(Table::Events, &first.to_be_bytes());
    while let Some((key, line)) = cursor.row() {
        let sequence = key.try_into().map(u64::from_be_bytes);
        // A key of another length is none of ours, and the rows around it are.
        if let Ok(sequence) = sequence {
            if sequence > last || events.len() == ROWS_MAX || octets > OCTETS_MAX {
                break;
            }
            octets += line.len();
            events.push(Event {
                sequence,
                line: line.into(),
            });
        }
        cursor.advance();
    }
    cursor.status()?;
    Ok(events)
}

/// The last event that was passed; 0 if none was.
pub(super) fn read_cursor(store: &dyn Store) -> Result<u64, StoreError> {
    let value = store.get(Table::Meta, CURSOR_KEY)?;
    let value = value.and_then(|value| value.as_ref().try_into().ok());
    Ok(value.map_or(0, u64::from_be_bytes))
}

/// Drops the rows behind `durable` up to `passed`, and keeps `passed`.
pub(super) fn write_cursor(durable: u64, passed: u64, rows: &mut dyn Rows) {
    let from = (durable + 1).to_be_bytes();
    let to = (passed + 1).to_be_bytes();
    rows.delete_range(Table::Events, &from, &to);
    rows.put(Table::Meta, CURSOR_KEY, &passed.to_be_bytes());
}
