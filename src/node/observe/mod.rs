//! What operators see from outside: the delivery log and the metrics. Decides nothing, and knows
//! neither the spool whose rows it writes nor the endpoint that shows its numbers.

mod aside;
mod file;
mod log;
#[cfg(test)]
mod log_tests;
mod meters;

pub use aside::{Aside, AsideEnd, aside};
pub use log::{Cursor, Ending, EventSource, Fetched, Log, LogError, LogOptions, start_log};
pub use meters::{
    ConnectionRefusal, Exposition, LogMeters, MessageRefusal, Meters, Mode, RedisMeters,
    SpoolMeters, meters, meters_with,
};
