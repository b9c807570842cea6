//! BDAT, TLS, AUTH, mixes, source addresses, delays and order.

use super::peer;
use crate::{Sink, by_hand, source, words};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

fn error_of(report: &Value) -> String {
    report["errors"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect::<Vec<_>>()
        .join("; ")
}

fn first(messages: &[&str]) -> Vec<String> {
    messages.iter().map(|&text| text.to_owned()).collect()
}

/// Runs 60 messages over 3 sessions; both reports.
fn send(sink: &[&str], more: &[&str]) -> (bool, Value, Value) {
    let sink = Sink::start(sink);
    let mut arguments = first(&["--messages", "60", "--sessions", "3", "--retries", "1"]);
    arguments.extend(first(more));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (is_clean, sent) = source(&sink.address, &arguments);
    let (is_whole, got) = sink.end();
    (is_clean && is_whole, sent, got)
}

/// A certificate for localhost and its key, in files.
fn certificate(name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = std::env::temp_dir().join(format!("posthaste-load-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn bdat_brings_every_octet_and_no_dot() {
    for more in [
        &["--bdat"][..],
        &["--bdat", "--no-pipelining"],
        &["--bdat", "--bdat-chunk", "1000"],
        &[
            "--bdat",
            "--bdat-chunk",
            "50",
            "--no-pipelining",
            "--size",
            "1k",
        ],
        &["--bdat", "--size", "300k", "--recipients", "2"],
        &["--bdat", "--size", "1"],
    ] {
        let (is_clean, sent, got) = send(&[], more);
        assert!(is_clean, "{more:?}: {sent} {got}");
        assert_eq!(got["messages"], 60);
        assert_eq!(got["unidentified"], 0);
        assert_eq!(
            sent["octets"], got["octets"],
            "{more:?}: DATA would have added dots"
        );
    }
}

#[test]
fn refused_recipients_do_not_confuse_bdat() {
    for more in ["--bdat", "--bdat --bdat-chunk 900"] {
        let (is_clean, sent, got) = send(&["--refuse", "30%"], &words(more));
        assert!(!is_clean);
        assert_eq!(sent["accepted"], got["messages"], "{sent} {got}");
        assert_eq!(sent["failed"], got["recipients_refused"]);
        assert!(sent["failed"].as_u64().unwrap() > 0);
        let told = error_of(&sent);
        assert!(
            !told.contains("503"),
            "no command was out of its place: {told}"
        );
    }
}

#[test]
fn what_is_not_offered_is_said() {
    for (more, word) in [
        (&["--bdat"][..], "CHUNKING"),
        (&["--starttls", "--tls-insecure"], "STARTTLS"),
        (&["--auth", "a:b"], "AUTH PLAIN"),
    ] {
        let (is_clean, sent, _) = send(&["--no-chunking"], more);
        assert!(!is_clean);
        assert_eq!(error_of(&sent), format!("{word} is not offered"));
        assert_eq!(sent["not_sent"], 60);
    }
}

#[test]
fn tls_carries_mail_of_any_size() {
    for (there, here) in [("--starttls", "--starttls"), ("--tls", "--tls")] {
        for more in [
            &["--size", "10k"][..],
            &["--size", "500k"],
            &["--bdat"],
            &["--no-pipelining"],
        ] {
            let arguments = [&[here, "--tls-insecure"], more].concat();
            let (is_clean, sent, got) = send(&[there], &arguments);
            assert!(is_clean, "{arguments:?}: {sent} {got}");
            assert_eq!(got["messages"], 60);
        }
    }
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let (certificate, key) = certificate("checked");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let sink = ["--tls-cert", files[0], "--tls-key", files[1]];
    let trusting = [
        "--starttls",
        "--tls-ca",
        files[0],
        "--tls-name",
        "localhost",
    ];
    let (is_clean, sent, _) = send(&sink, &trusting);
    assert!(is_clean, "{sent}");
    let other = [
        "--starttls",
        "--tls-ca",
        files[0],
        "--tls-name",
        "other.test",
    ];
    for more in [&other[..], &["--starttls", "--tls-name", "localhost"]] {
        let (is_clean, sent, got) = send(&sink, more);
        assert!(!is_clean);
        assert!(error_of(&sent).contains("certificate"), "{more:?}: {sent}");
        assert_eq!(got["messages"], 0);
    }
    let insecure = ["--starttls", "--tls-insecure", "--tls-name", "other.test"];
    assert!(send(&sink, &insecure).0);
}

#[test]
fn logins_are_asked_for_and_given() {
    let sink = ["--auth", "user:se:cret"];
    for how in ["plain", "login"] {
        let right = ["--auth", "user:se:cret", "--auth-mechanism", how];
        let (is_clean, sent, _) = send(&sink, &right);
        assert!(is_clean, "{how}: {sent}");
        let wrong = ["--auth", "user:guess", "--auth-mechanism", how];
        let (is_clean, sent, got) = send(&sink, &wrong);
        assert!(!is_clean && error_of(&sent).starts_with("535"), "{sent}");
        assert_eq!(got["messages"], 0);
    }
    let (is_clean, sent, got) = send(&sink, &[]);
    assert!(
        !is_clean && error_of(&sent).contains("530 to MAIL"),
        "{sent}"
    );
    assert_eq!(got["messages"], 0);
}

#[test]
fn mixes_sizes_and_addresses_are_as_asked() {
    let (address, mails) = peer::record();
    let arguments = words(
        "--messages 600 --sessions 4 --size 1k=1,3k..4k=1 --recipients 2 --domain big.test=9,small.test=1 --sender a@x.test=1,b@x.test=1 --tenant one=3,two=1 --campaign spring --campaign-header X-Job --source-address 127.0.0.5,127.0.0.6",
    );
    let (is_clean, sent) = source(&address, &arguments);
    assert!(is_clean, "{sent}");
    let mails: Vec<_> = mails.try_iter().collect();
    assert_eq!(mails.len(), 600);
    let share = |holds: &dyn Fn(&peer::Mail) -> bool| {
        mails.iter().filter(|mail| holds(mail)).count() as f64 / 600.0
    };
    for (wanted, found) in [
        (0.9, share(&|mail| mail.recipients[0] == "load0@big.test")),
        (0.1, share(&|mail| mail.recipients[0] == "load0@small.test")),
        (0.75, share(&|mail| mail.field("X-Tenant") == Some("one"))),
        (0.25, share(&|mail| mail.field("X-Tenant") == Some("two"))),
        (0.5, share(&|mail| mail.sender == "b@x.test")),
        (1.0, share(&|mail| mail.field("X-Job") == Some("spring"))),
        (1.0, share(&|mail| mail.recipients.len() == 2)),
        (
            1.0,
            share(&|mail| mail.field("From") == Some(&format!("<{}>", mail.sender))),
        ),
        (0.5, share(&|mail| (1000..=1050).contains(&mail.data.len()))),
        (0.5, share(&|mail| (3000..=4200).contains(&mail.data.len()))),
        (0.5, share(&|mail| mail.from.to_string() == "127.0.0.5")),
        (0.5, share(&|mail| mail.from.to_string() == "127.0.0.6")),
    ] {
        assert!((wanted - found).abs() < 0.12, "{wanted} {found}");
    }
    let ids: HashSet<_> = mails
        .iter()
        .map(|mail| mail.field("X-Load-Id").unwrap())
        .collect();
    assert_eq!(ids.len(), 600, "each id is its own");
    assert!(
        mails
            .iter()
            .all(|mail| mail.field("X-Load-Time").unwrap().parse::<u64>().is_ok())
    );
}

#[test]
fn each_stage_waits_as_told() {
    let all = "banner=20ms,helo=fixed:20ms,mail=20ms,rcpt=uniform:20ms..25ms,data=20ms,dot=30ms";
    let sink = Sink::start(&["--delay", all]);
    let arguments = words("--messages 5 --sessions 1 --no-pipelining");
    let (is_clean, sent) = source(&sink.address, &arguments);
    assert!(is_clean && sink.end().0, "{sent}");
    let seconds = sent["seconds"].as_f64().unwrap();
    assert!((0.49..15.0).contains(&seconds), "{sent}");
    assert!(
        sent["dot_to_250"]["p50_ms"].as_f64().unwrap() >= 29.5,
        "{sent}"
    );
    // From MAIL on: all stages but the first two.
    assert!(
        sent["transaction"]["p50_ms"].as_f64().unwrap() >= 89.0,
        "{sent}"
    );
}

#[test]
fn a_delayed_answer_holds_back_only_its_own_session() {
    // One behind the other they would take twenty seconds.
    let sink = Sink::start(&["--delay", "rcpt=1s"]);
    let arguments = words("--messages 20 --sessions 20");
    let (is_clean, sent) = source(&sink.address, &arguments);
    assert!(is_clean && sink.end().0);
    let seconds = sent["seconds"].as_f64().unwrap();
    assert!((1.0..15.0).contains(&seconds), "{sent}");
}

#[test]
fn what_comes_during_a_delay_waits_its_turn() {
    let sink = Sink::start(&["--delay", "rcpt=300ms"]);
    let mut stream = TcpStream::connect(&sink.address).unwrap();
    write!(stream, "MAIL FROM:<>\r\nRCPT TO:<load0@x>\r\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut told = String::new();
    // MAIL is answered, so RCPT is what is being delayed.
    while told.lines().count() < 2 {
        lines.read_line(&mut told).unwrap();
    }
    write!(stream, "QUIT\r\n").unwrap();
    lines.read_to_string(&mut told).unwrap();
    let codes: Vec<_> = told.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["220", "250", "250", "221"], "{told}");
    sink.end();
}

#[test]
fn what_was_overtaken_is_counted() {
    let sink = Sink::start(&[]);
    for id in ["a-0", "a-3", "a-1", "a-2"] {
        by_hand(&sink.address, id);
        std::thread::sleep(Duration::from_millis(2));
    }
    let (_, got) = sink.end();
    assert_eq!(got["overtaken_of_sender"], 2, "{got}");
    assert_eq!(
        (&got["overtaken_in_session"], &got["displacement_max"]),
        (&0.into(), &2.into())
    );
    let (_, _, got) = send(&[], &["--per-connection", "0"]);
    assert_eq!(got["overtaken_in_session"], 0, "{got}");
}
