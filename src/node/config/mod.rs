//! The configuration: embedded defaults, a TOML file, flags and secrets from the environment,
//! checked once. Holding a [`Config`] means it was checked. Nothing here opens a socket or a spool.

mod check;
mod dns;
mod egress;
mod fault;
mod knobs;
mod pool;
mod print;
mod routes;
mod shaping;
mod source;
mod types;
mod value;

pub use check::{Override, Settings, check};
pub use fault::{Fault, Hint, Place, Wrong};
pub use knobs::{KNOBS, Kind, Knob};
pub use pool::POOL_DEFAULT;
pub use print::{print_defaults, print_reference};
pub use source::Given;
pub use types::{
    Config, Delivery, Dns, Durability, EightBit, Http, LineEnds, Listener, Log, NextHop, Node,
    Pool, PoolMember, Redis, RedisKind, RedisLoss, Route, Secret, Shaping, Shards, Smtp, Spool,
    Timeouts, Warmup,
};

/// `90m`, `1h30m`, `250ms`: as the configuration writes times.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    value::duration(text)
}
