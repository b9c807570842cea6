//! What reading any part of a file needs: places for faults, and the few forms that many keys share.

use jiff::civil::Date;

use super::fault::{Fault, Place, Wrong};
use super::keys::{KEYS, Key, KeyRow, Kind, Support};
use super::params::{Overlay, Params};
use super::read::{Entry, Node, Source, Tree, literal};
use super::value::{Layer, Setting, Value};
use crate::words::nearest;

/// Something accepted without its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub place: Place,
    pub key: String,
    pub why: &'static str,
    /// Mail waits for it, which is told aloud.
    pub is_barring: bool,
}

/// One file being read. What is wrong is collected; reading goes on.
pub(super) struct Reader<'a, 't> {
    pub(super) source: &'a Source<'t>,
    pub(super) layer: Layer,
    pub(super) faults: &'a mut Vec<Fault>,
    pub(super) notes: &'a mut Vec<Note>,
    /// Of files that come with the program.
    pub(super) shipped_notes: &'a mut Vec<Note>,
}

impl Reader<'_, '_> {
    pub(super) fn place(&self, offset: usize) -> Place {
        self.source.place(offset)
    }

    /// `key` is a dotted path.
    pub(super) fn fault(&mut self, offset: usize, key: impl Into<String>, wrong: Wrong) {
        let place = self.place(offset);
        let key = key.into();
        self.faults.push(Fault { place, key, wrong });
    }

    /// A key that belongs to no row and is none of the block's own `words` either.
    pub(super) fn unknown(&mut self, prefix: &str, entry: &Entry<'_>, places: u8, words: &[&str]) {
        let keys = KEYS.iter().filter(|row| row.may_stand(places));
        let known = keys.map(|row| row.name).chain(words.iter().copied());
        let nearest = nearest(&entry.key, known).map(Into::into);
        self.fault(
            entry.offset,
            join(prefix, &entry.key),
            Wrong::UnknownKey { nearest },
        );
    }

    /// Reads a path key into `params`; `words` are the block's own keys, for suggestions.
    pub(super) fn setting(
        &mut self,
        prefix: &str,
        entry: &Entry<'_>,
        (places, words): (u8, &[&str]),
        params: &mut Params,
    ) {
        let Some(key) = Key::find(&entry.key) else {
            return self.unknown(prefix, entry, places, words);
        };
        if !key.row().may_stand(places) {
            let wrong = Wrong::Misplaced(key.row().home());
            return self.fault(entry.offset, join(prefix, &entry.key), wrong);
        }
        if let Kind::Caps | Kind::Rates = key.row().kind {
            return self.map(prefix, key, entry, params);
        }
        let path = || join(prefix, &entry.key);
        if let Some(value) = self.value(key, entry.offset, path, &entry.node) {
            let setting = self.put(value, entry.node.offset);
            params.set(key, setting);
        }
    }

    /// The value of `key`, unless it is wrong, refused or ignored; which is told.
    pub(super) fn value(
        &mut self,
        key: Key,
        key_offset: usize,
        path: impl Fn() -> String,
        node: &Node<'_>,
    ) -> Option<Value> {
        let row = key.row();
        let read = row.kind.check(node);
        if let Support::Refused(why) = row.support {
            let default = row
                .default
                .and_then(|text| row.kind.check(&literal(text)).ok());
            if default.is_none() || read.ok() != default {
                self.fault(key_offset, path(), Wrong::NotHonoured(why));
            }
            return None;
        }
        let value = read
            .map_err(|wrong| self.fault(node.offset, path(), wrong))
            .ok()?;
        if let Support::Ignored(why) = row.support {
            let (place, key) = (self.place(key_offset), path());
            self.notes.push(Note {
                place,
                key,
                why,
                is_barring: false,
            });
            return None;
        }
        self.note_later(row, &value, key_offset, path);
        Some(value)
    }

    fn note_later(
        &mut self,
        row: &KeyRow,
        value: &Value,
        offset: usize,
        path: impl Fn() -> String,
    ) {
        let (Support::Later { why, .. } | Support::Partly { why, .. }) = row.support else {
            return;
        };
        if self.layer != Layer::Operator {
            return self.note(offset, path(), why);
        }
        if let Some(why) = row.bars(value) {
            let (place, key) = (self.place(offset), path());
            self.notes.push(Note {
                place,
                key,
                why,
                is_barring: true,
            });
        } else if row.is_harmless(value) {
            self.note(offset, path(), why);
        } else {
            self.fault(offset, path(), Wrong::NotHonoured(why));
        }
    }

    /// Something that nothing obeys yet.
    pub(super) fn note(&mut self, offset: usize, key: impl Into<String>, why: &'static str) {
        let note = Note {
            place: self.place(offset),
            key: key.into(),
            why,
            is_barring: false,
        };
        match self.layer {
            Layer::Operator => self.notes.push(note),
            Layer::Shipped => self.shipped_notes.push(note),
            Layer::BuiltIn | Layer::Rule | Layer::Live => {}
        }
    }

    fn map(&mut self, prefix: &str, key: Key, entry: &Entry<'_>, params: &mut Params) {
        let kind = key.row().kind;
        let Tree::Table(entries) = &entry.node.tree else {
            let wrong = form(kind.expected(), &entry.node);
            return self.fault(entry.node.offset, join(prefix, &entry.key), wrong);
        };
        for named in entries {
            match kind.of_entry().check(&named.node) {
                Ok(value) => {
                    let path = || format!("{prefix}.{}.{}", entry.key, named.key);
                    self.note_later(key.row(), &value, named.node.offset, path);
                    let setting = self.put(value, named.node.offset);
                    params.set_named(key, &named.key, setting);
                }
                Err(wrong) => {
                    let path = format!("{prefix}.{}.{}", entry.key, named.key);
                    self.fault(named.node.offset, path, wrong);
                }
            }
        }
    }

    fn put(&self, value: Value, offset: usize) -> Setting {
        Setting {
            value,
            place: self.place(offset),
            layer: self.layer,
        }
    }

    /// The table's entries, or a fault.
    pub(super) fn table<'n, 't>(
        &mut self,
        path: &str,
        node: &'n Node<'t>,
    ) -> Option<&'n [Entry<'t>]> {
        if let Tree::Table(entries) = &node.tree {
            return Some(entries);
        }
        self.fault(node.offset, path, form("a table", node));
        None
    }

    /// The list's items, or the one item that stands where a list may.
    pub(super) fn one_or_more<'n, 't>(node: &'n Node<'t>) -> &'n [Node<'t>] {
        node.tree
            .list()
            .unwrap_or_else(|| core::slice::from_ref(node))
    }

    pub(super) fn text(&mut self, path: &str, node: &Node<'_>) -> Option<Box<str>> {
        match Kind::Text.check(node) {
            Ok(Value::Text(text)) => Some(text),
            Ok(_) => None,
            Err(wrong) => {
                self.fault(node.offset, path, wrong);
                None
            }
        }
    }

    pub(super) fn flag(&mut self, path: &str, node: &Node<'_>) -> Option<bool> {
        if let Tree::Flag(flag) = node.tree {
            return Some(flag);
        }
        self.fault(node.offset, path, form("true or false", node));
        None
    }

    /// One text or a list of them.
    pub(super) fn texts(&mut self, path: &str, node: &Node<'_>) -> Vec<Box<str>> {
        let items = Self::one_or_more(node).iter();
        items.filter_map(|item| self.text(path, item)).collect()
    }

    /// `2026-11-24`.
    pub(super) fn date(&mut self, path: &str, node: &Node<'_>) -> Option<Date> {
        let date = node.tree.text().and_then(|text| text.parse().ok());
        if date.is_none() {
            self.fault(
                node.offset,
                path,
                form("a date such as \"2026-11-24\"", node),
            );
        }
        date
    }

    /// `business_hours` or `off_hours`: one table or several.
    pub(super) fn overlays(
        &mut self,
        path: &str,
        off: bool,
        node: &Node<'_>,
        places: u8,
    ) -> Vec<Overlay> {
        let items = Self::one_or_more(node).iter();
        items
            .filter_map(|item| self.overlay(path, off, item, places))
            .collect()
    }
}

pub(super) fn form(expected: &'static str, found: &Node<'_>) -> Wrong {
    let found = found.tree.to_string();
    Wrong::Form { expected, found }
}

pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}
