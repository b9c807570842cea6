//! Disks that fill up and disks that lose power, on file systems of their own. Needs root; where it
//! may not mount it says so on stderr and proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use posthaste::spool::{Failed, Health};

use crate::disk::{Image, Mount, Quota, skip};

use super::child::{MANY, play_and_kill};
use super::{Heard, Started, line, lines, message, options, settled, start, start_with, stored};

/// Small memtables: it is a table's file that finds no space.
#[test]
fn a_disk_full_of_files_loses_nothing_and_recovers_by_itself() {
    fill(4 << 20, 48 << 20);
}

/// Large ones: it is the log.
#[test]
fn a_disk_full_of_log_loses_nothing_and_recovers_by_itself() {
    fill(128 << 20, 128 << 20);
}

fn fill(memtable_octets_max: u64, disk_octets: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = folder.path().join("mount");
    let size = format!("size={disk_octets}");
    let Some(mounted) = Mount::new(&mount, &["-t", "tmpfs", "-o", &size, "none"]) else {
        return skip("a tmpfs cannot be mounted here");
    };
    let ballast = mount.join("ballast");
    fs::write(&ballast, vec![0; disk_octets * 2 / 3]).expect("the ballast fits");
    fill_up(&mount.join("spool"), memtable_octets_max, || {
        fs::remove_file(&ballast).expect("the ballast goes");
    });
    drop(mounted);
}

/// Small memtables: it is a table's file that finds no space.
#[test]
fn a_quota_used_up_by_files_loses_nothing_and_recovers_by_itself() {
    fill_quota(4 << 20);
}

/// Large ones: it is the log.
#[test]
fn a_quota_used_up_by_the_log_loses_nothing_and_recovers_by_itself() {
    fill_quota(128 << 20);
}

fn fill_quota(memtable_octets_max: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(quota) = Quota::new(folder.path(), 24 << 20) else {
        return skip("a btrfs with a quota cannot be mounted here");
    };
    fill_up(&quota.path().join("spool"), memtable_octets_max, || {
        quota.set(None).expect("the quota goes");
    });
}

/// Stores messages until there is no room, looks what happens then, and makes room by `relieve`.
fn fill_up(path: &Path, memtable_octets_max: u64, relieve: impl FnOnce()) {
    let mut options = options(path);
    options.memtable_octets_max = memtable_octets_max;
    let mut started = start_with(options);
    let mut kept = BTreeSet::new();
    let refused = (0u128..).find(|id| {
        let batch = vec![stored(*id, 1, 100_000), line(&id.to_string())];
        match started.commit(batch) {
            Ok(()) => !kept.insert(*id),
            Err(failed) => {
                assert_eq!(failed, Failed::Full);
                true
            }
        }
    });
    let refused = refused.expect("the disk is full some time");
    started.wait_for(Health::Full);
    assert!(kept.len() > 20, "{}", kept.len());
    let first = started.submit(vec![settled(0, 0, 1), line("settled 0")]);
    let second = started.submit(vec![settled(1, 0, 1), line("settled 1")]);
    let third = started.submit(vec![stored(refused + 1, 1, 10)]);
    assert_eq!(started.answer(), (third, Err(Failed::Full)));
    assert_eq!(started.load(2), Some(message(2, 1, 100_000)));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(started.spool.health(), Health::Full);
    relieve();
    let freed = Instant::now();
    assert_eq!(started.answer(), (first, Ok(())));
    assert_eq!(started.answer(), (second, Ok(())));
    eprintln!(
        "a disk with space again was used after {:?}",
        freed.elapsed()
    );
    started.wait_for(Health::Good);
    assert_eq!(started.commit(vec![stored(refused + 2, 1, 10)]), Ok(()));
    kept.insert(refused + 2);
    kept.remove(&0);
    kept.remove(&1);
    let told = lines(&started.stop());
    assert_eq!(told.len(), usize::try_from(refused).expect("a few") + 2);
    assert_eq!(told[told.len() - 2..], ["settled 0", "settled 1"]);

    let started = start(path);
    let found: BTreeSet<_> = started.found.keys().map(|id| id.as_u128()).collect();
    assert_eq!(found, kept);
    for id in kept {
        let octets = if id > refused { 10 } else { 100_000 };
        assert_eq!(started.load(id), Some(message(id, 1, octets)));
    }
    started.stop();
}

#[test]
fn a_full_disk_is_full_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = folder.path().join("log");
    let Some(_mounted) = Mount::new(&mount, &["-t", "tmpfs", "-o", "size=1m", "none"]) else {
        return skip("a tmpfs cannot be mounted here");
    };
    let free = |path: &Path| {
        let found = nix::sys::statvfs::statvfs(path).expect("statvfs answers");
        found.blocks_available()
    };
    let ballast = mount.join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).expect_err("it is full");
    fs::remove_file(&ballast).expect("it was made");
    assert_eq!(free(&mount), 0, "said to be full until room is found there");
    assert!(free(folder.path()) > 0, "the spool's own disk has room");

    // A commit looks for room where the spool is, and must not speak for the other.
    let mut started = start(&folder.path().join("spool"));
    assert_eq!(started.commit(vec![stored(1, 1, 10)]), Ok(()));
    assert_eq!(free(&mount), 0, "nobody has found room there");
    started.stop();
}

#[test]
fn what_is_kept_for_want_of_space_is_lost_and_what_was_answered_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let Some(mounted) = Mount::new(&path, &["-t", "tmpfs", "-o", "size=32m", "none"]) else {
        return skip("a tmpfs cannot be mounted here");
    };
    play_and_kill("kept", folder.path());
    let many = fs::read_to_string(folder.path().join(MANY)).expect("the child has counted");
    let many: u128 = many.parse().expect("a number");
    assert!(mounted.change("size=128m"), "the disk grows");

    let started = start(&path);
    // Not even the settle: it goes out again.
    let found: BTreeSet<_> = started.found.keys().map(|id| id.as_u128()).collect();
    assert_eq!(found, (0..many).collect(), "the kept one was not promised");
    for id in found {
        assert_eq!(started.left(id), Some(vec![(0, 0, 0)]), "{id}");
        assert_eq!(started.load(id), Some(message(id, 1, 100_000)), "{id}");
    }
    let told = lines(&started.stop());
    assert_eq!(told.len() as u128, many);
    assert!(told.iter().all(|line| line == "stored"), "the books agree");

    let mut started = start(&path);
    started
        .commit(vec![settled(0, 0, 1), stored(many, 1, 10)])
        .expect("there is room");
    started.stop();
    drop(mounted);
}

#[test]
fn what_was_committed_survives_a_power_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(image) = Image::new(folder.path(), 256 << 20) else {
        return skip("mkfs.ext4 does not run here");
    };
    for round in 0..3 {
        let Some(mounted) = image.mount() else {
            return skip("an ext4 image cannot be mounted here");
        };
        let path = image.path().join(format!("spool{round}"));
        let mut started = start(&path);
        let mut books = Books::default();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(400 + 150 * round) {
            books.turn(&mut started);
        }
        books.close(&started);
        if let Err(why) = image.cut() {
            return skip(&format!("the file system cannot be shut down here: {why}"));
        }
        books.until_poisoned(&mut started);
        started.wait_for(Health::Poisoned);
        assert!(started.spool.fault().is_some());
        assert_eq!(started.commit(vec![line("x")]), Err(Failed::Poisoned));
        started.stop();
        drop(mounted);

        let mounted = image.mount().expect("the image mounts again");
        let started = start(&path);
        books.check(&started);
        let told = started.stop();
        assert!(
            told.len() >= books.events,
            "{} {}",
            told.len(),
            books.events
        );
        drop(mounted);
    }
}

/// What was asked of the spool, and what of it was promised.
#[derive(Default)]
struct Books {
    next: u128,
    /// Token to the message stored or settled.
    asked: BTreeMap<u64, Asked>,
    stored: BTreeSet<u128>,
    settling: BTreeSet<u128>,
    gone: BTreeSet<u128>,
    events: usize,
}

enum Asked {
    Store(u128),
    Settle(u128),
}

impl Books {
    const IN_FLIGHT: usize = 20;

    fn octets(id: u128) -> usize {
        usize::try_from(id * 37 % 9000).expect("a few")
    }

    /// Keeps some batches in flight: two messages stored for each that is settled.
    fn turn(&mut self, started: &mut Started) {
        while self.asked.len() < Self::IN_FLIGHT {
            let id = self.next;
            self.next += 1;
            let token = started.submit(vec![stored(id, 1, Self::octets(id)), line("stored")]);
            self.asked.insert(token, Asked::Store(id));
            let old = self.stored.iter().find(|id| !self.settling.contains(id));
            if let Some(old) = old.copied().filter(|_| id.is_multiple_of(2)) {
                let token = started.submit(vec![settled(old, 0, 1), line("settled")]);
                self.asked.insert(token, Asked::Settle(old));
                self.settling.insert(old);
            }
        }
        let (token, result) = started.answer();
        self.note(token, result);
    }

    fn note(&mut self, token: u64, result: Result<(), Failed>) {
        let asked = self.asked.remove(&token).expect("answers are to questions");
        assert_eq!(result, Ok(()), "the disk has power");
        match asked {
            Asked::Store(id) => {
                self.stored.insert(id);
            }
            Asked::Settle(id) => {
                self.stored.remove(&id);
                self.gone.insert(id);
            }
        }
        self.events += 1;
    }

    /// What was answered by now was promised with power. A sync under way when ext4 is shut down may
    /// report success and be lost all the same, as a bare write and fdatasync show: answers from now
    /// on prove nothing.
    fn close(&mut self, started: &Started) {
        while let Ok(Heard::Committed(token, result)) = started.heard.try_recv() {
            self.note(token, result);
        }
    }

    fn until_poisoned(&mut self, started: &mut Started) {
        for _ in 0..self.asked.len() {
            let _ = started.answer().1;
        }
        for id in [u128::MAX, u128::MAX - 1] {
            if started.commit(vec![stored(id, 1, 10)]).is_err() {
                return;
            }
        }
        panic!("a disk without power took mail");
    }

    fn check(&self, started: &Started) {
        assert!(self.stored.len() > 20 && self.gone.len() > 10);
        for id in &self.stored {
            let left = started.left(*id);
            if self.settling.contains(id) && left.is_none() {
                // Its settle was under way, and may have happened.
                continue;
            }
            assert_eq!(left, Some(vec![(0, 0, 0)]), "{id} was committed");
            assert_eq!(started.load(*id), Some(message(*id, 1, Self::octets(*id))));
        }
        for id in &self.gone {
            assert_eq!(started.left(*id), None, "{id} was settled");
        }
    }
}
