//! The command line of `run` and the run itself: providers, then the server, then the load, then the judgement. Every wait has an end.

use super::expect::Finding;
use super::file::Scenario;
use super::load::{Running, Server};
use crate::provider::{Report as Providers, Serving};
use crate::{address, measure, stop};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(50);

/// Run a scenario against a mail server.
///
/// Starts the scenario's providers and their name server, offers its load to the server on its host and port, and holds the report against
/// what is expected. The server must use the scenario's name server and port for delivery. Ctrl-C ends early with a valid report.
/// Exit code: 0 all expectations met, 1 not, 2 could not run, 78 the file is wrong.
///
/// Example: posthaste-load run loadtest/scenario/outlook-cold.toml
#[derive(clap::Args)]
pub struct Options {
    /// The file
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Server under test, in place of the scenario's
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    /// Its HTTP, in place of the scenario's, for loads with `http`
    #[arg(long, value_name = "HOST:PORT")]
    to_http: Option<String>,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    json: bool,
    /// Write the JSON report to this file too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// State that you may load a target outside loopback and private ranges
    #[arg(long)]
    i_own_this_target: bool,
}

#[derive(Serialize)]
struct Report {
    kind: &'static str,
    name: String,
    seconds: f64,
    interrupted: bool,
    met: bool,
    /// How the server that the scenario started ended by itself; nothing where it lived to the end.
    server_ended: Option<String>,
    expectations: Vec<Finding>,
    loads: Vec<Value>,
    providers: Map<String, Value>,
    queries: u64,
    returned: u64,
    not_returned: u64,
}

/// Runs the scenario; true when all expectations are met.
pub fn run(options: &Options) -> io::Result<bool> {
    let path = &options.scenario;
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let mut scenario = Scenario::parse(path, &text)
        .map_err(|faults| io::Error::new(io::ErrorKind::InvalidData, faults))?;
    if let Some(to) = &options.to {
        scenario.target.clone_from(to);
    }
    if let Some(to) = &options.to_http {
        scenario.target_http = Some(to.clone());
    }
    scenario.providers.i_own_this_target = options.i_own_this_target;
    let target = address::target(&scenario.target, options.i_own_this_target)?;
    let stop = stop::on_signals()?;
    let began = Instant::now();
    let serving = Serving::start(&scenario.providers)?;
    let server = Server::start(&scenario.command)?;
    if server.is_some() {
        await_listener(target, scenario.ready, &stop);
    }
    let loads = drive(&scenario, &serving, options, &stop);
    let mut server_ended = None;
    if let Some(mut server) = server {
        server_ended = server.fate();
        server.end();
    }
    let providers = serving.end()?;
    let interrupted = stop.load(Ordering::Relaxed);
    let mut report = judge(&scenario, loads?, &providers, interrupted, began.elapsed())?;
    report.met &= server_ended.is_none();
    report.server_ended = server_ended;
    if let Some(path) = &options.report {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    print(&report, &providers, options.json)?;
    Ok(report.met)
}

/// What is never reached is reported by the load.
fn await_listener(target: SocketAddr, ready: Duration, stop: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < ready && !stop.load(Ordering::Relaxed) {
        if TcpStream::connect_timeout(&target, LOOK).is_ok() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Offers the load until the scenario's time is over, or all is done and quiet.
fn drive(
    scenario: &Scenario,
    serving: &Serving,
    options: &Options,
    stop: &AtomicBool,
) -> io::Result<Vec<Value>> {
    let began = Instant::now();
    let mut waiting: Vec<usize> = (0..scenario.loads.len()).collect();
    let mut running: Vec<Option<Running>> = scenario.loads.iter().map(|_| None).collect();
    let mut last = (began, 0);
    let mut failure = None;
    while began.elapsed() < scenario.duration && !stop.load(Ordering::Relaxed) && failure.is_none()
    {
        waiting.retain(|number| {
            let load = &scenario.loads[*number];
            if began.elapsed() < load.after || failure.is_some() {
                return true;
            }
            let seed = scenario.providers.seed.wrapping_add(*number as u64);
            let owned = options.i_own_this_target;
            let target = match &scenario.target_http {
                Some(http) if load.flags.is_http => http,
                _ => &scenario.target,
            };
            match Running::start(load, target, &serving.domains, owned, seed) {
                Ok(source) => running[*number] = Some(source),
                Err(error) => failure = Some(error),
            }
            false
        });
        let activity = serving.activity();
        if activity != last.1 || running.iter().flatten().any(|source| !source.is_over()) {
            last = (Instant::now(), activity);
        }
        if waiting.is_empty() && last.0.elapsed() >= scenario.quiet {
            break;
        }
        std::thread::sleep(LOOK);
    }
    let reports = running
        .into_iter()
        .map(|source| source.map_or(Value::Null, Running::end));
    let reports = reports.collect();
    failure.map_or(Ok(reports), Err)
}

fn judge(
    scenario: &Scenario,
    loads: Vec<Value>,
    providers: &Providers,
    interrupted: bool,
    took: Duration,
) -> io::Result<Report> {
    let mut by_name = Map::new();
    for account in &providers.providers {
        let name = account.truth.provider.clone();
        by_name.insert(name, serde_json::to_value(account)?);
    }
    let mut report = Report {
        kind: "scenario",
        name: scenario.name.clone(),
        seconds: took.as_secs_f64(),
        interrupted,
        met: false,
        server_ended: None,
        expectations: Vec::new(),
        loads,
        providers: by_name,
        queries: providers.queries,
        returned: providers.returned,
        not_returned: providers.not_returned,
    };
    let seen = serde_json::to_value(&report)?;
    report.expectations = scenario
        .expectations
        .iter()
        .map(|expectation| expectation.judge(&seen))
        .collect();
    report.met = report.expectations.iter().all(|finding| finding.met);
    Ok(report)
}

fn print(report: &Report, providers: &Providers, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    let note = if report.interrupted {
        " (interrupted)"
    } else {
        ""
    };
    writeln!(out, "{}: {:.1} s{note}\n", report.name, report.seconds)?;
    if let Some(fate) = &report.server_ended {
        writeln!(out, "the server ended by itself: {fate}\n")?;
    }
    for (number, load) in report.loads.iter().enumerate() {
        let count = |key: &str| load[key].as_u64().unwrap_or(0);
        let mut rows = vec![(
            "load",
            format!(
                "{number}: {} of {} accepted, {} failed, {} unanswered, {} not sent",
                count("accepted"),
                count("asked"),
                count("failed"),
                count("unanswered"),
                count("not_sent")
            ),
        )];
        for (name, times) in load["errors"].as_object().into_iter().flatten() {
            rows.push(("error", format!("{times} x {name}")));
        }
        if let Some(left_out) = load["domains_left_out"].as_u64() {
            let told =
                format!("{left_out} of the providers' domains got no mail: there are too many");
            rows.push(("left out", told));
        }
        if let Some(fault) = load["fault"].as_str() {
            rows.push(("error", fault.to_owned()));
        }
        measure::write_table(&mut out, &rows)?;
    }
    writeln!(out)?;
    providers.print(&mut out, false)?;
    writeln!(out)?;
    for finding in &report.expectations {
        let mark = if finding.met { "met    " } else { "NOT MET" };
        let bound = |bound: Option<f64>| bound.map_or_else(|| "-".to_owned(), |b| b.to_string());
        let value = finding.value.map_or_else(
            || finding.fault.clone().unwrap_or_default(),
            |value| value.to_string(),
        );
        writeln!(
            out,
            "{mark}  {} = {value}  (min {}, max {})",
            finding.of,
            bound(finding.min),
            bound(finding.max)
        )?;
    }
    Ok(())
}
