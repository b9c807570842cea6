//! Seeds.

use super::{Summary, run};

/// About what an optimised build does in a quarter of a minute.
const SEEDS: u64 = 120;

/// Tells which seed it was when a run fails.
struct Named(u64);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "the seed is what a failed run is for")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed is {0}: SIM_SEED={0} runs it again", self.0);
        }
    }
}

fn run_named(seed: u64) -> Summary {
    let _named = Named(seed);
    run(seed)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
#[expect(clippy::print_stderr, reason = "seen when a test is run by hand")]
fn every_recipient_ends_once_whatever_happens() {
    if let Some(seed) = number("SIM_SEED") {
        eprintln!("{:?}", run_named(seed));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let mut all = Summary::default();
    for seed in 0..seeds {
        let one = run_named(seed);
        all.delivered += one.delivered;
        all.bounced += one.bounced;
        all.expired += one.expired;
        all.doubled += one.doubled;
        all.records += one.records;
        all.events += one.events;
        all.starts += one.starts;
        all.poisoned += one.poisoned;
    }
    eprintln!("{all:?}");
    assert!(
        all.delivered > 0 && all.bounced > 0,
        "the world is too kind or too cruel"
    );
    assert!(all.poisoned > 10, "disks hardly ever fail");
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(run_named(3), run_named(3));
}

/// Work that waited for a route was forgotten when a route came with forwarded work.
#[test]
fn seed_783_forgets_nobody_who_waits_for_a_route() {
    run_named(783);
}

/// Fresh mail took the memory that loads under way had been promised, and the size of forwarded work
/// was forgotten.
#[test]
fn seed_2972_keeps_to_its_memory() {
    run_named(2972);
}

/// A source's probe ended well on a shard that had nothing to do any more, and was told to the others.
#[test]
fn seed_1366_ends_in_silence() {
    run_named(1366);
}
