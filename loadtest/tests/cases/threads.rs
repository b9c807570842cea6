//! Source and sink on several cores.

use crate::{BINARY, Sink, source};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

/// Nanoseconds that each thread of the process has run, beside its first, which only waits for the
/// others; nothing once it has ended.
fn run_times(process: &Child) -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id()));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let ran = text.split(' ').next()?.parse().ok()?;
            let name = task.file_name().into_string().ok()?;
            (name != process.id().to_string()).then_some((name, ran))
        })
        .collect()
}

/// Threads that did a twentieth of the work or more.
fn busy(times: &BTreeMap<String, u64>) -> usize {
    let all: u64 = times.values().sum();
    times.values().filter(|ran| **ran > all / 20).count()
}

#[test]
fn each_thread_of_a_sink_takes_its_part() {
    let sink = Sink::start(&["--threads", "3"]);
    let load = ["--messages", "6000", "--sessions", "60"];
    let (is_clean, sent) = source(&sink.address, &load);
    let times = run_times(&sink.child);
    let (is_whole, got) = sink.end();
    assert!(is_clean && is_whole, "{sent} {got}");
    assert_eq!(
        (&got["messages"], &got["duplicates"]),
        (&6000.into(), &0.into())
    );
    assert_eq!(busy(&times), 3, "{times:?}");
}

#[test]
fn each_thread_of_a_source_takes_its_part() {
    let sink = Sink::start(&[]);
    let load = ["--messages", "6000", "--sessions", "60", "--threads", "3"];
    let mut process = Command::new(BINARY)
        .args(["source", "--json", "--to", &sink.address])
        .args(load)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut times = BTreeMap::new();
    while process.try_wait().unwrap().is_none() {
        times.extend(run_times(&process));
    }
    let (is_whole, got) = sink.end();
    assert!(is_whole, "{got}");
    assert_eq!(
        (&got["messages"], &got["duplicates"]),
        (&6000.into(), &0.into())
    );
    assert_eq!(busy(&times), 3, "{times:?}");
}
