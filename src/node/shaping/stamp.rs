//! Whether files are still those that were read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::load::expand;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    octets: u64,
    changed: (i64, i64),
}

/// The state of some files and folders. Differs when a file has come, gone or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    /// What cannot be looked at is noted as absent.
    pub fn take(paths: &[PathBuf]) -> Self {
        let files = paths
            .iter()
            .flat_map(|path| expand(path).unwrap_or_else(|_| vec![path.clone()]));
        Self(
            files
                .map(|path| (stamp(&path), path))
                .map(|(stamp, path)| (path, stamp))
                .collect(),
        )
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: found.ino(),
        octets: found.len(),
        changed: (found.mtime(), found.mtime_nsec()),
    })
}
