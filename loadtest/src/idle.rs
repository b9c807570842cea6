//! `idle`: opens sessions, says EHLO and holds them, so that the server's cost of an idle session can be read off.

use crate::measure;
use crate::{address, net, quantity, stop};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Ephemeral ports that one source address can be counted on to have.
const PORTS: u32 = 28_000;
/// Sessions being opened at once: more overflow a listen backlog.
const OPENING_MAX: usize = 200;
const LOOK: Duration = Duration::from_millis(50);
const EHLO: &[u8] = b"EHLO idle.load.test\r\n";

/// Open idle sessions and hold them after EHLO.
///
/// Raises the limit of open files as far as it may. Above 28,000 sessions further source addresses 127.0.0.x are used where the target
/// is loopback. One line tells when all are open. Ends at --hold, Ctrl-C, or when the server has closed all. Exit code: 0 all opened
/// and none closed by the server, 1 otherwise, 2 could not run.
///
/// Example: posthaste-load idle --to 127.0.0.1:2525 --sessions 10000 --hold 60s
#[derive(clap::Args)]
pub struct Options {
    /// Server to hold sessions with
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "HOST:PORT")]
    to: String,
    /// Sessions to hold
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500_000))]
    sessions: u32,
    /// Close after so long, counted from when all are open; without it only Ctrl-C ends
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    hold: Option<Duration>,
    /// Longest wait for one session to open
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = quantity::duration)]
    timeout: Duration,
    /// Print one JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// State that you may load a target outside loopback and private ranges
    #[arg(long)]
    i_own_this_target: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Banner,
    Ehlo,
    Held,
}

struct Line {
    stream: TcpStream,
    stage: Stage,
    began: Instant,
}

#[derive(Default)]
struct Holder {
    lines: Vec<Option<Line>>,
    opening: usize,
    held: u64,
    held_max: u64,
    closed: u64,
    errors: BTreeMap<String, u64>,
}

/// Holds the sessions; true when all were opened and stayed.
pub fn run(options: &Options) -> io::Result<bool> {
    let target = address::target(&options.to, options.i_own_this_target)?;
    let files = measure::raise_nofile();
    if files < u64::from(options.sessions) + 50 {
        return Err(io::Error::other(format!(
            "{} sessions need as many open files; the limit is {files}",
            options.sessions
        )));
    }
    let stop = stop::on_signals()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut holder = Holder::default();
    let mut all_open: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        while holder.opening < OPENING_MAX && holder.lines.len() < options.sessions as usize {
            holder.open(&poll, target);
        }
        if let Err(error) = poll.poll(&mut events, Some(LOOK))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            holder.serve(event.token().0);
        }
        holder.expire(options.timeout);
        if holder.opening == 0 && holder.lines.len() == options.sessions as usize {
            if all_open.is_none() {
                writeln!(io::stderr(), "holding {} sessions", holder.held)?;
            }
            let since = *all_open.get_or_insert_with(Instant::now);
            if holder.held == 0 || options.hold.is_some_and(|hold| since.elapsed() >= hold) {
                break;
            }
        }
    }
    holder.print(options)?;
    Ok(holder.held_max == u64::from(options.sessions) && holder.closed == 0)
}

impl Holder {
    fn open(&mut self, poll: &Poll, target: SocketAddr) {
        let index = self.lines.len();
        let opened = net::connect(target, source(index as u32, target)).and_then(|mut stream| {
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.lines.push(Some(Line {
                    stream,
                    stage: Stage::Banner,
                    began: Instant::now(),
                }));
                self.opening += 1;
            }
            Err(error) => {
                self.lines.push(None);
                self.error(format!("connect: {error}"));
            }
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(mut line) = self.lines.get_mut(index).and_then(Option::take) else {
            return;
        };
        match advance(&mut line) {
            Ok(true) => {
                self.opening -= 1;
                self.held += 1;
                self.held_max = self.held_max.max(self.held);
                self.lines[index] = Some(line);
            }
            Ok(false) => self.lines[index] = Some(line),
            Err(error) => self.lose(line.stage, error.to_string()),
        }
    }

    fn lose(&mut self, stage: Stage, why: String) {
        if stage == Stage::Held {
            self.held -= 1;
            self.closed += 1;
        } else {
            self.opening -= 1;
        }
        self.error(why);
    }

    fn expire(&mut self, timeout: Duration) {
        for index in 0..if self.opening > 0 {
            self.lines.len()
        } else {
            0
        } {
            let is_late =
                |line: &mut Line| line.stage != Stage::Held && line.began.elapsed() >= timeout;
            if let Some(line) = self.lines[index].take_if(is_late) {
                self.lose(line.stage, "time-out".to_owned());
            }
        }
    }

    fn error(&mut self, why: String) {
        *self.errors.entry(why).or_default() += 1;
    }

    fn print(&self, options: &Options) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if options.json {
            let report = serde_json::json!({
                "kind": "idle", "asked": options.sessions, "held_max": self.held_max, "held": self.held,
                "closed_by_server": self.closed, "errors": self.errors,
            });
            return writeln!(out, "{report}");
        }
        let mut rows = vec![
            (
                "held",
                format!(
                    "{} of {} at most, {} at the end",
                    self.held_max, options.sessions, self.held
                ),
            ),
            ("closed by server", self.closed.to_string()),
        ];
        rows.extend(
            self.errors
                .iter()
                .map(|(why, count)| ("error", format!("{count} x {why}"))),
        );
        measure::write_table(&mut out, &rows)
    }
}

/// Reads what came and says EHLO where it is due; true when the session has just become idle.
fn advance(line: &mut Line) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut is_held = false;
    loop {
        let length = match line.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("closed by the server")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_held),
            Err(error) => return Err(error),
        };
        // A banner or an EHLO reply is over where its last line carries a space after the code.
        let reply = buffer[..length].trim_ascii_end();
        let last = reply
            .rsplit(|octet| *octet == b'\n')
            .next()
            .unwrap_or(reply);
        if last.get(3) == Some(&b'-') {
            continue;
        }
        match line.stage {
            Stage::Banner if last.starts_with(b"220") => {
                line.stream.write_all(EHLO)?;
                line.stage = Stage::Ehlo;
            }
            Stage::Ehlo if last.starts_with(b"250") => {
                line.stage = Stage::Held;
                is_held = true;
            }
            Stage::Banner | Stage::Ehlo => return Err(io::Error::other("refused by the server")),
            Stage::Held => {}
        }
    }
}

fn source(index: u32, target: SocketAddr) -> Option<SocketAddr> {
    let is_loopback = matches!(target.ip(), IpAddr::V4(v4) if v4.is_loopback());
    let host = 10 + index / PORTS;
    (is_loopback && index >= PORTS)
        .then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 0, host as u8), 0)))
}
