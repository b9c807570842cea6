//! What the shards hold of the spool: a handle to submit batches and to ask for messages, and the
//! words of the answers. Nothing here blocks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use posthaste_core::words::{Change, Committed, Message, MessageId, ShardId};

use super::store::Store;

/// Between two looks at the cursor on the disk.
const CURSOR_PAUSE: Duration = Duration::from_millis(1);

/// Changes that happen as a whole or not at all. With [`Failed::Full`] none of them has happened:
/// a batch that settles one message and stores another has to be submitted again.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Who is told.
    pub shard: ShardId,
    /// Given back with the answer. `None`: nobody waits for one, so the batch is kept and tried
    /// again while the disk is full, even if it stores a message.
    pub token: Option<u64>,
    pub changes: Vec<Change>,
}

impl Batch {
    /// Whether this asks for a message to be stored, and somebody can be told that it cannot be.
    pub(super) fn is_refusable(&self) -> bool {
        let stores = |change: &Change| matches!(change, Change::Store(_));
        self.token.is_some() && self.changes.iter().any(stores)
    }

    /// Messages stored, and the octets of their data and of all records.
    pub(super) fn weight(&self) -> (usize, usize) {
        let weights = self.changes.iter().map(|change| match change {
            Change::Store(message) => (1, message.size()),
            Change::Append(line) => (0, line.len()),
            Change::Defer { .. } | Change::Settle { .. } => (0, 0),
        });
        weights.fold((0, 0), |(count, sum), (stored, size)| {
            (count + stored, sum + size)
        })
    }
}

/// Who waits for the answer to a batch, as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client's session, by its place.
    Session(u32),
    /// A report of the brain, by its token.
    Report(u32),
    /// So many outcomes of the brain.
    Outcomes(u32),
}

impl Asker {
    pub fn token(self) -> u64 {
        let (kind, number) = match self {
            Self::Session(place) => (0, place),
            Self::Report(token) => (1, token),
            Self::Outcomes(count) => (2, count),
        };
        kind << 32 | u64::from(number)
    }

    /// Of a token made by [`Asker::token`].
    pub fn of(token: u64) -> Self {
        let number = token as u32;
        match token >> 32 {
            0 => Self::Session(number),
            1 => Self::Report(number),
            _ => Self::Outcomes(number),
        }
    }
}

/// Why a batch did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Answer 452 and go on delivering: intake goes on by itself when there is space again.
    #[error("the spool's disk is full")]
    Full,
    /// Accept nothing more until a restart. Whether the batch is durable is not known.
    #[error("the spool's disk failed, and nothing more is written to it")]
    Poisoned,
}

/// How the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Messages are refused with [`Failed::Full`]; all else is kept until it can be written.
    Full,
    /// Nothing is written any more; messages can still be loaded.
    Poisoned,
}

/// What became of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    Message(Arc<Message>),
    /// The answer to a recall: with it the last outcomes of recipients that were deferred.
    Recalled(Arc<Message>, Vec<(u16, Box<str>)>),
    /// There is no such message: its last settle may have overtaken the question.
    Gone,
    /// It is there and cannot be read.
    Unreadable,
}

/// Where a shard hears the answers. Called from the spool's threads, so it must be quick and must
/// not block.
pub trait Completion: Send + Sync {
    /// The answer to a batch with a token, in the order of submission.
    fn committed(&self, token: u64, result: Result<Committed, Failed>);

    /// The answer to [`Spool::load`] and [`Spool::recall`].
    fn loaded(&self, id: MessageId, loaded: Loaded);

    /// Once after the completions of each commit or read that had any for this shard.
    fn flush(&self);
}

pub(super) enum Order {
    Batch(Batch),
    /// The cursor has moved: write it soon.
    Cursor,
    Stop,
}

pub(super) enum Errand {
    Load(ShardId, MessageId),
    /// With the last outcomes of its recipients.
    Recall(ShardId, MessageId),
    Stop,
}

/// The handle of a spool. Clones share everything; one or more per shard.
#[derive(Clone)]
pub struct Spool {
    pub(super) orders: Sender<Order>,
    pub(super) errands: Sender<Errand>,
    pub(super) shared: Arc<Shared>,
    /// For what it counts; a handle does not keep a spool open.
    pub(super) store: Weak<dyn Store>,
}

impl Spool {
    /// Queues a batch; what was submitted by one thread is committed in that order.
    ///
    /// # Errors
    /// Gives the batch back when the queue is full or the spool has stopped.
    ///
    /// # Panics
    /// If the spool was not opened for this shard.
    pub fn submit(&self, batch: Batch) -> Result<(), Batch> {
        assert!(batch.shard.0 < self.shared.shards, "no such shard");
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(batch);
        }
        match self.orders.try_send(Order::Batch(batch)) {
            Ok(()) => Ok(()),
            Err(refused) => match refused.into_inner() {
                Order::Batch(batch) => Err(batch),
                Order::Cursor | Order::Stop => Ok(()),
            },
        }
    }

    /// Asks for a message; the answer comes through [`Completion::loaded`]. False when the reader's
    /// queue is full or the spool has stopped: ask again.
    ///
    /// # Panics
    /// If the spool was not opened for this shard.
    pub fn load(&self, shard: ShardId, id: MessageId) -> bool {
        self.send(shard, Errand::Load(shard, id))
    }

    /// As [`Spool::load`], for a message and the last outcomes of its recipients.
    ///
    /// # Panics
    /// If the spool was not opened for this shard.
    pub fn recall(&self, shard: ShardId, id: MessageId) -> bool {
        self.send(shard, Errand::Recall(shard, id))
    }

    fn send(&self, shard: ShardId, errand: Errand) -> bool {
        assert!(shard.0 < self.shared.shards, "no such shard");
        self.errands.try_send(errand).is_ok()
    }

    /// Events up to and including `passed` are written elsewhere: their rows are dropped, and the
    /// cursor is made durable, with some later batch. The latest call wins.
    pub fn log_cursor(&self, passed: u64) {
        self.shared.passed.store(passed, Ordering::Release);
        // A queue that is full is one that makes a commit soon.
        let _ = self.orders.try_send(Order::Cursor);
    }

    /// Waits until the event cursor has reached `sequence` on the disk, no longer than `patience`.
    /// Whether it has. Blocks.
    pub fn wait_for_cursor(&self, sequence: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.shared.cursor.load(Ordering::Acquire) < sequence {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(CURSOR_PAUSE);
        }
        true
    }

    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// How it stands, for metrics.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        let last = shared.last_event.load(Ordering::Relaxed);
        let free = shared.free_octets.load(Ordering::Relaxed);
        Figures {
            commits: shared.commits.load(Ordering::Relaxed),
            free_octets: (free != u64::MAX).then_some(free),
            events_waiting: last.saturating_sub(shared.passed.load(Ordering::Relaxed)),
            held_octets: self.store.upgrade().map_or(0, |store| store.held_octets()),
        }
    }

    /// What poisoned the spool, in the disk's own words.
    pub fn fault(&self) -> Option<&str> {
        self.shared.fault.get().map(AsRef::as_ref)
    }
}

/// What handles and threads of one spool see of each other.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) shards: u16,
    health: AtomicU8,
    pub(super) fault: OnceLock<Box<str>>,
    /// The last event that was written elsewhere.
    pub(super) passed: AtomicU64,
    /// As [`Shared::passed`], on the disk.
    pub(super) cursor: AtomicU64,
    /// The last event that is in the store.
    pub(super) last_event: AtomicU64,
    pub(super) stopping: AtomicBool,
    /// Batches written.
    pub(super) commits: AtomicU64,
    /// All ones when it is not known.
    free_octets: AtomicU64,
}

/// What a spool counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Batches written since the start.
    pub commits: u64,
    /// Free on its disk, when it was last looked at.
    pub free_octets: Option<u64>,
    /// Events that are not known to be written elsewhere.
    pub events_waiting: u64,
    /// Memory of the store itself: rows that are in no file yet, and what it keeps of its files.
    pub held_octets: u64,
}

impl Shared {
    pub(super) const fn new(shards: u16, passed: u64, last_event: u64) -> Self {
        Self {
            shards,
            health: AtomicU8::new(Health::Good as u8),
            fault: OnceLock::new(),
            passed: AtomicU64::new(passed),
            cursor: AtomicU64::new(passed),
            last_event: AtomicU64::new(last_event),
            stopping: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            free_octets: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn tell_free(&self, octets: Option<u64>) {
        let octets = octets.unwrap_or(u64::MAX);
        self.free_octets.store(octets, Ordering::Relaxed);
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            health if health == Health::Good as u8 => Health::Good,
            health if health == Health::Full as u8 => Health::Full,
            _ => Health::Poisoned,
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the committer answers what it has written and synced"
)]
const fn witnessed() -> Committed {
    Committed::witnessed()
}

/// The shards' ears, and which of them have heard something since the last flush.
pub(super) struct Answers {
    completions: Vec<Arc<dyn Completion>>,
    touched: Vec<bool>,
}

impl Answers {
    pub(super) fn new(completions: Vec<Arc<dyn Completion>>) -> Self {
        Self {
            touched: vec![false; completions.len()],
            completions,
        }
    }

    pub(super) fn answer(&mut self, batch: &Batch, result: Result<(), Failed>) {
        let Some(token) = batch.token else { return };
        self.touched[usize::from(batch.shard.0)] = true;
        self.completions[usize::from(batch.shard.0)].committed(token, result.map(|()| witnessed()));
    }

    pub(super) fn loaded(&mut self, shard: ShardId, id: MessageId, loaded: Loaded) {
        self.touched[usize::from(shard.0)] = true;
        self.completions[usize::from(shard.0)].loaded(id, loaded);
    }

    pub(super) fn flush(&mut self) {
        for (touched, completion) in self.touched.iter_mut().zip(&self.completions) {
            if core::mem::take(touched) {
                completion.flush();
            }
        }
    }
}
