//! The runtime: the only module that names glommio.

mod executor;
mod tcp;
mod udp;

pub use executor::run;
pub use tcp::{TcpStream, TimedOut, connect, timeout};
pub use udp::UdpSocket;
