//! Accepts connections of one listener on one shard, each into a task of its own.

use core::cell::Cell;
use core::time::Duration;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use posthaste_core::smtp::server;
use posthaste_core::words::{Enhanced, Reply};

use super::Intake;
use crate::net::Census;
use crate::observe::ConnectionRefusal;
use crate::rt::{Bound, Listener, TcpStream, sleep, spawn};

/// Pause after a failed accept: most often descriptors ran out, and come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a shard needs to open one listener.
#[derive(Debug)]
pub struct Doorway {
    /// As the configuration has its address.
    pub name: Arc<str>,
    pub socket: Bound,
    pub census: Arc<Census>,
    pub session: Arc<server::Config>,
}

/// One per listener and shard.
#[derive(Debug)]
pub struct Door {
    name: Arc<str>,
    listener: Listener,
    census: Arc<Census>,
    session: Arc<server::Config>,
    intake: Rc<Intake>,
    closing: Rc<Cell<bool>>,
}

impl Door {
    /// Listens. While `closing` is true, clients hear 421.
    ///
    /// # Errors
    /// When the kernel lets us bind but not listen.
    pub fn open(doorway: Doorway, intake: Rc<Intake>, closing: Rc<Cell<bool>>) -> io::Result<Self> {
        Ok(Self {
            name: doorway.name,
            listener: doorway.socket.listen()?,
            census: doorway.census,
            session: doorway.session,
            intake,
            closing,
        })
    }

    /// Accepts for ever. Does nothing else: a dropped accept loses its connection.
    pub async fn accept(self) {
        loop {
            match self.listener.accept().await {
                Ok(stream) => self.admit(stream),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn admit(&self, stream: TcpStream) {
        // A client that is gone already has no address.
        let Ok(peer) = stream.peer() else {
            return;
        };
        let seat = if self.closing.get() {
            let code = Some(Enhanced::new(4, 3, 2));
            let reply = Reply::new(421, code, "Shutting down");
            Err((ConnectionRefusal::Closed, reply))
        } else {
            self.census.seat(peer.ip()).map_err(|reply| {
                let is_full = self.census.is_full();
                let reason = if is_full {
                    ConnectionRefusal::Full
                } else {
                    ConnectionRefusal::Client
                };
                (reason, reply)
            })
        };
        match seat {
            Ok(seat) => {
                self.intake.meters.connections_accepted.increment(1);
                let intake = Rc::clone(&self.intake);
                let name = Arc::clone(&self.name);
                let config = Arc::clone(&self.session);
                spawn(async move {
                    intake.serve(stream, peer, name, config).await;
                    drop(seat);
                })
                .detach();
            }
            Err((reason, reply)) => {
                self.intake.meters.connection_refused(reason);
                spawn(turn_away(stream, reply)).detach();
            }
        }
    }
}

async fn turn_away(mut stream: TcpStream, reply: Reply) {
    // The reply fits an empty send buffer; whether it arrives is the client's affair.
    let _ = stream.write_all(format!("{reply}\r\n").as_bytes()).await;
    stream.finish();
}
