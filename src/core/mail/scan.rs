//! Finds header, fields and body in a message without copying or changing it.

use std::borrow::Cow;

use memchr::memmem;

/// Octets of the header: the empty line before the body is not counted. A message without a body
/// is all header.
pub fn header_end(data: &[u8]) -> usize {
    if data.starts_with(b"\r\n") {
        return 0;
    }
    memmem::find(data, b"\r\n\r\n").map_or(data.len(), |at| at + 2)
}

/// One field as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Without white space around it.
    pub name: &'a [u8],
    /// After the colon, folds kept, the last CRLF cut off.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line (RFC 5322 §2.2.3). What is no UTF-8 in it is replaced.
    pub fn unfolded(&self) -> Cow<'a, str> {
        let text = String::from_utf8_lossy(self.value);
        if text.contains("\r\n") {
            return text.replace("\r\n", "").into();
        }
        text
    }
}

/// The fields of a message, top down. Lines that are no field are passed over.
pub fn fields(data: &[u8]) -> Fields<'_> {
    Fields {
        rest: &data[..header_end(data)],
    }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.rest.is_empty() {
            let (raw, rest) = self.rest.split_at(field_len(self.rest));
            self.rest = rest;
            let Some(colon) = memchr::memchr(b':', raw) else {
                continue;
            };
            let name = raw[..colon].trim_ascii();
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                let value = &raw[colon + 1..];
                return Some(Field {
                    name,
                    value: value.strip_suffix(b"\r\n").unwrap_or(value),
                });
            }
        }
        None
    }
}

/// Takes out the fields of the header that match, but none of the first `kept`. The others, and lines
/// that are no field, stay as they are.
pub fn remove_fields(data: &mut Vec<u8>, kept: usize, is_unwanted: impl Fn(Field<'_>) -> bool) {
    let end = header_end(data);
    let (mut at, mut to, mut seen) = (0, 0, 0);
    while at < end {
        let next = at + field_len(&data[at..end]);
        let field = fields(&data[at..next]).next();
        seen += usize::from(field.is_some());
        if seen > kept && field.is_some_and(&is_unwanted) {
            at = next;
            continue;
        }
        if to < at {
            data.copy_within(at..next, to);
        }
        to += next - at;
        at = next;
    }
    data.drain(to..at);
}

/// Octets up to the line end that no fold follows.
fn field_len(header: &[u8]) -> usize {
    memmem::find_iter(header, b"\r\n")
        .map(|at| at + 2)
        .find(|next| !matches!(header.get(*next), Some(b' ' | b'\t')))
        .unwrap_or(header.len())
}

/// How many hops have stamped the message; a loop shows here (RFC 5321 §6.3).
pub fn received_count(data: &[u8]) -> usize {
    fields(data).filter(|field| field.is("Received")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_their_folds() {
        let data = b"Received: a\r\n\tb\r\nrubbish\r\nreceived : c\r\nX:\r\n\r\nReceived: body\r\n";
        let found: Vec<Field<'_>> = fields(data).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].value, b" a\r\n\tb");
        assert_eq!((found[2].name, found[2].value), (&b"X"[..], &b""[..]));
        assert_eq!(received_count(data), 2);
        assert!(data[header_end(data)..].starts_with(b"\r\nReceived: body"));
    }

    #[test]
    fn edges_of_a_message() {
        assert_eq!(header_end(b""), 0);
        assert_eq!(header_end(b"\r\nbody\r\n\r\n"), 0);
        assert_eq!(header_end(b"A: b\r\n"), 6);
        assert_eq!(fields(b"\r\nA: b\r\n").count(), 0);
        assert_eq!(fields(b": x\r\n a\r\n").count(), 0);
    }
}
