//! From the configuration to a node that accepts mail, and from SIGTERM to its end.

use core::hash::{BuildHasher, Hasher};
use std::hash::RandomState;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use posthaste_core::dispatch::Shapes;
use posthaste_core::words::{Recovered, ShardId};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cluster;
use super::console::{Console, Phase};
use super::egress::Egress;
use super::grounds::stand;
use super::log::{Passed, Rows};
use super::settings::{self, Shared};
use super::shaper::Shaper;
use crate::config::{Config, Durability};
use crate::control;
use crate::intake::{Backlog, Doorway};
use crate::mesh::{Firings, Mesh, Note, mesh};
use crate::net::Census;
use crate::observe::{
    Aside, AsideEnd, Ending, Exposition, Log, LogError, LogMeters, LogOptions, Meters, Mode, Named,
    aside, meters_with, start_log,
};
use crate::rt::{Bound, Inbox, Pinned, Unfit};
use crate::shaping::LoadError;
use crate::shard::{self, Courier, DiskNote, Parts};
use crate::spool::{self, Completion, Health, OpenError, Opened, Running, Spool};
use crate::throttle;

/// Signals and the spool's health are looked at so often.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// Files of the spool, the log, HTTP, rings and DNS.
const FILES_RESERVED: u64 = 1536;
/// How long a taken address is waited for: that of our own last run may be free in a moment.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// How long a start waits for the delivery log to be done with what the last run left to it.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// Recovered messages told to a shard at once.
const RECOVERED_CHUNK: usize = 1024;

/// Why the node does not run, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Host(#[from] Unfit),
    /// The configuration asks for what this host has not.
    #[error("{0}")]
    Wanted(String),
    #[error("source {name} has {address}, from which this host cannot send: {error}")]
    Source {
        name: Arc<str>,
        address: IpAddr,
        error: io::Error,
    },
    #[error("{address}: {error}")]
    Bind {
        address: SocketAddr,
        error: io::Error,
    },
    #[error(transparent)]
    Spool(#[from] OpenError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Shaping(#[from] LoadError),
    #[error(transparent)]
    Throttle(#[from] throttle::Refused),
    #[error("no thread for HTTP: {0}")]
    Control(io::Error),
    #[error("no signals: {0}")]
    Signals(io::Error),
    #[error("shard {shard}: {error}")]
    Shard { shard: u16, error: io::Error },
}

impl Broken {
    /// An address may come later, and what is accepted waits for it; all else is final.
    pub(super) const fn forbids_start(&self) -> bool {
        !matches!(self, Self::Source { .. })
    }
}

/// The CPUs of the shards, and files that may be open. What does not forbid the start is told.
fn take_stand(config: &Config) -> Result<(Vec<u16>, u64), Broken> {
    let found = stand(config);
    for trouble in found.troubles {
        if trouble.forbids_start() {
            return Err(trouble);
        }
        tell(&format!("posthaste: {trouble}\n"));
    }
    Ok((found.cpus, found.files_max))
}

/// Runs the node until SIGTERM or SIGINT and all in flight is finished.
///
/// # Errors
/// See [`Broken`]. Nothing accepted is lost by any of them.
pub fn run(config: &Config) -> Result<(), Broken> {
    die_on_panic();
    let (cpus, files_max) = take_stand(config)?;
    let shards = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
    let files = Files::share(files_max);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Broken::Signals)?;
    let address = config.http.address;
    let http = control::bind(address).map_err(|error| Broken::Bind { address, error })?;
    let doorways = bind(config, shards, files)?;
    let (mesh, inboxes) = mesh(shards);
    let (mut shaper, before) = Shaper::start(
        config.shaping_options(),
        cluster::sharing(config),
        mesh.clone(),
        &config.spool.path,
    )?;
    shaper.shapes().registry.bound(files.outbound_max);
    let opened = spool::open(settings::spool(config, shards))?;
    announce(config, shards, files_max);

    let (meters, exposition) = measured(config);
    let egress = Egress::open(config, &meters);
    let spool = opened.spool();
    let throttle = cluster::start(config, &shaper.hold(), before)?;
    let backlog = Arc::new(Backlog::new(shards, config.spool.queue_octets_max));
    let console = Arc::new(Console::new(
        mesh.clone(),
        spool.clone(),
        Arc::clone(&backlog),
        meters.clone(),
        shaper.hold(),
        egress.roster(config),
        throttle.as_ref(),
    ));
    let options = settings::control(config, shards);
    let control = control::start(options, http, Arc::clone(&console) as _, exposition)
        .map_err(Broken::Control)?;
    let ends = inboxes.into_iter().zip(doorways);
    let (opened_one, all_opened) = mpsc::channel();
    let (aside, aside_end) = aside();
    let common = Common {
        config,
        mesh: &mesh,
        spool: &spool,
        meters: &meters,
        egress: &egress,
        aside: &aside,
        shapes: shaper.shapes(),
        backlog: &backlog,
        firings: console.autopilot().firings(),
        opened: opened_one,
    };
    let threads = start_shards(parts(&common, ends), &cpus)?;
    drop(common);
    let (running, log) = start_spool(config, opened, &mesh, aside_end, meters.log)?;
    if open(&mesh, &all_opened) {
        console.enter(Phase::Serving);
        tell("posthaste: ready\n");
        watch(&mut signals, &console, &egress, &mut shaper);
        tell("posthaste: finishing what is in flight\n");
    }
    console.enter(Phase::Ending);
    let ended = stop(&mesh, threads, running, log);
    egress.close();
    if let Some(told) = shaper.end() {
        tell(&format!("posthaste: {told}\n"));
    }
    control.stop();
    // What it had leased is given back once nothing is sent any more.
    drop(throttle);
    ended
}

fn measured(config: &Config) -> (Meters, Exposition) {
    let sources: Vec<&str> = config.sources_enabled().map(|of| &*of.name).collect();
    let mode = match config.spool.durability {
        Durability::Commit => Mode::Commit,
        Durability::Relaxed => Mode::Relaxed,
    };
    let pools = settings::pool_names(config);
    let named = Named {
        sources: &sources,
        pools: &pools,
    };
    meters_with(mode, named, config.redis.is_some())
}

/// Until a signal asks for the end. What becomes of the spool's disk, of sources and of shaping meanwhile is told.
fn watch(signals: &mut Signals, console: &Console, egress: &Egress, shaper: &mut Shaper) {
    let spool = console.spool();
    let mut told = Health::Good;
    loop {
        for signal in signals.pending() {
            if signal != SIGHUP {
                return;
            }
            let told = shaper.reload();
            tell(&format!(
                "posthaste: {told}; all else is read at start only\n"
            ));
        }
        // First, so that what it sets is kept at once.
        for told in console.autopilot().look(console) {
            tell(&format!("posthaste: {told}\n"));
        }
        if let Some(told) = shaper.look() {
            tell(&format!("posthaste: {told}\n"));
        }
        egress.look();
        let health = spool.health();
        if health != told {
            told = health;
            match health {
                Health::Good => tell("posthaste: the spool's disk is well again\n"),
                Health::Full => {
                    tell("posthaste: the spool's disk or quota is full: no message is taken\n");
                }
                Health::Poisoned => tell(&format!(
                    "posthaste: the spool's disk failed, no message is taken until a restart: {}\n",
                    spool.fault().unwrap_or("no detail")
                )),
            }
        }
        thread::sleep(WATCH_PAUSE);
    }
}

/// How the open files this process may have are shared out: the spool must never want for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    inbound_max: u32,
    outbound_max: u32,
}

impl Files {
    /// Open files of which the share for inbound connections is `sessions` at least.
    pub(super) const fn wanted(sessions: u64) -> u64 {
        FILES_RESERVED + sessions.div_ceil(3) * 4
    }

    fn share(files_max: u64) -> Self {
        let free = files_max.saturating_sub(FILES_RESERVED);
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        Self {
            inbound_max: free / 4 * 3,
            outbound_max: free / 4,
        }
    }
}

/// Whether every listener of every shard accepts; a shard that cannot listen has ended.
fn open(mesh: &Mesh<DiskNote>, opened: &Receiver<()>) -> bool {
    for post in mesh.all() {
        post.put_patiently(Note::Open);
        post.ring();
    }
    mesh.all().all(|_| opened.recv().is_ok())
}

type Sockets = Vec<(Bound, Arc<Census>)>;

/// What all shards have a share or a handle of.
struct Common<'a> {
    config: &'a Config,
    mesh: &'a Mesh<DiskNote>,
    spool: &'a Spool,
    meters: &'a Meters,
    egress: &'a Egress,
    aside: &'a Aside,
    backlog: &'a Arc<Backlog>,
    firings: Arc<Firings>,
    opened: Sender<()>,
    shapes: Arc<Shapes>,
}

/// What each shard takes to its thread.
fn parts(
    common: &Common<'_>,
    ends: impl Iterator<Item = (Inbox<Note<DiskNote>>, Sockets)>,
) -> Vec<Parts> {
    let Common { config, mesh, .. } = common;
    let addresses: Vec<SocketAddr> = config.listeners.iter().map(|l| l.address).collect();
    let shared = Shared::new(config, &addresses);
    let shards = u16::try_from(mesh.shards()).unwrap_or(u16::MAX);
    let numbered = (0..shards).map(ShardId).zip(ends);
    let parts = numbered.map(|(shard, (inbox, sockets))| Parts {
        shard,
        hostname: config.node.hostname.clone(),
        nodeid: config.node.nodeid.as_str().into(),
        doorways: sockets
            .into_iter()
            .zip(&config.listeners)
            .map(|((socket, census), listener)| Doorway {
                name: listener.address.to_string().into(),
                socket,
                census,
                session: Arc::clone(&shared.session),
            })
            .collect(),
        admission: Arc::clone(&shared.admission),
        spool: common.spool.clone(),
        mesh: Mesh::clone(mesh),
        inbox,
        dispatch: settings::dispatch(config, &common.egress.fleet, shard, shards),
        shapes: Arc::clone(&common.shapes),
        sources: Arc::clone(&common.egress.sources),
        keeper: Arc::clone(&common.egress.keeper),
        memory: Arc::clone(&common.egress.memory),
        firings: Arc::clone(&common.firings),
        dns: shared.dns.clone(),
        policy: Arc::clone(&shared.policy),
        meters: common.meters.clone(),
        aside: common.aside.clone(),
        receiving_octets_max: settings::receiving_octets_max(config, shards),
        backlog: Arc::clone(common.backlog),
        seeds: [seed(), seed()],
        opened: common.opened.clone(),
    });
    parts.collect()
}

/// One socket per listener and shard, so that a taken address is told before anything is opened.
fn bind(config: &Config, shards: u16, files: Files) -> Result<Vec<Sockets>, Broken> {
    let mut by_shard: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
    let listeners = u32::try_from(config.listeners.len()).unwrap_or(u32::MAX);
    let share = files.inbound_max / listeners.max(1);
    for listener in &config.listeners {
        let address = listener.address;
        let broken = |error| Broken::Bind { address, error };
        // Sockets of one address share it by SO_REUSEPORT; another process must not.
        claim(address).map_err(broken)?;
        let mut limits = settings::connection_limits(listener);
        limits.per_listener_max = limits.per_listener_max.min(share);
        let census = Arc::new(Census::new(limits));
        for sockets in &mut by_shard {
            let socket = Bound::bind(address).map_err(broken)?;
            sockets.push((socket, Arc::clone(&census)));
        }
    }
    Ok(by_shard)
}

/// The kernel takes down the rings of a killed process behind its back, and its listeners with them.
fn claim(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + CLAIM_PATIENCE;
    loop {
        match Bound::claim(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(CLAIM_PAUSE);
            }
            claimed => return claimed,
        }
    }
}

/// Gives the number of clients without a reply to their final dot.
type ShardThread = Pinned<io::Result<usize>>;

fn start_shards(parts: Vec<Parts>, cpus: &[u16]) -> Result<Vec<ShardThread>, Broken> {
    let numbered = parts.into_iter().zip(cpus);
    numbered
        .map(|(parts, cpu)| {
            let shard = parts.shard.0;
            Pinned::start(&format!("shard-{shard}"), *cpu, move || shard::run(parts))
                .map_err(|error| Broken::Shard { shard, error })
        })
        .collect()
}

/// Tells the shards what the spool holds, then lets it commit.
fn start_spool(
    config: &Config,
    mut opened: Opened,
    mesh: &Mesh<DiskNote>,
    aside: AsideEnd,
    meters: LogMeters,
) -> Result<(Running, Log), Broken> {
    let shards = mesh.shards();
    let mut found: Vec<Vec<Recovered>> = (0..shards).map(|_| Vec::new()).collect();
    let recovery = opened.recover(&mut |recovered| {
        // Any shard may have it: the number of shards may have changed.
        let shard = usize::try_from(recovered.id.as_u128() % shards as u128).unwrap_or(0);
        found[shard].push(recovered);
        if found[shard].len() == RECOVERED_CHUNK {
            give(mesh, shard, std::mem::take(&mut found[shard]));
        }
    })?;
    for (shard, rest) in found.into_iter().enumerate() {
        give(mesh, shard, rest);
    }
    if recovery.messages > 0 || recovery.unreadable > 0 {
        tell(&format!(
            "posthaste: {} messages from before, {} rows unreadable\n",
            recovery.messages, recovery.unreadable
        ));
    }
    for row in &recovery.named {
        tell(&format!("posthaste: left alone: {row}\n"));
    }
    let spool = opened.spool();
    let couriers = mesh
        .all()
        .map(|post| Arc::new(Courier(post.clone())) as Arc<dyn Completion>);
    let (running, events) = opened.start(couriers.collect());
    let options = LogOptions {
        dir: config.log.dir.clone(),
        rotate_octets: config.log.rotate_octets,
        keep: config.log.keep,
        found: events.found(),
    };
    let found = options.found;
    let events = Box::new(Rows(events));
    let cursor = Box::new(Passed(spool.clone()));
    let log = start_log(options, events, cursor, aside, meters)?;
    // A node that dies young must not log its backlog again each time.
    if !spool.wait_for_cursor(found, LOG_PATIENCE) {
        tell("posthaste: the delivery log is behind; it goes on while mail is taken\n");
    }
    Ok((running, log))
}

fn give(mesh: &Mesh<DiskNote>, shard: usize, found: Vec<Recovered>) {
    let post = mesh.to(ShardId(u16::try_from(shard).unwrap_or(0)));
    if !found.is_empty() {
        post.put_patiently(Note::Recovered(found));
        post.ring();
    }
}

/// Shards first, then what they have submitted, then the log of it.
fn stop(
    mesh: &Mesh<DiskNote>,
    threads: Vec<ShardThread>,
    running: Running,
    log: Log,
) -> Result<(), Broken> {
    for post in mesh.all() {
        post.put_patiently(Note::Shutdown);
        post.ring();
    }
    let mut ended = Ok(());
    let mut unanswered = 0;
    for (shard, thread) in (0..).zip(threads) {
        match thread.join().and_then(|result| result) {
            Ok(count) => unanswered += count,
            Err(error) => ended = ended.and(Err(Broken::Shard { shard, error })),
        }
    }
    if unanswered > 0 {
        tell(&format!(
            "posthaste: the spool's disk does not answer: {unanswered} clients heard nothing of their message, \
             and may send it again\n"
        ));
    }
    running.stop();
    // What it could not write comes again after the next start.
    if log.stop() == Ending::EventsLeft {
        tell("posthaste: the delivery log is behind; its lines are kept in the spool\n");
    }
    ended
}

/// What a 250 means is said aloud.
fn announce(config: &Config, shards: u16, files_max: u64) {
    let durability = match config.spool.durability {
        Durability::Commit => "commit",
        Durability::Relaxed => "relaxed (250 does not survive a power cut)",
    };
    let listeners: Vec<String> = config
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    tell(&format!(
        "posthaste {}: {} on {}, {shards} shards, durability {durability}, {files_max} files\n",
        env!("CARGO_PKG_VERSION"),
        config.node.hostname,
        listeners.join(" "),
    ));
}

/// A broken invariant in one thread must not leave half a node: what is accepted is safe, and the
/// supervisor starts us anew.
fn die_on_panic() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::abort();
    }));
}

/// Differs from start to start.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(super) fn tell(line: &str) {
    // Nobody may be reading; the node runs on.
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_wanted_are_enough_and_one_less_is_not() {
        for sessions in [1, 3, 20_000, 20_001] {
            let wanted = Files::wanted(u64::from(sessions));
            assert!(Files::share(wanted).inbound_max >= sessions);
            assert!(Files::share(wanted - 1).inbound_max < sessions);
        }
    }
}
