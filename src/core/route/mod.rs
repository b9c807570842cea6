//! Where mail goes: from DNS answers to an ordered plan of hosts. Never sends a query itself.

mod answer;
mod policy;
mod prohibited;
mod resolution;
mod site_name;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Data, Exchange, Query, RecordType, Status};
pub use policy::{Families, HopHost, NextHop, NextHopError, Policy, Routes};
pub use prohibited::is_prohibited;
pub use resolution::{Action, Resolution, Routed};
pub use site_name::site_name;
