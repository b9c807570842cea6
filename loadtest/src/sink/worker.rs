//! The sink's event loop: one per thread, with its own listener and connections; all share the ledger.

use super::ledger::Ledger;
use super::session::{Behaviour, Event, Session};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LISTENER: Token = Token(usize::MAX);
const READ_OCTETS: usize = 256 << 10;
/// Replies a peer may leave unread before it is cut off.
const OUT_OCTETS_MAX: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);

struct Connection {
    stream: TcpStream,
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
    listener: TcpListener,
    behaviour: Behaviour,
    ledger: Arc<Mutex<Ledger>>,
    finished: Arc<AtomicBool>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Delayed answers, in order of time, for the delay is one for all.
    delayed: VecDeque<(Instant, usize, u64)>,
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
            poll,
            listener,
            behaviour,
            ledger,
            finished,
            connections: Vec::new(),
            free: Vec::new(),
            delayed: VecDeque::new(),
            serial: 0,
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_OCTETS];
        while !self.finished.load(Ordering::Relaxed) {
            let wait = self.delayed.front().map_or(LOOK, |(due, ..)| {
                due.saturating_duration_since(Instant::now()).min(LOOK)
            });
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                } else {
                    self.serve(event.token().0, &mut buffer);
                }
            }
            self.release(&mut buffer);
        }
        Ok(())
    }

    fn accept(&mut self) {
        // Any error ends the round: out of descriptors or nothing left to accept, the next event tells.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let index = self.free.pop().unwrap_or(self.connections.len());
            // Each reply goes out in one write; a failure here only costs speed.
            let _ = stream.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self
                .poll
                .registry()
                .register(&mut stream, Token(index), interest)
                .is_err()
            {
                self.free.push(index);
                continue;
            }
            self.serial += 1;
            let connection = Connection {
                stream,
                session: Session::new(),
                waiting: Vec::new(),
                is_paused: false,
                is_closing: false,
                serial: self.serial,
            };
            if index == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[index] = Some(connection);
            }
            lock(&self.ledger).counts.connections += 1;
        }
    }

    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        if self.converse(index, &mut connection, buffer) {
            self.connections[index] = Some(connection);
        } else {
            self.free.push(index);
        }
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
            if connection.is_closing && connection.session.out.is_empty() {
                return false;
            }
            // A short read emptied the socket (epoll(7)): whatever comes next is a new event.
            if length < buffer.len() {
                return true;
            }
        }
    }

    /// Gives octets to the session and books what it reports; false when the connection is to be dropped.
    fn offer(&mut self, index: usize, connection: &mut Connection, mut input: &[u8]) -> bool {
        loop {
            let (taken, event) = connection.session.take(input, &mut self.behaviour);
            input = &input[taken..];
            match event {
                Event::Hungry => return true,
                Event::Message { label, octets } => {
                    lock(&self.ledger).accept(label, &connection.session.recipients, octets);
                    if self.behaviour.delay.is_zero() {
                        connection.session.settle();
                        continue;
                    }
                    connection.is_paused = true;
                    connection.waiting.extend_from_slice(input);
                    self.delayed.push_back((
                        Instant::now() + self.behaviour.delay,
                        index,
                        connection.serial,
                    ));
                    return true;
                }
                Event::Dropped => {
                    lock(&self.ledger).counts.dropped += 1;
                    return false;
                }
                Event::RecipientFailed => lock(&self.ledger).counts.recipients_failed += 1,
                Event::RecipientRefused => lock(&self.ledger).counts.recipients_refused += 1,
                Event::BadCommand => lock(&self.ledger).counts.bad_commands += 1,
                Event::Close => {
                    connection.is_closing = true;
                    return true;
                }
            }
        }
    }

    /// Gives the delayed answers that are due, and goes on with what those peers sent meanwhile.
    fn release(&mut self, buffer: &mut [u8]) {
        while let Some(&(due, index, serial)) = self.delayed.front() {
            if due > Instant::now() {
                return;
            }
            self.delayed.pop_front();
            let Some(mut connection) = self.connections[index].take() else {
                continue;
            };
            if connection.serial != serial {
                self.connections[index] = Some(connection);
                continue;
            }
            connection.is_paused = false;
            connection.session.settle();
            let waiting = std::mem::take(&mut connection.waiting);
            let goes_on = self.offer(index, &mut connection, &waiting)
                && flush(&mut connection)
                && self.converse(index, &mut connection, buffer);
            if goes_on {
                self.connections[index] = Some(connection);
            } else {
                self.free.push(index);
            }
        }
    }
}

/// Writes what the socket takes; false when it is broken.
fn flush(connection: &mut Connection) -> bool {
    let out = &mut connection.session.out;
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

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
