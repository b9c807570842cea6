//! Connections between a brain and a peer: a real client dialogue, and the octets under way.

use std::collections::BTreeMap;

use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;
use posthaste_core::dispatch::{Pull, Suspension};
use posthaste_core::egress::SourceId;
use posthaste_core::smtp::client::{Action as Said, Dialogue, Transaction};
use posthaste_core::words::{Cause, ConnectionId, Host, Labels, MessageId, Moment, Outcome};
use smallvec::SmallVec;

use crate::ledger::Taken;
use crate::peer::{Answer, Server};
use crate::world::{Event, World};

/// One TCP connection, or the attempt at one.
pub(crate) struct Link {
    pub(crate) shard: usize,
    pub(crate) id: ConnectionId,
    pub(crate) site: usize,
    pub(crate) source: Option<SourceId>,
    pub(crate) host: Host,
    pub(crate) latency: Duration,
    /// `None` before the connection stands and after its end.
    pub(crate) dialogue: Option<Dialogue>,
    pub(crate) server: Server,
    pub(crate) is_over: bool,
    is_greeted: bool,
    is_idle: bool,
    wake_due: bool,
    pub(crate) in_flight: Vec<(u64, MessageId, SmallVec<[u16; 1]>, Labels)>,
}

impl Link {
    pub(crate) const fn new(
        shard: usize,
        id: ConnectionId,
        (site, source): (usize, Option<SourceId>),
        host: Host,
        latency: Duration,
        server: Server,
    ) -> Self {
        Self {
            shard,
            id,
            site,
            source,
            host,
            latency,
            dialogue: None,
            server,
            is_over: false,
            is_greeted: false,
            is_idle: false,
            wake_due: false,
            in_flight: Vec::new(),
        }
    }
}

impl Link {
    /// Whether something is still under way on it.
    pub(crate) fn is_awaited(l: u64, events: &BTreeMap<(Moment, u64), (u32, Event)>) -> bool {
        events.values().any(|(_, event)| match event {
            Event::Connected { link }
            | Event::ToServer { link, .. }
            | Event::ToClient { link, .. }
            | Event::HungUp { link } => *link == l,
            Event::Inject
            | Event::Commit
            | Event::Route { .. }
            | Event::Loaded { .. }
            | Event::Forwarded { .. }
            | Event::Freed { .. }
            | Event::News { .. }
            | Event::Resumed { .. }
            | Event::Crash
            | Event::Shutdown
            | Event::Full(_)
            | Event::FailedSync
            | Event::Flush => false,
        })
    }
}

fn source() -> Option<SocketAddr> {
    Some(SocketAddr::from(([198, 51, 100, 1], 40_000)))
}

impl World {
    /// The connection attempt is decided.
    pub(crate) fn connected(&mut self, l: u64, stands: bool) {
        let now = self.now;
        let link = self.links.get_mut(&l).expect("links stay");
        if link.is_over {
            return;
        }
        if let Some(outage) = self.fleets.outage(link.source, now) {
            link.is_over = true;
            let (shard, id, source) = (link.shard, link.id, link.source);
            let source = source.expect("a source that can be missed");
            return self.suspend(shard, id, source, outage);
        }
        if !stands {
            link.is_over = true;
            let detail = "connection refused".into();
            let cause = Cause::Connect { detail };
            let brain = &mut self.nodes[link.shard].brain;
            brain.handle_unusable(link.id, &link.host, &cause, now);
            brain.handle_connect_failed(link.id, cause, now);
            return;
        }
        link.dialogue = Some(Dialogue::new(self.client.clone(), now));
        let answers = link.server.greet(&mut self.rng);
        self.carry(l, answers);
        self.pump(l);
    }

    /// The connection's source is of no use for so long.
    fn suspend(&mut self, shard: usize, id: ConnectionId, source: SourceId, outage: Duration) {
        let now = self.now;
        let until = now + outage;
        let why = "not on this host".into();
        let brain = &mut self.nodes[shard].brain;
        brain.handle_source_suspended(source, Suspension { until, why }, now);
        let why = Cause::Ours {
            detail: "not on this host".into(),
        };
        brain.handle_no_source(id, why, until, now);
        self.after(outage, Event::Resumed { shard, source });
    }

    /// What the server does with octets; the client may be gone by then.
    pub(crate) fn reach_server(&mut self, l: u64, bytes: &[u8]) {
        let link = self.links.get_mut(&l).expect("links stay");
        let answers = link.server.handle_bytes(bytes, &mut self.rng);
        self.carry(l, answers);
    }

    fn carry(&mut self, l: u64, answers: Vec<Answer>) {
        let latency = self.links[&l].latency;
        let mut unheard: Option<Taken> = None;
        for answer in answers {
            match answer {
                Answer::Take { recipients, data } => {
                    unheard = Some(self.ledger.take(&recipients, &data));
                }
                Answer::Say(text) => {
                    let taken = unheard.take();
                    // Replies come in pieces; the last one tells.
                    let cut = self.rng.below(2 * text.len()).min(text.len());
                    let (first, rest) = text.split_at(cut);
                    let (link, bytes) = (l, first.to_owned());
                    let piece = Event::ToClient {
                        link,
                        bytes,
                        taken: None,
                    };
                    let bytes = rest.to_owned();
                    self.after(latency, piece);
                    self.after(latency, Event::ToClient { link, bytes, taken });
                }
                Answer::HangUp => self.after(latency, Event::HungUp { link: l }),
            }
        }
        if let Some(taken) = unheard {
            self.ledger.forgive_all(&taken);
        }
    }

    /// Octets from the server; what it took is known to us if the client can still hear of it.
    pub(crate) fn reach_client(&mut self, l: u64, bytes: &str, taken: Option<&Taken>) {
        let now = self.now;
        let link = self.links.get_mut(&l).expect("links stay");
        match link.dialogue.as_mut() {
            Some(dialogue) => dialogue.handle_bytes(bytes.as_bytes(), now),
            None => {
                if let Some(taken) = taken {
                    self.ledger.forgive_all(taken);
                }
            }
        }
        self.pump(l);
    }

    pub(crate) fn hung_up(&mut self, l: u64) {
        let link = self.links.get_mut(&l).expect("links stay");
        if let Some(dialogue) = link.dialogue.as_mut() {
            dialogue.handle_closed("reset by peer");
        }
        self.pump(l);
    }

    pub(crate) fn wake(&mut self, l: u64) {
        let link = self.links.get_mut(&l).expect("links stay");
        if link.is_idle {
            self.pull(l);
            self.pump(l);
        } else {
            link.wake_due = true;
        }
    }

    pub(crate) fn quit(&mut self, l: u64) {
        let now = self.now;
        let link = self.links.get_mut(&l).expect("links stay");
        match link.dialogue.as_mut() {
            Some(dialogue) => dialogue.handle_quit(now),
            None => {
                link.is_over = true;
                let brain = &mut self.nodes[link.shard].brain;
                brain.handle_closed(link.id, None, now);
            }
        }
        self.pump(l);
    }

    fn pull(&mut self, l: u64) {
        let now = self.now;
        let link = self.links.get_mut(&l).expect("links stay");
        let Some(dialogue) = link.dialogue.as_mut() else {
            return;
        };
        link.wake_due = false;
        match self.nodes[link.shard].brain.pull(link.id, now) {
            Pull::Work {
                message,
                recipients,
                seq,
            } => {
                for recipient in &recipients {
                    let is_new = self.busy.insert((message.id, *recipient));
                    assert!(is_new, "{}/{recipient} is under way twice", message.id);
                }
                link.is_idle = false;
                let labels = message.labels.clone();
                link.in_flight
                    .push((seq, message.id, recipients.clone(), labels.clone()));
                let (site, source) = (link.site, link.source);
                let transaction = Transaction {
                    seq,
                    message,
                    recipients,
                };
                dialogue.handle_transaction(transaction, now);
                self.count_message(site, source, &labels);
            }
            Pull::Wait => dialogue.handle_no_work(now),
            Pull::Quit => dialogue.handle_quit(now),
        }
    }

    fn land(&mut self, l: u64, seq: u64) {
        let link = self.links.get_mut(&l).expect("links stay");
        let at = link.in_flight.iter().position(|(s, ..)| *s == seq);
        let (_, id, recipients, _) = link.in_flight.swap_remove(at.expect("it was given"));
        for recipient in recipients {
            self.busy.remove(&(id, recipient));
        }
    }

    fn outcome(&mut self, l: u64, seq: u64, outcomes: &[(u16, Outcome)]) {
        self.land(l, seq);
        let link = &self.links[&l];
        let brain = &mut self.nodes[link.shard].brain;
        brain.handle_outcome(link.id, seq, outcomes, &link.host, source(), self.now);
        // Said twice is heard once.
        brain.handle_outcome(link.id, seq, outcomes, &link.host, source(), self.now);
    }

    /// Does what the dialogue asks for.
    pub(crate) fn pump(&mut self, l: u64) {
        let now = self.now;
        loop {
            let link = self.links.get_mut(&l).expect("links stay");
            let Some(dialogue) = link.dialogue.as_mut() else {
                return;
            };
            let Some(said) = dialogue.poll_action() else {
                return;
            };
            let brain = &mut self.nodes[link.shard].brain;
            match said {
                Said::Send(segments) => {
                    let latency = link.latency;
                    let bytes = Bytes::from(segments.concat());
                    self.after(latency, Event::ToServer { link: l, bytes });
                }
                Said::Ready => {
                    if !link.is_greeted {
                        link.is_greeted = true;
                        let offered = dialogue.offered();
                        let (dsn, esmtp) = (offered.dsn, offered.esmtp);
                        brain.handle_greeted(link.id, &link.host, source(), dsn, esmtp);
                        brain.handle_connected(link.id, now);
                    }
                    self.pull(l);
                }
                Said::Idle => {
                    link.is_idle = true;
                    if link.wake_due {
                        self.pull(l);
                    }
                }
                Said::Outcome { seq, outcomes } => self.outcome(l, seq, &outcomes),
                Said::Returned(transaction) => {
                    brain.handle_returned(link.id, transaction.seq, now);
                    self.fleets.discount(link.source, now);
                    self.land(l, transaction.seq);
                }
                Said::Closed {
                    cause,
                    before_ready,
                } => {
                    link.dialogue = None;
                    link.is_over = true;
                    assert!(link.in_flight.is_empty(), "an outcome is missing");
                    match cause {
                        Some(cause) if before_ready => {
                            brain.handle_unusable(link.id, &link.host, &cause, now);
                            brain.handle_connect_failed(link.id, cause, now);
                        }
                        cause => brain.handle_closed(link.id, cause, now),
                    }
                }
            }
        }
    }
}
