//! A TCP stream with the few calls the ports need.

use core::future::Future;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use glommio::net;

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

/// Connects within `patience`.
pub async fn connect(
    peer: SocketAddr,
    _source: Option<IpAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let stream = net::TcpStream::connect_timeout(peer, patience).await?;
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
