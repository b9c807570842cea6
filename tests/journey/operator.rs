//! What operators see: starts that fail with a reason, the queue, health and metrics.

use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use super::client::{Client, letter, mail};
use super::node::{Node, Setup};
use super::peer::{Answer, Peer, Stage, at_first, say};
use super::wait::until;

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).expect("UTF-8 is printed")
}

#[test]
fn a_wrong_configuration_is_named_by_file_and_line() {
    let failed = Setup::new()
        .file("# line 1\n[delivery]\nretires = [\"1s\"]\nmax_age = \"5 days\"")
        .fail();
    assert_eq!(failed.status.code(), Some(78), "{}", told(&failed));
    let text = told(&failed);
    assert!(text.contains("posthaste.toml:3:"), "{text}");
    assert!(text.contains("retry"), "the nearest key is named: {text}");
    assert!(
        text.contains("posthaste.toml:4:"),
        "all faults are told: {text}"
    );
}

#[test]
fn an_open_relay_is_no_configuration() {
    let failed = Setup::new().arg("--trust", "0.0.0.0/0").fail();
    assert_eq!(failed.status.code(), Some(78), "{}", told(&failed));
    assert!(told(&failed).contains("relay"), "{}", told(&failed));
}

#[test]
fn a_taken_address_is_named() {
    let setup = Setup::new();
    let address = setup.smtp();
    let _taken = TcpListener::bind(address).expect("the address is ours");
    let failed = setup.fail();
    assert!(!failed.status.success());
    assert!(
        told(&failed).contains(&address.to_string()),
        "{}",
        told(&failed)
    );
    let http = TcpListener::bind((super::node::own_ip(), 8000)).expect("the address is ours");
    let address = http
        .local_addr()
        .expect("a bound socket has an address")
        .to_string();
    let failed = Setup::new().arg("--http", &address).fail();
    assert!(!failed.status.success());
    assert!(told(&failed).contains(&address), "{}", told(&failed));
}

#[test]
fn a_spool_in_use_is_told_and_not_touched() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    let path = node.spool().display().to_string();
    let failed = Setup::new().arg("--spool", &path).fail();
    assert!(!failed.status.success());
    let text = told(&failed);
    assert!(text.contains(&path) && text.contains("in use"), "{text}");
    mail(node.smtp(), "", &["b@r.example"], &letter("unharmed"));
    peer.wait(1);
    assert!(node.is_alive());
}

#[test]
fn a_spool_that_cannot_be_is_told() {
    let failed = Setup::new()
        .arg("--spool", "/proc/no-such-place/spool")
        .fail();
    assert!(!failed.status.success());
    assert!(
        told(&failed).contains("/proc/no-such-place/spool"),
        "{}",
        told(&failed)
    );
    let failed = Setup::new().arg("--log", "/proc/no-such-place/log").fail();
    assert!(!failed.status.success());
    assert!(
        told(&failed).contains("/proc/no-such-place/log"),
        "{}",
        told(&failed)
    );
}

/// Three messages that a peer greylists, to be tried again in five minutes.
fn stuck() -> (Peer, Node, Vec<String>) {
    let peer = Peer::new(at_first(
        3,
        Stage::Rcpt,
        say("451 4.7.1 greylisted, come back"),
    ));
    let node = Setup::to(peer.address())
        .arg("--retry", "5m")
        .arg("--shards", "2")
        .start();
    let mut client = Client::greeted(node.smtp());
    let ids = (0..3).map(|_| client.mail("a@s.example", &["b@stuck.example"], &letter("stuck")));
    let ids = ids.collect();
    node.wait_for("TransientFailure", 3);
    (peer, node, ids)
}

#[test]
fn an_operator_sees_what_waits_and_why_and_may_flush_it() {
    let (peer, node, ids) = stuck();
    let listed = told(&node.queue(&["list"]));
    assert!(listed.contains("stuck.example"), "{listed}");
    assert!(
        listed.contains("451 4.7.1 greylisted, come back"),
        "{listed}"
    );
    assert!(listed.contains("3 queued"), "{listed}");
    let json = node.queue(&["list", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["queued"], 3);
    assert_eq!(json["domains"][0]["domain"], "stuck.example");
    assert_eq!(json["domains"][0]["queued"], 3);
    assert_eq!(json["silent_shards"], Value::Array(Vec::new()));
    let shown = told(&node.queue(&["show", &ids[0]]));
    assert!(
        shown.contains(&ids[0]) && shown.contains("stuck.example"),
        "{shown}"
    );
    assert!(shown.contains("greylisted"), "{shown}");
    let json = node.queue(&["show", &ids[1], "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["work"][0]["attempts"], 1, "{json}");
    let other = node.queue(&["flush", "other.example"]);
    assert!(other.status.success());
    assert_eq!(node.metric("posthaste_queue_entries"), 3.0);
    let flushed = node.queue(&["flush", "stuck.example"]);
    assert!(flushed.status.success(), "{}", told(&flushed));
    peer.wait(3);
    node.wait_empty();
    assert!(told(&node.queue(&["list"])).contains("nothing is queued"));
    assert!(!node.queue(&["show", &ids[0]]).status.success());
}

#[test]
fn flush_makes_all_mail_due() {
    let (peer, node, _) = stuck();
    assert!(node.queue(&["flush"]).status.success());
    peer.wait(3);
    node.wait_empty();
}

#[test]
fn a_site_that_is_down_says_so_in_the_queue() {
    let down = super::node::closed();
    let node = Setup::to(down).arg("--retry", "5m").start();
    mail(node.smtp(), "", &["b@down.example"], &letter("down"));
    node.wait_for("TransientFailure", 1);
    let listed = told(&node.queue(&["list"]));
    assert!(listed.contains("Connection refused"), "{listed}");
    // The site comes back: a flush must not wait for the end of its pause.
    let peer = Peer::good_at(down);
    assert!(node.queue(&["flush"]).status.success());
    peer.wait(1);
}

#[test]
fn nobody_home_is_told_by_queue() {
    let mut node = Setup::new().start();
    node.kill();
    let failed = node.queue(&["list"]);
    assert_eq!(failed.status.code(), Some(69), "{}", told(&failed));
    assert!(
        told(&failed).contains(&node.http().to_string()),
        "{}",
        told(&failed)
    );
}

#[test]
fn metrics_count_what_was_sent() {
    let peer = Peer::new(|step| match step.line.as_str() {
        line if line.contains("<bad@") => say("550 5.1.1 unknown"),
        line if line.contains("<later@") => say("450 4.2.1 later"),
        _ => Answer::Yes,
    });
    let node = Setup::to(peer.address())
        .arg("--retry", "5m")
        .arg("--shards", "2")
        .start();
    let mut client = Client::greeted(node.smtp());
    for to in [
        "good@r.example",
        "good@q.example",
        "bad@r.example",
        "later@r.example",
    ] {
        client.mail("", &[to], &letter("count"));
    }
    node.wait_for("TransientFailure", 1);
    node.wait_for("Delivery", 2);
    node.wait_for("Bounce", 1);
    until("all is counted", || {
        (node.metric("posthaste_queue_entries") == 1.0).then_some(())
    });
    for (name, value) in [
        ("posthaste_messages_accepted_total", 4.0),
        ("posthaste_connections_accepted_total", 1.0),
        ("posthaste_sessions_open", 1.0),
        ("posthaste_recipients_total{outcome=\"delivered\"}", 2.0),
        ("posthaste_recipients_total{outcome=\"refused\"}", 1.0),
        ("posthaste_recipients_total{outcome=\"deferred\"}", 1.0),
        ("posthaste_recipients_total{outcome=\"expired\"}", 0.0),
        ("posthaste_spool_healthy", 1.0),
        ("posthaste_log_writable", 1.0),
        ("posthaste_log_lines_total", 8.0),
        ("posthaste_silent_shards_total", 0.0),
    ] {
        assert_eq!(node.metric(name), value, "{name}");
    }
    let octets: usize = peer.letters().iter().map(|letter| letter.data.len()).sum();
    assert!(node.metric("posthaste_accepted_bytes_total") >= octets as f64);
    let (status, body) = node.get("/health");
    assert_eq!(status, 200);
    assert!(body.contains("\"alive\""), "{body}");
    let (status, body) = node.get("/ready");
    assert_eq!((status, body.as_str()), (200, "{\"status\":\"ready\"}"));
    assert_eq!(node.get("/nowhere").0, 404);
}

#[test]
fn each_listener_takes_mail() {
    let peer = Peer::good();
    let setup = Setup::to(peer.address());
    let second = std::net::SocketAddr::from((super::node::own_ip(), 2587));
    let listeners = format!(
        "[[listener]]\naddress = \"{}\"\n[[listener]]\naddress = \"{second}\"",
        setup.smtp()
    );
    let node = setup.file(&listeners).listeners_in_file().start();
    for address in [node.smtp(), second] {
        mail(address, "", &["b@r.example"], &letter("listener"));
    }
    peer.wait(2);
}
