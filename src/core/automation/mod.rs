//! Automation's memory: how often something happened within a period.

mod counts;

pub use counts::{Counts, Often};
