//! What goes over the wire: commands with their parameters, the stuffed body; and what EHLO offers.

use bytes::Bytes;
use memchr::memmem;

use super::dialogue::Segments;
use crate::words::{BodyKind, Envelope, Message, Notify, Recipient, Ret};

/// More pieces than this are copied into one: vectored writes take 1,024 at most, and small ones
/// cost more than the copy.
const PIECES_MAX: usize = 16;

/// What the peer's EHLO offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// It answered EHLO; not so when we fell back to HELO.
    pub esmtp: bool,
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub starttls: bool,
    /// SIZE (RFC 1870): offered; the limit is `None` when the peer names none or 0.
    pub size: bool,
    pub size_max: Option<u64>,
}

impl Extensions {
    /// From the text of the reply to EHLO: keywords stand from the second line on.
    pub fn parse(text: &str) -> Self {
        let mut offered = Self {
            esmtp: true,
            ..Self::default()
        };
        for line in text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or("").to_ascii_uppercase();
            match keyword.as_str() {
                "PIPELINING" => offered.pipelining = true,
                "8BITMIME" => offered.eight_bit_mime = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                "DSN" => offered.dsn = true,
                "STARTTLS" => offered.starttls = true,
                "SIZE" => {
                    offered.size = true;
                    offered.size_max = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                _ => {}
            }
        }
        offered
    }
}

/// Whether the transaction can go to a peer with SMTPUTF8 only, whoever its recipients are. A client
/// that did not ask for SMTPUTF8 and has octets above 127 in its header sends 8-bit content, no more.
pub(super) fn needs_utf8(message: &Message) -> bool {
    let envelope = &message.envelope;
    let sender = envelope.sender.as_ref();
    envelope.smtputf8 && message.content.utf8_header || sender.is_some_and(|s| s.needs_utf8())
}

pub(super) fn push_mail(out: &mut Vec<u8>, message: &Message, utf8: bool, offered: &Extensions) {
    let envelope: &Envelope = &message.envelope;
    out.extend_from_slice(b"MAIL FROM:<");
    if let Some(sender) = &envelope.sender {
        out.extend_from_slice(sender.as_str().as_bytes());
    }
    out.push(b'>');
    if offered.size {
        out.extend_from_slice(format!(" SIZE={}", message.size()).as_bytes());
    }
    let eight_bit = message.content.eight_bit || envelope.body == BodyKind::EightBitMime;
    if offered.eight_bit_mime && eight_bit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    if offered.smtputf8 && (utf8 || envelope.smtputf8 || message.content.utf8_header) {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if offered.dsn {
        match envelope.ret {
            Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        push_parameter(out, b" ENVID=", envelope.envid.as_deref(), false);
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_rcpt(out: &mut Vec<u8>, recipient: &Recipient, offered: &Extensions) {
    out.extend_from_slice(b"RCPT TO:<");
    out.extend_from_slice(recipient.address.as_str().as_bytes());
    out.push(b'>');
    if offered.dsn {
        if recipient.notify.given {
            out.extend_from_slice(b" NOTIFY=");
            push_notify(out, recipient.notify);
        }
        // RFC 6533 §3: where the address may be UTF-8, so may the one it was.
        let utf8 = offered.smtputf8 && recipient.address.needs_utf8();
        push_parameter(out, b" ORCPT=", recipient.orcpt.as_deref(), utf8);
    }
    out.extend_from_slice(b"\r\n");
}

/// A value with a space or a line end in it would be read as something else: it is left out.
fn push_parameter(out: &mut Vec<u8>, name: &[u8], value: Option<&str>, utf8: bool) {
    let is_fit = |c: char| match c.is_ascii() {
        true => c.is_ascii_graphic(),
        false => utf8 && !c.is_control() && !c.is_whitespace(),
    };
    if let Some(value) = value.filter(|v| !v.is_empty() && v.chars().all(is_fit)) {
        out.extend_from_slice(name);
        out.extend_from_slice(value.as_bytes());
    }
}

fn push_notify(out: &mut Vec<u8>, notify: Notify) {
    let wanted = [
        (notify.success, "SUCCESS"),
        (notify.failure, "FAILURE"),
        (notify.delay, "DELAY"),
    ];
    let words: Vec<&str> = wanted
        .iter()
        .filter_map(|(on, word)| on.then_some(*word))
        .collect();
    let text = if words.is_empty() {
        "NEVER".to_owned()
    } else {
        words.join(",")
    };
    out.extend_from_slice(text.as_bytes());
}

/// The message with its dots stuffed (RFC 5321 §4.5.2), without the final dot. The pieces are
/// slices of the message: an overlap of one octet at each stuffed dot doubles it.
pub(super) fn push_body(out: &mut Segments, data: &Bytes) {
    let hits: Vec<usize> = memmem::find_iter(data, b"\r\n.")
        .take(PIECES_MAX + 1)
        .collect();
    if hits.len() > PIECES_MAX {
        out.push(copied_body(data));
    } else {
        if data.starts_with(b".") {
            out.push(Bytes::from_static(b"."));
        }
        let mut start = 0;
        for hit in hits {
            out.push(data.slice(start..hit + 3));
            start = hit + 2;
        }
        if start < data.len() {
            out.push(data.slice(start..));
        }
    }
    // Without a line end of its own the last line would swallow the final dot.
    if !data.is_empty() && !data.ends_with(b"\r\n") {
        out.push(Bytes::from_static(b"\r\n"));
    }
}

fn copied_body(data: &Bytes) -> Bytes {
    let mut copy = Vec::with_capacity(data.len() + data.len() / 32);
    if data.starts_with(b".") {
        copy.push(b'.');
    }
    let mut start = 0;
    for hit in memmem::find_iter(data, b"\r\n.") {
        copy.extend_from_slice(&data[start..hit + 3]);
        start = hit + 2;
    }
    copy.extend_from_slice(&data[start..]);
    Bytes::from(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(data: &[u8]) -> Vec<u8> {
        let mut out = Segments::new();
        push_body(&mut out, &Bytes::copy_from_slice(data));
        out.concat()
    }

    #[test]
    fn dots_are_stuffed_at_line_starts_only() {
        assert_eq!(stuffed(b""), b"");
        assert_eq!(stuffed(b"a.b\r\n"), b"a.b\r\n");
        assert_eq!(stuffed(b".\r\n"), b"..\r\n");
        assert_eq!(stuffed(b"a\r\n.\r\n.b\r\n"), b"a\r\n..\r\n..b\r\n");
        assert_eq!(stuffed(b"a\r\n..\r\n"), b"a\r\n...\r\n");
        assert_eq!(stuffed(b"no end"), b"no end\r\n");
    }

    #[test]
    fn many_dots_give_the_same_as_few() {
        let data = b"..x\r\n".repeat(100);
        assert_eq!(stuffed(&data), b"...x\r\n".repeat(100));
    }

    #[test]
    fn offers_are_read_without_regard_to_case() {
        let offered =
            Extensions::parse("PIPELINING host\nsize 1000\npipelining\n8BitMime\nDSN\nAUTH PLAIN");
        assert!(offered.pipelining && offered.eight_bit_mime && offered.dsn && offered.size);
        assert_eq!(offered.size_max, Some(1000));
        let bare = Extensions {
            esmtp: true,
            ..Extensions::default()
        };
        assert_eq!(Extensions::parse("PIPELINING"), bare);
        assert_eq!(Extensions::parse("x\nSIZE 0").size_max, None);
    }
}
