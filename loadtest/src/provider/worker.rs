//! A provider's event loop: all its addresses, its connections and its brain. One thread per provider; every wait has an end.

use super::brain::{Brain, Event};
use super::dialogue::{Dialogue, Need, farewell};
use crate::measure;
use crate::sink::ledger::{Arrival, Ledger};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use posthaste_core::words::Moment;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const READ_OCTETS: usize = 64 << 10;
/// Replies a peer may leave unread before it is cut off.
const OUT_OCTETS_MAX: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);
/// Tokens from here on are listeners.
const LISTENERS: usize = 1 << 30;

/// What a provider knows, shared with those who report.
pub(super) struct Mind {
    pub(super) brain: Brain,
    pub(super) ledger: Ledger,
}

pub(super) fn lock(mind: &Mutex<Mind>) -> MutexGuard<'_, Mind> {
    mind.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wall clock that never goes back: read once, then a monotonic clock is added.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    wall: Moment,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            wall: Moment::from_micros(measure::epoch_us()),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.wall + self.began.elapsed()
    }
}

struct Connection {
    stream: TcpStream,
    dialogue: Dialogue,
    /// Read but not taken, while a reply is held back.
    waiting: Vec<u8>,
    is_paused: bool,
    is_closing: bool,
    is_silent: bool,
    serial: u64,
}

/// One provider's thread.
pub(super) struct Worker {
    poll: Poll,
    listeners: Vec<TcpListener>,
    mind: Arc<Mutex<Mind>>,
    events: Option<SyncSender<Event>>,
    finished: Arc<AtomicBool>,
    clock: Clock,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    held: BinaryHeap<Reverse<(Moment, usize, u64)>>,
    serial: u64,
}

impl Worker {
    /// `events` takes complaints and bounces; what it has no room for is lost.
    pub(super) fn new(
        mut listeners: Vec<TcpListener>,
        mind: Arc<Mutex<Mind>>,
        events: Option<SyncSender<Event>>,
        finished: Arc<AtomicBool>,
        clock: Clock,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(listener, Token(LISTENERS + index), Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            listeners,
            mind,
            events,
            finished,
            clock,
            connections: Vec::new(),
            free: Vec::new(),
            held: BinaryHeap::new(),
            serial: 0,
        })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_OCTETS];
        while !self.finished.load(Ordering::Relaxed) {
            let wait = self.held.peek().map_or(LOOK, |Reverse((due, ..))| {
                due.since(self.clock.now()).min(LOOK)
            });
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                match event.token().0.checked_sub(LISTENERS) {
                    Some(listener) => self.accept(listener),
                    None => self.serve(event.token().0, &mut buffer),
                }
            }
            self.release(&mut buffer);
            self.send_back();
        }
        for connection in self.connections.iter_mut().flatten() {
            connection
                .dialogue
                .out
                .extend_from_slice(&farewell().octets);
            flush(connection);
        }
        Ok(())
    }

    /// Hands on the complaints and bounces that are due.
    fn send_back(&self) {
        let now = self.clock.now();
        let mut mind = lock(&self.mind);
        while let Some(event) = mind.brain.poll_event(now) {
            if let Some(events) = &self.events {
                // A full queue means that nobody takes them: then they are lost, as in life.
                let _ = events.try_send(event);
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        // Any error ends the round: out of descriptors or nothing left to accept, the next event tells.
        while let Ok((mut stream, peer)) = self.listeners[listener].accept() {
            let index = self.free.pop().unwrap_or(self.connections.len());
            // Each reply goes out in one write; a failure here only costs speed.
            let _ = stream.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            if registry
                .register(&mut stream, Token(index), interest)
                .is_err()
            {
                self.free.push(index);
                continue;
            }
            self.open(index, stream, peer.ip());
        }
    }

    fn open(&mut self, index: usize, stream: TcpStream, peer: IpAddr) {
        self.serial += 1;
        let now = self.clock.now();
        let (dialogue, need) = {
            let mind = &mut *lock(&self.mind);
            mind.ledger.counts.connections += 1;
            Dialogue::open(&mut mind.brain, peer, now)
        };
        let mut connection = Connection {
            stream,
            dialogue,
            waiting: Vec::new(),
            is_paused: false,
            is_closing: false,
            is_silent: false,
            serial: self.serial,
        };
        if index == self.connections.len() {
            self.connections.push(None);
        }
        let lives = self.heed(index, &mut connection, need)
            && flush(&mut connection)
            && !(connection.is_closing && connection.dialogue.out.is_empty());
        self.keep(index, connection, lives);
    }

    fn keep(&mut self, index: usize, connection: Connection, lives: bool) {
        if lives {
            self.connections[index] = Some(connection);
            return;
        }
        let now = self.clock.now();
        lock(&self.mind)
            .brain
            .handle_close(connection.dialogue.id, now);
        self.free.push(index);
    }

    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        let lives = self.converse(index, &mut connection, buffer);
        self.keep(index, connection, lives);
    }

    /// Reads, answers and writes until the socket has no more; false when the connection is over.
    fn converse(&mut self, index: usize, connection: &mut Connection, buffer: &mut [u8]) -> bool {
        loop {
            if connection.is_paused || connection.is_closing {
                return flush(connection)
                    && !(connection.is_closing && connection.dialogue.out.is_empty());
            }
            if connection.dialogue.out.len() > OUT_OCTETS_MAX {
                return false;
            }
            let length = match connection.stream.read(buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return flush(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            if !self.offer(index, connection, &buffer[..length]) || !flush(connection) {
                return false;
            }
            if connection.is_closing && connection.dialogue.out.is_empty() {
                return false;
            }
            // A short read emptied the socket (epoll(7)): whatever comes next is a new event.
            if length < buffer.len() {
                return true;
            }
        }
    }

    /// Gives octets to the dialogue; false when the connection is to be dropped.
    fn offer(&mut self, index: usize, connection: &mut Connection, input: &[u8]) -> bool {
        if connection.is_silent {
            return true;
        }
        let now = self.clock.now();
        let (used, need) = {
            let mind = &mut *lock(&self.mind);
            let (used, need) = connection.dialogue.take(input, &mut mind.brain, now);
            for taken in connection.dialogue.taken.drain(..) {
                let arrival = Arrival {
                    label: taken.label,
                    // A provider may hold mail back: order says nothing here.
                    sender: 0,
                    recipients: taken.recipients.len(),
                    octets: taken.octets,
                    at_us: measure::epoch_us(),
                };
                mind.ledger.accept(&arrival, &taken.recipients);
            }
            (used, need)
        };
        if matches!(need, Need::Wait(_)) {
            connection.waiting.extend_from_slice(&input[used..]);
        }
        self.heed(index, connection, need)
    }

    /// False when the connection is to be dropped.
    fn heed(&mut self, index: usize, connection: &mut Connection, need: Need) -> bool {
        match need {
            Need::Octets => {}
            Need::Wait(delay) => {
                connection.is_paused = true;
                let due = self.clock.now() + delay;
                self.held.push(Reverse((due, index, connection.serial)));
            }
            Need::Close => connection.is_closing = true,
            Need::Silence => connection.is_silent = true,
            Need::Reset => {
                // Without lingering, a close is a reset. Where that fails it is an ordinary close.
                let socket = socket2::SockRef::from(&connection.stream);
                let _ = socket.set_linger(Some(Duration::ZERO));
                return false;
            }
        }
        true
    }

    /// Gives the replies that are due, and goes on with what those peers sent meanwhile.
    fn release(&mut self, buffer: &mut [u8]) {
        while let Some(Reverse((due, index, serial))) = self.held.peek().copied() {
            if due > self.clock.now() {
                return;
            }
            self.held.pop();
            let Some(mut connection) = self.connections[index].take() else {
                continue;
            };
            if connection.serial != serial {
                self.connections[index] = Some(connection);
                continue;
            }
            connection.is_paused = false;
            let need = connection.dialogue.release();
            let mut lives = self.heed(index, &mut connection, need);
            if lives && !connection.is_paused && !connection.is_closing {
                let waiting = std::mem::take(&mut connection.waiting);
                lives = self.offer(index, &mut connection, &waiting);
            }
            lives =
                lives && flush(&mut connection) && self.converse(index, &mut connection, buffer);
            self.keep(index, connection, lives);
        }
    }
}

/// Writes what the socket takes; false when it is broken.
fn flush(connection: &mut Connection) -> bool {
    let out = &mut connection.dialogue.out;
    let mut written = 0;
    while written < out.len() {
        match connection.stream.write(&out[written..]) {
            Ok(0) => return false,
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    out.drain(..written);
    true
}
