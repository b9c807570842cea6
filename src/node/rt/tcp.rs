//! A TCP stream with the few calls the ports need.

use core::future::{Future, poll_fn};
use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use glommio::net;
use nix::errno::Errno;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use nix::sys::socket::{MsgFlags, Shutdown, recv, sendmsg, setsockopt, shutdown};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Bell, Ring};

/// The wait ended before the work did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

#[derive(Debug)]
pub struct TcpStream(net::TcpStream);

impl TcpStream {
    pub(super) fn accepted(stream: net::TcpStream) -> io::Result<Self> {
        // Replies and a final dot are whole writes: nothing is gained by holding them back.
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    pub fn peer(&self) -> io::Result<SocketAddr> {
        Ok(self.0.peer_addr()?)
    }

    /// The address this end has.
    pub fn local(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// How far its packets go.
    #[cfg(test)]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.0.ttl()?)
    }

    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
    }

    /// What has come already; an error of [`io::ErrorKind::WouldBlock`] when nothing has. Before
    /// the first other read only: one that was begun takes the octets first.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }

    /// As `AsyncRead`, with nothing held while it is pending: the buffer may be anybody's.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Writes what the kernel takes of `slices`, in order, once it takes anything. The bell's
    /// `Deadline` ends the wait with [`io::ErrorKind::TimedOut`].
    pub async fn write_some(&mut self, slices: &[IoSlice<'_>], bell: &Bell) -> io::Result<usize> {
        poll_fn(|cx| {
            let written = self.poll_write_vectored(cx, slices);
            if written.is_pending() && bell.poll(Ring::Deadline, cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            written
        })
        .await
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(self.0.as_raw_fd(), slices, &[], flags, None) {
            Ok(octets) => Poll::Ready(Ok(octets)),
            Err(Errno::EAGAIN | Errno::EINTR) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                Pin::new(&mut self.0).poll_write(cx, first.map_or(&[], |slice| slice))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Sends FIN: nothing more is written.
    pub fn finish(&self) {
        // A connection that is gone already needs no end.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }
}

/// How a connection leaves this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    /// Bound before connecting; `None`: the kernel chooses.
    pub address: Option<IpAddr>,
    /// IP_TTL or the hop limit; `None`: the system's.
    pub ttl: Option<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unconnected {
    /// The address to leave from cannot be had: it is not on this host.
    #[error("{0}")]
    Exit(io::Error),
    /// [`io::ErrorKind::TimedOut`] when the patience ran out, and what the kernel says of the peer.
    #[error("{0}")]
    Peer(#[from] io::Error),
}

/// Whether this host has the address: as for a connection, a port of it is taken, and given back.
///
/// # Errors
/// What the kernel says.
pub fn owns(address: IpAddr) -> io::Result<()> {
    std::net::UdpSocket::bind((address, 0)).map(drop)
}

/// Connects within `patience`.
///
/// # Errors
/// See [`Unconnected`].
pub async fn connect(
    peer: SocketAddr,
    exit: Exit,
    patience: Duration,
) -> Result<TcpStream, Unconnected> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A final dot in a segment of its own would wait 40 ms for a delayed ACK.
    socket.set_tcp_nodelay(true)?;
    match (exit.ttl, peer) {
        (Some(ttl), SocketAddr::V4(_)) => socket.set_ttl_v4(ttl.into())?,
        (Some(ttl), SocketAddr::V6(_)) => socket.set_unicast_hops_v6(ttl.into())?,
        (None, _) => {}
    }
    if let Some(address) = exit.address {
        // The port is chosen at connect, so that one address serves many peers at once.
        setsockopt(&socket, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
        let bound = socket.bind(&SocketAddr::new(address, 0).into());
        bound.map_err(Unconnected::Exit)?;
    }
    match socket.connect(&peer.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
            return Err(error.into());
        }
        Ok(()) | Err(_) => {}
    }
    let socket = socket2_glommio::Socket::from(std::net::TcpStream::from(socket));
    let mut stream = net::TcpStream::from(socket);
    stream
        .set_write_timeout(Some(patience))
        .map_err(io::Error::from)?;
    // Writing nothing waits until the connection stands or has failed.
    stream.write(&[]).await?;
    stream.set_write_timeout(None).map_err(io::Error::from)?;
    Ok(TcpStream(stream))
}

/// `work`, unless it takes longer than `patience`.
pub async fn timeout<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, TimedOut> {
    let wait = async {
        glommio::timer::sleep(patience).await;
        Err(TimedOut)
    };
    async { Ok(work.await) }.or(wait).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::rt::run;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn connections_leave_from_their_source() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).unwrap();
            stream.write_all(b"pong").unwrap();
            (from.ip(), heard)
        });
        let heard = run(async {
            let exit = Exit {
                address: "127.0.0.3".parse().ok(),
                ttl: Some(3),
            };
            let mut stream = connect(peer, exit, PATIENCE).await.unwrap();
            assert_eq!(stream.ttl().unwrap(), 3);
            stream.write_all(b"ping").await.unwrap();
            let mut heard = [0; 16];
            let octets = stream.read(&mut heard).await.unwrap();
            heard[..octets].to_vec()
        })
        .unwrap();
        assert_eq!(heard, b"pong");
        let seen = server.join().unwrap();
        assert_eq!(seen, ("127.0.0.3".parse().unwrap(), *b"ping"));
    }

    #[test]
    fn refusal_and_a_foreign_source_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        drop(listener);
        run(async {
            let refused = connect(peer, Exit::default(), PATIENCE).await.unwrap_err();
            assert!(
                matches!(&refused, Unconnected::Peer(e) if e.kind() == io::ErrorKind::ConnectionRefused)
            );
            let exit = Exit {
                address: "192.0.2.77".parse().ok(),
                ttl: None,
            };
            let foreign = connect(peer, exit, PATIENCE).await.unwrap_err();
            assert!(
                matches!(&foreign, Unconnected::Exit(e) if e.kind() == io::ErrorKind::AddrNotAvailable)
            );
        })
        .unwrap();
    }
}
