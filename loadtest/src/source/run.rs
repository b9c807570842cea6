//! A run of `source`, from its options to its report. One per process.

use super::dialogue::Manner;
use super::http::Request;
use super::message::{Form, Template};
use super::options::{MESSAGES, Options};
use super::report::{Lines, Report};
use super::smtp::Login;
use super::supply::{Bounds, Supply};
use super::timeline::Timeline;
use super::worker::{Common, Window, Worker};
use crate::report::{self, Run};
use crate::tls::Client;
use crate::{address, measure, stop};
use serde_json::json;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);
const PROGRESS: Duration = Duration::from_millis(200);

/// Runs the source; true when every message was accepted.
pub fn run(options: &Options) -> io::Result<bool> {
    measure::raise_nofile();
    let stop = stop::on_signals()?;
    let mut lines = Lines::open(options)?;
    let bounds = bounds(options);
    let common = Arc::new(common(options, bounds.clone(), &stop)?);
    lines.put(&json!({
        "kind": "start", "time": measure::epoch_us() as f64 / 1e6, "version": env!("CARGO_PKG_VERSION"),
        "run": format!("{:08x}", common.template.run), "interval_s": options.interval.as_secs_f64(),
        "config": options.summary(),
    }))?;
    let mut timeline = Timeline::new(options.interval, &bounds);
    let (threads, windows) = start(options, &common)?;
    follow(&common, &windows, &mut timeline, &mut lines)?;
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a source thread panicked"))??;
    }
    let seconds = common.supply.started.elapsed();
    for row in timeline.rows(seconds, true) {
        lines.put(&row)?;
    }
    let report = Report::of(
        timeline.total(),
        options,
        common.supply.asked(),
        stop.load(Ordering::Relaxed),
        seconds,
    );
    lines.put(&report)?;
    if let Some(path) = &options.html {
        let run = Run::new("run", lines.end());
        std::fs::write(path, report::page(&[run])?).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    if !options.json {
        report.print(&mut io::stdout().lock())?;
    }
    Ok(report.is_clean())
}

fn bounds(options: &Options) -> Bounds {
    let plan = options.plan().cloned();
    let has_end = options.duration.is_some() || plan.as_ref().is_some_and(|plan| plan.is_finite());
    Bounds {
        messages: options.messages.or_else(|| (!has_end).then_some(MESSAGES)),
        duration: options.duration,
        patience: options.timeout,
        plan,
        seed: options.seed,
    }
}

fn common(options: &Options, bounds: Bounds, stop: &Arc<AtomicBool>) -> io::Result<Common> {
    let target = address::target(&options.to, options.i_own_this_target)?;
    for source in &options.source_address {
        if source.is_ipv4() != target.is_ipv4() {
            return Err(io::Error::other(format!(
                "--source-address {source} cannot reach {target}"
            )));
        }
    }
    let form = if options.http.http {
        Form::Json
    } else {
        Form::Plain
    };
    let template = Template::new(options, form);
    let tls = (options.tls.starttls || options.tls.tls)
        .then(|| client(options))
        .transpose()?;
    Ok(Common {
        target,
        sources: options.source_address.clone(),
        manner: manner(options)?,
        tls,
        is_implicit: options.tls.tls,
        timeout: options.timeout,
        retries: options.retries,
        interval: options.interval,
        template,
        // Last, for the clock of the plan starts here.
        supply: Supply::new(bounds, Instant::now(), Arc::clone(stop)),
    })
}

fn client(options: &Options) -> io::Result<Client> {
    let host = options
        .to
        .rsplit_once(':')
        .map_or(&*options.to, |(host, _)| host);
    let name = options
        .tls
        .tls_name
        .as_deref()
        .unwrap_or_else(|| host.trim_matches(['[', ']']));
    Client::new(
        name,
        options.tls.tls_ca.as_deref(),
        options.tls.tls_insecure,
    )
}

fn manner(options: &Options) -> io::Result<Manner> {
    let smtp = &options.smtp;
    let request = options.http.http.then(|| request(options)).transpose()?;
    Ok(Manner {
        pipelining: !smtp.no_pipelining,
        per_connection: match options.per_connection {
            0 => u64::MAX,
            limit => limit,
        },
        bdat: smtp
            .bdat
            .then(|| smtp.bdat_chunk.unwrap_or(usize::MAX).max(1)),
        starttls: options.tls.starttls,
        login: smtp
            .auth
            .as_ref()
            .map(|(user, password)| Login::new(smtp.auth_mechanism, user, password)),
        request,
    })
}

fn request(options: &Options) -> io::Result<Request> {
    let http = &options.http;
    let wrap = |path: &Path, why: String| {
        io::Error::other(format!("--http-body {}: {why}", path.display()))
    };
    let body = match &http.http_body {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| wrap(path, error.to_string()))?)
        }
        None => None,
    };
    Request::new(
        &options.to,
        &http.http_path,
        &http.http_header,
        body.as_deref(),
    )
    .map_err(|why| {
        wrap(
            http.http_body.as_deref().unwrap_or_else(|| Path::new("")),
            why,
        )
    })
}

type Threads = Vec<JoinHandle<io::Result<()>>>;

fn start(options: &Options, common: &Arc<Common>) -> io::Result<(Threads, Receiver<Window>)> {
    let (sender, windows) = channel();
    let count = u32::from(options.threads);
    let mut threads = Vec::new();
    for index in 0..count {
        let share = (options.sessions + count - 1 - index) / count;
        let worker = Worker::new(Arc::clone(common), share, sender.clone())?;
        threads.push(std::thread::spawn(move || worker.run()));
    }
    Ok((threads, windows))
}

/// Gathers what the threads count until all have ended.
fn follow(
    common: &Common,
    windows: &Receiver<Window>,
    timeline: &mut Timeline,
    lines: &mut Lines,
) -> io::Result<()> {
    let supply = &common.supply;
    let shows = io::stderr().is_terminal();
    let mut shown = supply.started;
    loop {
        match windows.recv_timeout(LOOK) {
            Ok(window) => timeline.handle_window(&window),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for row in timeline.rows(supply.started.elapsed(), false) {
            lines.put(&row)?;
        }
        if shows && shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            show(supply)?;
        }
    }
    if shows {
        write!(io::stderr(), "\r\x1b[K")?;
    }
    Ok(())
}

fn show(supply: &Supply) -> io::Result<()> {
    let elapsed = supply.started.elapsed();
    let (share, text) = supply.progress(elapsed);
    let settled = supply.settled.load(Ordering::Relaxed) as f64;
    let line = line(share, &text, settled / elapsed.as_secs_f64());
    write!(io::stderr(), "\r{line}\x1b[K")
}

/// `share` from 0 to 1; what lies beyond fills the bar. `rate` in messages per second.
fn line(share: f64, text: &str, rate: f64) -> String {
    const WIDTH: usize = 30;
    let filled = ((share * WIDTH as f64) as usize).min(WIDTH);
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH - filled));
    format!("[{bar}] {text}  {rate:.0}/s ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_as_the_share_and_never_longer() {
        for (share, filled) in [(0.0, 0), (0.5, 15), (0.999, 29), (1.0, 30), (7.0, 30)] {
            let bar = format!("{:.<30}", "#".repeat(filled));
            assert_eq!(line(share, "3/6", 12.4), format!("[{bar}] 3/6  12/s "));
        }
    }

    #[test]
    fn what_has_no_share_is_an_empty_bar() {
        let empty = ".".repeat(30);
        assert_eq!(line(f64::NAN, "0", 0.0), format!("[{empty}] 0  0/s "));
    }
}
