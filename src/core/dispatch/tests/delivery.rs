//! What follows from an outcome: batches, records, reports, the next attempt.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_delivery_is_one_batch_of_settle_and_record() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    let (message, recipients, seq) = bench.pull(c);
    assert_eq!(recipients, [0]);
    assert!(bench.asked().is_nothing(), "a pull asks for nothing");
    bench.settle(c, seq, &[(0, delivered())]);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
    assert_eq!(asked.batch().token, None);
    let record = &asked.batch().records[0];
    assert_eq!(record["id"], message.id.to_string());
    assert_eq!(record["recipient"], "a@x.example");
    assert_eq!(record["sender"], "sender@origin.example");
    assert_eq!(record["site"], "x.example");
    assert_eq!(record["peer_address"]["name"], "mx1.peer.example");
    assert_eq!(record["source_address"], "198.51.100.1:40000");
    assert_eq!(record["num_attempts"], 1);
    assert_eq!(bench.brain.counters().queued, 0);
    assert_eq!(bench.brain.counters().held_octets, 0);
}

#[test]
fn a_deferral_is_tried_again_when_due() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &deferred());
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    let due = asked.batch().due[0];
    let wait = due.since(T0);
    assert!(
        wait >= 5 * MINUTE && wait <= Duration::from_secs(330),
        "{wait:?}"
    );
    bench.brain.handle_closed(c, None, bench.now);
    bench.wait(wait - Duration::from_micros(1));
    assert!(bench.asked().is_nothing(), "not due yet");
    bench.wait(Duration::from_micros(1));
    let asked = bench.asked();
    assert_eq!(asked.loads.len(), 1, "its message left memory meanwhile");
    bench.brain.handle_connected(asked.connects[0], bench.now);
    let c = asked.connects[0];
    bench.load(asked.loads[0]);
    bench.transact(c, &delivered());
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
    assert_eq!(asked.batch().records[0]["num_attempts"], 2);
}

#[test]
fn a_refusal_is_reported_in_the_batch_that_settles_it() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &refused());
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Bounce", "Settle 0", "Store"]);
    assert!(asked.resolves.is_empty(), "not queued before it is durable");
    let token = asked.batch().token.expect("a store is answered");
    let report = &asked.batch().stored[0];
    assert_eq!(report.envelope.sender, None);
    assert_eq!(
        report.envelope.recipients[0].address.as_str(),
        "sender@origin.example"
    );
    bench.brain.handle_stored(token, true, bench.now);
    assert_eq!(bench.asked().resolves, ["origin.example"]);
    assert_eq!(bench.brain.counters().queued, 1);
    bench.brain.handle_stored(token, true, bench.now);
    assert_eq!(bench.brain.counters().queued, 1, "one answer counts");
}

#[test]
fn nobody_is_told_where_nobody_may_be_told() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &delivered());
    bench.asked();
    bench.commit_with(&["b@x.example"], |m| m.envelope.sender = None);
    bench.commit_with(&["c@x.example"], |m| {
        m.envelope.recipients[0].notify = Notify::NEVER;
    });
    for _ in 0..2 {
        bench.transact(c, &refused());
        let asked = bench.asked();
        assert_eq!(asked.batch().what, ["Bounce", "Settle 0"]);
        assert_eq!(asked.batch().token, None);
    }
}

#[test]
fn a_message_expires_at_its_age_and_not_later() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &deferred());
    bench.asked();
    bench.brain.handle_closed(c, None, bench.now);
    let max_age = Config::default().schedule.max_age;
    let mut attempts = 1;
    loop {
        bench.wait_for_timer();
        let asked = bench.answer_loads();
        if let Some(batch) = asked.batches.first() {
            assert_eq!(batch.what, ["Expiration", "Settle 0", "Store"]);
            assert_eq!(batch.records[0]["num_attempts"], attempts);
            assert_eq!(bench.now, T0 + max_age);
            break;
        }
        for c in asked.connects {
            bench.brain.handle_connected(c, bench.now);
            bench.answer_loads();
            bench.transact(c, &deferred());
            attempts += 1;
            bench.brain.handle_closed(c, None, bench.now);
            assert_eq!(bench.asked().batch().what, ["Defer 0", "TransientFailure"]);
        }
    }
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn each_recipient_of_one_transaction_has_its_own_outcome() {
    let to = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"];
    let (mut bench, c) = Bench::under_way(Config::default(), &to);
    let (_, recipients, seq) = bench.pull(c);
    assert_eq!(recipients, [0, 1, 2, 3]);
    bench.settle(c, seq, &[(1, deferred()), (2, refused()), (0, delivered())]);
    let asked = bench.asked();
    let mut what: Vec<_> = asked.batches.iter().flat_map(|b| b.what.clone()).collect();
    what.sort();
    let expected = [
        "Bounce",
        "Defer 1",
        "Defer 3",
        "Delivery",
        "Settle 0",
        "Settle 2",
        "Store",
        "TransientFailure",
        "TransientFailure",
    ];
    assert_eq!(what, expected, "one without an outcome is deferred");
    bench.brain.handle_closed(c, None, bench.now);
    bench.wait(6 * MINUTE);
    let c = bench.answer_loads().connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.answer_loads();
    let (_, recipients, _) = bench.pull(c);
    assert_eq!(recipients, [1, 3], "the settled ones are not tried again");
}

#[test]
fn domains_of_one_message_go_their_own_ways() {
    let to = ["a@x.example", "b@y.example", "c@x.example"];
    let mut bench = Bench::plain();
    bench.commit(&to);
    assert_eq!(bench.asked().resolves, ["x.example", "y.example"]);
    bench.route("x.example");
    bench.route("y.example");
    let connects = bench.asked().connects;
    let [x, y] = connects[..] else {
        panic!("two sites, two connections: {connects:?}");
    };
    bench.brain.handle_connected(x, bench.now);
    bench.brain.handle_connected(y, bench.now);
    assert_eq!(bench.pull(x).1, [0, 2]);
    assert_eq!(bench.pull(y).1, [1]);
}

#[test]
fn too_many_recipients_are_shared_out() {
    let rules = "max_recipients_per_batch = 2";
    let to = ["a@x.example", "b@x.example", "c@x.example"];
    let (mut bench, c) = Bench::shaped_under_way(rules, &to);
    bench.wait(Duration::ZERO);
    bench.answer_loads();
    assert_eq!(bench.pull(c).1, [0, 1]);
    assert_eq!(bench.pull(c).1, [2]);
}

#[test]
fn a_transaction_settles_once() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    let (_, _, seq) = bench.pull(c);
    bench.settle(c, seq, &[(0, delivered())]);
    bench.settle(c, seq, &[(0, refused())]);
    bench.brain.handle_returned(c, seq, bench.now);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn no_more_is_delivered_than_the_disk_may_forget() {
    let config = Config {
        unsynced_max: 2,
        ..Config::default()
    };
    let (mut bench, c) = Bench::under_way(config, &["a@x.example"]);
    bench.disk_answers = false;
    for _ in 0..4 {
        bench.commit(&["a@x.example"]);
    }
    for _ in 0..2 {
        bench.transact(c, &delivered());
    }
    bench.asked();
    assert!(bench.try_pull(c).is_none(), "two are not durable");
    assert!(bench.asked().wakes.is_empty(), "it would only pull again");
    bench.brain.handle_settled(1, bench.now);
    assert_eq!(bench.asked().wakes, [c]);
    bench.transact(c, &delivered());
    bench.asked();
    assert!(bench.try_pull(c).is_none());
    bench.brain.handle_settled(2, bench.now);
    assert_eq!(bench.asked().wakes, [c]);
    for _ in 0..2 {
        bench.transact(c, &delivered());
    }
    assert_eq!(bench.brain.counters().delivered, 5);
}

/// A connection with the first of four messages, whose peer said `code` to it and hung up.
fn hung_up_after(code: u16) -> Bench {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    assert!(bench.asked().connects.is_empty(), "one is enough for four");
    bench.transact(c, &Outcome::Deferred(said(code, "not now")));
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    assert_eq!(asked.batch().records[0]["response"]["code"], code);
    let why = Cause::Reply {
        stage: Stage::Rcpt,
        reply: Reply::new(421, None, "closing"),
    };
    bench.brain.handle_closed(c, Some(why), bench.now);
    for _ in 0..100 {
        bench.commit(&["b@x.example"]);
    }
    bench
}

#[test]
fn a_421_to_the_first_transaction_pauses_the_lane_and_one_connection_tries_again() {
    let mut bench = hung_up_after(421);
    assert!(bench.answer_loads().connects.is_empty(), "the lane pauses");
    let until = bench.brain.lanes(9, bench.now)[0].paused_until;
    let pause = until.expect("it is paused").since(bench.now);
    assert!(pause >= 30 * SECOND && pause <= 33 * SECOND, "{pause:?}");
    bench.wait(pause - Duration::from_micros(1));
    assert!(bench.answer_loads().connects.is_empty(), "not yet");
    bench.wait(Duration::from_micros(1));
    let connects = bench.answer_loads().connects;
    assert_eq!(connects.len(), 1, "until the site answers");
    bench.brain.handle_connected(connects[0], bench.now);
    bench.commit(&["b@x.example"]);
    assert!(
        bench.answer_loads().connects.is_empty(),
        "a banner is no answer"
    );
    bench.transact(connects[0], &delivered());
    bench.commit(&["b@x.example"]);
    assert!(bench.answer_loads().connects.len() > 1, "it answers");
}

#[test]
fn a_450_to_the_first_transaction_pauses_nothing() {
    let mut bench = hung_up_after(450);
    let connects = bench.answer_loads().connects;
    assert!(connects.len() > 1, "the site answered: {connects:?}");
    assert_eq!(bench.brain.lanes(9, bench.now)[0].paused_until, None);
}

#[test]
fn who_expires_is_told_the_last_answer_it_had_itself() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &Outcome::Deferred(said(450, "a is busy")));
    bench.wait(SECOND);
    bench.commit(&["b@x.example"]);
    bench.transact(c, &Outcome::Deferred(said(450, "b is busy")));
    bench.brain.handle_closed(c, None, bench.now);
    bench.answer_loads();
    bench.wait(Config::default().schedule.max_age);
    let asked = bench.answer_loads();
    assert_eq!(asked.batches.len(), 2);
    for batch in &asked.batches {
        let record = &batch.records[0];
        let own = match record["recipient"].as_str().unwrap() {
            "a@x.example" => "450 a is busy",
            _ => "450 b is busy",
        };
        let content = record["response"]["content"].as_str().unwrap();
        assert_eq!(record["type"], "Expiration");
        assert_eq!(content, format!("message expired; last: {own}"));
        let report = String::from_utf8_lossy(&batch.stored[0].data);
        assert!(report.contains(own), "{report}");
    }
}

#[test]
fn the_last_answer_outlives_a_restart() {
    let mut bench = Bench::plain();
    let message = bench.message(&["a@x.example"], |_| {});
    let last: Box<str> = "mailbox of a is full".into();
    let state = RecoveredRecipient {
        recipient: 0,
        domain: Domain::parse("x.example").unwrap(),
        attempts: 3,
        due: T0 + HOUR,
        last: last.clone(),
    };
    bench.last.insert(message.id, vec![(0, last.clone())]);
    let recovered = Recovered {
        id: message.id,
        received: T0,
        of: 1,
        labels: Labels::default(),
        unsettled: vec![state],
    };
    bench.brain.handle_recovered(recovered, bench.now);
    bench.route("x.example");
    assert_eq!(
        bench.brain.list(9, &Whose::default(), bench.now)[0].why,
        last
    );
    bench.wait(Config::default().schedule.max_age);
    let asked = bench.answer_loads();
    let content = &asked.batch().records[0]["response"]["content"];
    assert_eq!(content, "message expired; last: mailbox of a is full");
}

#[test]
fn what_fails_at_one_moment_does_not_come_back_at_one() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    for _ in 1..200 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    let mut waits = Vec::new();
    for _ in 0..200 {
        bench.transact(c, &deferred());
        let due = bench.asked().batch().due[0];
        waits.push(due.since(bench.now).as_secs());
    }
    assert!(
        waits.iter().all(|wait| (300..=330).contains(wait)),
        "{waits:?}"
    );
    // Thirty seconds for 200 of them: about seven in each.
    for second in 300..330 {
        let count = waits.iter().filter(|wait| **wait == second).count();
        assert!((1..=25).contains(&count), "{count} come back at {second} s");
    }
}
