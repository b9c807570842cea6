//! Recipients of one message in several domains of one site: one transaction, and each its own fate.

use super::*;

/// All these domains are of one site.
fn of_one_site(mut bench: Bench, recipients: &[&str]) -> (Bench, ConnectionId, Arc<Message>) {
    let message = bench.commit(recipients);
    for domain in bench.asked().resolves {
        bench.route_to(&domain, "site");
    }
    let c = bench.asked().connects[0];
    bench.brain.handle_connected(c, bench.now);
    (bench, c, message)
}

/// What was asked for in all batches, in words.
fn all(asked: &Asked) -> Vec<&str> {
    let batches = asked.batches.iter().flat_map(|batch| &batch.what);
    let mut what: Vec<&str> = batches.map(String::as_str).collect();
    what.sort_unstable();
    what
}

/// Of each domain's records.
fn of_records(asked: &Asked, key: &str) -> BTreeMap<String, Value> {
    let records = asked.batches.iter().flat_map(|batch| &batch.records);
    records
        .map(|record| {
            let queue = record["queue"].as_str().unwrap();
            (queue.to_owned(), record[key].clone())
        })
        .collect()
}

/// Two domains of one site whose entries have been tried twice and five times, due now.
fn recovered(bench: &mut Bench) -> Arc<Message> {
    let message = bench.message(&["a@x.example", "b@y.example"], |_| {});
    let unsettled = [("x.example", 2), ("y.example", 5)].into_iter().zip(0..);
    let unsettled = unsettled.map(|((domain, attempts), recipient)| RecoveredRecipient {
        recipient,
        domain: Domain::parse(domain).unwrap(),
        attempts,
        due: bench.now,
        last: Box::default(),
    });
    let recovered = Recovered {
        id: message.id,
        received: bench.now,
        of: 2,
        labels: Labels::default(),
        unsettled: unsettled.collect(),
    };
    bench.brain.handle_recovered(recovered, bench.now);
    message
}

#[test]
fn domains_of_one_site_share_a_transaction() {
    let to = ["a@x.example", "b@y.example", "c@x.example"];
    let (mut bench, c, message) = of_one_site(Bench::plain(), &to);
    let (pulled, recipients, seq) = bench.pull(c);
    assert_eq!((pulled.id, recipients), (message.id, vec![0, 2, 1]));
    assert!(bench.try_pull(c).is_none(), "nothing is left");
    let lane = bench.brain.connections[&c].lane;
    assert_eq!(bench.brain.lanes[lane].strands.at_hand(), 0);
    bench.settle(c, seq, &[0, 2, 1].map(|r| (r, delivered())));
    let asked = bench.asked();
    let mut settled = vec!["Delivery"; 3];
    settled.extend(["Settle 0", "Settle 1", "Settle 2"]);
    assert_eq!(all(&asked), settled);
    assert_eq!(of_records(&asked, "num_attempts").len(), 2, "two domains");
    let counters = bench.brain.counters();
    assert_eq!((counters.queued, counters.held_octets), (0, 0));
}

#[test]
fn messages_of_others_between_them_are_passed_over_and_not_taken() {
    let mut bench = Bench::plain();
    let both = ["a@x.example", "b@y.example"];
    let first = bench.commit(&both);
    let second = bench.commit(&both);
    bench.asked();
    // As routes become known the lane gets x of both, then y of both.
    bench.route_to("x.example", "site");
    bench.route_to("y.example", "site");
    let c = bench.asked().connects[0];
    bench.brain.handle_connected(c, bench.now);
    for message in [first, second] {
        let (pulled, recipients, seq) = bench.pull(c);
        assert_eq!((pulled.id, recipients), (message.id, vec![0, 1]));
        bench.settle(c, seq, &[0, 1].map(|r| (r, delivered())));
    }
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn each_of_a_shared_transaction_has_its_own_outcome_and_due_time() {
    let to = ["a@x.example", "b@y.example", "c@z.example"];
    let (mut bench, c, _) = of_one_site(Bench::plain(), &to);
    let (_, recipients, seq) = bench.pull(c);
    assert_eq!(recipients, [0, 1, 2]);
    bench.settle(c, seq, &[(2, refused()), (0, delivered()), (1, deferred())]);
    let asked = bench.asked();
    let what = [
        "Bounce",
        "Defer 1",
        "Delivery",
        "Settle 0",
        "Settle 2",
        "Store",
        "TransientFailure",
    ];
    assert_eq!(all(&asked), what);
    assert_eq!(bench.brain.counters().queued, 1, "y only");
    bench.brain.handle_closed(c, None, bench.now);
    bench.wait(6 * MINUTE);
    let c = bench.answer_loads().connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.answer_loads();
    let (_, recipients, seq) = bench.pull(c);
    assert_eq!(recipients, [1], "what is settled is not tried again");
    bench.settle(c, seq, &[(1, delivered())]);
    assert_eq!(bench.asked().batch().records[0]["num_attempts"], 2);
}

#[test]
fn retries_of_one_message_meet_again_and_keep_their_attempts() {
    // Without room in memory the second entry has its message from the first one.
    for held_octets_max in [256 << 20, 0] {
        let mut bench = Bench::new(Config {
            held_octets_max,
            ..Config::default()
        });
        let message = recovered(&mut bench);
        for domain in bench.asked().resolves {
            bench.route_to(&domain, "site");
        }
        let c = bench.answer_loads().connects[0];
        bench.brain.handle_connected(c, bench.now);
        let (pulled, recipients, seq) = bench.pull(c);
        assert_eq!((pulled.id, recipients), (message.id, vec![0, 1]));
        assert_eq!(bench.brain.counters().held_octets, 1000, "held once");
        bench.settle(c, seq, &[(0, deferred()), (1, deferred())]);
        let asked = bench.asked();
        let attempts = of_records(&asked, "num_attempts");
        assert_eq!(
            (&attempts["x.example"], &attempts["y.example"]),
            (&3.into(), &6.into())
        );
        let due: Vec<Moment> = asked.batches.iter().flat_map(|b| b.due.clone()).collect();
        let waits = [due[0].since(T0), due[1].since(T0)];
        assert!(waits[0] < HOUR && waits[1] > 2 * HOUR, "{waits:?}");
        assert_eq!(bench.brain.counters().held_octets, 0);
    }
}

#[test]
fn a_lost_connection_defers_all_of_its_transaction() {
    let to = ["a@x.example", "b@y.example"];
    let (mut bench, c, _) = of_one_site(Bench::plain(), &to);
    bench.pull(c);
    bench.brain.handle_closed(c, Some(lost()), bench.now);
    let asked = bench.asked();
    let what = ["Defer 0", "Defer 1", "TransientFailure", "TransientFailure"];
    assert_eq!(all(&asked), what);
    assert_eq!(bench.brain.lanes(9, bench.now), [], "nothing is in flight");
    assert_eq!(bench.brain.counters().held_octets, 0);
}

#[test]
fn a_returned_transaction_goes_first_and_whole() {
    let to = ["a@x.example", "b@y.example"];
    let (mut bench, c, message) = of_one_site(Bench::plain(), &to);
    bench.commit(&["c@x.example"]);
    let (_, _, seq) = bench.pull(c);
    bench.brain.handle_returned(c, seq, bench.now);
    assert!(bench.asked().batches.is_empty(), "no attempt was made");
    let (pulled, recipients, seq) = bench.pull(c);
    assert_eq!((pulled.id, recipients), (message.id, vec![0, 1]));
    bench.settle(c, seq, &[0, 1].map(|r| (r, delivered())));
    let attempts = of_records(&bench.asked(), "num_attempts");
    assert!(attempts.values().all(|n| *n == 1), "{attempts:?}");
}

#[test]
fn a_shared_transaction_has_no_more_recipients_than_allowed() {
    let rules = "max_recipients_per_batch = 3";
    let bench = Bench::shaped(Config::default(), rules);
    let to = ["a@x.a", "b@x.a", "c@y.a", "d@y.a", "e@z.a", "f@w.a"];
    let (mut bench, c, _) = of_one_site(bench, &to);
    assert_eq!(bench.pull(c).1, [0, 1, 4], "the next that fits");
    assert_eq!(bench.pull(c).1, [2, 3, 5]);
}

#[test]
fn what_goes_together_needs_one_connection() {
    let mut bench = Bench::plain();
    let to: Vec<String> = (0..100).map(|n| format!("a@d{n:02}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    bench.commit(&to);
    for domain in bench.asked().resolves {
        bench.route_to(&domain, "site");
    }
    let connects = bench.asked().connects;
    assert_eq!(connects.len(), 1);
    bench.brain.handle_connected(connects[0], bench.now);
    let (_, recipients, seq) = bench.pull(connects[0]);
    assert_eq!(recipients.len(), 100);
    let outcomes: Vec<_> = recipients.iter().map(|r| (*r, delivered())).collect();
    bench.settle(connects[0], seq, &outcomes);
    assert_eq!(bench.brain.counters().delivered, 100);
}

#[test]
fn a_domain_that_has_left_the_site_is_not_taken_along() {
    let to = ["a@x.example", "b@y.example"];
    let (mut bench, c, _) = of_one_site(Bench::plain(), &to);
    bench.route_to("y.example", "elsewhere");
    assert_eq!(bench.pull(c).1, [0]);
    bench.wait(Duration::ZERO);
    let elsewhere = bench.asked().connects[0];
    bench.brain.handle_connected(elsewhere, bench.now);
    assert_eq!(bench.pull(elsewhere).1, [1]);
}
