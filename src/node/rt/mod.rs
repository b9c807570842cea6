//! The runtime: the only module that names glommio.

mod alarm;
mod bell;
mod clock;
mod executor;
mod inbox;
mod listener;
mod outside;
mod probe;
mod raw;
mod task;
mod tcp;
mod udp;

pub use alarm::Alarm;
pub use bell::{Bell, Enrolled, Ring, Roll, TICK};
pub use clock::now;
pub use executor::{Pinned, run};
pub use inbox::{Inbox, Post, inbox};
pub use listener::{Bound, Listener};
pub use outside::OutsideThread;
pub use probe::{Unfit, probe};
pub use task::{Task, give_way, sleep, spawn};
pub use tcp::{Exit, TcpStream, TimedOut, Unconnected, connect, owns, timeout};
pub use udp::UdpSocket;
