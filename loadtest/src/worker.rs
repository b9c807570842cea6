//! The event loop of every server here, sink and providers: listeners, connections, TLS, replies that are held back. Knows no SMTP: what is
//! said is its host's business. One per thread; every wait has an end.

use crate::timer::Timer;
use crate::tls::Transport;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TIMER: Token = Token(usize::MAX);
/// Tokens from here on are listeners.
const LISTENERS: usize = 1 << 30;
const READ_OCTETS: usize = 256 << 10;
/// Replies a peer may leave unread before it is cut off.
const OUT_OCTETS_MAX: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);

/// What a session wants of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Everything offered was taken and more is needed.
    Octets,
    /// A reply is held back for so long; nothing is taken before [`Host::release`].
    Wait(Duration),
    /// Send what is left, then go on in TLS. What came ahead of it ends the connection: anyone may have put it there.
    Secure,
    /// Send what is left, then close.
    Close,
    /// Close at once.
    Drop,
    /// Reset the connection at once.
    Reset,
    /// Say nothing more, and keep the connection.
    Silence,
}

/// Whose sessions the loop carries. One per thread.
pub(crate) trait Host {
    type Session;
    /// Said to every peer when the loop ends.
    const FAREWELL: &'static [u8];

    fn open(&mut self, peer: IpAddr) -> (Self::Session, Need);
    /// Takes octets until there is something to be done; says how many it took.
    fn take(&mut self, session: &mut Self::Session, input: &[u8]) -> (usize, Need);
    /// The wait is over.
    fn release(&mut self, session: &mut Self::Session) -> Need;
    /// TLS stands.
    fn handle_secured(&mut self, session: &mut Self::Session);
    fn close(&mut self, session: Self::Session);
    /// All events of one poll were served.
    fn handle_round(&mut self);
    /// What waits to be sent.
    fn out(session: &mut Self::Session) -> &mut Vec<u8>;
}

/// How TLS is to be had.
#[derive(Clone)]
pub(crate) enum Security {
    Plain,
    /// When the session asks for it.
    Asked(Arc<ServerConfig>),
    /// From the first octet on.
    Implicit(Arc<ServerConfig>),
}

struct Connection<S> {
    transport: Transport,
    session: S,
    /// Read but not taken, while a reply is held back.
    waiting: Vec<u8>,
    is_paused: bool,
    is_closing: bool,
    is_silent: bool,
    serial: u64,
}

/// One thread of a server.
pub(crate) struct Worker<H: Host> {
    host: H,
    security: Security,
    poll: Poll,
    timer: Timer,
    listeners: Vec<TcpListener>,
    finished: Arc<AtomicBool>,
    connections: Vec<Option<Connection<H::Session>>>,
    free: Vec<usize>,
    /// Replies held back: until when, whose, and which connection it was.
    held: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    serial: u64,
}

impl<H: Host> Worker<H> {
    pub(crate) fn new(
        host: H,
        mut listeners: Vec<TcpListener>,
        security: Security,
        finished: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(listener, Token(LISTENERS + index), Interest::READABLE)?;
        }
        Ok(Self {
            host,
            security,
            timer: Timer::new(poll.registry(), TIMER)?,
            poll,
            listeners,
            finished,
            connections: Vec::new(),
            free: Vec::new(),
            held: BinaryHeap::new(),
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
                    TIMER => self.timer.handle_alarm(),
                    Token(listener) if listener >= LISTENERS => self.accept(listener - LISTENERS),
                    Token(index) => self.serve(index, &mut buffer),
                }
            }
            self.release(&mut buffer)?;
            self.host.handle_round();
        }
        if !H::FAREWELL.is_empty() {
            for connection in self.connections.iter_mut().flatten() {
                H::out(&mut connection.session).extend_from_slice(H::FAREWELL);
                flush::<H>(connection);
            }
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) {
        // Any error ends the round: out of descriptors or nothing left to accept, the next event tells.
        while let Ok((stream, peer)) = self.listeners[listener].accept() {
            let index = self.free.pop().unwrap_or(self.connections.len());
            if index == self.connections.len() {
                self.connections.push(None);
            }
            // Each reply goes out in one write; a failure here only costs speed.
            let _ = stream.set_nodelay(true);
            match self.transport(stream, index) {
                Ok(transport) => self.open(index, transport, peer.ip()),
                Err(_) => self.free.push(index),
            }
        }
    }

    fn transport(&self, stream: TcpStream, index: usize) -> io::Result<Transport> {
        let mut transport = Transport::new(stream);
        transport.register(self.poll.registry(), Token(index))?;
        if let Security::Implicit(config) = &self.security {
            transport.secure_as_server(config)?;
        }
        Ok(transport)
    }

    fn open(&mut self, index: usize, transport: Transport, peer: IpAddr) {
        self.serial += 1;
        let (session, need) = self.host.open(peer);
        let mut connection = Connection {
            transport,
            session,
            waiting: Vec::new(),
            is_paused: false,
            is_closing: false,
            is_silent: false,
            serial: self.serial,
        };
        let lives = self.heed(index, &mut connection, &need, &[])
            && flush::<H>(&mut connection)
            && !is_over::<H>(&mut connection);
        self.keep(index, connection, lives);
    }

    fn keep(&mut self, index: usize, mut connection: Connection<H::Session>, lives: bool) {
        if lives {
            self.connections[index] = Some(connection);
            return;
        }
        connection.transport.close_notify();
        self.host.close(connection.session);
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
    fn converse(
        &mut self,
        index: usize,
        connection: &mut Connection<H::Session>,
        buffer: &mut [u8],
    ) -> bool {
        loop {
            if connection.is_paused || connection.is_closing {
                return flush::<H>(connection) && !is_over::<H>(connection);
            }
            if H::out(&mut connection.session).len() > OUT_OCTETS_MAX {
                return false;
            }
            let length = match connection.transport.read(buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return flush::<H>(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            if !self.offer(index, connection, &buffer[..length])
                || !flush::<H>(connection)
                || is_over::<H>(connection)
            {
                return false;
            }
            // A short read emptied the socket (epoll(7)): whatever comes next is a new event. Records may hold more.
            if length < buffer.len() && !connection.transport.is_secured() {
                return true;
            }
        }
    }

    /// Gives octets to the session; false when the connection is to be dropped.
    fn offer(
        &mut self,
        index: usize,
        connection: &mut Connection<H::Session>,
        input: &[u8],
    ) -> bool {
        if connection.is_silent {
            return true;
        }
        let (used, need) = self.host.take(&mut connection.session, input);
        self.heed(index, connection, &need, &input[used..])
    }

    /// Does what the session wants; `rest` is what it has not taken. False when the connection is to be dropped.
    fn heed(
        &mut self,
        index: usize,
        connection: &mut Connection<H::Session>,
        need: &Need,
        rest: &[u8],
    ) -> bool {
        match need {
            Need::Octets => {}
            Need::Wait(delay) => {
                connection.is_paused = true;
                connection.waiting.extend_from_slice(rest);
                let due = Instant::now() + *delay;
                self.held.push(Reverse((due, index, connection.serial)));
            }
            Need::Secure => return rest.is_empty() && self.secure(connection),
            Need::Close => connection.is_closing = true,
            Need::Silence => connection.is_silent = true,
            Need::Drop => return false,
            Need::Reset => {
                connection.transport.reset_on_close();
                return false;
            }
        }
        true
    }

    fn secure(&mut self, connection: &mut Connection<H::Session>) -> bool {
        // The 220 must leave before the first record.
        let is_told = flush::<H>(connection) && H::out(&mut connection.session).is_empty();
        let Security::Asked(config) = &self.security else {
            return false;
        };
        if !is_told || connection.transport.secure_as_server(config).is_err() {
            return false;
        }
        self.host.handle_secured(&mut connection.session);
        true
    }

    /// Gives the replies that are due, and goes on with what those peers sent meanwhile.
    fn release(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(&Reverse((due, index, serial))) = self.held.peek() {
            if due > Instant::now() {
                return self.timer.arm(due);
            }
            self.held.pop();
            let is_it = |connection: &mut Connection<H::Session>| connection.serial == serial;
            let Some(mut connection) = self.connections[index].take_if(is_it) else {
                continue;
            };
            connection.is_paused = false;
            let need = self.host.release(&mut connection.session);
            let waiting = std::mem::take(&mut connection.waiting);
            let lives = self.heed(index, &mut connection, &need, &waiting)
                && (need != Need::Octets || self.offer(index, &mut connection, &waiting))
                && flush::<H>(&mut connection)
                && self.converse(index, &mut connection, buffer);
            self.keep(index, connection, lives);
        }
        Ok(())
    }
}

fn is_over<H: Host>(connection: &mut Connection<H::Session>) -> bool {
    connection.is_closing && H::out(&mut connection.session).is_empty()
}

/// Writes what the socket takes; false when it is broken.
fn flush<H: Host>(connection: &mut Connection<H::Session>) -> bool {
    let out = H::out(&mut connection.session);
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
