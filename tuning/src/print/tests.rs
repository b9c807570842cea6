//! What is printed, of a report of all kinds.

use std::process::{Command, Stdio};

use super::*;
use crate::check::Check;
use crate::finding::{Finding, Report, Step, Verdict};
use crate::host::Place;

fn finding(check: Check, verdict: Verdict) -> Finding {
    Finding {
        check,
        subject: None,
        verdict,
        found: "20,000".into(),
        wanted: "at least 65,536".into(),
        why: "Each session and each connection is an open file; what is wanted covers them all."
            .into(),
        fix: "LimitNOFILE=1048576 in the unit.".into(),
        steps: Vec::new(),
    }
}

fn report() -> Report {
    let with = |steps, finding| Finding { steps, ..finding };
    let nasty = "it's \u{1b}[2J\nrm -rf / $(reboot) `reboot`";
    Report {
        profile: "vm".into(),
        place: Place::default(),
        hostname: "mx".into(),
        release: "6.1".into(),
        findings: vec![
            Finding {
                fix: String::new(),
                ..finding(Check::Kernel, Verdict::Ok)
            },
            with(
                vec![Step::Unit("LimitNOFILE=1048576".into())],
                finding(Check::Nofile, Verdict::Warn),
            ),
            with(
                vec![Step::Sysctl(
                    "net.ipv4.ip_local_port_range=15000 65000".into(),
                )],
                finding(Check::PortRange, Verdict::Warn),
            ),
            with(
                vec![Step::Shell("echo madvise > /dev/null".into())],
                finding(Check::HugePages, Verdict::Warn),
            ),
            Finding {
                subject: Some(nasty.into()),
                found: nasty.into(),
                why: nasty.into(),
                ..finding(Check::Source, Verdict::Fatal)
            },
            finding(Check::Reverse, Verdict::Unknown),
        ],
        refused: Some(78),
    }
}

#[test]
fn no_line_of_the_table_leaves_the_terminal() {
    for width in [60, 80, 100, 120, 140] {
        for all_reasons in [false, true] {
            let look = Look {
                width,
                colours: false,
                all_reasons,
            };
            let text = table(&report(), look);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }
}

#[test]
fn the_worst_stands_last_with_its_reason_and_cure() {
    let look = Look {
        width: 80,
        colours: false,
        all_reasons: false,
    };
    let text = table(&report(), look);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
    assert!(at("\nok ") < at("\nunknown "));
    assert!(at("\nunknown ") < at("\nwarn "));
    assert!(at("\nwarn ") < at("\nfatal "));
    assert!(text[at("\nwarn ")..].contains("why  Each session"));
    assert!(text[at("\nwarn ")..].contains("fix  LimitNOFILE"));
    assert!(
        !text[..at("\nwarn ")].contains("why "),
        "what is well needs none"
    );
    assert!(
        text.contains("1 well, 1 not known, 3 warnings, 1 fatal."),
        "{text}"
    );
    let coloured = table(
        &report(),
        Look {
            colours: true,
            ..look
        },
    );
    assert!(coloured.contains("\u{1b}[31mfatal\u{1b}[0m"));
}

#[test]
fn json_says_all_of_it() {
    let value: serde_json::Value = serde_json::from_str(&json(&report(), 78)).unwrap();
    assert_eq!(value["exit"], 78);
    assert_eq!(value["totals"]["warn"], 3);
    assert_eq!(
        value["checks"][1]["steps"][0]["unit"],
        "LimitNOFILE=1048576"
    );
    for key in [
        "check", "subject", "verdict", "found", "wanted", "why", "fix", "steps",
    ] {
        assert!(value["checks"][0].get(key).is_some(), "{key}");
    }
}

#[test]
fn the_script_is_shell_and_nothing_found_is_run() {
    let text = script(&report());
    let mut sh = Command::new("sh")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(sh.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    assert!(sh.wait().unwrap().success(), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains("reboot") && !line.contains("rm "), "{line}");
    }
    assert!(text.contains("\nset -eu\n"));
    assert!(text.contains("\nset_unit 'LimitNOFILE=1048576'\n"));
    assert!(text.contains("\nset_sysctl 'net.ipv4.ip_local_port_range=15000 65000'\n"));
    let well = Report {
        findings: vec![finding(Check::Kernel, Verdict::Ok)],
        ..report()
    };
    assert!(script(&well).ends_with("# All is well.\n"));
}

#[test]
fn the_script_adds_a_line_once() {
    let text = script(&report());
    let (add, rest) = (
        text.find("add() {").unwrap(),
        text.find("set_sysctl() {").unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf");
    let twice = format!(
        "set -eu\n{}\nadd \"$0\" 'a b'\nadd \"$0\" 'a b'\nadd \"$0\" -n\nadd \"$0\" -n\n",
        &text[add..rest]
    );
    let ran = Command::new("sh")
        .arg("-c")
        .arg(twice)
        .arg(&file)
        .status()
        .unwrap();
    assert!(ran.success());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "a b\n-n\n");
}
