//! The node's side of limits that several nodes share: a thread that fetches leases from Redis ahead
//! of demand, and passes on what nodes have to tell each other. No shard ever waits for it.

mod accounts;
mod link;
mod notes;
mod options;
mod pulse;
mod rounds;
mod scripts;
mod start;

pub use notes::{Busy, Noted, SharedNotes};
pub use options::{Options, Password, Topology};
pub use pulse::{Pulse, Vitals};
pub use start::{Node, Refused, Throttle, start};
