//! `source`: sessions that send as fast as they are answered, or at planned moments, and tell how long the answers took.

mod arrivals;
mod dialogue;
mod http;
mod message;
mod mix;
mod options;
mod output;
mod report;
mod run;
mod smtp;
mod supply;
mod tally;
mod timeline;
mod worker;

pub(crate) use arrivals::Plan;
pub(crate) use mix::Sizes;
pub use options::Options;
pub use run::run;
