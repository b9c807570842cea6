//! What every store promises, held against each of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::memory::MemoryDisk;
use super::open::{OpenError, Options};
use super::rocks::Rocks;
use super::store::{Rows, Store, Table};

/// Where a store can be opened again and again.
enum Disk {
    Memory(MemoryDisk),
    Folder(TempDir),
}

impl Disk {
    /// `None` while another store is open there.
    fn try_open(&self) -> Option<Arc<dyn Store>> {
        match self {
            Self::Memory(disk) => Some(Arc::new(disk.lock()?)),
            Self::Folder(folder) => match Rocks::open(&Options::new(folder.path(), 1)) {
                Ok(store) => Some(Arc::new(store)),
                Err(OpenError::Locked { .. }) => None,
                Err(error) => panic!("{error}"),
            },
        }
    }

    fn open(&self) -> Arc<dyn Store> {
        self.try_open().expect("no other store is open")
    }

    /// The disk as it is found when all that knew of it dies at this moment: with its machine, for the
    /// one in memory; for the other with its process, for a test cannot cut the power (`tests/crash` does).
    fn after_death(&self) -> Self {
        match self {
            Self::Memory(disk) => Self::Memory(disk.after_power_cut()),
            Self::Folder(folder) => {
                let copy = TempDir::new().unwrap();
                copy_files(folder.path(), copy.path());
                Self::Folder(copy)
            }
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn each(promise: impl Fn(&Disk)) {
    promise(&Disk::Memory(MemoryDisk::default()));
    promise(&Disk::Folder(TempDir::new().unwrap()));
}

fn written(store: &Arc<dyn Store>, fill: impl FnOnce(&mut dyn Rows)) {
    let mut rows = Arc::clone(store).rows();
    fill(&mut *rows);
    assert_eq!(rows.write(true), Ok(()));
}

fn keys(store: &dyn Store, table: Table, from: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut cursor = store.scan(table, from);
    while let Some((key, value)) = cursor.row() {
        assert_eq!(store.get(table, key).unwrap().as_deref(), Some(value));
        keys.push(key.into());
        cursor.advance();
    }
    assert_eq!(cursor.status(), Ok(()));
    cursor.advance();
    assert!(cursor.row().is_none(), "the end stays the end");
    keys
}

fn has(store: &dyn Store, table: Table, key: &[u8]) -> bool {
    store.get(table, key).unwrap().is_some()
}

#[test]
fn rows_are_in_key_order_and_deleted_ones_are_not() {
    each(|disk| {
        let store = disk.open();
        for table in Table::ALL {
            assert_eq!(store.last_key(table).unwrap(), None);
            written(&store, |rows| {
                for key in [b"b", b"d", b"a", b"c", b"e"] {
                    rows.put(table, key, &[key[0], 1]);
                }
            });
            assert_eq!(store.last_key(table).unwrap().as_deref(), Some(&b"e"[..]));
            assert_eq!(keys(&*store, table, b"bb"), [b"c", b"d", b"e"]);
            let found = store.get(table, b"c").unwrap();
            assert_eq!(found.as_deref(), Some(&b"c\x01"[..]));
            written(&store, |rows| {
                rows.delete(table, b"a");
                rows.delete_once(table, b"b");
                rows.delete_range(table, b"c", b"e");
                rows.delete(table, b"never there");
            });
            assert_eq!(
                keys(&*store, table, b""),
                [b"e"],
                "a range ends before `to`"
            );
            assert!(!has(&*store, table, b"c"));
        }
    });
}

#[test]
fn keys_are_octets_and_the_empty_one_is_the_first() {
    each(|disk| {
        let store = disk.open();
        let sorted: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\x7f", b"\x80", b"\xff\xff"];
        written(&store, |rows| {
            for key in sorted.iter().rev() {
                rows.put(Table::States, key, b"");
            }
        });
        assert_eq!(keys(&*store, Table::States, b""), sorted);
        let last = store.last_key(Table::States).unwrap();
        assert_eq!(last.as_deref(), Some(&b"\xff\xff"[..]));
    });
}

#[test]
fn of_a_batch_nothing_is_seen_before_it_is_written_and_then_all() {
    each(|disk| {
        let store = disk.open();
        let mut rows = Arc::clone(&store).rows();
        rows.put(Table::Bodies, b"k", &[7; 100_000]);
        rows.put(Table::Events, b"k", b"v");
        assert!(!has(&*store, Table::Bodies, b"k"));
        assert_eq!(keys(&*store, Table::Events, b""), [b""; 0]);
        assert_eq!(rows.write(true), Ok(()));
        let body = store.get(Table::Bodies, b"k").unwrap();
        assert_eq!(body.as_deref(), Some(&[7; 100_000][..]));
        assert!(has(&*store, Table::Events, b"k"));
        written(&store, |rows| rows.delete(Table::Events, b"k"));
        assert_eq!(rows.write(true), Ok(()));
        let found = has(&*store, Table::Events, b"k");
        assert!(!found, "a batch is empty once it is written");
    });
}

#[test]
fn within_a_batch_the_later_word_holds() {
    each(|disk| {
        let store = disk.open();
        written(&store, |rows| {
            rows.put(Table::States, b"twice", b"1");
            rows.put(Table::States, b"twice", b"2");
            rows.put(Table::States, b"gone", b"1");
            rows.delete(Table::States, b"gone");
            rows.delete(Table::States, b"back");
            rows.put(Table::States, b"back", b"1");
            rows.put(Table::Bodies, b"once", b"1");
            rows.delete_once(Table::Bodies, b"once");
            rows.put(Table::Events, b"5", b"1");
            rows.delete_range(Table::Events, b"1", b"9");
            rows.put(Table::Events, b"6", b"1");
        });
        let twice = store.get(Table::States, b"twice").unwrap();
        assert_eq!(twice.as_deref(), Some(&b"2"[..]));
        assert_eq!(keys(&*store, Table::States, b""), [&b"back"[..], b"twice"]);
        assert_eq!(keys(&*store, Table::Bodies, b""), [b""; 0]);
        assert_eq!(keys(&*store, Table::Events, b""), [b"6"]);
    });
}

#[test]
fn a_scan_tells_of_the_moment_it_began() {
    each(|disk| {
        let store = disk.open();
        written(&store, |rows| {
            rows.put(Table::Events, b"1", b"");
            rows.put(Table::Events, b"2", b"");
        });
        let mut cursor = store.scan(Table::Events, b"");
        written(&store, |rows| {
            rows.delete(Table::Events, b"2");
            rows.put(Table::Events, b"3", b"");
        });
        let mut seen = Vec::new();
        while let Some((key, _)) = cursor.row() {
            seen.push(key.to_vec());
            cursor.advance();
        }
        assert_eq!(seen, [b"1", b"2"]);
    });
}

#[test]
fn one_store_at_a_time_has_the_disk() {
    each(|disk| {
        let store = disk.open();
        assert!(disk.try_open().is_none());
        let rows = Arc::clone(&store).rows();
        drop(store);
        assert!(disk.try_open().is_none(), "a batch holds it too");
        drop(rows);
        assert!(disk.try_open().is_some());
    });
}

#[test]
fn what_was_synced_is_there_whoever_dies() {
    each(|disk| {
        let store = disk.open();
        for number in 0..40u8 {
            written(&store, |rows| {
                rows.put(Table::Bodies, &[number], &[number; 5000]);
                rows.put(Table::Envelopes, &[number], b"row");
            });
        }
        written(&store, |rows| {
            for number in 0..20u8 {
                rows.delete_once(Table::Bodies, &[number]);
                rows.delete_once(Table::Envelopes, &[number]);
            }
        });
        let mut found = disk.after_death();
        for _ in 0..3 {
            let store = found.open();
            for table in [Table::Bodies, Table::Envelopes] {
                let expected: Vec<_> = (20..40u8).map(|number| [number]).collect();
                assert_eq!(keys(&*store, table, b""), expected);
            }
            let body = store.get(Table::Bodies, &[30]).unwrap();
            assert_eq!(body.as_deref(), Some(&[30; 5000][..]));
            written(&store, |rows| rows.put(Table::Meta, b"again", b""));
            found = found.after_death();
        }
    });
}

#[test]
fn what_was_not_synced_is_seen_and_a_flush_makes_it_durable() {
    each(|disk| {
        let store = disk.open();
        let mut rows = Arc::clone(&store).rows();
        rows.put(Table::States, b"k", b"v");
        assert_eq!(rows.write(false), Ok(()));
        assert!(has(&*store, Table::States, b"k"));
        assert_eq!(store.flush(), Ok(()));
        let found = disk.after_death().open();
        assert!(has(&*found, Table::States, b"k"));
    });
}
