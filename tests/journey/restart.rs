//! What a node that ends, however it ends, leaves to its next run.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, letter, mail};
use super::node::{Node, Setup, closed};
use super::peer::{Peer, Stage, always, at_first, say};

enum End {
    Terminate,
    Kill,
}

fn end(node: &mut Node, how: &End) {
    match how {
        End::Terminate => {
            let status = node.stop();
            assert_eq!(status.code(), Some(0), "{}", node.told());
        }
        End::Kill => node.kill(),
    }
}

/// Mail that waits for a peer that is down arrives after the restart, once for each recipient.
fn queued_mail_survives(how: &End) {
    let peer = closed();
    let mut node = Setup::to(peer).arg("--shards", "2").start();
    let mut ids = Vec::new();
    let mut client = Client::greeted(node.smtp());
    for number in 0..50 {
        let to = [format!("a@d{}.example", number % 7), "b@all.example".into()];
        let to = [to[0].as_str(), to[1].as_str()];
        ids.push(client.mail("a@s.example", &to, &letter(&format!("n{number}"))));
    }
    drop(client);
    end(&mut node, how);
    let peer = Peer::good_at(peer);
    node.start_again();
    node.wait_for("Delivery", 100);
    node.wait_empty();
    let letters = peer.letters();
    for (number, id) in ids.iter().enumerate() {
        let body = letter(&format!("n{number}"));
        let copies = letters.iter().filter(|letter| {
            let (trace, rest) = letter.parts();
            rest == body && trace.contains(id.as_str())
        });
        let mut to: Vec<&str> = copies
            .flat_map(|copy| &copy.rcpts)
            .map(|to| &**to)
            .collect();
        to.sort_unstable();
        let domain = number % 7;
        assert_eq!(
            to,
            [&format!("<a@d{domain}.example>"), "<b@all.example>"],
            "{id}"
        );
        let records = node.records_of(id);
        let of = |kind: &str| records.iter().filter(|r| r["type"] == kind).count();
        assert!(of("Reception") >= 2, "{records:?}");
        assert_eq!(of("Delivery"), 2, "{records:?}");
    }
}

#[test]
fn queued_mail_is_delivered_after_sigterm_and_restart() {
    queued_mail_survives(&End::Terminate);
}

#[test]
fn queued_mail_is_delivered_after_sigkill_and_restart() {
    queued_mail_survives(&End::Kill);
}

/// A retry comes when it is due: not with the restart, and as attempt number two.
fn due_times_survive(how: &End) {
    let peer = Peer::new(at_first(1, Stage::Dot, say("450 4.2.0 later")));
    let mut node = Setup::to(peer.address())
        .arg("--retry", "3s,5m")
        .file("[delivery]\njitter = 0.0")
        .start();
    let id = mail(node.smtp(), "a@s.example", &["b@r.example"], &letter("due"));
    node.wait_for("TransientFailure", 1);
    end(&mut node, how);
    node.start_again();
    let arrived = peer.wait(1).remove(0);
    let first = peer.steps_at(Stage::Dot)[0].at;
    let waited = arrived.at - first;
    assert!(waited >= Duration::from_millis(2950), "{waited:?}");
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    let delivery = node.wait_for("Delivery", 1).remove(0);
    assert_eq!(delivery["num_attempts"], 2, "{delivery}");
    assert_eq!(delivery["id"], id.as_str());
}

#[test]
fn a_due_time_outlives_sigterm() {
    due_times_survive(&End::Terminate);
}

#[test]
fn a_due_time_outlives_sigkill() {
    due_times_survive(&End::Kill);
}

#[test]
fn the_log_loses_no_line_by_a_restart() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    let mut ids = Vec::new();
    for round in 0..3 {
        let mut client = Client::greeted(node.smtp());
        for _ in 0..10 {
            ids.push(client.mail("a@s.example", &["b@r.example"], &letter("log")));
        }
        drop(client);
        end(
            &mut node,
            if round == 1 {
                &End::Terminate
            } else {
                &End::Kill
            },
        );
        node.start_again();
    }
    node.wait_empty();
    super::wait::until("every message has its lines", || {
        let records = node.records();
        let has = |id: &String, kind: &str| {
            records
                .iter()
                .any(|record: &Value| record["id"] == id.as_str() && record["type"] == kind)
        };
        ids.iter()
            .all(|id| has(id, "Reception") && has(id, "Delivery"))
            .then_some(())
    });
}

#[test]
fn an_age_outlives_a_restart() {
    let senders = Peer::good();
    let mut node = Setup::to(closed())
        .route("s.example", &[senders.address()])
        .arg("--max-age", "3s")
        .start();
    let begun = Instant::now();
    mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("age"),
    );
    node.wait_for("TransientFailure", 1);
    node.kill();
    node.start_again();
    let report = senders.wait(1).remove(0);
    assert!(report.text().contains("Status: 4.4.7"), "{}", report.text());
    assert!(
        begun.elapsed() >= Duration::from_millis(2900),
        "{:?}",
        begun.elapsed()
    );
    node.wait_for("Expiration", 1);
}

#[test]
fn the_report_of_an_expiry_after_a_restart_names_the_last_answer() {
    let busy = Peer::new(always(Stage::Rcpt, say("450 4.2.1 shelf 77 is full")));
    let senders = Peer::good();
    let mut node = Setup::to(busy.address())
        .route("s.example", &[senders.address()])
        .arg("--retry", "1h")
        .arg("--max-age", "8s")
        .start();
    mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("age"),
    );
    node.wait_for("TransientFailure", 1);
    node.kill();
    node.start_again();
    let report = senders.wait(1).remove(0).text();
    assert!(report.contains("shelf 77 is full"), "{report}");
    let expiration = node.wait_for("Expiration", 1).remove(0);
    let content = expiration["response"]["content"].as_str().expect("text");
    assert!(content.ends_with("shelf 77 is full"), "{content}");
    assert_eq!(
        busy.steps_at(Stage::Rcpt).len(),
        1,
        "asked in the first run"
    );
}

#[test]
fn relaxed_durability_outlives_sigkill() {
    let peer = closed();
    let mut node = Setup::to(peer).arg("--durability", "relaxed").start();
    let mut client = Client::greeted(node.smtp());
    for number in 0..20 {
        client.mail("", &["b@r.example"], &letter(&format!("n{number}")));
    }
    drop(client);
    node.kill();
    let peer = Peer::good_at(peer);
    node.start_again();
    peer.wait(20);
    node.wait_empty();
    assert_eq!(peer.letters().len(), 20);
}

/// Lines of the first run may come again once: those of the second before its death.
#[test]
fn a_node_that_dies_young_again_and_again_logs_its_backlog_once() {
    let mut node = Setup::to(closed()).arg("--retry", "5m").start();
    let mut client = Client::greeted(node.smtp());
    let to: Vec<String> = (0..500).map(|n| format!("r{n}@r.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let ids: Vec<String> = (0..5)
        .map(|n| client.mail("a@s.example", &to, &letter(&format!("n{n}"))))
        .collect();
    node.kill();
    let receptions = |node: &Node| {
        let mut records = node.records();
        records.retain(|record| record["type"] == "Reception");
        records.len()
    };
    node.start_again();
    node.kill();
    let once = receptions(&node);
    assert!((2500..=5000).contains(&once), "{once}");
    for id in &ids {
        assert!(node.records_of(id).len() >= 500);
    }
    for _ in 0..2 {
        node.start_again();
        node.kill();
        assert_eq!(receptions(&node), once);
    }
}
