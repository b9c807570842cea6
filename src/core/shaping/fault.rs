//! What may be wrong with a shaping file, and where it was written.

use core::fmt;
use std::sync::Arc;

/// Where something was written. Lines and columns count from 1; columns are characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A live override has no line.
        if self.line == 0 {
            return f.write_str(&self.file);
        }
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("is not {0}")]
    Syntax(String),
    #[error("is larger than {0} octets")]
    TooLarge(usize),
    #[error("is not a known key{}", suggestion(nearest.as_deref()))]
    UnknownKey { nearest: Option<String> },
    #[error("has no meaning here: it belongs in {0}")]
    Misplaced(&'static str),
    #[error("is known, but not honoured: {0}")]
    NotHonoured(&'static str),
    #[error("is a table: quote the name, as in [\"{0}\"], or its dots make tables of their own")]
    Unquoted(String),
    #[error("must be {expected}, found {found}")]
    Form {
        expected: &'static str,
        found: String,
    },
    #[error("{found} is out of bounds: {bound}")]
    Bounds { found: String, bound: &'static str },
    #[error("must not be negative: {0}")]
    Negative(String),
    #[error("has no known unit: {found}; units are {units}")]
    Unit { found: String, units: &'static str },
    #[error("must be given")]
    Missing,
    #[error("{0} is no IANA time zone, such as Europe/Berlin")]
    TimeZone(String),
    #[error("does not compile: {0}")]
    Regex(String),
    #[error("is true in no hour of the week")]
    NoHours,
    #[error("without from and to is the rest of business_hours, which this block does not have")]
    NoBusinessHours,
    #[error("names the pool {name}, which there is not; there are {known}")]
    UnknownPool { name: String, known: String },
    #[error("min is more than max")]
    MinAboveMax,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

/// One error: where, which key, what. A file with one is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// Dotted path, e.g. `provider.google.max_message_rate`; empty for the whole file.
    pub key: String,
    pub wrong: Wrong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.wrong)
        } else {
            write!(f, "{}: `{}` {}", self.place, self.key, self.wrong)
        }
    }
}
