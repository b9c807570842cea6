//! What benchmarks and instruction counts are made of: fixed inputs that look like real mail, and the
//! steps of core that are measured. No clock, no chance: the same octets in every run.

use std::sync::Arc;

use core::time::Duration;

use bytes::Bytes;
use posthaste_core::dispatch::{Action, Config, Dispatch, Pull, ReportKind, Reporter};
use posthaste_core::queue::{Due, Entries, Entry, EntryId, Ready, Recipients};
use posthaste_core::smtp::server;
use posthaste_core::words::{
    Address, BodyKind, ConnectionId, Content, Domain, Envelope, Host, IdSequence, Message,
    MessageId, Moment, Notify, Outcome, Plan, Reception, Recipient, Recovered, RecoveredRecipient,
    Reply, ShardId, SiteName,
};

/// The time of every fixture.
pub const T0: Moment = Moment::from_secs(1_800_000_000);

/// One transaction's commands, as busy clients write them.
pub const COMMANDS: &[&[u8]] = &[
    b"EHLO mail.sender.example",
    b"MAIL FROM:<bounce-1234567@news.sender.example> SIZE=10240 BODY=8BITMIME",
    b"RCPT TO:<somebody.or.other@mailbox.provider.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;somebody.or.other@mailbox.provider.example",
    b"RCPT TO:<a@example.com>",
    b"DATA",
    b"BDAT 10240 LAST",
    b"RSET",
    b"QUIT",
];

/// What providers answer, one reply after the other.
pub const REPLIES: &[u8] = b"220 mx.provider.example ESMTP ready\r\n\
250-mx.provider.example at your service\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n\
250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n\
250 2.1.0 OK 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
250 2.1.5 OK 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
354 Go ahead\r\n\
250 2.0.0 OK 1800000000 4fb4d7f45d1cf-5d0ab31d0a5si1234567a12.345 - gsmtp\r\n\
421-4.7.28 Our system has detected an unusual rate of mail\r\n\
421 4.7.28 originating from your network.\r\n";

/// A header of a newsletter: folded fields, a signature, the fields that bulk senders add.
pub fn header() -> Vec<u8> {
    let mut text = String::from(
        "Received: from app-7.sender.example ([192.0.2.17])\r\n\tby mta.sender.example with ESMTP id 01JG\r\n\
         \tfor <somebody@provider.example>;\r\n\tMon, 15 Jan 2027 08:00:00 +0000\r\n\
         DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; s=s1;\r\n\
         \th=from:to:subject:date:message-id:list-unsubscribe;\r\n",
    );
    for line in 0..6 {
        text.push_str(&format!("\t{}\r\n", "bAse64".repeat(11 + line % 2)));
    }
    text.push_str(
        "From: The News <news@sender.example>\r\nTo: somebody@provider.example\r\n\
         Subject: =?utf-8?q?What_happened_this_week?=\r\nDate: Mon, 15 Jan 2027 08:00:00 +0000\r\n\
         Message-ID: <1234567@news.sender.example>\r\nMIME-Version: 1.0\r\n\
         List-Unsubscribe: <https://sender.example/u/1234567>,\r\n <mailto:u-1234567@sender.example>\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
    );
    text.into_bytes()
}

/// A message of about `octets` as a client writes it: stuffed, and ended by the lone dot. One line in
/// 64 begins with a dot.
pub fn stuffed(octets: usize) -> Vec<u8> {
    let mut data = header();
    let mut line = 0;
    while data.len() < octets {
        line += 1;
        if line % 64 == 0 {
            data.extend_from_slice(b"..a line that began with one dot\r\n");
        }
        data.extend_from_slice(
            b"<p>Seventy octets of text, as quoted-printable lines mostly are.</p>=\r\n",
        );
    }
    data.extend_from_slice(b".\r\n");
    data
}

/// A message of 10 KiB to one recipient of `domain`.
pub fn message(ids: &mut IdSequence, domain: &Domain, data: &Bytes) -> Arc<Message> {
    Arc::new(Message {
        id: ids.next(T0),
        envelope: Envelope {
            sender: Address::parse("bounce-12345@news.sender.example").ok(),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: vec![Recipient {
                address: Address::parse(&format!("somebody.or.other@{domain}"))
                    .expect("a well-formed address"),
                notify: Notify::default(),
                orcpt: None,
            }],
        },
        reception: Reception {
            at: T0,
            peer: None,
            helo: "".into(),
            protocol: "ESMTP",
        },
        content: Content::default(),
        data: data.clone(),
    })
}

/// Names of `count` domains.
pub fn domains(count: usize) -> Vec<Domain> {
    (0..count)
        .map(|n| Domain::parse(&format!("domain{n}.example")).expect("a well-formed domain"))
        .collect()
}

/// A queue with `depth` entries: two thirds ready, fresh mail and retries, the rest waiting for its
/// time. One step takes an entry out and puts another one in, as a busy shard does.
pub struct Queue {
    entries: Entries,
    ready: Ready,
    due: Due<EntryId>,
    ids: IdSequence,
    seed: u64,
}

impl Queue {
    pub fn filled(depth: usize) -> Self {
        let mut queue = Self {
            entries: Entries::default(),
            ready: Ready::default(),
            due: Due::default(),
            ids: IdSequence::new(ShardId(0), 1),
            seed: 1,
        };
        for n in 0..depth {
            let id = queue.insert();
            if n % 3 == 2 {
                let due = queue.moment();
                queue.due.push(due, id);
            } else {
                queue.ready.push(id, n % 3 == 1, false, T0);
            }
        }
        queue
    }

    fn insert(&mut self) -> EntryId {
        let id = self.ids.next(T0);
        self.entries
            .insert(Entry::new(id, Recipients::One(0), 0, 1))
    }

    /// Within four hours, spread as jitter spreads them.
    fn moment(&mut self) -> Moment {
        self.seed = next(self.seed);
        T0 + Duration::from_micros(self.seed % 14_400_000_000)
    }

    /// The first ready entry leaves, a new one comes.
    pub fn insert_pop(&mut self) -> Option<MessageId> {
        let gone = self.ready.pop().map(|id| self.entries.remove(id).id());
        let id = self.insert();
        self.ready.push(id, false, false, T0);
        gone
    }

    /// The earliest timer goes off, and its entry is put off again.
    pub fn defer(&mut self) -> Option<Moment> {
        let due = self.due.next()?;
        let id = self.due.pop(due)?;
        let again = due
            + Duration::from_secs(300)
            + Duration::from_micros(next(self.seed) % 14_000_000_000);
        self.seed = next(self.seed);
        self.due.push(again, id);
        Some(due)
    }
}

/// Marsaglia's xorshift: spread without chance.
pub const fn next(mut seed: u64) -> u64 {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    seed
}

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
        let ids = IdSequence::new(ShardId(0), 1);
        let mut shard = Self {
            brain: Dispatch::new(Arc::new(Config::default()), ids, 1, Box::new(Mute)),
            ids: IdSequence::new(ShardId(1), 1),
            names: domains(domains_count),
            data: Bytes::from(vec![b'x'; 10_240]),
            open: Vec::new(),
            turn: 0,
        };
        for n in 0..depth {
            let due = T0 + Duration::from_secs(3600 + n as u64 % 3600);
            let id = shard.ids.next(T0);
            let domain = shard.names[n % domains_count].clone();
            let unsettled = vec![RecoveredRecipient {
                recipient: 0,
                domain,
                attempts: 1,
                due,
            }];
            let recovered = Recovered {
                id,
                received: T0,
                of: 1,
                unsettled,
            };
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
                | Action::Store { .. }
                | Action::Forward { .. }
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

fn plan() -> Arc<Plan> {
    Arc::new(Plan {
        site: SiteName::new("(mx1|mx2).provider.example"),
        names: "mx1.provider.example mx2.provider.example".into(),
        hosts: vec![host()],
    })
}

/// A server session that has greeted and heard EHLO.
pub fn session() -> server::Session {
    let hostname = Domain::parse("mta.sender.example").expect("a well-formed domain");
    let config = Arc::new(server::Config::new(hostname));
    let mut session = server::Session::new(config, ([127, 0, 0, 1], 40_000).into(), T0);
    answer(&mut session);
    session.handle_bytes(b"EHLO app.sender.example\r\n", T0);
    answer(&mut session);
    session
}

/// A whole pipelined transaction through a session; gives the octets of the message.
pub fn transact(session: &mut server::Session, message: &[u8]) -> usize {
    let mut bytes: &[u8] = b"MAIL FROM:<bounce-1234567@news.sender.example> SIZE=10240\r\n\
        RCPT TO:<somebody.or.other@provider.example>\r\nDATA\r\n";
    let mut taken = 0;
    for part in [&mut bytes, &mut &*message] {
        while !part.is_empty() {
            let used = session.handle_bytes(part, T0);
            *part = &part[used..];
            taken += answer(session);
        }
    }
    taken
}

/// Says yes to everything.
fn answer(session: &mut server::Session) -> usize {
    let mut taken = 0;
    while let Some(action) = session.poll_action() {
        match action {
            server::Action::Send => drop(session.take_output()),
            server::Action::Admit { .. } => session.handle_admitted(Ok(None), T0),
            server::Action::Open { .. } => {
                let prefix = b"Received: from app.sender.example ([127.0.0.1])\r\n\tby mta.sender.example\r\n";
                session.handle_opened(Ok(prefix.to_vec()), T0);
            }
            server::Action::Commit(submission) => {
                taken += submission.data.len();
                session.handle_committed(Ok(MessageId::from_u128(1)), T0);
            }
            server::Action::Close => {}
        }
    }
    taken
}
