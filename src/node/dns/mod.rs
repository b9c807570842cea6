//! The DNS as mail routing sees it: a stub resolver with a cache, one per shard. Decides no route;
//! that is `posthaste_core::route`.

mod asking;
mod cache;
mod client;
mod flight;
mod message;
mod resolv_conf;
mod resolver;
mod sites;

pub use client::{Options, RESOLVERS_MAX};
pub use message::{BadReply, build_query, exercise, parse_answer};
pub use resolv_conf::{ResolvConf, parse_resolv_conf};
pub use resolver::Resolver;
pub use sites::find_sites;
