//! `provider`: simulated mailbox providers. The brain decides (state, event, time → verdict) and knows no socket and no clock; `simulate`
//! drives it by a client model on one simulated clock, `serve` by real sockets.

mod allowance;
mod authentication;
#[cfg(test)]
mod bench;
mod brain;
mod class;
mod client;
mod complaint;
mod desk;
mod dialogue;
mod dislike;
#[cfg(test)]
mod format_tests;
mod judge;
mod key;
mod meter;
mod names;
mod options;
mod post;
mod postfix;
mod profile;
mod range;
mod read;
mod returned;
#[cfg(test)]
mod sender_tests;
mod serve;
mod shipped;
#[cfg(test)]
mod shipped_tests;
mod simulate;
mod source;
mod standing;
mod text;
mod truth;

pub use brain::{Brain, SessionId, Then, Verdict};
pub use class::Class;
pub use client::{Aimd, Client, Hint, Steady};
pub use options::{Command, run};
pub use postfix::{Feedback, Postfix};
pub use profile::Profile;
pub use range::Range;
pub use returned::{Event, EventKind};
pub use serve::{Account, Report, Serve, Serving};
pub use shipped::{SHIPPED, load};
pub use simulate::{Model, Outcome, Plan, simulate};
pub use text::Reply;
pub use truth::{Hidden, Truth};
