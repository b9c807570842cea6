//! One outbound connection, from the first host of its plan to its end.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::net::IpAddr;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::FutureExt;
use posthaste_core::dispatch::Pull;
use posthaste_core::shaping::Manner;
use posthaste_core::smtp::client::{
    Action, Config, Dialogue, EightBit, Segments, Timeouts, Transaction,
};
use posthaste_core::words::{Cause, ConnectionId, Host, Plan};
use smallvec::SmallVec;

use super::Brain;
use crate::rt::{Bell, Ring, TcpStream, connect, now};

/// Octets read at once: replies are short.
const READ_OCTETS: usize = 16 << 10;

/// What all outbound connections of one shard share.
pub struct Delivery {
    brain: Rc<Brain>,
    dialogue: Arc<Config>,
    /// Egress addresses in turn; empty: the kernel chooses.
    sources: Vec<IpAddr>,
    turn: Cell<usize>,
    open: Cell<u32>,
    connections_max: u32,
    buffer: RefCell<Box<[u8]>>,
}

/// How a connection to one host ended.
enum End {
    /// Nothing could be sent: the next host may be tried.
    Unusable(Cause),
    Over,
}

/// A connection that stands.
struct Line<'a> {
    id: ConnectionId,
    stream: TcpStream,
    bell: &'a Bell,
    host: &'a Host,
    source: Option<SocketAddr>,
    /// Without progress of a write.
    write_patience: Duration,
    is_idle: bool,
    was_ready: bool,
    /// There was word of work while a transaction was under way.
    has_word: bool,
}

impl Delivery {
    pub fn new(
        brain: Rc<Brain>,
        dialogue: Arc<Config>,
        sources: Vec<IpAddr>,
        connections_max: u32,
    ) -> Self {
        Self {
            brain,
            dialogue,
            sources,
            turn: Cell::new(0),
            open: Cell::new(0),
            connections_max,
            buffer: RefCell::new(vec![0; READ_OCTETS].into()),
        }
    }

    /// Carries connection `id` from the first host of `plan` that has us to its end; equal hosts take
    /// turns from connection to connection. The bell's
    /// `Work` means that there may be a transaction, its `End` that this is enough.
    pub async fn run(&self, id: ConnectionId, plan: &Plan, manner: &Manner, bell: &Bell) {
        if self.open.get() >= self.connections_max {
            let cause = Cause::Ours {
                detail: "too many connections for the limit of open files".into(),
            };
            return self
                .brain
                .tell(|brain| brain.handle_connect_failed(id, cause, now()));
        }
        self.open.set(self.open.get() + 1);
        self.try_hosts(id, plan, manner, bell).await;
        self.open.set(self.open.get() - 1);
    }

    async fn try_hosts(&self, id: ConnectionId, plan: &Plan, manner: &Manner, bell: &Bell) {
        let mut last = Cause::Connect {
            detail: "shaping leaves no address of this site".into(),
        };
        let dialogue = Arc::new(self.dialogue_of(manner));
        let order = manner.order(plan, id.0);
        for host in order.iter().map(|index| &plan.hosts[*index]) {
            let ended = match self.reach(host, manner.waits.connect, bell).await {
                Ok(stream) => {
                    let line = Line {
                        id,
                        source: stream.local().ok(),
                        stream,
                        bell,
                        host,
                        write_patience: manner.waits.data,
                        is_idle: false,
                        was_ready: false,
                        has_word: false,
                    };
                    self.converse(Arc::clone(&dialogue), line).await
                }
                Err(error) => End::Unusable(Cause::Connect {
                    detail: format!("{} ({}): {error}", host.name, host.address).into(),
                }),
            };
            match ended {
                End::Over => return,
                End::Unusable(cause) => last = cause,
            }
            if bell.take(Ring::End) {
                bell.ring(Ring::End);
                break;
            }
        }
        self.brain
            .tell(|brain| brain.handle_connect_failed(id, last, now()));
    }

    fn dialogue_of(&self, manner: &Manner) -> Config {
        let waits = &manner.waits;
        let base = &self.dialogue;
        Config {
            ehlo_name: match &manner.ehlo_name {
                Some(name) => name.to_string(),
                None => base.ehlo_name.clone(),
            },
            pipelining: manner.pipelining,
            eight_bit: if manner.ignores_8bit {
                EightBit::Send
            } else {
                EightBit::Refuse
            },
            timeouts: Timeouts {
                banner: waits.banner,
                ehlo: waits.ehlo,
                mail: waits.mail_from,
                rcpt: waits.rcpt_to,
                data: waits.data,
                dot: waits.data_dot,
                rset: waits.rset,
                quit: base.timeouts.quit,
            },
            replies: base.replies.clone(),
        }
    }

    async fn reach(&self, host: &Host, patience: Duration, bell: &Bell) -> io::Result<TcpStream> {
        let source = self.source_for(host)?;
        let ended = async {
            poll_fn(|cx| bell.poll(Ring::End, cx)).await;
            Err(io::Error::other("this host is shutting down"))
        };
        let connected = connect(host.address, source, patience).or(ended).await;
        match source {
            // An egress address that this host has not is the operator's to see.
            Some(source) => connected
                .map_err(|error| io::Error::new(error.kind(), format!("from {source}: {error}"))),
            None => connected,
        }
    }

    /// The next egress address of the host's family.
    fn source_for(&self, host: &Host) -> io::Result<Option<IpAddr>> {
        if self.sources.is_empty() {
            return Ok(None);
        }
        let is_v4 = host.address.is_ipv4();
        let fit = || self.sources.iter().filter(|ip| ip.is_ipv4() == is_v4);
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        match fit().count() {
            0 => Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "no source address of that family",
            )),
            count => Ok(fit().nth(turn % count).copied()),
        }
    }

    async fn converse(&self, dialogue: Arc<Config>, mut line: Line<'_>) -> End {
        let mut dialogue = Dialogue::new(dialogue, now());
        loop {
            while let Some(action) = dialogue.poll_action() {
                if let Some(end) = self.carry_out(action, &mut dialogue, &mut line).await {
                    line.stream.finish();
                    return end;
                }
            }
            line.bell.set_deadline(dialogue.poll_timeout());
            self.listen(&mut dialogue, &mut line).await;
        }
    }

    async fn carry_out(
        &self,
        action: Action,
        dialogue: &mut Dialogue,
        line: &mut Line<'_>,
    ) -> Option<End> {
        match action {
            Action::Send(segments) => {
                if let Err(error) = self.send(segments, dialogue, line).await {
                    self.hear_last_words(dialogue, line).await;
                    dialogue.handle_closed(&error.to_string());
                }
            }
            Action::Ready => self.give_work(dialogue, line),
            Action::Idle => {
                line.is_idle = true;
                if line.has_word {
                    self.give_idle_work(dialogue, line);
                }
            }
            Action::Outcome { seq, outcomes } => self.brain.tell(|brain| {
                brain.handle_outcome(line.id, seq, &outcomes, line.host, line.source, now());
            }),
            Action::Returned(transaction) => self.brain.tell(|brain| {
                brain.handle_returned(line.id, transaction.seq, now());
            }),
            Action::Closed {
                cause: Some(cause),
                before_ready: true,
            } => return Some(End::Unusable(cause)),
            Action::Closed {
                cause,
                before_ready,
            } => {
                self.brain.tell(|brain| match (cause, before_ready) {
                    // We ended it ourselves before anything could be sent.
                    (None, true) => brain.handle_connect_failed(line.id, gave_up(), now()),
                    (cause, _) => brain.handle_closed(line.id, cause, now()),
                });
                return Some(End::Over);
            }
        }
        None
    }

    fn give_work(&self, dialogue: &mut Dialogue, line: &mut Line<'_>) {
        let at = now();
        let pull = self.brain.tell(|brain| {
            if !line.was_ready {
                line.was_ready = true;
                let offered = dialogue.offered();
                let (dsn, esmtp) = (offered.dsn, offered.esmtp);
                brain.handle_greeted(line.id, line.host, line.source, dsn, esmtp);
                brain.handle_connected(line.id, at);
            }
            brain.pull(line.id, at)
        });
        line.is_idle = false;
        line.has_word = false;
        match pull {
            Pull::Work {
                message,
                recipients,
                seq,
            } => dialogue.handle_transaction(
                Transaction {
                    seq,
                    message,
                    recipients,
                },
                at,
            ),
            Pull::Wait => dialogue.handle_no_work(at),
            Pull::Quit => dialogue.handle_quit(at),
        }
    }

    /// Waits for the peer, for work when idle, for the end, or for the time-out.
    async fn listen(&self, dialogue: &mut Dialogue, line: &mut Line<'_>) {
        let bell = line.bell;
        let stream = &mut line.stream;
        let rung = poll_fn(|cx| {
            if bell.poll_rung(cx).is_ready() {
                return Poll::Ready(true);
            }
            let mut buffer = self.buffer.borrow_mut();
            match stream.poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => dialogue.handle_closed("closed by the peer"),
                Poll::Ready(Ok(octets)) => dialogue.handle_bytes(&buffer[..octets], now()),
                Poll::Ready(Err(error)) => dialogue.handle_closed(&error.to_string()),
            }
            Poll::Ready(false)
        })
        .await;
        if !rung {
            return;
        }
        if bell.take(Ring::End) {
            dialogue.handle_quit(now());
        }
        if bell.take(Ring::Deadline) {
            dialogue.handle_timeout(now());
        }
        if bell.take(Ring::Work) {
            line.has_word = true;
            if line.is_idle {
                self.give_idle_work(dialogue, line);
            }
        }
    }

    /// An idle dialogue asks for nothing: it takes a transaction or goes on waiting.
    fn give_idle_work(&self, dialogue: &mut Dialogue, line: &mut Line<'_>) {
        let at = now();
        line.has_word = false;
        match self.brain.tell(|brain| brain.pull(line.id, at)) {
            Pull::Work {
                message,
                recipients,
                seq,
            } => {
                line.is_idle = false;
                let transaction = Transaction {
                    seq,
                    message,
                    recipients,
                };
                dialogue.handle_transaction(transaction, at);
            }
            Pull::Wait => {}
            Pull::Quit => dialogue.handle_quit(at),
        }
    }

    async fn send(
        &self,
        segments: Segments,
        dialogue: &mut Dialogue,
        line: &mut Line<'_>,
    ) -> io::Result<()> {
        let mut rest = segments;
        let (stream, bell) = (&mut line.stream, line.bell);
        while !rest.is_empty() {
            bell.take(Ring::Deadline);
            bell.set_deadline(Some(now() + line.write_patience));
            let slices: SmallVec<[IoSlice<'_>; 8]> =
                rest.iter().map(|segment| IoSlice::new(segment)).collect();
            let written = stream.write_some(&slices, bell).await?;
            drop(slices);
            if !advance(&mut rest, written) {
                dialogue.handle_progress(now());
            }
        }
        Ok(())
    }

    /// A peer that closes in the midst of our data may have said why.
    async fn hear_last_words(&self, dialogue: &mut Dialogue, line: &mut Line<'_>) {
        let stream = &mut line.stream;
        poll_fn(|cx| {
            let mut buffer = self.buffer.borrow_mut();
            if let Poll::Ready(Ok(octets @ 1..)) = stream.poll_read(cx, &mut buffer) {
                dialogue.handle_bytes(&buffer[..octets], now());
            }
            Poll::Ready(())
        })
        .await;
    }
}

fn gave_up() -> Cause {
    Cause::Ours {
        detail: "the connection was given up".into(),
    }
}

/// Drops the first `written` octets; whether nothing is left.
fn advance(rest: &mut Segments, mut written: usize) -> bool {
    let mut whole = 0;
    for segment in rest.iter_mut() {
        if written < segment.len() {
            let _gone = segment.split_to(written);
            break;
        }
        written -= segment.len();
        whole += 1;
    }
    rest.drain(..whole);
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_partial_write_leaves_the_rest_in_order() {
        let mut rest: Segments = [&b"MAIL"[..], b"", b"body", b"."]
            .into_iter()
            .map(Bytes::from_static)
            .collect();
        assert!(!advance(&mut rest, 6));
        assert_eq!(rest.concat(), b"dy.");
        assert!(!advance(&mut rest, 2));
        assert!(advance(&mut rest, 1));
    }
}
