//! `posthaste-load`: load generator and sink for SMTP servers. Parses the command line and hands over; knows no SMTP.

use clap::{Parser, Subcommand};
use posthaste_load::{document, idle, provider, report, scenario, sink, source};
use std::io::Write as _;
use std::process::ExitCode;

/// A file that was written wrongly (sysexits.h).
const EX_CONFIG: u8 = 78;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator, sink and simulated mailbox providers for SMTP servers
///
/// A measurement needs two of these: a `sink` that the server under test delivers to, and a `source` that feeds the server.
/// Each message carries an id and a time, so the sink tells loss, duplicates and end-to-end latency by itself.
/// For a sink as moody as a mailbox provider there is `provider`; `run` starts providers and load together and judges what came of it.
///
/// Example, with a server at port 2525 that sends all mail on to 127.0.0.2:2526:
///   posthaste-load sink --expect 50000 --idle-exit 30s &
///   posthaste-load source --messages 50000
#[derive(Parser)]
#[command(
    name = "posthaste-load",
    version,
    max_term_width = 110,
    verbatim_doc_comment
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sink(Box<sink::Options>),
    Source(Box<source::Options>),
    Idle(idle::Options),
    Provider(provider::Command),
    Run(scenario::Options),
    Report(report::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Sink(options) => sink::run(&options),
        Command::Source(options) => source::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Provider(command) => provider::run(&command),
        Command::Run(options) => scenario::run(&options),
        Command::Report(options) => report::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error may be gone; the exit code still tells.
            let faults = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<document::Faults>());
            if let Some(faults) = faults {
                let _ = writeln!(std::io::stderr(), "{faults}");
                return ExitCode::from(EX_CONFIG);
            }
            let _ = writeln!(std::io::stderr(), "posthaste-load: {error}");
            ExitCode::from(2)
        }
    }
}
