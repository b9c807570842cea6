//! What a shard's brain needs for a million messages that wait: octets of each, and time of what befalls all of them at
//! once. Run by hand: `cargo run --release -p posthaste-bench --example brain`.

#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::print_stdout, reason = "figures are for reading")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use posthaste_bench::{T0, brain, domains, plan, recovered};
use posthaste_core::dispatch::{Action, Dispatch};
use posthaste_core::words::{Cause, ConnectionId, IdSequence, Moment, RouteError, ShardId};

const COUNT: usize = 1_000_000;
/// Rounds of a retry.
const ROUNDS: u32 = 20;

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

fn octets_of_an_entry() {
    let mut ids = IdSequence::new(ShardId(1), 1);
    for (what, names_count, due) in [
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
        let names = domains(names_count);
        let before = IN_USE.load(Ordering::Relaxed);
        let mut brain = brain();
        let began = Instant::now();
        for n in 0..COUNT {
            brain.handle_recovered(recovered(ids.next(T0), &names[n % names_count], due), T0);
        }
        let took = began.elapsed() / 1_000_000;
        let octets = (IN_USE.load(Ordering::Relaxed) - before) / COUNT;
        println!("{what}: {octets} octets, {took:?} each");
    }
}

/// Connections that the brain asks for.
fn drain(brain: &mut Dispatch, now: Moment) -> Vec<ConnectionId> {
    let mut asked = Vec::new();
    while let Some(action) = brain.poll_action() {
        if let Action::Connect { connection, .. } = action {
            asked.push(connection);
        } else if let Action::Settle(_) = action {
            brain.handle_settled(1, now);
        }
    }
    asked
}

/// The next timer goes off.
fn pass_time(brain: &mut Dispatch) -> Moment {
    let now = brain.poll_timeout().expect("a retry is due");
    brain.handle_timeout(now);
    now
}

fn retries_and_failures() {
    let mut ids = IdSequence::new(ShardId(1), 1);
    let name = domains(1).remove(0);
    let mut brain = brain();
    for _ in 0..COUNT {
        brain.handle_recovered(recovered(ids.next(T0), &name, T0), T0);
    }
    drain(&mut brain, T0);
    let mut now = T0;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let why = RouteError::Dns("timeout");
        brain.handle_route(&name, Err(why), now, now);
        now = pass_time(&mut brain);
        drain(&mut brain, now);
    }
    println!(
        "a failed lookup over a million: {:?}",
        began.elapsed() / ROUNDS
    );
    let began = Instant::now();
    let until = now + Duration::from_secs(360_000);
    brain.handle_route(&name, Ok(plan()), until, now);
    println!("a route for a million: {:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for connection in drain(&mut brain, now) {
            let detail = "refused".into();
            brain.handle_connect_failed(connection, Cause::Connect { detail }, now);
        }
        now = pass_time(&mut brain);
    }
    println!(
        "a failed connect over a million: {:?}",
        began.elapsed() / ROUNDS
    );
}

fn main() {
    octets_of_an_entry();
    retries_and_failures();
}
