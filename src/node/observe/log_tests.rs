//! The log against real files: order, rotation, restart, and disks that fail.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

type Batch = Vec<(u64, Box<[u8]>)>;

struct Pipe(Receiver<Batch>);

impl EventSource for Pipe {
    fn next(&mut self, patience: Duration) -> Fetched {
        match self.0.recv_timeout(patience) {
            Ok(batch) => Fetched::Events(batch),
            Err(RecvTimeoutError::Timeout) => Fetched::Nothing,
            Err(RecvTimeoutError::Disconnected) => Fetched::Over,
        }
    }
}

#[derive(Clone, Default)]
struct Passed(Arc<Mutex<Vec<(Instant, u64)>>>);

impl Passed {
    fn last(&self) -> Option<u64> {
        self.0.lock().unwrap().last().map(|(_, sequence)| *sequence)
    }
}

impl Cursor for Passed {
    fn passed(&self, sequence: u64) {
        self.0.lock().unwrap().push((Instant::now(), sequence));
    }
}

struct Bench {
    events: Sender<Batch>,
    passed: Passed,
    log: Log,
    aside: Aside,
    shown: Exposition,
}

/// The last event from before, far from those of most tests.
const FOUND: u64 = 5_000_000;

fn start(dir: &Path, rotate_octets: u64, keep: u32) -> Bench {
    let (events, pipe) = mpsc::channel();
    let passed = Passed::default();
    let (meters, shown) = meters(Mode::Commit);
    let options = LogOptions {
        dir: dir.into(),
        rotate_octets,
        keep,
        found: FOUND,
    };
    let (aside, aside_end) = aside();
    let log = start_log(
        options,
        Box::new(Pipe(pipe)),
        Box::new(passed.clone()),
        aside_end,
        meters.log,
    )
    .unwrap();
    Bench {
        events,
        passed,
        log,
        aside,
        shown,
    }
}

fn line(sequence: u64) -> String {
    format!("{{\"type\":\"Delivery\",\"n\":{sequence:08}}}")
}

fn batch(sequences: std::ops::Range<u64>) -> Batch {
    sequences
        .map(|n| (n, line(n).into_bytes().into_boxed_slice()))
        .collect()
}

/// The lines of all files, the oldest first.
fn lines(dir: &Path) -> Vec<String> {
    let mut numbers: Vec<u32> = fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_prefix("delivery.log")
                .map(|end| end.trim_start_matches('.').parse().unwrap_or(0))
        })
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut all = Vec::new();
    for number in numbers {
        let name = match number {
            0 => "delivery.log".to_owned(),
            _ => format!("delivery.log.{number}"),
        };
        let text = fs::read_to_string(dir.join(name)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn line");
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

fn expected(sequences: std::ops::Range<u64>) -> Vec<String> {
    sequences.map(line).collect()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{what} did not happen"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn lines_keep_their_order_through_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(&dir.path().join("a/log"), 4096, 1000);
    for start in (0..5000).step_by(50) {
        bench.events.send(batch(start..start + 50)).unwrap();
    }
    assert_eq!(bench.log.stop(), Ending::Written);
    let dir = dir.path().join("a/log");
    assert_eq!(lines(&dir), expected(0..5000));
    assert_eq!(bench.passed.last(), Some(4999));
    for entry in fs::read_dir(&dir).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 4096);
    }
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o750
    );
    assert_eq!(
        fs::metadata(dir.join("delivery.log"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
}

#[test]
fn only_so_many_rotated_files_are_kept() {
    for keep in [0, 1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let bench = start(dir.path(), 1024, keep);
        bench.events.send(batch(0..1000)).unwrap();
        assert_eq!(bench.log.stop(), Ending::Written);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), keep as usize + 1);
        let kept = lines(dir.path());
        assert_eq!(
            kept,
            expected(1000 - kept.len() as u64..1000),
            "the youngest, without a gap"
        );
    }
}

#[test]
fn a_line_longer_than_a_file_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 64, 10);
    let long = vec![b'x'; 1000].into_boxed_slice();
    bench
        .events
        .send(vec![
            (1, line(1).into_bytes().into()),
            (2, long),
            (3, line(3).into_bytes().into()),
        ])
        .unwrap();
    assert_eq!(bench.log.stop(), Ending::Written);
    assert_eq!(lines(dir.path()), [line(1), "x".repeat(1000), line(3)]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_restart_appends_and_cuts_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    bench.events.send(batch(0..10)).unwrap();
    assert_eq!(bench.log.stop(), Ending::Written);
    let torn = vec![b'y'; 200_000];
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("delivery.log"))
        .unwrap();
    file.write_all(&torn).unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    bench.events.send(batch(10..20)).unwrap();
    assert_eq!(bench.log.stop(), Ending::Written);
    assert_eq!(lines(dir.path()), expected(0..20));
    fs::write(dir.path().join("delivery.log"), "no line end at all").unwrap();
    assert_eq!(start(dir.path(), 1 << 20, 3).log.stop(), Ending::Written);
    assert_eq!(lines(dir.path()), Vec::<String>::new());
}

#[test]
fn the_cursor_moves_once_a_second_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    let started = Instant::now();
    let mut next = 0;
    while started.elapsed() < Duration::from_millis(2300) {
        bench.events.send(batch(next..next + 1)).unwrap();
        next += 1;
        thread::sleep(Duration::from_millis(5));
    }
    drop(bench.events);
    assert_eq!(bench.log.wait(), Ending::Written);
    let passed = bench.passed.0.lock().unwrap().clone();
    assert_eq!(passed.last().unwrap().1, next - 1);
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((2..=seconds + 2).contains(&passed.len()), "{passed:?}");
    for pair in passed[..passed.len() - 1].windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_millis(990));
    }
    assert_eq!(lines(dir.path()), expected(0..next));
}

#[test]
fn a_directory_that_goes_away_costs_no_line_it_did_not_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let bench = start(&path, 1 << 20, 3);
    bench.events.send(batch(0..10)).unwrap();
    wait_for("the first sync", || bench.passed.last() == Some(9));
    fs::remove_dir_all(&path).unwrap();
    // A file where the directory was, so that it cannot be made again.
    fs::write(&path, "").unwrap();
    bench.events.send(batch(10..20)).unwrap();
    wait_for("trouble", || {
        bench.shown.render().contains("posthaste_log_writable 0\n")
    });
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(bench.passed.last(), Some(9), "the cursor stands still");
    let text = bench.shown.render();
    assert!(!text.contains("posthaste_log_lag_seconds 0\n"), "{text}");
    fs::remove_file(&path).unwrap();
    wait_for("recovery", || bench.passed.last() == Some(19));
    assert_eq!(lines(&path), expected(10..20));
    wait_for("the metric", || {
        bench.shown.render().contains("posthaste_log_writable 1\n")
    });
    assert_eq!(bench.log.stop(), Ending::Written);
}

#[test]
fn a_file_moved_by_another_rotation_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    bench.events.send(batch(0..10)).unwrap();
    wait_for("the first sync", || bench.passed.last() == Some(9));
    fs::rename(dir.path().join("delivery.log"), dir.path().join("old")).unwrap();
    bench.events.send(batch(10..20)).unwrap();
    wait_for("the second sync", || bench.passed.last() == Some(19));
    bench.events.send(batch(20..30)).unwrap();
    assert_eq!(bench.log.stop(), Ending::Written);
    let old = fs::read_to_string(dir.path().join("old")).unwrap();
    assert_eq!(old.lines().collect::<Vec<_>>(), expected(0..20));
    assert_eq!(lines(dir.path()), expected(20..30));
}

#[test]
fn a_stop_in_trouble_leaves_the_events_with_their_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let bench = start(&path, 1 << 20, 3);
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    bench.events.send(batch(0..10)).unwrap();
    wait_for("trouble", || {
        bench.shown.render().contains("posthaste_log_writable 0\n")
    });
    let asked = Instant::now();
    assert_eq!(bench.log.stop(), Ending::EventsLeft);
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(bench.passed.last(), None);
}

#[test]
fn a_directory_that_cannot_be_made_is_told_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let (meters, _shown) = meters(Mode::Commit);
    let (_events, pipe) = mpsc::channel();
    let options = LogOptions {
        dir: path,
        rotate_octets: 1024,
        keep: 1,
        found: 0,
    };
    let started = start_log(
        options,
        Box::new(Pipe(pipe)),
        Box::new(Passed::default()),
        aside().1,
        meters.log,
    );
    assert!(matches!(started, Err(LogError::Open { .. })));
}

/// A small file system of its own; none where mounting is not permitted.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(dir.path())
            .output();
        let disk = Self(dir);
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        let _ = io::stderr()
            .write_all(b"SKIPPED: no tmpfs can be mounted here, so no disk can be full\n");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_loses_no_line_and_recovers_by_itself() {
    let Some(disk) = Disk::new() else { return };
    let path = disk.0.path().join("log");
    let bench = start(&path, 1 << 20, 3);
    bench.events.send(batch(0..100)).unwrap();
    wait_for("the first sync", || bench.passed.last() == Some(99));
    let ballast = disk.0.path().join("ballast");
    // Fills the disk but for less than a page, so that a later write is cut within a line.
    let filled = fs::write(&ballast, vec![0; 64 << 10]);
    assert!(filled.is_err(), "the disk has no more than 64 KiB");
    for start in (100..1000).step_by(100) {
        bench.events.send(batch(start..start + 100)).unwrap();
    }
    wait_for("trouble", || {
        bench.shown.render().contains("posthaste_log_writable 0\n")
    });
    thread::sleep(Duration::from_millis(1200));
    assert!(bench.passed.last() < Some(999));
    let before = lines(&path);
    assert_eq!(
        before,
        expected(0..before.len() as u64),
        "whole lines in order"
    );
    fs::remove_file(&ballast).unwrap();
    wait_for("recovery", || bench.passed.last() == Some(999));
    assert_eq!(bench.log.stop(), Ending::Written);
    assert_eq!(lines(&path), expected(0..1000));
}

#[test]
fn lines_from_aside_stand_among_the_events_and_are_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    bench.events.send(batch(0..3)).unwrap();
    wait_for("the first events", || lines(dir.path()).len() == 3);
    assert!(bench.aside.offer(line(3).into_bytes().into()));
    wait_for("a line without an event", || lines(dir.path()).len() == 4);
    bench.events.send(batch(4..6)).unwrap();
    wait_for("the next events", || lines(dir.path()).len() == 6);
    assert_eq!(lines(dir.path()), expected(0..6));
    let taken = (0..1_000_000).take_while(|_| bench.aside.offer(Box::default()));
    assert!(taken.count() < 1_000_000, "what waits is bounded");
    assert_eq!(bench.log.stop(), Ending::Written);
    assert_eq!(bench.passed.last(), Some(5));
}

#[test]
fn the_cursor_moves_at_once_when_the_backlog_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let bench = start(dir.path(), 1 << 20, 3);
    let told = |bench: &Bench| bench.passed.0.lock().unwrap().len();
    bench.events.send(batch(FOUND - 9..FOUND - 5)).unwrap();
    wait_for("the first word", || told(&bench) == 1);
    bench.events.send(batch(FOUND - 5..FOUND + 1)).unwrap();
    wait_for("the word of the last of them", || told(&bench) == 2);
    bench.events.send(batch(FOUND + 1..FOUND + 2)).unwrap();
    wait_for("the next word", || told(&bench) == 3);
    let passed = bench.passed.0.lock().unwrap().clone();
    assert_eq!(passed[1].1, FOUND);
    assert!(passed[1].0 - passed[0].0 < Duration::from_millis(900));
    assert!(passed[2].0 - passed[1].0 >= Duration::from_millis(990));
    assert_eq!(bench.log.stop(), Ending::Written);
}
