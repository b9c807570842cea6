//! Files under a root: of this host, or made up by a test. Nothing unbounded is read.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Octets read of one file; `/proc/net/tcp` of a busy host has some.
const OCTETS_MAX: u64 = 64 << 20;

pub(super) struct Tree<'a>(&'a Path);

impl<'a> Tree<'a> {
    pub(super) const fn new(root: &'a Path) -> Self {
        Self(root)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let mut octets = Vec::new();
        let file = File::open(self.path(name)).ok()?;
        file.take(OCTETS_MAX).read_to_end(&mut octets).ok()?;
        Some(String::from_utf8_lossy(&octets).into_owned())
    }

    /// A file of one line, trimmed; none if it is empty.
    pub(super) fn line(&self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let line = text.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// None for `max` and for negative numbers too: no limit.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.line(name)?.parse().ok()
    }

    /// What a directory holds, in order.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(name)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// Two numbers with space between.
pub(super) fn pair(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().map(u64::from_str);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// `0-3,8` → 0, 1, 2, 3, 8.
pub(super) fn numbers(list: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

/// `always [madvise] never` → madvise.
pub(super) fn chosen(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// The rest of the line that begins with `key`.
pub(super) fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .map(str::trim)
}
