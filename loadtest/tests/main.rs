//! Source and sink as binaries against each other and against peers that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_posthaste-load");

struct Sink {
    child: Child,
    address: String,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args([
                "sink",
                "--listen",
                "127.0.0.2:0",
                "--json",
                "--idle-exit",
                "60s",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = first_word(&mut child);
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, address }
    }

    /// Its report once it is told to end; the idle exit is for tests that fail before that.
    fn end(self) -> (bool, Value) {
        interrupt(&self.child);
        self.end_by_itself()
    }

    fn end_by_itself(self) -> (bool, Value) {
        let output = self.child.wait_with_output().unwrap();
        (
            output.status.success(),
            serde_json::from_slice(&output.stdout).unwrap(),
        )
    }
}

/// Says that a test proved nothing; in CI it is a failure.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Not by a macro, whose words a passing test keeps to itself.
    let mut err = std::io::stderr();
    writeln!(err, "SKIPPED: {why}").unwrap();
}

/// The first line on its standard error: that it is ready.
fn first_word(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

fn interrupt(child: &Child) {
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(told.unwrap().success());
}

fn source(to: &str, arguments: &[&str]) -> (bool, Value) {
    let output = Command::new(BINARY)
        .args(["source", "--json", "--to", to])
        .args(arguments)
        .stderr(Stdio::null())
        .output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (
        output.status.success(),
        serde_json::from_str(text.lines().last().unwrap()).unwrap(),
    )
}

/// A command line as it is typed.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn by_hand(address: &str, id: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<load0@x>\r\nDATA\r\nX-Load-Id: {id}\r\n\r\n.\r\nQUIT\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn counts_of_source_and_sink_agree() {
    for extra in [
        &["--size", "10k"][..],
        &["--no-pipelining"],
        &["--size", "300k", "--recipients", "3"],
        &["--size", "1"],
    ] {
        let sink = Sink::start(&[]);
        let mut arguments = vec!["--messages", "500", "--sessions", "7"];
        arguments.extend(extra);
        let (is_clean, sent) = source(&sink.address, &arguments);
        let (is_whole, got) = sink.end();
        assert!(is_clean && is_whole, "{extra:?}: {sent} {got}");
        assert_eq!(sent["accepted"], 500);
        assert_eq!(got["messages"], 500);
        assert_eq!(got["recipients"], sent["recipients_accepted"]);
        assert_eq!(got["unidentified"], 0);
        assert_eq!(got["latency"]["count"], 500);
    }
}

#[test]
fn a_sink_ends_by_itself_when_all_arrived() {
    let sink = Sink::start(&["--expect", "50", "--delay", "5ms", "--no-pipelining"]);
    assert!(
        source(
            &sink.address,
            &["--messages", "50", "--sessions", "5", "--rate", "500/s"]
        )
        .0
    );
    let sent = Instant::now();
    assert!(sink.end_by_itself().0);
    // Long before it would have ended for being idle.
    assert!(sent.elapsed() < Duration::from_secs(30));
}

#[test]
fn duplicates_and_losses_fail_the_sink() {
    let sink = Sink::start(&[]);
    for id in ["a-0", "a-1", "a-1", "a-4"] {
        by_hand(&sink.address, id);
    }
    let (is_whole, got) = sink.end();
    assert!(!is_whole);
    assert_eq!(
        (&got["duplicates"], &got["lost"]),
        (&Value::from(1), &Value::from(2))
    );
}

#[test]
fn failures_made_by_the_sink_are_counted_by_the_source() {
    let sink = Sink::start(&["--fail-rcpt", "10%", "--refuse", "10%", "--drop", "0.05"]);
    let (is_clean, sent) = source(
        &sink.address,
        &[
            "--messages",
            "1000",
            "--sessions",
            "10",
            "--retries",
            "1000",
        ],
    );
    let (_, got) = sink.end();
    assert!(!is_clean);
    assert_eq!(sent["accepted"], got["messages"], "{sent} {got}");
    assert_eq!(sent["unanswered"], got["dropped"]);
    assert_eq!(sent["not_sent"], 0);
}

#[test]
fn garbage_does_not_hurt_the_sink() {
    let sink = Sink::start(&[]);
    for garbage in [
        vec![0xFF; 100_000],
        b"\r\n".repeat(10_000),
        b"DATA\r\n.\r\nRCPT\r\nMAIL\r\n".repeat(5),
    ] {
        let mut stream = TcpStream::connect(&sink.address).unwrap();
        // The sink may cut us off at any octet.
        let _ = stream.write_all(&garbage);
    }
    assert!(source(&sink.address, &["--messages", "100", "--sessions", "3"]).0);
    let (is_whole, got) = sink.end();
    assert!(is_whole, "{got}");
    assert_eq!(got["messages"], 100);
}

#[test]
fn a_refusing_target_is_reported_and_never_a_hang() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let (is_clean, sent) = source(
        &address,
        &["--messages", "10", "--sessions", "2", "--retries", "1"],
    );
    assert!(!is_clean);
    assert_eq!(sent["not_sent"], 10);
    assert_eq!(
        sent["errors"].as_object().unwrap().values().next().unwrap(),
        4,
        "{sent}"
    );
}

#[test]
fn a_stalling_target_is_reported_and_never_a_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let began = Instant::now();
    let arguments = words("--messages 10 --sessions 2 --retries 1 --timeout 200ms");
    let (is_clean, sent) = source(&address, &arguments);
    assert!(!is_clean && began.elapsed() < Duration::from_secs(30));
    assert_eq!(sent["errors"]["time-out"], 4, "{sent}");
}

#[test]
fn public_targets_are_refused() {
    let status = Command::new(BINARY)
        .args(["source", "--to", "198.51.100.1:25"])
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn idle_sessions_are_held() {
    let sink = Sink::start(&[]);
    let arguments = [
        "idle",
        "--to",
        &sink.address,
        "--sessions",
        "300",
        "--hold",
        "100ms",
        "--json",
    ];
    let output = Command::new(BINARY)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(report["held_max"], 300);
    assert!(sink.end().0);
}

#[test]
fn a_signal_ends_what_holds_idle_sessions_with_a_valid_report() {
    let sink = Sink::start(&[]);
    let mut child = Command::new(BINARY)
        .args(["idle", "--to", &sink.address, "--sessions", "50", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(first_word(&mut child), "holding 50 sessions\n");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(
        (&report["held"], &report["closed_by_server"]),
        (&50.into(), &0.into())
    );
    assert!(sink.end().0);
}

#[test]
fn a_terminal_is_shown_the_progress_and_left_without_it() {
    let sink = Sink::start(&[]);
    let line = format!(
        "{BINARY} source --to {} --messages 300 --rate 300/s --sessions 3",
        sink.address
    );
    // It runs the line on a terminal of its own and tells what came there.
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return skip("script is missing (apt-get install bsdutils): no terminal was looked at");
    };
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told:?}");
    let (bars, rest) = told.rsplit_once("/s \x1b[K").unwrap();
    assert!(bars.contains("\r[") && bars.contains("#"), "{told:?}");
    assert!(rest.starts_with("\r\x1b[K"), "erased: {told:?}");
    assert!(rest.contains("300 of 300 messages"), "{told:?}");
    // Who has no terminal sees none of it.
    let output = Command::new(BINARY)
        .args(words("source --messages 30 --to"))
        .arg(&sink.address)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(sink.end().0);
}

/// One that refuses, one that never says a word, one that closes at once.
fn bad_targets() -> [(&'static str, String, Option<TcpListener>); 3] {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |of: &TcpListener| of.local_addr().unwrap().to_string();
    let (of_gone, of_silent, of_closing) = (address(&gone), address(&silent), address(&closing));
    std::thread::spawn(move || closing.incoming().for_each(drop));
    [
        ("refuses", of_gone, None),
        ("stalls", of_silent, Some(silent)),
        ("closes", of_closing, None),
    ]
}

#[test]
fn over_http_a_bad_target_is_reported_with_counts_and_never_a_hang() {
    for (what, address, _listener) in bad_targets() {
        let began = Instant::now();
        let arguments = words("--http --messages 10 --sessions 2 --retries 1 --timeout 200ms");
        let (is_clean, sent) = source(&address, &arguments);
        assert!(
            !is_clean && began.elapsed() < Duration::from_secs(30),
            "{what}"
        );
        let errors = sent["errors"].as_object().unwrap();
        let count: u64 = errors.values().filter_map(Value::as_u64).sum();
        assert!(count > 0 && sent["accepted"] == 0, "{what}: {sent}");
        let lost = ["not_sent", "unanswered", "failed"];
        let lost: u64 = lost.iter().filter_map(|key| sent[key].as_u64()).sum();
        assert_eq!(lost, 10, "{what}: {sent}");
    }
}

#[test]
fn idle_sessions_with_a_bad_target_are_reported_with_counts_and_never_a_hang() {
    for (what, address, _listener) in bad_targets() {
        let began = Instant::now();
        let line = "--sessions 20 --hold 100ms --timeout 300ms --json";
        let output = Command::new(BINARY)
            .args(["idle", "--to", &address])
            .args(words(line))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let errors = report["errors"].as_object().unwrap();
        let count: u64 = errors.values().filter_map(Value::as_u64).sum();
        assert_eq!(
            (output.status.code(), count),
            (Some(1), 20),
            "{what}: {report}"
        );
        assert_eq!(report["held_max"], 0, "{what}");
    }
}
