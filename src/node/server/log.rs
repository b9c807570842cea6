//! The delivery log as a reader of the spool's events.

use core::time::Duration;

use crate::observe::{Cursor, EventSource, Fetched};
use crate::spool::{Events, Next, Spool};

pub(super) struct Rows(pub Events);

impl EventSource for Rows {
    fn next(&mut self, patience: Duration) -> Fetched {
        match self.0.next(patience) {
            Next::Events(events) => Fetched::Events(
                events
                    .into_iter()
                    .map(|event| (event.sequence, event.line))
                    .collect(),
            ),
            Next::Nothing => Fetched::Nothing,
            Next::Over => Fetched::Over,
        }
    }
}

pub(super) struct Passed(pub Spool);

impl Cursor for Passed {
    fn passed(&self, sequence: u64) {
        self.0.log_cursor(sequence);
    }
}
