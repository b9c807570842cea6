//! The TOML file as a flat list of keys, each with what was given and where. Keys the table of
//! knobs does not have are faults, with the nearest that it has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use posthaste_core::words::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Hint, Place, Wrong};
use super::knobs::{self, KNOBS};

/// Keys that a section may have, to be told all of them where one is not known.
const KEYS_TOLD_MAX: usize = 6;

/// A value as given, before its knob says what it must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    Bool(bool),
    Number(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Item>),
    /// A TOML form no knob takes; the text names it.
    Foreign(&'static str),
}

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub(super) given: Given,
    pub(super) place: Place,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Decimal(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Foreign(name) => f.write_str(name),
        }
    }
}

pub(super) type Items = BTreeMap<String, Item>;

/// Reads `text`; what is wrong goes to `faults`, the rest is still read.
pub(super) fn read(name: &str, text: &str, faults: &mut Vec<Fault>) -> Items {
    let mut source = Source {
        name: name.into(),
        text,
        items: Items::new(),
        faults,
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let wrong = Wrong::Syntax(error.message().replace('\n', ", "));
        source.fault(offset, String::new(), wrong);
    }
    source.table("", table.get_ref());
    source.items
}

/// One TOML value, as the table of knobs writes its defaults.
pub(super) fn literal(text: &str) -> Given {
    let mut faults = Vec::new();
    let source = Source {
        name: "".into(),
        text,
        items: Items::new(),
        faults: &mut faults,
    };
    let value = DeValue::parse(text).expect("defaults are TOML");
    source.given(value.get_ref())
}

struct Source<'a> {
    name: Arc<str>,
    text: &'a str,
    items: Items,
    faults: &'a mut Vec<Fault>,
}

impl Source<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            self.entry(path, key.span().start, value);
        }
    }

    fn entry(&mut self, path: String, key_offset: usize, value: &Spanned<DeValue<'_>>) {
        if knobs::find(&path).is_some() {
            let item = Item {
                given: self.given(value.get_ref()),
                place: self.place(value.span().start),
            };
            self.items.insert(path, item);
            return;
        }
        let plain = knobs::without_index(&path);
        let has_section = |head: String| KNOBS.iter().any(|knob| knob.key.starts_with(&head));
        let is_table = has_section(format!("{plain}."));
        let is_repeated = has_section(format!("{plain}[]."));
        let value_offset = value.span().start;
        if let (DeValue::Table(table), true) = (value.get_ref(), is_table) {
            self.table(&path, table);
        } else if let (DeValue::Array(array), true) = (value.get_ref(), is_repeated) {
            for (index, element) in array.iter().enumerate() {
                self.repeated(format!("{path}[{index}]"), element);
            }
        } else if is_table || is_repeated {
            let expected = if is_table {
                "a table"
            } else {
                "an array of tables ([[…]])"
            };
            let wrong = form(expected, &self.given(value.get_ref()));
            self.fault(value_offset, path, wrong);
        } else {
            self.fault(key_offset, path, Wrong::UnknownKey(hint(&plain)));
        }
    }

    fn repeated(&mut self, path: String, element: &Spanned<DeValue<'_>>) {
        let given = self.given(element.get_ref());
        if let DeValue::Table(table) = element.get_ref() {
            // Marks the section as given even when it is empty.
            let place = self.place(element.span().start);
            self.items.insert(path.clone(), Item { given, place });
            self.table(&path, table);
        } else {
            self.fault(element.span().start, path, form("a table", &given));
        }
    }

    fn given(&self, value: &DeValue<'_>) -> Given {
        match value {
            DeValue::Boolean(value) => Given::Bool(*value),
            DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
                .map_or(Given::Foreign("a number beyond 64 bits"), Given::Number),
            DeValue::Float(value) => value
                .as_str()
                .parse()
                .map_or(Given::Foreign("a malformed number"), Given::Decimal),
            DeValue::String(text) => Given::Text(text.to_string()),
            DeValue::Datetime(_) => Given::Foreign("a date"),
            DeValue::Table(_) => Given::Foreign("a table"),
            DeValue::Array(array) => Given::List(
                array
                    .iter()
                    .map(|element| Item {
                        given: self.given(element.get_ref()),
                        place: self.place(element.span().start),
                    })
                    .collect(),
            ),
        }
    }

    fn fault(&mut self, offset: usize, key: String, wrong: Wrong) {
        let place = self.place(offset);
        self.faults.push(Fault { place, key, wrong });
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            name: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

pub(super) fn form(expected: &'static str, found: &Given) -> Wrong {
    let found = found.to_string();
    Wrong::Form { expected, found }
}

/// The key or section that is spelt alike or that has this name elsewhere; else what else a small
/// section has; else what has a part spelt like this.
fn hint(key: &str) -> Hint {
    let sections = || {
        let of = KNOBS.iter().filter_map(|knob| knob.key.rsplit_once('.'));
        of.map(|(section, _)| section.trim_end_matches("[]"))
    };
    let known = || KNOBS.iter().map(|knob| knob.key);
    let moved = || known().find(|known| last(known) == last(key));
    let alike = || {
        let part = nearest(last(key), known().chain(sections()).map(last))?;
        sections().chain(known()).find(|known| last(known) == part)
    };
    if let Some(meant) = nearest(key, known().chain(sections())).or_else(moved) {
        return Hint::Key(meant.into());
    }
    match keys_beside(key) {
        keys if (1..=KEYS_TOLD_MAX).contains(&keys.len()) => Hint::OneOf(keys),
        _ => alike().map_or(Hint::Nothing, |meant| Hint::Key(meant.into())),
    }
}

/// All keys of the section that `key` stands in.
fn keys_beside(key: &str) -> Vec<&'static str> {
    let section = key.rsplit_once('.').map(|(section, _)| section);
    let keys = KNOBS.iter().map(|knob| knob.key);
    keys.filter(|known| section.is_some() && known.rsplit_once('.').map(|of| of.0) == section)
        .collect()
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
