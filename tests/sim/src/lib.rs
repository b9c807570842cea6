//! Simulates many shards on one clock: real brains and real client dialogues against a model of the
//! spool and of peers. A seed decides everything, so a run that fails can be run again.
//!
//! Environment of the tests: `SIM_SEEDS` says how many seeds, `SIM_SEED` names the one to run.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod contended;
mod fleets;
#[cfg(test)]
mod hour;
mod ledger;
mod peer;
mod postmaster;
mod rng;
mod rules;
mod sites;
mod spool;
mod wires;
mod world;

#[cfg(test)]
mod tests;

pub use world::{Summary, run};

/// The model of the spool and what it needs, to be held to the real one.
pub mod model {
    pub use crate::ledger::Ledger;
    pub use crate::rng::Rng;
    pub use crate::spool::{Batch, From, Spool};
}
