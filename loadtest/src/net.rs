//! Sockets as both ends need them: shared-port listeners and non-blocking connects, TCP_NODELAY always.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// A short accept queue overflows when hundreds of sessions start at once.
const BACKLOG: i32 = 4096;

/// A listener that several threads may open on one address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let wrap = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    let socket = open().map_err(wrap)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// Starts a connect; writability tells its end.
pub(crate) fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(&from.into())?;
    }
    if let Err(error) = socket.connect(&to.into()) {
        // EINPROGRESS has no kind of its own on stable.
        const EINPROGRESS: i32 = 115;
        if error.raw_os_error() != Some(EINPROGRESS) && error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}
