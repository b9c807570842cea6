//! Routing by made-up answers: each rule of `route`, without a resolver.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use super::*;
use crate::words::{Domain, Plan, RouteError};

/// A zone by hand: `(name, type, answer)`. What is not in it exists and has no records.
#[derive(Default)]
struct Zone(Vec<(&'static str, RecordType, Answer)>);

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn answer(status: Status, records: Vec<Data>) -> Answer {
    Answer {
        status,
        alias: None,
        records,
        ttl: Duration::from_secs(300),
    }
}

impl Zone {
    fn mx(mut self, name: &'static str, hosts: &[(u16, &str)]) -> Self {
        let record = |(preference, host): &(u16, &str)| Data::Mx {
            preference: *preference,
            exchange: match *host {
                "." => Exchange::Root,
                "!" => Exchange::Malformed,
                host => Exchange::Name(domain(host)),
            },
        };
        let records = hosts.iter().map(record).collect();
        self.0
            .push((name, RecordType::Mx, answer(Status::Exists, records)));
        self
    }

    fn address(mut self, name: &'static str, addresses: &[&str]) -> Self {
        for kind in [RecordType::A, RecordType::Aaaa] {
            let records = addresses
                .iter()
                .map(|a| a.parse::<IpAddr>().unwrap())
                .filter(|a| a.is_ipv4() == (kind == RecordType::A))
                .map(Data::Address)
                .collect();
            self.0.push((name, kind, answer(Status::Exists, records)));
        }
        self
    }

    fn all(mut self, name: &'static str, answer: &Answer) -> Self {
        for kind in [RecordType::Mx, RecordType::A, RecordType::Aaaa] {
            self.0.push((name, kind, answer.clone()));
        }
        self
    }

    fn alias(self, name: &'static str, target: &str) -> Self {
        let mut alias = answer(Status::Exists, Vec::new());
        alias.alias = Some(domain(target));
        self.all(name, &alias)
    }

    fn missing(self, name: &'static str) -> Self {
        self.all(name, &answer(Status::NoSuchName, Vec::new()))
    }

    fn failing(self, name: &'static str) -> Self {
        self.all(name, &Answer::failed("SERVFAIL", Duration::from_secs(30)))
    }

    fn answer(&self, query: &Query) -> Answer {
        self.0
            .iter()
            .find(|(name, kind, _)| *name == query.name.as_str() && *kind == query.kind)
            .map_or_else(
                || answer(Status::Exists, Vec::new()),
                |(_, _, answer)| answer.clone(),
            )
    }

    fn routed(&self, name: &str, policy: &Policy, random: u64) -> Routed {
        let mut resolution = Resolution::new(&domain(name), &Arc::new(policy.clone()), random);
        for _ in 0..200 {
            match resolution.poll_action().expect("an action is due") {
                Action::Done(routed) => {
                    assert_eq!(resolution.poll_action(), None, "nothing follows Done");
                    return routed;
                }
                Action::Query(query) => resolution.handle_answer(&query, &self.answer(&query)),
            }
        }
        panic!("the resolution of {name} does not end");
    }

    fn route(&self, name: &str, policy: &Policy) -> Result<Plan, RouteError> {
        self.routed(name, policy, 1).result
    }
}

fn addresses(plan: &Plan) -> Vec<String> {
    plan.hosts.iter().map(|h| h.address.to_string()).collect()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.hosts.iter().map(|h| &*h.name).collect()
}

#[test]
fn hosts_are_tried_by_preference() {
    let zone = Zone::default()
        .mx(
            "d.example",
            &[(20, "b.example"), (10, "a.example"), (30, "c.example")],
        )
        .address("a.example", &["192.0.2.1", "2001:db8::1"])
        .address("b.example", &["192.0.2.2", "192.0.2.3"])
        .address("c.example", &["192.0.2.4"]);
    let plan = zone.route("d.example", &Policy::default()).unwrap();
    assert_eq!(
        addresses(&plan),
        [
            "192.0.2.1:25",
            "[2001:db8::1]:25",
            "192.0.2.2:25",
            "192.0.2.3:25",
            "192.0.2.4:25"
        ]
    );
    assert_eq!(plan.site.as_str(), "(a|b|c).example");
    let v6_first = Policy {
        families: Families::V6ThenV4,
        ..Policy::default()
    };
    let plan = zone.route("d.example", &v6_first).unwrap();
    assert_eq!(addresses(&plan)[..2], ["[2001:db8::1]:25", "192.0.2.1:25"]);
    let v6_only = Policy {
        families: Families::V6,
        ..Policy::default()
    };
    let plan = zone.route("d.example", &v6_only).unwrap();
    assert_eq!(addresses(&plan), ["[2001:db8::1]:25"]);
}

#[test]
fn equal_preferences_are_shuffled_and_the_site_stays_the_same() {
    let zone = Zone::default()
        .mx(
            "d.example",
            &[
                (10, "a.example"),
                (10, "b.example"),
                (10, "c.example"),
                (20, "z.example"),
            ],
        )
        .address("a.example", &["192.0.2.1"])
        .address("b.example", &["192.0.2.2"])
        .address("c.example", &["192.0.2.3"])
        .address("z.example", &["192.0.2.9"]);
    let mut first = [0_u32; 3];
    for random in 0..600 {
        let plan = zone
            .routed("d.example", &Policy::default(), random)
            .result
            .unwrap();
        assert_eq!(plan.site.as_str(), "(a|b|c|z).example");
        assert_eq!(names(&plan)[3], "z.example");
        let index = ["a.example", "b.example", "c.example"]
            .iter()
            .position(|n| *n == names(&plan)[0]);
        first[index.unwrap()] += 1;
    }
    assert!(first.iter().all(|n| (140..260).contains(n)), "{first:?}");
}

#[test]
fn a_domain_without_mx_is_its_own_host() {
    let zone = Zone::default().address("d.example", &["192.0.2.1"]);
    let plan = zone.route("d.example", &Policy::default()).unwrap();
    assert_eq!(addresses(&plan), ["192.0.2.1:25"]);
    assert_eq!(plan.site.as_str(), "d.example");
}

#[test]
fn an_mx_that_fails_is_no_missing_mx() {
    let failed = Answer::failed("SERVFAIL", Duration::from_secs(30));
    let mut zone = Zone::default().address("d.example", &["192.0.2.1"]);
    zone.0.push(("d.example", RecordType::Mx, failed));
    let routed = zone.routed("d.example", &Policy::default(), 1);
    assert_eq!(routed.result, Err(RouteError::Dns("SERVFAIL")));
    assert_eq!(routed.ttl, Duration::from_secs(30));
}

#[test]
fn null_mx_is_permanent_and_asks_for_no_address() {
    let zone = Zone::default()
        .mx("d.example", &[(0, ".")])
        .address("d.example", &["192.0.2.1"]);
    let error = zone.route("d.example", &Policy::default()).unwrap_err();
    assert_eq!(error, RouteError::NullMx);
    assert!(error.is_permanent());
}

#[test]
fn a_root_beside_real_hosts_is_skipped() {
    let zone = Zone::default()
        .mx("d.example", &[(0, "."), (5, "a.example")])
        .address("a.example", &["192.0.2.1"]);
    let plan = zone.route("d.example", &Policy::default()).unwrap();
    assert_eq!(names(&plan), ["a.example"]);
}

#[test]
fn a_malformed_mx_does_not_open_the_implicit_one() {
    let zone = Zone::default()
        .mx("d.example", &[(10, "!")])
        .address("d.example", &["192.0.2.1"]);
    let error = zone.route("d.example", &Policy::default()).unwrap_err();
    assert_eq!(error, RouteError::NoSuchDomain);
}

#[test]
fn names_that_do_not_exist_are_permanent() {
    let zone = Zone::default()
        .missing("no.example")
        .mx("d.example", &[(10, "no.example")]);
    for name in ["no.example", "d.example", "empty.example"] {
        let error = zone.route(name, &Policy::default()).unwrap_err();
        assert_eq!(error, RouteError::NoSuchDomain, "{name}");
    }
}

#[test]
fn aliases_are_followed_and_their_loops_end() {
    let zone = Zone::default()
        .alias("www.example", "d.example")
        .mx("d.example", &[(10, "mx.example")])
        .alias("mx.example", "a.example")
        .address("a.example", &["192.0.2.1"])
        .alias("x.example", "y.example")
        .alias("y.example", "x.example")
        .mx("z.example", &[(10, "x.example")]);
    let plan = zone.route("www.example", &Policy::default()).unwrap();
    assert_eq!(addresses(&plan), ["192.0.2.1:25"]);
    assert_eq!(names(&plan), ["mx.example"]);
    for name in ["x.example", "z.example"] {
        let error = zone.route(name, &Policy::default()).unwrap_err();
        assert_eq!(error, RouteError::Dns("too many aliases"), "{name}");
    }
}

#[test]
fn one_failing_host_leaves_the_others() {
    let zone = Zone::default()
        .failing("a.example")
        .mx("d.example", &[(10, "a.example"), (20, "b.example")])
        .address("b.example", &["192.0.2.2"])
        .mx("e.example", &[(10, "a.example"), (20, "p.example")])
        .address("p.example", &["10.0.0.1"]);
    let routed = zone.routed("d.example", &Policy::default(), 1);
    assert_eq!(addresses(&routed.result.unwrap()), ["192.0.2.2:25"]);
    assert_eq!(routed.ttl, Duration::from_secs(30), "asked again soon");
    let error = zone.route("e.example", &Policy::default()).unwrap_err();
    assert_eq!(error, RouteError::Dns("SERVFAIL"), "temporary wins");
}

#[test]
fn private_targets_are_refused_unless_allowed() {
    let zone = Zone::default()
        .mx("d.example", &[(10, "a.example")])
        .address("a.example", &["10.0.0.1", "::ffff:127.0.0.1"])
        .mx("mixed.example", &[(10, "a.example"), (20, "b.example")])
        .address("b.example", &["192.0.2.2"]);
    let error = zone.route("d.example", &Policy::default()).unwrap_err();
    assert_eq!(error, RouteError::Prohibited("10.0.0.1".parse().unwrap()));
    assert!(error.is_permanent());
    let plan = zone.route("mixed.example", &Policy::default()).unwrap();
    assert_eq!(addresses(&plan), ["192.0.2.2:25"]);
    let allow = Policy {
        allow_private: true,
        ..Policy::default()
    };
    assert_eq!(zone.route("d.example", &allow).unwrap().hosts.len(), 2);
}

#[test]
fn address_literals_need_no_dns() {
    let policy = Policy::default();
    let zone = Zone::default();
    let plan = zone.route("[192.0.2.1]", &policy).unwrap();
    assert_eq!(addresses(&plan), ["192.0.2.1:25"]);
    assert_eq!(plan.site.as_str(), "[192.0.2.1]");
    let plan = zone.route("[IPv6:2001:db8::1]", &policy).unwrap();
    assert_eq!(addresses(&plan), ["[2001:db8::1]:25"]);
    assert_eq!(
        zone.route("[127.0.0.1]", &policy),
        Err(RouteError::Prohibited("127.0.0.1".parse().unwrap()))
    );
}

#[test]
fn we_never_send_to_ourselves_or_to_worse_hosts() {
    let policy = Policy {
        hostnames: vec![domain("us.example")],
        listeners: vec!["192.0.2.50:25".parse().unwrap()],
        ..Policy::default()
    };
    let zone = Zone::default()
        .address("a.example", &["192.0.2.1"])
        .address("b.example", &["192.0.2.2"])
        .address("nat.example", &["192.0.2.50"])
        .address("us.example", &["192.0.2.60"])
        .mx(
            "backup.example",
            &[(10, "a.example"), (20, "us.example"), (20, "b.example")],
        )
        .mx("best.example", &[(10, "us.example"), (20, "b.example")])
        .mx(
            "hidden.example",
            &[(10, "a.example"), (20, "nat.example"), (30, "b.example")],
        )
        .mx("found.example", &[(10, "nat.example")]);
    for name in ["backup.example", "hidden.example"] {
        let plan = zone.route(name, &policy).unwrap();
        assert_eq!(names(&plan), ["a.example"], "{name}");
    }
    for name in [
        "best.example",
        "found.example",
        "us.example",
        "nat.example",
        "[192.0.2.50]",
    ] {
        let error = zone.route(name, &policy).unwrap_err();
        assert_eq!(error, RouteError::LoopsToUs, "{name}");
    }
}

#[test]
fn static_routes_go_before_dns_and_may_lead_to_loopback() {
    let mut policy = Policy::default();
    let hops = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    policy.routes.insert(
        domain("d.example"),
        hops(&["127.0.0.1:2526", "relay.example:587", "[::1]:2527"]),
    );
    let zone = Zone::default()
        .address("relay.example", &["192.0.2.1"])
        .mx("e.example", &[(10, "relay.example")]);
    let plan = zone.route("d.example", &policy).unwrap();
    assert_eq!(
        addresses(&plan),
        ["127.0.0.1:2526", "192.0.2.1:587", "[::1]:2527"]
    );
    assert_eq!(
        plan.site.as_str(),
        "127.0.0.1:2526,relay.example:587,[::1]:2527"
    );
    for turn in 0..6 {
        assert_eq!(plan.order(turn), [0, 1, 2], "the order is the operator's");
    }
    let other = zone.route("e.example", &policy).unwrap();
    assert_eq!(addresses(&other), ["192.0.2.1:25"]);
    policy.routes.set_rest(hops(&["127.0.0.1:2530"]));
    for name in ["e.example", "[192.0.2.1]"] {
        let plan = zone.route(name, &policy).unwrap();
        assert_eq!(addresses(&plan), ["127.0.0.1:2530"], "{name}");
    }
}

#[test]
fn a_static_route_to_ourselves_is_a_loop() {
    let mut policy = Policy {
        listeners: vec!["127.0.0.1:2525".parse().unwrap()],
        ..Policy::default()
    };
    policy
        .routes
        .set_rest(vec!["127.0.0.1:2525".parse().unwrap()]);
    assert_eq!(
        Zone::default().route("d.example", &policy),
        Err(RouteError::LoopsToUs)
    );
}

#[test]
fn next_hops_are_parsed_strictly() {
    for (text, shown) in [
        ("mx.example", "mx.example:25"),
        ("MX.example:2525", "mx.example:2525"),
        ("192.0.2.1", "192.0.2.1:25"),
        ("192.0.2.1:26", "192.0.2.1:26"),
        ("[192.0.2.1]:26", "192.0.2.1:26"),
        ("2001:db8::1", "[2001:db8::1]:25"),
        ("[2001:db8::1]", "[2001:db8::1]:25"),
        ("[2001:db8::1]:26", "[2001:db8::1]:26"),
        ("[IPv6:2001:db8::1]:26", "[2001:db8::1]:26"),
    ] {
        assert_eq!(text.parse::<NextHop>().unwrap().to_string(), shown);
    }
    for bad in ["", ":25", "a b:25", "mx.example:0", "mx.example:x", "[::1"] {
        assert!(bad.parse::<NextHop>().is_err(), "{bad}");
    }
}

#[test]
fn a_flood_of_mx_hosts_is_bounded() {
    let hosts: Vec<String> = (0..500).map(|n| format!("h{n:03}.example")).collect();
    let hosts: Vec<(u16, &str)> = hosts.iter().map(|h| (10, h.as_str())).collect();
    let zone = Zone::default().mx("d.example", &hosts);
    let mut resolution = Resolution::new(&domain("d.example"), &Arc::default(), 7);
    let mut queries = Vec::new();
    while let Some(Action::Query(query)) = resolution.poll_action() {
        if query.kind == RecordType::Mx {
            resolution.handle_answer(&query, &zone.answer(&query));
        } else {
            queries.push(query);
        }
    }
    assert_eq!(queries.len(), 32, "16 hosts, two families");
    let stranger = Query {
        name: domain("other.example"),
        kind: RecordType::A,
    };
    resolution.handle_answer(&stranger, &zone.answer(&stranger));
    assert_eq!(
        resolution.poll_action(),
        None,
        "answers unasked are ignored"
    );
}

#[test]
fn plans_with_the_same_names_in_the_same_order_are_known_as_such() {
    let zone = Zone::default()
        .mx(
            "a.example",
            &[(10, "m.example"), (10, "n.example"), (20, "o.example")],
        )
        .mx(
            "b.example",
            &[(1, "n.example"), (1, "m.example"), (5, "o.example")],
        )
        .mx(
            "c.example",
            &[(1, "n.example"), (2, "m.example"), (5, "o.example")],
        )
        .mx("d.example", &[(10, "m.example"), (20, "o.example")])
        .address("m.example", &["192.0.2.1"])
        .address("n.example", &["192.0.2.1"])
        .address("o.example", &["192.0.2.3"]);
    let names = |name, random| {
        let routed = zone.routed(name, &Policy::default(), random);
        routed.result.unwrap().names
    };
    for random in 0..20 {
        assert_eq!(names("a.example", 1), names("a.example", random));
        assert_eq!(names("a.example", 1), names("b.example", random));
        assert_ne!(names("a.example", 1), names("c.example", random));
        assert_ne!(names("a.example", 1), names("d.example", random));
    }
}

#[test]
fn the_mx_hosts_of_a_plan_are_those_of_the_dns() {
    let mut policy = Policy::default();
    for (name, hop) in [
        ("static.example", "relay.example"),
        ("fixed.example", "192.0.2.7"),
    ] {
        policy
            .routes
            .insert(domain(name), vec![hop.parse().unwrap()]);
    }
    let zone = Zone::default()
        .address("relay.example", &["192.0.2.1"])
        .address("a.example", &["192.0.2.2", "192.0.2.3"])
        .address("bare.example", &["192.0.2.4"])
        .missing("gone.example")
        .mx(
            "many.example",
            &[
                (10, "relay.example"),
                (10, "gone.example"),
                (20, "A.example"),
                (30, "a.example"),
                (40, "!"),
            ],
        );
    for (name, expected) in [
        (
            "many.example",
            &["a.example", "gone.example", "relay.example"][..],
        ),
        ("bare.example", &["bare.example"]),
        ("[192.0.2.5]", &[]),
        ("[IPv6:2001:db8::5]", &[]),
        ("static.example", &[]),
        ("fixed.example", &[]),
    ] {
        let plan = zone.route(name, &policy).unwrap();
        let hosts: Vec<&str> = plan.mx_hosts.iter().map(|host| &**host).collect();
        assert_eq!(hosts, expected, "{name}");
    }
}
