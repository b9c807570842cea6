//! The command line of `sink` and the run it starts. One per process.

use super::control;
use super::desk::Desk;
use super::ledger::Ledger;
use super::report::Report;
use super::session::Behaviour;
use super::stage::Stage;
use crate::quantity::Delay;
use crate::worker::{Security, Worker};
use crate::{measure, net, quantity, stop, tls};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the end of the run is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Duplicates come late: stay this long after the last expected delivery.
const GRACE: Duration = Duration::from_millis(300);

/// Accept mail, account for it and throw it away.
///
/// Messages from `posthaste-load source` carry `X-Load-Id: <run>-<seq>` and `X-Load-Time: <microseconds since the epoch>`.
/// By them the sink tells loss (gaps below the highest number seen, or fewer than --expect), duplicates, what overtook what (within
/// a session, and of one sender), and the latency from source to here. Mail without them is counted too. The run ends at --expect, at --idle-exit, or by SIGINT or SIGTERM; then a
/// table (or JSON) goes to standard output. Exit code: 0 all well, 1 loss or duplicates, 2 could not run.
///
/// Example: posthaste-load sink --listen 127.0.0.2:2526 --expect 50000 --idle-exit 30s
#[derive(clap::Args)]
pub struct Options {
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.2:2526", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Threads, each with its own listener on the same port (SO_REUSEPORT)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// End when so many deliveries (message x recipient) have arrived; fewer is loss
    #[arg(long, value_name = "N")]
    pub(crate) expect: Option<u64>,
    /// End when no message came for so long, counted from the start as well
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    pub(crate) idle_exit: Option<Duration>,
    /// Print one JSON object in place of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the JSON report to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Answer HTTP here: GET gives the report so far, POST /quit ends the run
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) control: Option<SocketAddr>,
    /// Wait before the answers of a stage (banner, helo, mail, rcpt, data, dot): fixed:5ms, uniform:1ms..10ms or exp:5ms;
    /// a time alone is that of the final dot
    #[arg(long, value_name = "[STAGE=]DELAY,…", value_delimiter = ',', value_parser = stage_delay)]
    pub(crate) delay: Vec<(Stage, Delay)>,
    /// Answer this share of RCPT with 451
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = quantity::share)]
    pub(crate) fail_rcpt: f64,
    /// Answer this share of RCPT with 550
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = quantity::share)]
    pub(crate) refuse: f64,
    /// Drop the connection after the dot, unanswered and uncounted, for this share of messages
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = quantity::share)]
    pub(crate) drop: f64,
    /// Do not offer PIPELINING
    #[arg(long)]
    pub(crate) no_pipelining: bool,
    /// Do not offer CHUNKING (BDAT)
    #[arg(long)]
    pub(crate) no_chunking: bool,
    /// Ask for this login before MAIL (AUTH PLAIN and LOGIN, with or without TLS)
    #[arg(long, value_name = "USER:PASSWORD", value_parser = quantity::credentials)]
    pub(crate) auth: Option<(String, String)>,
    /// Offer STARTTLS, with a certificate made for this run unless one is given
    #[arg(long, conflicts_with = "tls")]
    pub(crate) starttls: bool,
    /// TLS from the first octet on
    #[arg(long)]
    pub(crate) tls: bool,
    /// Certificate chain (PEM); STARTTLS is offered unless --tls asks for more
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Seed of the choices that the shares ask for
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
}

fn stage_delay(text: &str) -> Result<(Stage, Delay), String> {
    let (stage, delay) = text.split_once('=').unwrap_or(("dot", text));
    Ok((Stage::parse(stage)?, Delay::parse(delay)?))
}

impl Options {
    fn security(&self) -> io::Result<Security> {
        let files = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        if files.is_none() && !self.starttls && !self.tls {
            return Ok(Security::Plain);
        }
        let config = tls::server(files, &["sink.test".to_owned()])?;
        Ok(if self.tls {
            Security::Implicit(config)
        } else {
            Security::Asked(config)
        })
    }
}

/// Runs the sink; true when nothing was lost or doubled.
pub fn run(options: &Options) -> io::Result<bool> {
    measure::raise_nofile();
    let interrupted = stop::on_signals()?;
    let finished = Arc::new(AtomicBool::new(false));
    let ledger = Arc::new(Mutex::new(Ledger::new()));
    let mut listeners = vec![net::listen(options.listen)?];
    // Where any port was asked for, the others have the same one.
    let address = listeners[0].local_addr()?;
    for _ in 1..options.threads {
        listeners.push(net::listen(address)?);
    }
    if let Some(control) = options.control {
        control::start(
            control,
            Arc::clone(&ledger),
            Arc::clone(&interrupted),
            options.expect,
        )?;
    }
    let security = options.security()?;
    let mut threads = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let has_tls = !matches!(security, Security::Plain);
        let behaviour = Behaviour::new(options, has_tls, index as u64);
        let desk = Desk::new(behaviour, Arc::clone(&ledger));
        let worker = Worker::new(
            desk,
            vec![listener],
            security.clone(),
            Arc::clone(&finished),
        )?;
        threads.push(std::thread::spawn(move || worker.run()));
    }
    writeln!(io::stderr(), "sink listens on {address}")?;
    wait(options, &ledger, &interrupted);
    finished.store(true, Ordering::Relaxed);
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a sink thread panicked"))??;
    }
    let report = Report::of(
        &ledger.lock().unwrap_or_else(PoisonError::into_inner),
        options.expect,
    );
    if let Some(path) = &options.report {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    report.print(&mut io::stdout().lock(), options.json)?;
    Ok(report.is_clean())
}

fn wait(options: &Options, ledger: &Mutex<Ledger>, interrupted: &AtomicBool) {
    let mut last = (Instant::now(), 0);
    while !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let (messages, deliveries) = {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            (ledger.counts.messages, ledger.distinct())
        };
        if messages != last.1 {
            last = (Instant::now(), messages);
        }
        if options.expect.is_some_and(|expect| deliveries >= expect) && last.0.elapsed() >= GRACE {
            return;
        }
        if options
            .idle_exit
            .is_some_and(|idle| last.0.elapsed() >= idle)
        {
            return;
        }
    }
}
