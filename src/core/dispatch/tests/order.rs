//! What an operator orders for queued mail: it ends, or goes at once.

use super::*;
use crate::dispatch::{Order, Tally};
use crate::shaping::TargetKind;

const SECOND: Duration = Duration::from_secs(1);

fn whose(tenant: Option<&str>, domain: Option<&str>) -> Whose {
    Whose {
        tenant: tenant.map(Into::into),
        campaign: None,
        domain: domain.map(Into::into),
    }
}

fn bounce(is_told: bool) -> Order {
    Order::Bounce {
        reason: "they left".into(),
        is_told,
    }
}

fn labels(tenant: &str) -> Labels {
    Labels::new(Some(tenant), None, None)
}

/// Mail of two tenants in every place where mail can be: pending on a route, ready in a lane and set
/// aside there, due later, and on a connection, of each two. The connection.
fn everywhere() -> (Bench, ConnectionId, u64) {
    let rules = "connection_limit = 1\nmax_deliveries_per_connection = 100";
    let mut bench = Bench::shaped(Config::default(), rules);
    let all = [labels("a"), labels("b")];
    let both = |bench: &mut Bench, domain: &str| {
        for of in &all {
            bench.commit_of(of, &[&format!("x@{domain}")]);
        }
    };
    both(&mut bench, "later.example");
    bench.asked();
    bench.route("later.example");
    let c = bench.asked().connects[0];
    bench.brain.handle_connected(c, bench.now);
    bench.transact(c, &deferred());
    bench.transact(c, &deferred());
    bench.brain.handle_closed(c, None, bench.now);
    both(&mut bench, "ready.example");
    both(&mut bench, "ready.example");
    bench.asked();
    bench.route("ready.example");
    let c = bench.asked().connects[0];
    bench.brain.handle_connected(c, bench.now);
    let (_, _, seq) = bench.try_pull(c).expect("one goes");
    both(&mut bench, "pending.example");
    let key = ("suspended", "true");
    bench.set(TargetKind::Tenant, "b", key, HOUR);
    bench.brain.handle_timeout(bench.now);
    (bench, c, seq)
}

/// What is written until nothing is due at this moment.
fn written(bench: &mut Bench) -> Vec<Batch> {
    let mut batches = Vec::new();
    while bench
        .brain
        .poll_timeout()
        .is_some_and(|due| due <= bench.now)
    {
        bench.brain.handle_timeout(bench.now);
        batches.extend(bench.answer_loads().batches);
    }
    batches
}

fn settle_all(bench: &mut Bench) -> Vec<Value> {
    let batches = written(bench).into_iter();
    batches.flat_map(|batch| batch.records).collect()
}

fn left(bench: &Bench) -> Vec<String> {
    let rows = bench.brain.list(100, &Whose::default(), bench.now);
    let row = |row: &crate::dispatch::DomainRow| format!("{} {}", row.domain, row.queued);
    let mut left: Vec<String> = rows.iter().map(row).collect();
    left.sort();
    left
}

#[test]
fn mail_of_a_tenant_ends_wherever_it_is_and_of_nobody_else() {
    let (mut bench, c, seq) = everywhere();
    let of_a = whose(Some("a"), None);
    let counted = bench.brain.handle_order(&of_a, &Order::Count, bench.now);
    let four = Tally {
        entries: 4,
        recipients: 4,
    };
    assert_eq!(counted, four);
    assert!(settle_all(&mut bench).is_empty(), "counting ends nothing");
    assert_eq!(
        bench.brain.handle_order(&of_a, &bounce(true), bench.now),
        four
    );
    let mut records = settle_all(&mut bench);
    // The one on the connection ends with its attempt.
    let again = bench.brain.handle_order(&of_a, &bounce(true), bench.now);
    assert_eq!(again, Tally::default(), "none is ended twice");
    bench.settle(c, seq, &[(0, deferred())]);
    records.extend(settle_all(&mut bench));
    let bounced: Vec<&Value> = records
        .iter()
        .filter(|record| record["type"] == "AdminBounce")
        .collect();
    assert_eq!(bounced.len(), 4, "{records:#?}");
    for record in bounced {
        assert_eq!(record["meta"]["tenant"], "a");
        assert_eq!(record["response"]["content"], "operator: they left");
        assert_eq!(record["response"]["enhanced_code"]["class"], 5);
    }
    assert_eq!(
        left(&bench),
        ["later.example 1", "pending.example 1", "ready.example 2"]
    );
    assert!(bench.brain.sentences.is_empty());
}

#[test]
fn mail_that_waits_for_the_end_of_a_suspension_ends_too() {
    let (mut bench, ..) = everywhere();
    let of_b = whose(Some("b"), Some("ready.example"));
    let tally = bench.brain.handle_order(&of_b, &bounce(true), bench.now);
    assert_eq!(tally.entries, 2);
    assert_eq!(settle_all(&mut bench).len(), 2);
}

#[test]
fn senders_hear_of_it_as_they_asked_unless_the_operator_says_otherwise() {
    for (is_told, notify, reports) in [(true, true, 1), (true, false, 0), (false, true, 0)] {
        let mut bench = Bench::plain();
        bench.commit_with(&["a@x.example"], |message| {
            message.envelope.sender = Some(Address::parse("me@here.example").unwrap());
            message.envelope.recipients[0].notify.failure = notify;
        });
        bench.asked();
        let of_x = whose(None, Some("x.example"));
        bench.brain.handle_order(&of_x, &bounce(is_told), bench.now);
        let batches = written(&mut bench).into_iter();
        let stored: Vec<_> = batches.flat_map(|batch| batch.stored).collect();
        assert_eq!(stored.len(), reports, "{is_told} {notify}");
        let told = stored
            .iter()
            .map(|report| String::from_utf8_lossy(&report.data));
        assert!(told.into_iter().all(|text| text.contains("they left")));
    }
}

#[test]
fn what_is_requeued_goes_at_once_and_other_mail_stays() {
    let (mut bench, c, seq) = everywhere();
    bench.settle(c, seq, &[(0, delivered())]);
    bench.brain.handle_closed(c, None, bench.now);
    let of_a = whose(Some("a"), Some("later.example"));
    let order = Order::Requeue { is_fresh: false };
    let tally = bench.brain.handle_order(&of_a, &order, bench.now);
    assert_eq!(tally.entries, 1);
    let mut later = Vec::new();
    bench.brain.handle_timeout(bench.now);
    bench.run_told(SECOND, |_, _, message| {
        if message.envelope.recipients[0].address.domain_str() == "later.example" {
            later.push(message.labels.clone());
        }
    });
    assert_eq!(later, [labels("a")]);
}

#[test]
fn attempts_are_forgotten_if_that_is_wanted() {
    for (is_fresh, attempts) in [(false, 1), (true, 0)] {
        let mut bench = Bench::plain();
        let message = bench.commit(&["a@x.example"]);
        bench.asked();
        bench.route("x.example");
        let c = bench.asked().connects[0];
        bench.brain.handle_connected(c, bench.now);
        bench.transact(c, &deferred());
        let order = Order::Requeue { is_fresh };
        bench
            .brain
            .handle_order(&whose(None, Some("x.example")), &order, bench.now);
        assert_eq!(bench.brain.find(message.id)[0].attempts, attempts);
    }
}
