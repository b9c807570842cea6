//! What a check found, and all of it together.

use crate::check::Check;
use crate::host::Place;

/// How well it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// Cannot be seen from here, was not to be measured, or is another's to decide.
    Unknown,
    /// It runs, slower or less safely than it could.
    Warn,
    /// The node does not start, or mail cannot leave.
    Fatal,
}

impl Verdict {
    /// As tables and JSON name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fatal => "fatal",
        }
    }
}

/// One step of a fix, for the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `key = value`, for sysctl.d(5).
    Sysctl(String),
    /// `Key=value`, for the `[Service]` section of the unit.
    Unit(String),
    /// A line of shell. Its effect lasts until the next boot.
    Shell(String),
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    /// Which of several: an address, a card, a directory.
    pub subject: Option<String>,
    pub verdict: Verdict,
    pub found: String,
    pub wanted: String,
    pub why: String,
    pub fix: String,
    /// Empty when all is well or only a person can do it.
    pub steps: Vec<Step>,
}

/// What the start-up check of the node itself refuses, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub check: Check,
    pub subject: Option<String>,
    /// In place of what was read from files; empty keeps that.
    pub found: String,
    /// The trouble in the first line, what to do about it in the others.
    pub said: String,
    /// The status with which the node ends.
    pub exit: u8,
}

impl Refusal {
    /// The trouble, and what to do about it; the latter may be empty.
    pub(crate) fn parts(&self) -> (String, String) {
        let mut lines = self.said.lines().map(str::trim);
        let trouble = lines.next().unwrap_or_default().to_owned();
        (trouble, lines.collect::<Vec<_>>().join(" "))
    }
}

/// All findings of one host.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the profile that was held against the host.
    pub profile: String,
    /// Where it seems to run, whatever profile was asked for.
    pub place: Place,
    pub hostname: String,
    pub release: String,
    /// In the order of [`Check::ALL`].
    pub findings: Vec<Finding>,
    /// The status of the first refusal.
    pub(crate) refused: Option<u8>,
}

impl Report {
    pub fn count(&self, verdict: Verdict) -> usize {
        let same = |finding: &&Finding| finding.verdict == verdict;
        self.findings.iter().filter(same).count()
    }

    /// 0 without a fatal finding, else the status of the first refusal; with `strict`, warnings
    /// are 1.
    pub fn exit(&self, strict: bool) -> u8 {
        match self.refused {
            Some(exit) => exit,
            None if strict && self.count(Verdict::Warn) > 0 => 1,
            None => 0,
        }
    }
}
