//! For a person to read and then to run: one paragraph a finding, each of which may be taken out.
//! Run twice, it changes nothing more.

use crate::finding::{Finding, Report, Step, Verdict};

use super::wrap::{plain, wrap};

const WIDTH: usize = 98;

/// Adds a line to a file unless it is there.
const ADD: &str = r#"add() { # FILE LINE
  grep -qxF -e "$2" "$1" 2>/dev/null || printf '%s\n' "$2" >>"$1"
}
"#;
const SYSCTL: &str = r#"set_sysctl() { # KEY=VALUE, for this boot and the next
  add /etc/sysctl.d/60-posthaste.conf "$1"
  sysctl -q -w "$1"
}
"#;
const UNIT: &str = r#"set_unit() { # KEY=VALUE of [Service], for the next start
  mkdir -p /etc/systemd/system/posthaste.service.d
  add /etc/systemd/system/posthaste.service.d/60-doctor.conf '[Service]'
  add /etc/systemd/system/posthaste.service.d/60-doctor.conf "$1"
}
"#;

pub fn script(report: &Report) -> String {
    let troubles: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.verdict >= Verdict::Warn)
        .collect();
    let any = |is: fn(&Step) -> bool| troubles.iter().any(|t| t.steps.iter().any(is));
    let has_sysctl = any(|step| matches!(step, Step::Sysctl(_)));
    let has_unit = any(|step| matches!(step, Step::Unit(_)));
    let mut text = String::from("#!/bin/sh\n");
    comment(
        &mut text,
        &format!(
            "What `posthaste doctor` would mend on {}, by the profile {}. Nothing of it was done. Read \
             it, take out what you do not want, and run it as root. Run again, it changes nothing more.",
            report.hostname, report.profile
        ),
    );
    text.push_str("set -eu\n");
    for (wanted, lines) in [
        (has_sysctl || has_unit, ADD),
        (has_sysctl, SYSCTL),
        (has_unit, UNIT),
    ] {
        if wanted {
            text.push('\n');
            text.push_str(lines);
        }
    }
    for trouble in &troubles {
        paragraph(&mut text, trouble);
    }
    if has_unit {
        text.push('\n');
        comment(
            &mut text,
            "New limits of the unit hold from its next start: systemctl restart posthaste",
        );
        text.push_str("systemctl daemon-reload\n");
    }
    if troubles.is_empty() {
        text.push('\n');
        comment(&mut text, "All is well.");
    }
    text
}

fn paragraph(text: &mut String, finding: &Finding) {
    text.push('\n');
    let subject = finding.subject.as_ref();
    let subject = subject.map_or_else(String::new, |subject| format!(" {subject}"));
    let head = format!(
        "{}{subject}: found {}; wanted {}. {}",
        finding.check.name(),
        finding.found,
        finding.wanted,
        finding.why
    );
    comment(text, &head);
    if finding.steps.is_empty() {
        comment(text, &format!("By hand: {}", finding.fix));
    }
    for step in &finding.steps {
        match step {
            Step::Sysctl(line) => {
                text.push_str(&format!("set_sysctl {}\n", quoted(line)));
            }
            Step::Unit(line) => text.push_str(&format!("set_unit {}\n", quoted(line))),
            Step::Shell(line) => {
                comment(text, "Until the next boot:");
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Nothing that was found can end the comment it stands in.
fn comment(text: &mut String, words: &str) {
    for line in wrap(&plain(words), WIDTH) {
        text.push_str("# ");
        text.push_str(&line);
        text.push('\n');
    }
}
