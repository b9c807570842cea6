//! For programs.

use serde_json::{Value, json as object};

use crate::finding::{Finding, Report, Step, Verdict};

/// One object; `exit` is the status with which the command ends.
pub fn json(report: &Report, exit: u8) -> String {
    let count = |verdict| report.count(verdict);
    let value = object!({
        "hostname": report.hostname,
        "kernel": report.release,
        "profile": report.profile,
        "detected": { "kind": report.place.kind.name(), "evidence": report.place.evidence },
        "checks": report.findings.iter().map(check).collect::<Vec<_>>(),
        "totals": {
            "ok": count(Verdict::Ok), "unknown": count(Verdict::Unknown),
            "warn": count(Verdict::Warn), "fatal": count(Verdict::Fatal),
        },
        "exit": exit,
    });
    format!("{value:#}\n")
}

fn check(finding: &Finding) -> Value {
    let steps = finding.steps.iter().map(|step| match step {
        Step::Sysctl(line) => object!({ "sysctl": line }),
        Step::Unit(line) => object!({ "unit": line }),
        Step::Shell(line) => object!({ "shell": line }),
    });
    object!({
        "check": finding.check.name(),
        "subject": finding.subject,
        "verdict": finding.verdict.name(),
        "found": finding.found,
        "wanted": finding.wanted,
        "why": finding.why,
        "fix": finding.fix,
        "steps": steps.collect::<Vec<_>>(),
    })
}
