//! `sink`: a server that accepts mail, keeps none of it, and tells what was lost, doubled or late.

mod control;
mod desk;
pub(crate) mod ledger;
mod options;
mod report;
pub(crate) mod session;
mod stage;

pub use options::{Options, run};
