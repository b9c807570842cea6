//! Whole nodes that share limits through a real Redis.

use std::fs;
use std::time::{Duration, Instant};

use super::client::{Client, letter};
use super::kept::run;
use super::node::{Node, Setup};
use super::peer::{Answer, Peer, Stage, always};
use super::redis_server::RedisServer;
use super::wait::until;

/// Two nodes under one rule, both with all mail for `peer`.
fn pair(redis: &RedisServer, peer: &Peer, rule: &str) -> (Vec<Node>, tempfile::TempDir) {
    nodes(2, redis, peer, rule, "last-share")
}

/// So many nodes under one rule, which do this when Redis is lost.
pub(super) fn nodes(
    count: usize,
    redis: &RedisServer,
    peer: &Peer,
    rule: &str,
    on_loss: &str,
) -> (Vec<Node>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, format!("[\"default\"]\n{rule}\n")).expect("it can be written");
    let url = redis.url();
    let start = |_| {
        Setup::to(peer.address())
            .file(&format!(
                "[shaping]\nfiles = [{rules:?}]\n[redis]\nurls = [\"{url}\"]\non_redis_loss = \"{on_loss}\""
            ))
            .start()
    };
    ((0..count).map(start).collect(), folder)
}

pub(super) fn fill(node: &Node, count: usize) {
    let mut client = Client::greeted(node.smtp());
    for _ in 0..count {
        client.mail("", &["b@r.example"], &letter("cluster"));
    }
}

/// Messages a second that the peer was given since `from`, over the last `span`.
fn rate_over(peer: &Peer, span: Duration) -> f64 {
    let since = Instant::now() - span;
    let steps = peer.steps_at(Stage::Mail);
    let count = steps.iter().filter(|step| step.at >= since).count();
    count as f64 / span.as_secs_f64()
}

#[test]
fn two_nodes_share_one_rate_and_a_killed_ones_share_is_taken_up() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let (mut nodes, _folder) = pair(&redis, &peer, "max_message_rate = \"40/s,max_burst=1\"");
    for node in &nodes {
        fill(node, 1500);
    }
    // What is granted ahead at both is more than either has used of a burst of one.
    until("it is told what is used of the whole", || {
        let told = nodes[0].command(&["explain", "r.example"]).stdout;
        let told = String::from_utf8_lossy(&told).into_owned();
        let (before, _) = told.split_once(" of 1 by all nodes, ")?;
        let used = before.rsplit(' ').next()?;
        (used.parse::<u32>().ok()? > 1).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let span = Duration::from_secs(6);
    std::thread::sleep(span);
    let together = rate_over(&peer, span);
    assert!(
        (36.0..=44.0).contains(&together),
        "two nodes together: {together}/s"
    );
    nodes[0].kill();
    // Its share comes back after two seconds.
    std::thread::sleep(Duration::from_secs(4));
    std::thread::sleep(span);
    let alone = rate_over(&peer, span);
    assert!(
        (36.0..=44.0).contains(&alone),
        "the one that is left: {alone}/s"
    );
}

/// Each is a race between the node that cancels and its own word, which comes back through Redis.
const ROUNDS: usize = 10;

#[test]
fn an_override_on_one_node_holds_on_the_other_and_is_taken_back_on_both() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let (nodes, _folder) = pair(&redis, &peer, "max_message_rate = \"1000/s\"");
    let lists = |node: &Node, reason: &str| run(node, &["list"]).contains(reason);
    for round in 0..ROUNDS {
        let target = ["site", &format!("mx{round}.example"), "connection_limit"];
        let reason = format!("for all {round}");
        let words = ["3", "--for", "1h", "--reason", &reason];
        let told = run(&nodes[0], &[&["set"][..], &target, &words].concat());
        assert!(told.starts_with("set until"), "{told}");
        until("the other node knows", || {
            lists(&nodes[1], &reason).then_some(())
        });
        let told = run(&nodes[1], &[&["cancel"][..], &target].concat());
        assert!(told.starts_with("cancelled"), "round {round}: {told}");
        until("the first has let go", || {
            (!lists(&nodes[0], &reason)).then_some(())
        });
    }
}

#[test]
fn nodes_share_the_connections_to_a_site() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::good();
    let rule =
        "connection_limit = 4\nmax_message_rate = \"200/s\"\nmax_deliveries_per_connection = 20";
    let (nodes, _folder) = pair(&redis, &peer, rule);
    for node in &nodes {
        fill(node, 300);
    }
    peer.wait(600);
    let (most, _) = peer.uses();
    assert!(most <= 4, "{most} connections at once from both");
}

#[test]
fn a_limit_that_comes_to_be_shared_counts_what_is_open_already() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let slow = Answer::Late(Duration::from_millis(200), "250 taken".into());
    let peer = Peer::new(always(Stage::Dot, slow));
    // What no file says is each node's own.
    let (nodes, _folder) = pair(&redis, &peer, "max_ready = 1000");
    // More than eight connections carry while this is looked at.
    for node in &nodes {
        fill(node, 3000);
    }
    until("each opens many for itself", || {
        (peer.open() > 40).then_some(())
    });
    let target = ["default", "", "connection_limit"];
    let wish = ["4", "--for", "1h", "--reason", "they asked"];
    let told = run(&nodes[0], &[&["set"][..], &target, &wish].concat());
    assert!(told.starts_with("set until"), "{told}");
    until("both together keep to it", || {
        (peer.open() <= 4).then_some(())
    });
    let before = peer.letters().len();
    until("mail goes on", || {
        assert!(peer.open() <= 4, "{} connections", peer.open());
        (peer.letters().len() >= before + 40).then_some(())
    });
    let told = run(&nodes[1], &[&["cancel"][..], &target].concat());
    assert!(told.starts_with("cancelled"), "{told}");
    until("each is free again", || (peer.open() > 8).then_some(()));
    let records = nodes.iter().flat_map(Node::records);
    let failed = records.filter(|record| record["type"] == "TransientFailure");
    assert_eq!(failed.count(), 0, "nothing was cut off");
}

#[test]
fn redis_is_given_the_password_of_the_environment_and_nobody_else_is() {
    const PASSWORD: &str = "between-nodes-only";
    let Some(redis) = RedisServer::with_password(PASSWORD) else {
        return;
    };
    let peer = Peer::good();
    let start = |password: Option<&str>| {
        let setup = Setup::to(peer.address()).file(&format!(
            "[redis]\nurls = [\"{}\"]\npassword = \"of-the-file\"",
            redis.url()
        ));
        let setup = password.into_iter().fold(setup, |setup, password| {
            setup.env("POSTHASTE_REDIS_PASSWORD", password)
        });
        setup.start()
    };
    let node = start(Some(PASSWORD));
    until("it is let in", || {
        (node.metric("posthaste_redis_up") == 1.0).then_some(())
    });
    let stranger = start(None);
    until("the other is not", || {
        stranger.told().contains("redis: lost").then_some(())
    });
    assert_eq!(stranger.metric("posthaste_redis_up"), 0.0);
    assert_eq!(node.metric("posthaste_redis_up"), 1.0);
    for told in [node.told(), stranger.told()] {
        assert!(
            !told.contains(PASSWORD) && !told.contains("of-the-file"),
            "{told}"
        );
    }
}
