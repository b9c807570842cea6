//! Commands, replies, messages and log records as busy senders and providers write them.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::words::{
    Address, BodyKind, Content, Domain, Envelope, Headers, IdSequence, Labels, Message, MessageId,
    Notify, Reception, Recipient, Record, RecordKind, Reply, Response,
};

use crate::T0;

/// One transaction's commands, as busy clients write them.
pub const COMMANDS: &[&[u8]] = &[
    b"EHLO mail.sender.example",
    b"MAIL FROM:<bounce-1234567@news.sender.example> SIZE=10240 BODY=8BITMIME",
    b"RCPT TO:<somebody.or.other@mailbox.provider.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;somebody.or.other@mailbox.provider.example",
    b"RCPT TO:<a@example.com>",
    b"DATA",
    b"BDAT 10240 LAST",
    b"RSET",
    b"QUIT",
];

/// What providers answer, one reply after the other.
pub const REPLIES: &[u8] = b"220 mx.provider.example ESMTP ready\r\n\
250-mx.provider.example at your service\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n\
250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n\
250 2.1.0 OK 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
250 2.1.5 OK 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
354 Go ahead\r\n\
250 2.0.0 OK 1800000000 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
421-4.7.28 Our system has detected an unusual rate of mail\r\n\
421 4.7.28 originating from your network.\r\n";

/// A header of a newsletter: folded fields, a signature, the fields that bulk senders add.
pub fn header() -> Vec<u8> {
    let mut text = String::from(
        "Received: from app-7.sender.example ([192.0.2.17])\r\n\tby mta.sender.example with ESMTP id 01JG\r\n\
         \tfor <somebody@provider.example>;\r\n\tMon, 15 Jan 2027 08:00:00 +0000\r\n\
         DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; s=s1;\r\n\
         \th=from:to:subject:date:message-id:list-unsubscribe;\r\n",
    );
    for line in 0..6 {
        text.push_str(&format!("\t{}\r\n", "bAse64".repeat(11 + line % 2)));
    }
    text.push_str(
        "From: The News <news@sender.example>\r\nTo: somebody@provider.example\r\n\
         Subject: =?utf-8?q?What_happened_this_week?=\r\nDate: Mon, 15 Jan 2027 08:00:00 +0000\r\n\
         Message-ID: <1234567@news.sender.example>\r\nMIME-Version: 1.0\r\n\
         List-Unsubscribe: <https://sender.example/u/1234567>,\r\n <mailto:u-1234567@sender.example>\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
    );
    text.into_bytes()
}

/// A message of about `octets` as a client writes it: stuffed, and ended by the lone dot. One line in
/// 64 begins with a dot.
pub fn stuffed(octets: usize) -> Vec<u8> {
    let mut data = header();
    let mut line = 0;
    while data.len() < octets {
        line += 1;
        if line % 64 == 0 {
            data.extend_from_slice(b"..a line that began with one dot\r\n");
        }
        data.extend_from_slice(
            b"<p>Seventy octets of text, as quoted-printable lines mostly are.</p>=\r\n",
        );
    }
    data.extend_from_slice(b".\r\n");
    data
}

/// A message of 10 KiB to one recipient of `domain`.
pub fn message(ids: &mut IdSequence, domain: &Domain, data: &Bytes) -> Arc<Message> {
    Arc::new(Message {
        id: ids.next(T0),
        envelope: Envelope {
            sender: Address::parse("bounce-12345@news.sender.example").ok(),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: vec![Recipient {
                address: Address::parse(&format!("somebody.or.other@{domain}"))
                    .expect("a well-formed address"),
                notify: Notify::default(),
                orcpt: None,
            }],
        },
        reception: Reception {
            at: T0,
            peer: None,
            helo: "".into(),
            protocol: "ESMTP",
        },
        content: Content::default(),
        labels: Labels::default(),
        data: data.clone(),
    })
}

/// Names of `count` domains.
pub fn domains(count: usize) -> Vec<Domain> {
    (0..count)
        .map(|n| Domain::parse(&format!("domain{n}.example")).expect("a well-formed domain"))
        .collect()
}

/// The log's line of a delivery.
pub fn record(reply: &Reply) -> Record<'static> {
    Record {
        kind: RecordKind::Delivery,
        id: Some(MessageId::from_u128(
            0x0194_3b7f_0123_4567_89ab_cdef_0123_4567,
        )),
        sender: "bounce-12345@news.sender.example",
        recipient: "somebody.or.other@domain.example",
        queue: "domain.example".into(),
        site: "(mx1|mx2).domain.example",
        size: 10_000,
        response: Response::from_reply(reply, None),
        peer_address: None,
        timestamp: 1_800_000_000,
        created: 1_800_000_000,
        num_attempts: 1,
        egress_source: None,
        egress_pool: None,
        source_address: None,
        delivery_protocol: Some("ESMTP"),
        reception_protocol: "ESMTP",
        nodeid: "node-1",
        session_id: None,
        provider_name: None,
        headers: Headers::default(),
        labels: Labels::default(),
    }
}
