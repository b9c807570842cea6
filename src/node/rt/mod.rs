//! The runtime: the only module that names glommio.

mod tcp;
mod udp;

pub use tcp::{TcpStream, TimedOut, connect, timeout};
pub use udp::UdpSocket;
