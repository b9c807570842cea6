//! One hot path of core, once, for `gate.py` to count its instructions under valgrind: the counting is
//! switched on while `counted` runs, so neither fixtures nor start-up are in the figure.
//!
//! `posthaste-count` names the cases; `posthaste-count NAME` runs one.

#![expect(clippy::print_stdout, reason = "names are for the gate to read")]

use std::hint::black_box;
use std::process::ExitCode;

use bytes::Bytes;
use posthaste_bench::{
    COMMANDS, Gate, Lanes, Queue, REPLIES, SITES, Shard, Tap, domains, header, many_rules, message,
    record, resolve_whole, session, shipped_rules, stuffed, transact,
};
use posthaste_core::mail::{fields, header_end};
use posthaste_core::shaping::{Overrides, Shaping};
use posthaste_core::smtp::command::{parse, parse_mail, parse_rcpt};
use posthaste_core::smtp::data::{Framing, LineEnds, Scanner, survey};
use posthaste_core::smtp::reply_parser::{ReplyLimits, ReplyParser};
use posthaste_core::words::{IdSequence, Reply, ShardId};

const READ: usize = 16 << 10;

/// Each makes its fixtures, and hands what is counted to [`counted`].
const CASES: &[(&str, fn())] = &[
    ("command_parse", command_parse),
    ("mail_parse", mail_parse),
    ("rcpt_parse", rcpt_parse),
    ("reply_parse", reply_parse),
    ("data_scan_10k", || data_scan(10 << 10)),
    ("data_scan_1m", || data_scan(1 << 20)),
    ("header_scan", header_scan),
    ("survey_10k", survey_10k),
    ("session_transaction_10k", session_transaction),
    ("message_id_text", message_id_text),
    ("queue_insert_pop_1k", || queue_insert_pop(1_000)),
    ("queue_insert_pop_100k", || queue_insert_pop(100_000)),
    ("timer_1k", || timer(1_000)),
    ("timer_100k", || timer(100_000)),
    ("dispatch_message_1k", || dispatch(1_000, 1)),
    ("dispatch_message_1k_domains", || dispatch(1_000, 1_000)),
    ("record_json", record_json),
    ("admission_rate", || admission(Tap::open(), Tap::take)),
    ("admission_rate_refused", || {
        admission(Tap::shut(), Tap::take);
    }),
    ("admission_set", || admission(Gate::open(), Gate::pass)),
    ("admission_set_refused", || {
        admission(Gate::shut(), Gate::pass);
    }),
    ("parking_wake_1k", || parking(1_000, 1)),
    ("parking_wake_1k_limiters", || parking(1_000, 1_000)),
    ("shaping_resolve_shipped", || shaping(&shipped_rules())),
    ("shaping_resolve_10k_rules", || shaping(&many_rules())),
];

/// The gate switches the counting on here: not inlined, and with a name that stays.
#[expect(
    unsafe_code,
    reason = "an exported name is how valgrind finds this function"
)]
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn posthaste_counted(work: &mut dyn FnMut()) {
    work();
}

fn counted(mut work: impl FnMut()) {
    posthaste_counted(&mut work);
}

fn command_parse() {
    counted(|| {
        for line in COMMANDS {
            let _ = black_box(parse(black_box(line)));
        }
    });
}

fn mail_parse() {
    counted(|| drop(black_box(parse_mail(black_box(&COMMANDS[1][5..])))));
}

fn rcpt_parse() {
    let hostname = domains(1).remove(0);
    counted(|| {
        drop(black_box(parse_rcpt(
            black_box(&COMMANDS[2][5..]),
            false,
            &hostname,
        )))
    });
}

fn reply_parse() {
    counted(|| {
        let mut parser = ReplyParser::new(ReplyLimits::default());
        let mut rest = black_box(REPLIES);
        while let Ok((taken, Some(reply))) = parser.feed(rest) {
            black_box(reply);
            rest = &rest[taken..];
        }
    });
}

fn data_scan(octets: usize) {
    let wire = stuffed(octets);
    let mut buffer = Vec::with_capacity(wire.len());
    counted(|| {
        let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, usize::MAX);
        for read in wire.chunks(READ) {
            black_box(scanner.scan(black_box(read), &mut buffer));
        }
    });
}

fn header_scan() {
    let text = header();
    counted(|| {
        black_box(header_end(black_box(&text)));
        black_box(fields(black_box(&text)).count());
    });
}

fn survey_10k() {
    let text = stuffed(10 << 10);
    counted(|| {
        black_box(survey(black_box(&text), false));
    });
}

fn session_transaction() {
    let wire = stuffed(10 << 10);
    let mut session = session();
    transact(&mut session, &wire);
    counted(|| {
        black_box(transact(&mut session, black_box(&wire)));
    });
}

fn message_id_text() {
    let mut ids = IdSequence::new(ShardId(3), 42);
    let message = message(&mut ids, &domains(1)[0], &Bytes::new());
    counted(|| drop(black_box(message.id.to_string())));
}

fn queue_insert_pop(depth: usize) {
    let mut queue = Queue::filled(depth);
    counted(|| {
        for _ in 0..100 {
            black_box(queue.insert_pop());
        }
    });
}

fn timer(depth: usize) {
    let mut queue = Queue::filled(depth);
    counted(|| {
        for _ in 0..100 {
            black_box(queue.defer());
        }
    });
}

/// A hundred messages in and out; the connections and routes stand already.
fn dispatch(depth: usize, domains: usize) {
    let mut shard = Shard::filled(depth, domains);
    for _ in 0..domains + 10 {
        let message = shard.message();
        shard.deliver(message);
    }
    let messages: Vec<_> = (0..100).map(|_| shard.message()).collect();
    counted(move || {
        for message in &messages {
            shard.deliver(std::sync::Arc::clone(message));
        }
    });
}

fn record_json() {
    let reply = Reply::new(250, None, "2.0.0 Ok: queued as 4D3B2C1A00");
    counted(|| drop(black_box(record(&reply).to_json())));
}

/// A hundred permits asked for.
fn admission<T>(mut of: T, ask: fn(&mut T) -> bool) {
    counted(|| {
        for _ in 0..100 {
            black_box(ask(&mut of));
        }
    });
}

/// A hundred lanes woken, which park again.
fn parking(lanes: usize, limiters: usize) {
    let mut parked = Lanes::parked(lanes, limiters);
    counted(|| {
        for _ in 0..100 {
            black_box(parked.wake());
        }
    });
}

/// What a new lane asks, for a site of each kind.
fn shaping(rules: &Shaping) {
    let overrides = Overrides::default();
    let all = || {
        for site in &SITES {
            black_box(resolve_whole(rules, &overrides, site));
        }
    };
    // The first round pays for what reading the rules left behind in the allocator.
    all();
    counted(all);
}

fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    match CASES.iter().find(|(name, _)| *name == wanted) {
        Some((_, run)) => {
            run();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(64),
    }
}
