//! The delivery log: a thread that writes committed events as JSON lines and tells how far it is.
//!
//! Lines are written at least once. A crash between a sync and the cursor repeats lines after the
//! restart; a torn last line is cut off at start, and its event comes again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::file::Files;
use super::{AsideEnd, LogMeters};

/// Between two syncs, and between two words to the cursor.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to write.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for events, so that a stop is noticed.
const PATIENCE_MAX: Duration = Duration::from_millis(250);
/// Lines kept in memory for want of a sync; beyond it they are synced early.
const UNSYNCED_OCTETS_MAX: usize = 16 << 20;
/// Longest stop: events that come later stay with the source.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What a source had.
#[derive(Debug)]
pub enum Fetched {
    /// In ascending order of their sequence; each line without its line end. The source bounds
    /// their number.
    Events(Vec<(u64, Box<[u8]>)>),
    Nothing,
    /// There will be no more.
    Over,
}

/// Where events come from. One per node.
pub trait EventSource: Send {
    /// The events after those given before; waits for them no longer than `patience`.
    fn next(&mut self, patience: Duration) -> Fetched;
}

/// Who wants to know how far the log is. One per node.
pub trait Cursor: Send {
    /// The lines up to `sequence` are on disk: their rows may go. Called once a second at most,
    /// and at the end.
    fn passed(&self, sequence: u64);
}

#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Made when it is not there.
    pub dir: PathBuf,
    /// Size no file exceeds, but by a single line longer than that.
    pub rotate_octets: u64,
    /// Rotated files kept.
    pub keep: u32,
    /// Events up to this sequence are from before the start: the cursor is told of the last of them
    /// at once, or a node that dies young would write them again each time.
    pub found: u64,
}

/// There is no log to write; the node should not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("delivery log in {}: {source}", dir.display())]
    Open { dir: PathBuf, source: io::Error },
    #[error("no thread for the delivery log: {0}")]
    Thread(io::Error),
}

/// How the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All lines are on disk and the cursor knows.
    Written,
    /// Some events are not known to be on disk; they come again after the next start.
    EventsLeft,
}

/// The running log. One per node.
#[derive(Debug)]
pub struct Log {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Ending>,
}

impl Log {
    /// Writes what the source still has without waiting for more, and ends. Takes ten seconds at
    /// most, but for the disk's own time.
    ///
    /// # Panics
    /// When the log thread did.
    pub fn stop(self) -> Ending {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.wait()
    }

    /// Waits until the source is over.
    ///
    /// # Panics
    /// When the log thread did.
    pub fn wait(self) -> Ending {
        self.thread.join().expect("the log thread does not panic")
    }
}

/// Opens the log and starts its thread, named `log`. What comes from `aside` is written within a
/// quarter of a second, between the events.
pub fn start_log(
    options: LogOptions,
    events: Box<dyn EventSource>,
    cursor: Box<dyn Cursor>,
    aside: AsideEnd,
    meters: LogMeters,
) -> Result<Log, LogError> {
    let dir = options.dir.clone();
    let found = options.found;
    let files = Files::open(options, meters.rotations.clone())
        .map_err(|source| LogError::Open { dir, source })?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Writer {
        files,
        events,
        cursor,
        aside,
        meters,
        stop: Arc::clone(&stop),
        through: None,
        found,
        waiting_since: None,
        told_at: None,
        trouble: Trouble::None,
    };
    let thread = thread::Builder::new()
        .name("log".into())
        .spawn(|| writer.run())
        .map_err(LogError::Thread)?;
    Ok(Log { stop, thread })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The operator was told, and is told again when it is over.
    Told,
}

struct Writer {
    files: Files,
    events: Box<dyn EventSource>,
    cursor: Box<dyn Cursor>,
    aside: AsideEnd,
    meters: LogMeters,
    stop: Arc<AtomicBool>,
    /// The last sequence taken that the cursor does not know.
    through: Option<u64>,
    found: u64,
    /// When the oldest line that the cursor does not know was taken.
    waiting_since: Option<Instant>,
    told_at: Option<Instant>,
    trouble: Trouble,
}

impl Writer {
    fn run(mut self) -> Ending {
        loop {
            if self.is_stopping() {
                return self.drain();
            }
            let patience = self.patience();
            match self.events.next(patience) {
                Fetched::Events(events) => self.take(&events),
                Fetched::Nothing => {}
                Fetched::Over => return self.end(),
            }
            self.take_aside();
            while let Err(error) = self.write() {
                self.tell_trouble(&error);
                self.tell_lag();
                if self.is_stopping() {
                    return Ending::EventsLeft;
                }
                thread::park_timeout(RETRY_EVERY);
            }
            self.tell_recovery();
            self.tell_lag();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn patience(&self) -> Duration {
        if self.wants_sync() {
            self.until_due().min(PATIENCE_MAX)
        } else {
            PATIENCE_MAX
        }
    }

    const fn wants_sync(&self) -> bool {
        self.through.is_some() || self.files.unsynced() > 0
    }

    fn is_just_caught_up(&mut self) -> bool {
        let caught_up = self.through.is_some_and(|through| through >= self.found);
        if caught_up && self.found > 0 {
            self.found = 0;
            return true;
        }
        false
    }

    fn until_due(&self) -> Duration {
        let passed = self.told_at.map_or(SYNC_EVERY, |at| at.elapsed());
        SYNC_EVERY.saturating_sub(passed)
    }

    fn take(&mut self, events: &[(u64, Box<[u8]>)]) {
        let mut octets = 0;
        for (sequence, line) in events {
            self.files.push(line);
            octets += line.len() as u64 + 1;
            self.through = Some(*sequence);
        }
        if self.through.is_some() {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        self.meters.lines.increment(events.len() as u64);
        self.meters.octets.increment(octets);
    }

    fn take_aside(&mut self) {
        for line in self.aside.take() {
            self.files.push(&line);
            self.meters.lines.increment(1);
            self.meters.octets.increment(line.len() as u64 + 1);
        }
    }

    /// Writes what was taken, syncs and tells the cursor when that is due.
    fn write(&mut self) -> io::Result<()> {
        self.files.write()?;
        let due = self.until_due().is_zero() || self.is_just_caught_up();
        if self.wants_sync() && due {
            return self.sync_and_tell();
        }
        if self.files.unsynced() >= UNSYNCED_OCTETS_MAX {
            return self.files.sync();
        }
        Ok(())
    }

    fn sync_and_tell(&mut self) -> io::Result<()> {
        self.files.sync()?;
        if let Some(sequence) = self.through.take() {
            self.cursor.passed(sequence);
        }
        self.told_at = Some(Instant::now());
        self.waiting_since = None;
        Ok(())
    }

    fn drain(&mut self) -> Ending {
        let started = Instant::now();
        while started.elapsed() < DRAIN_MAX {
            match self.events.next(Duration::ZERO) {
                Fetched::Events(events) => self.take(&events),
                Fetched::Nothing | Fetched::Over => return self.end(),
            }
            if let Err(error) = self.write() {
                self.tell_trouble(&error);
                return Ending::EventsLeft;
            }
        }
        self.end();
        Ending::EventsLeft
    }

    /// One last try.
    fn end(&mut self) -> Ending {
        self.take_aside();
        let ended = self.files.write().and_then(|()| self.sync_and_tell());
        self.tell_lag();
        match ended {
            Ok(()) => {
                self.tell_recovery();
                Ending::Written
            }
            Err(error) => {
                self.tell_trouble(&error);
                Ending::EventsLeft
            }
        }
    }

    fn tell_lag(&self) {
        let lag = self
            .waiting_since
            .map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.meters.lag_seconds.set(lag);
    }

    fn tell_trouble(&mut self, error: &io::Error) {
        self.meters.errors.increment(1);
        self.meters.writable.set(0.0);
        if self.trouble == Trouble::None {
            self.trouble = Trouble::Told;
            tell(&format!(
                "posthaste: delivery log cannot be written: {error}; no event is lost, trying again each second\n"
            ));
        }
    }

    fn tell_recovery(&mut self) {
        if self.trouble == Trouble::Told {
            self.trouble = Trouble::None;
            self.meters.writable.set(1.0);
            tell("posthaste: delivery log is written again\n");
        }
    }
}

/// To standard error, whose loss is no error of ours.
fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
