//! `run`: a scenario ties providers, load and expectations together against any mail server on a host and port.

mod expect;
mod file;
mod flags;
mod load;
mod run;

pub use run::{Options, run};
