//! Mail out: pumps the client dialogue of `core/smtp` over a connection from an egress address,
//! and tells the shard's brain what became of it.

mod brain;
mod connection;
mod keeper;
mod roster;
mod sources;
mod way;

pub use brain::Brain;
pub use connection::Delivery;
pub use keeper::{AsideMeters, Keeper, Memory};
pub use roster::{Roster, Seat, SourceState};
pub use sources::{Outlet, Sources};
