//! Every rule of a report's structure, and what peers may try to write into one.

use super::*;
use crate::mail::{fields, header_end};
use crate::words::{Enhanced, Labels, Reply, Stage};

const NOW: Moment = Moment::from_secs(1_795_512_600);

fn original(recipients: &[&str]) -> Message {
    Message {
        id: MessageId::from_u128(1),
        envelope: Envelope {
            sender: Some(Address::parse("me@sender.example").unwrap()),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: recipients
                .iter()
                .map(|text| Recipient {
                    address: Address::parse(text).unwrap(),
                    notify: Notify::default(),
                    orcpt: None,
                })
                .collect(),
        },
        reception: Reception {
            at: Moment::from_secs(1_795_500_000),
            peer: None,
            helo: "".into(),
            protocol: "ESMTP",
        },
        content: Content::default(),
        labels: Labels::default(),
        data: Bytes::from_static(b"Subject: hello\r\nX: y\r\n\r\nthe body\r\n"),
    }
}

fn refused(text: &str) -> Outcome {
    Outcome::Refused(Cause::Reply {
        stage: Stage::Rcpt,
        reply: Reply::new(550, Some(Enhanced::new(5, 1, 1)), text),
    })
}

fn told(recipient: u16, outcome: &Outcome) -> Told<'_> {
    Told {
        recipient,
        outcome,
        peer: Some("mx.peer.example"),
        last_attempt: Some(NOW),
    }
}

fn made(kind: Kind, original: &Message, told: &[Told<'_>]) -> Option<Message> {
    let hostname = Domain::parse("mta.example").unwrap();
    let by = Reporter {
        hostname: &hostname,
        id: MessageId::from_u128(77),
        now: NOW,
        full_octets_max: Reporter::FULL_OCTETS_MAX,
    };
    report(kind, original, told, &by)
}

/// The three parts, each its header and content.
fn parts(message: &Message) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&message.data).into_owned();
    assert!(
        text.split("\r\n").all(|line| line.len() <= 998),
        "lines fit SMTP"
    );
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n']),
        "CRLF only"
    );
    assert!(text.ends_with("--\r\n"));
    assert_eq!(
        message.envelope.sender, None,
        "RFC 3464 §2: the null sender"
    );
    let boundary = text
        .split("boundary=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let pieces: Vec<&str> = text.split(&format!("\r\n--{boundary}")).collect();
    assert_eq!(pieces.len(), 5, "preamble, three parts, end");
    assert_eq!(pieces[4], "--\r\n");
    pieces[1..4]
        .iter()
        .map(|piece| {
            piece
                .trim_start_matches("\r\n")
                .split_once("\r\n\r\n")
                .unwrap()
        })
        .map(|(head, content)| (head.to_owned(), content.to_owned()))
        .collect()
}

#[test]
fn a_failure_report_has_all_its_fields() {
    let mut original = original(&["a@b.example", "ok@b.example"]);
    original.envelope.envid = Some("QQ+2B1+3D".into());
    original.envelope.recipients[0].orcpt = Some("rfc822;first+2Blast@b.example".into());
    let outcome = refused("no such\nuser");
    let report = made(Kind::Failed, &original, &[told(0, &outcome)]).unwrap();
    let parts = parts(&report);
    assert!(parts[0].0.contains("text/plain; charset=us-ascii"));
    assert!(
        parts[0]
            .1
            .contains("<a@b.example>: host mx.peer.example said: 550 5.1.1 no")
    );
    assert!(
        parts[1]
            .0
            .starts_with("Content-Type: message/delivery-status\r\n")
    );
    assert_eq!(
        parts[1].1,
        "Original-Envelope-Id: QQ+1=\r\n\
         Reporting-MTA: dns; mta.example\r\n\
         Arrival-Date: Tue, 24 Nov 2026 06:00:00 +0000\r\n\
         \r\n\
         Original-Recipient: rfc822; first+last@b.example\r\n\
         Final-Recipient: rfc822; a@b.example\r\n\
         Action: failed\r\n\
         Status: 5.1.1\r\n\
         Remote-MTA: dns; mx.peer.example\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
         Last-Attempt-Date: Tue, 24 Nov 2026 09:30:00 +0000\r\n"
    );
    assert!(parts[2].0.starts_with("Content-Type: message/rfc822\r\n"));
    assert_eq!(parts[2].1.as_bytes(), &original.data[..]);
    let names: Vec<_> = fields(&report.data).map(|f| f.name.to_vec()).collect();
    for name in [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    ] {
        assert_eq!(
            names.iter().filter(|n| **n == name.as_bytes()).count(),
            1,
            "{name}"
        );
    }
    let head = String::from_utf8_lossy(&report.data[..header_end(&report.data)]).into_owned();
    assert!(head.contains("To: <me@sender.example>\r\n"));
    assert!(head.contains("multipart/report; report-type=delivery-status;"));
    assert!(!report.content.eight_bit && !report.envelope.smtputf8);
    assert_eq!(
        report.envelope.recipients[0].address.as_str(),
        "me@sender.example"
    );
}

#[test]
fn nobody_is_told_who_must_not_be() {
    let outcome = refused("no");
    let mut bounce = original(&["a@b.example"]);
    bounce.envelope.sender = None;
    assert_eq!(
        made(Kind::Failed, &bounce, &[told(0, &outcome)]),
        None,
        "no report on a report"
    );
    let mut never = original(&["a@b.example", "c@b.example"]);
    never.envelope.recipients[0].notify = Notify::NEVER;
    assert_eq!(made(Kind::Failed, &never, &[told(0, &outcome)]), None);
    let until = Kind::Delayed { until: NOW };
    assert_eq!(made(until, &never, &[told(0, &outcome)]), None);
    let both = made(
        Kind::Failed,
        &never,
        &[told(0, &outcome), told(1, &outcome)],
    )
    .unwrap();
    let status = &parts(&both)[1].1;
    assert!(!status.contains("a@b.example") && status.contains("c@b.example"));
    let delivered = Outcome::Delivered(Reply::new(250, None, "ok"));
    assert_eq!(
        made(Kind::Delivered, &never, &[told(1, &delivered)]),
        None,
        "not asked for"
    );
    never.envelope.recipients[1].notify = Notify {
        given: true,
        success: true,
        failure: false,
        delay: false,
    };
    assert_eq!(made(Kind::Failed, &never, &[told(1, &outcome)]), None);
    assert_eq!(made(until, &never, &[told(1, &outcome)]), None);
    let success = made(Kind::Relayed, &never, &[told(1, &delivered)]).unwrap();
    assert!(
        parts(&success)[1]
            .1
            .contains("Action: relayed\r\nStatus: 2.0.0\r\n")
    );
    assert_eq!(
        made(Kind::Failed, &never, &[told(9, &outcome)]),
        None,
        "no such recipient"
    );
}

#[test]
fn a_delay_says_until_when_and_returns_the_header() {
    let original = original(&["a@b.example"]);
    let outcome = Outcome::Deferred(Cause::Connect {
        detail: "refused".into(),
    });
    let kind = Kind::Delayed {
        until: Moment::from_secs(1_795_944_600),
    };
    let mut told = told(0, &outcome);
    told.peer = None;
    let report = made(kind, &original, &[told]).unwrap();
    let parts = parts(&report);
    assert!(parts[1].1.contains(
        "Action: delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: x-posthaste; connect: refused\r\n"
    ));
    assert!(
        parts[1]
            .1
            .ends_with("Will-Retry-Until: Sun, 29 Nov 2026 09:30:00 +0000\r\n")
    );
    assert!(!parts[1].1.contains("Remote-MTA"));
    assert!(
        parts[2]
            .0
            .starts_with("Content-Type: text/rfc822-headers\r\n")
    );
    assert_eq!(parts[2].1, "Subject: hello\r\nX: y\r\n");
}

#[test]
fn ret_and_size_decide_what_is_returned() {
    let outcome = refused("no");
    let mut large = original(&["a@b.example"]);
    large.data = Bytes::from(format!("Subject: x\r\n\r\n{}", "line\r\n".repeat(20_000)));
    let kind_of = |message: &Message| {
        let report = made(Kind::Failed, message, &[told(0, &outcome)]).unwrap();
        parts(&report)[2].0.split("\r\n").next().unwrap().to_owned()
    };
    assert_eq!(kind_of(&large), "Content-Type: text/rfc822-headers");
    large.envelope.ret = Some(Ret::Full);
    assert_eq!(kind_of(&large), "Content-Type: message/rfc822");
    let mut small = original(&["a@b.example"]);
    small.envelope.ret = Some(Ret::Headers);
    assert_eq!(kind_of(&small), "Content-Type: text/rfc822-headers");
    small.envelope.ret = None;
    small.data = Bytes::from(format!(
        "S: {}\r\n\r\n{}\r\n",
        "s".repeat(3000),
        "b".repeat(3000)
    ));
    assert_eq!(kind_of(&small), "Content-Type: text/rfc822-headers");
    small.data = Bytes::from(
        "X: =_0000000000000000000000002D\r\n\r\n\r\n--=_0000000000000000000000002D\r\n",
    );
    assert_eq!(kind_of(&small), "Content-Type: message/rfc822");
}

#[test]
fn peers_cannot_write_into_the_report() {
    let mut original = original(&["a@b.example"]);
    original.envelope.envid = Some("x+0D+0ABcc: evil".into());
    original.envelope.recipients[0].orcpt = Some("rfc822;x+0D+0AAction: delivered".into());
    let evil = "\r\nBcc: victim@c\r\n\r\n--=_0000000000000000000000002D--\u{1b}[2Jé ";
    let outcome = refused(&format!("{evil}{}", "z".repeat(60_000)));
    let mut entry = told(0, &outcome);
    entry.peer = Some("peer\r\nAction: delivered");
    let report = made(Kind::Failed, &original, &[entry]).unwrap();
    let parts = parts(&report);
    assert!(report.data.is_ascii() && !report.data.contains(&0x1b));
    let fields: Vec<&str> = parts[1]
        .1
        .split("\r\n")
        .filter(|l| !l.starts_with(' '))
        .collect();
    assert_eq!(
        fields.iter().filter(|l| l.starts_with("Action:")).count(),
        1
    );
    assert!(!fields.iter().any(|l| l.starts_with("Bcc")));
    assert_eq!(
        fields.iter().filter(|l| l.is_empty()).count(),
        2,
        "one group, and the end"
    );
    assert!(!parts[0].1.contains("\r\nBcc"));
}

#[test]
fn eight_bit_is_declared_and_utf8_has_its_own_types() {
    let outcome = refused("nö");
    let mut eight = original(&["a@b.example"]);
    eight.content.eight_bit = true;
    eight.data = Bytes::from("Subject: x\r\n\r\nbödy\r\n");
    let report = made(Kind::Failed, &eight, &[told(0, &outcome)]).unwrap();
    assert!(report.content.eight_bit && report.envelope.body == BodyKind::EightBitMime);
    let found = parts(&report);
    assert!(
        found[1].0.contains("message/delivery-status") && found[1].1.contains("550 5.1.1 n?\r\n")
    );
    assert!(found[1].0.ends_with("7bit") && found[2].0.ends_with("8bit"));
    let mut utf8 = original(&["jörg@b.example"]);
    utf8.content = Content {
        eight_bit: true,
        utf8_header: true,
    };
    utf8.data = Bytes::from("Subject: ö\r\n\r\nbody\r\n");
    utf8.envelope.sender = Some(Address::parse("mé@sender.example").unwrap());
    let report = made(Kind::Failed, &utf8, &[told(0, &outcome)]).unwrap();
    assert!(report.envelope.smtputf8 && report.content.utf8_header);
    let found = parts(&report);
    assert!(found[0].0.contains("charset=utf-8"));
    assert!(found[1].0.contains("message/global-delivery-status"));
    assert!(
        found[1]
            .1
            .contains("Final-Recipient: utf-8; jörg@b.example\r\n")
    );
    assert!(found[1].1.contains("smtp; 550 5.1.1 nö\r\n"));
    assert!(found[2].0.contains("message/global\r\n"));
    utf8.envelope.ret = Some(Ret::Headers);
    let report = made(Kind::Failed, &utf8, &[told(0, &outcome)]).unwrap();
    assert!(parts(&report)[2].0.contains("message/global-headers"));
}

#[test]
fn only_a_host_that_spoke_is_named_and_an_address_is_a_literal() {
    let original = original(&["a@b.example"]);
    let answer = refused("no");
    let lost = Outcome::Deferred(Cause::Lost {
        stage: Stage::Dot,
        detail: "reset".into(),
    });
    let ours = Outcome::Refused(Cause::Ours { detail: "x".into() });
    let expired = Outcome::Refused(Cause::Expired { last: "x".into() });
    for (peer, outcome, named) in [
        ("mx.peer.example", &answer, Some("mx.peer.example")),
        ("192.0.2.1", &answer, Some("[192.0.2.1]")),
        ("2001:db8::1", &answer, Some("[IPv6:2001:db8::1]")),
        ("mx.peer.example", &lost, Some("mx.peer.example")),
        ("mx.peer.example", &ours, None),
        ("mx.peer.example", &expired, None),
    ] {
        let mut told = told(0, outcome);
        told.peer = Some(peer);
        let report = made(Kind::Failed, &original, &[told]).unwrap();
        let parts = parts(&report);
        let field = parts[1]
            .1
            .split("\r\n")
            .find(|l| l.starts_with("Remote-MTA"));
        let wanted = named.map(|name| format!("Remote-MTA: dns; {name}"));
        assert_eq!(field, wanted.as_deref(), "{outcome:?}");
        assert_eq!(
            parts[0]
                .1
                .contains(&format!("host {}", named.unwrap_or(""))),
            named.is_some()
        );
    }
}
