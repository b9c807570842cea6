//! What a shard is made of, as it crosses into the shard's thread.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use posthaste_core::admission::Admission;
use posthaste_core::dispatch;
use posthaste_core::route::Policy;
use posthaste_core::words::{Domain, ShardId};

use super::DiskNote;
use crate::delivery::{Keeper, Memory, Sources};
use crate::dns;
use crate::intake::{Backlog, Doorway};
use crate::mesh::{Firings, Mesh, Note};
use crate::observe::{Aside, Meters};
use crate::rt::Inbox;
use crate::spool::Spool;

pub struct Parts {
    pub shard: ShardId,
    pub hostname: Domain,
    pub nodeid: Box<str>,
    pub doorways: Vec<Doorway>,
    pub admission: Arc<Admission>,
    pub spool: Spool,
    pub mesh: Mesh<DiskNote>,
    pub inbox: Inbox<Note<DiskNote>>,
    pub dispatch: dispatch::Config,
    pub shapes: Arc<dispatch::Shapes>,
    pub sources: Arc<Sources>,
    pub keeper: Arc<Keeper>,
    /// What was known of sources before the start.
    pub memory: Arc<Memory>,
    /// Told of what automation has to look at.
    pub firings: Arc<Firings>,
    pub dns: dns::Options,
    pub policy: Arc<Policy>,
    pub meters: Meters,
    pub aside: Aside,
    pub receiving_octets_max: usize,
    pub backlog: Arc<Backlog>,
    /// Two numbers that no other start of this node has.
    pub seeds: [u64; 2],
    /// Told once, when the shard's listeners accept; dropped untold when they cannot.
    pub opened: Sender<()>,
}
