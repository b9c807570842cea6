//! A TOML file as sections that are asked for their keys. What nobody asked for, and what does not fit, becomes a fault with file, line,
//! column, key and the nearest key that was asked for. Collects all faults of a file; decides nothing about their meaning.

use crate::quantity;
use posthaste_core::words::nearest;
use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    Syntax(String),
    UnknownKey {
        nearest: Option<String>,
    },
    /// A word of a closed list that is not in it; `kind` with its article.
    UnknownWord {
        word: String,
        kind: &'static str,
        nearest: Option<String>,
    },
    Form {
        expected: String,
        found: String,
    },
    Bounds {
        found: String,
        bound: String,
    },
    Missing,
    /// By whoever is to take it, in its own words.
    Refused(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(f, "is not TOML: {text}"),
            Self::UnknownKey { nearest: None } => f.write_str("is not a known key"),
            Self::UnknownKey {
                nearest: Some(nearest),
            } => write!(f, "is not a known key; did you mean `{nearest}`?"),
            Self::UnknownWord {
                word,
                kind,
                nearest,
            } => {
                write!(f, "names `{word}`, which is not {kind}")?;
                nearest
                    .as_ref()
                    .map_or(Ok(()), |nearest| write!(f, "; did you mean `{nearest}`?"))
            }
            Self::Form { expected, found } => write!(f, "must be {expected}, found {found}"),
            Self::Bounds { found, bound } => write!(f, "{found} is out of bounds: {bound}"),
            Self::Missing => f.write_str("must be given"),
            Self::Refused(why) => write!(f, "is refused: {why}"),
        }
    }
}

/// One fault: where, which key, what. Line and column count from 1; columns are characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Dotted path, e.g. `capacity[0].cold`; empty for the whole file.
    pub key: String,
    pub wrong: Wrong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        self.wrong.fmt(f)
    }
}

/// All that is wrong with a file, at least one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Reads `text` by `read` and gives what it made, or all that was wrong.
pub(crate) fn read<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, Faults> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let reader = Reader {
        name,
        text,
        faults: RefCell::default(),
    };
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        reader.fault(
            offset,
            String::new(),
            Wrong::Syntax(error.message().replace('\n', ", ")),
        );
    }
    let root = Section {
        reader: &reader,
        path: String::new(),
        table: Some(table.get_ref()),
        offset: 0,
        known: RefCell::default(),
    };
    let made = read(&root);
    root.finish();
    let mut faults = reader.faults.into_inner();
    faults.sort_by_key(|fault| (fault.line, fault.column));
    match made {
        Some(made) if faults.is_empty() => Ok(made),
        _ => {
            assert!(!faults.is_empty(), "nothing is made only with a fault");
            Err(Faults(faults))
        }
    }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    faults: RefCell<Vec<Fault>>,
}

impl Reader<'_> {
    fn fault(&self, offset: usize, key: String, wrong: Wrong) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.faults.borrow_mut().push(Fault {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key,
            wrong,
        });
    }
}

/// A table, or the place where one could stand: then every key has its default.
pub(crate) struct Section<'r> {
    reader: &'r Reader<'r>,
    path: String,
    table: Option<&'r DeTable<'r>>,
    offset: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'r> Section<'r> {
    pub(crate) const fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Every key must have been asked for before this.
    pub(crate) fn finish(&self) {
        let Some(table) = self.table else { return };
        let known = self.known.borrow();
        for (key, _) in table {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let nearest = nearest(name, known.iter().copied()).map(Into::into);
                self.reader.fault(
                    key.span().start,
                    self.path_of(name),
                    Wrong::UnknownKey { nearest },
                );
            }
        }
    }

    /// For rules between keys: puts the fault at the value of `key`.
    pub(crate) fn refuse(&self, key: &'static str, wrong: Wrong) {
        let offset = self
            .value(key)
            .map_or(self.offset, |value| value.span().start);
        self.reader.fault(offset, self.path_of(key), wrong);
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn value(&self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let (_, value) = self
            .table?
            .iter()
            .find(|(name, _)| AsRef::<str>::as_ref(name.get_ref()) == key)?;
        Some(value)
    }

    fn form(&self, at: &Spanned<DeValue<'_>>, key: &str, expected: impl Into<String>) {
        self.reader.fault(
            at.span().start,
            self.path_of(key),
            Wrong::Form {
                expected: expected.into(),
                found: shown(at.get_ref()),
            },
        );
    }

    /// Parses a text by `parse`, whose error says what is wrong.
    fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.form(value, key, expected);
            return None;
        };
        match parse(text) {
            Ok(made) => Some(made),
            Err(_) => {
                self.form(value, key, expected);
                None
            }
        }
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.parsed(key, "a text", |text| Ok(text.to_owned()))
    }

    pub(crate) fn required_text(&self, key: &'static str) -> Option<String> {
        if self.value(key).is_none() {
            self.missing(key);
        }
        self.text(key)
    }

    pub(crate) fn missing(&self, key: &'static str) {
        self.reader
            .fault(self.offset, self.path_of(key), Wrong::Missing);
    }

    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            if let DeValue::String(text) = value.get_ref() {
                return vec![text.to_string()];
            }
            self.form(value, key, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for element in array {
            if let DeValue::String(text) = element.get_ref() {
                texts.push(text.to_string());
            } else {
                self.form(element, key, "a list of texts");
            }
        }
        texts
    }

    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        if let DeValue::Boolean(flag) = value.get_ref() {
            return *flag;
        }
        self.form(value, key, "true or false");
        default
    }

    pub(crate) fn count(
        &self,
        key: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        let DeValue::Integer(digits) = value.get_ref() else {
            self.form(value, key, "a whole number");
            return default;
        };
        let number = i128::from_str_radix(&digits.as_str().replace('_', ""), digits.radix());
        let number = number.unwrap_or(i128::MAX);
        match u64::try_from(number)
            .ok()
            .filter(|number| bounds.contains(number))
        {
            Some(number) => number,
            None => {
                let bound = format!("{} to {}", bounds.start(), bounds.end());
                self.bounds(value, key, bound);
                default
            }
        }
    }

    /// A number within bounds; a text `2%` is understood where 1 is the upper bound.
    pub(crate) fn number(
        &self,
        key: &'static str,
        default: f64,
        bounds: RangeInclusive<f64>,
    ) -> f64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        match number_of(value.get_ref(), *bounds.end() <= 1.0) {
            Some(number) if bounds.contains(&number) => number,
            Some(_) => {
                self.bounds(
                    value,
                    key,
                    format!("{} to {}", bounds.start(), bounds.end()),
                );
                default
            }
            None => {
                self.form(value, key, "a number");
                default
            }
        }
    }

    fn bounds(&self, value: &Spanned<DeValue<'_>>, key: &str, bound: String) {
        self.reader.fault(
            value.span().start,
            self.path_of(key),
            Wrong::Bounds {
                found: shown(value.get_ref()),
                bound,
            },
        );
    }

    pub(crate) fn share(&self, key: &'static str, default: f64) -> f64 {
        self.number(key, default, 0.0..=1.0)
    }

    pub(crate) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.parsed(
            key,
            "a time such as \"250ms\", \"10s\" or \"2h\"",
            quantity::duration,
        )
        .unwrap_or(default)
    }

    pub(crate) fn optional_duration(&self, key: &'static str) -> Option<Duration> {
        self.parsed(
            key,
            "a time such as \"250ms\", \"10s\" or \"2h\"",
            quantity::duration,
        )
    }

    pub(crate) fn quota(&self, key: &'static str) -> Option<(f64, Duration)> {
        self.parsed(
            key,
            "a quota such as \"500/s\" or \"1000/h\"",
            quantity::quota,
        )
    }

    /// One time, or a list of the least and the most.
    pub(crate) fn span(&self, key: &'static str) -> (Duration, Duration) {
        const EXPECTED: &str = "a time, or a list of the least and the most";
        let Some(value) = self.value(key) else {
            return (Duration::ZERO, Duration::ZERO);
        };
        let DeValue::Array(array) = value.get_ref() else {
            let one = self.duration(key, Duration::ZERO);
            return (one, one);
        };
        let times: Vec<_> = array
            .iter()
            .filter_map(|element| {
                let DeValue::String(text) = element.get_ref() else {
                    return None;
                };
                quantity::duration(text).ok()
            })
            .collect();
        match times[..] {
            [low, high] if array.len() == 2 && low <= high => (low, high),
            _ => {
                self.form(value, key, EXPECTED);
                (Duration::ZERO, Duration::ZERO)
            }
        }
    }

    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(value) = self.value(key) else {
            return default;
        };
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = || format!("one of {}", words.join(", "));
        let DeValue::String(text) = value.get_ref() else {
            self.form(value, key, expected());
            return default;
        };
        let found = choices
            .iter()
            .find(|(word, _)| *word == AsRef::<str>::as_ref(text));
        if found.is_none() {
            self.form(value, key, expected());
        }
        found.map_or(default, |(_, choice)| *choice)
    }

    pub(crate) fn section(&self, key: &'static str) -> Self {
        let value = self.value(key);
        let table = value.and_then(|value| {
            if let DeValue::Table(table) = value.get_ref() {
                return Some(table);
            }
            self.form(value, key, "a table");
            None
        });
        Section {
            reader: self.reader,
            path: self.path_of(key),
            table,
            offset: value.map_or(self.offset, |value| value.span().start),
            known: RefCell::default(),
        }
    }

    /// An array of tables, `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.get_ref() else {
            self.form(value, key, "an array of tables ([[…]])");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let DeValue::Table(table) = element.get_ref() else {
                self.form(element, key, "a table");
                continue;
            };
            sections.push(Section {
                reader: self.reader,
                path: format!("{}[{index}]", self.path_of(key)),
                table: Some(table),
                offset: element.span().start,
                known: RefCell::default(),
            });
        }
        sections
    }
}

fn number_of(value: &DeValue<'_>, is_share: bool) -> Option<f64> {
    if let DeValue::String(text) = value {
        return is_share.then(|| quantity::share(text).ok()).flatten();
    }
    let digits = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return None,
    };
    digits.replace('_', "").parse().ok()
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(value) => value.as_str().to_owned(),
        DeValue::Float(value) => value.as_str().to_owned(),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Array(array) => format!("a list of {}", array.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_line_column_key_and_the_nearest_key() {
        let text = "name = \"x\"\n[limit]\n  amuont = 5\nwindow = 7\n";
        let read = read("p.toml", text, |root| {
            let name = root.required_text("name")?;
            let limit = root.section("limit");
            limit.count("amount", 1, 1..=10);
            limit.duration("window", Duration::ZERO);
            limit.finish();
            Some(name)
        });
        let shown = read.unwrap_err().to_string();
        assert_eq!(
            shown,
            "p.toml:3:3: `limit.amuont` is not a known key; did you mean `amount`?\n\
             p.toml:4:10: `limit.window` must be a time such as \"250ms\", \"10s\" or \"2h\", found 7"
        );
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_place() {
        let shown = read("p.toml", "a = 1\nb = = 2\n", |_| Some(()))
            .unwrap_err()
            .to_string();
        assert!(shown.contains("p.toml:2:5: is not TOML"), "{shown}");
    }

    #[test]
    fn what_must_be_given_is_missed() {
        let made = read("p.toml", "", |root| root.required_text("name"));
        assert_eq!(
            made.unwrap_err().to_string(),
            "p.toml:1:1: `name` must be given"
        );
    }
}
