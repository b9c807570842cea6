//! Connections of the endpoint: a bounded number, each with bounded patience.
//!
//! The server beneath has no clock for headers, so the stream keeps it: a request has to arrive and
//! be answered within one patience, and a reader that stops reading is left after another.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections held; the next waits in the kernel's backlog.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// From the last answer (or the start) to the next, header and body included.
const REQUEST_PATIENCE: Duration = Duration::from_secs(20);
/// For a peer that takes nothing of an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// After a failed accept: there are no descriptors, and some may come free.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The listener. One per node.
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    request_patience: Duration,
}

impl Door {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            request_patience: REQUEST_PATIENCE,
        }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Only latency is lost without it.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream,
                        request: Clock::new(self.request_patience),
                        answer: Clock::new(ANSWER_PATIENCE),
                        _place: place,
                    };
                    return (connection, peer);
                }
                Err(error) if is_of_one_peer(&error) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who asks. One per connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A patience that runs or rests.
struct Clock {
    patience: Duration,
    sleep: Pin<Box<Sleep>>,
    runs: bool,
}

impl Clock {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            sleep: Box::pin(sleep(patience)),
            runs: true,
        }
    }

    fn rest(&mut self) {
        self.runs = false;
    }

    fn run(&mut self) {
        if !self.runs {
            self.runs = true;
            let until = Instant::now() + self.patience;
            self.sleep.as_mut().reset(until);
        }
    }

    /// What `io` says, or that it took too long.
    fn limit<T>(&mut self, io: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.run();
        if io.is_pending() && self.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        io
    }
}

/// One per connection.
pub(super) struct Connection {
    stream: TcpStream,
    request: Clock,
    answer: Clock,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.request.limit(read, cx)
    }
}

impl Connection {
    fn limit_write(
        &mut self,
        write: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if write.is_ready() {
            self.request.rest();
            self.answer.rest();
            return write;
        }
        self.answer.limit(write, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.limit_write(write, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limit_write(write, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;
    use std::time::Instant;

    use axum::Router;
    use axum::routing::get;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// Runs `clients` against a door with so many places.
    fn with_door<T: Send + 'static>(
        places: usize,
        clients: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut door = Door::new(TcpListener::from_std(listener).unwrap());
            door.request_patience = PATIENCE;
            door.places = Arc::new(Semaphore::new(places));
            let router = Router::new().route("/", get(|| async { "here" }));
            let served = axum::serve(door, router).into_future();
            let clients = tokio::task::spawn_blocking(move || clients(address));
            tokio::select! {
                _ = served => unreachable!("it serves for ever"),
                value = clients => value.unwrap(),
            }
        })
    }

    fn connect(address: SocketAddr) -> net::TcpStream {
        let stream = net::TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    fn asks(stream: &mut net::TcpStream) -> usize {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        stream.read(&mut [0; 1024]).unwrap()
    }

    #[test]
    fn slow_headers_and_idle_connections_are_left() {
        with_door(10, |address| {
            let mut idle = connect(address);
            let mut slow = connect(address);
            for octet in b"GET / HT" {
                // Its last octets may find the connection closed.
                let _ = slow.write_all(&[*octet]);
                std::thread::sleep(PATIENCE / 4);
            }
            assert_eq!(idle.read(&mut [0; 9]).unwrap(), 0);
            // Closed with octets unread, it may be a reset.
            assert_eq!(slow.read(&mut [0; 9]).unwrap_or(0), 0);
        });
    }

    #[test]
    fn patience_begins_anew_with_each_answer() {
        with_door(10, |address| {
            let mut kept = connect(address);
            for _ in 0..4 {
                assert!(asks(&mut kept) > 0);
                std::thread::sleep(PATIENCE / 2);
            }
            assert_eq!(kept.read(&mut [0; 9]).unwrap(), 0);
        });
    }

    #[test]
    fn who_finds_no_place_waits_for_one() {
        with_door(2, |address| {
            let _idle = [connect(address), connect(address)];
            std::thread::sleep(PATIENCE / 4);
            let asked = Instant::now();
            assert!(asks(&mut connect(address)) > 0);
            assert!(asked.elapsed() >= PATIENCE / 2);
        });
    }
}
