//! What benchmarks and instruction counts are made of: fixed inputs that look like real mail, and the
//! steps of core that are measured. No clock, no chance: the same octets in every run.

mod limit;
mod mail;
mod queue;
mod session;
mod shaping;
mod shard;

use posthaste_core::words::Moment;

pub use limit::{Gate, Lanes, Tap};
pub use mail::{COMMANDS, REPLIES, domains, header, message, record, stuffed};
pub use queue::{Queue, next};
pub use session::{session, transact};
pub use shaping::{RULES, SITES, Site, many_rules, resolve, resolve_whole, shipped_rules};
pub use shard::{Shard, brain, plan, recovered};

/// The time of every fixture.
pub const T0: Moment = Moment::from_secs(1_800_000_000);
