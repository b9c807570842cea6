//! Limits as machines: rates, connections, budgets leased from other nodes, what waits for them, and
//! who goes first. Meters are shared by all shards of a node without a lock; [`Parking`] and
//! [`Fair`] belong to one shard. None of them knows what a permit is for.

mod connections;
mod fair;
#[cfg(test)]
mod fair_tests;
mod gcra;
mod leased;
mod pace;
mod parking;
mod registry;
mod set;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;

pub use connections::{Connections, Places, Shards};
pub use fair::Fair;
pub use gcra::{Gcra, Reservation};
pub use leased::{Ask, Lease, Leased, Loss};
pub use pace::{Pace, PaceError};
pub use parking::{Full, Held, Parking, Woken};
pub use registry::{Consumed, Registry};
pub use set::{Freed, Limit, LimitId, Meter, Set, Tight};
