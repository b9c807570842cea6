//! Mail of two pools at one site: each leaves from the addresses of its own, over a restart too.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{Client, letter, mail};
use super::egress::{ONE_EACH, from, said, source};
use super::node::{Node, Setup, own_ip};
use super::peer::{Answer, Peer, Stage, say};
use super::shaping::rules_file;
use super::wait::until;

const RULES: &str = "[[label]]\npool_header = \"X-Pool\"\nremove_headers = [\"X-Pool\"]\n";
const BULK: &str = "[[pool]]\nname = \"bulk\"\n[[pool.member]]\nsource = \"two\"\n";
const DEFAULT: &str = "[[pool]]\nname = \"default\"\n[[pool.member]]\nsource = \"one\"\n";

fn post(node: &Node, pool: &str, count: usize) -> Vec<String> {
    let mut client = Client::greeted(node.smtp());
    let letter = format!("X-Pool: {pool}\r\nSubject: by {pool}\r\n\r\nbody\r\n");
    (0..count)
        .map(|_| client.mail("", &["b@r.example"], letter.as_bytes()))
        .collect()
}

fn two_pools(peer: &Peer, rules: &Path, one: Ipv4Addr, two: Ipv4Addr) -> Setup {
    Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("one", one))
        .file(&source("two", two))
        .file(BULK)
        .file(DEFAULT)
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
}

#[test]
fn the_peer_sees_each_message_from_an_address_of_its_pool() {
    let (_folder, rules) = rules_file(RULES);
    let peer = Peer::good();
    let (one, two) = (own_ip(), own_ip());
    let node = two_pools(&peer, &rules, one, two).start();
    post(&node, "bulk", 6);
    post(&node, "default", 5);
    post(&node, "unheard-of", 4);
    let letters = peer.wait(15);
    assert_eq!((from(&letters, one), from(&letters, two)), (9, 6));
    let by_bulk = letters
        .iter()
        .filter(|letter| letter.text().contains("by bulk"));
    assert!(
        by_bulk.clone().all(|letter| letter.from.ip() == two),
        "{letters:?}"
    );
    let records = node.wait_for("Delivery", 15);
    let of = |pool: &str, source: &str| {
        let mut records = records.iter().filter(|r| r["egress_source"] == source);
        records.all(|r| r["egress_pool"] == pool)
    };
    assert!(of("bulk", "two") && of("default", "one"), "{records:?}");
    let (_, text) = node.get("/metrics");
    for line in [
        "posthaste_pool_recipients_total{pool=\"bulk\",outcome=\"delivered\"} 6",
        "posthaste_pool_recipients_total{pool=\"default\",outcome=\"delivered\"} 9",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let listed = said(&node, &["source", "list"]);
    let rows = listed["sources"].as_array().expect("rows");
    let two = rows.iter().find(|row| row["source"] == "two").expect("two");
    assert_eq!(two["pools"][0]["pool"], "bulk");
    assert_eq!(two["state"], "in use");
}

#[test]
fn a_pool_outlasts_a_restart_and_what_was_for_one_that_is_gone_leaves_by_the_default() {
    let (_folder, rules) = rules_file(RULES);
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    let peer = Peer::new(move |step| {
        if step.stage == Stage::Mail && !opened.load(Ordering::Relaxed) {
            say("450 4.3.2 not yet")
        } else {
            Answer::Yes
        }
    });
    let (one, two) = (own_ip(), own_ip());
    let mut node = two_pools(&peer, &rules, one, two).start();
    let ids = post(&node, "bulk", 2);
    node.wait_for("TransientFailure", 2);
    let shown = said(&node, &["queue", "show", &ids[0]]);
    assert_eq!(shown["work"][0]["pool"], "bulk", "{shown}");
    node.kill();
    node.start_again();
    // Many times deferred, by the same source each time.
    until("both are tried again", || {
        let tries = peer.steps_at(Stage::Mail);
        (tries.len() >= 6).then_some(())
    });
    let tries = peer.steps_at(Stage::Mail);
    assert!(tries.iter().all(|step| step.from.ip() == two), "{tries:?}");

    assert!(node.stop().success());
    let path = node.folder().join("posthaste.toml");
    let file = fs::read_to_string(&path).expect("the file is ours");
    fs::write(&path, file.replace(BULK, "")).expect("the file is ours");
    node.start_again();
    let shown = said(&node, &["queue", "show", &ids[0]]);
    let work = &shown["work"][0];
    assert_eq!(
        (&work["pool"], &work["pool_gone"]),
        (&"default".into(), &"bulk".into())
    );
    is_open.store(true, Ordering::Relaxed);
    let letters = peer.wait(2);
    assert_eq!(from(&letters, one), 2);
    let records = node.wait_for("Delivery", 2);
    assert!(
        records.iter().all(|r| r["egress_pool"] == "default"),
        "{records:?}"
    );
}

#[test]
fn a_rule_that_names_no_pool_is_a_fault_at_check_at_start_and_at_reload() {
    let (_folder, rules) = rules_file(RULES);
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file(&source("one", own_ip()))
        .file(DEFAULT)
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let wrong = "[[label]]\npool = \"bluk\"\n";
    fs::write(&rules, wrong).expect("the file is ours");
    let told = "names the pool bluk, which there is not; there are default";
    node.hang_up();
    until("the reload is refused", || {
        let said = node.told();
        (said.contains("shaping stays as it was") && said.contains(told)).then_some(())
    });
    let file = node.folder().join("posthaste.toml");
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["check".as_ref(), "--offline".as_ref(), file.as_os_str()])
        .output()
        .expect("posthaste runs");
    assert_eq!(check.status.code(), Some(78));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains(told), "{said}");
    let output = Setup::new()
        .file(&source("one", own_ip()))
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .fail();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains(told));
}

#[test]
fn an_address_that_is_not_on_this_host_takes_its_own_source_and_no_mail_with_it() {
    let peer = Peer::good();
    let here = own_ip();
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("here", here))
        .file(
            "[[source]]\nname = \"there\"\naddress = \"192.0.2.77\"\nehlo_name = \"there.example\"",
        )
        .start();
    for number in 0..6 {
        let to = format!("b{number}@r.example");
        mail(node.smtp(), "a@s.example", &[&to], &letter("here"));
    }
    assert_eq!(from(&peer.wait(6), here), 6);
    for record in node.wait_for("Delivery", 6) {
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
    assert_eq!(
        node.metric("posthaste_source_suspended{source=\"there\"}"),
        1.0
    );
    let listed = said(&node, &["source", "list"]);
    let there = &listed["sources"][1];
    assert_eq!(
        (&there["source"], &there["state"], &there["ehlo_name"]),
        (
            &"there".into(),
            &"suspended".into(),
            &"there.example".into()
        )
    );
    let text = node.command(&["source", "list"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("suspended: 192.0.2.77: "), "{text}");
    let unknown = node.command(&["explain", "r.example", "--source", "nowhere"]);
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success());
    assert!(
        told.contains("there is no source nowhere; there are here, there"),
        "{told}"
    );
}

#[test]
fn a_complaint_about_a_message_costs_the_source_it_left_by_its_score() {
    let peer = Peer::good();
    let (one, two) = (own_ip(), own_ip());
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("one", one))
        .file(&source("two", two))
        .start();
    let ids: Vec<String> = (0..2)
        .map(|_| {
            mail(
                node.smtp(),
                "a@s.example",
                &["b@r.example"],
                &letter("bulk"),
            )
        })
        .collect();
    let records = node.wait_for("Delivery", 2);
    let guilty = records.iter().find(|r| r["id"] == ids[1].as_str());
    let guilty = guilty.expect("it is recorded")["egress_source"].clone();
    let path = format!(
        "/api/admin/complaint/v1?id={}&recipient=B@r.example",
        ids[1]
    );
    let (status, answer) = node.post(&path);
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains(guilty.as_str().expect("a name")),
        "{answer}"
    );
    let explained = said(&node, &["explain", "r.example"]);
    let rows = explained["sources"].as_array().expect("rows");
    let score = |is_guilty: bool| {
        let mut rows = rows.iter();
        let row = rows.find(|row| (row["source"] == guilty) == is_guilty);
        row.expect("a row")["score"].as_u64().expect("a score")
    };
    assert!(score(true) < 200 && score(false) == 1000, "{explained}");
    let (status, answer) = node.post("/api/admin/complaint/v1?source=three&domain=r.example");
    assert_eq!(status, 400, "{answer}");
}
