//! Reads replies (RFC 5321 §4.2) from a peer's bytes, however they are cut. Holds no more than the
//! configured octets and lets no control character of a peer through.

use crate::words::{Enhanced, Reply};

/// Octets a peer may spend.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimits {
    /// Of one line without its end. RFC 5321 §4.5.3.1.5 allows 512; real peers write more.
    pub line_octets_max: usize,
    /// Of one whole reply, all lines counted.
    pub reply_octets_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self {
            line_octets_max: 4096,
            reply_octets_max: 64 * 1024,
        }
    }
}

/// The bytes are no reply; nothing that follows can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("reply line too long")]
    LineTooLong,
    #[error("reply too long")]
    ReplyTooLong,
    #[error("reply without a code from 200 to 599")]
    Code,
    #[error("lines of one reply differ in their code")]
    CodeChanged,
}

/// One per connection.
#[derive(Debug)]
pub struct ReplyParser {
    limits: ReplyLimits,
    line: Vec<u8>,
    text: String,
    code: Option<u16>,
    enhanced: Option<Enhanced>,
    octets: usize,
}

impl ReplyParser {
    pub const fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            line: Vec::new(),
            text: String::new(),
            code: None,
            enhanced: None,
            octets: 0,
        }
    }

    /// Takes bytes up to the end of one reply: how many were taken, and the reply if it is whole.
    /// After an error the parser is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Reply>), ReplyError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            self.octets += part.len();
            if self.line.len() + part.len() > self.limits.line_octets_max + 1 {
                return Err(ReplyError::LineTooLong);
            }
            if self.octets > self.limits.reply_octets_max {
                return Err(ReplyError::ReplyTooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_none() {
                return Ok((bytes.len(), None));
            }
            // The line end counts too, or a reply of empty lines would have no bound.
            self.octets += 1;
            taken += part.len() + 1;
            if let Some(reply) = self.end_line()? {
                return Ok((taken, Some(reply)));
            }
        }
        Ok((taken, None))
    }

    /// Whether a part of a reply is here.
    pub fn is_midway(&self) -> bool {
        self.octets > 0
    }

    fn end_line(&mut self) -> Result<Option<Reply>, ReplyError> {
        let line = core::mem::take(&mut self.line);
        let bare = line.strip_suffix(b"\r").unwrap_or(&line);
        let (code, more, text) = split_line(bare).ok_or(ReplyError::Code)?;
        let first = self.code.is_none();
        if self.code.is_some_and(|known| known != code) {
            return Err(ReplyError::CodeChanged);
        }
        self.code = Some(code);
        let text = clean(text);
        let text = match Enhanced::parse_prefix(&text) {
            // RFC 2034 §4: the code stands on every line; it is kept once, if it fits the reply.
            Some((enhanced, rest))
                if u16::from(enhanced.class) == code / 100
                    && (first || self.enhanced == Some(enhanced)) =>
            {
                self.enhanced = Some(enhanced);
                rest
            }
            Some(_) | None => &text,
        };
        if !first {
            self.text.push('\n');
        }
        self.text.push_str(text);
        if more {
            return Ok(None);
        }
        let reply = Reply::new(code, self.enhanced, &self.text);
        *self = Self::new(self.limits);
        Ok(Some(reply))
    }
}

/// Code, whether more lines follow, text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits
        .iter()
        .fold(0u16, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..=599).contains(&code) {
        return None;
    }
    match rest.split_first() {
        None => Some((code, false, rest)),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

/// Text fit for logs and reports: no control characters, no broken UTF-8.
fn clean(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            // Line and paragraph separators break lines in some readers of logs.
            '\u{2028}' | '\u{2029}' | char::REPLACEMENT_CHARACTER => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

/// Reads `input` whole and in two pieces and holds the parser to one answer for both.
///
/// # Panics
/// When the two readings differ, or a reply lies outside what [`Reply`] promises: for fuzzing.
pub fn exercise(input: &[u8]) {
    let whole = read_all(&[input]);
    for reply in &whole.0 {
        assert!((200..600).contains(&reply.code));
        assert!(!reply.to_string().contains(char::is_control));
    }
    let (head, tail) = input.split_at(input.len() / 2);
    let (replies, error) = read_all(&[head, tail]);
    assert_eq!(replies, whole.0);
    assert_eq!(error.is_some(), whole.1.is_some());
}

fn read_all(pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new(ReplyLimits {
        line_octets_max: 128,
        reply_octets_max: 1024,
    });
    let mut replies = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match parser.feed(rest) {
                Ok((taken, reply)) => {
                    rest = &rest[taken..];
                    replies.extend(reply);
                }
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], cut: usize) -> Result<Vec<Reply>, ReplyError> {
        let mut parser = ReplyParser::new(ReplyLimits::default());
        let mut replies = Vec::new();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            let mut rest = piece;
            while !rest.is_empty() {
                let (taken, reply) = parser.feed(rest)?;
                rest = &rest[taken..];
                replies.extend(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_the_same_at_each_cut() {
        let bytes =
            b"220 hi\r\n250-5.1.0 one\r\n250-5.1.0 two\r\n250 2.1.0 x\r\n550\n421 a\x07b\xff\r\n";
        let whole = read_all(bytes, 0).unwrap();
        assert_eq!(whole.len(), 4);
        assert_eq!(
            &*whole[1].text, "5.1.0 one\n5.1.0 two\n2.1.0 x",
            "an enhanced code of another class is text"
        );
        assert_eq!(&*whole[3].text, "a?b?");
        for cut in 0..=bytes.len() {
            assert_eq!(read_all(bytes, cut).unwrap(), whole, "{cut}");
        }
    }

    #[test]
    fn enhanced_codes_are_kept_once() {
        let reply = &read_all(b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", 0).unwrap()[0];
        assert_eq!(reply.enhanced, Some(Enhanced::new(5, 1, 1)));
        assert_eq!(&*reply.text, "no\nsuch user");
    }

    #[test]
    fn no_smtp_is_an_error() {
        for (bytes, error) in [
            (&b"HTTP/1.1 400 Bad\r\n"[..], ReplyError::Code),
            (b"\r\n", ReplyError::Code),
            (b"25 x\r\n", ReplyError::Code),
            (b"199 x\r\n", ReplyError::Code),
            (b"600 x\r\n", ReplyError::Code),
            (b"250x\r\n", ReplyError::Code),
            (b"250-a\r\n251 b\r\n", ReplyError::CodeChanged),
        ] {
            assert_eq!(read_all(bytes, 0), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn endless_peers_meet_a_bound() {
        let line = vec![b'2'; 1 << 20];
        assert_eq!(read_all(&line, 0), Err(ReplyError::LineTooLong));
        let banner = b"220-\r\n".repeat(20_000);
        assert_eq!(read_all(&banner, 0), Err(ReplyError::ReplyTooLong));
        let mut parser = ReplyParser::new(ReplyLimits::default());
        let error = (0..10_000).find_map(|_| parser.feed(b"9").err());
        assert_eq!(error, Some(ReplyError::LineTooLong), "byte by byte too");
    }
}
