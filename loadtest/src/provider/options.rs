//! The command line of `provider`: list, check, simulate, serve. One per process.

use super::client::Client;
use super::postfix::{Feedback, Postfix};
use super::serve::{self, Serve};
use super::shipped::{SHIPPED, known, load, shipped};
use super::simulate::{Model, Outcome, Plan, simulate};
use crate::measure::{self, ratio};
use crate::{quantity, stop};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that Postfix begins with (`initial_destination_concurrency`).
const WINDOW: u32 = 5;

/// Simulated mailbox providers.
///
/// A profile is a TOML file, or the name of one that is shipped (`posthaste-load provider list`).
#[derive(clap::Args)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Names of the shipped profiles, or the text of one, to start from
    List {
        /// Print this profile's text
        #[arg(value_name = "NAME")]
        show: Option<String>,
    },
    /// Check profiles; a fault names file, line, column, key and the nearest key
    Check {
        /// Names of shipped profiles, or files
        #[arg(required = true, value_name = "PROFILE")]
        profiles: Vec<String>,
    },
    Simulate(Simulate),
    Serve(Serve),
}

/// Run a profile without sockets, as fast as the processor goes, against a model of a sender
///
/// Prints what the sender saw and the truth it cannot see. The same seed gives the same run. Ctrl-C ends early with a valid report.
///
/// Examples:
///   posthaste-load provider simulate outlook --days 30 --rate 1/s --model aimd
///   posthaste-load provider simulate limiter --model postfix --feedback 1/N --once --batch 1000 --recipients 2 --rate 0
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Simulate {
    /// Name of a shipped profile, or a file
    #[arg(value_name = "PROFILE")]
    profile: String,
    /// Simulated days
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    days: f64,
    /// Messages offered, all sources together; 0 for none but --batch
    #[arg(long, default_value = "1/s", value_name = "N/TIME", value_parser = offered)]
    rate: (f64, Duration),
    /// Messages there at the start
    #[arg(long, default_value_t = 0, value_name = "N")]
    batch: u64,
    /// How the sources pace themselves
    #[arg(long, value_enum, default_value = "steady")]
    model: Model,
    /// What a delivery adds to or takes from the window of N connections of --model postfix: 1/N, 1/sqrt(N) or a number
    #[arg(long, default_value = "1", value_name = "AMOUNT", value_parser = Feedback::parse)]
    feedback: Feedback,
    /// Of --model postfix: the first attempt decides, nothing comes back
    #[arg(long)]
    once: bool,
    /// Client addresses, each in a /24 of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sources: u32,
    /// Connections per source at most
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Messages per connection
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_connection: u32,
    /// Recipients of each message
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    recipients: u32,
    /// Seed of all that is left to chance
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print one JSON object in place of the table
    #[arg(long)]
    json: bool,
}

fn offered(text: &str) -> Result<(f64, Duration), String> {
    if text == "0" {
        return Ok((0.0, Duration::from_secs(1)));
    }
    quantity::quota(text)
}

/// Runs the command; true when all is well.
pub fn run(command: &Command) -> io::Result<bool> {
    match &command.action {
        Action::List { show } => list(show.as_deref()),
        Action::Check { profiles } => check(profiles),
        Action::Simulate(options) => options.run(),
        Action::Serve(options) => serve::run(options),
    }
}

fn list(show: Option<&str>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    if let Some(wanted) = show {
        let text = shipped(wanted).ok_or_else(|| {
            let none = format!("{wanted}: no such profile is shipped; {}", known(wanted));
            io::Error::new(io::ErrorKind::NotFound, none)
        })?;
        out.write_all(text.as_bytes())?;
        return Ok(true);
    }
    for (name, text) in SHIPPED {
        let first = text.lines().next().unwrap_or("").trim_start_matches("# ");
        writeln!(out, "{name:12} {first}")?;
    }
    Ok(true)
}

fn check(profiles: &[String]) -> io::Result<bool> {
    for name in profiles {
        let profile = load(name)?;
        writeln!(
            io::stdout(),
            "{name}: {}, {} domains, {} mail hosts",
            profile.name,
            profile.domains.len(),
            profile.hosts.len()
        )?;
    }
    Ok(true)
}

impl Simulate {
    fn run(&self) -> io::Result<bool> {
        let profile = Arc::new(load(&self.profile)?);
        let duration = Duration::try_from_secs_f64(self.days * 86_400.0)
            .map_err(|error| io::Error::other(format!("--days: {error}")))?;
        let rate = self.rate.0 / self.rate.1.as_secs_f64();
        let plan = Plan {
            seed: self.seed,
            duration,
            rate,
            batch: self.batch,
            recipients: self.recipients,
            sources: self.sources,
            ..Plan::default()
        };
        let stop = stop::on_signals()?;
        let began = Instant::now();
        let per_source = rate / f64::from(self.sources);
        let mut client = |_| match self.model {
            Model::Postfix => {
                let model = Postfix::new(self.feedback, WINDOW, self.connections, !self.once);
                Box::new(model) as Box<dyn Client>
            }
            Model::Steady | Model::Aimd => {
                self.model
                    .client(self.connections, self.per_connection, per_source)
            }
        };
        let outcome = simulate(profile, &plan, &mut client, &stop);
        self.print(&outcome, began.elapsed())?;
        Ok(true)
    }

    fn print(&self, outcome: &Outcome, took: Duration) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let speed = ratio(outcome.attempts as f64, took.as_secs_f64());
        if self.json {
            let mut json = serde_json::to_value(outcome)?;
            json["kind"] = "simulation".into();
            json["seed"] = self.seed.into();
            json["seconds_real"] = took.as_secs_f64().into();
            json["attempts_per_second_real"] = speed.into();
            return writeln!(out, "{json}");
        }
        let rows = [
            (
                "offered",
                format!(
                    "{} messages, {} waiting at the end, {} shed",
                    outcome.offered, outcome.waiting, outcome.shed
                ),
            ),
            (
                "recipients",
                format!(
                    "{} delivered, {} refused, {} expired, {} deferrals",
                    outcome.delivered, outcome.refused, outcome.expired, outcome.deferrals
                ),
            ),
            (
                "open at once",
                format!(
                    "{} at most, {:.2} on average",
                    outcome.open_max, outcome.open_mean
                ),
            ),
            (
                "simulated",
                format!(
                    "{} attempts in {:.2} s real time, {speed:.0} attempts/s",
                    outcome.attempts,
                    took.as_secs_f64()
                ),
            ),
        ];
        measure::write_table(&mut out, &rows)?;
        writeln!(out)?;
        outcome.truth.print(&mut out)?;
        if outcome.truth.days.len() > 1 {
            writeln!(
                out,
                "\nday    accepted   deferred    refused   capacity  reputation"
            )?;
        }
        for (number, day) in outcome.truth.days.iter().enumerate() {
            if outcome.truth.days.len() == 1 {
                break;
            }
            writeln!(
                out,
                "{:3} {:11} {:10} {:10} {:10.0} {:11.2}",
                number + 1,
                day.accepted,
                day.deferred,
                day.refused,
                day.capacity.unwrap_or(0.0),
                day.reputation.unwrap_or(0.0)
            )?;
        }
        Ok(())
    }
}
