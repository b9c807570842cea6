//! Prints what a permit costs: `cargo run --release -p posthaste-sim --example limits`.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use posthaste_core::shaping::limit::{Fair, Gcra, Limit, LimitId, Meter, Pace, Parking, Set};
use posthaste_core::shaping::{LimitKey, Limited, Scope};
use posthaste_core::words::{Moment, ShardId};

const ROUNDS: u32 = 1_000_000;
const START: Moment = Moment::from_secs(1_795_512_600);

fn gcra(count: u64) -> Gcra {
    Gcra::new(Pace::new(count, Duration::from_secs(1), 1000).expect("a good rate"))
}

fn limit(id: u64, gcra: Gcra) -> Arc<Limit> {
    let name = LimitKey {
        limited: Limited::Messages,
        scope: Scope::Site,
        name: "x".into(),
    };
    let meter = Meter::Rate(gcra);
    let id = LimitId(id);
    Arc::new(Limit { id, name, meter })
}

fn measure(what: &str, mut act: impl FnMut(Moment)) {
    let begun = Instant::now();
    for round in 0..ROUNDS {
        act(START + Duration::from_micros(u64::from(round)));
    }
    let nanos = begun.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{what:<45} {nanos:>5} ns");
}

fn contended(what: &str, gcra: &Gcra, threads: u32) {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let now = START + Duration::from_micros(u64::from(round));
                    let _ = gcra.take(1, now);
                }
            });
        }
    });
    let nanos = begun.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{what:<45} {nanos:>5} ns (on each of {threads} threads)");
}

fn main() {
    let fast = gcra(50_000_000);
    measure("take", |now| assert!(fast.take(1, now).is_ok()));
    let slow = gcra(1);
    measure("take, refused", |now| {
        assert!(slow.take(1, now).is_err() || now < START + Duration::from_secs(2))
    });
    contended("take, contended", &gcra(50_000_000), 2);
    contended("take, contended, mostly refused", &gcra(1), 2);
    let set = Set::new((1..=4).map(|id| limit(id, gcra(50_000_000))));
    measure("set of four", |now| assert!(set.take(None, now).is_ok()));

    let shared = limit(9, gcra(1_000_000));
    let mut parking = Parking::new(ShardId(0), 10_000);
    for lane in 0..1000 {
        parking.park(&shared, lane, START).expect("room");
    }
    measure("woken and parked again, 1,000 lanes wait", |now| {
        if let Some(woken) = parking.poll(now + Duration::from_secs(1)) {
            parking.park(&shared, woken.waiter, now).expect("room");
        }
    });

    for tenants in [1, 1000] {
        let mut fair = Fair::default();
        for tenant in 0..tenants {
            fair.assign(tenant, tenant, 1);
            fair.enter(tenant);
        }
        measure(&format!("fair: a turn, {tenants} tenants"), |_| {
            if let Some(flow) = fair.head() {
                fair.served();
                fair.enter(flow);
            }
        });
    }
}
