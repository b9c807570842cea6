//! What the brain is told and what it asks for.

use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use super::firing::Firing;
use super::fleet::{Fleet, PoolId};
use super::standing::News;
use crate::egress::SourceId;
use crate::mail::Noted;
use crate::queue::Schedule;
use crate::shaping::Manner;
use crate::shaping::limit::{LimitId, Shards};
use crate::words::{
    Change, ConnectionId, Domain, Labels, Message, MessageId, Moment, Outcome, Plan, ShardId,
};

/// What an operator may set; the same on all shards of a node but for `shard`.
#[derive(Clone, Debug)]
pub struct Config {
    pub schedule: Schedule,
    /// Pauses of a lane after its nth failed connect in a row, and of a domain without route.
    pub connect_backoff: Schedule,
    /// Message data that queued work of this shard may keep in memory.
    pub held_octets_max: usize,
    /// Of one domain that are one piece of work; a transaction has no more.
    pub recipients_per_entry_max: usize,
    /// Outcomes of this shard on their way to the disk, beyond which no transaction begins: a crash
    /// would make each of them a second time. At least one.
    pub unsynced_max: usize,
    /// The sender is told of a delay once a message is this old.
    pub warn_after: Option<Duration>,
    /// Named in delivery records.
    pub nodeid: Box<str>,
    /// Told by delivery records.
    pub noted: Noted,
    pub shard: ShardId,
    /// At least one.
    pub shards: u16,
    /// As whom mail may leave.
    pub fleet: Arc<Fleet>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            connect_backoff: Schedule::exponential(
                Duration::from_secs(30),
                Duration::from_secs(1800),
                Duration::MAX,
            ),
            held_octets_max: 256 << 20,
            recipients_per_entry_max: 1000,
            unsynced_max: 128,
            warn_after: None,
            nodeid: "".into(),
            noted: Noted::default(),
            shard: ShardId(0),
            shards: 1,
            fleet: Arc::default(),
        }
    }
}

/// Why a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    Failed,
    Delayed,
    /// Handed to a peer that will not tell of the delivery (RFC 3461 §5.2.2).
    Relayed,
}

/// Writes delivery status notifications.
pub trait Reporter {
    /// `None` when nobody is to be told: null sender, or NOTIFY forbids. `peer` names the host the
    /// outcomes come from, if any.
    fn report(
        &self,
        kind: ReportKind,
        original: &Arc<Message>,
        outcomes: &[(u16, Outcome)],
        peer: Option<&str>,
        id: MessageId,
        now: Moment,
    ) -> Option<Message>;
}

/// An entry on its way to the shard where its lane lives.
#[derive(Clone, Debug)]
pub struct Work {
    pub id: MessageId,
    pub of: u16,
    pub attempts: u16,
    pub warned: bool,
    pub counted: u8,
    pub labels: Labels,
    pub domain: Domain,
    pub recipients: Box<[u16]>,
    pub message: Option<Arc<Message>>,
    /// Of the message's data, as far as known; else zero.
    pub octets: u32,
    pub plan: Arc<Plan>,
    /// Chosen already, from that pool.
    pub source: Option<(PoolId, SourceId)>,
}

/// Answer to a connection that wants a transaction.
#[derive(Clone, Debug)]
pub enum Pull {
    Work {
        message: Arc<Message>,
        recipients: SmallVec<[u16; 1]>,
        seq: u64,
    },
    /// Nothing now; [`Action::Wake`] follows when there is.
    Wait,
    Quit,
}

/// What the brain asks of its node.
#[derive(Clone, Debug)]
pub enum Action {
    Resolve(Domain),
    Connect {
        connection: ConnectionId,
        plan: Arc<Plan>,
        /// Which of the plan's hosts to try, one after the other; each that is of no use is told to
        /// [`Dispatch::handle_unusable`](super::Dispatch::handle_unusable). May be empty.
        order: Vec<usize>,
        manner: Arc<Manner>,
        /// From this source alone; `None` where there is nothing to choose.
        source: Option<SourceId>,
    },
    /// For [`Dispatch::handle_freed`](super::Dispatch::handle_freed) of these shards; this one knows.
    Freed {
        limit: LimitId,
        shards: Shards,
    },
    /// For [`Dispatch::handle_news`](super::Dispatch::handle_news) of all other shards, and for
    /// whoever keeps it over a restart.
    Tell(Arc<News>),
    /// A rule matched: for the node's [`Automaton`](super::Automaton).
    Fire(Box<Firing>),
    /// Pull again.
    Wake(ConnectionId),
    /// Answered by `handle_loaded` or `handle_gone`.
    Load(MessageId),
    /// The same, with the last outcomes of its recipients as the spool has them. Answered by
    /// `handle_recalled` or `handle_gone`.
    Recall(MessageId),
    /// Outcomes to be made durable. Answered by `handle_settled`, whether that was done or not.
    Settle(Vec<Change>),
    /// A report and what it tells of, all or nothing. Answered by `handle_stored`.
    Store {
        changes: Vec<Change>,
        token: u32,
    },
    Forward {
        to: ShardId,
        work: Work,
    },
    /// End it when nothing is under way on it; one that does not stand yet is given up. Answered by
    /// `handle_closed`.
    Quit(ConnectionId),
}
