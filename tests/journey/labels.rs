//! Tenants and campaigns over the wire: told by a header, kept through the spool, limited each by itself.

use std::fs;
use std::process::Command;

use super::client::Client;
use super::node::{Node, Setup};
use super::peer::{Peer, Stage, at_first, say};
use super::shaping::rules_file;
use super::wait::until;

/// Labels from headers that must not leave.
const RULES: &str = "
[[label]]
tenant_header = \"X-Tenant\"
campaign_header = \"X-Campaign\"
remove_headers = [\"X-Tenant\", \"X-Campaign\"]
[label_defaults]
unknown_tenant = \"keep\"
";

fn of(tenant: &str, subject: &str) -> Vec<u8> {
    format!(
        "X-Tenant: {tenant}\r\nSubject: {tenant} {subject}\r\nX-Campaign: spring\r\n\r\nbody\r\n"
    )
    .into_bytes()
}

fn run(node: &Node, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(arguments)
        .args(["--http", &node.http().to_string()])
        .env_remove("POSTHASTE_HTTP_TOKEN")
        .output()
        .expect("posthaste runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{told}{errors}")
}

#[test]
fn two_tenants_share_a_lane_and_their_headers_do_not_leave() {
    let rate = "[\"default\"]\nmax_message_rate = \"20/s,max_burst=1\"\nconnection_limit = 1\n";
    let (_folder, rules) = rules_file(&format!("{rate}{RULES}"));
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--shards", "1")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    // All of one before the first of the other.
    for tenant in ["big", "small"] {
        let count = if tenant == "big" { 120 } else { 30 };
        for number in 0..count {
            client.mail("", &["b@r.example"], &of(tenant, &number.to_string()));
        }
    }
    let letters = peer.wait(150);
    let is_small = |text: &str| text.contains("Subject: small");
    let texts: Vec<String> = letters.iter().map(|letter| letter.text()).collect();
    let first = texts
        .iter()
        .position(|text| is_small(text))
        .expect("it came");
    let last = texts
        .iter()
        .rposition(|text| is_small(text))
        .expect("it came");
    let between = &texts[first..=last];
    let small = between.iter().filter(|text| is_small(text)).count();
    assert_eq!(small, 30);
    // In turns: one of each.
    assert!((58..=63).contains(&between.len()), "{}", between.len());
    let leaked = texts
        .iter()
        .find(|text| text.contains("X-Tenant") || text.contains("X-Campaign"));
    assert_eq!(leaked, None);
    node.wait_empty();
    let told = node.wait_for("Delivery", 150);
    let mut queues: Vec<&str> = told
        .iter()
        .filter_map(|record| record["queue"].as_str())
        .collect();
    queues.sort_unstable();
    queues.dedup();
    assert_eq!(queues, ["spring:big@r.example", "spring:small@r.example"]);
    assert_eq!(told[0]["meta"]["campaign"], "spring");
}

#[test]
fn labels_outlive_the_process_and_a_tenants_limit_is_named() {
    let limit = "[tenant.slow]\nmax_message_rate = \"1/h,max_burst=1\"\n";
    let (_folder, rules) = rules_file(&format!("{RULES}{limit}"));
    let peer = Peer::good();
    let mut node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    let mut ids = Vec::new();
    for number in 0..4 {
        let id = client.mail("", &["b@r.example"], &of("slow", &number.to_string()));
        ids.push(id);
    }
    client.mail("", &["b@r.example"], &of("free", "0"));
    peer.wait(2);
    node.wait_for("Delivery", 2);
    node.kill();
    // With what was consumed forgotten, one more of the slow one goes.
    let _ = fs::remove_file(node.spool().join("shaping.json"));
    node.start_again();
    peer.wait(3);
    let told = until("the limit is named", || {
        let told = run(&node, &["queue", "list", "--tenant", "slow"]);
        told.contains("waits for message rate of tenant slow")
            .then_some(told)
    });
    assert!(
        told.contains("r.example") && told.contains("2 queued"),
        "{told}"
    );
    let other = run(&node, &["queue", "list", "--tenant", "free"]);
    assert!(other.contains("nothing is queued"), "{other}");
    let shown: Vec<String> = ids
        .iter()
        .map(|id| run(&node, &["queue", "show", id]))
        .collect();
    let waiting: Vec<&String> = shown
        .iter()
        .filter(|s| s.contains("tenant slow, campaign spring"))
        .collect();
    assert_eq!(waiting.len(), 2, "{shown:?}");
    assert!(
        waiting[0].contains("waits for message rate of tenant slow"),
        "{shown:?}"
    );
    let why = run(&node, &["explain", "r.example", "--tenant", "slow"]);
    assert!(why.contains("message rate of tenant slow"), "{why}");
    assert!(why.contains(" of 1 "), "its use is told: {why}");
    assert!(
        why.contains("tenant slow, campaign spring: "),
        "what waits is told: {why}"
    );
    Client::greeted(node.smtp()).mail("", &["b@r.example"], &of("free", "1"));
    peer.wait(4);
}

#[test]
fn mail_outside_its_tenants_window_waits_and_leaves_when_it_opens() {
    // A window of one minute a week is closed, but for once in ten thousand runs.
    let window = "[tenant.night]\ndelivery_window = { timezone = \"UTC\", days = \"sun\", from = \"03:00\", to = \"03:01\" }\n";
    let (_folder, rules) = rules_file(&format!("{RULES}{window}"));
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    client.mail("", &["b@r.example"], &of("night", "0"));
    client.mail("", &["b@r.example"], &of("day", "0"));
    peer.wait(1);
    until("the window is named", || {
        let told = run(&node, &["queue", "list"]);
        told.contains("waits for the delivery window of tenant night, which opens")
            .then_some(())
    });
    let why = run(&node, &["explain", "r.example", "--tenant", "night"]);
    assert!(
        why.contains("window     of tenant night: closed until"),
        "{why}"
    );
    assert!(why.contains("rules.toml:"), "who set it: {why}");
    let text = peer.letters()[0].text();
    assert!(text.contains("Subject: day"), "{text}");
    // The operator opens it.
    fs::write(&rules, RULES).expect("it can be written");
    peer.wait(2);
    node.wait_empty();
}

#[test]
fn a_suspended_tenant_waits_until_it_is_resumed() {
    let (_folder, rules) = rules_file(RULES);
    let peer = Peer::good();
    let mut node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let told = run(
        &node,
        &[
            "queue",
            "suspend",
            "--tenant",
            "acme",
            "--for",
            "1h",
            "--reason",
            "complaints",
        ],
    );
    assert!(told.contains("tenant acme is suspended"), "{told}");
    let mut client = Client::greeted(node.smtp());
    client.mail("", &["b@r.example"], &of("acme", "0"));
    client.mail("", &["b@r.example"], &of("other", "0"));
    peer.wait(1);
    let told = until("the suspension is named", || {
        let told = run(&node, &["queue", "list"]);
        told.contains("the end of the suspension of tenant acme")
            .then_some(told)
    });
    assert!(told.contains("complaints"), "{told}");
    let why = run(&node, &["explain", "r.example", "--tenant", "acme"]);
    assert!(why.contains("suspended  tenant acme"), "{why}");
    node.wait_for("Delivery", 1);
    node.kill();
    node.start_again();
    until("it outlives the process", || {
        let told = run(&node, &["queue", "list"]);
        told.contains("the end of the suspension of tenant acme")
            .then_some(())
    });
    assert_eq!(peer.letters().len(), 1);
    let told = run(&node, &["queue", "resume", "--tenant", "acme"]);
    assert!(told.contains("tenant acme is resumed"), "{told}");
    peer.wait(2);
}

const OF_ACME: [&str; 4] = ["--tenant", "acme", "--domain", "r.example"];

fn ask(node: &Node, action: &[&str], whom: &[&str], further: &[&str]) -> String {
    run(node, &[&["queue"], action, whom, further].concat())
}

/// What waits of them is counted only, then ended without a word to its sender.
fn end_two(node: &Node, both: &[&str]) {
    let counted = ask(node, &["bounce"], &OF_ACME, &["--reason", "they left"]);
    assert!(
        counted.contains("2 entries with 2 recipients; nothing is done without --yes"),
        "{counted}"
    );
    let json = ask(
        node,
        &["bounce"],
        &OF_ACME,
        &["--reason", "they left", "--yes", "--no-report", "--json"],
    );
    assert!(
        json.contains("\"done\":true") && json.contains("\"entries\":2"),
        "{json}"
    );
    let ended = node.wait_for("AdminBounce", 2);
    for record in &ended {
        assert_eq!(record["response"]["content"], "operator: they left");
        assert_eq!(record["meta"]["tenant"], "acme");
    }
    let ids: Vec<&str> = ended
        .iter()
        .filter_map(|record| record["id"].as_str())
        .collect();
    assert!(both.iter().all(|id| ids.contains(id)), "{ids:?}");
    node.wait_empty();
}

#[test]
fn a_combination_is_suspended_over_a_restart_and_its_mail_ended_or_tried_again() {
    let (_folder, rules) = rules_file(RULES);
    let peer = Peer::good();
    let mut node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let told = ask(&node, &["suspend"], &OF_ACME, &["--reason", "complaints"]);
    assert!(
        told.contains("tenant acme, mail to r.example is suspended"),
        "{told}"
    );
    let mut client = Client::greeted(node.smtp());
    let held = client.mail("me@here.example", &["b@r.example"], &of("acme", "0"));
    let silent = client.mail("me@here.example", &["c@r.example"], &of("acme", "1"));
    client.mail("", &["b@s.example"], &of("acme", "2"));
    client.mail("", &["b@r.example"], &of("other", "3"));
    peer.wait(2);
    node.wait_for("Delivery", 2);
    node.kill();
    node.start_again();
    let reason = "waits for the end of the suspension of tenant acme, mail to r.example";
    let told = until("it outlives the process", || {
        let told = run(&node, &["queue", "list", "--domain", "r.example"]);
        (told.contains(reason) && told.contains("2 queued")).then_some(told)
    });
    assert!(told.contains("complaints"), "{told}");
    let why = run(&node, &["explain", "r.example", "--tenant", "acme"]);
    assert!(
        why.contains("suspended  tenant acme, mail to r.example"),
        "{why}"
    );
    end_two(&node, &[&held, &silent]);
    assert_eq!(peer.letters().len(), 2, "no sender hears of it");
    // Another that waits is told of, as NOTIFY wants it.
    client = Client::greeted(node.smtp());
    client.mail("me@here.example", &["b@r.example"], &of("acme", "4"));
    until("it waits", || {
        run(&node, &["queue", "list"])
            .contains(reason)
            .then_some(())
    });
    ask(
        &node,
        &["bounce"],
        &OF_ACME,
        &["--reason", "they left", "--yes"],
    );
    node.wait_for("AdminBounce", 3);
    let report = peer.wait(3).remove(2).text();
    assert!(
        report.contains("they left") && report.contains("5.7.0"),
        "{report}"
    );
    let told = ask(&node, &["resume"], &OF_ACME, &[]);
    assert!(
        told.contains("tenant acme, mail to r.example is resumed"),
        "{told}"
    );
    client.mail("", &["b@r.example"], &of("acme", "5"));
    peer.wait(4);
    let nobody = run(&node, &["queue", "bounce", "--reason", "x"]);
    assert!(nobody.contains("required"), "{nobody}");
}

#[test]
fn what_waits_for_its_next_attempt_is_tried_at_once_when_it_is_requeued() {
    let (_folder, rules) = rules_file(RULES);
    let peer = Peer::new(at_first(1, Stage::Mail, say("451 4.7.1 later")));
    let node = Setup::to(peer.address())
        .arg("--retry", "1h")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    client.mail("", &["b@r.example"], &of("acme", "0"));
    node.wait_for("TransientFailure", 1);
    let told = run(&node, &["queue", "requeue", "--tenant", "other", "--yes"]);
    assert!(told.contains("0 entries"), "{told}");
    let told = run(
        &node,
        &[
            "queue",
            "requeue",
            "--tenant",
            "acme",
            "--reset-attempts",
            "--yes",
        ],
    );
    assert!(
        told.contains("1 entries with 1 recipients are due"),
        "{told}"
    );
    peer.wait(1);
    let delivered = node.wait_for("Delivery", 1);
    assert_eq!(delivered[0]["num_attempts"], 1, "the first of anew");
}
