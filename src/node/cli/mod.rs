//! The command line: what was asked for, checked. Running a node is left to the caller; all other
//! commands are done here.

mod args;
mod doctor;
mod queue;

pub use args::{Command, Exit, run, tell};
pub use doctor::{Doctor, Grounds};
