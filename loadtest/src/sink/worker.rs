//! The sink's event loop: one per thread, with its own listener and connections; all share the ledger.

use super::ledger::{Arrival, Batch, Label, Ledger};
use super::session::{Behaviour, Event, Session};
use crate::measure;
use crate::timer::Timer;
use crate::tls::Transport;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const LISTENER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const READ_OCTETS: usize = 256 << 10;
/// Replies a peer may leave unread before it is cut off.
const OUT_OCTETS_MAX: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);

struct Connection {
    transport: Transport,
    session: Session,
    /// Read but not taken, while an answer is delayed.
    waiting: Vec<u8>,
    is_paused: bool,
    is_closing: bool,
    serial: u64,
}

/// One thread of the sink.
pub(crate) struct Worker {
    poll: Poll,
    timer: Timer,
    listener: TcpListener,
    behaviour: Behaviour,
    ledger: Arc<Mutex<Ledger>>,
    batch: Batch,
    finished: Arc<AtomicBool>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Delayed answers: when, whose, and which connection it was.
    delayed: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    serial: u64,
}

impl Worker {
    pub(crate) fn new(
        mut listener: TcpListener,
        behaviour: Behaviour,
        ledger: Arc<Mutex<Ledger>>,
        finished: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            timer: Timer::new(poll.registry(), TIMER)?,
            poll,
            listener,
            behaviour,
            ledger,
            batch: Batch::default(),
            finished,
            connections: Vec::new(),
            free: Vec::new(),
            delayed: BinaryHeap::new(),
            serial: 0,
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_OCTETS];
        while !self.finished.load(Ordering::Relaxed) {
            if let Err(error) = self.poll.poll(&mut events, Some(LOOK))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    TIMER => self.timer.handle_alarm(),
                    Token(index) => self.serve(index, &mut buffer),
                }
            }
            self.release(&mut buffer)?;
            self.hand_over();
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.book(&mut self.batch);
        }
    }

    fn accept(&mut self) {
        // Any error ends the round: out of descriptors or nothing left to accept, the next event tells.
        while let Ok((stream, _)) = self.listener.accept() {
            let index = self.free.pop().unwrap_or(self.connections.len());
            // Each reply goes out in one write; a failure here only costs speed.
            let _ = stream.set_nodelay(true);
            let mut transport = Transport::new(stream);
            let opened = transport.register(self.poll.registry(), Token(index));
            let secured = match &self.behaviour.tls {
                Some(config) if self.behaviour.is_implicit => transport.secure_as_server(config),
                _ => Ok(()),
            };
            if opened.and(secured).is_err() {
                // A place that no connection has had yet is made by the next push.
                if index < self.connections.len() {
                    self.free.push(index);
                }
                continue;
            }
            self.serial += 1;
            let mut connection = Connection {
                transport,
                session: Session::new(&mut self.behaviour),
                waiting: Vec::new(),
                is_paused: false,
                is_closing: false,
                serial: self.serial,
            };
            self.pause(index, &mut connection, &[]);
            if index == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[index] = Some(connection);
            }
            self.batch.counts.connections += 1;
        }
    }

    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        if self.converse(index, &mut connection, buffer) {
            self.connections[index] = Some(connection);
        } else {
            self.end(index, connection);
        }
    }

    fn end(&mut self, index: usize, mut connection: Connection) {
        connection.transport.close_notify();
        self.free.push(index);
    }

    /// Reads, answers and writes until the socket has no more; false when the connection is over.
    fn converse(&mut self, index: usize, connection: &mut Connection, buffer: &mut [u8]) -> bool {
        loop {
            if connection.is_paused || connection.is_closing {
                return flush(connection)
                    && !(connection.is_closing && connection.session.out.is_empty());
            }
            if connection.session.out.len() > OUT_OCTETS_MAX {
                return false;
            }
            let length = match connection.transport.read(buffer) {
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
            if connection.is_closing && connection.session.out.is_empty() {
                return false;
            }
            // A short read emptied the socket (epoll(7)): whatever comes next is a new event. Records may hold more.
            if length < buffer.len() && !connection.transport.is_secured() {
                return true;
            }
        }
    }

    /// Gives octets to the session and books what it reports; false when the connection is to be dropped.
    fn offer(&mut self, index: usize, connection: &mut Connection, mut input: &[u8]) -> bool {
        loop {
            let (taken, event) = connection.session.take(input, &mut self.behaviour);
            input = &input[taken..];
            let counts = &mut self.batch.counts;
            match event {
                Event::Hungry => return true,
                Event::Message { label, octets } => {
                    self.book(&mut connection.session, label, octets);
                    connection.session.settle(&mut self.behaviour);
                }
                Event::Dropped => {
                    counts.dropped += 1;
                    return false;
                }
                Event::RecipientFailed => counts.recipients_failed += 1,
                Event::RecipientRefused => counts.recipients_refused += 1,
                Event::BadCommand => counts.bad_commands += 1,
                Event::Paused => {}
                Event::Secure => return input.is_empty() && self.secure(connection),
                Event::Close => {
                    connection.is_closing = true;
                    return true;
                }
            }
            if self.pause(index, connection, input) {
                return true;
            }
        }
    }

    fn book(&mut self, session: &mut Session, label: Option<Label>, octets: u64) {
        if let Some(label) = label {
            let here = (label.run, label.sequence);
            let is_overtaken = |(run, sequence)| run == here.0 && sequence > here.1;
            if session.last.is_some_and(is_overtaken) {
                self.batch.counts.overtaken_in_session += 1;
            } else {
                session.last = Some(here);
            }
        }
        self.batch.recipients.extend_from_slice(&session.recipients);
        self.batch.arrivals.push(Arrival {
            label,
            sender: session.sender,
            recipients: session.recipients.len(),
            octets,
            at_us: measure::epoch_us(),
        });
    }

    fn secure(&self, connection: &mut Connection) -> bool {
        // The 220 must leave before the first record.
        let is_told = flush(connection) && connection.session.out.is_empty();
        let Some(config) = self.behaviour.tls.as_ref().filter(|_| is_told) else {
            return false;
        };
        connection.session.handle_secured();
        connection.transport.secure_as_server(config).is_ok()
    }

    /// Puts the connection to sleep where its session wants that, with what it has not taken yet.
    fn pause(&mut self, index: usize, connection: &mut Connection, rest: &[u8]) -> bool {
        let Some(delay) = connection.session.pause else {
            return false;
        };
        connection.is_paused = true;
        connection.waiting.extend_from_slice(rest);
        let due = Instant::now() + delay;
        self.delayed.push(Reverse((due, index, connection.serial)));
        true
    }

    /// Gives the delayed answers that are due, and goes on with what those peers sent meanwhile.
    fn release(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(&Reverse((due, index, serial))) = self.delayed.peek() {
            if due > Instant::now() {
                return self.timer.arm(due);
            }
            self.delayed.pop();
            let Some(mut connection) = self.connections[index].take() else {
                continue;
            };
            if connection.serial != serial {
                self.connections[index] = Some(connection);
                continue;
            }
            connection.is_paused = false;
            connection.session.release();
            let waiting = std::mem::take(&mut connection.waiting);
            let goes_on = self.offer(index, &mut connection, &waiting)
                && flush(&mut connection)
                && self.converse(index, &mut connection, buffer);
            if goes_on {
                self.connections[index] = Some(connection);
            } else {
                self.end(index, connection);
            }
        }
        Ok(())
    }
}

/// Writes what the socket takes; false when it is broken.
fn flush(connection: &mut Connection) -> bool {
    let out = &mut connection.session.out;
    let mut written = 0;
    while written < out.len() {
        match connection.transport.write(&out[written..]) {
            Ok(0) => return false,
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    out.drain(..written);
    connection.transport.flush().is_ok()
}
