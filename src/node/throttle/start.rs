//! The throttle's thread: its start, its end, and what it needs to know of the node.

use core::hash::BuildHasher as _;
use std::fmt;
use std::hash::RandomState;
use std::io;
use std::sync::Arc;

use posthaste_core::shaping::limit::{LimitId, Registry, Shards};
use tokio::sync::mpsc;

use super::link::servers;
use super::notes::{Exchange, Noted, SharedNotes, WAITING_MAX};
use super::options::Options;
use super::pulse::Vitals;
use super::rounds::Rounds;
use super::scripts::Scripts;
use crate::rt::{OutsideThread, now};

/// What the throttle tells its node. One per node. Called on the throttle's thread; no call may block.
pub trait Node: Send + Sync + 'static {
    /// Permits or places of this limit came, or the loss of Redis: `Parking::handle_freed` on these
    /// shards.
    fn freed(&self, limit: LimitId, shards: Shards);
    /// A node said this, this one included; a note may come more than once.
    fn noted(&self, noted: Vec<Noted>);
    /// All notes of Redis were told; its memory has this name.
    fn joined(&self, epoch: &str);
    /// A line for the operator: once when Redis is lost, once when it is back.
    fn say(&self, line: &str);
}

/// Why there is no throttle.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("a Redis URL cannot be used: {0}")]
    Url(String),
    #[error("no thread for Redis: {0}")]
    Thread(#[from] io::Error),
}

/// What all tasks of the thread share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) registry: Arc<Registry>,
    pub(super) node: Arc<dyn Node>,
    pub(super) vitals: Vitals,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The running throttle. One per node. Ends when dropped: what it holds goes back to Redis, for one
/// second at most.
#[derive(Debug)]
pub struct Throttle {
    notes: SharedNotes,
    vitals: Vitals,
    _thread: OutsideThread,
}

impl Throttle {
    pub fn notes(&self) -> SharedNotes {
        self.notes.clone()
    }

    /// How it goes with Redis.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }
}

/// Starts the thread that keeps the shared limits of `registry` in step with other nodes. That Redis
/// is away is no reason not to start.
///
/// # Errors
/// [`Refused`].
pub fn start(
    options: Options,
    registry: Arc<Registry>,
    node: Arc<dyn Node>,
) -> Result<Throttle, Refused> {
    // Somebody else's choice stands: it is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match servers(&options) {
        Ok(servers) if servers.is_empty() => return Err(Refused::Url("none is given".into())),
        Ok(_) => {}
        Err(error) => return Err(Refused::Url(error.to_string())),
    }
    let vitals = Vitals::new(now());
    let shared = Arc::new(Shared {
        options,
        registry,
        node,
        vitals: vitals.clone(),
    });
    let scripts = Arc::new(Scripts::new());
    let (notes, waiting) = mpsc::channel(WAITING_MAX);
    let seed = RandomState::new().hash_one(&shared.options.node);
    let rounds = Rounds::new(Arc::clone(&shared), Arc::clone(&scripts), seed);
    let exchange = Exchange::new(shared, scripts, waiting);
    let thread = OutsideThread::start("throttle", |stopped| {
        let stopped_too = stopped.clone();
        Ok(async {
            tokio::join!(rounds.run(stopped), exchange.run(stopped_too));
        })
    })?;
    Ok(Throttle {
        notes: SharedNotes(notes),
        vitals,
        _thread: thread,
    })
}
