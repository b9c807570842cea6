//! The brain of one shard: lanes, connections, attempts and what follows from each outcome.
//!
//! An entry (one message, recipients of one domain) is in exactly one place at a time: waiting for
//! its due time, pending on its domain's route, ready in a lane, being loaded, or in flight.

mod agenda;
mod automaton;
mod brain;
mod cede;
mod company;
mod curb;
mod explain;
mod firing;
mod fleet;
mod flow;
mod flush;
mod gate;
mod hosts;
mod interface;
mod lane;
mod load;
mod order;
mod overview;
mod reception;
mod record;
mod serve;
mod settle;
mod siblings;
mod standing;
mod strands;
mod table;
mod terms;
#[cfg(test)]
mod tests;
mod verdict;

pub use automaton::{Act, Automaton, Step};
pub use brain::Dispatch;
pub use explain::{By, Explanation, HoursRow, LimitRow, OverrideRow, ValueRow, WindowRow};
pub use firing::{Deed, Firing, Mail, Undone};
pub use fleet::{Fleet, Keeping, LadderPlan, PoolId, PoolPlan};
pub use interface::{Action, Config, Pull, ReportKind, Reporter, Work};
pub use order::{Order, Tally};
pub use overview::{Counters, DomainRow, Found, LaneRow, PoolCounters, StrandRow, Whose};
pub use reception::Arrival;
pub use standing::{News, SourceRow, Suspension};
pub use terms::Shapes;
