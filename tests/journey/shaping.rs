//! Shaping over the wire: limits are kept, told, and changed while mail flows.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, letter, mail};
use super::cluster;
use super::kept;
use super::node::Setup;
use super::nsd::NameServer;
use super::peer::{Answer, Peer, Stage, always};
use super::wait::until;

/// A file of shaping in a folder of its own.
pub(super) fn rules_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, text).expect("it can be written");
    (folder, rules)
}

fn pairs_apart(peer: &Peer, stage: Stage) -> Vec<Duration> {
    let times: Vec<Instant> = peer.steps_at(stage).iter().map(|step| step.at).collect();
    times.windows(2).map(|two| two[1] - two[0]).collect()
}

#[test]
fn a_message_rate_is_kept_by_all_shards_together_and_told_as_the_reason() {
    let (_folder, rules) = rules_file("[\"default\"]\nmax_message_rate = \"10/s,max_burst=1\"\n");
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::greeted(node.smtp())).collect();
    for number in 0..30 {
        clients[number % 4].mail("", &["b@r.example"], &letter("rate"));
    }
    let waiting = until("the reason is told", || {
        let said = String::from_utf8(node.queue(&["list"]).stdout).expect("text");
        said.contains("waits for message rate of lane")
            .then_some(said)
    });
    assert!(waiting.contains("r.example"), "{waiting}");
    peer.wait(30);
    node.wait_empty();
    let steps = peer.steps_at(Stage::Mail);
    let took = steps[29].at - steps[0].at;
    // 29 permits after the first; a late one takes nothing from the next.
    assert!(took >= Duration::from_millis(2_800), "{took:?}");
    assert!(
        took <= Duration::from_millis(4_500),
        "no permit is wasted: {took:?}"
    );
}

#[test]
fn where_tls_is_required_no_connection_is_made_and_all_say_why() {
    let required = "[\"r.example\"]\nmx_rollup = false\nenable_tls = \"Required\"\n";
    let (_folder, rules) = rules_file(required);
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let warning =
        "rules.toml:3:1: `r.example.enable_tls`: TLS is required and this build does not speak it";
    assert!(node.told().contains(warning), "{}", node.told());
    let mut client = Client::greeted(node.smtp());
    let id = client.mail("", &["b@r.example"], &letter("secret"));
    client.mail("", &["b@s.example"], &letter("plain"));
    let plain = peer.wait(1).remove(0);
    assert!(plain.text().contains("plain"));
    let reason = "TLS, which is required here (";
    let list = until("the queue tells why", || {
        let said = String::from_utf8(node.queue(&["list"]).stdout).expect("text");
        said.contains(reason).then_some(said)
    });
    assert!(list.contains("rules.toml:3:14"), "{list}");
    let show = String::from_utf8(node.queue(&["show", &id]).stdout).expect("text");
    assert!(show.contains(reason), "{show}");
    let explained = node.command(&["explain", "r.example"]).stdout;
    let explained = String::from_utf8(explained).expect("text");
    let barred = "rules.toml:3:14) and this build does not speak it";
    assert!(explained.contains(barred), "{explained}");
    assert_eq!(node.metric("posthaste_tls_required_entries"), 1.0);
    // Said again by each reload, until the file says otherwise.
    fs::write(&rules, format!("# looked at\n{required}")).expect("it can be written");
    until("the reload warns", || {
        node.told()
            .contains("rules.toml:4:1: `r.example.enable_tls`")
            .then_some(())
    });
    assert_eq!(node.records_of(&id).len(), 1, "its reception alone");
    assert_eq!(peer.steps_at(Stage::Mail).len(), 1);
    fs::write(&rules, required.replace("Required", "Opportunistic")).expect("it can be written");
    assert_eq!(peer.wait(2).len(), 2);
    node.wait_empty();
}

#[test]
fn one_lane_gets_all_of_its_rate() {
    let (_folder, rules) = rules_file(
        "[\"default\"]\nmax_message_rate = \"100/s,max_burst=1\"\nconnection_limit = 1\n",
    );
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--shards", "1")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..200 {
        client.mail("", &["b@r.example"], &letter("rate"));
    }
    peer.wait(200);
    let mut apart = pairs_apart(&peer, Stage::Mail);
    assert!(
        apart.iter().sum::<Duration>() >= Duration::from_millis(1_980),
        "{apart:?}"
    );
    apart.sort();
    assert!(
        apart[100] <= Duration::from_millis(20),
        "each waits for its own permit, 10 ms, and for nothing else: {apart:?}"
    );
}

#[test]
fn a_changed_file_holds_at_once_a_wrong_one_changes_nothing_and_no_connection_is_dropped() {
    let (folder, rules) = rules_file(
        "[\"default\"]\nmax_message_rate = \"1/h,max_burst=1\"\nidle_timeout = \"5m\"\n",
    );
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{:?}]", folder.path()))
        .start();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..20 {
        client.mail("", &["b@r.example"], &letter("reload"));
    }
    peer.wait(1);
    fs::write(&rules, "[\"default\"]\nmax_mesage_rate = \"1/s\"\n").unwrap();
    until("the fault is told", || {
        let told = node.told();
        let is_told = told.contains("shaping stays as it was") && told.contains("rules.toml:2:1");
        is_told.then_some(())
    });
    assert_eq!(peer.letters().len(), 1, "the old rules hold");
    let kept = "[\"default\"]\nmax_message_rate = \"100/s\"\nidle_timeout = \"5m\"\n";
    fs::write(&rules, kept).unwrap();
    peer.wait(20);
    node.wait_empty();
    assert!(
        node.told().contains("shaping is read anew, 1 files"),
        "{}",
        node.told()
    );
    // Those who waited at 1/h were connected, and have gone on as they were.
    let greeted = peer.steps_at(Stage::Hello).len();
    let (open, _) = peer.uses();
    assert!(greeted <= open, "{greeted} greetings on {open} connections");
    let before = node.told().matches("read anew").count();
    node.hang_up();
    until("SIGHUP is answered", || {
        (node.told().matches("read anew").count() > before).then_some(())
    });
}

#[test]
fn a_wrong_shaping_file_forbids_the_start_and_names_the_place() {
    let (_folder, rules) = rules_file("[\"default\"]\nmax_message_rate = \"10/fortnight\"\n");
    let output = Setup::new()
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .fail();
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("rules.toml:2:") && told.contains("fortnight"),
        "{told}"
    );
}

#[test]
fn one_domains_block_holds_for_its_whole_site_by_dns() {
    let peer = Peer::good();
    let ip = peer.address().ip();
    let records = format!(
        "host A {ip}\none MX 10 host\ntwo MX 10 host\nother MX 10 elsewhere\nelsewhere A {ip}\n"
    );
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let (_folder, rules) = rules_file("[\"one.test\"]\nehlo_domain = \"chosen.example\"\n");
    let node = Setup::new()
        .file(&format!("[dns]\nresolvers = [\"{}\"]", names.address()))
        .file("[delivery]\nport = 2526\nallow_private_targets = true\nidle = \"0s\"")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let told = until("the site of one.test is known", || {
        let said: Value =
            serde_json::from_str(&node.get("/api/admin/shaping/explain/v1?domain=two.test").1)
                .ok()?;
        let rows = said["values"].as_array()?;
        let row = rows.iter().find(|row| row["key"] == "ehlo_domain")?;
        Some(row["place"].as_str()?.to_owned())
    });
    assert!(
        told.ends_with("rules.toml:2:15") || told.contains("rules.toml:2:"),
        "{told}"
    );
    for domain in ["two.test", "other.test"] {
        mail(node.smtp(), "", &[&format!("b@{domain}")], &letter("site"));
    }
    peer.wait(2);
    let mut greetings: Vec<String> = peer
        .steps_at(Stage::Hello)
        .into_iter()
        .map(|step| step.line)
        .collect();
    greetings.sort();
    assert_eq!(greetings.len(), 2, "{greetings:?}");
    assert_eq!(
        greetings
            .iter()
            .filter(|line| line.ends_with(" chosen.example"))
            .count(),
        1,
        "{greetings:?}"
    );
}

#[test]
fn a_lowered_limit_is_kept_under_load_and_cuts_nothing_off() {
    let slow = Answer::Late(Duration::from_millis(100), "250 taken".into());
    let peer = Peer::new(always(Stage::Dot, slow));
    let node = Setup::to(peer.address()).start();
    cluster::fill(&node, 1000);
    until("many are open", || (peer.open() > 20).then_some(()));
    let set = ["set", "default", "", "connection_limit", "3"];
    let told = kept::run(&node, &[&set[..], &["--for", "1h"]].concat());
    assert!(told.starts_with("set until"), "{told}");
    until("it is kept", || (peer.open() <= 3).then_some(()));
    let before = peer.letters().len();
    until("mail goes on", || {
        assert!(peer.open() <= 3, "{} connections", peer.open());
        (peer.letters().len() >= before + 40).then_some(())
    });
    let records = node.records();
    let is_sent = |record: &&Value| record["type"] == "Delivery";
    assert!(records.iter().filter(is_sent).count() >= 40);
    let failed = records
        .iter()
        .find(|record| record["type"] == "TransientFailure");
    assert_eq!(failed, None, "nothing was cut off");
}

#[test]
fn an_override_from_the_command_line_holds_until_it_is_taken_back() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let http = node.http().to_string();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .args(words)
            .args(["--http", &http])
            .output()
            .expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let key = "max_message_rate";
    let (code, told) = run(&[
        "override",
        "set",
        "default",
        "",
        key,
        "1/h,max_burst=1",
        "--for",
        "1h",
        "--reason",
        "quiet please",
    ]);
    assert_eq!(code, Some(0), "{told}");
    let mut client = Client::greeted(node.smtp());
    for _ in 0..5 {
        client.mail("", &["b@r.example"], &letter("override"));
    }
    peer.wait(1);
    let told = until("it is explained", || {
        let (_, told) = run(&["explain", "r.example"]);
        told.contains("waits for message rate of lane")
            .then_some(told)
    });
    assert!(
        told.contains("quiet please") && told.contains("1/h"),
        "{told}"
    );
    let (_, told) = run(&["override", "list"]);
    assert!(told.contains("quiet please"), "{told}");
    assert_eq!(peer.letters().len(), 1);
    let (code, told) = run(&["override", "cancel", "default", "", key]);
    assert_eq!(code, Some(0), "{told}");
    peer.wait(5);
    node.wait_empty();
    let (code, told) = run(&[
        "override",
        "set",
        "default",
        "",
        "max_message_rat",
        "1/h",
        "--for",
        "1h",
    ]);
    assert!(
        code == Some(64) && told.contains("max_message_rate"),
        "{code:?} {told}"
    );
}

#[test]
fn connections_come_no_faster_than_their_rate() {
    let (_folder, rules) = rules_file(
        "[\"default\"]\nmax_connection_rate = \"5/s,max_burst=1\"\nmax_deliveries_per_connection = 1\n",
    );
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .start();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..8 {
        client.mail("", &["b@r.example"], &letter("connections"));
    }
    peer.wait(8);
    let apart = pairs_apart(&peer, Stage::Hello);
    assert!(
        apart.iter().all(|time| *time >= Duration::from_millis(150)),
        "{apart:?}"
    );
}

#[test]
fn check_tells_faults_warnings_and_keys_without_effect_of_shaping_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .arg("check")
            .args(words)
            .arg(folder.path())
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
        )
    };
    let good = folder.path().join("a.toml");
    fs::write(&good, "[\"default\"]\nmax_ready = 10\n[\"x.example\"]\nmx_hosts = [\"mx.example\"]\nreviewed = \"2020-01-01\"\n\
        [\"y.example\"]\nmx_hosts = [\"mx.example\"]\nmax_message_rate = \"1/s\"\n").unwrap();
    let (code, told) = check(&["--offline"]);
    assert_eq!(code, Some(0), "{told}");
    for wanted in [
        "note: ",
        "a.toml:2:1",
        "warning: ",
        "was reviewed on 2020-01-01",
        "several blocks for the site mx.example",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    fs::write(
        folder.path().join("b.toml"),
        "[\"default\"]\nconnection_limit = -1\nsmtp_port = 2525\n",
    )
    .unwrap();
    let (code, told) = check(&["--offline", "--json"]);
    assert_eq!(code, Some(78));
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let keys: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["key"].as_str())
        .collect();
    assert!(
        keys.contains(&"default.connection_limit") && keys.contains(&"default.smtp_port"),
        "{told}"
    );
    assert!(
        lines.iter().all(|line| line["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("b.toml"))),
        "{told}"
    );
}

#[test]
fn check_takes_a_configuration_with_sources_for_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .args(["check", "--offline"])
            .arg(&path)
            .output()
            .expect("it runs");
        let told = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), told)
    };
    let (code, told) = check(
        "a.toml",
        "[[source]]\nname = \"one\"\naddress = \"127.0.0.1\"\n",
    );
    assert_eq!(code, Some(0), "a configuration: {told}");
    let (code, told) = check("b.toml", "[source.one]\nmax_message_rate = \"1/s\"\n");
    assert_eq!(code, Some(0), "shaping: {told}");
}

#[test]
fn check_without_dns_warns_and_does_not_fail() {
    let (folder, rules) = rules_file("[\"x.example\"]\nmax_message_rate = \"1/s\"\n");
    let config = folder.path().join("posthaste.toml");
    let nobody = super::node::closed();
    let text = format!(
        "[dns]\nresolvers = [\"{nobody}\"]\ntimeout = \"1s\"\nattempts_max = 1\n[shaping]\nfiles = [{rules:?}]\n"
    );
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("check")
        .arg(&config)
        .output()
        .expect("it runs");
    let told = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("warning: ") && told.contains("the site of x.example is not known"),
        "{told}"
    );
}

#[test]
fn dns_that_fails_at_a_reload_is_told_and_what_was_known_holds_on() {
    let Some(names) = NameServer::start("one MX 10 host\nhost A 192.0.2.1\n") else {
        return;
    };
    let rule = |limit| format!("[\"one.test\"]\nconnection_limit = {limit}\n");
    let (_folder, rules) = rules_file(&rule(3));
    let peer = Peer::good();
    let dns = format!(
        "[dns]\nresolvers = [\"{}\"]\ntimeout = \"1s\"\nattempts_max = 1\nttl_max = \"1s\"\nnegative_ttl_max = \"1s\"",
        names.address()
    );
    let node = Setup::new()
        .file(&dns)
        .file("[delivery]\nallow_private_targets = true")
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .route("r.example", &[peer.address()])
        .start();
    let path = "/api/admin/shaping/explain/v1?domain=one.test";
    until("the site is known", || {
        node.get(path).1.contains("rules.toml").then_some(())
    });
    drop(names);
    until("answers are old", || {
        // A site is asked for anew at each reload.
        node.hang_up();
        std::thread::sleep(Duration::from_millis(500));
        node.told().contains("is not known").then_some(())
    });
    let told = node.told();
    assert!(
        told.contains("the site of one.test is not known (DNS failure")
            && told.contains("its rules hold at host.test, where it was"),
        "{told}"
    );
    let reads = || node.told().matches("read anew").count();
    let before = reads();
    fs::write(&rules, rule(4)).unwrap();
    until("the file is read", || (reads() > before).then_some(()));
    mail(node.smtp(), "", &["b@r.example"], &letter("goes on"));
    peer.wait(1);
    assert_eq!(node.told().matches("is not known").count(), 1, "told once");
}
