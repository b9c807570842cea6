//! When work is due: retry schedule, compact entries, the ready and the waiting. Never knows a
//! connection.

mod due;
mod entry;
mod labels;
mod schedule;

pub use due::Due;
pub use entry::{Entries, Entry, EntryId, Ready, Recipients};
pub use labels::{LabelId, LabelTable};
pub use schedule::Schedule;
