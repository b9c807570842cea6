//! Finds all known suffixes of a name, plain text, in time that hardly grows with their number.

/// Suffixes and what they stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Suffixes {
    /// Sorted by the reversed bytes.
    entries: Vec<(Box<[u8]>, u32)>,
}

impl Suffixes {
    pub(super) fn new<'s>(suffixes: impl Iterator<Item = (&'s str, u32)>) -> Self {
        let mut entries: Vec<(Box<[u8]>, u32)> = suffixes
            .map(|(text, value)| (text.bytes().rev().collect(), value))
            .collect();
        entries.sort();
        Self { entries }
    }

    /// Calls `found` with the value of each suffix that `name` ends in, the shortest first.
    pub(super) fn find(&self, name: &str, mut found: impl FnMut(u32)) {
        // Those that agree with the name so far; they are neighbours.
        let mut range = self.entries.as_slice();
        let bytes = name.bytes().rev().map(Some).chain([None]);
        for (depth, byte) in bytes.enumerate() {
            // The shortest of those that agree sort first.
            while let Some(((text, value), rest)) = range.split_first() {
                if text.len() > depth {
                    break;
                }
                found(*value);
                range = rest;
            }
            let Some(byte) = byte.filter(|_| !range.is_empty()) else {
                return;
            };
            let from = range.partition_point(|(text, _)| text[depth] < byte);
            let to = range.partition_point(|(text, _)| text[depth] <= byte);
            range = &range[from..to];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(suffixes: &Suffixes, name: &str) -> Vec<u32> {
        let mut values = Vec::new();
        suffixes.find(name, |value| values.push(value));
        values
    }

    #[test]
    fn a_suffix_is_plain_text() {
        let known = [
            (".google.com", 1),
            ("gle.com", 2),
            ("com", 3),
            (".net", 4),
            ("gle.com", 5),
        ];
        let suffixes = Suffixes::new(known.into_iter());
        assert_eq!(found(&suffixes, "mx.google.com"), [3, 2, 5, 1]);
        assert_eq!(found(&suffixes, "google.com"), [3, 2, 5]);
        assert_eq!(found(&suffixes, "com"), [3]);
        assert_eq!(found(&suffixes, "m").len() + found(&suffixes, "").len(), 0);
        assert_eq!(found(&suffixes, "réputation.net"), [4]);
    }
}
