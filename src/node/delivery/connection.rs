//! One outbound connection, from the first host of its plan to its end.

use core::cell::RefCell;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::FutureExt;
use posthaste_core::dispatch::{Pull, Suspension};
use posthaste_core::egress::SourceId;
use posthaste_core::shaping::Manner;
use posthaste_core::smtp::client::{
    Action, Config, Dialogue, EightBit, Segments, Timeouts, Transaction,
};
use posthaste_core::words::{Cause, ConnectionId, Host};
use smallvec::SmallVec;

use super::Brain;
use super::sources::{Outlet, Sources};
use super::way::{self, Trouble, Way};
use crate::rt::{Bell, Ring, TcpStream, now, sleep, spawn};

/// Octets read at once: replies are short.
const READ_OCTETS: usize = 16 << 10;
/// A lane whose source is suspended waits so much longer than until it is probed.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What all outbound connections of one shard share.
pub struct Delivery {
    brain: Rc<Brain>,
    /// Of the node.
    sources: Arc<Sources>,
    buffer: RefCell<Box<[u8]>>,
}

/// How a connection to one host ended.
enum End {
    /// Nothing could be sent: the next host may be tried.
    Unusable(Cause),
    Over,
}

/// Why there is no connection to a host.
enum Unreached {
    Host(Cause),
    /// From this source there is none to anybody.
    Source(Suspension),
}

/// A connection that stands.
struct Line<'a> {
    id: ConnectionId,
    stream: TcpStream,
    bell: &'a Bell,
    host: &'a Host,
    /// Without progress of a write.
    write_patience: Duration,
    source: Option<SocketAddr>,
    is_idle: bool,
    was_ready: bool,
    /// There was word of work while a transaction was under way.
    has_word: bool,
}

/// As the source speaks, in the manner of the path.
fn dialogue_of(manner: &Manner, of_source: &Config) -> Config {
    let waits = &manner.waits;
    Config {
        ehlo_name: match &manner.ehlo_name {
            Some(name) => name.to_string(),
            None => of_source.ehlo_name.clone(),
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
            quit: of_source.timeouts.quit,
        },
        replies: of_source.replies,
    }
}

impl Delivery {
    pub fn new(brain: Rc<Brain>, sources: Arc<Sources>) -> Self {
        Self {
            brain,
            sources,
            buffer: RefCell::new(vec![0; READ_OCTETS].into()),
        }
    }

    /// Carries connection `id` from the first of these hosts that has us to its end, from `source`
    /// alone. The bell's `Work` means that there may be a transaction, its `End` that this is enough.
    pub async fn run<'a>(
        &self,
        (id, source): (ConnectionId, Option<SourceId>),
        hosts: impl Iterator<Item = &'a Host>,
        manner: &Manner,
        bell: &Bell,
    ) {
        let outlet = self.sources.get(source);
        if let Some(suspension) = outlet.suspension() {
            // It came between the brain's choice and this.
            self.wait_for(id, suspension);
        } else if let Err(suspension) = self.try_hosts(id, hosts, manner, outlet, bell).await {
            self.wait_for(id, suspension);
        }
    }

    /// The source is of no use before it was probed; the probe takes a moment of its own.
    fn wait_for(&self, id: ConnectionId, suspension: Suspension) {
        let until = suspension.until.max(now()) + PAUSE_MIN;
        let why = ours(suspension.why.to_string());
        self.brain
            .tell(|brain| brain.handle_no_source(id, why, until, now()));
    }

    /// `Err`: it is the source that leads nowhere.
    async fn try_hosts<'a>(
        &self,
        id: ConnectionId,
        hosts: impl Iterator<Item = &'a Host>,
        manner: &Manner,
        outlet: &Outlet,
        bell: &Bell,
    ) -> Result<(), Suspension> {
        let mut last = Cause::Connect {
            detail: "shaping leaves no address of this site".into(),
        };
        for host in hosts {
            let ended = match self.reach(outlet, host, manner.waits.connect, bell).await {
                Ok(way) => {
                    let line = Line {
                        id,
                        source: way.from,
                        stream: way.stream,
                        bell,
                        host,
                        write_patience: manner.waits.data,
                        is_idle: false,
                        was_ready: false,
                        has_word: false,
                    };
                    let config = dialogue_of(manner, &outlet.dialogue);
                    self.converse(line, Arc::new(config)).await
                }
                Err(Unreached::Host(cause)) => End::Unusable(cause),
                Err(Unreached::Source(suspension)) => return Err(suspension),
            };
            match ended {
                End::Over => return Ok(()),
                End::Unusable(cause) => {
                    self.brain
                        .tell(|brain| brain.handle_unusable(id, host, &cause, now()));
                    last = cause;
                }
            }
            if bell.take(Ring::End) {
                bell.ring(Ring::End);
                break;
            }
        }
        self.brain
            .tell(|brain| brain.handle_connect_failed(id, last, now()));
        Ok(())
    }

    async fn reach(
        &self,
        outlet: &Outlet,
        host: &Host,
        patience: Duration,
        bell: &Bell,
    ) -> Result<Way, Unreached> {
        if !outlet.source.reaches(&host.address.ip()) {
            let detail = format!("{}: from {outlet}: of another family", told(host)).into();
            return Err(Unreached::Host(Cause::Connect { detail }));
        }
        let ended = async {
            poll_fn(|cx| bell.poll(Ring::End, cx)).await;
            Err(Unreached::Host(ours("this host is shutting down".into())))
        };
        self.leave(outlet, host, patience).or(ended).await
    }

    async fn leave(
        &self,
        outlet: &Outlet,
        host: &Host,
        patience: Duration,
    ) -> Result<Way, Unreached> {
        match way::reach(&outlet.source, host.address, patience).await {
            Ok(way) => {
                outlet.handle_connected();
                Ok(way)
            }
            Err(Trouble::Source(why)) => Err(Unreached::Source(self.suspend(outlet, &why))),
            Err(Trouble::Way(why)) => {
                let detail = format!("{}: from {outlet}: {why}", told(host));
                Err(Unreached::Host(ours(detail)))
            }
            Err(Trouble::Host(why)) => {
                outlet.handle_connected();
                let from = match outlet.name() {
                    Some(_) => format!("from {outlet}: "),
                    None => String::new(),
                };
                let detail = format!("{}: {from}{why}", told(host)).into();
                Err(Unreached::Host(Cause::Connect { detail }))
            }
        }
    }

    /// Leaves it alone, and sees to its return.
    fn suspend(&self, outlet: &Outlet, why: &str) -> Suspension {
        let at = now();
        let Some(mut pause) = self.sources.suspend(outlet, why, at) else {
            let until = at + PAUSE_MIN;
            let why = why.into();
            return outlet.suspension().unwrap_or(Suspension { until, why });
        };
        let source = SourceId(outlet.number);
        let tell = move |brain: &Brain, suspension: Suspension| {
            brain.tell(|brain| brain.handle_source_suspended(source, suspension, now()));
        };
        let suspension = Suspension {
            until: at + pause,
            why: why.into(),
        };
        tell(&self.brain, suspension.clone());
        let (sources, brain) = (Arc::clone(&self.sources), Rc::clone(&self.brain));
        // It ends with the probe that succeeds, or with the shard.
        spawn(async move {
            let outlet = sources.get(Some(source));
            loop {
                sleep(pause).await;
                let why = match way::probe(&outlet.source).await {
                    Ok(()) => break,
                    Err(Trouble::Source(why) | Trouble::Way(why) | Trouble::Host(why)) => why,
                };
                pause = sources.keep_suspended(outlet, &why, now());
                let until = now() + pause;
                let why = why.into();
                tell(&brain, Suspension { until, why });
            }
            sources.resume(outlet);
            brain.tell(|brain| brain.handle_source_resumed(source, now()));
        })
        .detach();
        suspension
    }

    async fn converse(&self, mut line: Line<'_>, config: Arc<Config>) -> End {
        let mut dialogue = Dialogue::new(config, now());
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
        if bell.take(Ring::Cut) {
            dialogue.handle_cut(now());
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
    ours("the connection was given up".into())
}

fn ours(detail: String) -> Cause {
    Cause::Ours {
        detail: detail.into(),
    }
}

fn told(host: &Host) -> String {
    format!("{} ({})", host.name, host.address)
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
