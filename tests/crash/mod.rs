//! One test for each durable state of the spool: get there, die, look what a start finds. Processes
//! die by SIGKILL, disks by a full file system and by a file system that loses its device.

mod child;
mod disk;
mod formats;
mod model;
mod states;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, Sender};
use posthaste::spool::{
    self, Batch, Completion, Event, Events, Failed, Health, Loaded, Next, Opened, Options, Running,
    Spool,
};
use posthaste_core::words::{
    Address, BodyKind, Change, Committed, Content, Envelope, Labels, Message, MessageId, Moment,
    Notify, Reception, Recipient, RecipientState, Recovered, ShardId,
};

const PATIENCE: Duration = Duration::from_secs(30);
const RECEIVED: Moment = Moment::from_secs(1_800_000_000);
const SHARD: ShardId = ShardId(0);
/// Small, so that files are written too.
const MEMTABLE_OCTETS_MAX: u64 = 4 << 20;

enum Heard {
    Committed(u64, Result<(), Failed>),
    Loaded(Option<Arc<Message>>),
}

struct Ear(Sender<Heard>);

impl Completion for Ear {
    fn committed(&self, token: u64, result: Result<Committed, Failed>) {
        let _ = self.0.send(Heard::Committed(token, result.map(|_| ())));
    }

    fn loaded(&self, _: MessageId, loaded: Loaded) {
        let message = match loaded {
            Loaded::Message(message) | Loaded::Recalled(message, _) => Some(message),
            Loaded::Gone | Loaded::Unreadable => None,
        };
        let _ = self.0.send(Heard::Loaded(message));
    }

    fn flush(&self) {}
}

/// A spool that runs, and what it said.
struct Started {
    spool: Spool,
    running: Running,
    events: Events,
    heard: Receiver<Heard>,
    found: BTreeMap<MessageId, Recovered>,
    token: u64,
}

fn options(path: &Path) -> Options {
    let mut options = Options::new(path, 1);
    options.memtable_octets_max = MEMTABLE_OCTETS_MAX;
    options.free_octets_min = 0;
    options
}

/// Opens, recovers and starts; nothing may be unreadable.
fn start(path: &Path) -> Started {
    start_with(options(path))
}

fn start_with(options: Options) -> Started {
    start_opened(spool::open(options).expect("the spool opens"))
}

fn start_opened(mut opened: Opened) -> Started {
    let mut found = BTreeMap::new();
    let recovery = opened
        .recover(&mut |recovered| {
            found.insert(recovered.id, recovered);
        })
        .expect("the spool is read");
    assert_eq!(recovery.named, []);
    let (sender, heard) = channel::unbounded();
    let spool = opened.spool();
    let (running, events) = opened.start(vec![Arc::new(Ear(sender))]);
    Started {
        spool,
        running,
        events,
        heard,
        found,
        token: 0,
    }
}

impl Started {
    /// The batch's token, once there is room for it.
    fn submit(&mut self, changes: Vec<Change>) -> u64 {
        self.token += 1;
        let mut batch = Batch {
            shard: SHARD,
            token: Some(self.token),
            changes,
        };
        while let Err(refused) = self.spool.submit(batch) {
            batch = refused;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.token
    }

    fn answer(&self) -> (u64, Result<(), Failed>) {
        match self.heard.recv_timeout(PATIENCE).expect("an answer") {
            Heard::Committed(token, result) => (token, result),
            Heard::Loaded(_) => panic!("nothing was asked for"),
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), Failed> {
        let token = self.submit(changes);
        let (answered, result) = self.answer();
        assert_eq!(answered, token);
        result
    }

    fn load(&self, id: u128) -> Option<Arc<Message>> {
        assert!(self.spool.load(SHARD, MessageId::from_u128(id)));
        match self.heard.recv_timeout(PATIENCE).expect("an answer") {
            Heard::Loaded(message) => message,
            Heard::Committed(..) => panic!("nothing was submitted"),
        }
    }

    fn wait_for(&self, health: Health) {
        let deadline = Instant::now() + PATIENCE;
        while self.spool.health() != health {
            assert!(Instant::now() < deadline, "{health:?} in time");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops and reads the rest of the events.
    fn stop(mut self) -> Vec<Event> {
        self.running.stop();
        let mut all = Vec::new();
        loop {
            match self.events.next(PATIENCE) {
                Next::Events(events) => all.extend(events),
                Next::Nothing => {}
                Next::Over => return all,
            }
        }
    }

    /// Who is left of message `id`: recipient, attempts, seconds from reception until it is due.
    fn left(&self, id: u128) -> Option<Vec<(u16, u16, u64)>> {
        let recovered = self.found.get(&MessageId::from_u128(id))?;
        let left = recovered.unsettled.iter();
        let left = left.map(|r| (r.recipient, r.attempts, r.due.since(RECEIVED).as_secs()));
        Some(left.collect())
    }
}

fn message(id: u128, recipients: usize, octets: usize) -> Arc<Message> {
    let recipient = |n: usize| Recipient {
        address: Address::parse(&format!("r{n}@d{n}.example")).expect("an address"),
        notify: Notify::default(),
        orcpt: None,
    };
    let mut data = format!("Subject: {id}\r\n\r\n").into_bytes();
    // Not all alike, so that a row that was mixed up is noticed.
    data.extend((0..octets).map(|n| b'a' + u8::try_from((n + octets) % 23).unwrap_or(0)));
    Arc::new(Message {
        id: MessageId::from_u128(id),
        envelope: Envelope {
            sender: Address::parse("sender@client.example").ok(),
            body: BodyKind::EightBitMime,
            smtputf8: false,
            ret: None,
            envid: Some("id".into()),
            recipients: (0..recipients).map(recipient).collect(),
        },
        reception: Reception {
            at: RECEIVED,
            peer: None,
            helo: "client.example".into(),
            protocol: "ESMTP",
        },
        content: Content::default(),
        labels: Labels::default(),
        data: Bytes::from(data),
    })
}

fn stored(id: u128, recipients: usize, octets: usize) -> Change {
    Change::Store(message(id, recipients, octets))
}

fn settled(id: u128, recipient: u16, of: u16) -> Change {
    Change::Settle {
        id: MessageId::from_u128(id),
        recipient,
        of,
        deferred_before: false,
    }
}

fn deferred(id: u128, recipient: u16, attempts: u16) -> Change {
    Change::Defer {
        id: MessageId::from_u128(id),
        recipient,
        state: RecipientState {
            attempts,
            due: RECEIVED + Duration::from_secs(u64::from(attempts) * 300),
            last: "451 later".into(),
        },
    }
}

fn line(text: &str) -> Change {
    Change::Append(text.as_bytes().into())
}

fn lines(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| String::from_utf8_lossy(&event.line).into_owned();
    events.iter().map(text).collect()
}
