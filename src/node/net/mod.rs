//! Inbound connections: who is here. Never what they say.

mod census;

pub use census::{Census, Seat};
