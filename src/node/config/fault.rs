//! What may be wrong with a configuration, and where it was written.

use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column count from 1; columns are characters.
    File {
        name: Arc<str>,
        line: usize,
        column: usize,
    },
    Flag(&'static str),
    Environment(&'static str),
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is not TOML: {0}")]
    Syntax(String),
    #[error("is not a known key{0}")]
    UnknownKey(Hint),
    #[error("must be {expected}, found {found}")]
    Form {
        expected: &'static str,
        found: String,
    },
    #[error("{found} is out of bounds: {bound}")]
    Bounds { found: String, bound: String },
    #[error("has no place here: {0}")]
    Needless(&'static str),
    #[error("must be given")]
    Missing,
    #[error("stands twice: {0}")]
    Twice(String),
    #[error("{0} would let every client relay; name the networks that may")]
    OpenRelay(String),
}

/// What may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    Nothing,
    Key(String),
    /// One of the keys that the section has.
    OneOf(Vec<&'static str>),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Key(key) => write!(f, "; did you mean `{key}`?"),
            Self::OneOf(keys) => write!(f, "; there is `{}`", keys.join("`, `")),
        }
    }
}

/// One error: where, which key, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// Dotted path, e.g. `delivery.max_age` or `route[1].next_hop`; empty for the whole file.
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
