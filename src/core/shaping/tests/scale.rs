//! Ten thousand blocks are read and found; `tests/shaping_speed.rs` measures how fast.

use std::fmt::Write as _;

use super::*;

/// `count` blocks with a rule each, by domain, by provider and by host.
fn many(count: usize) -> String {
    let mut text = String::from("[default]\nconnection_limit = 5\n");
    for n in 0..count {
        let _ = match n % 3 {
            0 => write!(
                text,
                "[\"d{n}.test\"]\nmx_rollup = false\nmax_message_rate = \"{n}0/m\"\nconnection_limit = 7\n",
                n = n + 1
            ),
            1 => write!(
                text,
                "[provider.\"p{n}\"]\nmatch = [{{ MXSuffix = \".p{n}.test\" }}]\nprovider_connection_limit = 9\n\
                 [[provider.\"p{n}\".automation]]\nregex = \"\\\\[TS{n}\\\\] temporarily deferred\"\naction = \"Suspend\"\nduration = \"1h\"\n"
            ),
            _ => write!(
                text,
                "[\"r{n}.test\"]\nmax_message_rate = \"5/s\"\n[\"r{n}.test\".sources.s]\nmax_ready = 3\n"
            ),
        };
    }
    text
}

#[test]
fn ten_thousand_blocks_are_read_and_found() {
    let shaping = shaping(&many(10_000));
    let overrides = Overrides::default();
    let resolve =
        |domain, hosts| shaping.resolve(&overrides, facts(domain, hosts), party("s"), NOON);
    let provider = resolve("x.test", &["a.p9997.test", "b.p9997.test"]);
    assert_eq!(provider.providers().collect::<Vec<_>>(), ["p9997"]);
    assert_eq!(
        value(&resolve("d10000.test", &[]), "max_message_rate"),
        "100000/m"
    );
    assert_eq!(value(&resolve("r9998.test", &[]), "max_ready"), "3");
}
