//! Lines for the delivery log that are no events of the spool: they are written beside these, and
//! are lost rather than waited for.

use crossbeam::channel::{Receiver, Sender, bounded};

/// Lines that wait for the log. Beyond, and while the log cannot be written, they are dropped.
const LINES_MAX: usize = 4096;

/// The giving end. Clones share it.
#[derive(Clone, Debug)]
pub struct Aside(Sender<Box<[u8]>>);

/// The log's end. One per node.
#[derive(Debug)]
pub struct AsideEnd(Receiver<Box<[u8]>>);

/// A way for lines into the log.
pub fn aside() -> (Aside, AsideEnd) {
    let (sender, receiver) = bounded(LINES_MAX);
    (Aside(sender), AsideEnd(receiver))
}

impl Aside {
    /// Gives a line without its line end; false when it is dropped. Never waits.
    pub fn offer(&self, line: Box<[u8]>) -> bool {
        self.0.try_send(line).is_ok()
    }
}

impl AsideEnd {
    /// What is there, a bounded number of lines.
    pub(super) fn take(&self) -> impl Iterator<Item = Box<[u8]>> + '_ {
        self.0.try_iter().take(LINES_MAX)
    }
}
