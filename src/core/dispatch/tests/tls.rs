//! Mail that must not go in clear, while nothing else is spoken.

use super::egress::{bench, two};
use super::*;
use crate::shaping::TargetKind;

const REQUIRED: &str = "enable_tls = \"Required\"";
const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    fn told(&self) -> String {
        let rows = self.brain.list(10, &Whose::default(), self.now);
        format!("{}{}", rows[0].waits_for, rows[0].why)
    }
}

#[test]
fn where_tls_is_required_mail_waits_without_an_attempt_and_says_why() {
    for word in ["Required", "RequiredInsecure"] {
        let rules = format!("enable_tls = \"{word}\"");
        let mut bench = Bench::shaped(Config::default(), &rules);
        let message = bench.commit(&["a@x.example"]);
        bench.asked();
        bench.route("x.example");
        assert!(bench.asked().connects.is_empty(), "{word}");
        assert_eq!(bench.run(HOUR).len(), 0);
        assert!(bench.brain.connections.is_empty());
        let found = bench.brain.find(message.id).remove(0);
        assert_eq!(found.attempts, 0);
        let waits = "TLS, which is required here (t.toml:2:14) and which this build does not speak";
        assert_eq!((&*found.waits_for, &*bench.told()), (waits, waits));
        assert_eq!(bench.brain.counters().tls_barred, 1);
        // Set free by files, and by an override in its time.
        bench.reshape("enable_tls = \"Opportunistic\"");
        bench.brain.handle_timeout(bench.now);
        assert_eq!(bench.run(SECOND).len(), 1);
        assert_eq!(bench.brain.counters().tls_barred, 0);
    }
}

#[test]
fn an_override_lets_mail_go_in_clear_at_once_and_for_its_time() {
    let mut bench = Bench::shaped(Config::default(), REQUIRED);
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let key = ("enable_tls", "Disabled");
    bench.set(TargetKind::Domain, "x.example", key, MINUTE);
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.run(SECOND).len(), 1);
    bench.run(2 * MINUTE);
    bench.queue("x.example", 1);
    assert!(bench.carry(|_, _| delivered()).is_empty());
    assert_eq!(bench.brain.counters().tls_barred, 1);
}

#[test]
fn nothing_more_goes_on_an_open_connection_once_tls_is_required() {
    let mut bench = Bench::shaped(Config::default(), "connection_limit = 1");
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let c = bench.asked().connects[0];
    bench.transact(c, &delivered());
    bench.reshape("connection_limit = 1\nenable_tls = \"Required\"");
    bench.brain.handle_timeout(bench.now);
    assert!(bench.try_pull(c).is_none());
    assert_eq!(bench.run(HOUR).len(), 0);
    assert_eq!(bench.brain.counters().tls_barred, 2);
}

#[test]
fn a_source_that_may_go_in_clear_takes_what_others_may_not() {
    let rules = format!(
        "{REQUIRED}\n[\"x.example\"]\nmx_rollup = false\n[\"x.example\".sources.b]\nenable_tls = \"Disabled\""
    );
    let mut bench = bench(two(), &rules);
    bench.queue("x.example", 4);
    assert_eq!(bench.carry(|_, _| delivered()), ["b"; 4]);
    bench.queue("y.example", 4);
    assert!(bench.carry(|_, _| delivered()).is_empty());
    assert_eq!(bench.brain.counters().tls_barred, 4);
    let told = bench.told();
    assert!(
        told.contains("a (waiting for TLS, which is required here (t.toml:2:14)"),
        "{told}"
    );
    bench.reshape("connection_limit = 5");
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.carry(|_, _| delivered()).len(), 4, "at once");
}

#[test]
fn what_a_source_has_at_hand_goes_by_others_once_it_must_not_go_in_clear() {
    let own =
        "[\"x.example\"]\nmx_rollup = false\nconnection_limit = 1\n[\"x.example\".sources.a]\n";
    let mut bench = bench(two(), own);
    bench.queue("x.example", 8);
    bench.reshape(&format!("{own}{REQUIRED}"));
    bench.brain.handle_timeout(bench.now);
    let sent = bench.carry(|_, _| delivered());
    let by_b = sent.iter().filter(|source| *source == "b").count();
    assert!(by_b >= 7, "{sent:?}: one may have begun");
    assert_eq!(sent.len(), 8);
}
