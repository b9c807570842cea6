//! `posthaste explain` without a server: by files alone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::nsd::NameServer;

const RULES: &str = "[\"default\"]
max_message_rate = \"9/s\"
[provider.big]
match = [{ MXSuffix = \".big.example\" }]
connection_limit = 4
provider_connection_limit = 40
[provider.big.sources.one]
connection_limit = 2
[\"x.example\"]
mx_hosts = [\"mx1.big.example\", \"mx2.big.example\"]
idle_timeout = \"7s\"
";

fn rules(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, text).expect("it can be written");
    (folder, rules)
}

fn explain(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("explain")
        .args(words)
        // Nobody answers there: a server that is asked is a failure.
        .args(["--http", "127.0.0.1:1"])
        .output()
        .expect("it runs")
}

fn json(words: &[&str]) -> Value {
    let output = explain(words);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a value is and the last part of where it was set.
fn value(said: &Value, key: &str) -> (String, String) {
    let rows = said["values"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["key"] == key).expect("a row");
    let place = row["place"].as_str().expect("a place");
    let place = place.rsplit('/').next().unwrap_or(place);
    let value = row["value"].as_str().expect("a value");
    (value.into(), place.into())
}

#[test]
fn files_alone_tell_every_value_with_file_and_line() {
    let (_folder, rules) = rules(RULES);
    let rules = rules.to_str().expect("a path");
    let mx = ["--mx", "MX2.big.example.", "--mx", "mx1.big.example"];
    let said = json(&[&["y.example", "--shaping", rules, "--json"], &mx[..]].concat());
    assert_eq!(said["site"], "(mx1|mx2).big.example");
    assert_eq!(said["providers"][0], "big");
    let is = |key: &str| value(&said, key);
    assert_eq!(
        is("max_message_rate"),
        ("9/s".into(), "rules.toml:2:20".into())
    );
    assert_eq!(
        is("connection_limit"),
        ("4".into(), "rules.toml:5:20".into())
    );
    assert_eq!(
        is("idle_timeout"),
        ("7s".into(), "rules.toml:11:16".into()),
        "the block of another domain of the site"
    );
    let (_, place) = is("data_timeout");
    assert!(
        place.starts_with("[delivery] of the configuration"),
        "{place}"
    );
    let limits = said["limits"].as_array().expect("rows");
    let provider = limits.iter().find(|row| row["amount"] == "40");
    let provider = provider.expect("the limit of the provider");
    assert_eq!(
        provider["limit"],
        "connections of provider and source unspecified->big"
    );
    let said = json(
        &[
            &["y.example", "--shaping", rules, "--source", "one", "--json"],
            &mx[..],
        ]
        .concat(),
    );
    assert_eq!(
        value(&said, "connection_limit"),
        ("2".into(), "rules.toml:8:20".into())
    );
}

#[test]
fn the_table_says_that_no_server_was_asked() {
    let (_folder, rules) = rules(RULES);
    let rules = rules.to_str().expect("a path");
    let output = explain(&["x.example", "--shaping", rules, "--mx", "mx.x.example"]);
    let told = String::from_utf8(output.stdout).expect("text");
    for wanted in [
        "by the files alone, no server was asked",
        "mx.x.example",
        "rules.toml:2:20",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}

#[test]
fn a_configuration_brings_its_sources_files_and_dns() {
    let Some(names) = NameServer::start("one MX 10 mx\nmx A 127.0.0.1\nnull MX 0 .\n") else {
        return;
    };
    let (folder, rules) = rules("[\"one.test\"]\nmax_message_rate = \"3/s\"\n");
    let config = folder.path().join("posthaste.conf");
    let text = format!(
        "[dns]\nresolvers = [\"{}\"]\n[delivery]\nallow_private_targets = true\n\
         [shaping]\nfiles = [{rules:?}]\n[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\n\
         [[route]]\ndomain = \"inside.test\"\nnext_hop = [\"192.0.2.9:26\"]\n",
        names.address()
    );
    fs::write(&config, text).expect("it can be written");
    let config = config.to_str().expect("a path");
    let said = json(&["one.test", "--config", config, "--json"]);
    assert_eq!(said["site"], "mx.test");
    assert_eq!(said["sources"], serde_json::json!(["a", "b"]));
    assert_eq!(
        value(&said, "max_message_rate"),
        ("3/s".into(), "rules.toml:2:20".into())
    );
    let said = json(&["inside.test", "--config", config, "--json"]);
    assert!(
        said["site"]
            .as_str()
            .is_some_and(|site| site.contains("192.0.2.9")),
        "{said}"
    );
    let output = explain(&["one.test", "--config", config, "--source", "c"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(
        told.contains("there is no source c; there are a, b"),
        "{told}"
    );
    let output = explain(&["null.test", "--config", config]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{told}");
    assert!(told.contains("null MX") && told.contains("--mx"), "{told}");
}

#[test]
fn a_wrong_file_is_told_as_check_tells_it() {
    let (_folder, rules) = rules("[\"default\"]\nmax_message_rate = \"3/x\"\n");
    let rules = rules.to_str().expect("a path");
    let output = explain(&["x.example", "--shaping", rules, "--mx", "mx.example"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(
        told.contains("rules.toml:2:20: `default.max_message_rate`"),
        "{told}"
    );
}
