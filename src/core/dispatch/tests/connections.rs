//! Connections: how many, how long, and what becomes of their work.

use super::*;

#[test]
fn a_failed_connect_pauses_the_lane_and_costs_the_head_an_attempt() {
    let mut bench = Bench::plain();
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let connects = bench.asked().connects;
    assert_eq!(connects.len(), 1);
    bench.connect_fails(connects[0]);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    let response = &asked.batch().records[0]["response"];
    assert_eq!(response["code"], 400);
    assert_eq!(response["content"], "connect: connection refused");
    assert!(asked.connects.is_empty());
    assert_eq!(
        bench.brain.counters().held_octets,
        0,
        "a paused lane holds nothing"
    );
    bench.commit(&["b@x.example"]);
    assert!(bench.asked().is_nothing(), "nor does it take more in");
    for (least, most) in [(30, 33), (60, 66), (120, 132)] {
        let pause = bench.wait_for_timer().as_secs_f64();
        assert!(
            pause >= f64::from(least) && pause <= f64::from(most),
            "{pause}"
        );
        let connects = bench.asked().connects;
        assert_eq!(connects.len(), 1, "one connection tries a site that failed");
        bench.connect_fails(connects[0]);
        assert!(bench.answer_loads().batches.len() <= 1);
    }
}

#[test]
fn a_lane_without_a_source_waits_as_long_as_told_and_nobody_is_charged() {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    for seconds in [10, 20] {
        let connects = bench.asked().connects;
        assert_eq!(connects.len(), 1);
        let why = Cause::Ours {
            detail: "no source is of use: a (dead)".into(),
        };
        let until = bench.now + Duration::from_secs(seconds);
        bench
            .brain
            .handle_no_source(connects[0], why, until, bench.now);
        assert!(bench.asked().batches.is_empty(), "no attempt is made");
        let rows = bench.brain.lanes(9, bench.now);
        assert_eq!(rows[0].paused_until, Some(until));
        assert!(rows[0].why.contains("a (dead)"), "{}", rows[0].why);
        assert_eq!(bench.wait_for_timer().as_secs(), seconds);
    }
}

#[test]
fn records_name_the_session_in_which_it_happened() {
    let rules = "max_deliveries_per_connection = 2";
    let (mut bench, c) = Bench::shaped_under_way(rules, &["a@x.example"]);
    for _ in 0..2 {
        bench.commit(&["b@x.example"]);
    }
    let mut connections = vec![c, c];
    let mut named = Vec::new();
    for outcome in [delivered(), deferred(), delivered()] {
        if let Some(c) = connections.pop() {
            bench.transact(c, &outcome);
        } else {
            bench.brain.handle_closed(c, None, bench.now);
            let next = bench.answer_loads().connects[0];
            bench.brain.handle_connected(next, bench.now);
            bench.transact(next, &outcome);
        }
        let asked = bench.asked();
        named.push(asked.batch().records[0]["session_id"].clone());
        if !asked.connects.is_empty() {
            bench.brain.handle_connected(asked.connects[0], bench.now);
        }
    }
    assert!(named.iter().all(|name| name.as_str().unwrap().len() == 26));
    assert!(named[0] == named[1] && named[1] != named[2], "{named:?}");
}

#[test]
fn what_no_connection_carried_names_no_session() {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let c = bench.asked().connects[0];
    bench.connect_fails(c);
    let asked = bench.asked();
    assert_eq!(asked.batch().records[0]["session_id"], Value::Null);
}

#[test]
fn connections_grow_with_the_queue_up_to_the_share() {
    let rules = "connection_limit = 3";
    let (mut bench, c) = Bench::shaped_under_way(rules, &["a@x.example"]);
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    assert!(
        bench.asked().connects.is_empty(),
        "four are little for one connection"
    );
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
    }
    let mut open = bench.asked().connects;
    open.push(c);
    assert_eq!(open.len(), 3);
    for c in &open {
        bench.brain.handle_connected(*c, bench.now);
    }
    let mut done = 0;
    while let Some((_, _, seq)) = bench.try_pull(open[done % 3]) {
        bench.settle(open[done % 3], seq, &[(0, delivered())]);
        done += 1;
    }
    assert_eq!(done, 104);
}

#[test]
fn an_idle_connection_is_woken_before_another_is_opened() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &delivered());
    assert!(bench.try_pull(c).is_none());
    bench.asked();
    bench.commit(&["b@x.example"]);
    let asked = bench.asked();
    assert_eq!(asked.wakes, [c]);
    assert!(asked.connects.is_empty());
    bench.commit(&["c@x.example"]);
    assert!(bench.asked().is_nothing(), "one wake is enough");
    bench.transact(c, &delivered());
    bench.transact(c, &delivered());
}

#[test]
fn a_busy_connection_that_may_never_be_idle_costs_a_look_now_and_then() {
    let (mut bench, c) = Bench::shaped_under_way("idle_timeout = \"0s\"", &["a@x.example"]);
    let (_, _, seq) = bench.pull(c);
    assert!(
        bench.try_pull(c).is_none(),
        "it waits for the reply to its dot"
    );
    let end = bench.now + Duration::from_secs(1);
    let mut looks = 0;
    while bench.brain.poll_timeout().is_some_and(|due| due < end) {
        bench.wait_for_timer();
        looks += 1;
    }
    assert!(looks <= 20, "{looks}");
    bench.now = end;
    bench.settle(c, seq, &[(0, delivered())]);
    bench.wait_for_timer();
    assert_eq!(bench.asked().quits, [c]);
}

#[test]
fn an_idle_connection_quits_after_its_time() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &delivered());
    assert!(bench.try_pull(c).is_none());
    bench.asked();
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.asked().quits, [c]);
    assert!(matches!(bench.brain.pull(c, bench.now), Pull::Quit));
    bench.brain.handle_closed(c, None, bench.now);
    assert!(bench.brain.is_quiet());
    assert!(bench.asked().is_nothing());
}

#[test]
fn a_connection_that_carried_its_number_quits() {
    let rules = "max_deliveries_per_connection = 2";
    let (mut bench, c) = Bench::shaped_under_way(rules, &["a@x.example"]);
    for _ in 0..2 {
        bench.commit(&["b@x.example"]);
    }
    bench.transact(c, &delivered());
    bench.transact(c, &delivered());
    bench.asked();
    assert!(matches!(bench.brain.pull(c, bench.now), Pull::Quit));
    let next = bench.asked().connects[0];
    bench.brain.handle_closed(c, None, bench.now);
    bench.brain.handle_connected(next, bench.now);
    bench.transact(next, &delivered());
}

#[test]
fn returned_work_is_no_attempt_and_goes_first() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    let (first, _, seq) = bench.pull(c);
    bench.brain.handle_returned(c, seq, bench.now);
    assert!(bench.asked().batches.is_empty());
    let (again, _, seq) = bench.pull(c);
    assert_eq!(again.id, first.id);
    bench.settle(c, seq, &[(0, delivered())]);
    assert_eq!(bench.asked().batch().records[0]["num_attempts"], 1);
}

#[test]
fn work_in_flight_on_a_lost_connection_is_deferred() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    bench.transact(c, &delivered());
    let (_, _, seq) = bench.pull(c);
    bench.asked();
    bench.brain.handle_closed(c, Some(lost()), bench.now);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    let record = &asked.batch().records[0];
    assert_eq!(record["response"]["code"], 400);
    assert_eq!(
        record["response"]["content"],
        "connection lost at .: reset by peer"
    );
    let enhanced = &record["response"]["enhanced_code"];
    assert_eq!(
        (&enhanced["subject"], &enhanced["detail"]),
        (&4.into(), &2.into())
    );
    assert_eq!(record["peer_address"]["name"], "mx1.peer.example");
    bench.settle(c, seq, &[(0, delivered())]);
    assert!(bench.asked().is_nothing(), "a late outcome is ignored");
    assert!(bench.brain.is_quiet());
}

#[test]
fn a_connection_lost_before_any_answer_counts_as_a_failed_connect() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    bench.pull(c);
    bench.brain.handle_closed(c, Some(lost()), bench.now);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    assert!(asked.connects.is_empty(), "the lane pauses");
    assert!(bench.wait_for_timer() >= Duration::from_secs(30));
    assert_eq!(bench.asked().connects.len(), 1);
}

#[test]
fn several_connects_that_fail_together_are_one_failure() {
    let mut bench = Bench::plain();
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let connects = bench.asked().connects;
    assert!(connects.len() > 5);
    for c in connects {
        bench.connect_fails(c);
    }
    let asked = bench.answer_loads();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    assert_eq!(bench.brain.counters().held_octets, 0);
    assert!(bench.wait_for_timer() <= Duration::from_secs(33));
    assert_eq!(bench.asked().connects.len(), 1);
}

#[test]
fn a_connect_that_fails_beside_a_good_connection_only_stops_growth() {
    let (mut bench, good) = Bench::under_way(Config::default(), &["a@x.example"]);
    for _ in 0..6 {
        bench.commit(&["a@x.example"]);
    }
    let more = bench.asked().connects;
    assert_eq!(more.len(), 1);
    bench.connect_fails(more[0]);
    assert!(bench.asked().is_nothing());
    assert_eq!(bench.brain.counters().queued, 7);
    for _ in 0..7 {
        bench.transact(good, &delivered());
    }
    assert_eq!(bench.brain.counters().delivered, 7);
}

#[test]
fn our_own_trouble_costs_nobody_an_attempt() {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let c = bench.asked().connects[0];
    let detail = "no file descriptors".into();
    bench
        .brain
        .handle_connect_failed(c, Cause::Ours { detail }, bench.now);
    assert!(bench.asked().is_nothing());
    bench.wait_for_timer();
    assert_eq!(bench.asked().connects.len(), 1);
}

#[test]
fn what_waits_behind_a_pause_expires_there() {
    let mut bench = Bench::plain();
    for _ in 0..3 {
        bench.commit_with(&["a@x.example"], |m| m.envelope.sender = None);
    }
    bench.asked();
    bench.route("x.example");
    let mut asked = bench.asked();
    let mut ends = Vec::new();
    while bench.brain.counters().queued > 0 {
        for c in asked.connects {
            bench.connect_fails(c);
            bench.answer_loads();
        }
        bench.wait_for_timer();
        asked = bench.answer_loads();
        for domain in asked.resolves {
            bench.route(&domain);
        }
        for batch in &asked.batches {
            ends.push(batch.records[0]["type"].clone());
        }
    }
    assert_eq!(ends, ["Expiration"; 3]);
    let late = bench.now.since(T0 + Config::default().schedule.max_age);
    assert!(late <= Duration::from_secs(1), "{late:?}");
}

/// An old retry behind younger ones. When its record was written, in seconds past its age.
fn lateness_of_an_old_retry(bench: &mut Bench, fail: impl Fn(&mut Bench, Asked)) -> Duration {
    let max_age = Config::default().schedule.max_age;
    let null = |m: &mut Message| m.envelope.sender = None;
    let old = bench.message(&["old@x.example"], null);
    bench.now = T0 + (max_age - HOUR / 4);
    let young = [1, 2].map(|_| bench.message(&["young@x.example"], null));
    for message in [&young[0], &young[1], &old] {
        let state = RecoveredRecipient {
            recipient: 0,
            domain: Domain::parse("x.example").unwrap(),
            attempts: 3,
            due: bench.now,
            last: Box::default(),
        };
        let recovered = Recovered {
            id: message.id,
            received: bench.now,
            of: 1,
            labels: Labels::default(),
            unsettled: vec![state],
        };
        bench.brain.handle_recovered(recovered, bench.now);
    }
    loop {
        let asked = bench.answer_loads();
        let records = asked.batches.iter().flat_map(|batch| &batch.records);
        let mut recipients = records
            .filter(|r| r["type"] == "Expiration")
            .map(|r| r["recipient"].clone());
        if let Some(recipient) = recipients.next() {
            assert_eq!(recipient, "old@x.example");
            return bench.now.since(T0 + max_age);
        }
        if asked.is_nothing() {
            bench.wait_for_timer();
        } else {
            fail(bench, asked);
        }
    }
}

#[test]
fn an_old_retry_behind_younger_ones_expires_on_time() {
    let config = || Config {
        connect_backoff: Schedule::exponential(HOUR * 2, HOUR * 2, HOUR * 1000),
        ..Config::default()
    };
    let mut bench = Bench::new(config());
    let late = lateness_of_an_old_retry(&mut bench, |bench, asked| {
        for domain in asked.resolves {
            bench.route(&domain);
        }
        for c in asked.connects {
            bench.connect_fails(c);
        }
    });
    assert!(late <= Duration::from_secs(1), "in a lane: {late:?}");
    let mut bench = Bench::new(config());
    let late = lateness_of_an_old_retry(&mut bench, |bench, asked| {
        for domain in asked.resolves {
            bench.no_route(&domain, RouteError::Dns("time-out"));
        }
    });
    assert!(late <= Duration::from_secs(1), "without a route: {late:?}");
}

#[test]
fn nothing_waits_behind_a_slow_dot_while_another_connection_may_take_it() {
    let rules = "connection_limit = 2";
    let (mut bench, slow) = Bench::shaped_under_way(rules, &["a@x.example"]);
    let (_, _, seq) = bench.pull(slow);
    assert!(
        bench.try_pull(slow).is_none(),
        "its dot is not answered yet"
    );
    bench.asked();
    bench.commit(&["b@x.example"]);
    let asked = bench.asked();
    assert!(asked.wakes.is_empty());
    let [other] = asked.connects[..] else {
        panic!("one more connection: {asked:?}");
    };
    bench.brain.handle_connected(other, bench.now);
    bench.transact(other, &delivered());
    assert!(bench.try_pull(other).is_none());
    bench.commit(&["c@x.example"]);
    assert_eq!(bench.asked().wakes, [other], "the free one");
    let (_, _, busy) = bench.pull(other);
    assert!(bench.try_pull(other).is_none());
    bench.asked();
    bench.commit(&["d@x.example"]);
    assert!(bench.asked().is_nothing(), "the limit is reached");
    bench.settle(other, busy, &[(0, delivered())]);
    assert_eq!(bench.asked().wakes, [other], "whichever is free first");
    bench.transact(other, &delivered());
    bench.settle(slow, seq, &[(0, delivered())]);
    assert_eq!(bench.brain.counters().delivered, 4);
}

#[test]
fn what_is_staged_as_a_connection_comes_to_rest_is_not_left_lying() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.pull(c);
    bench.commit(&["b@x.example", "c@y.example"]);
    let lane = bench.brain.connections[&c].lane;
    bench.brain.drop_held(lane, bench.now);
    bench.asked();
    assert!(bench.try_pull(c).is_none());
    let connects = bench.asked().connects;
    assert_eq!(connects.len(), 1, "the first one has its dot to wait for");
    bench.brain.handle_connected(connects[0], bench.now);
    bench.transact(connects[0], &delivered());
}

/// Mail of `x.example` that the spool still had at the start, tried so often.
fn recover(bench: &mut Bench, attempts: u16, count: usize) {
    for _ in 0..count {
        bench.recover("x.example", attempts, T0);
    }
    bench.asked();
    bench.route("x.example");
}

#[test]
fn after_a_start_one_connection_tries_a_site_whose_mail_had_been_put_off() {
    let mut bench = Bench::plain();
    recover(&mut bench, 0, 500);
    assert!(bench.answer_loads().connects.len() > 1, "nothing is known");
    let mut bench = Bench::plain();
    recover(&mut bench, 2, 500);
    let connects = bench.answer_loads().connects;
    assert_eq!(connects.len(), 1);
    bench.brain.handle_connected(connects[0], bench.now);
    bench.transact(connects[0], &delivered());
    assert!(bench.answer_loads().connects.len() > 1, "the site answers");
    let of_two_sources = |attempts| {
        let mut bench = pools::bench(pools::three(), "");
        recover(&mut bench, attempts, 500);
        bench.answer_loads().connects.len()
    };
    assert!(of_two_sources(0) > 2);
    assert_eq!(of_two_sources(2), 2, "one of each");
}

#[test]
fn a_lane_that_is_woken_often_has_one_timer_for_what_expires() {
    let mut bench = Bench::shaped(Config::default(), "connection_limit = 0");
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    bench.asked();
    let lane = bench.brain.lane_by_key.values().copied().next().unwrap();
    bench.brain.wake_lane(lane, bench.now);
    let timers = bench.brain.due.len();
    for _ in 0..100 {
        bench.brain.wake_lane(lane, bench.now);
    }
    assert_eq!(bench.brain.due.len(), timers);
}

/// Connections that are to end once a hundred messages are there for 8 of them, each with one under way, and
/// `rules` come to hold.
fn ends_under(rules: &str) -> usize {
    let mut bench = Bench::shaped(Config::default(), "connection_limit = 8");
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let open = bench.answer_loads().connects;
    assert_eq!(open.len(), 8);
    let mut under_way = Vec::new();
    for c in open {
        bench.brain.handle_connected(c, bench.now);
        let (_, recipients, seq) = bench.pull(c);
        bench.answer_loads();
        under_way.push((c, recipients, seq));
    }
    bench.reshape(rules);
    bench.brain.handle_timeout(bench.now);
    let mut ends = 0;
    for (c, recipients, seq) in under_way {
        let outcomes: Vec<_> = recipients.iter().map(|r| (*r, delivered())).collect();
        bench.settle(c, seq, &outcomes);
        bench.answer_loads();
        match bench.brain.pull(c, bench.now) {
            Pull::Quit => ends += 1,
            Pull::Work { .. } => {}
            Pull::Wait => panic!("there is work"),
        }
        assert!(bench.answer_loads().connects.is_empty());
    }
    assert_eq!(bench.brain.counters().queued, 92, "nothing was cut off");
    ends
}

#[test]
fn a_lowered_limit_is_kept_by_connections_at_work_between_two_messages() {
    assert_eq!(ends_under("connection_limit = 8"), 0);
    assert_eq!(ends_under("connection_limit = 3"), 5);
    assert_eq!(
        ends_under("connection_limit = 8\nsite_connection_limit = 2"),
        6
    );
    assert_eq!(ends_under("connection_limit = 0"), 8);
}

#[test]
fn a_lowered_limit_ends_idle_connections_beyond_it_at_once() {
    let mut bench = Bench::shaped(Config::default(), "connection_limit = 8");
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    bench.run(Duration::ZERO);
    assert_eq!(bench.brain.connections.len(), 8);
    bench.reshape("connection_limit = 3");
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.asked().quits.len(), 5);
}
