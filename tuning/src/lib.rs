//! What a host should be like to run Posthaste, and what this one is like. [`Host`] reads facts from
//! a tree of files, a [`Profile`] says as data what is wanted and why, [`judge`] holds the one
//! against the other, and a [`Report`] prints itself as a table, as JSON or as a shell script.
//! Nothing here changes a host, opens a socket or starts a program.

mod amount;
mod check;
mod finding;
mod host;
mod judge;
mod print;
mod profile;

pub use check::Check;
pub use finding::{Finding, Refusal, Report, Step, Verdict};
pub use host::{Host, Kind, Mount, Nic, Place, TimeWait};
pub use judge::{Latency, Measured, Reverse, Space, Wanted, judge};
pub use print::{Look, json, script, table};
pub use profile::{Misfit, Profile, Want};
