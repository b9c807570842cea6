//! Complaints as ARF (RFC 5965) and asynchronous bounces as delivery status notifications (RFC 3464): octets ready for DATA, dots stuffed.

use super::returned::{Event, EventKind};
use super::text::domain_of;
use posthaste_core::words::Moment;

const BOUNDARY: &str = "report-boundary-7d1f";

/// The whole message, addressed to `recipient`.
pub(super) fn render(event: &Event, recipient: &str, now: Moment) -> Vec<u8> {
    let site = domain_of(&event.recipient);
    let (from, subject, kind) = match event.kind {
        EventKind::Complaint => ("feedback", "Abuse report", "feedback-report"),
        EventKind::Bounce => ("MAILER-DAEMON", "Undeliverable mail", "delivery-status"),
    };
    let (text, report) = match event.kind {
        EventKind::Complaint => (
            format!(
                "This is an abuse report for a message received from {} on {}.",
                event.ip,
                event.accepted.rfc5322()
            ),
            feedback(event, site),
        ),
        EventKind::Bounce => (
            format!(
                "Your message to {} could not be delivered.",
                event.recipient
            ),
            status(event, site),
        ),
    };
    let mut message = format!(
        "From: <{from}@{site}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: <{}.{from}@{site}>\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type={kind};\r\n\
         \tboundary=\"{BOUNDARY}\"\r\n\r\n--{BOUNDARY}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{text}\r\n\r\n\
         --{BOUNDARY}\r\nContent-Type: message/{kind}\r\n\r\n{report}\r\n--{BOUNDARY}\r\nContent-Type: text/rfc822-headers\r\n\r\n",
        now.rfc5322(),
        now.as_micros(),
    )
    .into_bytes();
    stuff(&event.header, &mut message);
    if !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    message
}

/// RFC 5965 §3.
fn feedback(event: &Event, site: &str) -> String {
    format!(
        "Feedback-Type: abuse\r\nUser-Agent: posthaste-load/1.0\r\nVersion: 1\r\nOriginal-Mail-From: <{}>\r\n\
         Original-Rcpt-To: <{}>\r\nArrival-Date: {}\r\nSource-IP: {}\r\nReported-Domain: {}\r\nReporting-MTA: dns; {site}\r\n",
        event.sender,
        event.recipient,
        event.accepted.rfc5322(),
        event.ip,
        domain_of(&event.sender),
    )
}

/// RFC 3464 §2.
fn status(event: &Event, site: &str) -> String {
    format!(
        "Reporting-MTA: dns; {site}\r\nArrival-Date: {}\r\n\r\nFinal-Recipient: rfc822; {}\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 <{}>: mailbox unavailable\r\n",
        event.accepted.rfc5322(),
        event.recipient,
        event.recipient,
    )
}

/// A dot at the start of a line is doubled (RFC 5321 §4.5.2).
fn stuff(octets: &[u8], out: &mut Vec<u8>) {
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Brain, Profile};
    use std::sync::Arc;
    use std::time::Duration;

    fn event(kind: &str) -> Event {
        let text = format!(
            "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n[{kind}]\nshare = 1.0\n"
        );
        let now = Moment::from_secs(1_795_512_600);
        let mut brain = Brain::new(Arc::new(Profile::parse("x", &text).unwrap()), 1, now);
        let (id, _) = brain.handle_connect([192, 0, 2, 1].into(), now);
        brain.handle_mail(id, "news@s.test", now);
        brain.handle_rcpt(id, "b@x.test", now);
        brain.handle_end_of_data(id, b"Subject: hi\r\n.dot: 1\r\n\r\n", now);
        brain.poll_event(now + Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn complaints_are_arf() {
        let made = render(
            &event("complaint"),
            "fbl@s.test",
            Moment::from_secs(1_795_512_660),
        );
        let text = String::from_utf8(made).unwrap();
        for part in [
            "To: <fbl@s.test>\r\n",
            "report-type=feedback-report",
            "\r\nFeedback-Type: abuse\r\n",
            "\r\nVersion: 1\r\n",
            "\r\nSource-IP: 192.0.2.1\r\n",
            "\r\nOriginal-Rcpt-To: <b@x.test>\r\n",
            "\r\nSubject: hi\r\n..dot: 1\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with(&format!("\r\n--{BOUNDARY}--\r\n")));
        assert!(text.split("\r\n").all(|line| line != "."));
    }

    #[test]
    fn bounces_are_delivery_status_notifications() {
        let made = render(
            &event("bounce"),
            "news@s.test",
            Moment::from_secs(1_795_512_660),
        );
        let text = String::from_utf8(made).unwrap();
        for part in [
            "report-type=delivery-status",
            "\r\nFinal-Recipient: rfc822; b@x.test\r\n",
            "\r\nAction: failed\r\n",
            "\r\nStatus: 5.1.1\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
