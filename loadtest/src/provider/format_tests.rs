//! What the keys of a profile promise, each by itself.

use super::Profile;
use super::bench::Bench;
use super::brain::{Then, Verdict};
use super::class::Class;
use std::net::IpAddr;
use std::sync::Arc;

/// So slow a recovery that nothing comes back within a test.
const LASTING: &str =
    "[[capacity]]\ncold = \"100000/h\"\n[reputation]\ninitial = 0.5\nrecovery = \"100000d\"\n";

fn reputation_after(text: &str, act: &dyn Fn(&mut Bench)) -> f64 {
    let mut bench = Bench::new(&format!("{LASTING}{text}"));
    act(&mut bench);
    bench.brain.truth(bench.now).reputation.unwrap()
}

#[test]
fn each_thing_that_costs_reputation_costs_what_it_says() {
    let ten = |recipient: &'static str| {
        move |bench: &mut Bench| {
            let id = bench.ready();
            (0..10).for_each(|_| drop(bench.send(id, recipient)));
            while bench.brain.poll_event(bench.now).is_some() {}
        }
    };
    // Of ten attempts the first is within the limit.
    let limit = "[[limit]]\namount = \"1/h\"\nwindow = \"fixed\"\n";
    let boxed = "[[limit]]\namount = \"1/h\"\nwindow = \"fixed\"\n[penalty]\nprobes = 2\nextension = \"1m\"\nlength_max = \"9h\"\n";
    for (key, more, recipient, wanted) in [
        ("deferred", limit, "b@x.test", 0.5 - 0.09),
        ("spam", "[content]\nspam = 1.0\n", "b@x.test", 0.4),
        ("unknown", "", "unknown-1@x.test", 0.4),
        ("complaint", "[complaint]\nshare = 1.0\n", "b@x.test", 0.4),
        // One is taken, one opens the box, two probes are free.
        ("probe", boxed, "b@x.test", 0.5 - 0.06),
    ] {
        let act = ten(recipient);
        let found = reputation_after(&format!("{key} = 0.01\n{more}"), &act);
        assert!((found - wanted).abs() < 1e-4, "{key}: {found}");
        let spared = reputation_after(more, &act);
        assert!((spared - 0.5).abs() < 1e-4, "without {key}: {spared}");
    }
}

#[test]
fn connections_shrink_with_reputation_where_they_are_scaled() {
    for (scaled, most) in [(true, 5), (false, 10)] {
        let mut bench = Bench::new(&format!(
            "{LASTING}[connections]\nper_ip = 10\nscaled = {scaled}\n"
        ));
        let admitted = (0..20).filter(|_| bench.connect(1).1.is_positive());
        assert_eq!(admitted.count(), most, "{scaled}");
    }
}

#[test]
fn a_message_has_so_many_recipients_and_no_more() {
    let mut bench = Bench::new("[connections]\nrecipients = 2\n");
    let id = bench.ready();
    bench.brain.handle_mail(id, "a@sender.test", bench.now);
    let codes: Vec<_> = (0..3)
        .map(|number| {
            let recipient = format!("u{number}@x.test");
            let verdict = bench.brain.handle_rcpt(id, &recipient, bench.now);
            verdict.reply.code
        })
        .collect();
    assert_eq!(codes, [250, 250, 452]);
    bench.brain.handle_end_of_data(id, b"", bench.now);
    let truth = bench.brain.truth(bench.now);
    assert_eq!((truth.accepted, truth.recipients_accepted), (1, 2));
}

#[test]
fn connections_are_counted_however_short_they_are() {
    let mut bench =
        Bench::new("[[limit]]\nof = \"connections\"\namount = \"3/h\"\nwindow = \"fixed\"\n");
    let attempt = |bench: &mut Bench| {
        let (id, verdict) = bench.connect(1);
        bench.brain.handle_close(id, bench.now);
        verdict
    };
    (0..3).for_each(|_| assert!(attempt(&mut bench).is_positive()));
    let verdict = attempt(&mut bench);
    assert_eq!(
        (verdict.class, verdict.then),
        (Class::ConnectionLimit, Then::Close)
    );
    bench.pass(3600);
    assert!(attempt(&mut bench).is_positive());
}

#[test]
fn a_net_shares_what_is_per_net() {
    let mut bench = Bench::new("[[limit]]\nper = \"net\"\namount = \"2/h\"\nwindow = \"fixed\"\n");
    let mut send = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let (id, _) = bench.brain.handle_connect(address, bench.now);
        let class = bench.send(id, "b@x.test").class;
        bench.brain.handle_close(id, bench.now);
        class
    };
    assert_eq!(send("192.0.2.1"), Class::Accepted);
    assert_eq!(send("192.0.2.77"), Class::Accepted);
    assert_eq!(send("192.0.2.200"), Class::Rate);
    assert_eq!(send("192.0.3.1"), Class::Accepted, "another /24");
    assert_eq!(send("fd00::1"), Class::Accepted);
    assert_eq!(send("fd00::2:0:0:1"), Class::Accepted);
    assert_eq!(send("fd00::3"), Class::Rate, "the same /64");
    assert_eq!(send("fd00:0:0:1::1"), Class::Accepted, "another /64");
}

#[test]
fn a_limit_closes_where_it_is_told_to() {
    for (closes, then) in [("", Then::Go), ("closes = true\n", Then::Close)] {
        let mut bench = Bench::new(&format!(
            "[[limit]]\namount = \"1/h\"\nwindow = \"fixed\"\n{closes}"
        ));
        let id = bench.ready();
        bench.send(id, "b@x.test");
        let verdict = bench.send(id, "b@x.test");
        assert_eq!((verdict.reply.code, verdict.then), (451, then));
    }
}

#[test]
fn an_amount_is_drawn_by_seed_within_its_share() {
    let text = "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n[[capacity]]\ncold = \"100/h\"\nwindow = \"fixed\"\nrandomised = 0.5\n";
    let profile = Arc::new(Profile::parse("x", text).unwrap());
    let admitted = |seed| {
        let mut bench = Bench::of_seed(&profile, seed);
        let id = bench.ready();
        let taken = (0..200).filter(|_| bench.send(id, "b@x.test").is_positive());
        taken.count()
    };
    let amounts: Vec<_> = (1..=60).map(admitted).collect();
    let (least, most) = (amounts.iter().min().unwrap(), amounts.iter().max().unwrap());
    assert!(
        (50..70).contains(least) && (130..=150).contains(most),
        "{amounts:?}"
    );
    assert_eq!(admitted(7), amounts[6], "the same of the same seed");
}

#[test]
fn pressing_on_keeps_a_window_shut_only_where_deferrals_count() {
    for (counts, wanted) in [(true, Class::Capacity), (false, Class::Accepted)] {
        let mut bench = Bench::new(&format!(
            "[[capacity]]\ncold = \"4/h\"\nwindow = \"sliding\"\ncounts_deferred = {counts}\n"
        ));
        let id = bench.ready();
        for _ in 0..24 {
            bench.send(id, "b@x.test");
        }
        bench.pass(5400);
        assert_eq!(bench.send(id, "b@x.test").class, wanted, "{counts}");
    }
}

#[test]
fn a_share_of_content_is_unwanted() {
    let mut bench = Bench::new("[content]\nspam = 0.2\n");
    let id = bench.ready();
    let verdicts: Vec<_> = (0..1000).map(|_| bench.send(id, "b@x.test")).collect();
    let is_refused = |one: &&Verdict| one.class == Class::Content && one.reply.code == 550;
    let refused = verdicts.iter().filter(is_refused).count();
    assert!((150..250).contains(&refused), "{refused}");
    assert_eq!(bench.brain.truth(bench.now).accepted, 1000 - refused as u64);
}

const BOX_OF_CONNECTIONS: &str = "[connections]\nper_ip = 1\n[[limit]]\namount = \"1/h\"\nwindow = \"fixed\"\n[penalty]\nof = \"connections\"\n\
     after = 3\nlength = \"1h\"\n";

#[test]
fn a_box_of_connections_counts_no_messages_and_shuts_the_door_where_told() {
    for at in ["connect", "mail"] {
        let mut bench = Bench::new(&format!("{BOX_OF_CONNECTIONS}at = \"{at}\"\n"));
        let id = bench.ready();
        bench.send(id, "b@x.test");
        for _ in 0..10 {
            assert_eq!(bench.send(id, "b@x.test").class, Class::Rate, "no offence");
        }
        for _ in 0..3 {
            let (refused, verdict) = bench.connect(1);
            assert_eq!(verdict.class, Class::ConnectionLimit);
            bench.brain.handle_close(refused, bench.now);
        }
        bench.brain.handle_close(id, bench.now);
        bench.pass(3500);
        let (id, verdict) = bench.connect(1);
        if at == "connect" {
            assert_eq!((verdict.class, verdict.then), (Class::Penalty, Then::Close));
        } else {
            assert!(verdict.is_positive(), "the door is open");
            assert_eq!(bench.send(id, "b@x.test").class, Class::Penalty);
        }
        bench.brain.handle_close(id, bench.now);
        bench.pass(100);
        let id = bench.ready();
        assert_eq!(bench.send(id, "b@x.test").class, Class::Accepted);
        assert_eq!(bench.brain.truth(bench.now).penalty_boxes, 1);
    }
}

#[test]
fn a_block_meets_its_address_where_it_is_told_to() {
    for at in ["connect", "mail"] {
        let mut bench = Bench::new(&format!(
            "[[limit]]\namount = \"1/h\"\nwindow = \"fixed\"\n[escalation]\nafter = 5\nat = \"{at}\"\n"
        ));
        let id = bench.ready();
        let classes: Vec<_> = (0..8).map(|_| bench.send(id, "b@x.test").class).collect();
        let (_, verdict) = bench.connect(1);
        if at == "connect" {
            assert_eq!(
                classes[7],
                Class::Rate,
                "within the session nothing changes"
            );
            assert_eq!((verdict.class, verdict.then), (Class::Block, Then::Close));
        } else {
            assert_eq!(classes[7], Class::Block);
            assert!(verdict.is_positive());
        }
        assert!(bench.connect(2).1.is_positive(), "another address");
    }
}
