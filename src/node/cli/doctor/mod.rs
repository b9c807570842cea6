//! `posthaste doctor`: tries out what no file tells (the disk's sync, the resolvers, the names of the
//! egress addresses) and has `posthaste-tuning` judge it. It never changes the host.

mod command;
mod disk;
mod names;

pub(super) use command::DoctorArgs;
pub use command::{Doctor, Grounds};
