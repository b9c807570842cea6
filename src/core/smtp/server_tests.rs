//! The server session driven as the node drives it.

use core::time::Duration;
use std::sync::Arc;

use super::data::LineEnds;
use super::server::{Action, Config, Session, Submission};
use crate::words::{
    Address, BodyKind, Committed, Domain, Enhanced, MessageId, Moment, Notify, Reply, Ret,
};

pub(super) const NOW: Moment = Moment::from_secs(1_800_000_000);
pub(super) const HEAD: &str = "EHLO c.test\r\nMAIL FROM:<s@c.test>\r\nRCPT TO:<r@d.test>\r\n";

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) now: Moment,
    pub(super) said: String,
    pub(super) submissions: Vec<Submission>,
    writes: usize,
    pub(super) closed: bool,
}

#[expect(clippy::disallowed_methods, reason = "the test plays the spool")]
fn committed(id: MessageId) -> Result<(MessageId, Committed), Reply> {
    Ok((id, Committed::witnessed()))
}

impl Client {
    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(Domain::parse("mx.test").unwrap());
        change(&mut config);
        let peer = "127.0.0.1:9".parse().unwrap();
        let mut client = Self {
            session: Session::new(Arc::new(config), peer, NOW),
            now: NOW,
            said: String::new(),
            submissions: Vec::new(),
            writes: 0,
            closed: false,
        };
        client.drain();
        assert_eq!(client.said, "220 mx.test ESMTP Posthaste\r\n");
        client.said.clear();
        client
    }

    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(!self.closed, "nothing after Close");
            match action {
                Action::Send => {
                    let output = self.session.take_output();
                    assert!(!output.is_empty());
                    let text = core::str::from_utf8(&output).unwrap();
                    assert!(text.ends_with("\r\n"));
                    text.lines().for_each(assert_form);
                    self.said.push_str(text);
                    self.writes += 1;
                }
                Action::Admit { recipient, .. } => {
                    let code = Some(Enhanced::new(5, 7, 1));
                    let verdict = match recipient.local() {
                        "no" => Err(Reply::new(550, code, "Relaying denied")),
                        "other" => Ok(Address::parse("meant@e.test").ok()),
                        _ => Ok(None),
                    };
                    self.session.handle_admitted(verdict, self.now);
                }
                Action::Open { .. } => self
                    .session
                    .handle_opened(Ok(b"T: 1\r\n".to_vec()), self.now),
                Action::Commit(submission) => {
                    self.submissions.push(submission);
                    let id = MessageId::from_u128(self.submissions.len() as u128);
                    self.session.handle_committed(committed(id), self.now);
                }
                Action::Close => self.closed = true,
            }
        }
    }

    pub(super) fn give(&mut self, bytes: &[u8]) {
        let mut used = 0;
        while used < bytes.len() {
            used += self.session.handle_bytes(&bytes[used..], self.now);
            self.drain();
        }
    }

    /// The replies to `text`.
    pub(super) fn say(&mut self, text: &str) -> String {
        self.said.clear();
        self.give(text.as_bytes());
        self.said.clone()
    }

    pub(super) fn codes(&mut self, text: &str) -> Vec<u16> {
        let said = self.say(text);
        let last = said.lines().filter(|l| l.as_bytes()[3] == b' ');
        last.map(|l| l[..3].parse().unwrap()).collect()
    }
}

/// RFC 5321 §4.5.3.1.5 bounds a reply line; RFC 2034 §4 wants an enhanced code of the reply's own
/// class in each, but in the greeting, the answers to EHLO and HELO, and 354.
fn assert_form(line: &str) {
    assert!(line.len() + 2 <= 512, "{line}");
    let hello = line.starts_with("250-") || matches!(line, "250 HELP" | "250 mx.test");
    if hello || line.starts_with("220 ") || line.starts_with("354 ") {
        return;
    }
    let (code, text) = line.split_at(4);
    assert!(Enhanced::parse_prefix(text).is_some(), "{line}");
    assert_eq!(text.as_bytes()[0], code.as_bytes()[0], "{line}");
}

pub(super) fn code_of(text: &str) -> u16 {
    *Client::new().codes(text).last().unwrap()
}

#[test]
fn cuts_change_nothing() {
    let dialogue = "EHLO c.test\r\nMAIL FROM:<s@c.test> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<a@d.test>\r\n\
        RCPT TO:<no@d.test>\r\nRCPT TO:<b@d.test> NOTIFY=NEVER\r\nDATA\r\nReceived: x\r\n\r\n..dot\r\n.\r\n\
        MAIL FROM:<>\r\nRCPT TO:<a@d.test>\r\nBDAT 5\r\na\r\n.\rRCPT TO:<x@d.test>\r\nBDAT 3 LAST\r\n\nxyBDAT 3\r\nabc\
        MAIL FROM:<>\r\nRCPT TO:<no@d.test>\r\nDATA\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@d.test>\r\nDATA\r\n\
        a\r\n.\rb\n.\nc\r\n.\r\nXYZZY\r\nQUIT\r\n";
    let dialogue = dialogue.as_bytes();
    let mut whole = Client::new();
    whole.give(dialogue);
    assert_eq!(whole.submissions.len(), 2, "{}", whole.said);
    assert!(whole.closed && whole.said.ends_with("221 2.0.0 Bye\r\n"));
    assert_eq!(
        whole.submissions[0].data,
        b"T: 1\r\nReceived: x\r\n\r\n.dot\r\n"
    );
    assert_eq!(whole.submissions[1].data, b"T: 1\r\na\r\n.\r\nxy\r\n");
    let same = |cut: &Client, at: usize| {
        assert_eq!(cut.said, whole.said, "cut at {at}");
        assert_eq!(cut.submissions, whole.submissions, "cut at {at}");
    };
    for at in 1..dialogue.len() {
        let mut cut = Client::new();
        cut.give(&dialogue[..at]);
        cut.give(&dialogue[at..]);
        same(&cut, at);
    }
    let mut bytewise = Client::new();
    for byte in dialogue {
        bytewise.give(&[*byte]);
    }
    same(&bytewise, 1);
}

#[test]
fn one_pipelined_group_costs_one_write() {
    let mut client = Client::new();
    let codes = client.codes(&format!("{HEAD}RCPT TO:<no@d.test>\r\nDATA\r\n"));
    assert_eq!(codes, [250, 250, 250, 550, 354]);
    assert_eq!(client.writes, 2, "greeting and group");
    let codes = client.codes("x\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<r@d.test>\r\nDATA\r\n");
    assert_eq!(codes, [250, 250, 250, 354]);
    assert_eq!(client.writes, 3);
}

#[test]
fn no_250_before_commit() {
    let mut client = Client::new();
    client.say(&format!("{HEAD}DATA\r\n"));
    client.session.handle_bytes(b"x\r\n.\r\n", NOW);
    let Some(Action::Commit(_)) = client.session.poll_action() else {
        panic!("the message is to be committed");
    };
    client.session.handle_shutdown(NOW);
    client.session.handle_timeout(Moment::NEVER);
    assert_eq!(client.session.poll_timeout(), None);
    assert_eq!(client.session.poll_action(), None);
    assert_eq!(client.session.handle_bytes(b"NOOP\r\n", NOW), 0);
    client.said.clear();
    let full = Reply::new(452, Some(Enhanced::new(4, 3, 1)), "Disk is full");
    client.session.handle_committed(Err(full), NOW);
    client.drain();
    assert_eq!(
        client.said,
        "452 4.3.1 Disk is full\r\n421 4.3.2 Shutting down\r\n"
    );
    assert!(client.closed);
}

#[test]
fn a_cut_ends_content_and_no_reply_that_is_owed() {
    let mut client = Client::new();
    client.give(format!("{HEAD}DATA\r\nhalf").as_bytes());
    client.session.handle_shutdown(NOW);
    client.drain();
    assert!(!client.closed, "content is taken to its end");
    client.session.handle_cut(NOW);
    client.drain();
    assert!(client.closed && client.said.ends_with("421 4.3.2 Shutting down\r\n"));
    assert!(client.submissions.is_empty());
}

#[test]
fn a_cut_leaves_time_for_the_commit_alone() {
    for content in ["DATA\r\nx\r\n.\r\n", "BDAT 3 LAST\r\nx\r\n"] {
        let mut client = Client::new();
        client.say(HEAD);
        client.said.clear();
        let (command, content) = content.split_at(content.find('\n').unwrap() + 1);
        client.give(command.as_bytes());
        client.said.clear();
        client.session.handle_bytes(content.as_bytes(), NOW);
        let asked = client.session.poll_action();
        assert!(matches!(asked, Some(Action::Commit(_))), "{asked:?}");
        client.session.handle_shutdown(NOW);
        client.session.handle_cut(NOW);
        assert_eq!(client.session.poll_action(), None, "{command}");
        let id = MessageId::from_u128(1);
        client.session.handle_committed(committed(id), NOW);
        client.drain();
        let said = format!("250 2.0.0 Ok: queued as {id}\r\n421 4.3.2 Shutting down\r\n");
        assert_eq!((client.said, client.closed), (said, true), "{command}");
    }
}

#[test]
fn a_message_without_room_is_given_up_for_now() {
    let mut client = Client::new();
    client.give(format!("{HEAD}DATA\r\nhalf").as_bytes());
    assert!(client.session.held_octets() > 0);
    client.session.handle_no_room(NOW);
    client.drain();
    assert_eq!(client.session.held_octets(), 0);
    assert!(client.closed && client.said.contains("\n421 4.3.1 "));
}

#[test]
fn content_behind_a_malformed_chunk_is_no_command() {
    let mut client = Client::new();
    client.give(b"BDAT 6 LAST x\r\nQUIT\r\nNOOP\r\n");
    assert_eq!(client.said.matches("\r\n").count(), 2, "{}", client.said);
    assert!(client.said.starts_with("501 ") && client.said.contains("\n250 "));
    assert!(!client.closed);
}

#[test]
fn commands_have_the_codes_of_the_rfcs() {
    for (line, code) in [
        ("HELO", 501),
        ("EHLO", 501),
        ("EHLO [IPv6:2001:db8::1]", 250),
        ("EHLO a\u{1}<b>", 500),
        ("eHlO x", 250),
        ("NOOP with words", 250),
        ("NOOP  ", 250),
        ("HELP", 214),
        ("VRFY root", 252),
        ("EXPN list", 502),
        ("TURN", 502),
        ("SAML FROM:<a@b>", 502),
        ("XYZZY foo", 500),
        ("", 500),
        ("RSET foo", 501),
        ("MAIL FROM:<a@b.test>", 503),
        ("RCPT TO:<a@b.test>", 503),
        ("DATA", 503),
        ("BDAT 0 LAST", 503),
        ("BDAT x", 501),
        ("GET / HTTP/1.1", 421),
        ("QUIT", 221),
    ] {
        assert_eq!(code_of(&format!("{line}\r\n")), code, "{line:?}");
    }
    let mut helo = Client::new();
    assert_eq!(helo.say("HELO c.test\r\n"), "250 mx.test\r\n");
    assert_eq!(code_of("NOOP\n"), 500, "a lone LF ends no line");
}

#[test]
fn mail_and_its_parameters() {
    for (rest, code) in [
        ("FROM:<>", 250),
        ("from: <a@b.test>  ", 250),
        ("FROM:<a@[192.0.2.1]> BODY=7BIT SIZE=1000", 250),
        ("FROM:<@x.test,@y.test:a@b.test>", 250),
        ("FROM:<\"x>\\\" y\"@b.test> RET=HDRS ENVID=QQ+2B1", 250),
        ("FROM:<ю@b.test> SMTPUTF8 BODY=8BITMIME", 250),
        ("FROM:<ю@b.test>", 553),
        ("FROM:<a@b.test", 501),
        ("FROM:<a@b.test>>", 501),
        ("FROM:<<a@b.test>>", 501),
        ("FROM:a@b.test", 501),
        ("FROM:<a@[300.1.1.1]>", 553),
        ("FROM:<@>", 501),
        ("FROM", 501),
        ("", 501),
        ("FROM:<a@b.test> XFOO=bar", 555),
        ("FROM:<a@b.test> AUTH=<>", 555),
        ("FROM:<a@b.test> BODY=9BIT", 504),
        ("FROM:<a@b.test> BODY=BINARYMIME", 504),
        ("FROM:<a@b.test> SIZE=99999999", 552),
        ("FROM:<a@b.test> SIZE=99999999999999999999", 552),
        ("FROM:<a@b.test> SIZE=999999999999999999999", 501),
        ("FROM:<a@b.test> SIZE=-1", 501),
        ("FROM:<a@b.test> SIZE=", 501),
        ("FROM:<a@b.test> SIZE=1 SIZE=1", 501),
        ("FROM:<a@b.test> RET=SOME", 501),
        ("FROM:<a@b.test> ENVID=a=b", 501),
        ("FROM:<a@b.test> SMTPUTF8=yes", 501),
    ] {
        let text = format!("EHLO c.test\r\nMAIL {rest}\r\n");
        assert_eq!(code_of(&text), code, "{rest:?}");
    }
    for bytes in [&b"\xff\xfe"[..], b"\xc0\xae", b"\xed\xa0\x80"] {
        let mut client = Client::new();
        let line = [b"EHLO c\r\nMAIL FROM:<a", bytes, b"@b.test> SMTPUTF8\r\n"].concat();
        client.give(&line);
        assert!(client.said.ends_with("553 5.6.7 Address is not UTF-8\r\n"));
    }
}

#[test]
fn rcpt_and_its_parameters() {
    for (rest, code) in [
        ("TO:<PostMaster>", 250),
        (
            "TO:<a@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@c.test",
            250,
        ),
        ("TO:<>", 553),
        ("TO:<a@b.test>x", 501),
        ("TO:<a@b.test;rm>", 553),
        ("TO:", 501),
        ("TO:<a@b.test> NOTIFY=NEVER,SUCCESS", 501),
        ("TO:<a@b.test> NOTIFY=BOGUS", 501),
        ("TO:<a@b.test> NOTIFY=NEVER NOTIFY=NEVER", 501),
        ("TO:<a@b.test> ORCPT=bob", 501),
        ("TO:<a@b.test> XFOO", 555),
    ] {
        let text = format!("EHLO c.test\r\nMAIL FROM:<>\r\nRCPT {rest}\r\n");
        assert_eq!(code_of(&text), code, "{rest:?}");
    }
}

#[test]
fn the_envelope_is_kept_as_given() {
    let mut client = Client::new();
    client.say(
        "EHLO c\r\nMAIL FROM:<Se@C.test> BODY=8BITMIME RET=FULL ENVID=q\r\n\
         RCPT TO:<@x.test:A@D.test> NOTIFY=NEVER ORCPT=rfc822;b\r\nRCPT TO:<postmaster>\r\n\
         RCPT TO:<other@d.test> ORCPT=rfc822;o\r\nDATA\r\n\
         Subject: ü\r\n\r\nx\r\n.\r\n",
    );
    let submission = &client.submissions[0];
    let envelope = &submission.envelope;
    assert_eq!(envelope.sender.as_ref().unwrap().as_str(), "Se@c.test");
    assert_eq!(
        (envelope.body, envelope.ret),
        (BodyKind::EightBitMime, Some(Ret::Full))
    );
    assert_eq!(envelope.recipients[0].address.as_str(), "A@d.test");
    assert_eq!(envelope.recipients[0].notify, Notify::NEVER);
    assert_eq!(
        envelope.recipients[1].address.as_str(),
        "postmaster@mx.test"
    );
    let meant = &envelope.recipients[2];
    assert_eq!(meant.address.as_str(), "meant@e.test");
    assert_eq!(meant.orcpt.as_deref(), Some("rfc822;o"));
    assert!(submission.content.eight_bit && submission.content.utf8_header);
}

#[test]
fn transactions_end_where_they_should() {
    let mut client = Client::new();
    assert_eq!(
        client
            .codes(&format!("{HEAD}MAIL FROM:<>\r\nNOOP\r\nEHLO c\r\nDATA\r\n"))
            .last(),
        Some(&503)
    );
    assert_eq!(
        client
            .codes("MAIL FROM:<>\r\nDATA\r\nRCPT TO:<>\r\nRCPT TO:<a@b.test>\r\nRSET\r\nDATA\r\n"),
        [250, 554, 553, 250, 250, 503]
    );
    assert_eq!(
        client.codes("MAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nDATA \r\n.\r\nDATA\r\n"),
        [250, 250, 354, 250, 503]
    );
}

#[test]
fn smuggled_commands_stay_content() {
    for ends in [
        "\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\n",
        "\r\n.\r",
        "\r\n.\r\r\n",
    ] {
        let text = format!("{HEAD}DATA\r\nx{ends}MAIL FROM:<evil@c.test>\r\n.\r\nNOOP\r\n");
        let mut strict = Client::new();
        assert_eq!(
            strict.codes(&text),
            [250, 250, 250, 354, 554, 250],
            "{ends:?}"
        );
        assert!(strict.submissions.is_empty());
        let mut lax = Client::with(|c| c.line_ends = LineEnds::Normalise);
        assert_eq!(lax.codes(&text), [250, 250, 250, 354, 250, 250], "{ends:?}");
        assert_eq!(lax.submissions.len(), 1);
    }
    let mut chunked = Client::new();
    assert_eq!(
        chunked.codes(&format!("{HEAD}BDAT 3 LAST\r\na\nbNOOP\r\n"))[3..],
        [554, 250]
    );
}

#[test]
fn limits_hold() {
    let mut long = Client::new();
    assert_eq!(long.codes(&format!("NOOP {}\r\n", "x".repeat(505))), [250]);
    assert_eq!(
        long.codes(&format!("NOOP {}\r\nNOOP\r\n", "x".repeat(20_000))),
        [500, 250]
    );
    let mut large = Client::with(|c| c.limits.message_octets_max = 1000);
    let text = format!("{HEAD}DATA\r\n{}\r\n.\r\nNOOP\r\n", "x".repeat(5000));
    assert_eq!(large.codes(&text)[3..], [354, 552, 250]);
    let mut chunk = Client::with(|c| c.limits.message_octets_max = 10);
    let text = format!("{HEAD}BDAT 9\r\n123456789BDAT 3\r\n123BDAT 11 LAST\r\n12345678901NOOP\r\n");
    assert_eq!(chunk.codes(&text)[3..], [250, 552, 503, 250]);
    let mut many = Client::with(|c| c.limits.recipients_max = 1);
    assert_eq!(
        many.codes(&format!("{HEAD}RCPT TO:<b@d.test>\r\nDATA\r\nx\r\n.\r\n"))[3..],
        [452, 354, 250]
    );
    let mut wrong = Client::new();
    assert_eq!(wrong.codes(&"FOO\r\n".repeat(30)).last(), Some(&421));
    assert!(wrong.closed);
    let mut busy = Client::with(|c| c.limits.commands_max = 2);
    assert_eq!(busy.codes("NOOP\r\nNOOP\r\nNOOP\r\n"), [250, 250, 421]);
    let mut flood = Client::new();
    assert_eq!(flood.codes(&"HELP\r\n".repeat(5000)).len(), 5000);
    assert!(flood.writes > 5, "replies are not piled up");
}

#[test]
fn loops_end_after_a_hundred_hops() {
    for (hops, code) in [(30, 250), (100, 250), (101, 554)] {
        let text = format!(
            "{HEAD}DATA\r\n{}\r\nx\r\n.\r\n",
            "Received: by x\r\n".repeat(hops)
        );
        assert_eq!(code_of(&text), code, "{hops} hops");
    }
}

#[test]
fn early_talkers_and_foreign_protocols_are_shown_out() {
    let config = Arc::new(Config::new(Domain::parse("mx.test").unwrap()));
    let mut early = Session::new(config, "127.0.0.1:9".parse().unwrap(), NOW);
    early.handle_bytes(b"EHLO x\r\n", NOW);
    assert_eq!(early.poll_action(), Some(Action::Send));
    assert!(early.take_output().starts_with(b"554 5.5.0 "));
    assert_eq!(early.poll_action(), Some(Action::Close));
    let mut tls = Client::new();
    assert_eq!(tls.codes("\u{16}\u{3}\u{1}"), [421]);
    assert!(tls.closed);
}

#[test]
fn the_silent_and_the_slow_are_timed_out() {
    let mut client = Client::new();
    client
        .session
        .handle_bytes(b"NOO", NOW + Duration::from_secs(299));
    assert_eq!(
        client.session.poll_timeout(),
        Some(NOW + Duration::from_secs(300))
    );
    client
        .session
        .handle_timeout(NOW + Duration::from_secs(299));
    assert!(!client.closed);
    client
        .session
        .handle_timeout(NOW + Duration::from_secs(300));
    client.drain();
    assert_eq!(
        (client.said.as_str(), client.closed),
        ("421 4.4.2 Timeout\r\n", true)
    );
}

#[test]
fn shutdown_lets_content_in_flight_finish() {
    let mut client = Client::new();
    client.say(&format!("{HEAD}DATA\r\nx\r\n"));
    client.session.handle_shutdown(NOW);
    client.drain();
    assert!(!client.closed);
    assert_eq!(client.codes(".\r\n"), [250, 421]);
    assert!(client.closed && client.submissions.len() == 1);
    let mut idle = Client::new();
    idle.session.handle_shutdown(NOW);
    idle.drain();
    assert!(idle.closed);
}

#[test]
fn a_closed_session_asks_for_nothing() {
    let mut client = Client::new();
    client.session.handle_bytes(HEAD.as_bytes(), NOW);
    client.session.handle_closed(NOW);
    assert_eq!(client.session.poll_action(), None);
    assert_eq!(client.session.poll_timeout(), None);
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() < 640, "{}", size_of::<Session>());
}

#[test]
fn each_refused_command_is_told_once() {
    let mut client = Client::with(|config| config.limits.errors_max = 1000);
    client.say(
        "MAIL FROM:<early@c.test>\r\nEHLO c\r\nNONSENSE\r\nRSET\r\nMAIL FROM:<s@c.test> SIZE=99999999999\r\n\
         MAIL FROM:<s@c.test>\r\nRCPT TO:<no@d.test>\r\nRCPT TO:<>\r\nDATA\r\nBDAT 3 LAST\r\nabc\
         MAIL FROM:<t@c.test>\r\nRCPT TO:<r@d.test>\r\nDATA\r\nx\0\r\n.\r\n",
    );
    let rejections = client.session.take_rejections();
    let told: Vec<String> = rejections
        .kept
        .iter()
        .map(|r| {
            let text =
                |a: &Option<Address>| a.as_ref().map_or_else(|| "-".into(), ToString::to_string);
            format!(
                "{} {} {} {}",
                r.command,
                text(&r.sender),
                text(&r.recipient),
                r.reply
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "MAIL - - 503 5.5.1 Say EHLO first",
            "MAIL s@c.test - 552 5.3.4 Message size exceeds limit",
            "RCPT s@c.test no@d.test 550 5.7.1 Relaying denied",
            "RCPT s@c.test - 553 5.1.3 Recipient address is malformed",
            "DATA s@c.test - 554 5.5.1 No valid recipients",
            "BDAT s@c.test - 554 5.5.1 No valid recipients",
            "DATA t@c.test - 554 5.6.0 NUL in message",
        ]
    );
    assert_eq!(rejections.lost, 0);
    client.say(&format!("EHLO c\r\n{}", "MAIL FROM:x\r\n".repeat(100)));
    let rejections = client.session.take_rejections();
    assert_eq!((rejections.kept.len(), rejections.lost), (32, 68));
    assert!(client.session.take_rejections().kept.is_empty());
}
