//! The text of a file as a tree that knows its places. Nothing here knows what keys mean.

mod json;
mod node;
mod toml;

pub(super) use self::node::{Entry, Node, Source, Tree};
pub(super) use self::toml::literal;

use super::fault::Wrong;

/// Reads `source` as JSON when its name ends in `.json`, else as TOML. What is wrong goes to
/// `fault` with its offset; the rest is still read.
pub(super) fn tree<'t>(source: &Source<'t>, fault: &mut dyn FnMut(usize, Wrong)) -> Vec<Entry<'t>> {
    if source.name.ends_with(".json") {
        json::read(source.text, fault)
    } else {
        toml::read(source.text, fault)
    }
}
