//! The scenarios that come with the load generator, run against the node: its shaping before simulated providers, over real sockets and
//! by their own name server. Spans and amounts are shortened; what is expected is what the files say.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::node::{BINARY, Node, Setup, own_ip, own_net};
use crate::disk::skip;

const LOADTEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest");
const DNS_PORT: u16 = 5353;
const PROVIDER_PORT: u16 = 2526;

/// Words of a shipped file and what stands in their place.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// The load generator is a program of its own crate: whoever tests the workspace has built it, beside ours.
fn generator() -> Option<PathBuf> {
    let path = Path::new(BINARY).with_file_name("posthaste-load");
    if path.exists() {
        return Some(path);
    }
    skip("posthaste-load is missing (cargo build --release -p posthaste-load)");
    None
}

fn changed(path: &Path, changes: Changes<'_>) -> String {
    let mut text = fs::read_to_string(path).expect("a shipped file");
    for (from, to) in changes {
        assert!(text.contains(from), "{} has no {from}", path.display());
        text = text.replace(from, to);
    }
    text
}

/// A shipped scenario in a folder of its own, with its profiles, and the rules of the node that is to meet it.
struct Stage {
    folder: tempfile::TempDir,
    generator: PathBuf,
    dns: SocketAddr,
}

impl Stage {
    /// `None`, said aloud, where there is no generator.
    fn set(scenario: &str, changes: Changes<'_>, profiles: &[(&str, Changes<'_>)]) -> Option<Self> {
        let stage = Self {
            generator: generator()?,
            folder: tempfile::tempdir().expect("a temporary folder"),
            dns: SocketAddr::from((own_ip(), DNS_PORT)),
        };
        let root = Path::new(LOADTEST);
        let mut text = changed(&root.join(format!("scenario/{scenario}.toml")), changes);
        for (name, changes) in profiles {
            let file = format!("{name}.toml");
            let profile = changed(&root.join("provider").join(&file), changes);
            stage.write(&file, &profile);
            text = text.replace(&format!("\"{name}\""), &format!("\"{file}\""));
        }
        let place = format!(
            "[providers]\ndns = \"{}\"\naddresses = \"{}\"\nport = {PROVIDER_PORT}",
            stage.dns,
            own_net()
        );
        stage.write("scenario.toml", &text.replace("[providers]", &place));
        Some(stage)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file is written");
        path
    }

    /// A node that resolves by the scenario's name server, shaped by these rules besides those that come with it.
    fn node(&self, rules: &str) -> Node {
        let rules = self.write("rules.toml", rules);
        Setup::new()
            .file(&format!(
                "[dns]\nresolvers = [\"{}\"]\ntimeout = \"1s\"\n[delivery]\nport = {PROVIDER_PORT}\nallow_private_targets = true\n\
                 [shaping]\nfiles = [{rules:?}]",
                self.dns
            ))
            .start()
    }

    /// The report, once all that the scenario expects was met.
    fn run(&self, node: &Node) -> Value {
        let output = Command::new(&self.generator)
            .arg("run")
            .arg(self.folder.path().join("scenario.toml"))
            .args(["--json", "--to", &node.smtp().to_string()])
            .output()
            .expect("the generator starts");
        let told = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no report: {error}: {told}"));
        eprintln!("{report:#}");
        assert!(output.status.success(), "{told}");
        assert_eq!(report["met"], true);
        report
    }
}

fn count(account: &Value, key: &str) -> u64 {
    account[key].as_u64().unwrap_or_default()
}

/// What the program knows of this provider holds for simulated hosts, too.
fn known_as(provider: &str, suffix: &str) -> String {
    format!("[provider.\"{provider}\"]\nmatch = [{{ MXSuffix = \"{suffix}\" }}]\n")
}

/// Two minutes, ten times as fast, before a fifth of the hidden capacity: it is used up in half of the time, and who presses on is
/// blocked. The rules that come with the program know the first reply that says so.
#[test]
fn a_cold_address_keeps_outlooks_limits_and_is_never_blocked() {
    let Some(stage) = Stage::set(
        "outlook-cold",
        &[
            ("6000", "3000"),
            ("poisson:100/s", "poisson:1000/s"),
            ("duration = \"10m\"", "duration = \"12s\""),
        ],
        &[(
            "outlook",
            &[
                ("[\"5ms\", \"30ms\"]", "[\"1ms\", \"3ms\"]"),
                ("[\"200ms\", \"900ms\"]", "[\"20ms\", \"90ms\"]"),
                ("\"2000/h\"", "\"400/h\""),
            ],
        )],
    ) else {
        return;
    };
    let node = stage.node(&known_as("outlook", ".olc.protection.outlookish.test"));
    let account = &stage.run(&node)["providers"]["outlookish"];
    // One site, whatever its domains and their customers: five connections in all, each for fifty messages.
    let accepted = count(account, "accepted");
    let connections = count(account, "connections");
    assert_eq!(count(account, "connections_max"), 5, "{account:#}");
    assert!(
        connections * 50 >= accepted && connections > 5,
        "{account:#}"
    );
    // It found out what the provider stands, by a reply or a few, and used nearly all of it.
    let told = account["deferred"]["capacity"].as_u64().unwrap_or_default();
    assert!((1..=60).contains(&told), "{account:#}");
    let used = account["goodput_over_capacity"]
        .as_f64()
        .unwrap_or_default();
    assert!((0.7..=1.0).contains(&used), "{account:#}");
    let list = node.command(&["automation", "list"]).stdout;
    let list = String::from_utf8_lossy(&list);
    assert!(
        list.contains("did: suspended = true")
            && list.contains("shaping/provider/outlook.toml:12:1"),
        "{list}"
    );
}

#[test]
fn all_mail_arrives_through_a_network_that_flaps() {
    let Some(stage) = Stage::set(
        "flapping-network",
        &[
            ("1000", "300"),
            ("50/s", "150/s"),
            ("duration = \"45m\"", "duration = \"60s\""),
            ("quiet = \"15m\"", "quiet = \"6s\""),
        ],
        &[("netflap", &[("[\"2s\", \"20s\"]", "[\"50ms\", \"500ms\"]")])],
    ) else {
        return;
    };
    // As long as a dead host costs.
    let node = stage.node(
        "[\"default\"]\nconnect_timeout = \"1s\"\nbanner_timeout = \"1s\"\ndata_dot_timeout = \"3s\"\n",
    );
    let account = &stage.run(&node)["providers"]["netflap"];
    // Each of these is a hole that mail was to find its way around.
    for hole in ["backend", "fault"] {
        assert!(count(&account["deferred"], hole) > 0, "{hole}: {account:#}");
    }
    node.wait_empty();
}

#[test]
fn a_site_that_greylists_holds_up_nobody_else() {
    let Some(stage) = Stage::set(
        "greylisted",
        &[
            ("20/s", "100/s"),
            ("10/s", "50/s"),
            ("duration = \"25m\"", "duration = \"60s\""),
            ("quiet = \"12m\"", "quiet = \"3s\""),
            ("240000", "5000"),
        ],
        &[
            ("greylister", &[("\"5m\"", "\"5s\"")]),
            (
                "gateway",
                &[
                    ("[\"100ms\", \"2s\"]", "[\"10ms\", \"50ms\"]"),
                    ("[\"50ms\", \"300ms\"]", "[\"5ms\", \"30ms\"]"),
                    ("[\"500ms\", \"3s\"]", "[\"20ms\", \"100ms\"]"),
                    ("[\"10s\", \"90s\"]", "[\"1s\", \"2s\"]"),
                ],
            ),
        ],
    ) else {
        return;
    };
    let rules = known_as("barracuda", ".ess.gatewayish.test");
    let node = stage.node(&format!(
        "{rules}[\"default\"]\ndata_dot_timeout = \"5s\"\n"
    ));
    let report = stage.run(&node);
    let greylister = &report["providers"]["greylister"];
    assert_eq!(count(greylister, "duplicates"), 0, "{greylister:#}");
    let gateway = &report["providers"]["gatewayish"];
    assert!(count(gateway, "connections_max") <= 10, "{gateway:#}");
}

#[test]
fn a_provider_whose_bounds_are_known_never_has_to_tell_them() {
    let Some(stage) = Stage::set(
        "limits",
        &[
            ("duration = \"180s\"", "duration = \"10s\""),
            ("quiet = \"10s\"", "quiet = \"2s\""),
        ],
        // Ten times as fast.
        &[
            (
                "comcast",
                &[("[\"100ms\", \"500ms\"]", "[\"10ms\", \"50ms\"]")],
            ),
            (
                "gmail",
                &[("[\"150ms\", \"600ms\"]", "[\"15ms\", \"60ms\"]")],
            ),
            (
                "orange",
                &[("[\"200ms\", \"600ms\"]", "[\"20ms\", \"60ms\"]")],
            ),
            (
                "outlook",
                &[
                    ("[\"5ms\", \"30ms\"]", "[\"1ms\", \"3ms\"]"),
                    ("[\"200ms\", \"900ms\"]", "[\"20ms\", \"90ms\"]"),
                ],
            ),
            (
                "qq",
                &[
                    ("[\"20ms\", \"100ms\"]", "[\"2ms\", \"10ms\"]"),
                    ("[\"200ms\", \"900ms\"]", "[\"20ms\", \"90ms\"]"),
                ],
            ),
        ],
    ) else {
        return;
    };
    // What the program knows of each, and the most connections that this is.
    let known = [
        ("comcast", ".comcastish.test", "comcastish", 25),
        ("google", ".l.gmailish.test", "gmailish", 5),
        ("orange", ".orangeish.test", "orangeish", 2),
        (
            "outlook",
            ".olc.protection.outlookish.test",
            "outlookish",
            5,
        ),
        ("qq.com", ".qqish.test", "qqish", 4),
    ];
    let rules: String = known
        .iter()
        .map(|(provider, suffix, ..)| known_as(provider, suffix))
        .collect();
    let report = stage.run(&stage.node(&rules));
    for (_, _, name, connections_max) in known {
        let account = &report["providers"][name];
        // No more, and, with so much waiting, not one after the other either.
        let used = count(account, "connections_max");
        assert!((2..=connections_max).contains(&used), "{account:#}");
    }
}
