//! Planned arrivals, bounds in time, and runs that are cut short.

use crate::{BINARY, Sink, interrupt, source, words};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn ms(report: &Value, latency: &str, percentile: &str) -> f64 {
    report[latency][percentile].as_f64().unwrap()
}

#[test]
fn a_slow_server_cannot_hide_its_queue() {
    let sink = Sink::start(&["--delay", "50ms"]);
    let arguments = words("--messages 20 --sessions 1 --arrivals constant:100/s");
    let (is_clean, sent) = source(&sink.address, &arguments);
    let (is_whole, got) = sink.end();
    assert!(is_clean && is_whole, "{sent}");
    // The last was meant to start at 190 ms and is answered after a second of service.
    assert!(ms(&sent, "transaction", "max_ms") > 750.0, "{sent}");
    assert!(ms(&sent, "dot_to_250", "p50_ms") < 300.0, "{sent}");
    assert!(ms(&sent, "start_lag", "max_ms") > 700.0, "{sent}");
    // End to end the sink counts from the intended start, too.
    assert!(got["latency"]["max_ms"].as_f64().unwrap() > 650.0, "{got}");
}

#[test]
fn planned_rates_are_kept() {
    for (plan, asked, seconds) in [
        ("constant:200/s", 200, 0.9..15.0),
        ("burst:50/500ms", 100, 0.5..15.0),
        ("step:100/s,500ms;0/s,300ms;200/s,200ms", 90, 0.9..15.0),
        ("ramp:0..400/s:1s", 200, 0.9..15.0),
    ] {
        let sink = Sink::start(&[]);
        let arguments = [
            "--arrivals",
            plan,
            "--duration",
            "1s",
            "--sessions",
            "30",
            "--threads",
            "2",
        ];
        let (is_clean, sent) = source(&sink.address, &arguments);
        assert!(is_clean && sink.end().0, "{plan}: {sent}");
        assert_eq!(sent["asked"], asked, "{plan}");
        assert_eq!(sent["accepted"], asked, "{plan}");
        assert!(
            seconds.contains(&sent["seconds"].as_f64().unwrap()),
            "{plan}: {sent}"
        );
        assert_eq!(sent["start_lag"]["count"], asked, "{plan}: {sent}");
    }
}

#[test]
fn seeds_repeat_a_poisson_run() {
    let asked = |seed: &str| {
        let sink = Sink::start(&[]);
        let arguments = [
            "--arrivals",
            "poisson:300/s",
            "--duration",
            "500ms",
            "--seed",
            seed,
        ];
        let (is_clean, sent) = source(&sink.address, &arguments);
        assert!(is_clean && sink.end().0, "{sent}");
        sent["accepted"].as_u64().unwrap()
    };
    let counts = [asked("1"), asked("1"), asked("2"), asked("3")];
    assert_eq!(counts[0], counts[1]);
    assert!(counts.iter().any(|count| *count != counts[0]), "{counts:?}");
    assert!(
        counts.iter().all(|count| (90..220).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_log_is_replayed_at_its_own_pace() {
    let path = std::env::temp_dir().join(format!("posthaste-load-replay-{}", std::process::id()));
    let mut log = std::fs::File::create(&path).unwrap();
    for at in [0, 10, 10, 400, 700] {
        writeln!(
            log,
            "{{\"type\":\"Reception\",\"timestamp\":{}}}",
            1_767_225_600_000_u64 + at
        )
        .unwrap();
    }
    let sink = Sink::start(&[]);
    let plan = format!("replay:{}", path.display());
    let (is_clean, sent) = source(&sink.address, &["--arrivals", &plan, "--sessions", "3"]);
    assert!(is_clean && sink.end().0, "{sent}");
    assert_eq!(sent["asked"], 5);
    assert!(
        (0.7..15.0).contains(&sent["seconds"].as_f64().unwrap()),
        "{sent}"
    );
}

#[test]
fn time_bounds_a_closed_loop() {
    let sink = Sink::start(&["--delay", "exp:2ms"]);
    let (is_clean, sent) = source(&sink.address, &["--duration", "500ms", "--sessions", "5"]);
    assert!(is_clean && sink.end().0, "{sent}");
    assert!(
        (0.5..15.0).contains(&sent["seconds"].as_f64().unwrap()),
        "{sent}"
    );
    assert!(sent["accepted"].as_u64().unwrap() > 20, "{sent}");
}

#[test]
fn a_signal_ends_with_a_valid_report() {
    for more in [
        &["--arrivals", "constant:100/s"][..],
        &["--per-connection", "5"],
    ] {
        let sink = Sink::start(&["--delay", "10ms"]);
        let mut child = Command::new(BINARY)
            .args([
                "source",
                "--json",
                "--to",
                &sink.address,
                "--duration",
                "60s",
                "--sessions",
                "4",
                "--interval",
                "100ms",
            ])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut accepted = 0;
        while accepted <= 5 {
            accepted += lines.next().unwrap()["accepted"].as_u64().unwrap_or(0);
        }
        let began = Instant::now();
        interrupt(&child);
        let report = lines.last().unwrap();
        child.wait().unwrap();
        // Not the minute that was asked for.
        assert!(began.elapsed() < Duration::from_secs(30));
        let (_, got) = sink.end();
        assert_eq!(report["interrupted"], true);
        assert!(report["accepted"].as_u64().unwrap() > 5, "{report}");
        assert_eq!(report["accepted"], got["messages"], "{report} {got}");
    }
}

#[test]
fn a_closing_target_is_counted_and_never_a_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let arguments = words("--arrivals constant:100/s --duration 1s --sessions 2 --retries 2");
    let (is_clean, sent) = source(&address, &arguments);
    assert!(!is_clean);
    let counts: u64 = sent["errors"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!((counts, &sent["not_sent"]), (6, &100.into()), "{sent}");
}
