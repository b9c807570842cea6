//! Meters that shards share, taken from by threads at once.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use posthaste_core::shaping::limit::{Connections, Gcra, Lease, Leased, Loss, Pace};
use posthaste_core::words::{Moment, ShardId};

const START: Moment = Moment::from_secs(1_795_512_600);
const THREADS: usize = 8;
const SPAN: u64 = 300_000;

fn rate(count: u64, burst: u64) -> Pace {
    Pace::new(count, Duration::from_secs(1), burst).unwrap()
}

/// Tries in each microsecond: more than any rate here gives.
const TRIES: u64 = 4;

/// Threads take all they get while one clock, which each of them moves on, runs for `SPAN`
/// microseconds.
fn take_together(take: impl Fn(usize, Moment) -> bool + Sync) -> u64 {
    let clock = AtomicU64::new(0);
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (clock, taken, take) = (&clock, &taken, &take);
            scope.spawn(move || {
                loop {
                    let micros = (clock.fetch_add(1, Ordering::SeqCst) / TRIES).min(SPAN);
                    let now = START + Duration::from_micros(micros);
                    if take(thread, now) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    } else if micros == SPAN {
                        return;
                    }
                }
            });
        }
    });
    taken.into_inner()
}

#[test]
fn threads_together_take_what_the_rate_gives_and_no_more() {
    for (count, burst) in [(1_000_000, 50_000), (100_000, 100_000), (33_333, 5000)] {
        let gcra = Gcra::new(rate(count, burst));
        // From here on it is never at rest, and so loses nothing.
        gcra.take(u32::try_from(burst).unwrap(), START).unwrap();
        let taken = take_together(|_, now| gcra.take(1, now).is_ok());
        assert_eq!(taken, count * SPAN / 1_000_000, "{count}/s");
    }
}

#[test]
fn what_threads_undo_is_neither_lost_nor_doubled() {
    let gcra = Gcra::new(rate(100_000, 100_000));
    gcra.take(100_000, START).unwrap();
    let taken = take_together(|thread, now| {
        if thread % 2 == 0 {
            return gcra.take(1, now).is_ok();
        }
        if gcra.take(1, now).is_ok() {
            gcra.give(1, now, now);
        }
        false
    });
    let rest = gcra.take(1, START + Duration::from_micros(SPAN)).is_ok();
    let all = 100_000 * SPAN / 1_000_000;
    // Whoever looks while another holds what it will undo goes away empty, once at the end.
    assert!(
        taken <= all && taken + u64::from(rest) + THREADS as u64 >= all,
        "{taken}"
    );
}

#[test]
fn a_rate_changed_under_the_takers_refills_nothing() {
    let (slow, fast) = (rate(10_000, 100_000), rate(170_000, 100_000));
    let gcra = Gcra::new(slow);
    let done = AtomicBool::new(false);
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5000 {
                gcra.change(fast, START);
                gcra.change(slow, START);
            }
            done.store(true, Ordering::SeqCst);
        });
        for _ in 0..THREADS {
            scope.spawn(|| {
                // Time stands still: there is one burst for all.
                loop {
                    let is_last = done.load(Ordering::SeqCst);
                    if gcra.take(1, START).is_ok() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    } else if is_last {
                        return;
                    }
                }
            });
        }
    });
    let taken = taken.into_inner();
    // Each change may round up to a tick, which is less than a thousandth of a permit.
    assert!((90_000..=100_000).contains(&taken), "{taken}");
}

#[test]
fn connections_never_exceed_their_bound() {
    const ROUNDS: usize = 1_000_000;
    let connections = Connections::new(1);
    let open = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    if connections.take() {
                        assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0);
                        open.fetch_sub(1, Ordering::SeqCst);
                        assert!(connections.give().is_empty());
                    }
                }
            });
        }
    });
    assert_eq!(connections.open(), 0);
}

#[test]
fn no_waiter_for_a_connection_is_forgotten() {
    const ROUNDS: usize = 20_000;
    let connections = Connections::new(3);
    let told: Vec<AtomicBool> = (0..THREADS).map(|_| AtomicBool::new(false)).collect();
    let wait = |thread: usize| {
        let begun = Instant::now();
        while !told[thread].swap(false, Ordering::SeqCst) {
            assert!(begun.elapsed() < Duration::from_secs(20), "forgotten");
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (connections, told, wait) = (&connections, &told, &wait);
            scope.spawn(move || {
                let shard = ShardId(u16::try_from(thread).unwrap());
                for _ in 0..ROUNDS {
                    while !connections.take() {
                        connections.wait(shard);
                        if connections.take() {
                            break;
                        }
                        wait(thread);
                    }
                    let shards = connections.give();
                    for (index, told) in told.iter().enumerate() {
                        if shards.contains(ShardId(u16::try_from(index).unwrap())) {
                            told.store(true, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(connections.open(), 0);
}

#[test]
fn a_lease_is_spent_once_however_many_spend_it() {
    let pace = rate(10_000_000, 10_000_000);
    let leased = Leased::new(Gcra::new(pace), rate(1, 1), Loss::Stop);
    for end in [1, 2] {
        let lease = Lease {
            permits: 1_000_000,
            span: Duration::from_secs(1),
            until: START + Duration::from_secs(end),
        };
        let _ = leased.fill(lease, START);
    }
    assert_eq!(take_together(|_, now| leased.take(now).is_ok()), 2_000_000);
}
