//! An accepted message. Never changes after its acceptance.

use core::net::SocketAddr;

use bytes::Bytes;

use super::{Envelope, Labels, MessageId, Moment};

/// How the message came in; kept for trace, records and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    /// When its last byte was here.
    pub at: Moment,
    /// `None` for messages we made ourselves (reports).
    pub peer: Option<SocketAddr>,
    /// The name the client gave in EHLO or HELO; empty for our own.
    pub helo: Box<str>,
    /// `ESMTP`, `SMTP`, `HTTP`, … as RFC 3848 names it; `LOCAL` for our own.
    pub protocol: &'static str,
}

/// What the next hop must be able to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The body or header has octets above 127.
    pub eight_bit: bool,
    /// The header itself has octets above 127 (RFC 6532), so the next hop must do SMTPUTF8.
    pub utf8_header: bool,
}

/// Body and envelope. Shared, never copied per recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub envelope: Envelope,
    pub reception: Reception,
    pub content: Content,
    pub labels: Labels,
    /// Header and body as they go out, our `Received:` on top, lines ended by CRLF, dots not
    /// stuffed. Ends with CRLF.
    pub data: Bytes,
}

impl Message {
    /// Octets of [`Message::data`].
    pub fn size(&self) -> usize {
        self.data.len()
    }
}
