//! The command line of `source` and the run it starts. One per process.

use super::message::Template;
use super::report::Report;
use super::supply::Supply;
use super::tally::Tally;
use super::worker::Worker;
use crate::{address, measure, quantity, stop};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);
const PROGRESS: Duration = Duration::from_millis(200);

/// Send mail over many sessions and measure the answers.
///
/// Closed loop by default: each session sends its next message as soon as the last one is answered. With --rate the start of each
/// message is fixed beforehand and latency counts from then, so that a slow server cannot hide its queue.
/// With PIPELINING offered, a message's body, its dot and the next envelope leave in one write. Messages carry `X-Load-Id` and
/// `X-Load-Time` for `posthaste-load sink`. A target outside loopback and private ranges is refused unless --i-own-this-target.
/// Ctrl-C ends early with a valid report. Exit code: 0 all accepted, 1 something was not, 2 could not run.
///
/// Example: posthaste-load source --to 127.0.0.1:2525 --messages 50000 --sessions 100 --per-connection 20 --size 10k
#[derive(clap::Args)]
pub struct Options {
    /// Server to load
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "HOST:PORT")]
    pub(crate) to: String,
    /// Messages to send in all
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    pub(crate) messages: u64,
    /// Sessions held at once, over all threads
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) sessions: u32,
    /// Messages per connection before it is closed and opened anew; 0 for no limit
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) per_connection: u64,
    /// Size of a message, header and body
    #[arg(long, default_value = "10k", value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) size: usize,
    /// Recipients of each message: load0@DOMAIN, load1@DOMAIN, …
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) recipients: u32,
    /// Recipient domains, taken in turn from message to message
    #[arg(
        long,
        default_value = "sink.test",
        value_name = "NAME[,NAME…]",
        value_delimiter = ','
    )]
    pub(crate) domain: Vec<String>,
    /// Envelope sender and From
    #[arg(long, default_value = "source@load.test", value_name = "ADDRESS")]
    pub(crate) sender: String,
    /// Threads, each with its share of the sessions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// One command at a time, even where PIPELINING is offered
    #[arg(long)]
    pub(crate) no_pipelining: bool,
    /// Start so many messages per second, open loop, at even distances
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Longest wait for a connect or any one answer
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = quantity::duration)]
    pub(crate) timeout: Duration,
    /// Connections that may fail in a row before a session gives up
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) retries: u32,
    /// Print one JSON object in place of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Seed of the body's filler
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// State that you may load a target outside loopback and private ranges
    #[arg(long)]
    pub(crate) i_own_this_target: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no rate; try 500/s"))?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err("a rate is above 0".to_owned())
    }
}

/// Runs the source; true when every message was accepted.
pub fn run(options: &Options) -> io::Result<bool> {
    let target = address::target(&options.to, options.i_own_this_target)?;
    measure::raise_nofile();
    let stop = stop::on_signals()?;
    let started = Instant::now();
    let supply = Arc::new(Supply::new(
        options.messages,
        options.rate,
        started,
        Arc::clone(&stop),
    ));
    let template = Arc::new(Template::new(options));
    let mut threads = Vec::new();
    for index in 0..u32::from(options.threads) {
        let share = (options.sessions + u32::from(options.threads) - 1 - index)
            / u32::from(options.threads);
        let worker = Worker::new(
            target,
            options,
            share,
            Arc::clone(&supply),
            Arc::clone(&template),
        )?;
        threads.push(std::thread::spawn(move || worker.run()));
    }
    let shows = io::stderr().is_terminal();
    let mut shown = started;
    while threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(LOOK);
        if shows && shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            show(&supply, started)?;
        }
    }
    if shows {
        write!(io::stderr(), "\r\x1b[K")?;
    }
    let mut tally = Tally::new();
    for thread in threads {
        tally.add(
            thread
                .join()
                .map_err(|_| io::Error::other("a source thread panicked"))??,
        );
    }
    let report = Report::of(&tally, options, stop.load(Ordering::Relaxed), started);
    report.print(&mut io::stdout().lock(), options.json)?;
    Ok(report.is_clean())
}

fn show(supply: &Supply, started: Instant) -> io::Result<()> {
    const WIDTH: u64 = 30;
    let (done, all) = (supply.settled.load(Ordering::Relaxed), supply.messages);
    let filled = (done * WIDTH).checked_div(all).unwrap_or(0).min(WIDTH) as usize;
    let rate = done as f64 / started.elapsed().as_secs_f64();
    let bar = format!(
        "{}{}",
        "#".repeat(filled),
        ".".repeat(WIDTH as usize - filled)
    );
    write!(io::stderr(), "\r[{bar}] {done}/{all}  {rate:.0}/s \x1b[K")
}
