//! What an operator wants to go now, goes now, and in bounded parts.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A thousand domains, none of which a name server answers for: of each one message was tried, and
/// one waits.
fn paused() -> Bench {
    let mut bench = Bench::plain();
    for n in 0..1000 {
        let domain = format!("d{n}.example");
        for _ in 0..2 {
            bench.commit(&[&format!("a@{domain}")]);
        }
        bench.no_route(&domain, RouteError::Dns("timeout"));
    }
    bench.answer_loads();
    bench
}

#[test]
fn a_flush_makes_everything_due_and_ends_pauses() {
    let mut bench = Bench::plain();
    for domain in ["x.example", "y.example"] {
        for _ in 0..3 {
            bench.commit(&[&format!("a@{domain}")]);
        }
        bench.asked();
        bench.route(domain);
        let c = bench.asked().connects[0];
        bench.connect_fails(c);
    }
    bench.asked();
    bench.wait(Duration::from_secs(1));
    assert!(bench.asked().is_nothing(), "all pauses");
    let x = Domain::parse("x.example").unwrap();
    bench.brain.handle_flush(Some(&x), bench.now);
    let asked = bench.answer_loads();
    assert_eq!(asked.connects.len(), 1, "one domain's lane opens");
    bench.brain.handle_connected(asked.connects[0], bench.now);
    for _ in 0..3 {
        bench.answer_loads();
        bench.transact(asked.connects[0], &delivered());
    }
    bench.brain.handle_flush(None, bench.now);
    let asked = bench.answer_loads();
    assert_eq!(asked.connects.len(), 1);
    bench.brain.handle_connected(asked.connects[0], bench.now);
    for _ in 0..3 {
        bench.answer_loads();
        bench.transact(asked.connects[0], &delivered());
    }
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn what_is_due_at_once_is_done_in_bounded_parts() {
    let mut bench = Bench::plain();
    for _ in 0..10_000 {
        bench.recover("x.example", 1, T0 + HOUR);
    }
    bench.brain.handle_flush(None, bench.now);
    assert_eq!(bench.brain.timers(), 10_000 - 4096);
    assert_eq!(bench.brain.poll_timeout(), Some(bench.now), "there is more");
    bench.wait(Duration::ZERO);
    bench.wait(Duration::ZERO);
    assert_eq!(bench.brain.timers(), 0);
}

#[test]
fn a_flush_looks_at_a_bounded_part_of_the_queue_at_a_time() {
    let mut bench = Bench::plain();
    for n in 0..10_000 {
        bench.recover("x.example", 1, T0 + HOUR + n * SECOND);
    }
    bench.recover("last.example", 1, T0 + 100 * HOUR);
    let last = Domain::parse("last.example").unwrap();
    bench.brain.handle_flush(Some(&last), bench.now);
    let mut goes = 1;
    while bench.asked().resolves.is_empty() {
        assert_eq!(bench.brain.timers(), 10_001, "nothing else moves");
        assert_eq!(bench.brain.poll_timeout(), Some(bench.now), "there is more");
        bench.wait(Duration::ZERO);
        goes += 1;
    }
    assert!(goes > 10_000 / 4096, "{goes} goes");
    assert_eq!(bench.brain.timers(), 10_000);
    assert_eq!(bench.brain.poll_timeout(), Some(T0 + HOUR), "as before");
}

#[test]
fn a_flush_ends_the_pauses_of_a_bounded_number_of_domains_at_a_time() {
    let mut bench = paused();
    bench.brain.handle_flush(None, bench.now);
    // A second wish while the first is carried out is carried out too, once.
    bench.brain.handle_flush(None, bench.now);
    bench.brain.handle_flush(None, bench.now);
    let mut asked = 0;
    for go in 0.. {
        let resolves = bench.asked().resolves.len();
        assert!(resolves <= 256, "{resolves} in go {go}");
        asked += resolves;
        if bench.brain.poll_timeout() != Some(bench.now) {
            break;
        }
        bench.wait(Duration::ZERO);
        assert!(go < 20, "it comes to an end");
    }
    assert_eq!(asked, 1000, "each is asked for once");
    assert_eq!(bench.brain.counters().queued, 2000);
}

#[test]
fn a_shutdown_in_the_midst_of_a_flush_begins_nothing() {
    let mut bench = paused();
    bench.brain.handle_flush(None, bench.now);
    bench.asked();
    bench.brain.handle_shutdown(bench.now);
    assert_eq!(bench.brain.poll_timeout(), None);
    bench.wait(Duration::ZERO);
    assert!(bench.asked().is_nothing() && bench.brain.is_quiet());
}
