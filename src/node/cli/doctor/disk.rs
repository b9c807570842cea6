//! The spool's disk, as it answers: free space, and the time a sync takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use posthaste_tuning::{Latency, Space};

/// As large as a small batch of the committer.
const APPEND_OCTETS: usize = 16 << 10;
const APPENDS: usize = 100;
/// A disk that is so slow has shown it.
const PATIENCE: Duration = Duration::from_secs(5);

/// `path`, or the nearest above it that exists, without links: nothing is made.
pub(super) fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut there = path
        .ancestors()
        .filter_map(|path| fs::canonicalize(path).ok());
    there.next().unwrap_or_else(|| "/".into())
}

/// Nothing where the file system tells nothing.
pub(super) fn space(dir: &Path) -> Space {
    statvfs(dir).map_or(
        Space {
            free_octets: 0,
            free_inodes: None,
        },
        |stat| Space {
            free_octets: stat.blocks_available().saturating_mul(stat.fragment_size()),
            free_inodes: (stat.files() > 0).then(|| stat.files_available()),
        },
    )
}

/// Appends to a file of its own in `dir`, each synced as the committer does it, and removes it.
///
/// # Errors
/// What the kernel says, for the operator.
pub(super) fn sync(dir: &Path) -> Result<Latency, String> {
    let mut samples = appends(dir).map_err(|error| {
        let dir = dir.display();
        format!("cannot be tried in {dir}: {error}")
    })?;
    Ok(latency(&mut samples))
}

/// Of at least one sample.
pub(super) fn latency(samples: &mut [Duration]) -> Latency {
    samples.sort_unstable();
    let at = |percent: usize| {
        let index = (samples.len() * percent / 100).min(samples.len() - 1);
        u64::try_from(samples[index].as_micros()).unwrap_or(u64::MAX)
    };
    Latency {
        p50: at(50),
        p99: at(99),
    }
}

fn appends(dir: &Path) -> io::Result<Vec<Duration>> {
    let mut trial = Trial::new(dir)?;
    let octets: Vec<u8> = (0..APPEND_OCTETS).map(|at| at.to_le_bytes()[0]).collect();
    let began = Instant::now();
    let mut samples = Vec::with_capacity(APPENDS);
    while samples.len() < APPENDS && began.elapsed() < PATIENCE {
        let start = Instant::now();
        trial.file.write_all(&octets)?;
        trial.file.sync_data()?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}

/// A file that is gone when this is.
struct Trial {
    file: File,
    path: PathBuf,
}

impl Trial {
    fn new(dir: &Path) -> io::Result<Self> {
        // With this ending a new spool is made beside it, should we be killed and it be left.
        let name = format!("posthaste-doctor.{}.dbtmp", std::process::id());
        let path = dir.join(name);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // A file that is gone already needs no removal.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind_and_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let latency = sync(folder.path()).unwrap();
        assert!(latency.p50 > 0 && latency.p50 <= latency.p99);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let there = folder.path().canonicalize().unwrap();
        assert_eq!(existing(&folder.path().join("a/b")), there);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = sync(Path::new("/proc")).unwrap_err();
        assert!(error.starts_with("cannot be tried in /proc: "), "{error}");
        assert!(space(&there).free_octets > 0);
    }

    #[test]
    fn percentiles_are_of_the_sorted_samples() {
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(latency(&mut samples), Latency { p50: 51, p99: 100 });
        let mut one = [Duration::from_micros(7)];
        assert_eq!(latency(&mut one), Latency { p50: 7, p99: 7 });
    }
}
