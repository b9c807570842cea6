//! Each shipped profile behaves as its name and its row in the README say.

use super::bench::Bench;
use super::brain::{Then, Verdict};
use super::class::Class;
use super::shipped::load;
use posthaste_core::words::Moment;
use std::time::Duration;

/// Sends one after the other over connections of their own, to mailboxes that are sound.
struct Visitor {
    bench: Bench,
    domain: String,
    number: u64,
}

impl Visitor {
    fn to(name: &str) -> Self {
        let profile = load(name).unwrap();
        let domain = profile.domains[0].to_string();
        Self {
            bench: Bench::of(profile),
            domain,
            number: 0,
        }
    }

    /// A mailbox that nothing is wrong with, another one each time.
    fn mailbox(&mut self) -> String {
        let brain = &self.bench.brain;
        loop {
            self.number += 1;
            let recipient = format!("user{}@{}", self.number, self.domain);
            if brain
                .mailbox(&brain.profile, &recipient, self.bench.now)
                .is_none()
            {
                return recipient;
            }
        }
    }

    fn send_to(&mut self, recipient: &str) -> Verdict {
        let (id, verdict) = self.bench.connect(1);
        let verdict = if verdict.is_positive() {
            self.bench.send(id, recipient)
        } else {
            verdict
        };
        self.bench.brain.handle_close(id, self.bench.now);
        verdict
    }

    fn send(&mut self) -> Verdict {
        let recipient = self.mailbox();
        self.send_to(&recipient)
    }

    /// The first verdict of `class` among so many, and how many came before it.
    fn send_until(&mut self, class: Class, most: usize) -> (usize, Verdict) {
        for count in 0..most {
            let verdict = self.send();
            if verdict.class == class {
                return (count, verdict);
            }
        }
        panic!("no {class:?} in {most}");
    }

    /// How many connections it takes at once, and the reply to the next one.
    fn crowd(&mut self, most: usize) -> (usize, Verdict) {
        let mut open = Vec::new();
        loop {
            let (id, verdict) = self.bench.connect(1);
            open.push(id);
            if !verdict.is_positive() || open.len() > most {
                let count = open.len() - 1;
                for id in open {
                    self.bench.brain.handle_close(id, self.bench.now);
                }
                return (count, verdict);
            }
        }
    }
}

fn text(verdict: &Verdict) -> String {
    String::from_utf8_lossy(&verdict.reply.octets).into_owned()
}

#[test]
fn gmail_defers_ever_more_above_its_knee_and_then_says_550() {
    let mut visitor = Visitor::to("gmail");
    assert!(visitor.send().is_positive());
    let hourly = visitor.bench.brain.truth(visitor.bench.now).capacities[0].capacity_per_second;
    let hourly = hourly * 3600.0;
    let classes: Vec<_> = (0..4500).map(|_| visitor.send().class).collect();
    // The amount shrinks with each deferral: shares of the first one are rough.
    let deferred = |from: f64, to: f64| {
        let (from, to) = ((hourly * from) as usize, (hourly * to) as usize);
        let capacity = classes[from..to]
            .iter()
            .filter(|one| **one == Class::Capacity);
        capacity.count() as f64 / (to - from) as f64
    };
    let (below, rising, high) = (deferred(0.0, 0.7), deferred(0.8, 1.0), deferred(1.0, 1.2));
    assert_eq!(below, 0.0);
    assert!(rising > 0.05 && high > rising * 1.5, "{rising} {high}");
    assert!(deferred(1.4, 1.5) > 0.95, "all of it");
    let (_, block) = visitor.send_until(Class::Block, 1);
    assert!(text(&block).starts_with("550-5.7."), "{}", text(&block));
    let truth = visitor.bench.brain.truth(visitor.bench.now);
    assert!(truth.deferred(Class::Capacity) >= 2000, "421 before that");
    assert_eq!(truth.blocks, 1);
    visitor.bench.pass(4 * 3600);
    assert!(visitor.send().is_positive(), "hours later all is well");
}

#[test]
fn gmail_judges_after_the_dot_and_wants_tls_of_those_who_send_much() {
    let mut visitor = Visitor::to("gmail");
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..5700 {
        let verdict = visitor.send();
        if verdict.class == Class::TlsRequired {
            let text = text(&verdict);
            let code = text.get(..10).unwrap();
            told.insert(code.to_owned());
        }
        visitor.bench.pass(10);
    }
    let wanted = ["421 4.7.0 ", "421 4.7.29", "550 5.7.29"];
    assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    let (id, _) = visitor.bench.connect(1);
    let brain = &mut visitor.bench.brain;
    let now = visitor.bench.now;
    assert_eq!(brain.handle_starttls(id, now).then, Then::Secure);
    brain.handle_secured(id);
    let recipient = visitor.mailbox();
    let header = "From: <a@sender.test>\r\nDKIM-Signature: v=1; d=sender.test\r\n\r\n";
    let verdict = visitor
        .bench
        .send_as(id, "a@sender.test", &recipient, header);
    assert!(verdict.is_positive(), "{}", text(&verdict));
}

#[test]
fn outlook_puts_off_at_mail_and_blocks_who_presses_on_for_a_day() {
    let mut visitor = Visitor::to("outlook");
    let (taken, deferred) = visitor.send_until(Class::Capacity, 5000);
    assert!((600..2200).contains(&taken), "{taken}");
    assert!(
        text(&deferred).starts_with("451 4.7."),
        "{}",
        text(&deferred)
    );
    let (pressed, block) = visitor.send_until(Class::Block, 1000);
    assert!((490..600).contains(&pressed), "{pressed}");
    assert!(text(&block).starts_with("550 5.7."), "{}", text(&block));
    visitor.bench.pass(23 * 3600);
    assert_eq!(visitor.send().class, Class::Block);
    visitor.bench.pass(2 * 3600);
    assert!(visitor.send().is_positive());
    let (connections, refused) = visitor.crowd(30);
    assert_eq!(connections, 20);
    assert!(text(&refused).starts_with("451 4.7.652"));
}

#[test]
fn yahoo_has_a_box_of_hours_that_probing_extends() {
    for probes in [false, true] {
        let mut visitor = Visitor::to("yahoo");
        let (_, deferred) = visitor.send_until(Class::Capacity, 10_000);
        assert!(
            text(&deferred).starts_with("421 4.7.0 [TS"),
            "{}",
            text(&deferred)
        );
        let (offences, _) = visitor.send_until(Class::Penalty, 100);
        assert_eq!(offences, 19, "twenty of them open it");
        for _ in 0..13 {
            visitor.bench.pass(600);
            if probes {
                assert_eq!(visitor.send().class, Class::Penalty);
            }
        }
        let class = visitor.send().class;
        let wanted = if probes {
            Class::Penalty
        } else {
            Class::Accepted
        };
        assert_eq!(class, wanted, "two hours and ten minutes later");
        visitor.bench.pass(5 * 3600);
        assert!(visitor.send().is_positive());
    }
    let mut visitor = Visitor::to("yahoo");
    let (id, _) = visitor.bench.connect(1);
    let (brain, now) = (&mut visitor.bench.brain, visitor.bench.now);
    brain.handle_mail(id, "a@sender.test", now);
    assert!(
        brain
            .handle_rcpt(id, "unknown-1@yahooish.test", now)
            .is_positive()
    );
    let verdict = brain.handle_end_of_data(id, b"", now);
    assert_eq!(verdict.class, Class::UnknownMailbox, "after the dot");
}

#[test]
fn comcast_takes_25_connections_and_tells_its_lists_by_a_mask() {
    let mut visitor = Visitor::to("comcast");
    let (connections, refused) = visitor.crowd(40);
    assert_eq!(connections, 25);
    assert!(text(&refused).contains("Too many sessions opened"));
    let mut mask = None;
    for _ in 0..100 {
        for _ in 0..300 {
            let verdict = visitor.send_to("unknown-1@comcastish.test");
            if verdict.class == Class::Blocklist {
                assert_eq!((verdict.reply.code, verdict.then), (554, Then::Close));
                mask = Some(text(&verdict));
                break;
            }
        }
        visitor.bench.pass(3600);
    }
    let told = mask.expect("an address that guesses mailboxes gets on a list");
    let bits = told.trim_end().rsplit_once("#BL00").unwrap().1;
    let is_bit = |octet: u8| octet == b'0' || octet == b'1';
    assert!(bits.len() == 4 && bits.bytes().all(is_bit), "{told}");
    assert_ne!(bits, "0000");
}

#[test]
fn orange_takes_two_connections_and_shuts_for_an_hour_after_three_offences() {
    let mut visitor = Visitor::to("orange");
    for offence in 0..3 {
        let (connections, refused) = visitor.crowd(5);
        assert_eq!(connections, 2, "{offence}");
        assert!(text(&refused).contains("Trop de connexions"));
        assert_eq!(refused.class, Class::ConnectionLimit);
    }
    assert_eq!(visitor.send().class, Class::Penalty);
    visitor.bench.pass(3500);
    assert_eq!(visitor.send().class, Class::Penalty);
    visitor.bench.pass(101);
    assert!(visitor.send().is_positive(), "two probes are free");
}

#[test]
fn gateway_counts_by_the_half_hour_and_says_again_what_it_said() {
    let mut visitor = Visitor::to("gateway");
    let (taken, deferred) = visitor.send_until(Class::Capacity, 1000);
    assert!((140..=450).contains(&taken), "{taken}");
    assert!(text(&deferred).contains("Rate control"));
    visitor.bench.pass(1700);
    let late = visitor.mailbox();
    assert_eq!(visitor.send_to(&late).class, Class::Capacity);
    visitor.bench.pass(101);
    assert_eq!(visitor.send_to(&late).class, Class::Cached, "a new window");
    assert_ne!(visitor.send().class, Class::Capacity);
    visitor.bench.pass(200);
    let again = visitor.send_to(&late).class;
    assert!(
        !matches!(again, Class::Cached | Class::Capacity),
        "{again:?}"
    );
    let unknown = "unknown-1@corporation.test";
    assert_eq!(visitor.send_to(unknown).class, Class::UnknownMailbox);
    visitor.bench.pass(85 * 60);
    let cached = visitor.send_to(unknown);
    assert_eq!((cached.class, cached.reply.code), (Class::Cached, 550));
    visitor.bench.pass(6 * 60);
    assert_eq!(visitor.send_to(unknown).class, Class::UnknownMailbox);
}

#[test]
fn greylister_wants_five_minutes_and_breaks_off_starttls() {
    let mut visitor = Visitor::to("greylister");
    let recipient = visitor.mailbox();
    assert_eq!(visitor.send_to(&recipient).class, Class::Greylist);
    visitor.bench.pass(301);
    assert!(visitor.send_to(&recipient).is_positive());
    let (id, _) = visitor.bench.connect(1);
    let verdict = visitor.bench.brain.handle_starttls(id, visitor.bench.now);
    assert_eq!((verdict.reply.code, verdict.then), (454, Then::Go));
}

#[test]
fn netflap_has_a_dead_backend_resets_and_a_domain_without_mail() {
    let mut visitor = Visitor::to("netflap");
    let verdicts: Vec<_> = (0..4000).map(|_| visitor.send()).collect();
    let count = |is: &dyn Fn(&&Verdict) -> bool| verdicts.iter().filter(is).count();
    assert_eq!(count(&|one| one.class == Class::Backend), 1000);
    assert!((10..60).contains(&count(&|one| one.then == Then::Reset)));
    let refused = loop {
        let verdict = visitor.send_to("b@nomail.netflap.test");
        if verdict.class == Class::NullMx {
            break verdict;
        }
    };
    assert_eq!(refused.reply.code, 556);
}

#[test]
fn limiter_takes_five_connections() {
    let (connections, refused) = Visitor::to("limiter").crowd(9);
    assert_eq!((connections, refused.reply.code), (5, 421));
}

#[test]
fn qq_says_no_for_good_to_what_passes_within_the_hour() {
    let mut visitor = Visitor::to("qq");
    // Another minute than a full hour, so that the window is not over at once.
    visitor.bench.now = Moment::from_secs(1_800 * 1_000_001 + 60);
    let (_, refused) = visitor.send_until(Class::Capacity, 600);
    assert!(
        text(&refused).starts_with("550 Ip frequency limited"),
        "no enhanced code: {}",
        text(&refused)
    );
    visitor.bench.now = visitor.bench.now + Duration::from_secs(3600);
    // More than better standing alone would let through.
    for _ in 0..60 {
        assert_ne!(visitor.send().class, Class::Capacity);
    }
}

/// A wording that nothing leads to is a promise that the profile breaks.
#[test]
fn no_shipped_profile_words_a_reply_that_it_cannot_give() {
    for (name, text) in super::SHIPPED {
        let profile = load(name).unwrap();
        let limits = profile.limits.iter().map(|limit| &limit.reply);
        let capacities = profile.capacities.iter();
        let of_capacities = capacities.flat_map(|one| [&one.limit.reply, &one.blocked]);
        let replies: Vec<&str> = limits.chain(of_capacities).map(|key| &**key).collect();
        let connections = &profile.connections;
        let bulk = profile.authentication.as_ref().and_then(|it| it.bulk);
        let keys = text.lines().filter_map(|line| {
            let key = line.strip_prefix("[[text.")?;
            key.strip_suffix("]]")
        });
        for key in keys {
            let can_be_given = match key {
                // The last three are such by the mailbox's name.
                "banner" | "accepted" | "recipient_limit" | "unknown_mailbox" | "full_mailbox"
                | "inactive_mailbox" => true,
                "connection_limit" => connections.per_ip < u32::MAX,
                "message_limit" => connections.messages < u32::MAX,
                "penalty" => profile.penalty.is_some(),
                "block" => profile.escalation.is_some(),
                "blocklist" => !profile.lists.is_empty(),
                "ptr" => profile.ptr.as_ref().is_some_and(|ptr| ptr.missing > 0.0),
                "greylist" => profile.greylist.is_some(),
                "null_mx" => !profile.null_mx.is_empty(),
                "content" => profile.spam > 0.0,
                "unauthenticated" | "dmarc" => profile.authentication.is_some(),
                "spf" | "dkim" | "alignment" => bulk.is_some(),
                "tls_required" => profile.tls.required + profile.tls.required_of_bulk > 0.0,
                "tls_fault" => profile.tls.refuse > 0.0,
                "interrupt" => profile.faults.interrupt > 0.0,
                "temporary" => profile.faults.temporary > 0.0,
                limit => replies.contains(&limit),
            };
            assert!(can_be_given, "{name}: {key}");
        }
    }
}
