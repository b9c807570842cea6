//! Arguments, and the commands that need no node.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::automation::{self, AutomationArgs};
use super::check::{self, CheckArgs};
use super::doctor::{Doctor, DoctorArgs};
use super::explain::{self, ExplainArgs};
use super::queue::{self, QueueArgs};
use super::shaping::{self, OverrideArgs};
use super::source::{self, SourceArgs};
use super::warmup::{self, WarmupArgs};
use crate::config::{self, Config, Fault, Given, KNOBS, Override, Place, Settings, Wrong};

/// Exit statuses as `sysexits.h` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Usage = 64,
    DataError = 65,
    Unavailable = 69,
    Software = 70,
    OsError = 71,
    IoError = 74,
    NoPermission = 77,
    Config = 78,
}

/// What is left for the caller to do.
#[derive(Debug)]
pub enum Command {
    Run(Box<Config>),
    Doctor(Box<Doctor>),
    /// All is done.
    Exit(Exit),
}

/// Takes mail by SMTP, keeps it safe, and delivers it.
#[derive(Parser)]
#[command(name = "posthaste", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "Examples:
  posthaste run                                     defaults: SMTP 127.0.0.1:2525, HTTP 127.0.0.1:8000
  posthaste run --config /etc/posthaste/posthaste.toml
  posthaste check --print-defaults > posthaste.toml
  posthaste check /etc/posthaste/shaping            shaping files too, with warnings
  posthaste queue list
  posthaste explain example.com                     why its mail goes as it does
  posthaste source list                             as whom mail leaves, and how each source stands
  posthaste automation list                         what rules of automation have seen and done
  posthaste warmup status                           how far young sources are
  posthaste doctor                                  what this host should be like, and is not

Exit status: 0 done, 64 usage, 69 no answer, 71 the system forbids it, 78 bad configuration.";

#[derive(Subcommand)]
enum Action {
    /// Run the server until SIGTERM.
    Run(RunArgs),
    /// Look whether this host is fit, and say why not and what to do.
    Doctor(Box<DoctorArgs>),
    /// Check configuration and shaping files and tell all that is wrong with them.
    Check(CheckArgs),
    /// Look at the queue of a running server, or make it try again.
    Queue(QueueArgs),
    /// What shaping holds for a domain, who set it, how much is used, and what waits for it.
    Explain(ExplainArgs),
    /// What rules of automation have seen and done.
    Automation(AutomationArgs),
    /// Values over all shaping files that expire by themselves.
    Override(OverrideArgs),
    /// Egress sources: as whom mail leaves, and how each stands.
    Source(SourceArgs),
    /// How far young sources are.
    Warmup(WarmupArgs),
    /// Print the version.
    Version,
}

#[derive(Args, Default)]
#[command(after_help = "Flags override the file. Examples:
  posthaste run --next-hop 127.0.0.2:2526 --spool /tmp/spool
  posthaste run --listen 192.0.2.1:25 --listen '[2001:db8::1]:25' --trust 192.0.2.0/24")]
struct RunArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// The essentials of a configuration as flags.
#[derive(Args, Default)]
pub(super) struct NodeArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of this host in greeting, EHLO and Received.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Address and port that take SMTP; may be repeated.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Address and port of health, metrics and admin.
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// Directory of the spool.
    #[arg(long, value_name = "DIR")]
    spool: Option<String>,
    /// What 250 means: past a power cut (commit) or only past the process (relaxed).
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Deliver every domain here, in place of MX; loopback is allowed then.
    #[arg(long, value_name = "HOST:PORT")]
    next_hop: Option<String>,
    /// Network whose clients may relay, in place of loopback; may be repeated.
    #[arg(long, value_name = "CIDR")]
    trust: Vec<String>,
    /// Delays before the second, third, … attempt; the last repeats.
    #[arg(long, value_name = "2s,10s,1m")]
    retry: Option<String>,
    /// Age at which a message expires.
    #[arg(long, value_name = "5d")]
    max_age: Option<String>,
    /// Executors: all, a number, or CPU numbers with commas.
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Directory of the delivery log.
    #[arg(long, value_name = "DIR")]
    log: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DurabilityArg {
    Commit,
    Relaxed,
}

/// Reads the arguments and does what they ask for, but for running a node.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Command {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return Command::Exit(exit);
        }
    };
    match cli.action {
        Action::Run(arguments) => match configured(&arguments.node) {
            Ok(config) => Command::Run(Box::new(config)),
            Err(exit) => Command::Exit(exit),
        },
        Action::Doctor(arguments) => match configured(&arguments.node) {
            Ok(config) => Command::Doctor(Box::new(Doctor::new(config, *arguments))),
            Err(exit) => Command::Exit(exit),
        },
        Action::Check(arguments) => Command::Exit(check::check(&arguments)),
        Action::Queue(arguments) => Command::Exit(queue::queue(&arguments)),
        Action::Explain(arguments) => Command::Exit(explain::explain(&arguments)),
        Action::Override(arguments) => Command::Exit(shaping::overrides(&arguments)),
        Action::Automation(arguments) => Command::Exit(automation::automation(&arguments)),
        Action::Source(arguments) => Command::Exit(source::source(&arguments)),
        Action::Warmup(arguments) => Command::Exit(warmup::warmup(&arguments)),
        Action::Version => {
            print(&format!("posthaste {}\n", env!("CARGO_PKG_VERSION")));
            Command::Exit(Exit::Ok)
        }
    }
}

/// The configuration, or the status after its faults were told.
fn configured(arguments: &NodeArgs) -> Result<Config, Exit> {
    let checked = settings(arguments.config.as_ref(), overrides(arguments))
        .and_then(|settings| config::check(&settings));
    checked.map_err(|faults| {
        for fault in faults {
            tell(&format!("posthaste: {fault}\n"));
        }
        Exit::Config
    })
}

pub(super) fn settings(
    file: Option<&PathBuf>,
    overrides: Vec<Override>,
) -> Result<Settings, Vec<Fault>> {
    let file = match file {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| {
                let place = Place::File {
                    name: name.as_str().into(),
                    line: 1,
                    column: 1,
                };
                let wrong = Wrong::Unreadable(error.to_string());
                vec![Fault {
                    place,
                    key: String::new(),
                    wrong,
                }]
            })?;
            Some((name, text))
        }
    };
    let secrets = KNOBS.iter().filter_map(|knob| knob.environment);
    let environment = secrets
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    Ok(Settings {
        file,
        environment,
        overrides,
    })
}

fn overrides(arguments: &NodeArgs) -> Vec<Override> {
    let durability = arguments.durability.map(|durability| match durability {
        DurabilityArg::Commit => "commit".to_owned(),
        DurabilityArg::Relaxed => "relaxed".to_owned(),
    });
    let texts = [
        ("node.hostname", "hostname", &arguments.hostname),
        ("http.address", "http", &arguments.http),
        ("spool.path", "spool", &arguments.spool),
        ("spool.durability", "durability", &durability),
        ("delivery.max_age", "max-age", &arguments.max_age),
        ("node.shards", "shards", &arguments.shards),
        ("log.dir", "log", &arguments.log),
    ];
    let mut overrides: Vec<Override> = texts
        .into_iter()
        .filter_map(|(key, flag, text)| Some(Override::text(key, flag, text.as_ref()?)))
        .collect();
    for (index, address) in arguments.listen.iter().enumerate() {
        let key = format!("listener[{index}].address");
        overrides.push(Override::text(&key, "listen", address));
    }
    if !arguments.trust.is_empty() {
        let networks = arguments.trust.iter().map(String::as_str);
        overrides.push(Override::list("trust.networks", "trust", networks));
    }
    if let Some(retry) = &arguments.retry {
        let delays = retry.split(',').map(str::trim);
        overrides.push(Override::list("delivery.retry", "retry", delays));
    }
    if let Some(next_hop) = &arguments.next_hop {
        let hops = std::iter::once(next_hop.as_str());
        overrides.push(Override::list("route[0].next_hop", "next-hop", hops));
        let key = "delivery.allow_private_targets";
        overrides.push(Override::new(key, "next-hop", Given::Bool(true)));
    }
    overrides
}

/// To standard output; a reader that went away is no error of ours.
pub(super) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// To standard error.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posthaste(line: &str) -> Command {
        run(line.split(' ').map(Into::into))
    }

    #[test]
    fn the_essentials_are_flags() {
        let line = "posthaste run --hostname mx.example.com --listen 127.0.0.1:3000 --listen [::1]:3000 \
             --http 127.0.0.1:8001 --spool /tmp/s --durability relaxed --next-hop 127.0.0.2:2526 \
             --trust 10.0.0.0/8 --retry 2s,10s,1m --max-age 1h --shards 2 --log /tmp/l";
        let Command::Run(config) = posthaste(line) else {
            panic!("these flags are good")
        };
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.routes.len(), 1);
        assert_eq!(config.delivery.retry.len(), 3);
        assert_eq!(config.trust.len(), 1);
        assert!(config.delivery.allow_private_targets);
    }

    #[test]
    fn statuses_are_those_of_sysexits() {
        for (line, exit) in [
            ("posthaste run --max-age never", Exit::Config),
            (
                "posthaste run --config /nowhere/posthaste.toml",
                Exit::Config,
            ),
            ("posthaste check /nowhere/posthaste.toml", Exit::Config),
            ("posthaste rum", Exit::Usage),
            ("posthaste version", Exit::Ok),
        ] {
            assert!(
                matches!(posthaste(line), Command::Exit(e) if e == exit),
                "{line}"
            );
        }
    }
}
