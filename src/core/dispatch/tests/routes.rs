//! Domains with and without a route.

use super::*;

#[test]
fn a_domain_is_resolved_once_for_all_that_waits_for_it() {
    let mut bench = Bench::plain();
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    assert_eq!(bench.asked().resolves, ["x.example"]);
    bench.route("x.example");
    let asked = bench.asked();
    assert_eq!(asked.connects.len(), 1);
    assert!(asked.resolves.is_empty());
}

#[test]
fn a_route_refused_for_good_refuses_all_that_waits() {
    let mut bench = Bench::plain();
    bench.commit(&["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    bench.no_route("x.example", RouteError::NoSuchDomain);
    let asked = bench.asked();
    assert_eq!(asked.batches.len(), 2);
    for batch in &asked.batches {
        assert_eq!(batch.what, ["Bounce", "Settle 0", "Store"]);
        assert_eq!(batch.records[0]["response"]["code"], 550);
        assert_eq!(batch.records[0]["response"]["enhanced_code"]["detail"], 2);
    }
    bench.commit(&["c@x.example"]);
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Bounce", "Settle 0", "Store"]);
    assert!(asked.resolves.is_empty(), "the answer is still valid");
    bench.wait(2 * HOUR);
    bench.commit(&["d@x.example"]);
    assert_eq!(bench.asked().resolves, ["x.example"]);
}

#[test]
fn a_dns_failure_costs_the_first_in_line_an_attempt_and_nobody_else() {
    let mut bench = Bench::plain();
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    bench.asked();
    bench.no_route("x.example", RouteError::Dns("SERVFAIL"));
    let asked = bench.asked();
    assert_eq!(asked.batch().what, ["Defer 0", "TransientFailure"]);
    assert!(asked.resolves.is_empty(), "the domain pauses");
    assert_eq!(bench.brain.counters().held_octets, 0, "and holds nothing");
    let pause = bench.wait_for_timer();
    assert!(pause >= Duration::from_secs(30) && pause <= Duration::from_secs(33));
    assert_eq!(bench.asked().resolves, ["x.example"]);
    bench.no_route("x.example", RouteError::Dns("SERVFAIL"));
    bench.answer_loads();
    let pause = bench.wait_for_timer();
    assert!(pause >= Duration::from_secs(60) && pause <= Duration::from_secs(66));
    bench.asked();
    bench.route("x.example");
    let c = bench.answer_loads().connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.answer_loads();
    bench.transact(c, &delivered());
}

#[test]
fn a_domain_that_is_woken_often_has_one_timer_for_what_expires() {
    let config = Config {
        connect_backoff: Schedule::exponential(2 * HOUR, 2 * HOUR, 1000 * HOUR),
        schedule: Schedule::exponential(MINUTE, MINUTE, HOUR),
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    bench.commit(&["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    bench.no_route("x.example", RouteError::Dns("time-out"));
    let domain = bench.brain.domain_by_name["x.example"];
    bench.brain.wake_domain(domain, bench.now);
    let timers = bench.brain.due.len();
    for _ in 0..100 {
        bench.brain.wake_domain(domain, bench.now);
    }
    assert_eq!(bench.brain.due.len(), timers);
}

#[test]
fn an_old_route_serves_while_dns_is_away() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &delivered());
    bench.brain.handle_closed(c, None, bench.now);
    bench.asked();
    bench.now = bench.now + 2 * HOUR;
    bench.commit(&["b@x.example"]);
    let asked = bench.asked();
    assert_eq!(asked.resolves, ["x.example"]);
    assert_eq!(
        asked.connects.len(),
        1,
        "the old plan is good enough meanwhile"
    );
    bench.no_route("x.example", RouteError::Dns("timeout"));
    assert!(bench.asked().is_nothing());
    bench.brain.handle_connected(asked.connects[0], bench.now);
    bench.transact(asked.connects[0], &delivered());
}

#[test]
fn a_permanent_refusal_survives_no_longer_than_it_is_valid_while_work_waits() {
    let (mut bench, c) = Bench::under_way(Config::default(), &["a@x.example"]);
    bench.transact(c, &deferred());
    bench.brain.handle_closed(c, None, bench.now);
    bench.asked();
    bench.no_route("x.example", RouteError::NullMx);
    bench.wait(10 * MINUTE);
    let asked = bench.answer_loads();
    assert_eq!(asked.batch().what, ["Bounce", "Settle 0", "Store"]);
    assert_eq!(asked.batch().records[0]["response"]["code"], 556);
}

#[test]
fn work_is_first_asked_for_where_it_is_then_where_it_lives() {
    let config = |shard| Config {
        shards: 4,
        shard: ShardId(shard),
        ..Config::default()
    };
    let mut homes = Vec::new();
    for shard in 0..4 {
        let mut bench = Bench::shaped(config(shard), "connection_limit = 1");
        let message = bench.commit(&["a@x.example"]);
        bench.asked();
        bench.route("x.example");
        let mut asked = bench.asked();
        let Some((to, work)) = asked.forwards.pop() else {
            assert_eq!(asked.connects.len(), 1);
            homes.push(ShardId(shard));
            continue;
        };
        assert!(asked.connects.is_empty());
        assert_eq!(bench.brain.counters().queued, 0, "in one place only");
        assert_eq!(bench.brain.counters().held_octets, 0);
        let mut home = Bench::shaped(config(to.0), "connection_limit = 1");
        home.spool.insert(message.id, message);
        home.brain.handle_forwarded(work, home.now);
        let asked = home.asked();
        assert!(asked.resolves.is_empty(), "the plan came with the work");
        home.brain.handle_connected(asked.connects[0], home.now);
        home.transact(asked.connects[0], &deferred());
        home.asked();
        home.wait(6 * MINUTE);
        assert_eq!(home.answer_loads().resolves, ["x.example"]);
        homes.push(to);
    }
    homes.dedup();
    assert_eq!(homes.len(), 1, "one home for one connection");
}

#[test]
fn a_route_that_comes_with_forwarded_work_serves_what_waits_for_one() {
    let config = Config {
        shards: 2,
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, "connection_limit = 1");
    let home = (0..).map(|n| format!("site{n}")).find(|site| {
        let site = SiteName::new(site);
        crate::dispatch::lane::home(&site, "", 2) == ShardId(0)
    });
    bench.commit(&["a@x.example"]);
    assert_eq!(bench.asked().resolves, ["x.example"]);
    let message = bench.message(&["b@x.example"], |_| {});
    let work = Work {
        id: message.id,
        of: 1,
        attempts: 0,
        warned: false,
        counted: 0,
        labels: Labels::default(),
        domain: Domain::parse("x.example").unwrap(),
        recipients: [0].into(),
        message: Some(message),
        octets: 0,
        plan: plan(&home.unwrap()),
        source: None,
    };
    bench.brain.handle_forwarded(work, bench.now);
    bench.no_route("x.example", RouteError::Dns("timeout"));
    let c = bench.asked().connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.transact(c, &delivered());
    bench.transact(c, &delivered());
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn recovered_work_keeps_its_attempts_and_its_time() {
    let mut bench = Bench::plain();
    let message = bench.message(&["a@x.example", "b@x.example", "c@x.example"], |_| {});
    let state = |recipient, attempts, due| RecoveredRecipient {
        recipient,
        domain: Domain::parse("x.example").unwrap(),
        attempts,
        due,
        last: Box::default(),
    };
    let recovered = Recovered {
        id: message.id,
        received: T0,
        of: 3,
        labels: Labels::default(),
        unsettled: vec![state(0, 0, T0), state(2, 3, T0 + HOUR)],
    };
    bench.wait(MINUTE);
    bench.brain.handle_recovered(recovered, bench.now);
    assert_eq!(bench.asked().resolves, ["x.example"]);
    bench.route("x.example");
    let asked = bench.answer_loads();
    bench.brain.handle_connected(asked.connects[0], bench.now);
    let (_, recipients, seq) = bench.pull(asked.connects[0]);
    assert_eq!(recipients, [0], "the other one is not due");
    bench.settle(asked.connects[0], seq, &[(0, delivered())]);
    bench
        .brain
        .handle_closed(asked.connects[0], None, bench.now);
    bench.asked();
    bench.wait(HOUR);
    let asked = bench.answer_loads();
    assert_eq!(asked.resolves, ["x.example"]);
    bench.route("x.example");
    let c = asked.connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.transact(c, &deferred());
    let asked = bench.asked();
    assert_eq!(asked.batch().records[0]["num_attempts"], 4);
    assert!(asked.batch().due[0].since(bench.now) >= 40 * MINUTE);
}

#[test]
fn domains_and_lanes_without_work_are_forgotten() {
    let mut bench = Bench::plain();
    for n in 0..20_000 {
        let domain = format!("d{n}.example");
        bench.commit_with(&[&format!("a@{domain}")], |m| m.envelope.sender = None);
        match n % 4 {
            0 => bench.no_route(&domain, RouteError::NoSuchDomain),
            1 => {
                bench.route(&domain);
                let c = bench.asked().connects[0];
                bench.brain.handle_connected(c, bench.now);
                bench.transact(c, &delivered());
                bench.brain.handle_closed(c, None, bench.now);
            }
            2 => {
                bench.route(&domain);
                let c = bench.asked().connects[0];
                bench.brain.handle_connected(c, bench.now);
                bench.transact(c, &refused());
                assert!(bench.try_pull(c).is_none());
                bench.brain.handle_closed(c, Some(lost()), bench.now);
            }
            _ => {
                bench.no_route(&domain, RouteError::Dns("timeout"));
                bench.asked();
                let domain = Domain::parse(&domain).unwrap();
                bench.brain.handle_flush(Some(&domain), bench.now);
                bench.no_route(domain.as_str(), RouteError::NullMx);
            }
        }
        bench.answer_loads();
        bench.spool.clear();
        bench.wait(Duration::from_millis(200));
        let (domains, lanes) = bench.brain.known();
        assert!(domains <= 302 && lanes <= 302, "{n}: {domains}, {lanes}");
    }
    assert_eq!(bench.brain.counters().queued, 0);
    bench.wait(2 * HOUR);
    assert_eq!(bench.brain.known(), (0, 0));
    assert_eq!(bench.brain.timers(), 0);
}

#[test]
fn plans_of_one_site_name_but_other_hosts_stay_apart() {
    let plan_of = |names: &[&str]| {
        let host_of = |name: &&str| host(name);
        Arc::new(Plan {
            site: SiteName::new("(mx1|mx2).(foo|bar).(com|net)"),
            names: names.join(" ").into(),
            mx_hosts: Vec::new(),
            hosts: names.iter().map(host_of).collect(),
        })
    };
    let mut bench = Bench::plain();
    let victim = plan_of(&["mx1.foo.com", "mx2.bar.net"]);
    let swapped = plan_of(&["mx2.bar.net", "mx1.foo.com"]);
    let attacker = plan_of(&["mx2.foo.net", "mx1.foo.com", "mx2.bar.net"]);
    let domains = [
        ("victim.example", victim),
        ("swapped.example", swapped),
        ("evil.example", attacker),
    ];
    for (domain, plan) in &domains {
        bench.commit(&[&format!("a@{domain}")]);
        let domain = Domain::parse(domain).unwrap();
        let until = bench.now + HOUR;
        bench
            .brain
            .handle_route(&domain, Ok(Arc::clone(plan)), until, bench.now);
    }
    for (domain, expected) in &domains {
        let plan = connect_of(&mut bench).expect(domain);
        assert_eq!(plan, *expected, "{domain}");
    }
    let mut moved = (*domains[0].1).clone();
    moved.hosts[0].address = "192.0.2.77:25".parse().unwrap();
    let domain = Domain::parse("victim.example").unwrap();
    let until = bench.now + HOUR;
    bench
        .brain
        .handle_route(&domain, Ok(Arc::new(moved)), until, bench.now);
    assert_eq!(bench.brain.known().1, 3, "a new address is no new lane");
}

fn connect_of(bench: &mut Bench) -> Option<Arc<Plan>> {
    core::iter::from_fn(|| bench.brain.poll_action()).find_map(|action| {
        if let Action::Connect { plan, .. } = action {
            Some(plan)
        } else {
            None
        }
    })
}

/// Work queued behind a host that answers nobody; what it is routed to, and how many at once.
fn queued_behind_a_dead_mx(domains: &[&str]) -> Bench {
    let mut bench = Bench::plain();
    for domain in domains {
        for _ in 0..100 {
            bench.commit(&[&format!("a@{domain}")]);
        }
        bench.route_to(domain, "old");
    }
    for c in bench.answer_loads().connects {
        bench.connect_fails(c);
    }
    bench.answer_loads();
    bench
}

/// Serves until nothing moves; how many were delivered.
fn deliver_all(bench: &mut Bench) -> u64 {
    bench.wait(Duration::from_millis(20));
    let mut open = Vec::new();
    loop {
        let before = bench.brain.counters().delivered;
        for c in bench.answer_loads().connects {
            bench.brain.handle_connected(c, bench.now);
            open.push(c);
        }
        for c in &open {
            while let Some((_, _, seq)) = bench.try_pull(*c) {
                bench.settle(*c, seq, &[(0, delivered())]);
                open_loads(bench);
            }
        }
        bench.wait(Duration::from_millis(20));
        if bench.brain.counters().delivered == before && open_loads(bench) == 0 {
            return before;
        }
    }
}

fn open_loads(bench: &mut Bench) -> usize {
    let before = bench.brain.counters().held_octets;
    bench.answer_loads();
    usize::from(bench.brain.counters().held_octets != before)
}

#[test]
fn work_follows_its_domain_to_another_site_at_once() {
    let mut bench = queued_behind_a_dead_mx(&["x.example"]);
    bench.route_to("x.example", "new");
    assert_eq!(bench.brain.known().1, 1, "the old lane is forgotten");
    assert_eq!(
        deliver_all(&mut bench),
        99,
        "all but the one that was tried"
    );
}

#[test]
fn work_leaves_a_lane_that_others_still_share() {
    let mut bench = queued_behind_a_dead_mx(&["x.example", "y.example"]);
    bench.route_to("x.example", "new");
    bench.wait(Duration::from_millis(1));
    assert_eq!(deliver_all(&mut bench), 99);
    assert_eq!(bench.brain.counters().queued, 101, "the others wait");
    bench.no_route("y.example", RouteError::NoSuchDomain);
    bench.answer_loads();
    assert_eq!(bench.brain.counters().refused, 100);
}

#[test]
fn work_under_way_to_an_old_site_goes_to_the_new_one() {
    let mut bench = Bench::new(Config {
        held_octets_max: 0,
        ..Config::default()
    });
    bench.commit(&["a@x.example"]);
    bench.commit(&["b@x.example"]);
    bench.asked();
    bench.route_to("x.example", "old");
    let asked = bench.asked();
    let (loads, old) = (asked.loads, asked.connects[0]);
    assert_eq!(loads.len(), 1);
    bench.route_to("x.example", "new");
    bench.load(loads[0]);
    bench.brain.handle_connected(old, bench.now);
    assert!(bench.try_pull(old).is_none());
    bench.wait(Duration::ZERO);
    bench.brain.handle_closed(old, None, bench.now);
    assert_eq!(deliver_all(&mut bench), 2);
}
