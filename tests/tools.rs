//! `tools/deps.sh` on machines that it can do nothing for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Runs it where these programs are and no others, each a shell script of one line.
fn deps(programs: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, line) in programs {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("a program is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/deps.sh");
    Command::new("/bin/bash")
        .args([script, "build", "demo"])
        .env("PATH", folder.path())
        .output()
        .expect("bash runs")
}

/// All is there but ccache and python3.
const SOME_MISSING: (&str, &str) = (
    "dpkg-query",
    r#"case "$*" in *ccache|*python3) exit 1;; esac; echo installed"#,
);
const STRANGER: (&str, &str) = ("id", "echo 1000");

#[test]
fn what_may_not_be_installed_is_named_with_the_line_to_type() {
    let asked = ("sudo", "echo sudo: a password is required >&2; exit 1");
    for programs in [
        &[SOME_MISSING, STRANGER, asked][..],
        &[SOME_MISSING, STRANGER],
    ] {
        let done = deps(programs);
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(69), "{told}");
        let line = "Run: sudo apt-get install -y --no-install-recommends ccache python3\n";
        assert!(told.contains("this user may not install them"), "{told}");
        assert!(told.ends_with(line), "{told}");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "");
    }
}

#[test]
fn where_nothing_is_missing_nothing_is_done() {
    let done = deps(&[("dpkg-query", "echo installed")]);
    assert!(done.status.success());
    assert!(done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn another_system_is_told_what_is_needed_and_not_stopped() {
    let done = deps(&[]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    assert!(
        told.starts_with("deps: not a Debian system; needed: build-essential "),
        "{told}"
    );
}
