//! The source's event loop: one per thread, with its share of the sessions. Every wait has an end.

use super::message::Template;
use super::options::Options;
use super::session::{Context, Session, Wish};
use super::supply::{Supply, Task};
use super::tally::Tally;
use crate::net;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    stream: TcpStream,
    session: Session,
    active: Instant,
    sleeps_until: Option<Instant>,
    is_writable: bool,
    was_greeted: bool,
}

/// One thread of the source.
pub(crate) struct Worker {
    poll: Poll,
    target: SocketAddr,
    pipelining: bool,
    per_connection: u64,
    timeout: Duration,
    retries: u32,
    slots: Vec<Slot>,
    /// Connections failed in a row, by slot.
    failures: Vec<u32>,
    supply: Arc<Supply>,
    template: Arc<Template>,
    tally: Tally,
    returned: Vec<Task>,
}

impl Worker {
    pub(crate) fn new(
        target: SocketAddr,
        options: &Options,
        sessions: u32,
        supply: Arc<Supply>,
        template: Arc<Template>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            poll: Poll::new()?,
            target,
            pipelining: !options.no_pipelining,
            per_connection: options.per_connection,
            timeout: options.timeout,
            retries: options.retries,
            slots: (0..sessions).map(|_| Slot::Due(now)).collect(),
            failures: vec![0; sessions as usize],
            supply,
            template,
            tally: Tally::new(),
            returned: Vec::new(),
        })
    }

    pub(crate) fn run(mut self) -> io::Result<Tally> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_OCTETS];
        let mut stopped: Option<Instant> = None;
        let mut wake = self.sweep();
        let mut swept = Instant::now();
        while self.slots.iter().any(|slot| !matches!(slot, Slot::Over)) {
            let wait = wake.saturating_duration_since(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                self.serve(event, &mut buffer);
            }
            let now = Instant::now();
            if now >= wake || now - swept >= SWEEP {
                wake = self.sweep();
                swept = now;
            }
            if self.supply.is_stopped() && now - *stopped.get_or_insert(now) >= GRACE {
                break;
            }
        }
        for index in 0..self.slots.len() {
            self.close(index);
        }
        Ok(self.tally)
    }

    /// Connects, wakes and times out whatever is due; says when to look again.
    fn sweep(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake = now + SWEEP;
        for index in 0..self.slots.len() {
            match &mut self.slots[index] {
                Slot::Over => {}
                Slot::Due(at) if *at <= now => self.connect(index),
                Slot::Due(at) => wake = wake.min(*at),
                Slot::Open(connection) => {
                    if let Some(at) = connection.sleeps_until {
                        if at <= now || self.supply.is_stopped() {
                            wake = wake.min(self.awaken(index));
                        } else {
                            wake = wake.min(at);
                        }
                    } else if connection.session.is_waiting()
                        && now - connection.active >= self.timeout
                    {
                        self.tally.error("time-out");
                        self.fail(index);
                    }
                }
            }
        }
        wake
    }

    fn awaken(&mut self, index: usize) -> Instant {
        let later = Instant::now() + SWEEP;
        let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over)
        else {
            return later;
        };
        connection.sleeps_until = None;
        connection.active = Instant::now();
        let wish = connection.session.begin(&mut self.context());
        self.obey(index, connection, wish);
        match &self.slots[index] {
            Slot::Open(connection) => connection.sleeps_until.unwrap_or(later),
            Slot::Due(_) | Slot::Over => later,
        }
    }

    fn connect(&mut self, index: usize) {
        if self.is_drained() {
            self.slots[index] = Slot::Over;
            return;
        }
        let opened = net::connect(self.target, None).and_then(|mut stream| {
            self.poll.registry().register(
                &mut stream,
                Token(index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.slots[index] = Slot::Open(Box::new(Connection {
                    stream,
                    session: Session::new(self.pipelining, self.per_connection),
                    active: Instant::now(),
                    sleeps_until: None,
                    is_writable: false,
                    was_greeted: false,
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
        self.supply.is_stopped() || (self.returned.is_empty() && self.supply.is_exhausted())
    }

    fn serve(&mut self, event: &Event, buffer: &mut [u8]) {
        let index = event.token().0;
        let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over)
        else {
            return;
        };
        if event.is_writable() {
            connection.is_writable = true;
        }
        let wish = if event.is_readable() || event.is_error() || event.is_read_closed() {
            self.read(&mut connection, buffer)
        } else {
            Wish::Go
        };
        // A sleeper stays asleep over an event that brings nothing.
        if matches!(wish, Wish::Go) && connection.sleeps_until.is_some() {
            self.slots[index] = Slot::Open(connection);
            return;
        }
        self.obey(index, connection, wish);
    }

    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Wish {
        let mut wish = Wish::Go;
        loop {
            let length = match connection.stream.read(buffer) {
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
                .session
                .handle_bytes(&buffer[..length], &mut self.context());
            if !matches!(wish, Wish::Go) || length < buffer.len() {
                return wish;
            }
        }
    }

    fn obey(&mut self, index: usize, mut connection: Box<Connection>, wish: Wish) {
        let has_failed = match wish {
            Wish::Go => !self.flush(&mut connection),
            Wish::Sleep(at) => {
                connection.sleeps_until = Some(at);
                false
            }
            Wish::Close => {
                self.failures[index] = 0;
                self.slots[index] = Slot::Due(Instant::now());
                // The next connection starts at once; where nothing is left, connect says so.
                self.connect(index);
                return;
            }
            Wish::Fail => true,
        };
        self.slots[index] = Slot::Open(connection);
        if has_failed {
            self.fail(index);
        }
    }

    /// One vectored write, repeated while the socket takes all of it; false when it is broken.
    fn flush(&mut self, connection: &mut Connection) -> bool {
        let body = &self.template.body;
        while connection.is_writable {
            let segments = connection.session.segments(body);
            if segments.iter().all(|segment| segment.is_empty()) {
                return true;
            }
            match connection.stream.write_vectored(&segments) {
                Ok(octets) => {
                    connection.active = Instant::now();
                    connection.session.handle_written(octets, body.len());
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
        if matches!(&self.slots[index], Slot::Open(open) if open.session.has_delivered()) {
            self.failures[index] = 0;
        }
        self.close(index);
        self.failures[index] += 1;
        let failures = self.failures[index];
        self.slots[index] = if failures > self.retries {
            Slot::Over
        } else {
            Slot::Due(Instant::now() + (BACKOFF * 2_u32.pow(failures.min(10) - 1)).min(BACKOFF_MAX))
        };
    }

    fn close(&mut self, index: usize) {
        if let Slot::Open(mut connection) = std::mem::replace(&mut self.slots[index], Slot::Over) {
            connection.session.abandon(&mut self.context());
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            template: &self.template,
            supply: &self.supply,
            tally: &mut self.tally,
            returned: &mut self.returned,
        }
    }
}
