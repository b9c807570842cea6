//! What is asked of the spool. One batch of changes happens as a whole or not at all.

use std::sync::Arc;

use super::{Domain, Labels, Message, MessageId, Moment};

/// The durable state of one recipient that has been tried and is not settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientState {
    /// Attempts made so far.
    pub attempts: u16,
    /// When the next attempt is due.
    pub due: Moment,
    /// The last outcome in one line, for operators and for the report of expiry.
    pub last: Box<str>,
}

/// One durable change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new message, all its recipients unsettled, due at once.
    Store(Arc<Message>),
    /// A recipient was tried and deferred.
    Defer {
        id: MessageId,
        recipient: u16,
        state: RecipientState,
    },
    /// A recipient needs no more attempts. `of` is the message's number of recipients: when all of
    /// them are settled, the message is gone from the spool. `deferred_before` says that a `Defer`
    /// was written for this recipient.
    Settle {
        id: MessageId,
        recipient: u16,
        of: u16,
        deferred_before: bool,
    },
    /// A delivery record: one rendered JSON line without its line end.
    Append(Box<[u8]>),
}

/// One unsettled recipient of a recovered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredRecipient {
    pub recipient: u16,
    pub domain: Domain,
    /// Zero if it was never tried.
    pub attempts: u16,
    /// When it is due; the reception for one never tried.
    pub due: Moment,
    /// Its last outcome in one line; empty if it was never tried.
    pub last: Box<str>,
}

/// What recovery tells of one message: enough to queue it, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub id: MessageId,
    pub received: Moment,
    /// Recipients in the envelope, settled ones included.
    pub of: u16,
    pub labels: Labels,
    pub unsettled: Vec<RecoveredRecipient>,
}
