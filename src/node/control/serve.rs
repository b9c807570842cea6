//! The sidecar thread: its start, its end, and what it needs to know of the node.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use posthaste_core::dispatch::{Act, Shapes};
use posthaste_core::egress::Progress;
use posthaste_core::shaping::{NotSet, Wish};
use posthaste_core::words::{Moment, ShardId};
use tokio::sync::watch;

use super::desk::{Desk, routes};
use super::door::{Door, Peer};
use super::shaping::Target;
use crate::config::Secret;
use crate::delivery::SourceState;
use crate::mesh::Ask;
use crate::observe::Exposition;
use crate::rt::OutsideThread;

/// Between two foldings of histogram samples.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long requests under way may take after a stop.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub struct Options {
    /// Without it the admin endpoints answer loopback clients only.
    pub token: Option<Secret>,
    /// Shards are numbered from 0 to this, exclusive.
    pub shards: u16,
    /// Where the delivery log is, which tells by what source a message left.
    pub log: PathBuf,
}

/// The node as the endpoint sees it. One per node. No call may block: all requests share a thread.
pub trait Node: Send + Sync + 'static {
    /// Puts a question to a shard; one whose inbox is full gives it back.
    fn ask(&self, shard: ShardId, ask: Ask) -> Result<(), Ask>;
    /// What shaping holds now.
    fn shapes(&self) -> Arc<Shapes>;
    /// Sets a live override, on all shards.
    ///
    /// # Errors
    /// What is wrong with it.
    fn set_override(&self, wish: Wish, now: Moment) -> Result<(), NotSet>;
    /// Takes one back; whether there was one.
    fn cancel_override(&self, target: &Target, now: Moment) -> bool;
    /// What rules of automation have seen and done.
    fn acts(&self) -> Vec<Act>;
    /// How far young sources are.
    fn warmups(&self, now: Moment) -> Vec<Progress>;
    /// The egress sources.
    fn sources(&self, now: Moment) -> Vec<SourceState>;
    /// Whether a restart would forget nothing of the overrides. One that was just set is kept in a moment.
    fn is_kept(&self) -> bool;
    /// Whether mail is taken.
    fn is_ready(&self) -> bool;
    /// In a few words, for an operator. Only asked for when it is not ready.
    fn why_not_ready(&self) -> String;
    /// Sets the gauges that nobody else keeps up to date; called before each scrape.
    fn refresh(&self);
}

/// Binds the endpoint's socket, early, so that an address in use is told at start.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// The running endpoint. One per node. Ends when dropped.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    _thread: OutsideThread,
}

impl Control {
    /// Where it listens: the port that was given for port 0.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets requests under way end (three seconds at most), and ends the thread.
    pub fn stop(self) {
        drop(self);
    }
}

/// Starts the thread that answers on `listener`.
pub fn start(
    options: Options,
    listener: TcpListener,
    node: Arc<dyn Node>,
    exposition: Exposition,
) -> io::Result<Control> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let thread = OutsideThread::start("sidecar", |stopped| {
        let door = Door::new(tokio::net::TcpListener::from_std(listener)?);
        let desk = Arc::new(Desk::new(options, node, exposition));
        Ok(serve(door, desk, stopped))
    })?;
    Ok(Control {
        address,
        _thread: thread,
    })
}

async fn serve(door: Door, desk: Arc<Desk>, stopped: watch::Receiver<bool>) {
    let upkeep = Arc::clone(&desk);
    let router: Router = routes(desk);
    let service = router.into_make_service_with_connect_info::<Peer>();
    let graceful = axum::serve(door, service).with_graceful_shutdown(stop(stopped.clone()));
    tokio::select! {
        // It never fails: errors are those of single connections.
        _ = graceful => {}
        () = give_up(stopped) => {}
        () = keep_up(&upkeep) => {}
    }
}

async fn stop(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only when the handle is, which is a stop too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn give_up(stopped: watch::Receiver<bool>) {
    stop(stopped).await;
    tokio::time::sleep(GRACE).await;
}

async fn keep_up(desk: &Desk) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        desk.upkeep();
    }
}
