//! Rules that act on what a real peer answers: what they set, how it is told, what outlives a restart.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, letter};
use super::cluster::nodes;
use super::egress::{from, said, source};
use super::kept;
use super::node::{Node, Setup, own_ip};
use super::peer::{Answer, Peer, Stage, Step, always, at_first, say};
use super::redis_server::RedisServer;
use super::shaping::rules_file;
use super::wait::{never, until};

const SLOW: &str = "451 4.7.0 ZZ04 not for now";

fn send(node: &Node, count: usize, headers: &str) {
    let mut client = Client::greeted(node.smtp());
    for number in 0..count {
        let text = [headers.as_bytes(), &letter("automation")].concat();
        client.mail("", &[&format!("b{number}@r.example")], &text);
    }
}

fn rule(further: &str) -> String {
    format!(
        "[[default.automation]]\nregex = 'ZZ04'\nduration = \"1h\"\nevidence = \"a test\"\nreviewed = 2026-11-29\n{further}\n"
    )
}

fn acts(node: &Node) -> Vec<Value> {
    let said = said(node, &["automation", "list"]);
    said["automation"].as_array().cloned().unwrap_or_default()
}

/// Messages that the peer had from there after the first `before` of all.
fn dots_of(peer: &Peer, before: usize, address: Ipv4Addr) -> usize {
    let steps = peer.steps_at(Stage::Dot);
    let is_its = |from: &&Step| from.from.ip() == IpAddr::V4(address);
    steps[before..].iter().filter(is_its).count()
}

#[test]
fn a_source_that_is_told_off_often_enough_waits_and_others_carry_its_mail_over_a_restart() {
    let (one, two) = (own_ip(), Ipv4Addr::new(127, 0, 0, 9));
    let peer = Peer::new(move |step| {
        if step.stage == Stage::Dot && step.from.ip() == IpAddr::V4(one) {
            say(SLOW)
        } else {
            Answer::Yes
        }
    });
    let (_folder, rules) = rules_file(&rule(
        "action = \"Suspend\"\ntrigger = { Threshold = \"3/10m\" }",
    ));
    let mut node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!(
            "[shaping]\nfiles = [{rules:?}]\n{}{}",
            source("one", one),
            source("two", two)
        ))
        .start();
    assert!(acts(&node).is_empty());
    send(&node, 20, "");
    // Its own three are put off; what comes then goes by the other.
    let act = until("the source is suspended", || {
        let act = acts(&node).into_iter().next()?;
        (act["done"] != Value::Array(Vec::new())).then_some(act)
    });
    let site = peer.address().to_string();
    assert_eq!(act["whom"], format!("one at {site}"));
    assert_eq!(act["reply"], SLOW);
    assert!(act["matches"].as_u64() >= Some(3), "{act}");
    assert!(
        node.told().contains("automation: ") && node.told().contains(&format!("one at {site}")),
        "{}",
        node.told()
    );
    assert!(node.metric("posthaste_automation_matches_total{mode=\"enforce\"}") >= 3.0);
    assert_eq!(node.metric("posthaste_automation_overrides_total"), 1.0);
    let list = kept::run(&node, &["list"]);
    assert!(
        list.contains("suspended") && list.contains("ZZ04") && list.contains("one"),
        "{list}"
    );

    let before = peer.steps_at(Stage::Dot).len();
    node.kill();
    node.start_again();
    let list = kept::run(&node, &["list"]);
    assert!(list.contains("suspended"), "{list} {}", node.told());
    send(&node, 10, "");
    until("the other source carries all", || {
        (peer.steps_at(Stage::Dot).len() >= before + 10).then_some(())
    });
    let by_one = dots_of(&peer, before, one);
    assert_eq!(by_one, 0, "it is suspended over the restart");
    assert!(from(&peer.letters(), two) >= 10);

    let words = ["cancel", "site", &site, "suspended", "--source", "one"];
    let told = kept::run(&node, &words);
    assert!(told.starts_with("cancelled"), "{told}");
    // The operator's word: it is tried again, and not suspended however often it is told off.
    let before = peer.steps_at(Stage::Dot).len();
    send(&node, 20, "");
    until("it is told off again", || {
        (dots_of(&peer, before, one) >= 4).then_some(())
    });
    until("the rule knows of it", || {
        let act = acts(&node).into_iter().next()?;
        (act["done"][0] == "nothing: an operator has taken it back").then_some(())
    });
    assert!(!kept::run(&node, &["list"]).contains("suspended"));
}

#[test]
fn a_rate_is_lowered_for_the_site_and_an_observer_only_counts() {
    for (mode, is_set) in [("observe", false), ("enforce", true)] {
        let peer = Peer::new(at_first(1, Stage::Dot, say(SLOW)));
        let action =
            "action = { SetConfig = { name = \"max_message_rate\", value = \"1/h,max_burst=1\" } }";
        let (_folder, rules) = rules_file(&rule(&format!("{action}\nmode = \"{mode}\"")));
        let node = Setup::to(peer.address())
            .file(&format!("[shaping]\nfiles = [{rules:?}]"))
            .start();
        send(&node, 1, "");
        let act = until("the rule has matched", || acts(&node).into_iter().next());
        assert_eq!(act["mode"], mode);
        if is_set {
            until("the rate holds", || {
                kept::run(&node, &["list"])
                    .contains("max_message_rate")
                    .then_some(())
            });
            send(&node, 5, "");
            let reason = until("mail waits for it", || {
                let list = String::from_utf8(node.queue(&["list"]).stdout).expect("text");
                list.contains("waits for message rate").then_some(list)
            });
            assert!(reason.contains("r.example"), "{reason}");
        } else {
            send(&node, 5, "");
            peer.wait(5);
            assert!(!kept::run(&node, &["list"]).contains("max_message_rate"));
        }
    }
}

#[test]
fn mail_of_a_tenant_is_bounced_with_what_the_provider_said_and_others_stay() {
    let peer = Peer::new(|step| match step.stage {
        Stage::Dot => say(SLOW),
        Stage::Banner | Stage::Hello | Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Other => {
            Answer::Yes
        }
    });
    let labels =
        "[[label]]\ntenant_header = \"X-Tenant\"\n[label_defaults]\nunknown_tenant = \"keep\"\n";
    let bounce = rule("action = \"BounceTenant\"\ntrigger = { Threshold = \"5/m\" }");
    let (_folder, rules) = rules_file(&format!("{labels}{bounce}"));
    let node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    send(&node, 5, "X-Tenant: bad\r\n");
    send(&node, 1, "X-Tenant: good\r\n");
    let bounced = node.wait_for("AdminBounce", 5);
    for record in &bounced {
        assert_eq!(record["meta"]["tenant"], "bad", "{record}");
        let text = record["response"]["content"].as_str().unwrap_or_default();
        assert!(
            text.contains("automation rule") && text.contains("ZZ04"),
            "{record}"
        );
    }
    never("another tenant's mail ends", Duration::from_secs(1), || {
        (node
            .records()
            .iter()
            .filter(|of| of["type"] == "AdminBounce")
            .count()
            > 5)
        .then_some(())
    });
    assert_eq!(node.metric("posthaste_queue_entries"), 1.0);
}

#[test]
fn what_a_rule_sets_on_one_node_holds_on_the_other_and_an_operator_ends_it_on_both() {
    let Some(redis) = RedisServer::start() else {
        return;
    };
    let peer = Peer::new(always(Stage::Dot, say(SLOW)));
    let labels =
        "[[label]]\ntenant_header = \"X-Tenant\"\n[label_defaults]\nunknown_tenant = \"keep\"\n";
    let rules = format!("{labels}{}", rule("action = \"SuspendTenant\""));
    let (nodes, _folder) = nodes(2, &redis, &peer, &rules, "last-share");
    send(&nodes[0], 1, "X-Tenant: bad\r\n");
    let queue = "bad/*/r.example";
    let holds = |node: &Node| {
        let list = kept::run(node, &["list"]);
        list.contains(queue) && list.contains("ZZ04")
    };
    until("the other node knows", || holds(&nodes[1]).then_some(()));
    let told = kept::run(&nodes[1], &["cancel", "queue", queue, "suspended"]);
    assert!(told.starts_with("cancelled"), "{told}");
    until("the first has let go", || (!holds(&nodes[0])).then_some(()));
    for node in &nodes {
        send(node, 1, "X-Tenant: bad\r\n");
        until("it is not set anew", || {
            let act = acts(node).into_iter().next()?;
            (act["done"][0] == "nothing: an operator has taken it back").then_some(())
        });
        assert!(!holds(node));
    }
}
