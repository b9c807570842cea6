//! A TCP stream with the few calls the ports need.

use core::future::Future;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use glommio::net;
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};

/// The wait ended before the work did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

#[derive(Debug)]
pub struct TcpStream(net::TcpStream);

impl TcpStream {
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

/// Connects within `patience`, from `source` if it is given: an egress address of this host.
///
/// # Errors
/// [`io::ErrorKind::AddrNotAvailable`] for a source that is not on this host,
/// [`io::ErrorKind::TimedOut`] when `patience` ran out, and what the kernel says of the peer.
pub async fn connect(
    peer: SocketAddr,
    source: Option<IpAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A final dot in a segment of its own would wait 40 ms for a delayed ACK.
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen at connect, so that one address serves many peers at once.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&peer.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = socket2_glommio::Socket::from(std::net::TcpStream::from(socket));
    let mut stream = net::TcpStream::from(socket);
    stream.set_write_timeout(Some(patience))?;
    // Writing nothing waits until the connection stands or has failed.
    stream.write(&[]).await?;
    stream.set_write_timeout(None)?;
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
            let source = "127.0.0.3".parse().ok();
            let mut stream = connect(peer, source, PATIENCE).await.unwrap();
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
            let refused = connect(peer, None, PATIENCE).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let source = "192.0.2.1".parse().ok();
            let foreign = connect(peer, source, PATIENCE).await.unwrap_err();
            assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
        })
        .unwrap();
    }
}
