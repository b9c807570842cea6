//! A shard's brain, and peers that take everything at once.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::dispatch::{Action, Dispatch, Pull, ReportKind, Reporter};
use posthaste_core::words::{
    ConnectionId, Domain, Host, IdSequence, Labels, Message, MessageId, Moment, Outcome, Plan,
    Recovered, RecoveredRecipient, Reply, ShardId, SiteName,
};

use crate::T0;
use crate::mail::{domains, message};

struct Mute;

impl Reporter for Mute {
    fn report(
        &self,
        _: ReportKind,
        _: &Arc<Message>,
        _: &[(u16, Outcome)],
        _: Option<&str>,
        _: MessageId,
        _: Moment,
    ) -> Option<Message> {
        None
    }
}

/// A shard's brain without mail, which reports nothing.
pub fn brain() -> Dispatch {
    let ids = IdSequence::new(ShardId(0), 1);
    Dispatch::new(Arc::default(), Arc::default(), ids, 1, Box::new(Mute))
}

/// What is left of a message of one recipient after a restart: tried once, and due at `due`.
pub fn recovered(id: MessageId, domain: &Domain, due: Moment) -> Recovered {
    Recovered {
        id,
        received: T0,
        of: 1,
        labels: Labels::default(),
        unsettled: vec![RecoveredRecipient {
            recipient: 0,
            domain: domain.clone(),
            attempts: 1,
            due,
            last: Box::default(),
        }],
    }
}

/// A shard's brain with `depth` messages that wait, and peers that take everything at once.
pub struct Shard {
    brain: Dispatch,
    ids: IdSequence,
    names: Vec<Domain>,
    data: Bytes,
    open: Vec<ConnectionId>,
    turn: usize,
}

impl Shard {
    pub fn filled(depth: usize, domains_count: usize) -> Self {
        let mut shard = Self {
            brain: brain(),
            ids: IdSequence::new(ShardId(1), 1),
            names: domains(domains_count),
            data: Bytes::from(vec![b'x'; 10_240]),
            open: Vec::new(),
            turn: 0,
        };
        for n in 0..depth {
            let due = T0 + Duration::from_secs(3600 + n as u64 % 3600);
            let recovered = recovered(shard.ids.next(T0), &shard.names[n % domains_count], due);
            shard.brain.handle_recovered(recovered, T0);
        }
        shard
    }

    /// The next message, made outside of what is measured.
    pub fn message(&mut self) -> Arc<Message> {
        self.turn += 1;
        let domain = self.names[self.turn % self.names.len()].clone();
        message(&mut self.ids, &domain, &self.data)
    }

    /// One message in, and out by a connection that stands.
    pub fn deliver(&mut self, message: Arc<Message>) {
        self.brain.handle_committed(message, T0);
        self.drain();
        let Some(connection) = self.open.last().copied() else {
            return;
        };
        if let Pull::Work { seq, .. } = self.brain.pull(connection, T0) {
            let reply = Reply::new(250, None, "2.0.0 Ok: queued as 4D3B2C1A00");
            let outcomes = [(0, Outcome::Delivered(reply))];
            self.brain
                .handle_outcome(connection, seq, &outcomes, &host(), None, T0);
        } else {
            // It has carried as many messages as one connection may.
            self.open.pop();
            self.brain.handle_closed(connection, None, T0);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.brain.poll_action() {
            match action {
                Action::Connect { connection, .. } => self.open.push(connection),
                Action::Resolve(domain) => {
                    let until = T0 + Duration::from_secs(3600);
                    self.brain.handle_route(&domain, Ok(plan()), until, T0);
                }
                Action::Settle(_) => self.brain.handle_settled(1, T0),
                Action::Wake(_)
                | Action::Load(_)
                | Action::Recall(_)
                | Action::Store { .. }
                | Action::Forward { .. }
                | Action::Freed { .. }
                | Action::Tell(_)
                | Action::Fire(_)
                | Action::Quit(_) => {}
            }
        }
    }
}

fn host() -> Host {
    Host {
        name: "mx1.provider.example".into(),
        address: ([192, 0, 2, 1], 25).into(),
        preference: 10,
    }
}

/// The route to a site of one host.
pub fn plan() -> Arc<Plan> {
    Arc::new(Plan {
        site: SiteName::new("(mx1|mx2).provider.example"),
        names: "mx1.provider.example mx2.provider.example".into(),
        mx_hosts: vec!["mx1.provider.example".into(), "mx2.provider.example".into()],
        hosts: vec![host()],
    })
}
