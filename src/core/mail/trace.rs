//! The `Received:` field a message gets on its way in (RFC 5321 §4.4).

use core::net::{IpAddr, SocketAddr};

use crate::words::{Address, Domain, MessageId, Moment};

/// Octets of a client's name that are kept.
const HELO_OCTETS_MAX: usize = 255;

/// What the field tells.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// As the client said it; anything may stand in it.
    pub helo: &'a str,
    pub peer: SocketAddr,
    pub hostname: &'a Domain,
    /// A `with` keyword of RFC 3848 or RFC 6531.
    pub protocol: &'a str,
    pub id: MessageId,
    /// Only when it is the only one: others are nobody's business.
    pub recipient: Option<&'a Address>,
    pub at: Moment,
}

/// The folded field with its CRLF. Always ASCII: it must not make SMTPUTF8 a need of the message.
pub fn received_field(trace: &Trace<'_>) -> Vec<u8> {
    let Trace {
        hostname,
        protocol,
        id,
        at,
        ..
    } = trace;
    let mut field = format!(
        "Received: from {} ({})\r\n\tby {hostname} with {protocol} id {id}",
        clean_helo(trace.helo),
        literal(trace.peer.ip()),
    );
    if let Some(recipient) = trace.recipient.filter(|r| !r.needs_utf8()) {
        field.push_str(&format!("\r\n\tfor <{recipient}>"));
    }
    field.push_str(&format!(";\r\n\t{}\r\n", at.rfc5322()));
    field.into_bytes()
}

fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

fn clean_helo(helo: &str) -> String {
    let clean: String = helo
        .chars()
        .take(HELO_OCTETS_MAX)
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-_:[]".contains(c) {
                c
            } else {
                '?'
            }
        })
        .collect();
    if clean.is_empty() {
        "unknown".to_owned()
    } else {
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(helo: &str, peer: &str, recipient: Option<&str>) -> String {
        let recipient = recipient.map(|r| Address::parse(r).unwrap());
        let bytes = received_field(&Trace {
            helo,
            peer: peer.parse().unwrap(),
            hostname: &Domain::parse("mx.example").unwrap(),
            protocol: "ESMTP",
            id: MessageId::from_u128(7),
            recipient: recipient.as_ref(),
            at: Moment::from_secs(1_795_512_600),
        });
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn received_is_folded_and_complete() {
        assert_eq!(
            field("client.example", "192.0.2.1:99", Some("a@b.example")),
            "Received: from client.example ([192.0.2.1])\r\n\tby mx.example with ESMTP id \
             00000000000000000000000007\r\n\tfor <a@b.example>;\r\n\t\
             Tue, 24 Nov 2026 09:30:00 +0000\r\n"
        );
        assert!(field("x", "[2001:db8::1]:9", None).contains("([IPv6:2001:db8::1])"));
        assert!(field("x", "[::ffff:192.0.2.1]:9", None).contains("([192.0.2.1])"));
        assert!(field("", "192.0.2.1:9", None).contains("from unknown "));
    }

    #[test]
    fn a_client_cannot_write_header_lines() {
        let text = field("x\r\nBcc: all@b (c) é", "192.0.2.1:9", Some("é@b.example"));
        assert_eq!(text.matches("\r\n").count(), 3);
        assert!(text.is_ascii() && !text.contains("for <"));
        assert!(
            field(&"a".repeat(9999), "192.0.2.1:9", None)
                .lines()
                .all(|l| l.len() < 400)
        );
    }
}
