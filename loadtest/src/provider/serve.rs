//! `provider serve`: the same brains behind real sockets on many loopback addresses, with name servers of their own.

use super::desk::{Clock, Desk, Mind, lock};
use super::names::{self, Zone};
use super::post::{self, Post};
use super::profile::{MailHost, Profile};
use super::range::Range;
use super::shipped::load;
use super::{Brain, Truth};
use crate::measure::{self, Latency};
use crate::sink::ledger::Batch;
use crate::worker::{Security, Worker};
use crate::{net, quantity, stop, tls};
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);
/// Complaints and bounces waiting for their connection.
const EVENTS_MAX: usize = 10_000;

/// Serve providers on loopback addresses until Ctrl-C.
///
/// Each mail host of each profile gets addresses of its own, and its name servers tell them. A mail server under test needs nothing but
/// these name servers and the port. Then the truth that it cannot see is printed, per provider.
///
/// Example: posthaste-load provider serve gmail outlook --dns 127.0.0.1:5353 --addresses 127.1.0.0/24 --port 2526
#[derive(clap::Args, Clone, Debug)]
pub struct Serve {
    /// Profile files or names of shipped profiles
    #[arg(required = true, value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// Address of the name server, UDP and TCP
    #[arg(long, default_value = "127.0.0.1:5353", value_name = "ADDR:PORT")]
    pub dns: SocketAddr,
    /// Addresses to give to mail hosts
    #[arg(long, default_value = "127.1.0.0/24", value_name = "NET", value_parser = Range::parse)]
    pub addresses: Range,
    /// IPv6 addresses for them too, as far as their profiles ask for some; the machine must have these
    #[arg(long, value_name = "NET", value_parser = Range::parse_v6)]
    pub addresses6: Option<Range>,
    /// Port of all mail hosts
    #[arg(long, default_value_t = 2526, value_name = "PORT")]
    pub port: u16,
    /// Threads of each provider, each with its own listeners on the same addresses (SO_REUSEPORT)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// End after so long; without it only Ctrl-C ends
    #[arg(long = "for", value_name = "TIME", value_parser = quantity::duration)]
    pub duration: Option<Duration>,
    /// Send complaints and bounces to this SMTP server
    #[arg(long, value_name = "HOST:PORT")]
    pub return_to: Option<String>,
    /// Recipient of complaints; without it the sender of the message complained of
    #[arg(long, value_name = "ADDRESS")]
    pub complaints_to: Option<String>,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    pub json: bool,
    /// Write the JSON report to this file too
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seed of all that is left to chance
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// State that you may send to a --return-to outside loopback and private ranges
    #[arg(long)]
    pub i_own_this_target: bool,
}

/// One provider's part of the report.
#[derive(Serialize)]
pub struct Account {
    #[serde(flatten)]
    pub truth: Truth,
    /// Recipients' messages that came at least once.
    pub distinct: u64,
    /// Messages seen twice: what follows from a reset that took the message, and what does not.
    pub duplicates: u64,
    /// Messages without a usable `X-Load-Id`.
    pub unidentified: u64,
    /// From the source to here.
    pub(crate) latency: Latency,
}

/// What the run came to.
#[derive(Serialize)]
pub struct Report {
    pub kind: &'static str,
    pub seconds: f64,
    pub queries: u64,
    /// Complaints and bounces that were taken by the server they were sent to, and all others that were made.
    pub returned: u64,
    pub not_returned: u64,
    pub providers: Vec<Account>,
}

/// Threads that end with this, however it ends.
#[derive(Default)]
struct Threads {
    finished: Arc<AtomicBool>,
    handles: Vec<JoinHandle<io::Result<()>>>,
}

impl Threads {
    /// Starts those of one provider.
    fn serve(
        &mut self,
        profile: &Profile,
        addresses: &[Vec<IpAddr>],
        options: &Serve,
        desk: impl Fn() -> Desk,
    ) -> io::Result<()> {
        let security = security(profile)?;
        for _ in 0..options.threads {
            let mut listeners = Vec::new();
            for (host, addresses) in profile.hosts.iter().zip(addresses) {
                listen(host, addresses, options.port, &mut listeners)?;
            }
            let finished = Arc::clone(&self.finished);
            let worker = Worker::new(desk(), listeners, security.clone(), finished)?;
            self.handles.push(std::thread::spawn(move || worker.run()));
        }
        Ok(())
    }

    /// Ends all; the first that failed is told.
    fn end(&mut self) -> io::Result<()> {
        self.finished.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for thread in self.handles.drain(..) {
            let panicked = |_| Err(io::Error::other("a provider's thread panicked"));
            let ended = thread.join().unwrap_or_else(panicked);
            result = result.and(ended);
        }
        result
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever wants to know how they fared has ended them before.
        let _ = self.end();
    }
}

/// Providers that are being served. Dropped, it closes their sockets; [`Self::end`] gives the account as well.
pub struct Serving {
    minds: Vec<Arc<Mind>>,
    threads: Threads,
    post: Option<Post>,
    queries: Arc<AtomicU64>,
    clock: Clock,
    began: Instant,
    /// Sockets that answer no SYN.
    _deaf: Vec<Socket>,
    pub dns: SocketAddr,
    pub domains: Vec<Box<str>>,
}

/// Runs until the end; true always, for a provider has no notion of failure.
pub(super) fn run(options: &Serve) -> io::Result<bool> {
    let stop = stop::on_signals()?;
    let serving = Serving::start(options)?;
    let mut err = io::stderr();
    writeln!(err, "domains {}", serving.domains.len())?;
    writeln!(err, "name server on {}", serving.dns)?;
    writeln!(err, "providers serve")?;
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed)
        && options
            .duration
            .is_none_or(|duration| began.elapsed() < duration)
    {
        std::thread::sleep(LOOK);
    }
    let report = serving.end()?;
    if let Some(path) = &options.report {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    report.print(&mut io::stdout().lock(), options.json)?;
    Ok(true)
}

impl Serving {
    /// Opens all sockets and starts all threads.
    ///
    /// # Errors
    /// A profile that is wrong, an address that is taken, too few addresses.
    pub fn start(options: &Serve) -> io::Result<Self> {
        measure::raise_nofile();
        let mut threads = Threads::default();
        let (clock, began) = (Clock::new(), Instant::now());
        let mut post = None;
        if let Some(target) = &options.return_to {
            let (way, thread) = post::start(
                crate::address::target(target, options.i_own_this_target)?,
                options.complaints_to.clone(),
                EVENTS_MAX,
                Arc::clone(&threads.finished),
            );
            post = Some(way);
            threads.handles.push(thread);
        }
        let mut zone = Zone::default();
        let (mut next, mut next_v6) = (options.addresses, options.addresses6);
        let (mut minds, mut deaf) = (Vec::new(), Vec::new());
        let mut domains = Vec::new();
        for (number, name) in options.profiles.iter().enumerate() {
            let profile = Arc::new(load(name)?);
            let addresses = allot(&profile, &mut next, next_v6.as_mut())?;
            zone.add(&profile, &addresses)?;
            domains.extend(profile.domains.iter().cloned());
            for (host, addresses) in profile.hosts.iter().zip(&addresses) {
                deafen(host, addresses, options.port, &mut deaf)?;
            }
            let seed = options.seed.wrapping_add(number as u64 * 7919);
            let brain = Brain::new(Arc::clone(&profile), seed, clock.now());
            let mind = Arc::new(Mind::new(brain));
            threads.serve(&profile, &addresses, options, || Desk {
                mind: Arc::clone(&mind),
                events: post.as_ref().map(Post::sender),
                clock,
                batch: Batch::default(),
            })?;
            minds.push(mind);
        }
        let names = names::start(options.dns, zone, options.seed, &threads.finished)?;
        threads.handles.extend(names.threads);
        Ok(Self {
            minds,
            threads,
            post,
            queries: names.queries,
            clock,
            began,
            _deaf: deaf,
            dns: names.address,
            domains,
        })
    }

    /// A number that changes whenever a provider is connected to or gives a verdict.
    pub(crate) fn activity(&self) -> u64 {
        let of = |mind: &Arc<Mind>| lock(&mind.brain).activity();
        self.minds.iter().map(of).sum()
    }

    /// The account so far.
    pub fn report(&self) -> Report {
        let now = self.clock.now();
        let of = |mind: &Arc<Mind>| {
            let ledger = lock(&mind.ledger);
            Account {
                truth: lock(&mind.brain).truth(now),
                distinct: ledger.distinct(),
                duplicates: ledger.counts.duplicates,
                unidentified: ledger.counts.unidentified,
                latency: Latency::of(&ledger.latency),
            }
        };
        let providers: Vec<_> = self.minds.iter().map(of).collect();
        let made = |account: &Account| account.truth.complaints + account.truth.bounces;
        let returned = self.post.as_ref().map_or(0, Post::sent);
        Report {
            kind: "providers",
            seconds: self.began.elapsed().as_secs_f64(),
            queries: self.queries.load(Ordering::Relaxed),
            returned,
            // Refused, too many, or left at the end: what became of them is one and the same.
            not_returned: providers
                .iter()
                .map(made)
                .sum::<u64>()
                .saturating_sub(returned),
            providers,
        }
    }

    /// Ends all threads and gives the account.
    ///
    /// # Errors
    /// A thread that failed.
    pub fn end(mut self) -> io::Result<Report> {
        self.threads.end()?;
        Ok(self.report())
    }
}

impl Report {
    pub(crate) fn print(&self, out: &mut dyn io::Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        for account in &self.providers {
            account.truth.print(out)?;
            let rows = [
                (
                    "seen twice",
                    format!(
                        "{}, {} without id",
                        account.duplicates, account.unidentified
                    ),
                ),
                ("latency", account.latency.line()),
            ];
            measure::write_table(out, &rows)?;
            writeln!(out)?;
        }
        let rows = [
            ("name queries", self.queries.to_string()),
            (
                "returned",
                format!("{} sent, {} not sent", self.returned, self.not_returned),
            ),
        ];
        measure::write_table(out, &rows)
    }
}

/// Certificates name the hosts that the name servers lead to; nobody has signed them.
fn security(profile: &Profile) -> io::Result<Security> {
    if profile.tls.offer == 0.0 {
        return Ok(Security::Plain);
    }
    let hosts = profile.hosts.iter().map(|host| &host.name);
    let names: Vec<_> = hosts
        .chain([&profile.host])
        .map(ToString::to_string)
        .collect();
    Ok(Security::Asked(tls::server(None, &names)?))
}

/// Takes the addresses of a profile's hosts out of the blocks; no IPv6 where there is no block of it.
fn allot(
    profile: &Profile,
    next: &mut Range,
    next_v6: Option<&mut Range>,
) -> io::Result<Vec<Vec<IpAddr>>> {
    let used_up = |option: &str| {
        let text = format!("{}: the block of {option} is used up", profile.name);
        io::Error::other(text)
    };
    let mut all = Vec::new();
    for host in &profile.hosts {
        let taken = next.take(host.addresses);
        all.push(taken.ok_or_else(|| used_up("--addresses"))?);
    }
    if let Some(next) = next_v6 {
        for (host, addresses) in profile.hosts.iter().zip(&mut all) {
            let taken = next.take(host.ipv6);
            addresses.extend(taken.ok_or_else(|| used_up("--addresses6"))?);
        }
    }
    Ok(all)
}

/// `addresses` has all of IPv4 first.
fn listen(
    host: &MailHost,
    addresses: &[IpAddr],
    port: u16,
    listeners: &mut Vec<mio::net::TcpListener>,
) -> io::Result<()> {
    let absent = usize::from(host.refused) + usize::from(host.unreachable);
    let (v4, v6) = addresses.split_at(usize::from(host.addresses));
    let v6 = v6.iter().skip(usize::from(host.ipv6_refused));
    for address in v4.iter().skip(absent).chain(v6) {
        listeners.push(net::listen((*address, port).into())?);
    }
    Ok(())
}

/// Listeners whose accept queue is full and never emptied: the kernel drops every further SYN, as a dead host would.
fn deafen(
    host: &MailHost,
    addresses: &[IpAddr],
    port: u16,
    deaf: &mut Vec<Socket>,
) -> io::Result<()> {
    let (refused, many) = (usize::from(host.refused), usize::from(host.unreachable));
    for address in addresses.iter().skip(refused).take(many) {
        let address = SocketAddr::new(*address, port);
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        filler.connect_timeout(&address.into(), Duration::from_secs(1))?;
        deaf.extend([listener, filler]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    /// `greylister` on an address that no other test has, with a name server at `dns`.
    fn options(dns: SocketAddr, third: u8) -> (Serve, SocketAddr) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let net = format!("127.{}.{third}", 192 + std::process::id() % 32);
        let line = format!("x greylister --dns {dns} --addresses {net}.0/24 --port {port}");
        let serve = Line::parse_from(line.split(' ')).serve;
        (serve, format!("{net}.1:{port}").parse().unwrap())
    }

    #[test]
    fn a_serving_that_is_dropped_leaves_no_socket() {
        let (options, host) = options("127.0.0.1:0".parse().unwrap(), 1);
        let serving = Serving::start(&options).unwrap();
        let dns = serving.dns;
        assert!(TcpStream::connect(host).is_ok() && TcpStream::connect(dns).is_ok());
        drop(serving);
        assert!(TcpStream::connect(host).is_err() && TcpStream::connect(dns).is_err());
        assert!(UdpSocket::bind(dns).is_ok());
    }

    #[test]
    fn a_start_that_fails_halfway_leaves_no_socket() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (options, host) = options(taken.local_addr().unwrap(), 2);
        let Err(error) = Serving::start(&options) else {
            panic!("its name server's port is taken");
        };
        assert!(error.to_string().contains("cannot serve DNS"), "{error}");
        assert!(TcpStream::connect(host).is_err());
    }
}
