//! JSON lines and the page made of them.

use crate::{BINARY, Sink, skip};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("posthaste-load-report-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

fn load(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

/// Two runs on one page.
fn lay_over(runs: [&Path; 2], page: &Path) {
    let runs = runs.map(|run| run.to_str().unwrap());
    let page = page.to_str().unwrap();
    let made = load(&["report", runs[0], runs[1], "--html", page]);
    assert!(made.status.success());
}

fn run(lines: &Path, more: &[&str]) -> Output {
    let sink = Sink::start(&["--refuse", "5%"]);
    let common = [
        "source",
        "--to",
        &sink.address,
        "--interval",
        "200ms",
        "--report",
        lines.to_str().unwrap(),
    ];
    let output = load(&[&common, more].concat());
    sink.end();
    output
}

#[test]
fn intervals_add_up_to_the_run() {
    let path = place("lines.jsonl");
    run(&path, &["--arrivals", "constant:300/s", "--duration", "1s"]);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (start, rest) = lines.split_first().unwrap();
    let (end, intervals) = rest.split_last().unwrap();
    assert_eq!(
        (&start["kind"], &end["kind"]),
        (&"start".into(), &"source".into())
    );
    assert_eq!(start["config"]["arrivals"], "constant:300/s");
    assert!(intervals.len() >= 5, "{text}");
    for key in ["accepted", "failed", "unanswered"] {
        let sum: u64 = intervals.iter().map(|one| one[key].as_u64().unwrap()).sum();
        assert_eq!(end[key], sum, "{key}");
    }
    let offered: f64 = intervals
        .iter()
        .map(|one| one["offered_per_second"].as_f64().unwrap() * one["seconds"].as_f64().unwrap())
        .sum();
    assert!((offered - 300.0).abs() < 1e-6, "{offered}");
    let points = end["transaction_cdf"].as_array().unwrap();
    assert!(
        points
            .iter()
            .map(|point| point[0].as_f64().unwrap())
            .is_sorted()
    );
    assert_eq!(points.last().unwrap()[1], 1.0);
}

#[test]
fn pages_need_nothing_else() {
    let (one, two, page) = (
        place("first run.jsonl"),
        place("second.jsonl"),
        place("page.html"),
    );
    let own = place("own.html");
    run(
        &one,
        &["--messages", "300", "--html", own.to_str().unwrap()],
    );
    run(&two, &["--messages", "300"]);
    // A run that was killed ends in the middle of a line.
    let mut cut = std::fs::read_to_string(&two).unwrap();
    cut.truncate(cut.len() - 10);
    let cut = cut.replacen(r#""config":{"#, r#""config":{"note":"</script>","#, 1);
    std::fs::write(&two, cut).unwrap();
    lay_over([&one, &two], &page);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(r#""name":"first run""#) && page.contains(r#""name":"second""#));
    for html in [page, std::fs::read_to_string(own).unwrap()] {
        assert!(!html.contains("/*RUNS*/") && html.contains(r#""kind":"interval""#));
        assert!(
            !html
                .replace("http://www.w3.org/2000/svg", "")
                .contains("://"),
            "no network"
        );
        assert_eq!(
            html.matches("</script>").count(),
            2,
            "data cannot end their element"
        );
    }
}

/// What the page's script makes of it, run by node on a stand-in for a browser: for each heading the colours of the lines below it,
/// one list a chart.
fn drawn(page: &Path) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.js");
    let Ok(output) = Command::new("node").args([&script, page]).output() else {
        skip("node is missing (apt-get install nodejs): no page was drawn");
        return None;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn pages_draw_four_plots_with_a_line_for_each_run() {
    const COLOURS: [&str; 2] = ["#0b6fb8", "#d1495b"];
    let (one, two, page) = (place("a.jsonl"), place("b.jsonl"), place("both.html"));
    let own = place("alone.html");
    let planned = ["--arrivals", "constant:500/s", "--duration", "1s"];
    let html = ["--html", own.to_str().unwrap()];
    run(&one, &[&planned[..], &html].concat());
    run(&two, &planned);
    lay_over([&one, &two], &page);
    let Some(both) = drawn(&page) else { return };
    let titles: Vec<_> = both.as_object().unwrap().keys().collect();
    let plots = [
        "Errors",
        "Latency distribution",
        "Latency over time",
        "Throughput",
    ];
    for plot in plots {
        assert!(titles.iter().any(|title| *title == plot), "{titles:?}");
    }
    let lines = |drawn: &Value, plot: &str| -> Vec<Vec<String>> {
        serde_json::from_value(drawn[plot].clone()).unwrap()
    };
    for plot in plots {
        let charts = lines(&both, plot);
        // p50, p90, p99, p99.9.
        assert_eq!(
            charts.len(),
            if plot == "Latency over time" { 4 } else { 1 },
            "{plot}"
        );
        for chart in charts {
            for colour in COLOURS {
                assert!(chart.iter().any(|line| line == colour), "{plot}: {chart:?}");
            }
        }
    }
    let alone = drawn(&own).unwrap();
    for (plot, count) in plots.into_iter().zip([1, 2, 4, 2]) {
        let charts = lines(&alone, plot);
        assert_eq!(charts.iter().map(Vec::len).sum::<usize>(), count, "{plot}");
    }
}

#[test]
fn what_is_no_run_is_refused_with_its_line() {
    let (bad, page) = (place("bad.jsonl"), place("none.html"));
    for (text, word) in [
        ("{\"kind\":\"start\"}\nnonsense\n{}\n", "line 2"),
        ("{\"kind\":\"sink\"}\n", "no line of a source's run"),
    ] {
        std::fs::write(&bad, text).unwrap();
        let made = load(&[
            "report",
            bad.to_str().unwrap(),
            "--html",
            page.to_str().unwrap(),
        ]);
        let error = String::from_utf8(made.stderr).unwrap();
        assert_eq!(made.status.code(), Some(2));
        assert!(
            error.contains("bad.jsonl") && error.contains(word),
            "{error}"
        );
        assert!(!page.exists());
    }
}
