//! The node: opens what the configuration names, starts the shards, waits for the end. One per
//! process.

mod boot;
mod cluster;
mod console;
mod egress;
mod grounds;
mod kept;
mod log;
mod plan;
mod settings;
mod shaper;

pub use boot::{Broken, run};
pub use grounds::grounds;
