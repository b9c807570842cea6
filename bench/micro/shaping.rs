//! Nanoseconds of shaping: a permit, a lane's limits, waiting lanes, and what holds for a site.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use posthaste_bench::{
    Gate, Lanes, RULES, SITES, Tap, many_rules, resolve, resolve_whole, shipped_rules,
};
use posthaste_core::shaping::Overrides;

fn admission(c: &mut Criterion) {
    let mut group = c.benchmark_group("admission");
    for (what, mut tap) in [("granted", Tap::open()), ("refused", Tap::shut())] {
        group.bench_function(BenchmarkId::new("one rate", what), |b| {
            b.iter(|| tap.take())
        });
    }
    for (what, mut gate) in [("granted", Gate::open()), ("refused", Gate::shut())] {
        group.bench_function(
            BenchmarkId::new("two rates and a bound of connections", what),
            |b| b.iter(|| gate.pass()),
        );
    }
    group.finish();
}

fn parking(c: &mut Criterion) {
    let mut group = c.benchmark_group("parking");
    for (lanes, limiters) in [(1, 1), (1_000, 1), (1_000, 1_000), (100_000, 1_000)] {
        let mut parked = Lanes::parked(lanes, limiters);
        group.bench_function(
            BenchmarkId::new(
                "a lane is woken and parks again",
                format!("{lanes} lanes, {limiters} limiters"),
            ),
            |b| b.iter(|| parked.wake()),
        );
    }
    group.finish();
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("shaping");
    let overrides = Overrides::default();
    let many = format!("{RULES} rules");
    for (rules, shaping) in [("shipped", shipped_rules()), (&many, many_rules())] {
        for site in &SITES {
            let place = format!("{}, {rules}", site.what);
            group.bench_function(BenchmarkId::new("resolve", &place), |b| {
                b.iter(|| resolve(&shaping, black_box(&overrides), site));
            });
            group.bench_function(BenchmarkId::new("resolve, path and limits", &place), |b| {
                b.iter(|| resolve_whole(&shaping, black_box(&overrides), site));
            });
        }
    }
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("read", &many), |b| b.iter(many_rules));
    group.finish();
}

criterion_group!(benches, admission, parking, rules);
criterion_main!(benches);
