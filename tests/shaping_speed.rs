//! Ten thousand rules load within a second and resolve within ten microseconds. The bounds are of a
//! release build; a debug build is given ten times as long.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it measures and tells"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use posthaste_core::shaping::{File, Layer, Overrides, Party, Shaping, SiteFacts, shipped};
use posthaste_core::words::Moment;

const RULES: usize = 10_000;
const SLOW: u32 = if cfg!(debug_assertions) { 10 } else { 1 };
const LOAD_MAX: Duration = Duration::from_secs(1);
const RESOLVE_MAX: Duration = Duration::from_micros(10);
/// Short enough that some batch is not interrupted on a busy machine.
const ROUNDS: u32 = 50;
const BATCHES: usize = 1_000;
/// A load is the best of so many.
const LOADS: usize = 3;
const NOW: Moment = Moment::from_secs(1_795_518_000);

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Every rule a block of its own: domains, sites, and providers.
fn blocks() -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let _ = match n % 3 {
            0 => write!(
                text,
                "[\"d{n}.test\"]\nmx_rollup = false\nmax_message_rate = \"5/m\"\nconnection_limit = 7\n"
            ),
            1 => write!(
                text,
                "[provider.\"p{n}\"]\nmatch = [{{ MXSuffix = \".p{n}.test\" }}]\nprovider_connection_limit = 9\n"
            ),
            _ => write!(
                text,
                "[\"r{n}.test\"]\nmax_message_rate = \"5/s\"\n[\"r{n}.test\".sources.s]\nmax_ready = 3\n"
            ),
        };
    }
    text
}

/// Every rule an automation rule with a pattern of its own.
fn automation() -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let _ = write!(
            text,
            "[[\"d{}.test\".automation]]\nregex = \"\\\\[TS{n}\\\\] Messages from \\\\d+ temporarily deferred\"\n\
             action = \"Suspend\"\nduration = \"1h\"\n",
            n % 500
        );
    }
    text
}

fn load(text: &str) -> (Shaping, Duration) {
    let operator = File {
        name: "many.toml",
        text,
        layer: Layer::Operator,
    };
    let files: Vec<File<'_>> = shipped().chain([operator]).collect();
    let loads = (0..LOADS).map(|_| {
        let start = Instant::now();
        let shaping = Shaping::read(&files);
        let took = start.elapsed();
        (
            shaping.unwrap_or_else(|faults| panic!("{}", faults[0])),
            took,
        )
    });
    loads
        .min_by_key(|(_, took)| *took)
        .expect("it was loaded several times")
}

#[test]
fn ten_thousand_blocks_load_in_a_second_and_resolve_in_ten_microseconds() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shaping, took) = load(&blocks());
    println!("{RULES} blocks load in {took:?}");
    assert!(took < LOAD_MAX * SLOW, "{took:?}");
    let overrides = Overrides::default();
    let five = ["a", "b", "c", "d", "e"].map(|host| format!("{host}.p9997.test"));
    let five: Vec<&str> = five.iter().map(String::as_str).collect();
    let google = [
        "gmail-smtp-in.l.google.com",
        "alt1.gmail-smtp-in.l.google.com",
        "alt2.gmail-smtp-in.l.google.com",
    ];
    let party = Party {
        source: "s",
        tenant: "t",
        campaign: "c",
    };
    for (domain, hosts) in [
        ("x.test", five.as_slice()),
        ("d9999.test", &["mx.d9999.test"]),
        ("r9998.test", &["mx.r9998.test"]),
        ("gmail.com", &google),
        (
            "nobody.example",
            &["mx1.nobody.example", "mx2.nobody.example"],
        ),
    ] {
        let facts = SiteFacts {
            domain,
            mx_hosts: hosts,
            site: "site",
        };
        let resolve = time(|| {
            let effective = shaping.resolve(black_box(&overrides), facts, party, NOW);
            black_box(effective.path().max_ready);
        });
        let limits = time(|| {
            let effective = shaping.resolve(black_box(&overrides), facts, party, NOW);
            black_box(effective.limits().len());
        });
        println!("{domain}: resolve and path {resolve:?}, resolve and limits {limits:?}");
        assert!(
            resolve < RESOLVE_MAX * SLOW && limits < RESOLVE_MAX * SLOW,
            "{domain}: {resolve:?}, {limits:?}"
        );
    }
}

#[test]
fn ten_thousand_patterns_compile_in_a_second() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shaping, took) = load(&automation());
    println!("{RULES} automation rules load in {took:?}");
    assert!(took < LOAD_MAX * SLOW, "{took:?}");
    let rules = shaping.rules(&SiteFacts {
        domain: "d7.test",
        mx_hosts: &[],
        site: "site",
    });
    assert_eq!(
        rules
            .iter()
            .filter(|(rule, _)| rule.layer == Layer::Operator)
            .count(),
        RULES / 500
    );
}

/// The mean of a round in the best of several batches: other work on the machine is not ours.
fn time(mut round: impl FnMut()) -> Duration {
    let batches = (0..BATCHES).map(|_| {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        start.elapsed() / ROUNDS
    });
    batches.min().unwrap_or_default()
}
