//! What Posthaste does: sockets, disks and threads around the decisions of `posthaste-core`.

pub mod rt;

pub mod dns;
pub mod mesh;
pub mod net;
pub mod observe;
pub mod spool;
pub mod throttle;

pub mod delivery;
pub mod intake;
pub mod report;
pub mod shaping;

pub mod config;

pub mod cli;
pub mod control;
pub mod shard;

pub mod server;
