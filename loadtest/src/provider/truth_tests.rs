use super::*;
use crate::provider::bench::Bench;

/// Equal, as far as sums of shares can be.
fn is_near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < 1e-6
}

#[test]
fn each_capacity_has_its_truth_and_the_fullest_is_told_above() {
    let mut bench = Bench::new(
        "[[capacity]]\nper = \"ip\"\ncold = \"1000/h\"\nwindow = \"fixed\"\n[[capacity]]\nper = \"domain\"\ncold = \"10/h\"\n\
         window = \"fixed\"\nat = \"dot\"\n",
    );
    let id = bench.ready();
    (0..10).for_each(|_| assert!(bench.send_signed(id, "one.test").is_positive()));
    (0..5).for_each(|_| assert!(bench.send_signed(id, "two.test").is_positive()));
    bench.pass(1800);
    (0..6).for_each(|_| assert!(!bench.send_signed(id, "one.test").is_positive()));
    let truth = bench.brain.truth(bench.now);
    let [address, domain] = &truth.capacities[..] else {
        panic!("{truth:?}");
    };
    assert_eq!((address.per, address.senders), ("ip", 1));
    assert_eq!((domain.per, domain.senders), ("domain", 2));
    assert!(is_near(address.capacity, 1000.0) && is_near(domain.capacity, 20.0));
    assert!(is_near(address.goodput_over_capacity, 0.015));
    assert!(is_near(domain.goodput_over_capacity, 0.75));
    assert_eq!(address.seconds_above_capacity, 0.0);
    assert_eq!(truth.capacity, Some(domain.capacity));
    assert_eq!(
        truth.goodput_over_capacity,
        Some(domain.goodput_over_capacity)
    );
    let mut table = Vec::new();
    truth.print(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("per ip (1): 1000 messages") && table.contains("per domain (2): 20 "));
}

#[test]
fn a_signing_domain_has_its_time_above_capacity_whatever_the_envelope_says() {
    let mut bench = Bench::new(
        "[[capacity]]\nper = \"domain\"\ncold = \"60/h\"\nwindow = \"sliding\"\nat = \"dot\"\n",
    );
    let id = bench.ready();
    for _ in 0..3 {
        for domain in ["one.test", "two.test"] {
            (0..5).for_each(|_| drop(bench.send_signed(id, domain)));
        }
        bench.pass(60);
    }
    let truth = bench.brain.truth(bench.now);
    assert_eq!(truth.capacities[0].senders, 2, "that of MAIL is none");
    assert_eq!(truth.seconds_above_capacity, Some(360.0));
}

#[test]
fn shares_are_of_all_verdicts_and_of_all_messages() {
    let mut bench =
        Bench::new("[[limit]]\namount = \"6/h\"\nwindow = \"fixed\"\n[complaint]\nshare = 1.0\n");
    let id = bench.ready();
    (0..4).for_each(|_| assert!(bench.send(id, "b@x.test").is_positive()));
    (0..2).for_each(|_| assert!(!bench.send(id, "unknown-1@x.test").is_positive()));
    (0..2).for_each(|_| assert_eq!(bench.send(id, "b@x.test").class, Class::Rate));
    assert!(bench.brain.poll_event(bench.now).is_some());
    let truth = bench.brain.truth(bench.now);
    // Of four taken, two refused and two deferred; one complaint of four is in.
    assert_eq!(truth.deferral_share, 0.25);
    assert_eq!(truth.complaint_rate, 0.25);
    while bench.brain.poll_event(bench.now).is_some() {}
    assert_eq!(bench.brain.truth(bench.now).complaint_rate, 1.0);
}
