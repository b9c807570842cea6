//! What operators see from outside: the delivery log and the metrics. Decides nothing, and knows
//! neither the spool whose rows it writes nor the endpoint that shows its numbers.

mod aside;
mod automation;
mod file;
mod log;
#[cfg(test)]
mod log_tests;
mod meters;
mod search;

pub use aside::{Aside, AsideEnd, aside};
pub use automation::AutomationMeters;
pub use log::{Cursor, Ending, EventSource, Fetched, Log, LogError, LogOptions, start_log};
pub use meters::{
    ConnectionRefusal, Exposition, LogMeters, MessageRefusal, Meters, Mode, Named, RedisMeters,
    SourceFigures, SpoolMeters, meters, meters_with,
};
pub use search::{Delivered, SearchError, find_delivery};
