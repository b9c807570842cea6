//! Whose mail it is: complaints by sender, what is asked of those who send much, names of addresses, ids of messages, domains that take none.

use super::bench::Bench;
use super::brain::{Then, Verdict};
use super::class::Class;

fn text(verdict: &Verdict) -> String {
    String::from_utf8_lossy(&verdict.reply.octets).into_owned()
}

/// Lets all that is due by then happen; how many complaints there were.
fn complaints_after(bench: &mut Bench, secs: u64) -> usize {
    bench.pass(secs);
    std::iter::from_fn(|| bench.brain.poll_event(bench.now)).count()
}

#[test]
fn complaints_turn_the_mail_that_draws_them_into_5xx_and_no_other() {
    let mut bench = Bench::new(
        "[[capacity]]\nper = \"domain\"\ncold = \"100000/h\"\nat = \"dot\"\nblocked = \"limit_1\"\n[escalation]\ncomplaints = 0.003\n\
         length = \"2h\"\n[reputation]\ncomplaint = 0.01\nfloor = 0.2\n[complaint]\nafter = \"1h\"\ndisliked_share = 0.05\n\
         [[text.limit_1]]\ncode = \"550 5.7.1\"\nlines = [\"very low reputation of the sending domain\"]\n",
    );
    let id = bench.ready();
    for _ in 0..1000 {
        assert!(bench.send_signed(id, "shop.test").is_positive());
        assert!(bench.send_signed(id, "disliked.shop.test").is_positive());
    }
    let complaints = complaints_after(&mut bench, 3600);
    assert!((25..75).contains(&complaints), "{complaints}");
    let told = text(&bench.send_signed(id, "disliked.shop.test"));
    assert_eq!(
        told,
        "550 5.7.1 very low reputation of the sending domain\r\n"
    );
    assert!(bench.send_signed(id, "shop.test").is_positive());
    let truth = bench.brain.truth(bench.now);
    assert_eq!((truth.blocks, truth.refused(Class::Block)), (1, 1));
    let reputation = truth.capacities[0].reputation;
    assert!(
        (0.55..0.9).contains(&reputation),
        "one of the two fell: {reputation}"
    );
    complaints_after(&mut bench, 2 * 3600);
    assert!(bench.send_signed(id, "disliked.shop.test").is_positive());
}

#[test]
fn a_complaint_rate_below_the_bound_or_of_few_complaints_blocks_nobody() {
    for (share, least, sent, is_blocked) in [
        (0.9, 5, 4, false),
        (0.9, 5, 5, true),
        (1.0, 5, 100, false),
        (0.9, 200, 100, false),
    ] {
        let mut bench = Bench::new(&format!(
            "[[capacity]]\ncold = \"100000/h\"\n[escalation]\ncomplaints = {share}\ncomplaints_least = {least}\n[complaint]\nshare = 1.0\n"
        ));
        let id = bench.ready();
        for _ in 0..sent {
            assert!(bench.send(id, "b@x.test").is_positive());
        }
        assert_eq!(complaints_after(&mut bench, 0), sent);
        let verdict = bench.send(id, "b@x.test");
        let told = format!("{share} {least} {sent}");
        assert_eq!(verdict.class == Class::Block, is_blocked, "{told}");
        assert_eq!(verdict.reply.code == 550, is_blocked, "{told}");
    }
}

#[test]
fn a_complaint_rate_is_that_of_the_time_told() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"100000/h\"\n[escalation]\ncomplaints = 0.5\ncomplaints_within = \"1h\"\n[complaint]\ndisliked_share = 1.0\n",
    );
    let id = bench.ready();
    for _ in 0..1000 {
        assert!(bench.send(id, "b@x.test").is_positive());
    }
    // What was sent two hours ago dilutes nothing.
    bench.pass(2 * 3600);
    let disliked = "X-Campaign: disliked\r\n\r\n";
    for _ in 0..10 {
        bench.send_as(id, "a@sender.test", "b@x.test", disliked);
    }
    assert_eq!(complaints_after(&mut bench, 0), 10);
    assert_eq!(bench.send(id, "b@x.test").class, Class::Block);
}

#[test]
fn campaigns_of_one_domain_draw_complaints_apart() {
    let mut bench = Bench::new("[complaint]\nshare = 0.0\ndisliked_share = 0.5\n");
    let id = bench.ready();
    for number in 0..200 {
        let campaign = ["spring", "disliked-spring"][number % 2];
        let header = format!("X-Campaign: {campaign}\r\n\r\n");
        bench.send_as(id, "a@sender.test", "b@x.test", &header);
    }
    let mut complaints = 0;
    while let Some(event) = bench.brain.poll_event(bench.now) {
        assert!(event.header.starts_with(b"X-Campaign: disliked"));
        complaints += 1;
    }
    assert!((30..70).contains(&complaints), "{complaints}");
}

#[test]
fn those_who_send_much_must_use_tls() {
    let mut bench = Bench::new(
        "[authentication]\nbulk = \"3/1d\"\n[tls]\noffer = 1.0\nrequired_of_bulk = 1.0\n",
    );
    let id = bench.ready();
    for _ in 0..3 {
        assert!(bench.send_signed(id, "shop.test").is_positive());
    }
    let refused = bench.send_signed(id, "shop.test");
    assert_eq!(
        (refused.class, refused.reply.code),
        (Class::TlsRequired, 530)
    );
    assert!(bench.send_signed(id, "small.test").is_positive());
    assert_eq!(
        bench.brain.handle_starttls(id, bench.now).then,
        Then::Secure
    );
    bench.brain.handle_secured(id);
    let again = bench.send_as(
        id,
        "a@shop.test",
        "b@x.test",
        "From: <a@shop.test>\r\nDKIM-Signature: v=1; d=shop.test\r\n\r\n",
    );
    assert!(again.is_positive(), "{again:?}");
}

#[test]
fn an_address_has_a_name_or_has_none_and_stays_so() {
    let mut bench = Bench::new("[ptr]\nmissing = 0.3\n");
    let found = |bench: &mut Bench, last| {
        let (id, verdict) = bench.connect(last);
        bench.brain.handle_close(id, bench.now);
        verdict
    };
    let nameless = (0..200).filter(|last| {
        let verdict = found(&mut bench, *last);
        let again = found(&mut bench, *last);
        assert_eq!(verdict.class, again.class);
        if verdict.class == Class::Ptr {
            assert_eq!((verdict.reply.code, verdict.then), (550, Then::Close));
        }
        verdict.class == Class::Ptr
    });
    let nameless = nameless.count();
    assert!((40..80).contains(&nameless), "{nameless}");
    let mut bench = Bench::new("[ptr]\nmissing = 1.0\nat = \"dot\"\n");
    let id = bench.ready();
    let verdict = bench.send(id, "b@x.test");
    assert_eq!((verdict.class, verdict.then), (Class::Ptr, Then::Go));
}

#[test]
fn one_message_id_is_taken_so_often_and_mail_without_one_as_it_comes() {
    let mut bench = Bench::new(
        "[[limit]]\nper = \"message_id\"\namount = \"2/h\"\nwindow = \"fixed\"\nat = \"dot\"\n",
    );
    let id = bench.ready();
    let mut send = |header: &str| bench.send_as(id, "a@sender.test", "b@x.test", header).class;
    let (one, other) = ("Message-ID: <1@a>\r\n\r\n", "Message-ID: <2@a>\r\n\r\n");
    assert_eq!([send(one), send(one)], [Class::Accepted; 2]);
    assert_eq!(send(one), Class::Rate);
    assert_eq!(send(other), Class::Accepted);
    assert_eq!([send(""), send(""), send("")], [Class::Accepted; 3]);
}

#[test]
fn a_domain_that_takes_no_mail_is_told_by_556() {
    let profile = "name = \"x\"\ndomains = [\"x.test\"]\nnull_mx = [\"no.x.test\"]\n[[mx]]\nname = \"m.test\"\n";
    let mut bench = Bench::of(super::Profile::parse("x", profile).unwrap());
    let id = bench.ready();
    let refused = bench.send(id, "b@NO.x.test");
    assert_eq!(refused.class, Class::NullMx);
    assert_eq!(
        text(&refused),
        "556 5.1.10 <b@NO.x.test>: domain has a null MX\r\n"
    );
    assert!(bench.send(id, "b@x.test").is_positive());
}
