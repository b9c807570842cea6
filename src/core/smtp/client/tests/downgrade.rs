//! What a peer without an extension is sent of messages that want it, and what it is not.

use super::*;
use crate::smtp::client::EightBit;

const ALL: &str = "250-x\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 PIPELINING\r\n";
const MAIL: &str = "MAIL FROM:<s@example.org>";

fn strict() -> Config {
    Config {
        eight_bit: EightBit::Refuse,
        ..Config::new("me.example")
    }
}

/// A bench whose peer offered `offer`, after it was given this message of one or two recipients.
fn given(config: Config, offer: &str, message: Message) -> Bench {
    let mut bench = Bench::new(config, &[]);
    bench.work.push_back(transaction(1, message));
    bench.say("220 x\r\n").say(offer);
    bench
}

fn accept(bench: &mut Bench) {
    bench.say(OK2).say("250 q\r\n");
    assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
}

fn is_unsupported(outcome: &Outcome, wanted: &str) -> bool {
    matches!(
        outcome,
        Outcome::Refused(Cause::NotSupported { extension }) if *extension == wanted
    )
}

/// The line of MAIL without the line end.
fn mail_line(bench: &Bench) -> &str {
    bench.last_write().split("\r\n").next().unwrap()
}

#[test]
fn what_the_peer_lacks_is_refused_here() {
    let mut utf8 = message(1, 2);
    utf8.envelope.recipients[1].address = Address::parse("jörg@example.com").unwrap();
    let mut bench = Bench::plain(&[]);
    bench.work.push_back(transaction(1, utf8));
    let mut large = message(2, 1);
    large.data = Bytes::from(vec![b'x'; 2000]);
    bench.work.push_back(transaction(2, large));
    bench
        .say("220 x\r\n")
        .say("250-x\r\n250-SIZE 1000\r\n250 PIPELINING\r\n");
    bench.say(OK2).say("250 ok\r\n");
    assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
    assert!(matches!(
        bench.outcome(1, 1),
        Outcome::Refused(Cause::NotSupported {
            extension: "SMTPUTF8"
        })
    ));
    assert_eq!(stage_of(bench.outcome(2, 0)), Some((Stage::Mail, true)));

    let mut strict = Bench::new(
        Config {
            eight_bit: EightBit::Refuse,
            ..Config::new("me")
        },
        &[],
    );
    let mut eight = message(3, 1);
    eight.content.eight_bit = true;
    strict.work.push_back(transaction(3, eight));
    strict.say("220 x\r\n").say(PIPELINING);
    assert!(matches!(
        strict.outcome(3, 0),
        Outcome::Refused(Cause::NotSupported { .. })
    ));
    assert_eq!(strict.log.last(), Some(&Action::Idle));
}

#[test]
fn a_sender_beyond_ascii_goes_to_smtputf8_only_whoever_the_recipients_are() {
    let utf8 = || {
        let mut utf8 = message(1, 2);
        utf8.envelope.sender = Some(Address::parse("jörg@example.org").unwrap());
        utf8
    };
    let bench = given(Config::new("me.example"), PIPELINING, utf8());
    for recipient in 0..2 {
        assert!(is_unsupported(bench.outcome(1, recipient), "SMTPUTF8"));
    }
    assert!(bench.last_write().starts_with("EHLO"), "no MAIL went out");
    assert_eq!(bench.log.last(), Some(&Action::Idle));

    let bench = given(Config::new("me.example"), ALL, utf8());
    assert_eq!(mail_line(&bench), "MAIL FROM:<jörg@example.org> SMTPUTF8");
}

#[test]
fn smtputf8_that_was_asked_for_is_needed_where_the_header_is_utf8() {
    let asked = |utf8_header| {
        let mut asked = message(1, 1);
        asked.envelope.smtputf8 = true;
        asked.content.utf8_header = utf8_header;
        asked
    };
    let bench = given(Config::new("me.example"), PIPELINING, asked(true));
    assert!(is_unsupported(bench.outcome(1, 0), "SMTPUTF8"));
    assert!(bench.last_write().starts_with("EHLO"), "no MAIL went out");

    let mut plain = given(Config::new("me.example"), PIPELINING, asked(false));
    assert_eq!(mail_line(&plain), MAIL, "RFC 6531 §3.6: none is needed");
    accept(&mut plain);
}

#[test]
fn raw_octets_in_a_header_are_no_need_for_smtputf8() {
    let mut raw = message(1, 1);
    raw.content.utf8_header = true;
    let mut bench = Bench::plain(&[]);
    bench.work.push_back(transaction(1, raw));
    bench.say("220 x\r\n").say(PIPELINING);
    bench.say(OK2).say("250 ok\r\n");
    assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
}

#[test]
fn the_content_alone_makes_body_8bitmime() {
    let mut eight = message(1, 1);
    eight.content.eight_bit = true;
    assert_eq!(eight.envelope.body, BodyKind::SevenBit);
    for config in [Config::new("me.example"), strict()] {
        let mut bench = given(config, ALL, eight.clone());
        assert_eq!(mail_line(&bench), format!("{MAIL} BODY=8BITMIME"));
        accept(&mut bench);
    }
    let mut bench = given(Config::new("me.example"), PIPELINING, eight);
    assert_eq!(mail_line(&bench), MAIL, "not offered, not said");
    accept(&mut bench);
}

#[test]
fn seven_bit_content_goes_to_any_peer_whatever_body_was_declared() {
    let mut declared = message(1, 1);
    declared.envelope.body = BodyKind::EightBitMime;
    let mut bench = given(strict(), PIPELINING, declared);
    assert_eq!(mail_line(&bench), MAIL);
    accept(&mut bench);
}

#[test]
fn an_orcpt_beyond_ascii_rides_on_smtputf8_only() {
    let rcpt = |address: &str, offer: &str| {
        let mut utf8 = message(1, 1);
        utf8.envelope.recipients[0].address = Address::parse(address).unwrap();
        utf8.envelope.recipients[0].orcpt = Some("utf-8;jörg@example.com".into());
        let bench = given(Config::new("me.example"), offer, utf8);
        bench.last_write().split("\r\n").nth(1).unwrap().to_owned()
    };
    let lacks = ALL.replace("250-SMTPUTF8\r\n", "");
    assert_eq!(
        rcpt("joerg@example.com", &lacks),
        "RCPT TO:<joerg@example.com>"
    );
    assert_eq!(
        rcpt("jörg@example.com", ALL),
        "RCPT TO:<jörg@example.com> ORCPT=utf-8;jörg@example.com"
    );
}
