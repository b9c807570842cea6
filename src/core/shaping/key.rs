//! A key as a number: a row of the table, found by name at run time or when this is compiled.

use super::keys::{KEYS, KeyRow};
use super::value::Value;

/// A row of [`KEYS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u8);

pub(super) const KEY_COUNT: usize = KEYS.len();

impl Key {
    pub fn find(name: &str) -> Option<Self> {
        let index = KEYS.iter().position(|row| row.name == name)?;
        u8::try_from(index).ok().map(Self)
    }

    /// Panics at compile time when the table has no such key.
    pub(crate) const fn of(name: &str) -> Self {
        let mut index = 0;
        while index < KEY_COUNT {
            if same(KEYS[index].name, name) {
                return Self(index as u8);
            }
            index += 1;
        }
        panic!("no such key")
    }

    pub fn row(self) -> &'static KeyRow {
        &KEYS[self.index()]
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        KEYS.iter().filter_map(|row| Self::find(row.name))
    }

    /// Whether mail goes slower by the one value than by the other, or less of it at once; what is
    /// neither rate nor bound is another way to go, but for security, which no rule lessens.
    pub(crate) fn tightens(self, new: &Value, old: &Value) -> bool {
        match (new, old) {
            (Value::Rate(new), Value::Rate(old)) => new.is_under(old),
            // What each node counts for itself is as much for each of them.
            (Value::Cap(new), Value::Cap(old)) => new.most < old.most && new.local <= old.local,
            (Value::Count(new), Value::Count(old)) if self.row().is_bound() => new < old,
            (Value::Flag(new), _) if self == const { Self::of("suspended") } => *new,
            _ => self != const { Self::of("enable_tls") },
        }
    }

    /// Which of the three merged maps this key is.
    pub(super) fn map_index(self) -> Option<usize> {
        MAPS.iter().position(|map| *map == self)
    }
}

/// The keys whose maps merge instead of replacing each other.
pub(super) const MAPS: [Key; 3] = [
    Key::of("additional_connection_limits"),
    Key::of("additional_message_rate_throttles"),
    Key::of("additional_source_selection_rates"),
];

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_tighter_where_less_goes_in_the_long_run_and_at_once_on_all_nodes() {
        for (name, new, old, is) in [
            ("max_message_rate", "1/m", "1/s", true),
            ("max_message_rate", "10/m", "100/s,max_burst=1", true),
            ("max_message_rate", "1/s", "1/s", false),
            (
                "max_message_rate",
                "59/m,max_burst=1000",
                "1/s,max_burst=1",
                false,
            ),
            ("max_message_rate", "59/m,max_burst=50", "60/s", true),
            ("max_message_rate", "local:1/m", "1/s", false),
            ("connection_limit", "4", "5", true),
            ("connection_limit", "local:4", "5", false),
            ("connection_limit", "local:4", "local:5", true),
            ("max_deliveries_per_connection", "20", "10", false),
            ("suspended", "false", "true", false),
            ("suspended", "true", "false", true),
            ("enable_tls", "Opportunistic", "Required", false),
            ("connect_timeout", "9s", "5s", true),
        ] {
            let value = |text| Key::read(name, text).unwrap();
            let ((key, new_value), (_, old_value)) = (value(new), value(old));
            assert_eq!(
                key.tightens(&new_value, &old_value),
                is,
                "{name}: {new}, {old}"
            );
        }
    }
}
