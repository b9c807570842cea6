//! The HTTP endpoint: health, metrics and what an operator may ask. It runs on a thread of its own
//! named `sidecar` and asks the shards by notes; no shard ever waits for it.

mod desk;
mod door;
mod egress;
#[cfg(test)]
mod egress_tests;
mod guard;
mod order;
mod serve;
mod shaping;
#[cfg(test)]
mod tests;
mod view;

pub use serve::{Control, Node, Options, bind, start};
pub use shaping::Target;
