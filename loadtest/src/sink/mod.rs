//! `sink`: a server that accepts mail, keeps none of it, and tells what was lost, doubled or late.

mod control;
mod ledger;
mod options;
mod report;
mod session;
mod stage;
mod worker;

pub(crate) use options::{Options, run};
