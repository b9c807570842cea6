//! The store on RocksDB. Its options come from measurement: bodies live seconds, so memtables hold
//! several times rate × lifetime and a body that was delivered never reaches a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, ErrorKind, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::open::OpenError;
use super::quota::{self, FileSystem};
use super::store::{Cursor, Rows, Store, StoreError, Table};

/// The log before this is dropped once everything in it is in files too. A small one would force
/// bodies into files before their delete arrives.
const WAL_OCTETS_MIN: u64 = 1 << 30;
/// Memtables that are full and not in files yet.
const WAITING_MEMTABLES: &str = "rocksdb.num-immutable-mem-table";
/// What a table holds in memory of its own; the cache of blocks is one for all tables.
const HELD: &[&str] = &[
    "rocksdb.cur-size-all-mem-tables",
    "rocksdb.estimate-table-readers-mem",
];
const HELD_BY_CACHE: &str = "rocksdb.block-cache-usage";
const WRITE_STOPPED: &str = "rocksdb.is-write-stopped";
/// Between two looks whether a write may go on.
const STALL_PAUSE: Duration = Duration::from_millis(1);
/// Envelopes and states that were read from files.
const CACHE_OCTETS: usize = 32 << 20;
const READAHEAD_OCTETS: usize = 2 << 20;
/// Smaller bodies stay in the tables' own files.
const BLOB_OCTETS_MIN: u64 = 1024;
const BLOB_FILE_OCTETS: u64 = 256 << 20;
const OPEN_FILES_MAX: i32 = 1024;
const MEMTABLE_OCTETS_MIN: usize = 64 << 10;
/// What a batch keeps of the last one's size, so that it need not grow again.
const BATCH_OCTETS_KEPT: usize = 2 << 20;
/// How often a disk that was full is tried, with how much, and in which file: one that a start cut short
/// at that moment, and RocksDB itself, take for no stranger.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TRIAL_OCTETS: usize = 1 << 20;
const TRIAL_FILE: &str = "trial.dbtmp";
/// How often a flush gets its share of the rate: short beside a sync.
const FLUSH_REFILL_MICROS: i64 = 10_000;
/// Merges get one turn in so many, however much there is to flush.
const FLUSH_FAIRNESS: i32 = 10;
/// Files that may lie in a directory where a first start was cut short.
const FIRST_FILES: &[&str] = &[
    "LOCK",
    "LOG",
    "IDENTITY",
    "MANIFEST-",
    "OPTIONS-",
    "lost+found",
];

pub(super) struct Rocks {
    db: DB,
    path: PathBuf,
    place: FileSystem,
    /// When room was last looked for.
    looked_at: Mutex<Option<Instant>>,
}

impl Rocks {
    /// Opens or creates. The memtables of all tables together stay within their budget.
    pub(super) fn open(wanted: &super::open::Options) -> Result<Self, OpenError> {
        let path = wanted.path.as_path();
        let fault = |error: &rocksdb::Error| open_error(path, error);
        let made = make_directory(path).and_then(|()| FileSystem::of(path));
        let place = made.map_err(|error| OpenError::Io {
            path: path.into(),
            detail: error.to_string().into(),
        })?;
        let budget = usize::try_from(wanted.memtable_octets_max).unwrap_or(usize::MAX);
        let options = database_options(budget, wanted.flush_octets_per_s);
        if path.join("CURRENT").exists() {
            let names = DB::list_cf(&options, path).map_err(|e| fault(&e))?;
            refuse_strange_tables(path, &names)?;
        } else {
            refuse_strange_files(path)?;
        }
        let cache = Cache::new_lru_cache(CACHE_OCTETS);
        let families = Table::ALL.map(|table| {
            let options = table_options(table, budget, &cache);
            ColumnFamilyDescriptor::new(table.name(), options)
        });
        // RocksDB's own table stays empty, but its memtable's size would be asked for as free space
        // before a full disk is used again.
        let mut unused = Options::default();
        unused.set_write_buffer_size(MEMTABLE_OCTETS_MIN);
        let unused = ColumnFamilyDescriptor::new("default", unused);
        let families = families.into_iter().chain([unused]);
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|e| fault(&e))?;
        Ok(Self {
            db,
            path: path.into(),
            place,
            looked_at: Mutex::new(None),
        })
    }

    /// After something found no room: tries, once a second at most, whether there is some, and lets
    /// RocksDB know. It must not go on before that, see `spool::quota`.
    fn look_for_room(&self) {
        if !quota::is_full(self.place) {
            return;
        }
        let mut looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        *looked_at = Some(Instant::now());
        let path = self.path.join(TRIAL_FILE);
        let tried = fs::write(&path, vec![0x55; TRIAL_OCTETS])
            .and_then(|()| fs::File::open(&path)?.sync_all());
        let removed = fs::remove_file(&path);
        if tried.and(removed).is_ok() {
            quota::tell_room(self.place);
        }
    }

    /// Whether a write may be made to wait: it may need one memtable more, and none but the current
    /// one are allowed then that has not been written out.
    fn may_stall(&self) -> bool {
        let number = |name| self.db.property_int_value(name).ok().flatten();
        let waiting = |table: &Table| {
            let family = self.family(*table);
            let found = self.db.property_int_value_cf(family, WAITING_MEMTABLES);
            found.ok().flatten().unwrap_or(1)
        };
        number(WRITE_STOPPED) != Some(0) || Table::ALL.iter().any(|table| waiting(table) > 0)
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        let family = self.db.cf_handle(table.name());
        family.expect("all tables were opened")
    }
}

/// Makes the directory, for our eyes only: it holds mail. Its name is durable when this returns.
fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let absolute = path.canonicalize()?;
    for parent in absolute.ancestors().skip(1) {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn refuse_strange_files(path: &Path) -> Result<(), OpenError> {
    let io = |error: std::io::Error| OpenError::Io {
        path: path.into(),
        detail: error.to_string().into(),
    };
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let text = name.to_string_lossy();
        let ours = FIRST_FILES.iter().any(|first| text.starts_with(first))
            || text.ends_with(".dbtmp")
            || text.ends_with(".log");
        if !ours {
            return Err(OpenError::NotASpool {
                path: path.into(),
                found: text.into(),
            });
        }
    }
    Ok(())
}

/// A table we do not know belongs to a newer spool, or to another program's database.
fn refuse_strange_tables(path: &Path, names: &[String]) -> Result<(), OpenError> {
    let known = |name: &str| name == "default" || Table::ALL.iter().any(|t| t.name() == name);
    let Some(strange) = names.iter().find(|name| !known(name)) else {
        return Ok(());
    };
    let meta = Table::Meta.name();
    let options = Options::default();
    let format = DB::open_cf_for_read_only(&options, path, [meta], false)
        .ok()
        .and_then(|db| {
            let family = db.cf_handle(meta)?;
            db.get_cf(family, super::open::FORMAT_KEY).ok()?
        });
    let known = super::open::FORMAT;
    match format.and_then(|value| value.try_into().ok()) {
        Some(value) if u32::from_be_bytes(value) > known => Err(OpenError::TooNew {
            found: u32::from_be_bytes(value),
            known,
        }),
        Some(_) | None => Err(OpenError::NotASpool {
            path: path.into(),
            found: format!("table `{strange}`").into(),
        }),
    }
}

fn open_error(path: &Path, error: &rocksdb::Error) -> OpenError {
    let path = path.to_path_buf();
    let detail: Box<str> = error.as_ref().into();
    if detail.contains("lock hold by current process") || detail.contains("While lock file") {
        return OpenError::Locked { path };
    }
    if error.kind() == ErrorKind::Corruption {
        return OpenError::Corrupt { path, detail };
    }
    OpenError::Io { path, detail }
}

fn database_options(budget: usize, flush_octets_per_s: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(budget);
    let wal = WAL_OCTETS_MIN.max(4 * u64::try_from(budget).unwrap_or(u64::MAX / 4));
    options.set_max_total_wal_size(wal);
    // One writer: what serves many only costs.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_bytes_per_sync(1 << 20);
    let rate = i64::try_from(flush_octets_per_s).unwrap_or(i64::MAX);
    options.set_ratelimiter(rate, FLUSH_REFILL_MICROS, FLUSH_FAIRNESS);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Two full memtables are merged before they are written, so that a put meets its delete; a third
/// is filled meanwhile. The shares of all tables, three times, make the budget.
fn table_options(table: Table, budget: usize, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_min_write_buffer_number_to_merge(2);
    options.set_max_write_buffer_number(5);
    let share = match table {
        Table::Bodies => budget / 32 * 6,
        Table::Events => budget / 32 * 2,
        Table::Envelopes | Table::States => budget / 32,
        Table::Meta => budget / 128,
    };
    options.set_write_buffer_size(share.max(MEMTABLE_OCTETS_MIN));
    if table == Table::Bodies {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_OCTETS_MIN);
        options.set_blob_file_size(BLOB_FILE_OCTETS);
        options.set_blob_compression_type(DBCompressionType::None);
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(0.5);
        options.set_blob_gc_force_threshold(0.5);
    }
    options
}

/// RocksDB stops all writes when space runs out, looks for space every five seconds and goes on by
/// itself: its errors until then are of this kind too. A quota that is used up says the same, by
/// `spool::quota`.
fn store_error(error: &rocksdb::Error) -> StoreError {
    // A write that would have to wait is given up on a full disk only, and nothing of it is written.
    let is_given_up = error.kind() == ErrorKind::Incomplete;
    if is_given_up || error.as_ref().contains("No space left on device") {
        StoreError::NoSpace
    } else {
        StoreError::Broken(error.as_ref().into())
    }
}

impl Store for Rocks {
    fn rows(self: Arc<Self>) -> Box<dyn Rows> {
        let mut sync = WriteOptions::default();
        sync.set_sync(true);
        Box::new(RocksRows {
            store: self,
            batch: WriteBatch::default(),
            sync,
            relaxed: WriteOptions::default(),
        })
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.db.get_pinned_cf(self.family(table), key);
        let row = row.map_err(|e| store_error(&e))?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8]) -> Box<dyn Cursor + 'a> {
        let mut options = ReadOptions::default();
        options.set_readahead_size(READAHEAD_OCTETS);
        options.fill_cache(false);
        let family = self.family(table);
        let mut iterator = self.db.raw_iterator_cf_opt(family, options);
        iterator.seek(from);
        Box::new(RocksCursor(iterator))
    }

    fn last_key(&self, table: Table) -> Result<Option<Box<[u8]>>, StoreError> {
        let mut iterator = self.db.raw_iterator_cf(self.family(table));
        iterator.seek_to_last();
        iterator.status().map_err(|e| store_error(&e))?;
        Ok(iterator.key().map(Into::into))
    }

    fn free_octets(&self) -> Option<u64> {
        self.look_for_room();
        let found = nix::sys::statvfs::statvfs(&self.path).ok()?;
        Some(
            found
                .blocks_available()
                .saturating_mul(found.fragment_size()),
        )
    }

    fn held_octets(&self) -> u64 {
        let number = |table: &Table, name: &str| {
            let found = self.db.property_int_value_cf(self.family(*table), name);
            found.ok().flatten().unwrap_or(0)
        };
        let of_table = |table| HELD.iter().map(move |name| number(table, name));
        let cached = number(&Table::ALL[0], HELD_BY_CACHE);
        cached + Table::ALL.iter().flat_map(of_table).sum::<u64>()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(|e| store_error(&e))?;
        let families = Table::ALL.map(|table| self.family(table));
        let flushed = self.db.flush_cfs_opt(&families, &FlushOptions::default());
        flushed.map_err(|e| store_error(&e))
    }
}

struct RocksRows {
    store: Arc<Rocks>,
    batch: WriteBatch,
    sync: WriteOptions,
    relaxed: WriteOptions,
}

impl Rows for RocksRows {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.store.family(table), key, value);
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.batch.delete_cf(self.store.family(table), key);
    }

    fn delete_once(&mut self, table: Table, key: &[u8]) {
        self.batch.single_delete_cf(self.store.family(table), key);
    }

    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        let family = self.store.family(table);
        self.batch.delete_range_cf(family, from, to);
    }

    fn write(&mut self, sync: bool) -> Result<(), StoreError> {
        let kept = self.batch.size_in_bytes().min(BATCH_OCTETS_KEPT);
        let next = WriteBatch::with_capacity_bytes(kept);
        let batch = core::mem::replace(&mut self.batch, next);
        let options = if sync { &self.sync } else { &self.relaxed };
        let written = if self.store.may_stall() {
            self.write_watchfully(&batch, sync)
        } else {
            self.store.db.write_opt(batch, options)
        };
        self.store.look_for_room();
        written.map_err(|e| store_error(&e))
    }
}

impl RocksRows {
    /// RocksDB makes a write wait while memtables cannot be written out, and on a full disk that is
    /// without end: it does not give up while it looks for room itself. So it is not asked to wait;
    /// we do, and give up when the disk is full.
    fn write_watchfully(&self, batch: &WriteBatch, sync: bool) -> Result<(), rocksdb::Error> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        options.set_no_slowdown(true);
        loop {
            let copy = WriteBatch::from_data(batch.data());
            match self.store.db.write_opt(copy, &options) {
                Err(error) if error.kind() == ErrorKind::Incomplete => {
                    self.store.look_for_room();
                    if quota::is_full(self.store.place) {
                        return Err(error);
                    }
                    thread::sleep(STALL_PAUSE);
                }
                written => return written,
            }
        }
    }
}

struct RocksCursor<'a>(DBRawIterator<'a>);

impl Cursor for RocksCursor<'_> {
    fn row(&self) -> Option<(&[u8], &[u8])> {
        self.0.item()
    }

    fn advance(&mut self) {
        // An iterator that met an error is not valid and must not be moved.
        if self.0.valid() {
            self.0.next();
        }
    }

    fn status(&self) -> Result<(), StoreError> {
        self.0.status().map_err(|e| store_error(&e))
    }
}
