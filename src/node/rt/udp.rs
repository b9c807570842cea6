//! A UDP socket bound to one peer. One per question to a name server.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;

use glommio::net;
use socket2_glommio::{Domain, Socket, Type};

/// Connected: the kernel drops datagrams from anybody else and reports a closed port.
#[derive(Debug)]
pub struct UdpSocket(net::UdpSocket);

impl UdpSocket {
    /// A socket on a port of the kernel's choice that talks to `peer`.
    pub async fn connect(peer: SocketAddr) -> io::Result<Self> {
        let any = if peer.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        // glommio's own `bind` shares ports between sockets, and an answer would go to either.
        let socket = Socket::new(Domain::for_address(any), Type::DGRAM, None)?;
        socket.bind(&any.into())?;
        let socket = net::UdpSocket::from(socket);
        socket.connect(peer).await?;
        Ok(Self(socket))
    }

    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        Ok(self.0.send(datagram).await?)
    }

    /// The next datagram, cut to `buffer`; [`io::ErrorKind::TimedOut`] after `patience`.
    pub async fn recv(&self, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(Some(patience))?;
        Ok(self.0.recv(buffer).await?)
    }
}
