//! The source's event loop: one per thread, with its share of the sessions. Every wait has an end.

use super::dialogue::{Context, Dialogue, Manner, Wish};
use super::message::Template;
use super::supply::{Supply, Task};
use super::tally::Tally;
use crate::net;
use crate::timer::Timer;
use crate::tls::{Client, Transport};
use mio::event::Event;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

const TIMER: Token = Token(usize::MAX);
const READ_OCTETS: usize = 64 << 10;
/// How often time-outs and connects that are due are looked for.
const SWEEP: Duration = Duration::from_millis(50);
/// First wait after a failed connection; doubles up to the maximum.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long sessions may take to finish what they began after Ctrl-C.
const GRACE: Duration = Duration::from_secs(3);

enum Slot {
    /// To be connected then.
    Due(Instant),
    Open(Box<Connection>),
    Over,
}

struct Connection {
    transport: Transport,
    dialogue: Dialogue,
    active: Instant,
    is_idle: bool,
    is_writable: bool,
    has_begun: bool,
    was_greeted: bool,
}

/// What the threads of a run have in common. One per run.
pub(crate) struct Common {
    pub(crate) target: SocketAddr,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) manner: Manner,
    pub(crate) tls: Option<Client>,
    /// TLS from the first octet on.
    pub(crate) is_implicit: bool,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    /// Length of a window.
    pub(crate) interval: Duration,
    pub(crate) supply: Supply,
    pub(crate) template: Template,
}

/// What one thread counted in one interval of the run.
pub(crate) struct Window {
    pub(crate) index: u64,
    pub(crate) tally: Tally,
}

/// One thread of the source.
pub(crate) struct Worker {
    poll: Poll,
    timer: Timer,
    common: Arc<Common>,
    slots: Vec<Slot>,
    /// Sessions that wait for a planned message, longest first; each stands here once.
    idle: VecDeque<usize>,
    /// Connections failed in a row, by slot.
    failures: Vec<u32>,
    window: u64,
    tally: Tally,
    windows: Sender<Window>,
    returned: Vec<Task>,
}

impl Worker {
    pub(crate) fn new(
        common: Arc<Common>,
        sessions: u32,
        windows: Sender<Window>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let poll = Poll::new()?;
        Ok(Self {
            timer: Timer::new(poll.registry(), TIMER)?,
            poll,
            common,
            slots: (0..sessions).map(|_| Slot::Due(now)).collect(),
            idle: VecDeque::new(),
            failures: vec![0; sessions as usize],
            window: 0,
            tally: Tally::new(),
            windows,
            returned: Vec::new(),
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_OCTETS];
        let mut stopped: Option<Instant> = None;
        let mut wake = self.sweep()?;
        let mut swept = Instant::now();
        while self.slots.iter().any(|slot| !matches!(slot, Slot::Over)) {
            let wait = wake.saturating_duration_since(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let now = Instant::now();
            self.turn(now);
            for event in &events {
                if event.token() == TIMER {
                    self.timer.handle_alarm();
                    self.awaken()?;
                } else {
                    self.serve(event, &mut buffer)?;
                }
            }
            if now >= wake || now - swept >= SWEEP {
                wake = self.sweep()?;
                swept = now;
            }
            if self.common.supply.is_stopped() && now - *stopped.get_or_insert(now) >= GRACE {
                break;
            }
        }
        for index in 0..self.slots.len() {
            self.close(index);
        }
        self.hand_over();
        Ok(())
    }

    /// Begins the window that `now` lies in.
    fn turn(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.common.supply.started);
        let window = (elapsed.as_nanos() / self.common.interval.as_nanos().max(1)) as u64;
        if window > self.window {
            self.hand_over();
            self.window = window;
        }
    }

    fn hand_over(&mut self) {
        let tally = std::mem::replace(&mut self.tally, Tally::new());
        let index = self.window;
        // Nobody listens any more where the run failed as a whole.
        let _ = self.windows.send(Window { index, tally });
    }

    /// Connects and times out whatever is due; says when to look again.
    fn sweep(&mut self) -> io::Result<Instant> {
        let now = Instant::now();
        let mut wake = now + SWEEP;
        for index in 0..self.slots.len() {
            match &mut self.slots[index] {
                Slot::Over => {}
                Slot::Due(at) if *at <= now => self.connect(index),
                Slot::Due(at) => wake = wake.min(*at),
                Slot::Open(connection) => {
                    if connection.dialogue.is_waiting()
                        && now - connection.active >= self.common.timeout
                    {
                        self.tally.error("time-out");
                        self.fail(index);
                    }
                }
            }
        }
        // Also what another thread's failure or the end of the run has changed.
        self.awaken()?;
        Ok(wake)
    }

    /// Gives idle sessions what is due, or their end.
    fn awaken(&mut self) -> io::Result<()> {
        for _ in 0..self.idle.len() {
            let Some(index) = self.idle.pop_front() else {
                break;
            };
            let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over)
            else {
                continue;
            };
            connection.is_idle = false;
            connection.active = Instant::now();
            let wish = connection.dialogue.begin(&mut self.context());
            let is_early = matches!(wish, Wish::Sleep(_));
            self.obey(index, connection, wish)?;
            if is_early {
                break;
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) {
        if self.is_drained() {
            self.slots[index] = Slot::Over;
            return;
        }
        let sources = &self.common.sources;
        let from =
            (!sources.is_empty()).then(|| SocketAddr::new(sources[index % sources.len()], 0));
        let opened = net::connect(self.common.target, from).and_then(|stream| {
            let mut transport = Transport::new(stream);
            transport.register(self.poll.registry(), Token(index))?;
            if self.common.is_implicit
                && let Some(client) = &self.common.tls
            {
                transport.secure_as_client(client)?;
            }
            Ok(transport)
        });
        match opened {
            Ok(transport) => {
                self.slots[index] = Slot::Open(Box::new(Connection {
                    dialogue: Dialogue::new(&self.common.manner),
                    active: Instant::now(),
                    is_idle: false,
                    is_writable: false,
                    has_begun: false,
                    was_greeted: false,
                    transport,
                }));
            }
            Err(error) => {
                self.tally.error(&format!("connect: {error}"));
                self.fail(index);
            }
        }
    }

    /// True when no message is left to be given out.
    fn is_drained(&self) -> bool {
        let supply = &self.common.supply;
        supply.is_stopped() || (self.returned.is_empty() && supply.is_exhausted())
    }

    fn serve(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
        let index = event.token().0;
        let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over)
        else {
            return Ok(());
        };
        if event.is_writable() {
            connection.is_writable = true;
        }
        let mut wish = if event.is_readable() || event.is_error() || event.is_read_closed() {
            self.read(&mut connection, buffer)
        } else {
            Wish::Go
        };
        if connection.is_writable && !connection.has_begun && matches!(wish, Wish::Go) {
            connection.has_begun = true;
            wish = connection.dialogue.handle_connected(&mut self.context());
        }
        // A sleeper stays asleep over an event that brings nothing.
        if matches!(wish, Wish::Go) && connection.is_idle {
            self.slots[index] = Slot::Open(connection);
            return Ok(());
        }
        self.obey(index, connection, wish)
    }

    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Wish {
        let mut wish = Wish::Go;
        loop {
            let length = match connection.transport.read(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return wish,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let stage = if connection.was_greeted {
                        "connection"
                    } else {
                        "connect"
                    };
                    self.tally.error(&format!("{stage}: {error}"));
                    return Wish::Fail;
                }
            };
            if length == 0 {
                self.tally.error("connection closed by the server");
                return Wish::Fail;
            }
            if !connection.was_greeted {
                connection.was_greeted = true;
                self.tally.connections += 1;
            }
            connection.active = Instant::now();
            wish = connection
                .dialogue
                .handle_bytes(&buffer[..length], &mut self.context());
            if matches!(wish, Wish::Secure) {
                wish = self.secure(connection);
            }
            // Records may hold more than one read gave.
            let is_emptied = length < buffer.len() && !connection.transport.is_secured();
            if !matches!(wish, Wish::Go) || is_emptied {
                return wish;
            }
        }
    }

    fn secure(&mut self, connection: &mut Connection) -> Wish {
        let secured = match &self.common.tls {
            Some(client) => connection.transport.secure_as_client(client),
            None => Err(io::Error::other("TLS is not set up")),
        };
        if let Err(error) = secured {
            self.tally.error(&error.to_string());
            return Wish::Fail;
        }
        connection.dialogue.handle_secured();
        Wish::Go
    }

    fn obey(
        &mut self,
        index: usize,
        mut connection: Box<Connection>,
        wish: Wish,
    ) -> io::Result<()> {
        let has_failed = match wish {
            Wish::Go => !self.flush(&mut connection),
            Wish::Sleep(at) => {
                if !connection.is_idle {
                    connection.is_idle = true;
                    self.idle.push_back(index);
                }
                self.timer.arm(at)?;
                false
            }
            Wish::Close => {
                connection.transport.close_notify();
                self.failures[index] = 0;
                self.slots[index] = Slot::Due(Instant::now());
                // The next connection starts at once; where nothing is left, connect says so.
                self.connect(index);
                return Ok(());
            }
            Wish::Secure | Wish::Fail => true,
        };
        self.slots[index] = Slot::Open(connection);
        if has_failed {
            self.fail(index);
        }
        Ok(())
    }

    /// One vectored write, repeated while the socket takes all of it; false when it is broken.
    fn flush(&mut self, connection: &mut Connection) -> bool {
        let body = &self.common.template.body;
        while connection.is_writable {
            let output = connection.dialogue.output();
            let result = if output.is_empty() {
                match connection.transport.flush() {
                    Ok(true) => return true,
                    Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(error) => Err(error),
                }
            } else {
                connection.transport.write_vectored(&output.segments(body))
            };
            match result {
                Ok(octets) => {
                    connection.active = Instant::now();
                    connection.dialogue.handle_written(octets);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.is_writable = false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.tally.error(&format!("write: {error}"));
                    return false;
                }
            }
        }
        true
    }

    /// A connection failed: its work comes back, and the slot tries again later or gives up.
    fn fail(&mut self, index: usize) {
        // Failures count in a row: a connection that took a message was none.
        if matches!(&self.slots[index], Slot::Open(open) if open.dialogue.has_delivered()) {
            self.failures[index] = 0;
        }
        self.close(index);
        self.failures[index] += 1;
        let failures = self.failures[index];
        self.slots[index] = if failures > self.common.retries {
            Slot::Over
        } else {
            Slot::Due(Instant::now() + (BACKOFF * 2_u32.pow(failures.min(10) - 1)).min(BACKOFF_MAX))
        };
    }

    fn close(&mut self, index: usize) {
        if let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over) {
            if connection.is_idle {
                self.idle.retain(|other| *other != index);
            }
            connection.dialogue.abandon(&mut self.context());
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            template: &self.common.template,
            manner: &self.common.manner,
            supply: &self.common.supply,
            tally: &mut self.tally,
            returned: &mut self.returned,
        }
    }
}
