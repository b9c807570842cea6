//! What Posthaste does: sockets, disks and threads around the decisions of `posthaste-core`.

pub mod rt;

pub mod cli;
pub mod config;
pub mod dns;
