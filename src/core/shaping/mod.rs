//! Shaping: what files say about how fast, how many and how mail may go to a site. Reads KumoMTA's
//! vocabulary and our own, lays files over each other, answers what holds for a path at a moment and
//! where that was written. Opens no file and asks no DNS: texts and sites are given to it.

mod applied;
mod block;
mod effective;
mod fault;
mod file;
mod hours;
mod index;
mod key;
mod keys;
mod label_index;
mod labels;
pub mod limit;
mod lint;
mod manner;
mod overrides;
mod params;
mod path;
mod pattern;
mod print;
mod queue_name;
mod rate;
mod read;
mod reader;
mod rule;
mod shipped;
mod span;
mod suffix;
mod value;

#[cfg(test)]
mod tests;

pub use applied::{Amount, Limit, LimitKey, Limited, Scope};
pub use effective::{Effective, Party, Row, Suspension, Window};
pub use fault::{Fault, Place, Wrong};
pub use file::File;
pub use hours::{State, Zone};
pub use index::{Found, Shaping, SiteFacts, Sites, ToFind, UNSPECIFIED_SOURCE};
pub use keys::{KEYS, Key, KeyRow, Kind, Support};
pub use labels::{Label, LabelRules, Labels, Submission};
pub use lint::{Known, Lint};
pub use manner::Manner;
pub use overrides::{NotSet, OVERRIDES_MAX, Override, Overrides, TargetKind, Wish, WishPlace};
pub use params::OverlayAt;
pub use path::{IpLookup, Path, Reconnect, Tls, Waits};
pub use pattern::Pattern;
pub use print::{print_default, print_readme, print_schema};
pub use queue_name::{NoQueue, QueueName};
pub use rate::{Cap, Rate};
pub use reader::Note;
pub use rule::{Action, Blame, Mode, Rule, RuleOf, Trigger};
pub use shipped::shipped;
pub use value::{Layer, Pacing, PacingMode, Setting, Value};
