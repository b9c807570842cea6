//! The end: what is under way ends, nothing else begins.

use super::*;
use crate::egress::SourceId;

#[test]
fn nothing_begins_after_shutdown() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    for _ in 0..20 {
        bench.commit(&["b@x.example"]);
    }
    bench.commit(&["c@y.example"]);
    bench.asked();
    let (_, _, seq) = bench.pull(c);
    bench.brain.handle_shutdown(bench.now);
    let quits = bench.asked().quits;
    assert!(
        !quits.is_empty(),
        "connections that are being opened are of no use"
    );
    for c in quits {
        bench.brain.handle_closed(c, None, bench.now);
    }
    assert!(!bench.brain.is_quiet());
    bench.settle(c, seq, &[(0, refused())]);
    assert!(matches!(bench.brain.pull(c, bench.now), Pull::Quit));
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Bounce", "Settle 0", "Store"]);
    bench.brain.handle_closed(c, None, bench.now);
    assert!(!bench.brain.is_quiet(), "the spool has not answered");
    bench
        .brain
        .handle_stored(asked.batch().token.unwrap(), true, bench.now);
    assert!(bench.brain.is_quiet());
    bench.commit(&["d@z.example"]);
    bench.route("y.example");
    bench.brain.handle_flush(None, bench.now);
    bench.wait(6 * 24 * HOUR);
    assert!(bench.asked().is_nothing());
    assert_eq!(bench.brain.poll_timeout(), None);
}

#[test]
fn an_idle_connection_with_work_in_flight_quits_after_it() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    let (_, _, seq) = bench.pull(c);
    assert!(bench.try_pull(c).is_none(), "nothing to ride with the dot");
    bench.brain.handle_shutdown(bench.now);
    assert!(bench.asked().quits.is_empty());
    bench.settle(c, seq, &[(0, delivered())]);
    let asked = bench.asked();
    assert_eq!(asked.quits, [c]);
    assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
}

#[test]
fn a_load_that_comes_late_changes_nothing() {
    let (mut bench, c) = Bench::under_way(
        Config {
            held_octets_max: 0,
            ..Config::default()
        },
        &["a@x.example"],
    );
    bench.commit(&["b@y.example"]);
    bench.asked();
    bench.wait(Config::default().schedule.max_age);
    bench.route("y.example");
    let loads = bench.asked().loads;
    assert!(!loads.is_empty());
    bench.brain.handle_shutdown(bench.now);
    bench.asked();
    bench.brain.handle_closed(c, None, bench.now);
    for id in loads {
        bench.load(id);
    }
    assert!(bench.brain.is_quiet());
    assert!(bench.asked().is_nothing());
}

#[test]
fn a_connection_that_fails_while_we_shut_down_costs_nobody_an_attempt() {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let c = bench.asked().connects[0];
    bench.brain.handle_shutdown(bench.now);
    assert_eq!(bench.asked().quits, [c]);
    bench.connect_fails(c);
    assert!(bench.asked().is_nothing());
    assert!(bench.brain.is_quiet());
}

#[test]
fn what_is_asked_for_and_not_fetched_is_no_quiet() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    let (_, _, seq) = bench.pull(c);
    bench.asked();
    bench.brain.handle_shutdown(bench.now);
    bench.settle(c, seq, &[(0, delivered())]);
    bench.brain.handle_closed(c, None, bench.now);
    assert!(!bench.brain.is_quiet(), "the settle is not handed on");
    let what = &bench.asked().batches[0].what;
    assert_eq!(*what, ["Delivery", "Settle 0"]);
    assert!(bench.brain.is_quiet());
}

#[test]
fn what_comes_to_pass_after_shutdown_begins_nothing() {
    let config = Config {
        unsynced_max: 1,
        ..Config::default()
    };
    let (mut bench, c) = Bench::under_way(config, &["a@x.example"]);
    bench.disk_answers = false;
    for _ in 0..20 {
        bench.commit(&["a@x.example"]);
    }
    let opening = bench.asked().connects;
    assert!(!opening.is_empty(), "twenty are worth more than one");
    bench.transact(c, &delivered());
    bench.asked();
    assert!(bench.try_pull(c).is_none(), "the disk is behind");
    bench.brain.handle_shutdown(bench.now);
    assert_eq!(bench.asked().quits.len(), 1 + opening.len());
    let late = opening[0];

    // The disk catches up, as the last client hears its 250.
    bench.brain.handle_settled(1, bench.now);
    bench.commit(&["b@x.example"]);
    // A connection was quicker than its end, another is lost.
    bench.brain.handle_connected(late, bench.now);
    assert!(matches!(bench.brain.pull(late, bench.now), Pull::Quit));
    bench.brain.handle_closed(c, Some(lost()), bench.now);
    bench.brain.handle_closed(late, None, bench.now);
    bench
        .brain
        .handle_shaping(shapes("", &Arc::default()), bench.now);
    // A probe ends well.
    bench.brain.handle_source_resumed(SourceId(0), bench.now);
    assert!(bench.brain.poll_action().is_none());
    bench.wait(HOUR);
    assert!(bench.asked().is_nothing());
    for c in &opening[1..] {
        bench.connect_fails(*c);
    }
    assert!(bench.asked().is_nothing());
    assert!(bench.brain.is_quiet());
}
