//! The command line: what was asked for, checked. Running a node is left to the caller; all other
//! commands are done here.

mod args;
mod ask;
mod automation;
mod check;
mod doctor;
mod explain;
mod order;
mod queue;
mod shaping;
mod source;
mod table;
mod warmup;

pub use args::{Command, Exit, run, tell};
pub use doctor::{Doctor, Grounds};
