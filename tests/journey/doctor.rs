//! `posthaste doctor` on this host, whatever it is.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};

use serde_json::Value;

use super::client::{letter, mail};
use super::node::{Setup, own_ip};
use super::peer::Peer;
use crate::disk::skip;

/// The command on a spool of its own; `config` is the text of its file. Its resolver is one that
/// nobody answers at.
struct Doctor {
    folder: tempfile::TempDir,
    resolver: UdpSocket,
}

impl Doctor {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let resolver = UdpSocket::bind((own_ip(), 0)).expect("a port of ours");
        let address = resolver.local_addr().expect("a bound socket has one");
        let text = format!("[dns]\nresolvers = [\"{address}\"]\n{config}");
        fs::write(folder.path().join("posthaste.toml"), text).expect("a file is written");
        Self { folder, resolver }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let at = |name: &str| self.folder.path().join(name);
        Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .arg("doctor")
            .args(["--hostname", "mta.example.test"])
            .arg("--config")
            .arg(at("posthaste.toml"))
            .arg("--spool")
            .arg(at("spool"))
            .arg("--log")
            .arg(at("log"))
            .args(arguments)
            .env_remove("COLUMNS")
            .output()
            .expect("the command runs")
    }
}

fn out(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "nothing is told beside the report");
    String::from_utf8(output.stdout.clone()).expect("UTF-8 is printed")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output)).expect("JSON is printed")
}

fn row<'a>(report: &'a Value, check: &str, subject: &str) -> &'a Value {
    let rows = report["checks"].as_array().expect("checks are a list");
    rows.iter()
        .find(|row| row["check"] == check && (subject.is_empty() || row["subject"] == subject))
        .unwrap_or_else(|| panic!("{check} {subject}: {report:#}"))
}

#[test]
fn a_fit_host_is_told_so_and_left_as_it_was() {
    let doctor = Doctor::new("");
    let output = doctor.run(&["--json"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["exit"], 0);
    assert_eq!(row(&report, "io_uring", "")["verdict"], "ok");
    let sync = row(&report, "sync", "")["found"].as_str().expect("a text");
    assert!(sync.starts_with("p50 "), "{sync}");
    let silent = row(&report, "resolver", "");
    assert_eq!(
        (&silent["verdict"], &silent["found"]),
        (&"warn".into(), &"no answer".into())
    );
    let mut octets = [0; 512];
    let query = doctor.resolver.recv(&mut octets);
    assert!(query.is_ok(), "the resolver was asked");
    let left: Vec<_> = fs::read_dir(doctor.folder.path())
        .expect("the folder is ours")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["posthaste.toml"], "nothing is made and nothing left");
    let strict = doctor.run(&["--json", "--strict", "--no-measure"]);
    let report = json(&strict);
    assert_eq!(row(&report, "resolver", "")["verdict"], "unknown");
    assert_eq!(row(&report, "sync", "")["found"], "not measured");
    let expected = i32::from(report["totals"]["warn"] != 0);
    assert_eq!(strict.status.code(), Some(expected));
}

#[test]
fn a_source_that_is_not_on_this_host_is_named() {
    let doctor = Doctor::new("[delivery]\nsources = [\"127.0.0.3\", \"192.0.2.77\"]\n");
    let output = doctor.run(&["--json", "--no-measure"]);
    assert_eq!(output.status.code(), Some(78));
    let report = json(&output);
    assert_eq!(row(&report, "source", "127.0.0.3")["verdict"], "ok");
    let foreign = row(&report, "source", "192.0.2.77");
    assert_eq!(foreign["verdict"], "fatal");
    assert_eq!(foreign["found"], "not on this host");
    assert_eq!(row(&report, "time_wait", "127.0.0.3")["verdict"], "ok");
    let table = out(&doctor.run(&["--no-measure"]));
    let fatal = table.lines().find(|line| line.starts_with("fatal"));
    assert!(
        fatal.is_some_and(|line| line.contains("source 192.0.2.77")),
        "{table}"
    );
    assert!(table.contains("delivery.sources"), "{table}");
}

#[test]
fn each_source_is_looked_at_where_its_address_must_be() {
    let source = |name: &str, address: &str, more: &str| {
        format!("[[source]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n")
    };
    let proxy = |kind: &str| format!("proxy = {{ kind = \"{kind}\", server = \"127.0.0.1:1\" }}");
    let doctor = Doctor::new(
        &[
            source("here", "127.0.0.3", ""),
            source("there", "192.0.2.77", ""),
            source("there too", "192.0.2.77", ""),
            source("off", "192.0.2.78", "enabled = false"),
            source("told", "192.0.2.79", &proxy("haproxy-v1")),
            source("hidden", "192.0.2.80", &proxy("socks5")),
        ]
        .concat(),
    );
    let output = doctor.run(&["--json", "--no-measure"]);
    assert_eq!(output.status.code(), Some(78));
    let report = json(&output);
    let subjects = |check: &str| -> Vec<&str> {
        let rows = report["checks"].as_array().expect("checks are a list");
        let rows = rows.iter().filter(|row| row["check"] == check);
        let mut of: Vec<&str> = rows.filter_map(|row| row["subject"].as_str()).collect();
        of.sort_unstable();
        of
    };
    assert_eq!(subjects("source"), ["127.0.0.3", "192.0.2.77"]);
    assert_eq!(
        subjects("reverse_dns"),
        ["127.0.0.3", "192.0.2.77", "192.0.2.79"]
    );
    let why = &row(&report, "source", "192.0.2.77")["why"];
    let why = why.as_str().expect("a text");
    assert!(
        why.starts_with("source there has 192.0.2.77, from which"),
        "{why}"
    );
}

#[test]
fn the_node_says_the_same_at_its_start_and_starts() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nsources = [\"127.0.0.3\", \"192.0.2.77\"]")
        .start();
    let doctor = Doctor::new("[delivery]\nsources = [\"192.0.2.77\"]\n");
    let report = json(&doctor.run(&["--json", "--no-measure"]));
    let why = row(&report, "source", "192.0.2.77")["why"].clone();
    let why = why.as_str().expect("a text");
    assert!(node.told().contains(why), "{why}: {}", node.told());
    mail(node.smtp(), "", &["b@r.example"], &letter("waits"));
}

#[test]
fn what_keeps_the_node_from_starting_is_fatal_in_the_same_words() {
    let failed = Setup::new().arg("--shards", "1024").fail();
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    let doctor = Doctor::new("");
    let output = doctor.run(&["--json", "--no-measure", "--shards", "1024"]);
    assert_eq!(output.status.code(), failed.status.code(), "{told}");
    let report = json(&output);
    let row = row(&report, "shards", "");
    assert_eq!(row["verdict"], "fatal");
    let why = row["why"].as_str().expect("a text");
    assert!(told.contains(why), "{why}: {told}");
}

#[test]
fn the_script_is_good_shell_for_each_profile() {
    let doctor = Doctor::new("[delivery]\nsources = [\"192.0.2.77\"]\n");
    for profile in ["metal", "vm", "container"] {
        let output = doctor.run(&["--script", "--no-measure", "--profile", profile]);
        let script = out(&output);
        let file = doctor.folder.path().join("fixes.sh");
        fs::write(&file, &script).expect("a file is written");
        let checked = Command::new("sh").arg("-n").arg(&file).status();
        assert!(checked.expect("sh runs").success(), "{script}");
        match Command::new("shellcheck").arg(&file).output() {
            Ok(found) => assert!(found.status.success(), "{}", out(&found)),
            Err(_) => {
                skip("shellcheck is missing (apt-get install shellcheck): only sh -n was asked");
            }
        }
        let has_commands = script
            .lines()
            .any(|line| !line.is_empty() && !line.starts_with('#') && line != "set -eu");
        let may = profile != "container";
        assert!(may || !has_commands, "a container mends nothing: {script}");
    }
}

#[test]
fn the_table_fits_its_terminal() {
    let doctor = Doctor::new("[delivery]\nsources = [\"192.0.2.77\"]\n");
    for columns in ["80", "120"] {
        let output = Command::new("env")
            .arg(format!("COLUMNS={columns}"))
            .arg(env!("CARGO_BIN_EXE_posthaste"))
            .args(["doctor", "--no-measure", "--config"])
            .arg(doctor.folder.path().join("posthaste.toml"))
            .output()
            .expect("the command runs");
        let table = out(&output);
        let width: usize = columns.parse().expect("a number");
        for line in table.lines() {
            assert!(line.chars().count() <= width, "{line}");
        }
    }
}

#[test]
fn the_help_has_each_exit_status_that_the_page_has() {
    let page = fs::read_to_string("tuning/README.md").expect("the page is ours");
    let (_, table) = page
        .split_once("| Exit status | |\n|---|---|\n")
        .expect("its table");
    let statuses: Vec<_> = table
        .lines()
        .map_while(|line| line.strip_prefix("| ")?.split(' ').next())
        .collect();
    assert!(statuses.contains(&"64"), "{statuses:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["doctor", "--help"])
        .output()
        .expect("the command runs");
    let help = out(&output);
    let (_, told) = help.split_once("Exit status: ").expect("it tells them");
    let told: Vec<_> = told.split([' ', '\n']).collect();
    for status in statuses {
        assert!(told.contains(&status), "{status}: {help}");
    }
}

#[test]
fn a_wrong_configuration_is_no_patient() {
    let doctor = Doctor::new("[delivery]\nretires = [\"1s\"]\n");
    let output = doctor.run(&[]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("posthaste.toml:4:"), "{told}");
}
