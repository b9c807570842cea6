//! Whose each reply is that providers are known to give: the shipped rules and the words together.

use super::egress::{bench, count, score, two};
use super::*;
use crate::egress::{Blame, Fault, Standing};
use crate::shaping::{SiteFacts, shipped};

const REPLIES: &str = include_str!("replies.txt");
const STAGES: [(&str, Stage); 5] = [
    ("banner", Stage::Banner),
    ("ehlo", Stage::Ehlo),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("dot", Stage::Dot),
];
const WHOSE: [(&str, Blame); 8] = [
    ("reputation", Blame::Source(Fault::Reputation)),
    ("address", Blame::Source(Fault::Address)),
    ("pace", Blame::Source(Fault::Connection)),
    ("content", Blame::Content),
    ("domain", Blame::Domain),
    ("recipient", Blame::Recipient),
    ("receiver", Blame::Receiver),
    ("other", Blame::Other),
];

fn named<T: Copy>(all: &[(&str, T)], name: &str) -> T {
    let found = all.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("{name} is known")).1
}

fn said(stage: Stage, line: &str) -> Outcome {
    let (code, text) = line.split_once(' ').unwrap();
    let code: u16 = code.parse().unwrap();
    let (enhanced, text) = match Enhanced::parse_prefix(text) {
        Some((enhanced, text)) => (Some(enhanced), text),
        None => (None, text),
    };
    let reply = Reply::new(code, enhanced, text);
    let cause = Cause::Reply { stage, reply };
    if code < 500 {
        Outcome::Deferred(cause)
    } else {
        Outcome::Refused(cause)
    }
}

fn at<'a>(hosts: &'a [&'a str; 1]) -> SiteFacts<'a> {
    SiteFacts {
        domain: "x.test",
        mx_hosts: hosts,
        site: hosts[0],
    }
}

fn with_shipped() -> Shaping {
    Shaping::read(&shipped().collect::<Vec<_>>()).unwrap()
}

#[test]
fn each_reply_a_provider_is_known_for_blames_whom_it_means() {
    let shapes = Shapes {
        shaping: Arc::new(with_shipped()),
        ..Shapes::default()
    };
    let (mut host, mut wrong, mut count) = ("", Vec::new(), 0);
    for line in REPLIES.lines() {
        if let Some(name) = line.strip_prefix("@ ") {
            host = name;
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (stage, rest) = line.split_once(' ').unwrap();
        let (whose, reply) = rest.trim_start().split_once(' ').unwrap();
        let outcome = said(named(&STAGES, stage), reply.trim_start());
        let told = shapes.find(&at(&[host]), &outcome).blame;
        count += 1;
        if told != named(&WHOSE, whose) {
            wrong.push(format!("{host}: {line}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "{count}");
}

/// What a provider says that no list of words has, and a rule that knows it.
const RULE: &str = "connection_limit = 4\n\
    [provider.p]\nmatch = [{ MXSuffix = \"x.example\" }]\n\
    [[provider.p.automation]]\nregex = \"ZZ01\"\naction = \"Suspend\"\nduration = \"1h\"\nscope = \"source\"\n";

#[test]
fn a_source_steps_aside_by_the_rules_of_the_provider_and_is_counted_as_blocked() {
    for line in ["421 4.7.0 ZZ01 later", "554 5.7.1 ZZ01 never"] {
        let mut bench = bench(two(), RULE);
        bench.queue("x.example", 20);
        bench.queue("y.example", 20);
        let sent = bench.carry(|source, _| match source {
            "a" => said(Stage::Dot, line),
            _ => delivered(),
        });
        let blocked = bench.standing("x.example", "a");
        assert!(matches!(blocked, Standing::Aside { .. }), "{line}");
        let elsewhere = bench.standing("y.example", "a");
        assert_eq!(elsewhere, Standing::Well, "there nobody knows the words");
        assert_eq!((count(&sent, "a"), count(&sent, "b")), (11, 29), "{line}");
        let score = |source| score(&bench, source, "p");
        assert!(score("a") < 600, "{line}: {}", score("a"));
        assert_eq!(score("b"), 1000);
    }
}

#[test]
fn a_receiver_who_may_not_ask_a_block_list_says_nothing_of_any_source() {
    let mut bench = bench(two(), RULE);
    bench.queue("x.example", 20);
    let text = "450 4.7.1 blocked using zen.spamhaus.org; Error: open resolver";
    let sent = bench.carry(|_, _| said(Stage::Rcpt, text));
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (10, 10));
    for source in ["a", "b"] {
        assert_eq!(bench.standing("x.example", source), Standing::Well);
        assert_eq!(score(&bench, source, "p"), 1000);
    }
}

#[test]
fn a_link_on_a_list_sends_no_mail_round_by_another_source() {
    for text in [
        "554 5.7.1 Message blocked using multi.surbl.org",
        "550 5.7.1 rejected as spam, see why your IP is on a block list",
    ] {
        let mut bench = bench(two(), RULE);
        bench.queue("x.example", 20);
        let sent = bench.carry(|_, _| said(Stage::Dot, text));
        assert_eq!((count(&sent, "a"), count(&sent, "b")), (10, 10), "{text}");
        assert_eq!(bench.standing("x.example", "a"), Standing::Well);
    }
}
