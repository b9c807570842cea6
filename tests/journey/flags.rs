//! What a stranger types, and what an operator writes, does what it says.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, letter, mail};
use super::namespace::alone;
use super::node::{Setup, get_at, own_ip};
use super::peer::{Peer, Stage, always, say};
use super::wait::until;
use crate::disk::skip;

const SECRET: &str = "POSTHASTE_HTTP_TOKEN";

/// Starts it where the defaults' ports are free, and looks whether it does what they say.
fn serves_at_the_defaults(setup: impl Fn() -> Setup + Send + Sync) {
    let done = alone(&[], || {
        let node = setup().start();
        let told = node.told();
        assert!(told.contains(" on 127.0.0.1:2525, "), "{told}");
        assert!(told.contains(" durability commit, "), "{told}");
        let mut client = Client::greeted(node.smtp());
        client.mail("a@s.example", &["b@r.example"], &letter("default"));
        assert_eq!(node.get("/ready").0, 200);
        assert_eq!(node.metric("posthaste_messages_accepted_total"), 1.0);
        assert!(node.queue(&["list"]).status.success());
        let log = node.folder().join("posthaste-log").join("delivery.log");
        until("the log has it", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("b@r.example").then_some(())
        });
        assert!(
            node.folder()
                .join("posthaste-spool")
                .join("CURRENT")
                .exists()
        );
    });
    if done.is_none() {
        skip("a network of its own cannot be had here");
    }
}

#[test]
fn without_file_and_flags_it_serves_at_the_defaults() {
    serves_at_the_defaults(Setup::bare);
}

#[test]
fn the_file_that_comes_with_it_runs() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/posthaste.toml");
    serves_at_the_defaults(|| Setup::bare().arg("--config", file));
}

/// Flags of places and names, all at once, over a file that says otherwise.
#[test]
fn flags_say_where_and_who_it_is() {
    let peer = Peer::good();
    let folder = tempfile::tempdir().expect("a folder");
    let (spool, log) = (
        folder.path().join("other-spool"),
        folder.path().join("other-log"),
    );
    let (second, http) = (format!("{}:2599", own_ip()), format!("{}:8099", own_ip()));
    let setup = Setup::to(peer.address());
    let first = setup.smtp();
    let node = setup
        .arg("--hostname", "flag.example.test")
        .also("--listen", &first.to_string())
        .also("--listen", &second)
        .also("--http", &http)
        .arg("--spool", &spool.display().to_string())
        .arg("--log", &log.display().to_string())
        .arg("--durability", "relaxed")
        .arg("--shards", "2")
        .file("[node]\nhostname = \"file.example.test\"\nshards = 1\n[smtp]\nmessage_octets_max = \"64KiB\"")
        .start();
    let told = node.told();
    assert!(
        told.contains(", 2 shards, durability relaxed (250 does not survive a power cut)"),
        "{told}"
    );
    for address in [first, second.parse().expect("an address")] {
        let mut client = Client::dial(address);
        client.hear("220 flag.example.test ");
        let offered = client.say("EHLO client.example");
        // Only the file says so.
        assert!(offered.contains("250-SIZE 65536\n"), "{offered}");
        // --next-hop, for any domain.
        client.mail("", &["b@anywhere.example"], &letter("flags"));
    }
    peer.wait(2);
    let (status, metrics) = get_at(http.parse().expect("an address"), "/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("posthaste_durability_info{mode=\"relaxed\"} 1\n"),
        "{metrics}"
    );
    assert!(spool.join("CURRENT").exists());
    until("the log is there", || {
        let text = std::fs::read_to_string(log.join("delivery.log")).unwrap_or_default();
        (text.matches("\"Delivery\"").count() == 2).then_some(())
    });
}

#[test]
fn a_flag_makes_durable_what_the_file_does_not() {
    let node = Setup::new()
        .arg("--durability", "commit")
        .file("[spool]\ndurability = \"relaxed\"")
        .start();
    let told = node.told();
    assert!(told.contains(", durability commit, "), "{told}");
    assert!(!told.contains("power cut"), "{told}");
    assert_eq!(
        node.metric("posthaste_durability_info{mode=\"commit\"}"),
        1.0
    );
}

#[test]
fn flags_say_who_may_relay_and_how_long_mail_is_tried() {
    let refusing = Peer::new(always(Stage::Mail, say("451 4.3.0 later")));
    let node = Setup::to(refusing.address())
        .also("--trust", "127.0.0.66/32")
        .also("--trust", "127.0.0.68/31")
        .arg("--retry", "1s,2s")
        .arg("--max-age", "6s")
        .start();
    for (last, answer) in [
        (1, "550 5.7.1"),
        (66, "250"),
        (67, "550 5.7.1"),
        (69, "250"),
    ] {
        let mut client = Client::dial_from([127, 0, 0, last].into(), node.smtp());
        client.hear("220");
        client.expect("EHLO client.example", "250");
        client.expect("MAIL FROM:<>", "250");
        client.expect("RCPT TO:<b@r.example>", answer);
    }
    let mut client = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    client.hear("220");
    client.expect("EHLO client.example", "250");
    client.mail("", &["b@r.example"], &letter("in vain"));
    let record = node.wait_for("Expiration", 1).remove(0);
    let age = record["timestamp"].as_u64().zip(record["created"].as_u64());
    let age = age.map(|(at, created)| at - created);
    assert!(age.is_some_and(|age| (5..60).contains(&age)), "{record}");
    let steps = refusing.steps_at(Stage::Mail);
    assert!(steps.len() >= 3, "{} attempts", steps.len());
    let pauses: Vec<Duration> = steps.windows(2).map(|two| two[1].at - two[0].at).collect();
    // Each is lengthened by chance, and never shortened.
    assert!(pauses[0] >= Duration::from_millis(990), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(1990), "{pauses:?}");
}

#[test]
fn a_secret_of_the_environment_counts_and_is_not_shown() {
    let node = Setup::new()
        .file("[http]\ntoken = \"of-the-file\"")
        .env(SECRET, "of-the-environment")
        .start();
    let status = |arguments: &[&str]| node.queue(arguments).status.code();
    assert_eq!(status(&["list"]), Some(77));
    assert_eq!(status(&["list", "--token", "of-the-file"]), Some(77));
    assert_eq!(status(&["list", "--token", "of-the-environment"]), Some(0));
    let by_environment = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["queue", "list", "--http", &node.http().to_string()])
        .env(SECRET, "of-the-environment")
        .status();
    assert!(by_environment.expect("it runs").success());
    assert!(!node.told().contains("of-the-"), "{}", node.told());
}

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("check")
        .args(arguments)
        .env_remove(SECRET)
        .output()
        .expect("posthaste runs")
}

#[test]
fn a_key_that_is_unknown_is_told_with_its_place_and_the_nearest() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("posthaste.toml");
    std::fs::write(&path, "[smtp]\nidle = \"5m\"\nrecipient_max = 500\n").expect("it is ours");
    let path = path.display().to_string();
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stdout);
    let place = format!("{path}:3:1");
    let wanted = format!(
        "{place}: `smtp.recipient_max` is not a known key; did you mean `smtp.recipients_max`?\n"
    );
    assert_eq!(told, wanted);
    let output = check(&[&path, "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let fault: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(fault["kind"], "fault");
    assert_eq!(fault["place"], place.as_str());
    assert_eq!((&fault["line"], &fault["column"]), (&3.into(), &1.into()));
    assert_eq!(fault["file"], path.as_str());
    assert_eq!(fault["key"], "smtp.recipient_max");
    assert!(
        fault["message"]
            .as_str()
            .is_some_and(|text| text.contains("smtp.recipients_max"))
    );
    // The node is as strict, and says it where an operator of a service looks.
    let refused = Setup::new().file("[smtp]\nrecipient_max = 500").fail();
    assert_eq!(refused.status.code(), Some(78));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        told.contains("posthaste.toml:2:1: `smtp.recipient_max`"),
        "{told}"
    );
}

#[test]
fn what_is_good_is_said_to_be_but_for_what_comes_with_the_program() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/posthaste.toml");
    let output = check(&[file, "--offline"]);
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stdout);
    let (note, rest) = told.split_once('\n').expect("lines");
    let without = "without effect: in those that come with the program ";
    assert!(note.starts_with(&format!("note: {without}")), "{told}");
    assert_eq!(rest, "it is good\n");
    let output = check(&[file, "--offline", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(told["kind"], "note");
    let message = told["message"].as_str().expect("a text");
    assert!(message.starts_with(without), "{told}");
}

#[test]
fn line_ends_are_made_whole_where_the_configuration_says_so() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[smtp]\nline_ends = \"normalise\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    client.begin("", &["b@r.example"]);
    // Bare ends, an end that a lax server would take for the last, and the one true end.
    client.send(b"Subject: bare\n\none\rtwo\n.\nthree\r\n.\r\n");
    client.hear("250 2.0.0 Ok: queued as ");
    client.expect("NOOP", "250");
    let arrived = peer.wait(1).remove(0);
    let text = String::from_utf8_lossy(arrived.parts().1).into_owned();
    assert_eq!(text, "Subject: bare\r\n\r\none\r\ntwo\r\n.\r\nthree\r\n");
    mail(node.smtp(), "", &["b@r.example"], &letter("whole"));
    peer.wait(2);
}
