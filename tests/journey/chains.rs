//! Nodes behind nodes, and connections over time.

use super::client::{Client, letter, mail};
use super::node::Setup;
use super::peer::{Peer, Stage};
use super::wait::until;

#[test]
fn mail_passes_through_two_nodes_with_all_its_parameters() {
    let peer = Peer::good();
    let second = Setup::to(peer.address())
        .arg("--hostname", "second.example.test")
        .start();
    let first = Setup::to(second.smtp()).start();
    let mut client = Client::greeted(first.smtp());
    client.expect(
        "MAIL FROM:<a@s.example> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e1",
        "250",
    );
    client.expect(
        "RCPT TO:<\u{fc}@r.example> NOTIFY=FAILURE,DELAY ORCPT=utf-8;\u{fc}@r.example",
        "250",
    );
    client.expect("DATA", "354");
    let content = "Subject: \u{fc}\r\n\r\n..\r\n.\r\n\u{fc}\r\n".as_bytes();
    let first_id = client.end(content);
    let arrived = peer.wait(1).remove(0);
    for parameter in ["BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=e1"] {
        assert!(arrived.mail.contains(parameter), "{}", arrived.mail);
    }
    assert!(
        arrived.rcpts[0].contains("NOTIFY=FAILURE,DELAY"),
        "{:?}",
        arrived.rcpts
    );
    assert!(
        arrived.rcpts[0].contains("ORCPT=utf-8;"),
        "{:?}",
        arrived.rcpts
    );
    let (trace, rest) = arrived.parts();
    assert!(trace.contains("by second.example.test"), "{trace}");
    assert!(
        trace.starts_with("Received: from mta.example.test "),
        "{trace}"
    );
    assert!(rest.ends_with(content));
    let before = &rest[..rest.len() - content.len()];
    let before = String::from_utf8_lossy(before);
    assert!(before.contains(&format!("id {first_id}")), "{before}");
}

#[test]
fn a_loop_of_two_nodes_ends_with_one_report() {
    let senders = Peer::good();
    let (one, other) = (Setup::new(), Setup::new());
    let (one_at, other_at) = (one.smtp(), other.smtp());
    let to_senders = [senders.address()];
    let one = one
        .arg("--hostname", "one.example.test")
        .route("s.example", &to_senders)
        .route("*", &[other_at])
        .start();
    let other = other
        .arg("--hostname", "other.example.test")
        .route("s.example", &to_senders)
        .route("*", &[one_at])
        .start();
    mail(
        one.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("round"),
    );
    let report = senders.wait(1).remove(0).text();
    assert!(report.contains("Status: 5.4.6\r\n"), "{report}");
    one.wait_empty();
    other.wait_empty();
    assert_eq!(senders.letters().len(), 1);
}

#[test]
fn a_connection_idle_too_long_is_closed_politely_and_opened_anew() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nidle = \"100ms\"")
        .start();
    for round in 1..=3 {
        mail(node.smtp(), "", &["b@r.example"], &letter("idle"));
        peer.wait(round);
        until("it says QUIT", || {
            let quits = peer.steps().into_iter().filter(|step| step.line == "QUIT");
            (quits.count() == round).then_some(())
        });
    }
    assert_eq!(peer.steps_at(Stage::Banner).len(), 3);
}

#[test]
fn a_peer_that_closes_an_idle_connection_costs_no_attempt() {
    let mut peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nidle = \"1h\"")
        .start();
    for _ in 0..3 {
        mail(node.smtp(), "", &["b@r.example"], &letter("idle"));
        peer.wait(1);
        peer.crash();
        peer = Peer::good_at(peer.address());
    }
    node.wait_empty();
    assert_eq!(
        node.metric("posthaste_recipients_total{outcome=\"deferred\"}"),
        0.0
    );
    assert_eq!(
        node.metric("posthaste_recipients_total{outcome=\"delivered\"}"),
        3.0
    );
}

#[test]
fn one_connection_serves_many_messages() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nconnections_max = 1")
        .start();
    let mut client = Client::greeted(node.smtp());
    for number in 0..100 {
        client.mail("", &["b@r.example"], &letter(&format!("n{number}")));
    }
    let letters = peer.wait(100);
    node.wait_empty();
    assert_eq!(peer.steps_at(Stage::Banner).len(), 1);
    assert_eq!(peer.steps_at(Stage::Other).len(), 0, "no RSET is needed");
    let mut bodies: Vec<_> = letters.iter().map(|l| l.parts().1.to_vec()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 100);
}
