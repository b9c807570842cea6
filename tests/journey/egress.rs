//! Several sources: their shares, what one site has against one of them, and what a restart forgets.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::client::{letter, mail};
use super::node::{Node, Setup, own_ip};
use super::peer::{Answer, Letter, Peer, Stage, say};
use super::wait::until;

/// One message a connection, so that each is a choice of its own.
pub(super) const ONE_EACH: &str = "[delivery]\nmessages_per_connection_max = 1\nidle = \"0s\"";
const BLOCKED: &str = "450 4.7.1 client host blocked using zen.spamhaus.org";

pub(super) fn source(name: &str, address: Ipv4Addr) -> String {
    format!("[[source]]\nname = \"{name}\"\naddress = \"{address}\"\n")
}

fn post(node: &Node, domain: &str, count: usize) {
    for number in 0..count {
        let to = format!("b{number}@{domain}");
        mail(node.smtp(), "a@s.example", &[&to], &letter("egress"));
    }
}

pub(super) fn from(letters: &[Letter], address: Ipv4Addr) -> usize {
    let address = IpAddr::V4(address);
    letters
        .iter()
        .filter(|letter| letter.from.ip() == address)
        .count()
}

pub(super) fn said(node: &Node, arguments: &[&str]) -> Value {
    let output = node.command(&[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn row<'a>(said: &'a Value, list: &str, source: &str) -> &'a Value {
    let mut rows = said[list].as_array().into_iter().flatten();
    let row = rows.find(|row| row["source"] == source);
    row.unwrap_or_else(|| panic!("no {source} in {said}"))
}

/// Refuses what comes from `address`, for its address.
fn averse_to(address: Ipv4Addr) -> Peer {
    Peer::new(move |step| {
        if step.stage == Stage::Mail && step.from.ip() == IpAddr::V4(address) {
            say(BLOCKED)
        } else {
            Answer::Yes
        }
    })
}

#[test]
fn the_peer_sees_sources_by_their_weights() {
    let peer = Peer::good();
    let (one, two) = (own_ip(), own_ip());
    let pool = "[[pool]]\nname = \"default\"\n\
                [[pool.member]]\nsource = \"one\"\nweight = 3\n\
                [[pool.member]]\nsource = \"two\"\n";
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("one", one))
        .file(&source("two", two))
        .file(pool)
        .start();
    post(&node, "r.example", 40);
    let letters = peer.wait(40);
    assert_eq!((from(&letters, one), from(&letters, two)), (30, 10));
    let records = node.wait_for("Delivery", 40);
    let named = records
        .iter()
        .filter(|r| r["egress_source"] == "one")
        .count();
    assert_eq!(named, 30);
}

#[test]
fn a_source_blocked_at_one_site_goes_on_at_the_other_and_a_restart_forgets_no_pause() {
    let (one, two) = (own_ip(), own_ip());
    let (averse, good) = (averse_to(one), Peer::good());
    let mut node = Setup::new()
        .file(ONE_EACH)
        .file("allow_private_targets = true")
        .file(&source("one", one))
        .file(&source("two", two))
        .route("averse.example", &[averse.address()])
        .route("good.example", &[good.address()])
        .start();
    post(&node, "averse.example", 20);
    let letters = averse.wait(20);
    assert_eq!((from(&letters, one), from(&letters, two)), (0, 20));
    post(&node, "good.example", 10);
    let letters = good.wait(10);
    assert_eq!((from(&letters, one), from(&letters, two)), (5, 5));
    let tries = |peer: &Peer| {
        let mut steps = peer.steps_at(Stage::Mail);
        steps.retain(|step| step.from.ip() == IpAddr::V4(one));
        steps.len()
    };
    let before = tries(&averse);
    assert!(
        (1..=4).contains(&before),
        "it stepped aside: {before} tries"
    );
    until("it is told", || {
        let told = node.told();
        told.contains("source one of pool default is aside at")
            .then_some(())
    });
    let said_of = said(&node, &["explain", "averse.example"]);
    let standing = row(&said_of, "sources", "one");
    assert_eq!(
        (&standing["standing"], &standing["fault"]),
        (&"aside".into(), &"address".into())
    );
    assert_eq!(row(&said_of, "sources", "two")["standing"], "well");
    let said_of = said(&node, &["explain", "good.example"]);
    assert_eq!(row(&said_of, "sources", "one")["standing"], "well");
    let text = node.command(&["explain", "averse.example"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("for address"), "{text}");

    assert!(node.stop().success());
    node.start_again();
    post(&node, "averse.example", 10);
    let letters = averse.wait(30);
    assert_eq!(from(&letters[20..], two), 10);
    assert_eq!(tries(&averse), before, "the pause is kept");
    post(&node, "good.example", 4);
    assert_eq!(from(&good.wait(14)[10..], one), 2);
}

#[test]
fn a_young_source_keeps_to_its_day_and_a_restart_forgets_none_of_it() {
    let peer = Peer::good();
    let (young, old) = (own_ip(), own_ip());
    let mut node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("young", young))
        .file(&source("old", old))
        .file("[[warmup]]\nsource = \"young\"\ndays = [3, 1000000]")
        .start();
    post(&node, "r.example", 12);
    let letters = peer.wait(12);
    let sent = from(&letters, young);
    // A day may begin meanwhile.
    assert!((3..=6).contains(&sent), "{sent}");
    let status = said(&node, &["warmup", "status"]);
    let status = row(&status, "warmups", "young");
    assert_eq!(status["days"], 2, "{status}");
    assert_eq!(status["provider"], "others");
    assert!(node.stop().success());
    node.start_again();
    post(&node, "r.example", 6);
    let later = from(&peer.wait(18)[12..], young);
    // Unless midnight came, none: the day is used up.
    assert!(later <= 3, "{later} more");
    let status = said(&node, &["warmup", "status"]);
    let status = row(&status, "warmups", "young");
    if status["day"] == 1 {
        assert_eq!((sent, later), (3, 0));
    }
    let text = node.command(&["warmup", "status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("young") && text.contains("1 of 2"), "{text}");
}

fn day() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is right").as_secs() / 86_400
}

#[test]
fn a_process_that_is_killed_gives_no_young_source_more_than_its_day() {
    const CAP: usize = 40;
    /// What one crash may cost the day.
    const AHEAD: usize = 10;
    let peer = Peer::good();
    let young = own_ip();
    let before = day();
    let mut node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("young", young))
        .file(&format!(
            "[[warmup]]\nsource = \"young\"\ndays = [{CAP}, {CAP}]"
        ))
        .start();
    for kills in 1..=2 {
        post(&node, "r.example", 12);
        peer.wait(6 * kills);
        node.kill();
        node.start_again();
    }
    post(&node, "r.example", 2 * CAP);
    until("the day is used up", || {
        let said = said(&node, &["queue", "list"]);
        let why = said["domains"][0]["why"].as_str().unwrap_or_default();
        why.contains("has sent its 40 of today").then_some(())
    });
    let sent = peer.letters().len();
    if day() == before {
        let least = CAP - 2 * AHEAD;
        assert!((least..=CAP).contains(&sent), "{sent} of {CAP}");
    }
    assert_eq!(from(&peer.letters(), young), sent);
}
