use super::*;
use crate::provider::EventKind;
use crate::provider::bench::Bench;

#[test]
fn connections_beyond_the_limit_are_told_and_given_back_at_close() {
    let mut bench = Bench::new("[connections]\nper_ip = 2\n");
    let first = bench.ready();
    bench.ready();
    let (third, verdict) = bench.connect(1);
    assert_eq!((verdict.reply.code, verdict.then), (421, Then::Close));
    assert!(bench.connect(2).1.is_positive(), "another address");
    bench.brain.handle_close(third, bench.now);
    bench.brain.handle_close(first, bench.now);
    assert!(bench.connect(1).1.is_positive());
    assert_eq!(bench.brain.truth(bench.now).connections_max, 2);
}

#[test]
fn messages_beyond_the_limit_close_the_connection() {
    let mut bench = Bench::new("[connections]\nmessages = 3\n");
    let id = bench.ready();
    (0..3).for_each(|_| assert!(bench.send(id, "b@x.test").is_positive()));
    let verdict = bench.send(id, "b@x.test");
    assert_eq!(
        (verdict.class, verdict.then),
        (Class::MessageLimit, Then::Close)
    );
}

#[test]
fn a_site_limit_is_shared_by_all_addresses_and_one_of_a_recipient_is_not() {
    let mut bench = Bench::new(
        "[[limit]]\nper = \"site\"\namount = \"3/h\"\nwindow = \"sliding\"\n[[limit]]\nof = \"recipients\"\nper = \"recipient\"\n\
         amount = \"1/h\"\nwindow = \"sliding\"\nreply = \"limit_1\"\n[[text.limit_1]]\ncode = \"450 4.2.1\"\nlines = [\"too quickly\"]\n",
    );
    let (first, second) = (bench.ready(), bench.connect(2).0);
    assert!(bench.send(first, "b@x.test").is_positive());
    assert_eq!(
        &*bench.send(second, "b@x.test").reply.octets,
        b"450 4.2.1 too quickly\r\n"
    );
    assert!(bench.send(second, "c@x.test").is_positive());
    let verdict = bench.send(first, "d@x.test");
    assert_eq!((verdict.class, verdict.reply.code), (Class::Rate, 451));
}

#[test]
fn a_knee_defers_ever_more_below_and_all_above() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"1000/h\"\nwindow = \"sliding\"\nknee = 0.5\nfull = 1.0\ncounts_deferred = true\n",
    );
    let id = bench.ready();
    let mut deferred = [0; 6];
    for number in 0..1500 {
        if !bench.send(id, "b@x.test").is_positive() {
            deferred[number / 250] += 1;
        }
    }
    let [none, no, few, many, all, ever] = deferred;
    assert_eq!((none, no, all, ever), (0, 0, 250, 250));
    // A quarter of one half, three quarters of the other.
    assert!(
        (35..95).contains(&few) && (155..215).contains(&many),
        "{deferred:?}"
    );
}

#[test]
fn a_penalty_box_opens_answers_and_ends() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"2/h\"\nwindow = \"sliding\"\n[penalty]\nafter = 2\nlength = \"2h\"\nextension = \"1h\"\nprobes = 1\n\
         [reputation]\nprobe = 0.1\n",
    );
    let id = bench.ready();
    let classes: Vec<_> = (0..5).map(|_| bench.send(id, "b@x.test").class).collect();
    let (good, over, boxed) = (Class::Accepted, Class::Capacity, Class::Penalty);
    assert_eq!(classes, [good, good, over, over, boxed]);
    bench.pass(7100);
    assert_eq!(bench.send(id, "b@x.test").class, Class::Penalty);
    bench.pass(200);
    assert_eq!(
        bench.send(id, "b@x.test").class,
        Class::Penalty,
        "the probe made it longer"
    );
    bench.pass(2 * 86_400);
    assert_eq!(bench.send(id, "b@x.test").class, Class::Accepted);
    let truth = bench.brain.truth(bench.now);
    assert_eq!((truth.penalty_boxes, truth.penalty_extensions), (1, 2));
}

#[test]
fn pressure_turns_4xx_into_5xx() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"1/h\"\nwindow = \"sliding\"\n[escalation]\nafter = 50\nlength = \"24h\"\n",
    );
    let id = bench.ready();
    let codes: Vec<_> = (0..60)
        .map(|_| bench.send(id, "b@x.test").reply.code)
        .collect();
    assert_eq!(codes[..2], [250, 451]);
    assert_eq!(codes[55], 550);
    bench.pass(23 * 3600);
    assert_eq!(bench.send(id, "b@x.test").class, Class::Block);
    bench.pass(2 * 3600);
    assert_eq!(bench.send(id, "b@x.test").class, Class::Accepted);
    assert_eq!(bench.brain.truth(bench.now).blocks, 1);
}

#[test]
fn greylisting_wants_the_same_triplet_later_but_not_too_late() {
    let mut bench = Bench::new("[greylist]\ndelay = \"5m\"\nwindow = \"4h\"\nlifetime = \"1d\"\n");
    let id = bench.ready();
    let other = bench.connect(2).0;
    assert_eq!(bench.send(id, "b@x.test").class, Class::Greylist);
    bench.pass(100);
    assert_eq!(
        bench.send(id, "b@x.test").class,
        Class::Greylist,
        "too soon"
    );
    bench.pass(250);
    assert_eq!(
        bench.send(other, "b@x.test").class,
        Class::Greylist,
        "another address"
    );
    assert_eq!(
        bench.send(id, "c@x.test").class,
        Class::Greylist,
        "another recipient"
    );
    assert!(bench.send(id, "b@x.test").is_positive());
    bench.pass(20 * 3600);
    assert!(bench.send(id, "b@x.test").is_positive(), "known");
    assert_eq!(
        bench.send(id, "c@x.test").class,
        Class::Greylist,
        "too late"
    );
    bench.pass(5 * 3600);
    assert_eq!(
        bench.send(id, "b@x.test").class,
        Class::Greylist,
        "forgotten"
    );
}

#[test]
fn answers_are_given_again_while_cached() {
    let mut bench = Bench::new("[cache]\ntemporary = \"5m\"\npermanent = \"90m\"\n");
    let id = bench.ready();
    assert_eq!(
        bench.send(id, "unknown-1@x.test").class,
        Class::UnknownMailbox
    );
    assert_eq!(bench.send(id, "full-1@x.test").class, Class::FullMailbox);
    bench.pass(290);
    assert_eq!(bench.send(id, "unknown-1@x.test").class, Class::Cached);
    assert_eq!(bench.send(id, "full-1@x.test").class, Class::Cached);
    bench.pass(20);
    assert_eq!(bench.send(id, "full-1@x.test").class, Class::FullMailbox);
    assert_eq!(bench.send(id, "unknown-1@x.test").reply.code, 550);
    assert_eq!(bench.brain.truth(bench.now).refused(Class::Cached), 2);
}

#[test]
fn a_mailbox_is_what_it_is_and_rates_hold() {
    let mut bench =
        Bench::new("[mailbox]\nunknown = 0.1\ninactive = 0.05\nfull = 0.1\nfull_span = \"1h\"\n");
    let id = bench.ready();
    let mut first = Vec::new();
    for number in 0..2000 {
        first.push(bench.send(id, &format!("u{number}@x.test")).class);
    }
    let count = |class| first.iter().filter(|found| **found == class).count();
    assert!((160..240).contains(&count(Class::UnknownMailbox)));
    assert!((70..130).contains(&count(Class::InactiveMailbox)));
    assert!((120..220).contains(&count(Class::FullMailbox)));
    bench.pass(3600);
    let mut freed = 0;
    for (number, class) in first.iter().enumerate() {
        let found = bench.send(id, &format!("u{number}@x.test")).class;
        if *class == Class::FullMailbox {
            freed += usize::from(found == Class::Accepted);
        } else if *class != Class::Accepted {
            assert_eq!(found, *class);
        }
    }
    assert!(freed > 80, "full ones are emptied: {freed}");
}

#[test]
fn unknown_users_may_be_told_after_the_dot() {
    let mut bench = Bench::new("[mailbox]\nat = \"dot\"\n");
    let id = bench.ready();
    bench.brain.handle_mail(id, "a@sender.test", bench.now);
    assert!(
        bench
            .brain
            .handle_rcpt(id, "unknown-1@x.test", bench.now)
            .is_positive()
    );
    let verdict = bench.brain.handle_end_of_data(id, b"", bench.now);
    assert_eq!(verdict.class, Class::UnknownMailbox);
    assert!(String::from_utf8_lossy(&verdict.reply.octets).contains("unknown-1@x.test"));
}

#[test]
fn the_signing_domain_has_a_capacity_of_its_own() {
    let mut bench = Bench::new(
        "[[capacity]]\nper = \"domain\"\ncold = \"2/h\"\nwindow = \"sliding\"\nat = \"dot\"\n",
    );
    let id = bench.ready();
    let mut send = |signer: &str| {
        bench.brain.handle_mail(id, "a@sender.test", bench.now);
        bench.brain.handle_rcpt(id, "b@x.test", bench.now);
        let header =
            format!("From: a\r\nDKIM-Signature: v=1; a=rsa-sha256;\r\n\td={signer}; s=x\r\n\r\n");
        bench
            .brain
            .handle_end_of_data(id, header.as_bytes(), bench.now)
            .class
    };
    assert_eq!([send("one.test"), send("one.test")], [Class::Accepted; 2]);
    assert_eq!(send("one.test"), Class::Capacity);
    assert_eq!(send("two.test"), Class::Accepted);
}

#[test]
fn resets_after_the_dot_may_have_taken_the_message() {
    let mut bench = Bench::new("[fault]\nreset = 1.0\nreset_takes = 0.5\n");
    for _ in 0..200 {
        let id = bench.ready();
        assert_eq!(bench.send(id, "b@x.test").then, Then::Reset);
        bench.brain.handle_close(id, bench.now);
    }
    let truth = bench.brain.truth(bench.now);
    assert_eq!(truth.reset_after_dot, 200);
    assert_eq!(truth.accepted, truth.reset_but_taken);
    assert!((70..130).contains(&truth.accepted));
}

#[test]
fn starttls_fails_in_each_way() {
    let mut bench = Bench::new("[tls]\noffer = 1.0\nrefuse = 0.3\ngarbage = 0.3\nreset = 0.4\n");
    let (mut refused, mut garbled, mut reset) = (0, 0, 0);
    for _ in 0..300 {
        let id = bench.ready();
        let ehlo = bench.brain.handle_ehlo(id, bench.now);
        assert!(String::from_utf8_lossy(&ehlo.reply.octets).contains("STARTTLS"));
        let verdict = bench.brain.handle_starttls(id, bench.now);
        match verdict.then {
            Then::Go => refused += usize::from(verdict.reply.code == 454),
            Then::Close => garbled += usize::from(verdict.reply.code == 220),
            Then::Reset => reset += 1,
            Then::Silence | Then::Secure => panic!("not this"),
        }
    }
    assert_eq!(refused + garbled + reset, 300);
    assert!(refused > 50 && garbled > 50 && reset > 50);
}

#[test]
fn tls_is_offered_once_and_ends_what_required_it() {
    let mut bench = Bench::new("[tls]\noffer = 1.0\nrequired = 1.0\n");
    let id = bench.ready();
    assert_eq!(bench.send(id, "b@x.test").class, Class::TlsRequired);
    assert_eq!(
        bench.brain.handle_starttls(id, bench.now).then,
        Then::Secure
    );
    bench.brain.handle_secured(id);
    let ehlo = bench.brain.handle_ehlo(id, bench.now).reply;
    assert!(!String::from_utf8_lossy(&ehlo.octets).contains("STARTTLS"));
    let again = bench.brain.handle_starttls(id, bench.now);
    assert_eq!((again.reply.code, again.then), (503, Then::Go));
    assert!(bench.send(id, "b@x.test").is_positive());
    assert_eq!(bench.brain.truth(bench.now).secured, 1);
    let mut bench = Bench::new("");
    let id = bench.ready();
    assert_eq!(bench.brain.handle_starttls(id, bench.now).reply.code, 503);
}

#[test]
fn a_listed_address_is_told_its_mask_at_connect() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"1000/h\"\n[reputation]\ninitial = 0.2\nrecovery = \"1000d\"\n[[list]]\nname = \"a\"\nbelow = 0.1\n\
         [[list]]\nname = \"b\"\nbelow = 0.5\nhourly = 1.0\n[[text.blocklist]]\ncode = \"554\"\nlines = [\"BL0000{mask}\"]\n",
    );
    bench.ready();
    bench.pass(3600);
    let (_, verdict) = bench.connect(1);
    assert_eq!(&*verdict.reply.octets, b"554 BL000001\r\n");
    assert_eq!(verdict.then, Then::Close);
}

#[test]
fn complaints_and_bounces_come_back_later_and_cost_reputation() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"100000/h\"\n[complaint]\nshare = 1.0\nafter = [\"1h\", \"2h\"]\n[bounce]\nshare = 1.0\nafter = \"1m\"\n\
         [reputation]\ncomplaint = 0.3\nrecovery = \"1000d\"\n",
    );
    let id = bench.ready();
    bench.brain.handle_mail(id, "a@sender.test", bench.now);
    bench.brain.handle_rcpt(id, "b@x.test", bench.now);
    bench
        .brain
        .handle_end_of_data(id, b"Subject: x\r\n\r\n", bench.now);
    assert_eq!(
        bench.brain.poll_timeout(),
        Some(bench.now + Duration::from_secs(60))
    );
    assert_eq!(bench.brain.poll_event(bench.now), None);
    bench.pass(60);
    let bounce = bench.brain.poll_event(bench.now).unwrap();
    assert_eq!(
        (bounce.kind, &*bounce.sender),
        (EventKind::Bounce, "a@sender.test")
    );
    assert_eq!(bench.brain.poll_event(bench.now), None);
    bench.pass(7200);
    let complaint = bench.brain.poll_event(bench.now).unwrap();
    assert_eq!(
        (complaint.kind, &*complaint.recipient),
        (EventKind::Complaint, "b@x.test")
    );
    assert_eq!(&*complaint.header, b"Subject: x\r\n\r\n");
    let truth = bench.brain.truth(bench.now);
    assert_eq!((truth.complaints, truth.bounces), (1, 1));
    assert!(truth.reputation.unwrap() < 0.71);
}

#[test]
fn a_tarpit_slows_those_of_low_reputation() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"1000/h\"\n[reputation]\ninitial = 0.3\n[delay]\ntarpit_below = 0.4\ntarpit = \"5s\"\n",
    );
    let (_, verdict) = bench.connect(1);
    assert_eq!(verdict.delay, Duration::from_secs(5));
}

#[test]
fn dead_backends_never_speak() {
    let mut bench = Bench::new("[backend]\ncount = 4\ndead = 1\n");
    let silent = (0..400)
        .filter(|_| bench.connect(1).1.then == Then::Silence)
        .count();
    assert_eq!(silent, 100);
}

#[test]
fn without_recipients_there_is_no_data() {
    let mut bench = Bench::new("");
    let id = bench.ready();
    bench.brain.handle_mail(id, "a@sender.test", bench.now);
    assert_eq!(bench.brain.handle_data(id, bench.now).reply.code, 554);
}

#[test]
fn who_sends_much_must_prove_more() {
    let mut bench = Bench::new("[authentication]\nbulk = \"3/1d\"\n");
    let id = bench.ready();
    let mut send = |sender: &str, header: &str, now: Moment| {
        bench.brain.handle_mail(id, sender, now);
        bench.brain.handle_rcpt(id, "b@x.test", now);
        let reply = bench.brain.handle_end_of_data(id, header.as_bytes(), now);
        String::from_utf8_lossy(&reply.reply.octets[..10]).into_owned()
    };
    let (now, plain) = (bench.now, "From: <a@shop.test>\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(send("a@shop.test", plain, now), "250 2.0.0 ");
    }
    assert_eq!(send("a@shop.test", plain, now), "550 5.7.30");
    assert_eq!(
        send("a@other.test", "", now),
        "250 2.0.0 ",
        "another domain"
    );
    let signed = format!("DKIM-Signature: v=1; d=shop.test\r\n{plain}");
    assert_eq!(send("a@shop.test", &signed, now), "250 2.0.0 ");
    assert_eq!(send("a@spf-fails.test", "", now), "550 5.7.26");
    let forged = "From: <ceo@dmarc-rejects.bank.test>\r\n\r\n";
    assert_eq!(send("a@shop.test", forged, now), "550 5.7.26");
    let later = now + Duration::from_secs(3 * 86_400);
    assert_eq!(send("a@shop.test", plain, later), "250 2.0.0 ", "forgotten");
    let truth = bench.brain.truth(later);
    assert_eq!(truth.refused(Class::Authentication), 3);
}

#[test]
fn a_verdict_falls_at_the_stage_it_is_told_to() {
    for (stage, commands) in [("mail", 1), ("rcpt", 2), ("dot", 4)] {
        let mut bench = Bench::new(&format!(
            "[[capacity]]\ncold = \"1/h\"\nwindow = \"fixed\"\nat = \"{stage}\"\n"
        ));
        let id = bench.ready();
        assert!(bench.send(id, "b@x.test").is_positive());
        let refused = [
            bench.brain.handle_mail(id, "a@sender.test", bench.now),
            bench.brain.handle_rcpt(id, "b@x.test", bench.now),
            bench.brain.handle_data(id, bench.now),
            bench.brain.handle_end_of_data(id, b"", bench.now),
        ];
        let first = refused
            .iter()
            .position(|verdict| verdict.class == Class::Capacity);
        assert_eq!(first, Some(commands - 1), "{stage}: {refused:?}");
    }
}

#[test]
fn connections_of_all_addresses_together_are_bounded() {
    let mut bench = Bench::new("[connections]\nper_site = 3\n");
    for last in 1..=3 {
        assert!(bench.connect(last).1.is_positive());
    }
    let (_, verdict) = bench.connect(4);
    assert_eq!(
        (verdict.class, verdict.then),
        (Class::ConnectionLimit, Then::Close)
    );
}

#[test]
fn capacity_follows_reputation_down_and_up() {
    let mut bench = Bench::new(
        "[[capacity]]\ncold = \"100/h\"\nwindow = \"fixed\"\n[reputation]\nunknown = 0.1\nfloor = 0.2\nrecovery = \"2h\"\n",
    );
    let id = bench.ready();
    let admitted = |bench: &mut Bench| {
        let taken = (0..100).filter(|_| bench.send(id, "b@x.test").is_positive());
        taken.count()
    };
    assert_eq!(admitted(&mut bench), 100);
    bench.pass(3600);
    for number in 0..5 {
        let unknown = format!("unknown-{number}@x.test");
        bench.brain.handle_mail(id, "a@sender.test", bench.now);
        bench.brain.handle_rcpt(id, &unknown, bench.now);
    }
    // Half is left, and the five count.
    assert_eq!(admitted(&mut bench), 45);
    bench.pass(2 * 3600);
    assert_eq!(admitted(&mut bench), 81, "two thirds of it came back");
}

#[test]
fn some_final_replies_are_slow_and_some_transactions_put_off_for_nothing() {
    let mut bench = Bench::new(
        "[delay]\ndot = \"1s\"\n[fault]\nslow = 0.25\nslow_by = \"90s\"\ntemporary = 0.2\n",
    );
    let id = bench.ready();
    let verdicts: Vec<_> = (0..2000).map(|_| bench.send(id, "b@x.test")).collect();
    let count = |is: &dyn Fn(&Verdict) -> bool| verdicts.iter().filter(|one| is(one)).count();
    let put_off = count(&|one| one.reply.code == 451 && one.class == Class::Fault);
    let slow = count(&|one| one.delay == Duration::from_secs(91));
    let prompt = count(&|one| one.delay == Duration::from_secs(1));
    assert!((330..470).contains(&put_off), "{put_off}");
    assert!((330..470).contains(&slow), "{slow}");
    assert_eq!(put_off + slow + prompt, 2000);
}
