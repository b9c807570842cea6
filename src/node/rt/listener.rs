//! Listening sockets. Bound before anything runs, so that a taken address is told at start.

use core::net::SocketAddr;
use std::io;

use socket2::{Domain, Protocol, Socket, Type};

use super::{TcpStream, raw};

/// Connections that wait to be accepted; a short backlog overflows when a shard is busy.
const BACKLOG: i32 = 4096;

/// A socket that is bound and does not listen. Several may share an address: one per shard, and
/// the kernel spreads connections over them.
#[derive(Debug)]
pub struct Bound(Socket);

impl Bound {
    /// # Errors
    /// What the kernel says of the address: taken, foreign, or reserved.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            // `[::]` and `0.0.0.0` are two listeners, as written.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Tells whether another process listens on `address`: sharing is for shards of one node, and
    /// two nodes on one address would take each other's clients.
    ///
    /// # Errors
    /// As [`Bound::bind`].
    pub fn claim(address: SocketAddr) -> io::Result<()> {
        if address.port() == 0 {
            return Ok(());
        }
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Without REUSEPORT a listener of anybody is in the way, and connections of an earlier run
        // that are not forgotten yet are not.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())
    }

    /// The address with the port the kernel chose when it was given as 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Connections come in from here on. On the thread whose executor is to accept them.
    pub fn listen(self) -> io::Result<Listener> {
        self.0.listen(BACKLOG)?;
        Ok(Listener(raw::listener(self.0)))
    }
}

/// Accepts on one shard. Its `accept` loses a connection when it is dropped half way: give it a
/// task that does nothing else.
#[derive(Debug)]
pub struct Listener(glommio::net::TcpListener);

impl Listener {
    pub async fn accept(&self) -> io::Result<TcpStream> {
        TcpStream::accepted(self.0.accept().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::run;

    #[test]
    fn two_sockets_share_an_address_and_a_foreign_address_is_an_error() {
        let first = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.address().unwrap();
        let _second = Bound::bind(address).unwrap();
        assert!(Bound::bind("192.0.2.1:0".parse().unwrap()).is_err());
        run(async {
            let listener = first.listen().unwrap();
            let client = std::net::TcpStream::connect(address).unwrap();
            let stream = listener.accept().await.unwrap();
            assert_eq!(stream.peer().unwrap(), client.local_addr().unwrap());
        })
        .unwrap();
    }
}
