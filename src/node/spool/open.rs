//! From a directory to a running spool: open, recover, start, stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};
use posthaste_core::words::Recovered;

use super::committer::{Committer, Parts};
use super::counts::Counts;
use super::events::{Event, Events, read_cursor};
use super::handle::{Answers, Completion, Errand, Order, Shared, Spool};
use super::memory::MemoryDisk;
use super::reader;
use super::recovery::{self, Recovery};
use super::rocks::Rocks;
use super::store::{Store, StoreError, Table};

/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;
/// The format's key in the meta table; its value is a u32, big-endian.
pub(super) const FORMAT_KEY: &[u8] = b"format";
/// Loads that may wait for the reader.
const ERRANDS_MAX: usize = 4096;
/// Commits whose events may wait for the log before it must read rows.
const EVENT_GROUPS_MAX: usize = 64;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The disk's sync: survives a power cut.
    #[default]
    Commit,
    /// The operating system's memory: survives the death of the process, not of the machine.
    Relaxed,
}

/// How a spool is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory of its own; made if it is missing.
    pub path: PathBuf,
    pub durability: Durability,
    /// With less free on the disk no message is accepted, so that those here can be settled. 0 is
    /// no floor.
    pub free_octets_min: u64,
    /// Memory for rows that are not in files yet. Best several times what is received in the time a
    /// message lives.
    pub memtable_octets_max: u64,
    /// Written to files each second at most, so that syncs of the log come between.
    pub flush_octets_per_s: u64,
    pub shards: u16,
    /// Batches that may wait for the committer, and as many again while the disk is full.
    pub batches_max: usize,
}

impl Options {
    /// At `path`, for `shards`, everything else as it is by default.
    pub fn new(path: &Path, shards: u16) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Commit,
            free_octets_min: 1 << 30,
            memtable_octets_max: 256 << 20,
            flush_octets_per_s: 200 << 20,
            shards,
            batches_max: 8192,
        }
    }
}

/// Why a spool cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{} is in use by another process: stop the other server, or give this one a spool of its own",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "the spool has format {found}, and this version reads up to {known}: start the version that \
         wrote it, or a newer one"
    )]
    TooNew { found: u32, known: u32 },
    #[error(
        "{} holds {found}, which is not a spool's: name an empty directory, or a spool",
        path.display()
    )]
    NotASpool { path: PathBuf, found: Box<str> },
    #[error("{}: {detail}: see to the disk and its permissions, then start again", path.display())]
    Io { path: PathBuf, detail: Box<str> },
    #[error(
        "the spool {} is damaged: {detail}: copy the directory before anything else, then restore it \
         from a backup or set it aside and start with an empty one",
        path.display()
    )]
    Corrupt { path: PathBuf, detail: Box<str> },
}

/// A spool that is open and does not run yet.
pub struct Opened {
    options: Options,
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    orders: (Sender<Order>, Receiver<Order>),
    errands: (Sender<Errand>, Receiver<Errand>),
    counts: Counts,
    /// The durable event cursor.
    passed: u64,
}

/// Opens the spool in `options.path`, or makes one.
///
/// # Errors
/// See [`OpenError`]; nothing is changed on the disk then.
pub fn open(options: Options) -> Result<Opened, OpenError> {
    let store = Rocks::open(&options)?;
    open_store(options, Arc::new(store))
}

/// Opens a spool on a disk in memory; `options.path` is only its name.
///
/// # Errors
/// [`OpenError::Locked`] while another spool is open on it, [`OpenError::TooNew`] and
/// [`OpenError::NotASpool`] as on a real one.
pub fn open_in_memory(options: Options, disk: &MemoryDisk) -> Result<Opened, OpenError> {
    let Some(store) = disk.lock() else {
        return Err(OpenError::Locked { path: options.path });
    };
    open_store(options, Arc::new(store))
}

fn open_store(options: Options, store: Arc<dyn Store>) -> Result<Opened, OpenError> {
    let io = |error: StoreError| read_error(&options.path, &error);
    check_format(&store, &options.path)?;
    let passed = read_cursor(&*store).map_err(io)?;
    let key = store.last_key(Table::Events).map_err(io)?;
    let last = key.and_then(|key| key.as_ref().try_into().ok());
    let last = last.map_or(0, u64::from_be_bytes).max(passed);
    Ok(Opened {
        shared: Arc::new(Shared::new(options.shards, passed, last)),
        orders: channel::bounded(options.batches_max.max(1)),
        errands: channel::bounded(ERRANDS_MAX),
        counts: Counts::default(),
        options,
        store,
        passed,
    })
}

fn read_error(path: &Path, error: &StoreError) -> OpenError {
    let detail: Box<str> = error.to_string().into();
    let path = path.into();
    if detail.starts_with("Corruption") {
        OpenError::Corrupt { path, detail }
    } else {
        OpenError::Io { path, detail }
    }
}

/// Writes the format into a spool that is new.
fn check_format(store: &Arc<dyn Store>, path: &Path) -> Result<(), OpenError> {
    let io = |error: StoreError| read_error(path, &error);
    let Some(value) = store.get(Table::Meta, FORMAT_KEY).map_err(io)? else {
        for table in Table::ALL {
            if store.last_key(table).map_err(io)?.is_some() {
                return Err(OpenError::NotASpool {
                    path: path.into(),
                    found: format!("rows in `{}` without a format", table.name()).into(),
                });
            }
        }
        let mut rows = Arc::clone(store).rows();
        rows.put(Table::Meta, FORMAT_KEY, &FORMAT.to_be_bytes());
        return rows.write(true).map_err(io);
    };
    match value.as_ref().try_into().map(u32::from_be_bytes) {
        Ok(found) if found > FORMAT => Err(OpenError::TooNew {
            found,
            known: FORMAT,
        }),
        Ok(_) => Ok(()),
        Err(_) => Err(OpenError::Corrupt {
            path: path.into(),
            detail: "its format is not a number".into(),
        }),
    }
}

impl Opened {
    /// A handle. Batches and loads may be queued at once; they are answered after [`Opened::start`].
    pub fn spool(&self) -> Spool {
        Spool {
            orders: self.orders.0.clone(),
            errands: self.errands.0.clone(),
            shared: Arc::clone(&self.shared),
            store: Arc::downgrade(&self.store),
        }
    }

    /// Tells of each message that is in the spool, in the order of reception, without its body. To
    /// be called once, before the start: without it old messages stay, and nobody knows of them.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] or [`OpenError::Io`] when the disk cannot be read on. Single rows that
    /// make no sense are no error: see [`Recovery::unreadable`].
    pub fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<Recovery, OpenError> {
        recovery::recover(&*self.store, &mut self.counts, each)
            .map_err(|error| read_error(&self.options.path, &error))
    }

    /// Starts the threads. `completions` are those of the shards, by number.
    ///
    /// # Panics
    /// If there is not one completion for each shard, or the system has no thread to give.
    pub fn start(self, completions: Vec<Arc<dyn Completion>>) -> (Running, Events) {
        assert_eq!(
            completions.len(),
            usize::from(self.options.shards),
            "one completion for each shard"
        );
        let (sender, receiver) = channel::bounded::<Vec<Event>>(EVENT_GROUPS_MAX);
        let found = self.shared.last_event.load(Ordering::Acquire);
        let events = Events::new(
            Arc::clone(&self.store),
            Arc::clone(&self.shared),
            receiver,
            self.passed,
            found,
        );
        let spool = self.spool();
        let committer = Committer::new(Parts {
            orders: self.orders.1,
            shared: self.shared,
            store: Arc::clone(&self.store),
            sync: self.options.durability == Durability::Commit,
            free_octets_min: self.options.free_octets_min,
            kept_max: self.options.batches_max.max(1),
            counts: self.counts,
            answers: Answers::new(completions.clone()),
            events: sender,
            passed: self.passed,
        });
        let (store, errands) = (self.store, self.errands.1);
        let read = move || reader::run(&*store, &errands, Answers::new(completions));
        let running = Running {
            threads: vec![
                spawn("spool-commit", move || committer.run()),
                spawn("spool-read", read),
            ],
            spool,
        };
        (running, events)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = thread::Builder::new().name(name.into()).spawn(run);
    thread.expect("the system gives a thread at start")
}

/// The running threads of a spool. Dropping it stops them as [`Running::stop`] does.
pub struct Running {
    threads: Vec<JoinHandle<()>>,
    spool: Spool,
}

impl Running {
    /// Commits what is queued, syncs, and ends the threads. A full disk is waited for only shortly;
    /// what it still keeps out is answered with [`Failed::Full`](super::Failed::Full). Blocks.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.spool.shared.stopping.store(true, Ordering::Release);
        // A thread that is gone already needs no word.
        let _ = self.spool.orders.send(Order::Stop);
        let _ = self.spool.errands.send(Errand::Stop);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the spool's threads do not panic");
            }
        }
    }
}
