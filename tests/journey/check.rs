//! `posthaste check` on shaping files, good, wrong and hardly meant.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::nsd::NameServer;

/// Status, and what is printed, of a check of `folder`.
fn check(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("check")
        .args(words)
        .arg(folder)
        .output()
        .expect("it runs");
    let told = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), told)
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

/// Bad input: the line and column it is told at, the key, and what is said.
const WRONG: &[(&str, &str, &str, &str)] = &[
    (
        "[\"default\"]\nmax_message_rate = \"5/fortnight\"\n",
        "2:20",
        "default.max_message_rate",
        "no known unit",
    ),
    (
        "[\"x.example\"]\nconnection_limit = 1\nidle_timeout = \"5 parsecs\"\n",
        "3:16",
        "x.example.idle_timeout",
        "no known unit",
    ),
    (
        "[\"default\"]\n\nmax_connection_rate = \"-5/s\"\n",
        "3:23",
        "default.max_connection_rate",
        "must not be negative",
    ),
    (
        "[\"default\"]\nconnection_limit = -1\n",
        "2:20",
        "default.connection_limit",
        "must not be negative",
    ),
    (
        "[\"default\"]\nbusiness_hours = { timezone = \"Mars/Olympus\", max_message_rate = \"1/s\" }\n",
        "2:31",
        "default.business_hours.timezone",
        "no IANA time zone",
    ),
    (
        "[tenant.acme]\ndelivery_window = { timezone = \"Europe/Berlni\", from = \"08:00\", to = \"17:00\" }\n",
        "2:32",
        "tenant.acme.delivery_window.timezone",
        "no IANA time zone",
    ),
    (
        "[[\"x.example\".automation]]\nregex = \"a(\"\naction = \"Suspend\"\nduration = \"1h\"\n",
        "2:9",
        "x.example.automation[0].regex",
        "does not compile",
    ),
    (
        "[\"default\"]\nmax_mesage_rate = \"1/s\"\n",
        "2:1",
        "default.max_mesage_rate",
        "did you mean `max_message_rate`",
    ),
    (
        "[\"default\"]\nenable_dane = true\n",
        "2:1",
        "default.enable_dane",
        "not honoured",
    ),
];

#[test]
fn bad_input_is_told_with_file_line_and_key() {
    for (text, place, key, says) in WRONG {
        let folder = folder(&[("rules.toml", text)]);
        let file = folder.path().join("rules.toml");
        let (code, told) = check(&file, &["--offline", "--shaping"]);
        assert_eq!(code, Some(78), "{text}: {told}");
        let at = format!("{}:{place}: `{key}`", file.display());
        assert!(told.contains(&at) && told.contains(says), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}

/// What is written, the files it is written in, and the warning it is told with.
type Meant = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// What is allowed and hardly meant.
const MEANT: &[Meant] = &[
    (
        "two rules for one site",
        &[
            (
                "a.toml",
                "[\"one.example\"]\nmx_hosts = [\"mx.example\"]\nmax_ready = 1\n",
            ),
            (
                "b.toml",
                "\n[\"two.example\"]\nmx_hosts = [\"mx.example\"]\nmax_ready = 2\n",
            ),
        ],
        "b.toml:2:2: several blocks for the site mx.example: one.example (",
    ),
    (
        "two providers with one mark",
        &[(
            "a.toml",
            "[provider.one]\nmatch = [{ MXSuffix = \".mx.example\" }]\n[provider.two]\nmatch = [{ MXSuffix = \".mx.example\" }]\n",
        )],
        "several providers match MXSuffix .mx.example",
    ),
    (
        "a provider that is never reached",
        &[("a.toml", "[provider.one]\nmax_message_rate = \"1/s\"\n")],
        "provider one has no match in any file: nothing of it is reached",
    ),
    (
        "a label that is never reached",
        &[(
            "a.toml",
            "[[label]]\nsender_domain = \"a.example\"\ntenant = \"a\"\n[[label]]\nsender_domain = \"a.example\"\ntenant = \"b\"\n",
        )],
        "a.toml:4:1: is never reached: ",
    ),
    (
        "an old review",
        &[(
            "a.toml",
            "[\"x.example\"]\nmx_hosts = [\"mx.x.example\"]\nmax_ready = 1\nreviewed = 2020-01-01\n",
        )],
        "was reviewed on 2020-01-01",
    ),
    (
        "a name without quotes",
        &[("a.toml", "[gmail]\nmax_ready = 1\n")],
        "gmail is no mail domain",
    ),
];

#[test]
fn what_is_hardly_meant_is_a_warning_with_its_place_and_no_fault() {
    for (what, files, says) in MEANT {
        let folder = folder(files);
        let (code, told) = check(folder.path(), &["--offline"]);
        assert_eq!(code, Some(0), "{what}: {told}");
        let is_told = |line: &str| line.starts_with("warning: ") && line.contains(says);
        assert!(told.lines().any(is_told), "{what}: {told}");
        let path = folder.path().display().to_string();
        let warnings = told.lines().filter(|line| line.starts_with("warning: "));
        for line in warnings {
            assert!(line.contains(&path), "{what}: {line}");
        }
    }
}

#[test]
fn a_file_of_kumomtas_words_that_requires_tls_is_good_and_each_such_line_a_warning() {
    let text = "[\"default\"]\nconnection_limit = 10\nmax_connection_rate = \"100/min\"\nidle_timeout = \"60s\"\n\
        enable_tls = \"Opportunistic\"\n[provider.\"one\"]\nmatch = [{MXSuffix=\".one.example\"}]\nenable_tls = 'Required'\n\
        provider_connection_limit = 2\n[[provider.\"one\".automation]]\nregex = \"slow down\"\n\
        action = {SetConfig={name=\"max_message_rate\", value=\"1/s\"}}\nduration = \"90m\"\n\
        [\"two.example\"]\nmx_rollup = false\nenable_tls = \"RequiredInsecure\"\n";
    let folder = folder(&[("shaping.toml", text)]);
    let (code, told) = check(folder.path(), &["--offline"]);
    assert_eq!(code, Some(0), "{told}");
    let warnings: Vec<&str> = told
        .lines()
        .filter(|l| l.starts_with("warning: "))
        .collect();
    let says = "TLS is required and this build does not speak it: mail waits";
    for (warning, at) in warnings.iter().zip([
        "shaping.toml:8:1: `provider.one.enable_tls`: ",
        "shaping.toml:16:1: `two.example.enable_tls`: ",
    ]) {
        assert!(warning.ends_with(&format!("{at}{says}")), "{told}");
    }
    assert_eq!(warnings.len(), 2, "{told}");
    let (code, told) = check(folder.path(), &["--offline", "--json"]);
    let is_warning = |line: &&str| line.contains("\"kind\":\"warning\"") && line.contains(says);
    assert_eq!(
        (code, told.lines().filter(is_warning).count()),
        (Some(0), 2)
    );
}

#[test]
fn nothing_is_warned_of_in_files_that_are_meant() {
    let text = "[\"x.example\"]\nmx_hosts = [\"mx.x.example\"]\nmax_message_rate = \"5/s\"\n\
        [provider.one]\nmatch = [{ MXSuffix = \".mx.example\" }]\nprovider_connection_limit = 3\n";
    let folder = folder(&[("a.toml", text)]);
    let (code, told) = check(folder.path(), &["--offline"]);
    // But for what comes with the program.
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((code, lines.len(), lines[1]), (Some(0), 2, "it is good"));
    let note = "note: without effect: in those that come with the program consecutive_connection_failures_before_delay (";
    assert!(lines[0].starts_with(note), "{told}");
    assert!(!told.contains("your files"), "{told}");
}

#[test]
fn two_rules_for_one_site_are_found_by_dns_too() {
    let Some(names) = NameServer::start("one MX 10 mx\ntwo MX 10 mx\nmx A 192.0.2.1\n") else {
        return;
    };
    let folder = folder(&[(
        "rules.toml",
        "[\"one.test\"]\nmax_ready = 1\n[\"two.test\"]\nmax_ready = 2\n[\"none.test\"]\nmax_ready = 3\n",
    )]);
    let config = folder.path().join("posthaste.conf");
    let rules = folder.path().join("rules.toml");
    let text = format!(
        "[dns]\nresolvers = [\"{}\"]\n[shaping]\nfiles = [{rules:?}]\n",
        names.address()
    );
    fs::write(&config, text).expect("it can be written");
    let (code, told) = check(&config, &[]);
    assert_eq!(code, Some(0), "{told}");
    for wanted in [
        "rules.toml:3:2: several blocks for the site mx.test: one.test (",
        "rules.toml:5:2: the site of none.test is not known (domain does not exist)",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}

#[test]
fn a_source_without_the_address_its_proxy_needs_is_a_fault() {
    let text =
        "[[source]]\nname = \"a\"\nproxy = { kind = \"haproxy-v1\", server = \"127.0.0.1:9\" }\n";
    let folder = folder(&[("posthaste.conf", text)]);
    let file = folder.path().join("posthaste.conf");
    let (code, told) = check(&file, &[]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("`source[0].address`"), "{told}");
    let (code, told) = check(&file, &["--json"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("\"key\":\"source[0].address\""), "{told}");
}
