//! Microseconds of the spool: durable commits by how many ask at once, and reading back.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use posthaste::spool::{
    Batch, Completion, Durability, Events, Failed, Loaded, Options, Running, Spool, open,
};
use posthaste_bench::{domains, message, stuffed};
use posthaste_core::words::{Change, Committed, Domain, IdSequence, MessageId, ShardId};

struct Ear(Sender<()>);

impl Completion for Ear {
    fn committed(&self, _: u64, result: Result<Committed, Failed>) {
        result.expect("the benchmark's disk has space and does not fail");
        // A listener that is gone has heard enough.
        let _ = self.0.send(());
    }

    fn loaded(&self, _: MessageId, loaded: Loaded) {
        assert!(
            matches!(loaded, Loaded::Message(_)),
            "what was stored is there"
        );
        let _ = self.0.send(());
    }

    fn flush(&self) {}
}

/// A spool in a directory of its own, and the one shard that uses it.
struct Desk {
    spool: Spool,
    heard: Receiver<()>,
    ids: IdSequence,
    domain: Domain,
    data: Bytes,
    // Dropped in this order: the threads end before their directory goes.
    _running: Running,
    _events: Events,
    _directory: tempfile::TempDir,
}

impl Desk {
    fn new(durability: Durability, size: usize) -> Self {
        // Where Cargo builds is a disk; the system's place for temporary files may be memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut options = Options::new(directory.path(), 1);
        options.durability = durability;
        let mut opened = open(options).expect("an empty directory becomes a spool");
        opened.recover(&mut |_| {}).expect("an empty spool is read");
        let (sender, heard) = channel();
        let spool = opened.spool();
        let (running, events) = opened.start(vec![Arc::new(Ear(sender))]);
        Self {
            spool,
            heard,
            ids: IdSequence::new(ShardId(0), 1),
            domain: domains(1).remove(0),
            data: Bytes::from(stuffed(size)),
            _running: running,
            _events: events,
            _directory: directory,
        }
    }

    fn submit(&self, changes: Vec<Change>) {
        let batch = Batch {
            shard: ShardId(0),
            token: Some(0),
            changes,
        };
        assert!(
            self.spool.submit(batch).is_ok(),
            "fewer batches than the queue holds"
        );
    }

    fn wait(&self, count: usize) {
        for _ in 0..count {
            self.heard.recv().expect("the spool answers");
        }
    }

    fn store(&mut self) -> MessageId {
        let message = message(&mut self.ids, &self.domain, &self.data);
        let id = message.id;
        self.submit(vec![Change::Store(message)]);
        id
    }

    /// `at_once` messages stored, then settled.
    fn round(&mut self, at_once: usize) {
        let ids: Vec<_> = (0..at_once).map(|_| self.store()).collect();
        self.wait(at_once);
        for id in ids {
            self.submit(vec![Change::Settle {
                id,
                recipient: 0,
                of: 1,
                deferred_before: false,
            }]);
        }
        self.wait(at_once);
    }
}

fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("spool");
    group.sample_size(20);
    for (name, durability) in [
        ("commit", Durability::Commit),
        ("relaxed", Durability::Relaxed),
    ] {
        for at_once in [1, 10, 100, 1000] {
            let mut desk = None;
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_function(
                BenchmarkId::new(format!("store and settle, {name}"), at_once),
                |b| {
                    let desk = desk.get_or_insert_with(|| Desk::new(durability, 10 << 10));
                    b.iter(|| desk.round(at_once));
                },
            );
        }
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    const STORED: usize = 1000;
    let mut group = c.benchmark_group("spool");
    let mut desk = None;
    group.bench_function("load a message", |b| {
        let (desk, ids) = desk.get_or_insert_with(|| {
            let mut desk = Desk::new(Durability::Relaxed, 10 << 10);
            let ids: Vec<_> = (0..STORED).map(|_| desk.store()).collect();
            desk.wait(STORED);
            (desk, ids)
        });
        b.iter_custom(|rounds| {
            let began = Instant::now();
            for n in 0..rounds {
                let id = ids[usize::try_from(n).unwrap_or(0) % STORED];
                assert!(
                    desk.spool.load(ShardId(0), black_box(id)),
                    "the reader has room"
                );
                desk.wait(1);
            }
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, commits, reads);
criterion_main!(benches);
