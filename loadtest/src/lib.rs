//! `posthaste-load` as a library: the parts of the load generator, the sink and the provider simulator. The binary's `main.rs` parses
//! the command line; tests and benchmarks use the simulator's brain from here.

mod address;
pub mod document;
pub mod idle;
mod measure;
mod net;
pub mod provider;
mod quantity;
pub mod report;
pub mod scenario;
pub mod sink;
pub mod source;
mod stop;
mod timer;
mod tls;
mod worker;
