//! A store in memory, with a disk that fills up, fails and loses power when it is told to. For tests
//! and simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::store::{Cursor, Rows, Store, StoreError, Table};

type Tables = [BTreeMap<Box<[u8]>, Bytes>; Table::ALL.len()];

/// A disk in memory. Clones are the same disk, so that it outlives the spool on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    /// What a reader sees.
    written: Tables,
    /// What a power cut leaves.
    durable: Tables,
    /// Written and not yet durable, in order.
    unsynced: Vec<Vec<Step>>,
    fault: Fault,
    /// Rows cannot be scanned.
    is_unreadable: bool,
    free_octets: Option<u64>,
    syncs: u64,
    locked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Writes find no space.
    Full,
    /// Writes work, syncs fail.
    Sync,
}

#[derive(Clone, Debug)]
enum Step {
    Put(Table, Box<[u8]>, Bytes),
    Delete(Table, Box<[u8]>),
    DeleteRange(Table, Box<[u8]>, Box<[u8]>),
}

impl MemoryDisk {
    /// From now on writes find no space, or find it again.
    pub fn set_full(&self, full: bool) {
        self.inside().fault = if full { Fault::Full } else { Fault::None };
    }

    /// From now on every sync fails with an I/O error.
    pub fn fail_sync(&self) {
        self.inside().fault = Fault::Sync;
    }

    /// From now on every scan fails with an I/O error.
    pub fn fail_reads(&self) {
        self.inside().is_unreadable = true;
    }

    /// What the file system says is free; `None` if it does not say.
    pub fn set_free_octets(&self, free: Option<u64>) {
        self.inside().free_octets = free;
    }

    /// The disk as it is found after a power cut at this moment, in good health.
    pub fn after_power_cut(&self) -> Self {
        let durable = self.inside().durable.clone();
        Self(Arc::new(Mutex::new(Inside {
            written: durable.clone(),
            durable,
            ..Inside::default()
        })))
    }

    /// How many writes were synced.
    pub fn syncs(&self) -> u64 {
        self.inside().syncs
    }

    /// Rows of the named table, as a reader sees them: for looking at, from tests.
    pub fn rows(&self, table: &str) -> Vec<(Box<[u8]>, Bytes)> {
        let index = Table::ALL.iter().position(|t| t.name() == table);
        let inside = self.inside();
        let rows = index.map(|index| &inside.written[index]);
        rows.into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// Writes a row past the spool: for damaging it, from tests.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn put(&self, table: &str, key: &[u8], value: &[u8]) {
        let table = Table::ALL.into_iter().find(|t| t.name() == table);
        let table = table.expect("a spool's table");
        let step = Step::Put(table, key.into(), Bytes::copy_from_slice(value));
        let mut inside = self.inside();
        step.apply(&mut inside.written);
        step.apply(&mut inside.durable);
    }

    /// Takes the disk for one spool; `None` while another has it.
    pub(super) fn lock(&self) -> Option<MemoryStore> {
        let mut inside = self.inside();
        if inside.locked {
            return None;
        }
        inside.locked = true;
        Some(MemoryStore(self.clone()))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    fn apply(&self, tables: &mut Tables) {
        match self {
            Self::Put(table, key, value) => {
                tables[*table as usize].insert(key.clone(), value.clone());
            }
            Self::Delete(table, key) => {
                tables[*table as usize].remove(key);
            }
            Self::DeleteRange(table, from, to) => {
                tables[*table as usize].retain(|key, _| key < from || key >= to);
            }
        }
    }
}

/// The store on a [`MemoryDisk`].
#[derive(Debug)]
pub(super) struct MemoryStore(MemoryDisk);

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.0.inside().locked = false;
    }
}

impl Store for MemoryStore {
    fn rows(self: Arc<Self>) -> Box<dyn Rows> {
        Box::new(MemoryRows {
            store: self,
            steps: Vec::new(),
        })
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.inside().written[table as usize].get(key).cloned())
    }

    fn scan<'a>(&'a self, table: Table, from: &[u8]) -> Box<dyn Cursor + 'a> {
        let inside = self.0.inside();
        if inside.is_unreadable {
            return Box::new(MemoryCursor {
                rows: Vec::new(),
                place: 0,
                status: Err(StoreError::Broken("read: Input/output error".into())),
            });
        }
        let rows: Vec<_> = inside.written[table as usize]
            .range(Box::from(from)..)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Box::new(MemoryCursor {
            rows,
            place: 0,
            status: Ok(()),
        })
    }

    fn last_key(&self, table: Table) -> Result<Option<Box<[u8]>>, StoreError> {
        let inside = self.0.inside();
        let last = inside.written[table as usize].last_key_value();
        Ok(last.map(|(key, _)| key.clone()))
    }

    fn free_octets(&self) -> Option<u64> {
        self.0.inside().free_octets
    }

    fn held_octets(&self) -> u64 {
        let inside = self.0.inside();
        let rows = inside.written.iter().flatten();
        rows.map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.0.inside().sync()
    }
}

impl Inside {
    fn sync(&mut self) -> Result<(), StoreError> {
        if self.fault == Fault::Sync {
            return Err(StoreError::Broken("sync: Input/output error".into()));
        }
        for step in self.unsynced.drain(..).flatten() {
            step.apply(&mut self.durable);
        }
        self.syncs += 1;
        Ok(())
    }
}

struct MemoryRows {
    store: Arc<MemoryStore>,
    steps: Vec<Step>,
}

impl Rows for MemoryRows {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        self.steps.push(Step::Put(table, key.into(), value));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.steps.push(Step::Delete(table, key.into()));
    }

    fn delete_once(&mut self, table: Table, key: &[u8]) {
        self.delete(table, key);
    }

    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.steps
            .push(Step::DeleteRange(table, from.into(), to.into()));
    }

    fn write(&mut self, sync: bool) -> Result<(), StoreError> {
        let steps = core::mem::take(&mut self.steps);
        let mut inside = self.store.0.inside();
        if inside.fault == Fault::Full {
            return Err(StoreError::NoSpace);
        }
        if sync {
            inside.unsynced.push(steps.clone());
            inside.sync()?;
        } else {
            inside.unsynced.push(steps.clone());
        }
        for step in &steps {
            step.apply(&mut inside.written);
        }
        Ok(())
    }
}

struct MemoryCursor {
    rows: Vec<(Box<[u8]>, Bytes)>,
    place: usize,
    status: Result<(), StoreError>,
}

impl Cursor for MemoryCursor {
    fn row(&self) -> Option<(&[u8], &[u8])> {
        let (key, value) = self.rows.get(self.place)?;
        Some((key, value))
    }

    fn advance(&mut self) {
        self.place += 1;
    }

    fn status(&self) -> Result<(), StoreError> {
        self.status.clone()
    }
}
