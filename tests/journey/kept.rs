//! What of shaping outlives a restart.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use super::client::{Client, letter};
use super::cluster::{fill, nodes};
use super::node::{Node, Setup};
use super::peer::Peer;
use super::redis_server::RedisServer;
use super::wait::{never, until};

const KEY: &str = "max_message_rate";

/// `posthaste override …` against `node`: what it prints.
pub(super) fn run(node: &Node, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("override")
        .args(words)
        .args(["--http", &node.http().to_string()])
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn set(node: &Node, name: &str, key: &str, value: &str, time: &str, reason: &str) {
    let words = [
        "set", "site", name, key, value, "--for", time, "--reason", reason,
    ];
    let told = run(node, &words);
    assert!(
        told.starts_with("set until") && !told.contains("restart"),
        "{told}"
    );
}

fn send(node: &Node, count: usize) {
    let mut client = Client::greeted(node.smtp());
    for _ in 0..count {
        client.mail("", &["b@r.example"], &letter("kept"));
    }
}

#[test]
fn an_override_survives_kill_and_restart_and_expires_when_it_would_have() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    let site = peer.address().to_string();
    set(&node, "other.example", KEY, "5/s", "1h", "for long");
    set(&node, &site, "connection_limit", "0", "6s", "for a while");
    set(&node, "third.example", KEY, "6/s", "1h", "taken back");
    assert!(run(&node, &["cancel", "site", "third.example", KEY]).starts_with("cancelled"));
    node.kill();
    node.start_again();
    let told = run(&node, &["list"]);
    assert!(
        told.contains("for long") && !told.contains("taken back"),
        "{told}"
    );
    send(&node, 2);
    // It held for six seconds, of which the restart was a part.
    peer.wait(2);
    until("it has expired", || {
        (!run(&node, &["list"]).contains("for a while")).then_some(())
    });
    assert!(run(&node, &["list"]).contains("for long"));
}

#[test]
fn a_slow_rate_remembers_over_a_restart_what_was_consumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.toml");
    fs::write(
        &rules,
        "[\"default\"]\nmax_message_rate = \"5/d,max_burst=5\"\n",
    )
    .expect("it can be written");
    let peer = Peer::good();
    let mut node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    send(&node, 3);
    peer.wait(3);
    node.wait_empty();
    node.stop();
    node.start_again();
    send(&node, 4);
    peer.wait(5);
    never("more than five a day", Duration::from_secs(2), || {
        (peer.letters().len() > 5).then_some(())
    });
}

#[test]
fn a_state_file_that_is_no_use_is_told_and_keeps_nothing_from_starting() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    set(&node, "x.example", KEY, "5/s", "1h", "lost");
    node.kill();
    fs::write(node.spool().join("shaping.json"), "torn").expect("it can be written");
    node.start_again();
    assert!(
        node.told().contains("shaping.json: left alone"),
        "{}",
        node.told()
    );
    set(&node, "x.example", KEY, "5/s", "1h", "anew");
    node.kill();
    node.start_again();
    assert!(run(&node, &["list"]).contains("anew"));
}

#[test]
fn a_suspension_travels_to_all_nodes_and_so_does_its_end() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let (nodes, _folder) = nodes(
        2,
        &redis,
        &peer,
        "max_message_rate = \"500/s\"",
        "last-share",
    );
    let words = [
        "set",
        "domain",
        "r.example",
        "suspended",
        "true",
        "--for",
        "1h",
        "--reason",
        "halt",
    ];
    assert!(run(&nodes[0], &words).starts_with("set until"));
    until("the other has heard", || {
        run(&nodes[1], &["list"]).contains("halt").then_some(())
    });
    fill(&nodes[0], 3);
    fill(&nodes[1], 3);
    never("mail in a suspension", Duration::from_secs(1), || {
        peer.letters().first().map(|_| ())
    });
    assert!(
        run(&nodes[1], &["cancel", "domain", "r.example", "suspended"]).starts_with("cancelled")
    );
    peer.wait(6);
}

#[test]
fn what_was_cancelled_elsewhere_while_a_node_was_down_does_not_come_back_with_it() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let (mut nodes, _folder) = nodes(
        2,
        &redis,
        &peer,
        "max_message_rate = \"500/s\"",
        "last-share",
    );
    let has = |node: &Node, what: &str| run(node, &["list"]).contains(what).then_some(());
    set(&nodes[0], "a.example", KEY, "5/s", "1h", "short-lived");
    set(&nodes[0], "b.example", KEY, "5/s", "1h", "stays");
    until("the other knows", || has(&nodes[1], "stays"));
    until("and the first knows that Redis does", || {
        let file = nodes[0].spool().join("shaping.json");
        let kept = fs::read_to_string(file).unwrap_or_default();
        (kept.matches("\"shared\": true").count() == 2).then_some(())
    });
    nodes[0].kill();
    assert!(run(&nodes[1], &["cancel", "site", "a.example", KEY]).starts_with("cancelled"));
    nodes[0].start_again();
    until("it has heard of the end", || {
        has(&nodes[0], "short-lived").is_none().then_some(())
    });
    assert!(has(&nodes[0], "stays").is_some());
    assert!(has(&nodes[1], "stays").is_some());
}

#[test]
fn a_redis_that_forgot_all_is_told_by_a_node_that_was_restarted_too() {
    let Some(mut redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let (mut nodes, _folder) = nodes(
        2,
        &redis,
        &peer,
        "max_message_rate = \"500/s\"",
        "last-share",
    );
    let has = |node: &Node, what: &str| run(node, &["list"]).contains(what).then_some(());
    set(&nodes[0], "a.example", KEY, "5/s", "1h", "from the first");
    until("the other knows", || has(&nodes[1], "from the first"));
    for node in &mut nodes {
        node.kill();
    }
    redis.kill();
    redis.restart();
    nodes[0].start_again();
    // The second starts with nothing of its own, and hears of it from Redis.
    match fs::remove_file(nodes[1].spool().join("shaping.json")) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
        // It may not have come to write it.
        Ok(()) | Err(_) => {}
    }
    nodes[1].start_again();
    until("the other hears of it", || has(&nodes[1], "from the first"));
}
