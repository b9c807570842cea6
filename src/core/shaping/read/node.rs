//! One tree for TOML and JSON, in the order of the file.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use super::super::fault::Place;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(in super::super) struct Node<'t> {
    pub(in super::super) offset: usize,
    pub(in super::super) tree: Tree<'t>,
}

#[derive(Clone, Debug)]
pub(in super::super) enum Tree<'t> {
    Flag(bool),
    Number(i64),
    Decimal(f64),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Table(Vec<Entry<'t>>),
    /// A form no key takes; the text names it.
    Foreign(&'static str),
}

/// One key of a table.
#[derive(Clone, Debug)]
pub(in super::super) struct Entry<'t> {
    pub(in super::super) key: Cow<'t, str>,
    /// Where the key begins.
    pub(in super::super) offset: usize,
    pub(in super::super) node: Node<'t>,
}

impl<'t> Tree<'t> {
    pub(in super::super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    pub(in super::super) fn table(&self) -> Option<&[Entry<'t>]> {
        if let Self::Table(entries) = self {
            Some(entries)
        } else {
            None
        }
    }

    pub(in super::super) fn list(&self) -> Option<&[Node<'t>]> {
        if let Self::List(items) = self {
            Some(items)
        } else {
            None
        }
    }
}

impl fmt::Display for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Decimal(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Table(_) => f.write_str("a table"),
            Self::Foreign(name) => f.write_str(name),
        }
    }
}

/// A named text that turns offsets into places.
pub(in super::super) struct Source<'t> {
    pub(in super::super) name: Arc<str>,
    pub(in super::super) text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(in super::super) fn new(name: Arc<str>, text: &'t str) -> Self {
        let line_starts = core::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Self {
            name,
            text,
            line_starts,
        }
    }

    pub(in super::super) fn place(&self, offset: usize) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self
            .text
            .get(start..offset)
            .map_or(0, |before| before.chars().count());
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.name.clone(),
            line: number(line),
            column: number(column + 1),
        }
    }
}
