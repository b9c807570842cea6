//! Reading all files into one [`Shaping`].

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use posthaste_core::shaping::{Fault, File, Layer, Shaping, shipped};

use super::stamp::Stamps;

/// What is laid over each other, in this order.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A `["default"]` block of what the configuration says of all sites.
    pub base: String,
    /// Whether the providers that come with the program are known.
    pub is_shipped_used: bool,
    /// Files, and folders whose `.toml` and `.json` files are read in the order of their names.
    pub files: Vec<PathBuf>,
    /// Those that rules may name; `None` where that is not known.
    pub pools: Option<BTreeSet<Box<str>>>,
}

/// Files as they were.
#[derive(Debug)]
pub struct Loaded {
    pub shaping: Shaping,
    /// How many of the operator's files were read.
    pub files: usize,
    pub stamps: Stamps,
}

/// Why there is no shaping.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// All that is wrong in all files.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

fn lines(faults: &[Fault]) -> String {
    let texts: Vec<String> = faults.iter().map(Fault::to_string).collect();
    texts.join("\n")
}

/// Name of [`Options::base`] where a value was set.
const BASE_NAME: &str = "[delivery] of the configuration";

/// Reads and checks all files. Asks no DNS: a domain's block holds for that domain alone until
/// [`Shaping::place_sites`].
///
/// # Errors
/// See [`LoadError`].
pub fn load(options: &Options) -> Result<Loaded, LoadError> {
    // Before they are read: a change meanwhile is seen as one.
    let stamps = Stamps::take(&options.files);
    let mut texts = Vec::new();
    for path in &options.files {
        for path in expand(path)? {
            let text = fs::read_to_string(&path).map_err(|error| io_error(&path, error))?;
            texts.push((path.display().to_string(), text));
        }
    }
    let base = File {
        name: BASE_NAME,
        text: &options.base,
        layer: Layer::BuiltIn,
    };
    let own = texts.iter().map(|(name, text)| File {
        name,
        text,
        layer: Layer::Operator,
    });
    let shipped = shipped().filter(|_| options.is_shipped_used);
    let files: Vec<File<'_>> = std::iter::once(base).chain(shipped).chain(own).collect();
    let mut shaping = Shaping::read(&files).map_err(LoadError::Faults)?;
    if let Some(pools) = &options.pools {
        shaping.know_pools(pools).map_err(LoadError::Faults)?;
    }
    Ok(Loaded {
        shaping,
        files: texts.len(),
        stamps,
    })
}

fn io_error(path: &Path, error: io::Error) -> LoadError {
    let path = path.into();
    LoadError::Io { path, error }
}

/// The file itself, or what a folder has.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| io_error(path, error))? {
        let entry = entry.map_err(|error| io_error(path, error))?.path();
        let is_shaping = entry
            .extension()
            .is_some_and(|e| e == "toml" || e == "json");
        if is_shaping && entry.is_file() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
