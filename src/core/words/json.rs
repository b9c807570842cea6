//! Records as JSON, one object a line. Each message has two of them: a serializer that looks at each octet
//! of each key took half of the instructions of a message's way through the brain, and this a sixth of that.

use core::fmt::Display;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::Write as _;

/// `,"name":`, so that a key is one copy of a known length.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(super) use key;

/// A JSON text in the making. The caller sees to it that keys and values take turns.
#[derive(Debug)]
pub(super) struct Line(Vec<u8>);

impl Line {
    pub(super) fn with_capacity(octets: usize) -> Self {
        Self(Vec::with_capacity(octets))
    }

    /// Its text, of which the first octet opens the object: until here it is the comma of the first key.
    pub(super) fn into_object(mut self) -> Box<[u8]> {
        self.0[0] = b'{';
        self.0.push(b'}');
        self.0.into_boxed_slice()
    }

    /// What is JSON already.
    pub(super) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key);
        self.string(value);
    }

    /// Without anything to escape.
    pub(super) fn plain(&mut self, key: &str, value: impl Display) {
        self.raw(key);
        self.0.push(b'"');
        write!(self.0, "{value}").expect("a vector takes all");
        self.0.push(b'"');
    }

    pub(super) fn ip(&mut self, key: &str, ip: IpAddr) {
        let IpAddr::V4(ip) = ip else {
            return self.plain(key, ip);
        };
        self.raw(key);
        self.0.push(b'"');
        self.dotted(ip);
        self.0.push(b'"');
    }

    pub(super) fn socket(&mut self, key: &str, socket: SocketAddr) {
        let SocketAddr::V4(socket) = socket else {
            return self.plain(key, socket);
        };
        self.raw(key);
        self.0.push(b'"');
        self.dotted(*socket.ip());
        self.0.push(b':');
        self.digits(socket.port().into());
        self.0.push(b'"');
    }

    fn dotted(&mut self, ip: Ipv4Addr) {
        for (at, octet) in ip.octets().into_iter().enumerate() {
            if at > 0 {
                self.0.push(b'.');
            }
            self.digits(octet.into());
        }
    }

    fn digits(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number));
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.raw(key);
        self.digits(value);
    }

    pub(super) fn null(&mut self, key: &str) {
        self.raw(key);
        self.raw("null");
    }

    pub(super) fn maybe_text(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    /// An object as value: `fields` writes its keys.
    pub(super) fn object(&mut self, key: &str, fields: impl FnOnce(&mut Self)) {
        self.raw(key);
        let begin = self.0.len();
        fields(self);
        match self.0.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => self.0.push(b'{'),
        }
        self.0.push(b'}');
    }

    /// A text as JSON has it (RFC 8259 §7).
    pub(super) fn string(&mut self, text: &str) {
        self.0.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = first_escaped(rest) {
            self.0.extend_from_slice(&rest[..at]);
            self.escape(rest[at]);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
    }

    fn escape(&mut self, octet: u8) {
        let short = match octet {
            b'"' | b'\\' => octet,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => return write!(self.0, "\\u{octet:04x}").expect("a vector takes all"),
        };
        self.0.extend_from_slice(&[b'\\', short]);
    }
}

/// Where the first octet is that cannot stand for itself: a control, a quotation mark, a backslash.
fn first_escaped(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The high bit of each octet that is zero; of others too where a zero is below, which comes first.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, _) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let marks = zeros(word ^ (ONES * u64::from(b'"')));
        let slashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let found = controls | marks | slashes;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let begin = words.len() * 8;
    let is_escaped = |octet: &u8| matches!(octet, ..0x20 | b'"' | b'\\');
    let at = text[begin..].iter().position(is_escaped)?;
    Some(begin + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::MessageId;

    fn told(text: &str) -> String {
        let mut line = Line::with_capacity(0);
        line.string(text);
        String::from_utf8(line.0).unwrap()
    }

    #[test]
    fn texts_are_escaped_as_serde_json_does_it() {
        let each = (0..0x80u8)
            .map(char::from)
            .chain(['é', '€', '😀', '\u{80}', '\u{2028}']);
        for one in each {
            // At each place of a word, beside neighbours that are escaped and that are not.
            for before in 0..18 {
                for (left, right) in [("a", "b"), ("\"", "é"), ("é", "\\"), ("!", "#"), ("[", "]")]
                {
                    let text = format!("{}{one}{}", left.repeat(before), right.repeat(9));
                    assert_eq!(told(&text), serde_json::to_string(&text).unwrap());
                }
            }
        }
        assert_eq!(told(""), "\"\"");
    }

    #[test]
    fn objects_hold_what_was_put_in() {
        let mut line = Line::with_capacity(0);
        line.text(key!("a"), "x\"y");
        line.object(key!("empty"), |_| {});
        line.object(key!("inner"), |line| {
            line.number(key!("n"), 65_535);
            line.null(key!("none"));
            line.plain(key!("id"), MessageId::from_u128(7));
            for address in ["127.0.0.1:25", "192.0.2.255:65535", "[2001:db8::1]:25"] {
                let address: SocketAddr = address.parse().unwrap();
                line.socket(key!("socket"), address);
                line.ip(key!("ip"), address.ip());
            }
        });
        line.maybe_text(key!("b"), None);
        let json = line.into_object();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let expected = serde_json::json!({
            "a": "x\"y", "empty": {}, "b": null,
            "inner": {
                "n": 65_535, "none": null, "id": "00000000000000000000000007",
                "socket": "[2001:db8::1]:25", "ip": "2001:db8::1",
            },
        });
        assert_eq!(value, expected);
        let text = String::from_utf8(json.into()).unwrap();
        assert!(
            text.contains("\"socket\":\"192.0.2.255:65535\",\"ip\":\"192.0.2.255\""),
            "{text}"
        );
    }
}
