//! `source`: sessions that send as fast as they are answered (or at a set rate) and tell how long the answers took.

mod message;
mod options;
mod report;
mod session;
mod supply;
mod tally;
mod worker;

pub use options::{Options, run};
