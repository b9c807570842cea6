//! The nouns everything else is said in. No decisions live here, only what each noun may hold.

mod address;
mod change;
mod committed;
mod envelope;
mod id;
mod json;
mod labels;
mod message;
mod moment;
mod nearest;
mod network;
mod outcome;
mod record;
mod reply;
mod site;

pub use address::{Address, AddressError, Domain};
pub use change::{Change, RecipientState, Recovered, RecoveredRecipient};
pub use committed::Committed;
pub use envelope::{BodyKind, Envelope, Notify, Recipient, Ret};
pub use id::{ConnectionId, IdSequence, MessageId, NotAnId, SessionId, ShardId};
pub use labels::Labels;
pub use message::{Content, Message, Reception};
pub use moment::Moment;
pub use nearest::nearest;
pub use network::{Network, NotANetwork};
pub use outcome::{Cause, Outcome, Stage};
pub use record::{EnhancedCode, Headers, PeerAddress, Record, RecordKind, Response};
pub use reply::{Enhanced, Reply};
pub use site::{Host, Plan, RouteError, SiteName};
