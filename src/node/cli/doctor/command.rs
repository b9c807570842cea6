//! The command: from arguments to a report and an exit status.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use posthaste_core::egress::Source;
use posthaste_core::route::is_prohibited;
use posthaste_tuning::{
    Host, Kind, Look, Measured, Profile, Refusal, Reverse, Wanted, json, judge, script, table,
};

use super::super::args::{NodeArgs, print, tell};
use super::{disk, names};
use crate::config::Config;

/// For the names of all egress addresses together.
const REVERSE_PATIENCE: Duration = Duration::from_secs(10);
/// Width of a table that goes to no terminal.
const WIDTH: usize = 100;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste doctor --config /etc/posthaste/posthaste.toml
  posthaste doctor --script > fixes.sh            print what can be mended, to read and to run
  posthaste doctor --json --no-measure

Run it as the user and under the limits of the service: what is seen is what this process is given.

Exit status: 0 nothing fatal, 1 warnings (with --strict), 64 usage, 71 the system forbids it,
78 limits or configuration that keep mail from leaving or `posthaste run` from starting.")]
pub(in crate::cli) struct DoctorArgs {
    #[command(flatten)]
    pub(in crate::cli) node: NodeArgs,
    /// Print the findings as JSON.
    #[arg(long, conflicts_with = "script")]
    json: bool,
    /// Print a shell script that would mend what can be mended. It is not run.
    #[arg(long)]
    script: bool,
    /// What this host is taken for, in place of what it seems to be.
    #[arg(long, value_enum, value_name = "KIND")]
    profile: Option<ProfileArg>,
    /// Write nothing to the disk and ask no resolver.
    #[arg(long)]
    no_measure: bool,
    /// Tell the reason of what is well, too.
    #[arg(long)]
    why: bool,
    /// Exit 1 when there are warnings.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileArg {
    Metal,
    Vm,
    Container,
}

/// What the node's own start-up check found out.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// The CPU of each shard.
    pub cpus: Vec<u16>,
    /// Open files for all connections that the configuration allows.
    pub files: u64,
    /// Octets the node may come to hold.
    pub memory: u64,
    pub resolvers: Vec<SocketAddr>,
    pub refusals: Vec<Refusal>,
}

/// The command with a good configuration.
pub struct Doctor {
    config: Config,
    arguments: DoctorArgs,
}

impl core::fmt::Debug for Doctor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Doctor")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Doctor {
    pub(in crate::cli) const fn new(config: Config, arguments: DoctorArgs) -> Self {
        Self { config, arguments }
    }

    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Measures, judges and prints. Answers the exit status.
    pub fn run(&self, grounds: &Grounds) -> u8 {
        let host = Host::read(Path::new("/"));
        let kind = match self.arguments.profile {
            None => host.place.kind,
            Some(ProfileArg::Metal) => Kind::Metal,
            Some(ProfileArg::Vm) => Kind::Vm,
            Some(ProfileArg::Container) => Kind::Container,
        };
        let profile = Profile::of(kind).expect("a test reads the built-in profiles");
        let config = &self.config;
        let spool = disk::existing(&config.spool.path);
        let log = disk::existing(&config.log.dir);
        let mut measured = Measured {
            spaces: vec![(spool.clone(), disk::space(&spool))],
            ..Measured::default()
        };
        if host.mount_of(&log) != host.mount_of(&spool) {
            measured.spaces.push((log.clone(), disk::space(&log)));
        }
        let (own, proxied) = addresses(config);
        if !self.arguments.no_measure {
            measured.sync = Some(disk::sync(&spool));
            measured.resolvers = grounds
                .resolvers
                .iter()
                .map(|resolver| (*resolver, names::latency(*resolver)))
                .collect();
            let seen: Vec<IpAddr> = own.iter().chain(&proxied).copied().collect();
            measured.reverse = reverse(&seen, &measured);
        }
        let wanted = Wanted {
            cpus: grounds.cpus.clone(),
            files: grounds.files,
            memory: grounds.memory,
            free_octets_min: config.spool.free_octets_min,
            sources: own,
            shares_limits: config.redis.is_some(),
            names_sources: config.sources_enabled().next().is_some(),
            proxied,
            resolvers: grounds.resolvers.clone(),
            spool,
        };
        let report = judge(&host, &wanted, &measured, &grounds.refusals, &profile);
        let exit = report.exit(self.arguments.strict);
        if self.arguments.json {
            print(&json(&report, exit));
        } else if self.arguments.script {
            print(&script(&report));
            if io::stdout().is_terminal() {
                tell("posthaste: this was printed and not run\n");
            }
        } else {
            print(&table(&report, self.look()));
        }
        exit
    }

    fn look(&self) -> Look {
        let is_terminal = io::stdout().is_terminal();
        // https://no-color.org
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let told = std::env::var("COLUMNS").ok();
        let told = told.and_then(|columns| columns.parse().ok());
        Look {
            width: told
                .or_else(|| if is_terminal { terminal_width() } else { None })
                .unwrap_or(WIDTH),
            colours: is_terminal && !wants_none,
            all_reasons: self.arguments.why,
        }
    }
}

/// Of the enabled sources, each once: those this host must have, and those its HAProxies connect from.
fn addresses(config: &Config) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let own: BTreeSet<IpAddr> = config.sources_enabled().filter_map(Source::own).collect();
    let seen: BTreeSet<IpAddr> = config.sources_enabled().filter_map(Source::seen).collect();
    let proxied = seen.difference(&own).copied().collect();
    (own.into_iter().collect(), proxied)
}

/// The names of those that others can see, from the first resolver that answers.
fn reverse(sources: &[IpAddr], measured: &Measured) -> Vec<(IpAddr, Reverse)> {
    let mut answering = measured.resolvers.iter().filter(|(_, tried)| tried.is_ok());
    let resolver = answering.next().map(|(resolver, _)| *resolver);
    let deadline = Instant::now() + REVERSE_PATIENCE;
    let named = |source: &IpAddr| match resolver {
        _ if is_prohibited(*source) => Reverse::Private,
        None => Reverse::Unreachable("no resolver answers".into()),
        Some(resolver) => names::reverse(*source, resolver, deadline),
    };
    sources
        .iter()
        .map(|source| (*source, named(source)))
        .collect()
}

/// As the terminal of this process says; there is no other way to ask without `unsafe`.
fn terminal_width() -> Option<usize> {
    let output = Command::new("stty")
        .arg("size")
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}
