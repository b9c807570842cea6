//! Metrics of automation.

use metrics::Counter;
use posthaste_core::shaping::Mode;

use super::meters::Register;

/// For automation.
#[derive(Clone, Debug)]
pub struct AutomationMeters {
    /// In the order of [`MODES`].
    matches: [Counter; MODES.len()],
    /// Overrides that rules have set or prolonged.
    pub overrides: Counter,
    /// Matches that found no room to be looked at.
    pub lost: Counter,
}

const MODES: [Mode; 3] = [Mode::Observe, Mode::Advise, Mode::Enforce];

impl AutomationMeters {
    /// A rule of that mode matched.
    pub fn matched(&self, mode: Mode) {
        let counted = MODES.iter().zip(&self.matches);
        for (_, counter) in counted.filter(|(known, _)| **known == mode) {
            counter.increment(1);
        }
    }
}

impl Register {
    pub(super) fn automation(&mut self) -> AutomationMeters {
        AutomationMeters {
            matches: MODES.map(|mode| {
                self.tally(
                    "posthaste_automation_matches_total",
                    "Replies that a rule of automation matched, label mode.",
                    &[("mode", mode.name())],
                )
            }),
            overrides: self.tally(
                "posthaste_automation_overrides_total",
                "Overrides that rules of automation have set or prolonged.",
                &[],
            ),
            lost: self.tally(
                "posthaste_automation_lost_total",
                "Matches of rules that came faster than they could be looked at.",
                &[],
            ),
        }
    }
}
