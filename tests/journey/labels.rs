//! Tenants and campaigns over the wire: told by a header, kept through the spool, limited each by itself.

use std::fs;
use std::process::Command;

use super::client::Client;
use super::node::{Node, Setup};
use super::peer::Peer;
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
    node.start_again();
    // A restart forgets what was consumed: one more of the slow one goes.
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
    let both = run(
        &node,
        &["queue", "suspend", "--tenant", "a", "--domain", "r.example"],
    );
    assert!(both.contains("cannot be used with"), "{both}");
}
