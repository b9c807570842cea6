//! Hosts of one site: who is tried first after one has failed, and sites that take no mail.

use super::*;

const PAUSE: Duration = Duration::from_secs(33);

/// `mx1` to `mx3`, each of its own preference.
fn hosts() -> [Host; 3] {
    [1_u8, 2, 3].map(|number| Host {
        name: format!("mx{number}").into(),
        address: ([192, 0, 2, number], 25).into(),
        preference: u16::from(number),
    })
}

fn bench() -> Bench {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.asked();
    let plan = Arc::new(Plan {
        hosts: hosts().into(),
        ..Plan::clone(&plan("x.example"))
    });
    let domain = Domain::parse("x.example").unwrap();
    let until = bench.now + 24 * HOUR;
    bench
        .brain
        .handle_route(&domain, Ok(plan), until, bench.now);
    bench
}

/// The one connection that is asked for, and the hosts it is to try.
#[track_caller]
fn connect(bench: &mut Bench) -> (ConnectionId, String) {
    let asked = bench.answer_loads();
    assert_eq!(asked.connects.len(), 1, "{asked:?}");
    (asked.connects[0], asked.orders[0].clone())
}

/// It stands, to `host`.
fn greet(bench: &mut Bench, c: ConnectionId, host: usize) {
    let host = &hosts()[host - 1];
    bench.brain.handle_greeted(c, host, source(), false, true);
    bench.brain.handle_connected(c, bench.now);
    bench.answer_loads();
}

fn unusable(bench: &mut Bench, c: ConnectionId, host: usize, cause: &Cause) {
    let host = &hosts()[host - 1];
    bench.brain.handle_unusable(c, host, cause, bench.now);
}

fn deliver(bench: &mut Bench, c: ConnectionId, host: usize) {
    let (_, recipients, seq) = bench.pull(c);
    let outcomes: Vec<_> = recipients.iter().map(|r| (*r, delivered())).collect();
    let host = &hosts()[host - 1];
    bench
        .brain
        .handle_outcome(c, seq, &outcomes, host, source(), bench.now);
}

/// The connection stands to `host`, which does this to its first transaction.
fn fail(bench: &mut Bench, c: ConnectionId, host: usize, why: &Cause) {
    greet(bench, c, host);
    bench.pull(c);
    bench.brain.handle_closed(c, Some(why.clone()), bench.now);
    bench.answer_loads();
}

fn greeting(code: u16) -> Cause {
    Cause::Reply {
        stage: Stage::Banner,
        reply: Reply::new(code, None, "not here"),
    }
}

fn refused_connect() -> Cause {
    let detail = "connection refused".into();
    Cause::Connect { detail }
}

#[test]
fn a_host_that_greets_and_fails_is_tried_last_until_it_has_rested() {
    let stalled = Cause::Lost {
        stage: Stage::Mail,
        detail: "timed out".into(),
    };
    for why in [said(421, "closing"), lost(), stalled] {
        let mut bench = bench();
        let (c, order) = connect(&mut bench);
        assert_eq!(order, "mx1 mx2 mx3");
        fail(&mut bench, c, 1, &why);
        bench.wait(PAUSE);
        bench.commit(&["b@x.example"]);
        let (c, order) = connect(&mut bench);
        assert_eq!(order, "mx2 mx3 mx1", "{why:?}");
        fail(&mut bench, c, 2, &why);
        bench.wait(2 * PAUSE);
        bench.commit(&["c@x.example"]);
        let (c, order) = connect(&mut bench);
        assert_eq!(order, "mx3 mx1 mx2", "who failed last is the last");
        bench.connect_fails(c);
        bench.wait(4 * PAUSE);
        bench.commit(&["d@x.example"]);
        assert_eq!(connect(&mut bench).1, "mx1 mx2 mx3", "they have rested");
    }
}

#[test]
fn a_host_that_answers_is_as_good_as_before() {
    let mut bench = bench();
    let (good, _) = connect(&mut bench);
    greet(&mut bench, good, 1);
    for _ in 0..4 {
        bench.commit(&["a@x.example"]);
    }
    let (bad, _) = connect(&mut bench);
    fail(&mut bench, bad, 1, &lost());
    bench.wait(PAUSE);
    deliver(&mut bench, good, 1);
    for _ in 0..4 {
        bench.commit(&["a@x.example"]);
    }
    assert_eq!(connect(&mut bench).1, "mx1 mx2 mx3");
}

#[test]
fn a_host_out_of_reach_is_tried_last_by_the_next_connection() {
    let ours = Cause::Ours {
        detail: "no source".into(),
    };
    for (why, next) in [
        (refused_connect(), "mx2 mx3 mx1"),
        (greeting(554), "mx2 mx3 mx1"),
        (ours, "mx1 mx2 mx3"),
    ] {
        let mut bench = bench();
        let (c, _) = connect(&mut bench);
        unusable(&mut bench, c, 1, &why);
        greet(&mut bench, c, 2);
        deliver(&mut bench, c, 2);
        bench.brain.handle_closed(c, None, bench.now);
        bench.commit(&["b@x.example"]);
        assert_eq!(connect(&mut bench).1, next, "{why:?}");
    }
}

#[test]
fn a_site_whose_hosts_never_take_mail_is_a_permanent_failure() {
    let mut bench = bench();
    let (c, _) = connect(&mut bench);
    for _ in 0..2 {
        bench.commit_with(&["b@x.example"], |m| m.envelope.sender = None);
    }
    for host in 1..=3 {
        unusable(&mut bench, c, host, &greeting(521));
    }
    bench
        .brain
        .handle_connect_failed(c, greeting(521), bench.now);
    let asked = bench.answer_loads();
    assert_eq!(asked.batches.len(), 3, "all that waits: {asked:?}");
    for batch in &asked.batches {
        assert!(batch.what.contains(&"Bounce".to_owned()), "{batch:?}");
        assert_eq!(batch.records[0]["response"]["code"], 521);
        assert_eq!(batch.records[0]["response"]["command"], "BANNER");
    }
    bench.commit_with(&["c@x.example"], |m| m.envelope.sender = None);
    let asked = bench.answer_loads();
    assert_eq!(asked.batch().what, ["Bounce", "Settle 0"]);
    assert!(asked.connects.is_empty(), "it has said so a moment ago");
    bench.wait(PAUSE);
    bench.commit(&["d@x.example"]);
    let (c, _) = connect(&mut bench);
    greet(&mut bench, c, 1);
    deliver(&mut bench, c, 1);
    assert_eq!(
        bench.brain.counters().delivered,
        1,
        "it may change its mind"
    );
}

#[test]
fn mail_waits_while_one_host_may_yet_take_it_and_for_other_greetings() {
    for hosts in [
        [greeting(521), greeting(521), refused_connect()],
        [greeting(521), greeting(554), greeting(521)],
        [greeting(554), greeting(554), greeting(554)],
    ] {
        let mut bench = bench();
        let (c, _) = connect(&mut bench);
        for (host, why) in (1..).zip(&hosts) {
            unusable(&mut bench, c, host, why);
        }
        let last = hosts[2].clone();
        bench.brain.handle_connect_failed(c, last, bench.now);
        let asked = bench.answer_loads();
        assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    }
}

#[test]
fn connections_that_fail_together_at_a_site_without_mail_refuse_all_of_it() {
    let mut bench = bench();
    for _ in 0..7 {
        bench.commit_with(&["a@x.example"], |m| m.envelope.sender = None);
    }
    let connects = bench.answer_loads().connects;
    assert_eq!(connects.len(), 2);
    for c in connects {
        for host in 1..=3 {
            unusable(&mut bench, c, host, &greeting(521));
        }
        let cause = greeting(521);
        bench.brain.handle_connect_failed(c, cause, bench.now);
    }
    assert_eq!(bench.answer_loads().batches.len(), 8);
    assert_eq!(bench.brain.counters().queued, 0);
}
