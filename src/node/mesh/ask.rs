//! Questions of an operator to a shard.

use core::fmt;
use std::sync::Arc;

use posthaste_core::dispatch::{
    Counters, DomainRow, Found, LaneRow, Order, SourceRow, Tally, Whose,
};
use posthaste_core::egress::SourceId;
use posthaste_core::shaping::Sites;
use posthaste_core::words::{Domain, MessageId, Plan, RouteError, SiteName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Domains with queued work of these, at most `limit`.
    Domains {
        limit: usize,
        whose: Whose,
    },
    /// Lanes with work or connections, at most `limit`.
    Lanes {
        limit: usize,
    },
    /// Queued work of one message.
    Message(MessageId),
    /// Make all work due, or that of one domain.
    Flush(Option<Domain>),
    /// An operator's order for the mail of these.
    Order {
        whose: Whose,
        order: Order,
    },
    Counters,
    /// The sites of these domains, by DNS.
    Sites(Vec<Domain>),
    /// How mail to the domain is routed, by DNS.
    Route(Domain),
    /// How sources stand with a site, which is that provider's.
    Standings {
        site: SiteName,
        provider: Box<str>,
    },
    /// Somebody complained of what the source sent to that provider. Shards tell each other.
    Complaint {
        source: SourceId,
        provider: Box<str>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Sites(Sites),
    Route(Result<Arc<Plan>, RouteError>),
    Domains(Vec<DomainRow>),
    Lanes(Vec<LaneRow>),
    Message(Vec<Found>),
    Flushed,
    Tally(Tally),
    Counters(Counters),
    Standings(Vec<SourceRow>),
    Complained,
}

/// A question and where its answer goes. A shard that ends drops it unanswered.
pub struct Ask {
    pub question: Question,
    pub reply: Box<dyn FnOnce(Answer) + Send>,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.question, f)
    }
}
