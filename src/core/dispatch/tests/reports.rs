//! Reports and the batches they ride in.

use super::*;

fn notify(success: bool) -> Notify {
    Notify {
        given: true,
        success,
        failure: true,
        delay: true,
    }
}

fn warning() -> Config {
    Config {
        warn_after: Some(4 * HOUR),
        ..Config::default()
    }
}

#[test]
fn a_success_is_reported_where_the_next_hop_will_not_report_it() {
    for offers_dsn in [false, true] {
        let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
        bench.transact(c, &delivered());
        bench.asked();
        bench
            .brain
            .handle_greeted(c, &host("mx1.peer.example"), source(), offers_dsn, true);
        bench.commit_with(&["b@x.example"], |m| {
            m.envelope.recipients[0].notify = notify(true);
        });
        bench.transact(c, &delivered());
        let asked = bench.asked();
        if offers_dsn {
            assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
            continue;
        }
        assert_eq!(asked.batch().what, ["Delivery", "Settle 0", "Store"]);
        let text = String::from_utf8(asked.batch().stored[0].data.to_vec()).unwrap();
        assert!(text.contains("Action: relayed"), "{text}");
        let token = asked.batch().token.unwrap();
        bench.brain.handle_stored(token, true, bench.now);
        assert_eq!(bench.asked().resolves, ["origin.example"]);
    }
}

#[test]
fn a_delivery_does_not_wait_for_room_for_its_report() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &delivered());
    bench.asked();
    bench.commit_with(&["b@x.example"], |m| {
        m.envelope.recipients[0].notify = notify(true);
    });
    bench.transact(c, &delivered());
    let token = bench.asked().batch().token.unwrap();
    bench.brain.handle_stored(token, false, bench.now);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Delivery", "Settle 0"]);
    assert_eq!(asked.batch().token, None);
    bench.wait(MINUTE);
    let asked = bench.asked();
    assert_eq!(asked.batches.last().unwrap().what, ["Store"]);
}

#[test]
fn a_delay_is_told_once_in_the_batch_of_the_deferral() {
    let (mut bench, c) = Bench::under_way(warning(), &["a@x.example"]);
    bench.transact(c, &deferred());
    bench.brain.handle_closed(c, None, bench.now);
    assert_eq!(bench.asked().batch().what, ["Defer 0", "TransientFailure"]);
    bench.wait(4 * HOUR);
    let mut told = Vec::new();
    for _ in 0..3 {
        let asked = bench.answer_loads();
        assert_eq!(asked.resolves, ["x.example"]);
        bench.route("x.example");
        let c = asked.connects[0];
        bench.brain.handle_connected(c, bench.now);
        bench.answer_loads();
        bench.transact(c, &deferred());
        bench.brain.handle_closed(c, None, bench.now);
        told.push(bench.asked().batch().what.clone());
        bench.wait(5 * HOUR);
    }
    assert_eq!(told[0], ["Defer 0", "Store", "TransientFailure"]);
    assert_eq!(told[1], ["Defer 0", "TransientFailure"]);
    assert_eq!(told[2], ["Defer 0", "TransientFailure"]);
}

#[test]
fn a_deferral_does_not_wait_for_room_for_its_warning() {
    let (mut bench, c) = Bench::under_way(warning(), &["a@x.example"]);
    bench.wait(4 * HOUR);
    bench.transact(c, &deferred());
    let token = bench.asked().batch().token.unwrap();
    bench.brain.handle_stored(token, false, bench.now);
    assert_eq!(bench.asked().batch().what, ["Defer 0", "TransientFailure"]);
}

#[test]
fn a_deferral_that_is_no_longer_true_is_not_written_over_newer_ones() {
    let (mut bench, c) = Bench::under_way(warning(), &["a@x.example"]);
    bench.wait(4 * HOUR);
    bench.transact(c, &deferred());
    let token = bench.asked().batch().token.unwrap();
    bench.wait(6 * MINUTE);
    bench.answer_loads();
    bench.transact(c, &delivered());
    assert_eq!(bench.asked().batch().what, ["Delivery", "Settle 0"]);
    bench.brain.handle_stored(token, false, bench.now);
    assert_eq!(bench.asked().batch().what, ["TransientFailure"]);
}

#[test]
fn a_refusal_whose_report_finds_no_room_is_asked_for_again_each_minute() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &refused());
    let token = bench.asked().batch().token.unwrap();
    for _ in 0..5 {
        bench.brain.handle_stored(token, false, bench.now);
        bench.brain.handle_stored(token, false, bench.now);
        assert!(bench.asked().batches.is_empty());
        bench.wait(MINUTE);
        let asked = bench.asked();
        assert_eq!(asked.batch().what, ["Bounce", "Settle 0", "Store"]);
        assert_eq!(asked.batch().token, Some(token));
    }
    bench.brain.handle_stored(token, true, bench.now);
    assert_eq!(bench.brain.counters().queued, 1);
    bench.wait(MINUTE);
    assert!(bench.asked().batches.is_empty());
}

#[test]
fn what_has_no_report_does_not_wait_with_what_has() {
    let to = ["a@x.example", "b@x.example", "c@x.example"];
    let (mut bench, c) = Bench::under_way(Config::default(), &to);
    let (_, _, seq) = bench.pull(c);
    bench.settle(c, seq, &[(0, delivered()), (1, deferred()), (2, refused())]);
    let asked = bench.asked();
    let [plain, reported] = &asked.batches[..] else {
        panic!("two batches: {:?}", asked.batches);
    };
    let expected = ["Defer 1", "Delivery", "Settle 0", "TransientFailure"];
    assert_eq!(plain.what, expected);
    assert_eq!(plain.token, None);
    assert_eq!(reported.what, ["Bounce", "Settle 2", "Store"]);
}

#[test]
fn refusals_that_find_no_room_do_not_fill_the_memory() {
    let rules = "max_deliveries_per_connection = 1000000";
    let (mut bench, c) = Bench::shaped_under_way(rules, &["a@x.example"]);
    for _ in 0..1009 {
        bench.commit(&["b@x.example"]);
    }
    for _ in 0..1010 {
        bench.transact(c, &refused());
        for batch in bench.asked().batches {
            let token = batch.token.unwrap();
            bench.brain.handle_stored(token, false, bench.now);
        }
    }
    assert_eq!(bench.brain.counters().queued, 10, "ten are work again");
    bench.wait(MINUTE);
    let asked = bench.answer_loads();
    assert_eq!(asked.batches.len(), 1000);
    for batch in &asked.batches {
        let token = batch.token.unwrap();
        bench.brain.handle_stored(token, true, bench.now);
    }
    for _ in 0..10 {
        bench.answer_loads();
        bench.transact(c, &refused());
        let asked = bench.asked();
        let batch = asked.batches.last().unwrap();
        assert_eq!(batch.what, ["Bounce", "Settle 0", "Store"]);
        assert_eq!(batch.records[0]["num_attempts"], 1);
    }
}
