//! Delivery status notifications: a `multipart/report` (RFC 6522) of a text, a machine-readable
//! status (RFC 3464, RFC 6533) and the message or its header. Decides who is told (RFC 3461), never
//! when.
//!
//! What is returned: for failures all of the message if RET=FULL, the header if RET=HDRS, and
//! without RET all of it up to [`Reporter::full_octets_max`], the header beyond. Delays and
//! successes return the header only (RFC 3461 §4.3). A message with a line too long for SMTP
//! returns its header.

use core::net::IpAddr;

use bytes::Bytes;
use memchr::memmem;

use super::report_text::{Charset, clean, decode_xtext, push_field, push_folded, push_verbatim};
use super::scan::header_end;
use crate::words::{
    Address, BodyKind, Cause, Content, Domain, Envelope, Labels, Message, MessageId, Moment,
    Notify, Outcome, Reception, Recipient, Ret,
};

/// RFC 5322 §2.1.1.
const LINE_OCTETS_MAX: usize = 998;

/// What the report tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    /// Not delivered yet; given up at the moment named.
    Delayed {
        until: Moment,
    },
    /// Delivered into a mailbox, as far as we know.
    Delivered,
    /// Handed to a peer that does no DSN: nobody will tell more (RFC 3461 §5.2.2).
    Relayed,
}

impl Kind {
    const fn action(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }

    const fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Undelivered mail returned to sender",
            Self::Delayed { .. } => "Delayed mail (still being tried)",
            Self::Delivered | Self::Relayed => "Successful mail delivery report",
        }
    }

    const fn opening(self) -> &'static str {
        match self {
            Self::Failed => {
                "Your message could not be delivered to the recipients below. It will not be tried again."
            }
            Self::Delayed { .. } => {
                "Your message is not delivered to the recipients below yet. You need not send it again: it will be tried further."
            }
            Self::Delivered => "Your message was delivered to the recipients below.",
            Self::Relayed => {
                "Your message was handed on for the recipients below to a host that does not report delivery."
            }
        }
    }

    /// RFC 3461 §4.1; without NOTIFY failures and delays are told.
    const fn is_wanted(self, notify: Notify) -> bool {
        match self {
            Self::Failed => notify.failure,
            Self::Delayed { .. } => notify.delay || !notify.given,
            Self::Delivered | Self::Relayed => notify.success,
        }
    }
}

/// One recipient and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Index in the envelope of the original.
    pub recipient: u16,
    pub outcome: &'a Outcome,
    /// Name, or address, of the host that was spoken to; told only of outcomes that are its doing.
    pub peer: Option<&'a str>,
    pub last_attempt: Option<Moment>,
}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    pub hostname: &'a Domain,
    /// Of the report itself.
    pub id: MessageId,
    pub now: Moment,
    /// Originals up to this size are returned whole when RET does not say.
    pub full_octets_max: usize,
}

impl Reporter<'_> {
    /// A default for [`Reporter::full_octets_max`].
    pub const FULL_OCTETS_MAX: usize = 64 * 1024;
}

/// The report, from the null sender to the sender of `original`; `None` when there is no sender to
/// tell or none of the recipients' NOTIFY asks for it.
pub fn report(
    kind: Kind,
    original: &Message,
    told: &[Told<'_>],
    by: &Reporter<'_>,
) -> Option<Message> {
    let sender = original.envelope.sender.as_ref()?;
    let told: Vec<(&Told<'_>, &Recipient)> = told
        .iter()
        .filter_map(|t| {
            Some((
                t,
                original.envelope.recipients.get(usize::from(t.recipient))?,
            ))
        })
        .filter(|(_, recipient)| kind.is_wanted(recipient.notify))
        .collect();
    if told.is_empty() {
        return None;
    }
    let utf8 = original.content.utf8_header
        || sender.needs_utf8()
        || told.iter().any(|(_, r)| r.address.needs_utf8());
    let charset = if utf8 { Charset::Utf8 } else { Charset::Ascii };
    let (is_full, returned) = returned_part(kind, original, by.full_octets_max);
    let text = text_part(kind, &told, by, charset);
    let status = status_part(kind, original, &told, by, charset);
    let boundary = boundary(by.id, &returned);

    let eight_bit = !(text.is_ascii() && status.is_ascii() && returned.is_ascii());
    let mut data = header(kind, sender, by, &boundary, eight_bit).into_bytes();
    let plain = match charset {
        Charset::Ascii => "text/plain; charset=us-ascii",
        Charset::Utf8 => "text/plain; charset=utf-8",
    };
    push_part(&mut data, &boundary, plain, text.as_bytes());
    let kind_of_status = match charset {
        Charset::Ascii => "message/delivery-status",
        Charset::Utf8 => "message/global-delivery-status",
    };
    push_part(&mut data, &boundary, kind_of_status, status.as_bytes());
    let kind_of_return = match (is_full, original.content.utf8_header) {
        (true, false) => "message/rfc822",
        (true, true) => "message/global",
        (false, false) => "text/rfc822-headers",
        (false, true) => "message/global-headers",
    };
    push_part(&mut data, &boundary, kind_of_return, &returned);
    data.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Some(Message {
        id: by.id,
        envelope: envelope(sender, eight_bit),
        reception: Reception {
            at: by.now,
            peer: None,
            helo: "".into(),
            protocol: "LOCAL",
        },
        content: Content {
            eight_bit,
            utf8_header: sender.needs_utf8(),
        },
        // The node's own mail: a limit, a window or a pause of the tenant must not hold back the news.
        labels: Labels::default(),
        data: Bytes::from(data),
    })
}

fn envelope(sender: &Address, eight_bit: bool) -> Envelope {
    Envelope {
        sender: None,
        body: if eight_bit {
            BodyKind::EightBitMime
        } else {
            BodyKind::SevenBit
        },
        smtputf8: sender.needs_utf8(),
        ret: None,
        envid: None,
        recipients: vec![Recipient {
            address: sender.clone(),
            notify: Notify::default(),
            orcpt: None,
        }],
    }
}

fn header(kind: Kind, sender: &Address, by: &Reporter<'_>, boundary: &str, eight: bool) -> String {
    let Reporter {
        hostname, id, now, ..
    } = by;
    let encoding = if eight { "8bit" } else { "7bit" };
    let flavour = "delivery-status";
    format!(
        "From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n\
         To: <{sender}>\r\n\
         Subject: {}\r\n\
         Date: {}\r\n\
         Message-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type={flavour};\r\n boundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\
         \r\n\
         This is a MIME-encapsulated message.\r\n",
        kind.subject(),
        now.rfc5322(),
    )
}

fn push_part(data: &mut Vec<u8>, boundary: &str, kind: &str, content: &[u8]) {
    let encoding = if content.is_ascii() { "7bit" } else { "8bit" };
    let head = format!(
        "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    );
    data.extend_from_slice(head.as_bytes());
    data.extend_from_slice(content);
}

/// Unique by the id; lengthened should the original hold it all the same.
fn boundary(id: MessageId, returned: &[u8]) -> String {
    let mut boundary = format!("=_{id}");
    while memmem::find(returned, boundary.as_bytes()).is_some() && boundary.len() < 70 {
        boundary.push('_');
    }
    boundary
}

fn text_part(
    kind: Kind,
    told: &[(&Told<'_>, &Recipient)],
    by: &Reporter<'_>,
    charset: Charset,
) -> String {
    let mut text = format!("This is the mail system at {}.\r\n\r\n", by.hostname);
    push_folded(&mut text, kind.opening(), "");
    if let Kind::Delayed { until } = kind {
        let until = format!(
            "It will be returned to you if it is not delivered by {}.",
            until.rfc5322()
        );
        push_folded(&mut text, &until, "");
    }
    for (told, recipient) in told {
        let said = match told.outcome {
            Outcome::Delivered(reply) => reply.to_string(),
            Outcome::Deferred(cause) | Outcome::Refused(cause) => cause.to_string(),
        };
        let host = remote_mta(told)
            .map(|peer| format!("host {peer} said: "))
            .unwrap_or_default();
        let line = format!("<{}>: {host}{said}", recipient.address);
        text.push_str("\r\n");
        push_folded(&mut text, &clean(&line, charset), "    ");
    }
    text
}

fn status_part(
    kind: Kind,
    original: &Message,
    told: &[(&Told<'_>, &Recipient)],
    by: &Reporter<'_>,
    charset: Charset,
) -> String {
    let mut out = String::new();
    if let Some(envid) = original.envelope.envid.as_deref().and_then(decode_xtext) {
        push_verbatim(&mut out, "Original-Envelope-Id", &envid, charset);
    }
    let mut field = |name: &str, value: &str| push_field(&mut out, name, value, charset);
    field("Reporting-MTA", &format!("dns; {}", by.hostname));
    field("Arrival-Date", &original.reception.at.rfc5322().to_string());
    for (told, recipient) in told {
        out.push_str("\r\n");
        push_recipient(&mut out, kind, told, recipient, charset);
    }
    out
}

fn push_recipient(
    out: &mut String,
    kind: Kind,
    told: &Told<'_>,
    recipient: &Recipient,
    charset: Charset,
) {
    if let Some(orcpt) = recipient.orcpt.as_deref().and_then(original_recipient) {
        push_verbatim(out, "Original-Recipient", &orcpt, charset);
    }
    let address = &recipient.address;
    let address_type = if address.needs_utf8() {
        "utf-8"
    } else {
        "rfc822"
    };
    let value = format!("{address_type}; {address}");
    push_verbatim(out, "Final-Recipient", &value, charset);
    let mut field = |name: &str, value: &str| push_field(out, name, value, charset);
    field("Action", kind.action());
    field("Status", &told.outcome.enhanced().to_string());
    if let Some(peer) = remote_mta(told) {
        field("Remote-MTA", &format!("dns; {peer}"));
    }
    match told.outcome {
        Outcome::Delivered(reply)
        | Outcome::Deferred(Cause::Reply { reply, .. })
        | Outcome::Refused(Cause::Reply { reply, .. }) => {
            field("Diagnostic-Code", &format!("smtp; {reply}"));
        }
        Outcome::Deferred(cause) | Outcome::Refused(cause) => {
            field("Diagnostic-Code", &format!("x-posthaste; {cause}"));
        }
    }
    if let Some(at) = told.last_attempt {
        field("Last-Attempt-Date", &at.rfc5322().to_string());
    }
    if let Kind::Delayed { until } = kind {
        field("Will-Retry-Until", &until.rfc5322().to_string());
    }
}

/// RFC 3464 §2.3.5: the host whose answer this is. One without a name has its address as a literal.
fn remote_mta(told: &Told<'_>) -> Option<String> {
    let is_its_doing = match told.outcome {
        Outcome::Delivered(_) => true,
        Outcome::Deferred(cause) | Outcome::Refused(cause) => matches!(
            cause,
            Cause::Reply { .. } | Cause::Lost { .. } | Cause::Protocol { .. }
        ),
    };
    let peer = told.peer.filter(|_| is_its_doing)?;
    Some(match peer.parse() {
        Ok(IpAddr::V4(v4)) => format!("[{v4}]"),
        Ok(IpAddr::V6(v6)) => format!("[IPv6:{v6}]"),
        Err(_) => peer.to_owned(),
    })
}

/// `addr-type;xtext` as RFC 3464 §2.3.1 wants it, decoded.
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, text) = orcpt.split_once(';')?;
    let is_atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_atom.then_some(())?;
    Some(format!("{kind}; {}", decode_xtext(text)?))
}

/// Whether it is all of the original, and its octets.
fn returned_part(kind: Kind, original: &Message, full_octets_max: usize) -> (bool, Bytes) {
    let data = &original.data;
    let wants_full = kind == Kind::Failed
        && match original.envelope.ret {
            Some(Ret::Full) => true,
            Some(Ret::Headers) => false,
            None => data.len() <= full_octets_max,
        };
    if wants_full && !has_long_line(data) {
        return (true, data.clone());
    }
    let head = data.slice(..header_end(data));
    if !has_long_line(&head) {
        return (false, head);
    }
    let mut folded = Vec::with_capacity(head.len() + head.len() / 64);
    for line in head.split_inclusive(|b| *b == b'\n') {
        for (index, piece) in line.chunks(LINE_OCTETS_MAX - 8).enumerate() {
            if index > 0 && !matches!(piece, b"\n" | b"\r\n") {
                folded.extend_from_slice(b"\r\n ");
            }
            folded.extend_from_slice(piece);
        }
    }
    (false, folded.into())
}

fn has_long_line(data: &[u8]) -> bool {
    data.split(|b| *b == b'\n')
        .any(|line| line.len() > LINE_OCTETS_MAX + 1)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
