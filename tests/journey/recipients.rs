//! Many recipients: how they are put into transactions, and what becomes of those a peer has no
//! room for.

use super::client::{letter, mail};
use super::node::Setup;
use super::peer::{Answer, Peer, Stage, say};

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{n:03}@r.example")).collect()
}

/// Every recipient has the message once.
#[track_caller]
fn each_has_it_once(peer: &Peer, to: &[String]) {
    let letters = peer.letters();
    let mut got: Vec<&str> = letters
        .iter()
        .flat_map(|letter| &letter.rcpts)
        .map(|rcpt| rcpt.trim_matches(['<', '>']))
        .collect();
    got.sort_unstable();
    let mut awaited: Vec<&str> = to.iter().map(String::as_str).collect();
    awaited.sort_unstable();
    assert_eq!(got, awaited);
}

#[test]
fn a_transaction_has_as_many_recipients_as_allowed() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nrecipients_per_transaction_max = 5")
        .start();
    let to = addresses(12);
    let refs: Vec<&str> = to.iter().map(String::as_str).collect();
    mail(node.smtp(), "a@s.example", &refs, &letter("chunks"));
    node.wait_for("Delivery", 12);
    node.wait_empty();
    each_has_it_once(&peer, &to);
    let letters = peer.letters();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.rcpts.len() <= 5));
}

#[test]
fn recipients_a_peer_has_no_room_for_come_again() {
    for too_many in ["452 4.5.3 too many recipients", "552 too many recipients"] {
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let peer = Peer::new(move |step| {
            use std::sync::atomic::Ordering::Relaxed;
            match step.stage {
                Stage::Mail => taken.store(0, Relaxed),
                Stage::Rcpt if taken.fetch_add(1, Relaxed) >= 10 => return say(too_many),
                Stage::Banner
                | Stage::Hello
                | Stage::Rcpt
                | Stage::Data
                | Stage::Dot
                | Stage::Other => {}
            }
            Answer::Yes
        });
        let node = Setup::to(peer.address())
            .file("[delivery]\nconnections_max = 1")
            .start();
        let to = addresses(25);
        let refs: Vec<&str> = to.iter().map(String::as_str).collect();
        mail(node.smtp(), "a@s.example", &refs, &letter("room"));
        node.wait_for("Delivery", 25);
        node.wait_empty();
        each_has_it_once(&peer, &to);
        assert_eq!(peer.letters().len(), 3);
    }
}

#[test]
fn thousand_recipients_of_many_domains_are_each_served_once() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).arg("--shards", "2").start();
    let to: Vec<String> = (0..1000)
        .map(|n| format!("r{n:04}@d{}.example", n % 100))
        .collect();
    let refs: Vec<&str> = to.iter().map(String::as_str).collect();
    mail(node.smtp(), "a@s.example", &refs, &letter("thousand"));
    node.wait_for("Delivery", 1000);
    node.wait_empty();
    each_has_it_once(&peer, &to);
}
