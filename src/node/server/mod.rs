//! The node: opens what the configuration names, starts the shards, waits for the end. One per
//! process.

mod autopilot;
mod boot;
mod cluster;
mod console;
mod egress;
mod grounds;
mod hold;
mod kept;
mod log;
mod notes;
mod plan;
mod settings;
mod shaper;

pub use boot::{Broken, run};
pub use grounds::grounds;
