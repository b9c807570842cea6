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

use posthaste_core::shaping::{
    File, Known, Layer, Overrides, Party, Shaping, SiteFacts, Submission, shipped,
};
use posthaste_core::words::Moment;

const RULES: usize = 10_000;
const SLOW: u32 = if cfg!(debug_assertions) { 10 } else { 1 };
const LOAD_MAX: Duration = Duration::from_secs(1);
const RESOLVE_MAX: Duration = Duration::from_micros(10);
/// Of the rules that come with the program for the provider that has most, and of ten thousand more.
const READ_MAX: Duration = Duration::from_micros(50);
const READ_MANY_MAX: Duration = Duration::from_millis(10);
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

/// Every rule an automation rule with a pattern of its own, in the block that is named for its number.
fn automation(block: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let _ = write!(
            text,
            "[[{}.automation]]\nregex = \"\\\\[TS{n}\\\\] Messages from \\\\d+ temporarily deferred\"\n\
             action = \"Suspend\"\nduration = \"1h\"\n",
            block(n)
        );
    }
    text
}

/// Every rule one of labels, by domain, header or network, with blocks of what some of them give.
fn labels() -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let (high, low) = (n >> 8, n & 255);
        let _ = match n % 4 {
            0 => write!(
                text,
                "[[label]]\nsender_domain = \"d{n}.test\"\ntenant = \"t{n}\"\n"
            ),
            1 => write!(
                text,
                "[[label]]\nsender_domain = \".d{n}.test\"\nheader = {{ \"X-Stream\" = \"s\" }}\ntenant = \"t{n}\"\n"
            ),
            2 => write!(
                text,
                "[[label]]\nheader = {{ \"X-Customer\" = \"c{n}\" }}\ntenant = \"t{n}\"\n[tenant.t{n}]\nweight = 2\n"
            ),
            _ => write!(
                text,
                "[[label]]\nclient = \"10.{high}.{low}.0/24\"\ncampaign = \"p{n}\"\n[[queue]]\ncampaign = \"p{n}\"\nmax_message_rate = \"5/s\"\n"
            ),
        };
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

/// What a failure costs before anything is done about it: the reply is read by every pattern for its site.
#[test]
fn a_reply_is_read_by_all_rules_for_its_site_in_a_bounded_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let hosts = ["gmail-smtp-in.l.google.com"];
    let facts = SiteFacts {
        domain: "gmail.com",
        mx_hosts: &hosts,
        site: hosts[0],
    };
    let reply = "550 5.1.1 The email account that you tried to reach does not exist. Please try \
                 double-checking the recipient's email address for typos or unnecessary spaces.";
    for (text, most) in [
        ("", READ_MAX),
        (&*automation(|_| "default".into()), READ_MANY_MAX),
    ] {
        let (shaping, _) = load(text);
        let best = (0..BATCHES / 10).map(|_| {
            let start = Instant::now();
            let rules = shaping.rules(black_box(&facts)).into_iter();
            let matching = rules.filter(|(rule, _)| rule.matches(black_box(reply), false));
            black_box(matching.count());
            start.elapsed()
        });
        let best = best.min().expect("several");
        println!("a reply is read in {best:?}");
        assert!(best < most * SLOW, "{best:?}");
    }
}

#[test]
fn ten_thousand_patterns_compile_in_a_second() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shaping, took) = load(&automation(|n| format!("\"d{}.test\"", n % 500)));
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

#[test]
fn ten_thousand_label_rules_load_in_a_second_and_tell_whose_a_message_is_in_ten_microseconds() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shaping, took) = load(&labels());
    println!("{RULES} label rules load in {took:?}");
    assert!(took < LOAD_MAX * SLOW, "{took:?}");
    let headers = [("X-Stream", "s"), ("X-Customer", "c9998")];
    for (domain, client, headers, tenant, campaign) in [
        ("d9996.test", "192.0.2.1", &headers[..0], "t9996", "none"),
        (
            "mail.D9997.test",
            "192.0.2.1",
            &headers[..1],
            "t9997",
            "none",
        ),
        ("x.test", "10.39.15.7", &headers[..], "t9998", "p9999"),
        (
            "nobody.example",
            "2001:db8::1",
            &headers[..1],
            "default",
            "none",
        ),
    ] {
        let submission = Submission {
            listener: "0.0.0.0:25",
            client: client.parse().unwrap_or_else(|_| panic!("{client}")),
            sender_domain: Some(domain),
            headers,
        };
        let told = shaping.labels().classify(&submission);
        assert_eq!(
            (&*told.tenant.name, &*told.campaign.name),
            (tenant, campaign)
        );
        let took = time(|| {
            black_box(shaping.labels().classify(black_box(&submission)));
        });
        println!("{domain}: {took:?}");
        assert!(took < RESOLVE_MAX * SLOW, "{domain}: {took:?}");
    }
    let start = Instant::now();
    let lints = shaping.lints(Known::default(), NOW);
    let took = start.elapsed();
    println!("what is never reached is found in {took:?}");
    assert!(lints.is_empty(), "{}", lints[0]);
    assert!(took < LOAD_MAX * SLOW, "{took:?}");
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
