//! The files of the delivery log: `delivery.log`, and `delivery.log.1` (youngest) to `.keep`.
//! Holds every line until it is synced, so that a failed write or sync costs none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use metrics::Counter;

use super::log::LogOptions;

pub(super) const NAME: &str = "delivery.log";
/// Delivery records name senders and recipients: not for everybody's eyes.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// Octets read at once when looking for the last line end.
const BLOCK_OCTETS: u64 = 64 * 1024;

/// One file, told from others even after it was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    /// Octets known to be on disk; what follows is `lines[..written]`.
    synced: u64,
}

/// A file that is not written any more; the youngest is 1.
pub(super) fn rotated(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{NAME}.{number}"))
}

/// The writing end of the log. One per node.
#[derive(Debug)]
pub(super) struct Files {
    options: LogOptions,
    rotations: Counter,
    open: Option<Open>,
    /// A file that is no longer trusted beyond so many octets.
    doubted: Option<(Identity, u64)>,
    /// Lines not known to be on disk, with their line ends.
    lines: Vec<u8>,
    /// Octets of `lines` that are in the open file.
    written: usize,
}

impl Files {
    /// Makes the directory and opens the file.
    pub(super) fn open(options: LogOptions, rotations: Counter) -> io::Result<Self> {
        let mut files = Self {
            options,
            rotations,
            open: None,
            doubted: None,
            lines: Vec::new(),
            written: 0,
        };
        files.ensure_open()?;
        Ok(files)
    }

    /// Takes a line, without its line end, to be written by the next [`Self::write`].
    pub(super) fn push(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
    }

    /// Octets that are not known to be on disk.
    pub(super) const fn unsynced(&self) -> usize {
        self.lines.len()
    }

    /// Writes all lines taken. After an error the file ends with a whole line, and the next call
    /// goes on from there.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while self.written < self.lines.len() {
            self.ensure_open()?;
            match self.fitting() {
                Some(end) => self.write_until(end)?,
                None => self.rotate()?,
            }
        }
        Ok(())
    }

    /// Puts all that was written on disk. After an error the next [`Self::write`] writes again
    /// what may not be there.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        assert_eq!(self.written, self.lines.len(), "sync follows a whole write");
        if self.lines.is_empty() {
            return Ok(());
        }
        self.settle()?;
        // Moved away by another rotation: what comes next belongs into a new file.
        let there = fs::metadata(self.path(0)).map(|metadata| identity(&metadata));
        if there.ok() != self.open.as_ref().map(|open| open.identity) {
            self.open = None;
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.options.dir.join(NAME),
            _ => rotated(&self.options.dir, number),
        }
    }

    fn ensure_open(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(&self.options.dir)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(self.path(0))?;
        let metadata = file.metadata()?;
        let identity = identity(&metadata);
        let trusted = match self.doubted {
            Some((doubted, synced)) if doubted == identity => metadata.len().min(synced),
            Some(_) | None => metadata.len(),
        };
        let whole = whole_lines(&file, trusted)?;
        if whole < metadata.len() {
            file.set_len(whole)?;
        }
        File::open(&self.options.dir)?.sync_all()?;
        self.doubted = None;
        self.open = Some(Open {
            file,
            identity,
            synced: whole,
        });
        Ok(())
    }

    /// Up to where `lines` fit into the open file; none when it is full.
    fn fitting(&self) -> Option<usize> {
        let open = self.open.as_ref().expect("a file was opened");
        let octets = open.synced + self.written as u64;
        let room = self.options.rotate_octets.saturating_sub(octets);
        let rest = &self.lines[self.written..];
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
        if let Some(at) = memchr::memrchr(b'\n', &rest[..room]) {
            return Some(self.written + at + 1);
        }
        // A line longer than a file has a file to itself.
        let first = memchr::memchr(b'\n', rest).expect("each line has its end");
        (octets == 0).then_some(self.written + first + 1)
    }

    fn write_until(&mut self, end: usize) -> io::Result<()> {
        let open = self.open.as_mut().expect("a file was opened");
        while self.written < end {
            let error = match open.file.write(&self.lines[self.written..end]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(octets) => {
                    self.written += octets;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let whole = memchr::memrchr(b'\n', &self.lines[..self.written]).map_or(0, |at| at + 1);
            match open.file.set_len(open.synced + whole as u64) {
                Ok(()) => self.written = whole,
                Err(_) => self.doubt(),
            }
            return Err(error);
        }
        Ok(())
    }

    /// Syncs, and lets go of the lines that are on disk.
    fn settle(&mut self) -> io::Result<()> {
        let open = self.open.as_mut().expect("written lines are in a file");
        let settled = open.file.sync_data().and_then(|()| open.file.metadata());
        let gone = match settled {
            Ok(metadata) if metadata.nlink() > 0 => {
                open.synced = metadata.len();
                self.lines.drain(..self.written);
                self.written = 0;
                return Ok(());
            }
            Ok(_) => io::Error::new(io::ErrorKind::NotFound, "the file was removed"),
            Err(error) => error,
        };
        self.doubt();
        Err(gone)
    }

    /// A failed sync may have dropped what was written (the kernel tells once): write it again.
    fn doubt(&mut self) {
        let open = self.open.take();
        self.doubted = open.map(|open| (open.identity, open.synced));
        self.written = 0;
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.settle()?;
        let keep = self.options.keep;
        // A gap, left by a crash or by an operator, ends the chain: files behind it may stay.
        let mut free = 1;
        while free < keep && self.path(free).try_exists()? {
            free += 1;
        }
        for number in (1..free).rev() {
            rename(self.path(number), self.path(number + 1))?;
        }
        match keep {
            0 => fs::remove_file(self.path(0))?,
            _ => rename(self.path(0), self.path(1))?,
        }
        self.open = None;
        self.rotations.increment(1);
        Ok(())
    }
}

/// An operator may have taken the file meanwhile.
fn rename(from: PathBuf, to: PathBuf) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Octets up to and with the last line end within the first `octets`.
fn whole_lines(file: &File, octets: u64) -> io::Result<u64> {
    let mut end = octets;
    let mut block = vec![0; usize::try_from(BLOCK_OCTETS.min(octets)).unwrap_or(0)];
    while end > 0 {
        let start = end.saturating_sub(BLOCK_OCTETS);
        let length = usize::try_from(end - start).expect("a block fits in memory");
        file.read_exact_at(&mut block[..length], start)?;
        if let Some(at) = memchr::memrchr(b'\n', &block[..length]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
