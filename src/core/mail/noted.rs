//! Header fields that an operator wants to see in records: which, and how much of them. Never changes a
//! message.

use std::sync::Arc;

use super::scan::fields;
use crate::words::Headers;

/// What is looked at of a message; fields further down are not told.
const HEADER_OCTETS_MAX: usize = 64 << 10;
/// Of all values of one name together; what is beyond is cut off.
const VALUE_OCTETS_MAX: usize = 512;

/// One per node. No names cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Noted(Arc<[Box<str>]>);

impl Noted {
    /// Names at most.
    pub const NAMES_MAX: usize = 16;

    /// Beyond [`Noted::NAMES_MAX`] names count for nothing.
    pub fn new(names: impl IntoIterator<Item = Box<str>>) -> Self {
        Self(names.into_iter().take(Self::NAMES_MAX).collect())
    }

    /// What `data` has of them.
    pub fn of(&self, data: &[u8]) -> Headers<'_> {
        let mut headers = Headers::default();
        if self.0.is_empty() {
            return headers;
        }
        for field in fields(&data[..data.len().min(HEADER_OCTETS_MAX)]) {
            let named = self.0.iter().find(|name| field.is(name));
            if let Some(name) = named {
                headers.add(name, &field.unfolded(), VALUE_OCTETS_MAX);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str], data: &[u8]) -> serde_json::Value {
        let noted = Noted::new(names.iter().map(|name| Box::from(*name)));
        noted.of(data).read_back()
    }

    #[test]
    fn fields_are_told_under_the_names_they_were_asked_for() {
        let data = b"Received: us\r\nx-campaign:  spring\r\n\tsale \r\nX-Tag: a\r\nX-TAG: b\r\n\
                     Subject: none of it\r\n\r\nX-Tag: body\r\n";
        assert_eq!(
            told(&["X-Campaign", "X-Tag", "X-Other"], data),
            serde_json::json!({"X-Campaign": "spring\tsale", "X-Tag": ["a", "b"]})
        );
        assert_eq!(told(&[], data), serde_json::json!({}));
    }

    #[test]
    fn what_is_told_is_bounded() {
        let wide = "\u{fc}".repeat(VALUE_OCTETS_MAX);
        let long = "z".repeat(500);
        let data = format!("A: {wide}\r\nA: never\r\nB: {long}\r\nB: y\r\nC: x{wide}\r\n\r\n");
        let value = told(&["A", "B", "C"], data.as_bytes());
        assert_eq!(value["A"].as_str().unwrap().len(), VALUE_OCTETS_MAX);
        // A character has two octets, and none is cut in half.
        assert_eq!(value["C"].as_str().unwrap().len(), VALUE_OCTETS_MAX - 1);
        assert_eq!(value["B"].as_array().unwrap().len(), 2);
        let many: Vec<String> = (0..20).map(|n| format!("N{n}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        let all: String = many.iter().map(|name| format!("{name}: x\r\n")).collect();
        let value = told(&names, all.as_bytes());
        assert_eq!(value.as_object().unwrap().len(), Noted::NAMES_MAX);
        let far = format!("Long: {}\r\nFar: x\r\n\r\n", "y".repeat(HEADER_OCTETS_MAX));
        assert_eq!(told(&["Far"], far.as_bytes()), serde_json::json!({}));
        let empty = "A:\r\n".repeat(1000);
        assert_eq!(told(&["A"], empty.as_bytes()), serde_json::json!({"A": ""}));
    }

    #[test]
    fn what_is_no_utf_8_is_told_as_far_as_it_goes() {
        assert_eq!(
            told(&["A"], b"A: \xffx\r\n\r\n"),
            serde_json::json!({"A": "\u{fffd}x"})
        );
    }
}
