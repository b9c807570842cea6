//! What is held in memory, and how it comes back.

use super::*;

/// A brain with room for so many octets, and two connections to a site.
fn budget(octets: usize) -> Bench {
    let config = Config {
        held_octets_max: octets,
        ..Config::default()
    };
    Bench::shaped(config, "connection_limit = 2")
}

#[test]
fn beyond_the_budget_messages_are_let_go_and_loaded_when_their_turn_comes() {
    let mut bench = budget(10_000);
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
        assert!(bench.brain.counters().held_octets <= 10_000);
    }
    bench.asked();
    bench.route("x.example");
    let open = bench.asked().connects;
    assert_eq!(open.len(), 2);
    let mut done = 0;
    while done < 100 {
        for c in &open {
            bench.brain.handle_connected(*c, bench.now);
            if let Some((_, _, seq)) = bench.try_pull(*c) {
                bench.settle(*c, seq, &[(0, delivered())]);
                done += 1;
            }
        }
        for id in bench.asked().loads {
            bench.load(id);
            assert!(bench.brain.counters().held_octets <= 10_000 + 2 * 1000);
        }
    }
    assert_eq!(bench.brain.counters().held_octets, 0);
    assert_eq!(bench.brain.counters().delivered, 100);
}

#[test]
fn large_messages_are_loaded_one_for_each_connection_at_most() {
    let mut bench = budget(10_000);
    for _ in 0..20 {
        bench.commit_with(&["a@x.example"], |m| m.data = vec![b'x'; 9_000].into());
    }
    bench.asked();
    bench.route("x.example");
    let mut asked = bench.asked();
    let open = asked.connects;
    let mut done = 0;
    while done < 20 {
        assert!(asked.loads.len() <= 2, "{:?}", asked.loads);
        for id in asked.loads {
            bench.load(id);
        }
        assert!(bench.brain.counters().held_octets <= 10_000 + 2 * 9_000);
        for c in &open {
            bench.brain.handle_connected(*c, bench.now);
            if let Some((_, _, seq)) = bench.try_pull(*c) {
                bench.settle(*c, seq, &[(0, delivered())]);
                done += 1;
            }
        }
        asked = bench.asked();
    }
}

#[test]
fn a_message_of_several_domains_counts_once_and_is_shared() {
    let mut bench = Bench::plain();
    let message = bench.commit(&["a@x.example", "b@y.example", "c@z.example"]);
    assert_eq!(bench.brain.counters().held_octets, message.size());
    bench.asked();
    for domain in ["x.example", "y.example"] {
        bench.route(domain);
        let c = bench.asked().connects[0];
        bench.brain.handle_connected(c, bench.now);
        assert!(Arc::ptr_eq(&bench.pull(c).0, &message));
        bench.brain.handle_closed(c, Some(lost()), bench.now);
        assert_eq!(bench.brain.counters().held_octets, message.size());
    }
    bench.asked();
    bench.wait(Duration::from_secs(330));
    let asked = bench.asked();
    assert!(asked.loads.is_empty(), "one of them held it all the time");
    for c in asked.connects {
        bench.brain.handle_connected(c, bench.now);
        bench.transact(c, &delivered());
    }
    bench.no_route("z.example", RouteError::Dns("timeout"));
    assert_eq!(bench.brain.counters().held_octets, 0);
}

#[test]
fn an_unreadable_message_is_tried_again_and_stands_in_nobodys_way() {
    let mut bench = budget(0);
    for _ in 0..30 {
        bench.commit(&["a@x.example"]);
    }
    let good = bench.commit(&["b@x.example"]);
    let bad = core::mem::take(&mut bench.spool);
    bench.spool.insert(good.id, good);
    bench.asked();
    bench.route("x.example");
    let asked = bench.answer_loads();
    bench.brain.handle_connected(asked.connects[0], bench.now);
    assert_eq!(bench.brain.counters().unreadable, 30);
    bench.transact(asked.connects[0], &delivered());
    bench.spool = bad;
    bench.asked();
    bench.wait(Duration::from_secs(59));
    assert!(bench.asked().loads.is_empty());
    bench.wait(Duration::from_secs(1));
    for _ in 0..30 {
        bench.answer_loads();
        bench.transact(asked.connects[0], &delivered());
    }
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn what_is_unreadable_when_it_expires_leaves_the_queue_unsettled() {
    let mut bench = budget(0);
    bench.commit(&["a@x.example"]);
    bench.spool.clear();
    bench.asked();
    bench.wait(Config::default().schedule.max_age);
    bench.route("x.example");
    assert!(bench.answer_loads().is_nothing());
    assert_eq!(bench.brain.counters().queued, 0);
    assert_eq!(bench.brain.counters().unreadable, 1);
}

#[test]
fn a_message_the_spool_has_settled_is_dropped_without_a_word() {
    let mut bench = budget(0);
    let message = bench.commit(&["a@x.example", "b@y.example"]);
    bench.asked();
    bench.route("x.example");
    bench.route("y.example");
    let asked = bench.asked();
    assert_eq!(asked.loads, [message.id], "one load for both");
    bench.brain.handle_gone(message.id, bench.now);
    assert!(bench.asked().is_nothing());
    assert_eq!(bench.brain.counters().queued, 0);
    assert_eq!(bench.brain.counters().unreadable, 0);
}

#[test]
fn neither_retries_nor_fresh_mail_starve_the_other() {
    let mut bench = Bench::shaped(Config::default(), "connection_limit = 1");
    for _ in 0..200 {
        bench.recover("x.example", 1, T0);
    }
    for _ in 0..200 {
        bench.commit(&["b@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let c = bench.answer_loads().connects[0];
    bench.brain.handle_connected(c, bench.now);
    let mut tried = [0, 0];
    for _ in 0..100 {
        let message = bench.transact(c, &delivered());
        let local = message.envelope.recipients[0].address.local();
        tried[usize::from(local == "a")] += 1;
        bench.answer_loads();
    }
    assert_eq!(tried, [50, 50]);
}

#[test]
fn loads_may_end_after_their_lane() {
    for is_gone in [false, true] {
        let mut bench = Bench::new(Config {
            recipients_per_entry_max: 1,
            ..Config::default()
        });
        let message = bench.message(&["a@x.example", "b@x.example"], |_| {});
        let state = |recipient| RecoveredRecipient {
            recipient,
            domain: Domain::parse("x.example").unwrap(),
            attempts: 0,
            due: T0,
            last: Box::default(),
        };
        let recovered = Recovered {
            id: message.id,
            received: T0,
            of: 2,
            labels: Labels::default(),
            unsettled: vec![state(0), state(1)],
        };
        bench.brain.handle_recovered(recovered, bench.now);
        bench.asked();
        bench.route_to("x.example", "old");
        let asked = bench.asked();
        assert_eq!(asked.loads, [message.id], "one load for both");
        bench.no_route("x.example", RouteError::NoSuchDomain);
        bench.connect_fails(asked.connects[0]);
        if is_gone {
            bench.brain.handle_gone(message.id, bench.now);
        } else {
            bench.brain.handle_loaded(message.id, None, bench.now);
        }
        assert_eq!(bench.brain.known().1, 0, "the lane is forgotten");
    }
}
