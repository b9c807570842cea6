//! From where mail goes: sources, pools of them, their health at each provider, their reputation,
//! their warm-up. Decides which source is next; never opens a socket, and never looks for another
//! source because of what a message says or whose it is.

mod blame;
mod health;
mod hours;
mod pool;
pub mod proxy;
mod reputation;
#[cfg(test)]
mod sim_tests;
mod source;
#[cfg(test)]
mod tests;
mod warmup;
mod wheel;

pub use blame::{Blame, Fault};
pub use health::{AsideState, FaultName, Health, HealthRules, HealthState, Standing};
pub use hours::{Days, Hours};
pub use pool::{Advice, Choice, Member, Pool, PoolError, Query, Selection, SteppedAside};
pub use reputation::{Event, Reputation, ReputationRules, Score, Tally, TallyState};
pub use source::{Proxy, Source, SourceId};
pub use warmup::{Ladder, LadderError, Progress, Warmup, WarmupState};
