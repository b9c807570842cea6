//! The spool: keeps accepted mail safe. Shards submit batches of changes, one thread commits them in
//! groups, another reads messages back. Nothing here decides what becomes of a message.
//!
//! # Durable states
//!
//! `tests/crash` has a test for each row.
//!
//! | State | Rows | Who moves it on | If we die there |
//! |---|---|---|---|
//! | Submitted | none | the committer, with the next group | It was not accepted: the client sends it again. Of a group all is there or nothing. |
//! | Stored | body, envelope | dispatch, by a first attempt | Handed on as never tried, due at its reception. |
//! | Deferred | the same, and the recipient's state | dispatch, when it is due | Handed on with its attempts and its due time. |
//! | Partly settled | the same, and a mark for each settled recipient | dispatch, for the others | Handed on without the settled ones; the count of the rest is made again. |
//! | Gone | none: the last settle deleted them in one batch | nobody | Nothing to do. |
//! | Recorded | an event beyond the cursor, from the same batch as what it tells of | the log | Given to the log again, from the cursor on. |
//! | Passed | the cursor; events up to it are deleted with it | nobody | Numbers go on behind it. |
//! | Kept (disk or quota full) | as before the change | the committer, once there is space | The change is lost: the recipient is tried again. |
//! | Poisoned (sync failed) | as on the disk | a restart | What was answered with `Committed` is there; of the rest perhaps. |
//! | New | tables without a format | the next open | The format is written. |
//!
//! Peer's 250 without our settle: the message is sent twice. There is no state in which it is sent
//! never.

mod codec;
mod committer;
#[cfg(test)]
mod contract;
mod counts;
mod events;
mod handle;
mod memory;
mod open;
mod quota;
mod reader;
mod recovery;
mod rocks;
mod store;
#[cfg(test)]
mod tests;

pub use codec::Torn;
pub use events::{Event, Events, Next};
pub use handle::{Asker, Batch, Completion, Failed, Figures, Health, Loaded, Spool};
pub use memory::MemoryDisk;
pub use open::{Durability, OpenError, Opened, Options, Running, open, open_in_memory};
pub use recovery::{Recovery, Unreadable};
