//! One shard: intake, brain and deliveries of one core, wired together.

mod courier;
mod parts;
mod pump;
mod run;

pub use courier::{Courier, DiskNote};
pub use parts::Parts;
pub use run::run;
