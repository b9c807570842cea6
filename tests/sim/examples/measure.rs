//! Figures of the brain: octets and nanoseconds for each message. Run by hand:
//! `cargo run --release -p posthaste-sim --example measure`.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::print_stderr, reason = "figures are for reading")]
#![expect(clippy::unwrap_used, reason = "figures are made or not")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use core::time::Duration;

use bytes::Bytes;
use posthaste_core::dispatch::{Action, Dispatch, Pull, ReportKind, Reporter};
use posthaste_core::words::{
    Address, BodyKind, Cause, ConnectionId, Content, Domain, Envelope, Host, IdSequence, Message,
    MessageId, Moment, Notify, Outcome, Plan, Reception, Recipient, Record, RecordKind, Recovered,
    RecoveredRecipient, Reply, Response, RouteError, ShardId, SiteName,
};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is done by the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const T0: Moment = Moment::from_secs(1_800_000_000);

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

fn brain() -> Dispatch {
    let ids = IdSequence::new(ShardId(0), 1);
    Dispatch::new(Arc::default(), Arc::default(), ids, 1, Box::new(Mute))
}

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("domain{n}.example")).unwrap()
}

fn message(ids: &mut IdSequence, domain: &Domain, data: &Bytes) -> Arc<Message> {
    Arc::new(Message {
        id: ids.next(T0),
        envelope: Envelope {
            sender: Some(Address::parse("bounce-12345@news.sender.example").unwrap()),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: vec![Recipient {
                address: Address::parse(&format!("somebody.or.other@{domain}")).unwrap(),
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

fn recovered(id: MessageId, domain: &Domain, due: Moment) -> Recovered {
    Recovered {
        id,
        received: T0,
        of: 1,
        unsettled: vec![RecoveredRecipient {
            recipient: 0,
            domain: domain.clone(),
            attempts: 1,
            due,
        }],
    }
}

fn host() -> Host {
    Host {
        name: "mx1.domain.example".into(),
        address: ([192, 0, 2, 1], 25).into(),
        preference: 10,
    }
}

fn plan() -> Arc<Plan> {
    Arc::new(Plan {
        site: SiteName::new("(mx1|mx2).domain.example"),
        names: "mx1.domain.example mx2.domain.example".into(),
        mx_hosts: vec!["mx1.domain.example".into(), "mx2.domain.example".into()],
        hosts: vec![host()],
    })
}

fn delivered() -> Outcome {
    Outcome::Delivered(Reply::new(250, None, "2.0.0 Ok: queued as 4D3B2C1A00"))
}

/// Takes what the brain asks for; connections stand at once.
fn drain(brain: &mut Dispatch, open: &mut Vec<ConnectionId>, resolved: &mut Vec<Domain>) {
    let mut settled = Vec::new();
    while let Some(action) = brain.poll_action() {
        match action {
            Action::Connect { connection, .. } => open.push(connection),
            Action::Resolve(domain) => resolved.push(domain),
            Action::Settle(_) => settled.push(()),
            Action::Wake(_)
            | Action::Load(_)
            | Action::Store { .. }
            | Action::Forward { .. }
            | Action::Freed { .. }
            | Action::Quit(_) => {}
        }
    }
    brain.handle_settled(settled.len(), Moment::default());
}

/// One message in, one out, with `depth` others waiting for their time, or ready for `domains`.
fn cost(depth: usize, domains: usize) -> Duration {
    const ROUNDS: usize = 200_000;
    let mut ids = IdSequence::new(ShardId(1), 1);
    let data = Bytes::from(vec![b'x'; 10_000]);
    let names: Vec<Domain> = (0..domains).map(domain).collect();
    let mut brain = brain();
    let (mut open, mut resolved) = (Vec::new(), Vec::new());
    for n in 0..depth {
        let due = T0 + Duration::from_secs(3600 + n as u64 % 3600);
        brain.handle_recovered(recovered(ids.next(T0), &names[n % domains], due), T0);
    }
    let messages: Vec<_> = (0..ROUNDS)
        .map(|n| message(&mut ids, &names[n % domains], &data))
        .collect();
    let (peer, outcome) = (host(), delivered());
    let began = Instant::now();
    for message in messages {
        brain.handle_committed(message, T0);
        drain(&mut brain, &mut open, &mut resolved);
        for domain in resolved.drain(..) {
            let until = T0 + Duration::from_secs(3600);
            brain.handle_route(&domain, Ok(plan()), until, T0);
        }
        drain(&mut brain, &mut open, &mut resolved);
        if let Pull::Work { seq, .. } = brain.pull(open[open.len() - 1], T0) {
            let c = open[open.len() - 1];
            brain.handle_outcome(c, seq, &[(0, outcome.clone())], &peer, None, T0);
        } else {
            // Its thousand messages are carried.
            let c = open.pop().unwrap();
            brain.handle_closed(c, None, T0);
        }
    }
    began.elapsed() / u32::try_from(ROUNDS).unwrap()
}

fn cost_of_a_message() {
    for depth in [1_000, 1_000_000] {
        for domains in [1, 10_000] {
            eprintln!(
                "{depth} queued, {domains} domains: {:?}",
                cost(depth, domains)
            );
        }
    }
}

fn octets_of_an_entry() {
    const COUNT: usize = 1_000_000;
    let mut ids = IdSequence::new(ShardId(1), 1);
    for (what, domains, due) in [
        (
            "waiting for their time",
            1000,
            T0 + Duration::from_secs(3600),
        ),
        (
            "waiting, a domain each",
            COUNT,
            T0 + Duration::from_secs(3600),
        ),
        ("pending on a route", 1000, T0),
    ] {
        let names: Vec<Domain> = (0..domains).map(domain).collect();
        let before = IN_USE.load(Ordering::Relaxed);
        let mut brain = brain();
        let began = Instant::now();
        for n in 0..COUNT {
            brain.handle_recovered(recovered(ids.next(T0), &names[n % domains], due), T0);
        }
        let took = began.elapsed() / 1_000_000;
        let octets = (IN_USE.load(Ordering::Relaxed) - before) / COUNT;
        eprintln!("{what}: {octets} octets, {took:?} each");
    }
}

fn retries_and_failures() {
    const COUNT: usize = 1_000_000;
    let mut ids = IdSequence::new(ShardId(1), 1);
    let name = domain(0);
    let mut brain = brain();
    let (mut open, mut resolved) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        brain.handle_recovered(recovered(ids.next(T0), &name, T0), T0);
    }
    drain(&mut brain, &mut open, &mut resolved);
    let mut now = T0;
    let began = Instant::now();
    for _ in 0..20 {
        let why = RouteError::Dns("timeout");
        brain.handle_route(&name, Err(why), now, now);
        now = brain.poll_timeout().unwrap();
        brain.handle_timeout(now);
        drain(&mut brain, &mut open, &mut resolved);
    }
    eprintln!("a failed lookup over a million: {:?}", began.elapsed() / 20);
    let began = Instant::now();
    let until = now + Duration::from_secs(360_000);
    brain.handle_route(&name, Ok(plan()), until, now);
    eprintln!("a route for a million: {:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..20 {
        drain(&mut brain, &mut open, &mut resolved);
        for c in open.drain(..) {
            let detail = "refused".into();
            brain.handle_connect_failed(c, Cause::Connect { detail }, now);
        }
        now = brain.poll_timeout().unwrap();
        brain.handle_timeout(now);
    }
    eprintln!(
        "a failed connect over a million: {:?}",
        began.elapsed() / 20
    );
}

fn cost_of_a_record() {
    const ROUNDS: u32 = 500_000;
    let reply = Reply::new(250, None, "2.0.0 Ok: queued as 4D3B2C1A00");
    let mut octets = 0;
    let began = Instant::now();
    for n in 0..ROUNDS {
        let record = Record {
            kind: RecordKind::Delivery,
            id: MessageId::from_u128(u128::from(n) << 64).to_string(),
            sender: "bounce-12345@news.sender.example",
            recipient: "somebody.or.other@domain.example",
            queue: "domain.example",
            site: "(mx1|mx2).domain.example",
            size: 10_000,
            response: Response::from_reply(&reply, None),
            peer_address: None,
            timestamp: 1_800_000_000,
            created: 1_800_000_000,
            num_attempts: 1,
            egress_source: None,
            source_address: None,
            delivery_protocol: Some("ESMTP"),
            reception_protocol: "ESMTP",
            nodeid: "node-1",
            session_id: None,
        };
        octets += record.to_json().len();
    }
    let each = began.elapsed() / ROUNDS;
    eprintln!("a record: {each:?}, {} octets", octets / ROUNDS as usize);
}

fn main() {
    cost_of_a_message();
    octets_of_an_entry();
    retries_and_failures();
    cost_of_a_record();
}
