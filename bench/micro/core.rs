//! Nanoseconds of core's hot paths: parse, scan, queue, timers, a shard's brain.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use posthaste_bench::{
    COMMANDS, Queue, REPLIES, Shard, T0, header, record, session, stuffed, transact,
};
use posthaste_core::mail::{Trace, fields, header_end, received_field};
use posthaste_core::smtp::command::{parse, parse_mail, parse_rcpt};
use posthaste_core::smtp::data::{Framing, LineEnds, Scanner, survey};
use posthaste_core::smtp::reply_parser::{ReplyLimits, ReplyParser};
use posthaste_core::words::{Domain, MessageId, Reply};

const DEPTHS: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const READ: usize = 64 << 10;

fn commands(c: &mut Criterion) {
    let hostname = Domain::parse("mta.sender.example").expect("a well-formed domain");
    let mut group = c.benchmark_group("command");
    group.throughput(Throughput::Elements(COMMANDS.len() as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            COMMANDS
                .iter()
                .filter(|line| parse(black_box(line)).is_ok())
                .count()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("mail", |b| {
        b.iter(|| parse_mail(black_box(&COMMANDS[1][5..])))
    });
    group.bench_function("rcpt", |b| {
        b.iter(|| parse_rcpt(black_box(&COMMANDS[2][5..]), false, &hostname))
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    group.throughput(Throughput::Bytes(REPLIES.len() as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            let mut parser = ReplyParser::new(ReplyLimits::default());
            let (mut rest, mut count) = (black_box(REPLIES), 0);
            while let Ok((taken, Some(_))) = parser.feed(rest) {
                rest = &rest[taken..];
                count += 1;
            }
            count
        });
    });
    group.finish();
}

fn data(c: &mut Criterion) {
    let mut group = c.benchmark_group("data");
    for size in [1 << 10, 10 << 10, 1 << 20] {
        let wire = stuffed(size);
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(BenchmarkId::new("scan and unstuff", size), |b| {
            let mut buffer = Vec::with_capacity(wire.len());
            b.iter(|| {
                buffer.clear();
                let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, usize::MAX);
                for read in wire.chunks(READ) {
                    scanner.scan(black_box(read), &mut buffer);
                }
                buffer.len()
            });
        });
    }
    let wire = stuffed(10 << 10);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a transaction of 10 KiB through a session", |b| {
        let mut session = session();
        b.iter(|| transact(&mut session, black_box(&wire)));
    });
    group.finish();
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    let text = header();
    let whole = stuffed(10 << 10);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("end and fields", |b| {
        b.iter(|| {
            (
                header_end(black_box(&text)),
                fields(black_box(&text)).count(),
            )
        });
    });
    group.bench_function("survey", |b| b.iter(|| survey(black_box(&whole), false)));
    let hostname = Domain::parse("mta.sender.example").expect("a well-formed domain");
    let trace = Trace {
        helo: "app.sender.example",
        peer: ([192, 0, 2, 1], 40_000).into(),
        hostname: &hostname,
        protocol: "ESMTP",
        id: MessageId::from_u128(1),
        recipient: None,
        at: T0,
    };
    group.bench_function("received field", |b| {
        b.iter(|| received_field(black_box(&trace)))
    });
    group.finish();
}

/// A queue is built once for each depth, whatever criterion asks for.
fn queue(c: &mut Criterion) {
    for depth in DEPTHS {
        let mut queue = None;
        let mut group = c.benchmark_group("queue");
        group.bench_function(BenchmarkId::new("insert and pop", depth), |b| {
            let queue = queue.get_or_insert_with(|| Queue::filled(depth));
            b.iter(|| queue.insert_pop());
        });
        group.bench_function(
            BenchmarkId::new("timer goes off and is set again", depth),
            |b| {
                let queue = queue.get_or_insert_with(|| Queue::filled(depth));
                b.iter(|| queue.defer());
            },
        );
        group.finish();
    }
}

fn dispatch(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch");
    group.sample_size(20);
    for (depth, domains) in [
        (1_000, 1),
        (1_000, 10_000),
        (1_000_000, 1),
        (1_000_000, 10_000),
    ] {
        let mut shard = None;
        group.bench_function(
            BenchmarkId::new(
                "a message in and out",
                format!("{depth} waiting, {domains} domains"),
            ),
            |b| {
                let shard = shard.get_or_insert_with(|| Shard::filled(depth, domains));
                b.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let message = shard.message();
                        let began = Instant::now();
                        shard.deliver(message);
                        spent += began.elapsed();
                    }
                    spent
                });
            },
        );
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let reply = Reply::new(250, None, "2.0.0 Ok: queued as 4D3B2C1A00");
    c.bench_function("log/record of a delivery", |b| {
        b.iter(|| record(black_box(&reply)).to_json());
    });
}

fn bodies(c: &mut Criterion) {
    let wire = stuffed(10 << 10);
    c.bench_function("body/taken over from a session", |b| {
        b.iter_batched(|| wire.clone(), Bytes::from, BatchSize::SmallInput);
    });
}

criterion_group!(
    benches, commands, replies, data, headers, queue, dispatch, records, bodies
);
criterion_main!(benches);
