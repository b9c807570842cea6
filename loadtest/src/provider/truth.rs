//! What the sender cannot see: capacity, goodput against it, time above it, and why each reply was given. Counts; decides nothing.

use super::class::Class;
use crate::measure::{self, ratio};
use posthaste_core::words::Moment;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Days of which a row is kept.
const DAYS_MAX: usize = 400;
const DAY: Duration = Duration::from_secs(86_400);

/// Running counts of one brain.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) secured: u64,
    pub(super) messages: u64,
    pub(super) recipients: u64,
    pub(super) reset: u64,
    pub(super) reset_taken: u64,
    pub(super) silent: u64,
    pub(super) boxed: u64,
    pub(super) extensions: u64,
    pub(super) blocks: u64,
    pub(super) complaints: u64,
    pub(super) bounces: u64,
    deferred: [u64; Class::ALL.len()],
    refused: [u64; Class::ALL.len()],
    day: Moment,
    pub(super) days: Vec<Day>,
    today: Day,
}

/// One simulated day.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Day {
    pub accepted: u64,
    pub deferred: u64,
    pub refused: u64,
    /// Messages a day that the least of the hidden capacities was good for at the end of the day; nothing where there is none.
    pub capacity: Option<f64>,
    /// The lowest of their means over senders.
    pub reputation: Option<f64>,
}

impl Counts {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            connections: 0,
            secured: 0,
            messages: 0,
            recipients: 0,
            reset: 0,
            reset_taken: 0,
            silent: 0,
            boxed: 0,
            extensions: 0,
            blocks: 0,
            complaints: 0,
            bounces: 0,
            deferred: [0; Class::ALL.len()],
            refused: [0; Class::ALL.len()],
            day: now,
            days: Vec::new(),
            today: Day::default(),
        }
    }

    pub(super) fn accept(&mut self, recipients: u64) {
        self.messages += 1;
        self.recipients += recipients;
        self.today.accepted += 1;
    }

    pub(super) fn reject(&mut self, class: Class, code: u16) {
        if code >= 500 {
            self.refused[class as usize] += 1;
            self.today.refused += 1;
        } else {
            self.deferred[class as usize] += 1;
            self.today.deferred += 1;
        }
    }

    /// Whether the day is over, so that its row is to be closed.
    pub(super) fn is_day_over(&self, now: Moment) -> bool {
        now.since(self.day) >= DAY
    }

    pub(super) fn close_day(&mut self, hidden: &[Hidden]) {
        let mut today = std::mem::take(&mut self.today);
        let used = || hidden.iter().filter(|one| one.senders > 0);
        let rates = used().map(|one| one.capacity_per_second);
        today.capacity = rates.reduce(f64::min).map(|rate| rate * DAY.as_secs_f64());
        today.reputation = used().map(|one| one.reputation).reduce(f64::min);
        if self.days.len() < DAYS_MAX {
            self.days.push(today);
        }
        self.day = self.day + DAY;
    }

    pub(super) fn verdicts(&self) -> u64 {
        let rejected = self.deferred.iter().chain(&self.refused);
        rejected.sum::<u64>() + self.messages + self.silent
    }

    fn by_class(counts: &[u64]) -> BTreeMap<&'static str, u64> {
        Class::ALL
            .iter()
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(class, count)| (class.name(), *count))
            .collect()
    }
}

/// One hidden capacity, over all who sent against it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hidden {
    /// What has a standing of its own: `ip`, `net`, `domain` or `site`.
    pub per: &'static str,
    /// How many of them sent.
    pub senders: u64,
    /// Messages it would have let through since each was first seen, had each always asked.
    pub capacity: f64,
    pub goodput_over_capacity: f64,
    /// Messages per second, at the end.
    pub capacity_per_second: f64,
    /// Summed over senders, by the minute.
    pub seconds_above_capacity: f64,
    /// Means over senders, at the end.
    pub reputation: f64,
    pub warmth: f64,
}

/// The account of one provider.
#[derive(Clone, Debug, Serialize)]
pub struct Truth {
    pub kind: &'static str,
    pub provider: String,
    /// Since the start.
    pub seconds: f64,
    pub connections: u64,
    /// Those that went on in TLS.
    pub secured: u64,
    /// Most at once from one address.
    pub connections_max: u32,
    pub accepted: u64,
    pub recipients_accepted: u64,
    pub deferred: BTreeMap<&'static str, u64>,
    pub refused: BTreeMap<&'static str, u64>,
    /// Deferrals by all verdicts.
    pub deferral_share: f64,
    /// Connections reset after the dot, and how many of those messages were taken all the same.
    pub reset_after_dot: u64,
    pub reset_but_taken: u64,
    /// Final replies that never came.
    pub silent: u64,
    /// Of the hidden capacity that goodput used most of, as in `capacities`; nothing where there is none.
    pub capacity: Option<f64>,
    pub goodput_over_capacity: Option<f64>,
    pub capacity_per_second: Option<f64>,
    pub seconds_above_capacity: Option<f64>,
    pub reputation: Option<f64>,
    pub warmth: Option<f64>,
    /// All of them, in the profile's order.
    pub capacities: Vec<Hidden>,
    pub penalty_boxes: u64,
    pub penalty_extensions: u64,
    pub blocks: u64,
    pub complaints: u64,
    pub complaint_rate: f64,
    pub bounces: u64,
    pub days: Vec<Day>,
}

impl Truth {
    pub(super) fn of(
        provider: &str,
        counts: &Counts,
        capacities: Vec<Hidden>,
        connections_max: u32,
        age: Duration,
    ) -> Self {
        let deferrals: u64 = counts.deferred.iter().sum();
        let hidden = capacities.iter().reduce(fuller);
        Self {
            kind: "provider",
            provider: provider.to_owned(),
            seconds: age.as_secs_f64(),
            connections: counts.connections,
            secured: counts.secured,
            connections_max,
            accepted: counts.messages,
            recipients_accepted: counts.recipients,
            deferred: Counts::by_class(&counts.deferred),
            refused: Counts::by_class(&counts.refused),
            deferral_share: ratio(deferrals as f64, counts.verdicts() as f64),
            reset_after_dot: counts.reset,
            reset_but_taken: counts.reset_taken,
            silent: counts.silent,
            capacity: hidden.map(|hidden| hidden.capacity),
            goodput_over_capacity: hidden.map(|hidden| hidden.goodput_over_capacity),
            capacity_per_second: hidden.map(|hidden| hidden.capacity_per_second),
            seconds_above_capacity: hidden.map(|hidden| hidden.seconds_above_capacity),
            reputation: hidden.map(|hidden| hidden.reputation),
            warmth: hidden.map(|hidden| hidden.warmth),
            capacities,
            penalty_boxes: counts.boxed,
            penalty_extensions: counts.extensions,
            blocks: counts.blocks,
            complaints: counts.complaints,
            complaint_rate: ratio(counts.complaints as f64, counts.messages as f64),
            bounces: counts.bounces,
            days: counts.days.clone(),
        }
    }

    /// Deferrals of one class.
    pub fn deferred(&self, class: Class) -> u64 {
        self.deferred.get(class.name()).copied().unwrap_or(0)
    }

    /// Refusals of one class.
    pub fn refused(&self, class: Class) -> u64 {
        self.refused.get(class.name()).copied().unwrap_or(0)
    }

    pub(crate) fn print(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut rows = vec![
            ("provider", self.provider.clone()),
            (
                "accepted",
                format!(
                    "{} messages, {} recipients, over {:.0} s",
                    self.accepted, self.recipients_accepted, self.seconds
                ),
            ),
            (
                "connections",
                format!(
                    "{}, {} in TLS, at most {} from one address",
                    self.connections, self.secured, self.connections_max
                ),
            ),
        ];
        rows.extend(self.hidden_rows());
        rows.push((
            "deferral share",
            format!("{:.1} %", self.deferral_share * 100.0),
        ));
        rows.push((
            "penalties",
            format!(
                "{} boxes, {} extensions, {} blocks",
                self.penalty_boxes, self.penalty_extensions, self.blocks
            ),
        ));
        rows.push((
            "sent back",
            format!(
                "{} complaints ({:.3} %), {} bounces",
                self.complaints,
                self.complaint_rate * 100.0,
                self.bounces
            ),
        ));
        rows.push((
            "after the dot",
            format!(
                "{} reset ({} of them taken), {} never answered",
                self.reset_after_dot, self.reset_but_taken, self.silent
            ),
        ));
        let by_class = |counts: &BTreeMap<&'static str, u64>| -> Vec<_> {
            counts
                .iter()
                .map(|(class, count)| format!("{count} x {class}"))
                .collect()
        };
        rows.extend(
            by_class(&self.deferred)
                .into_iter()
                .map(|row| ("deferred", row)),
        );
        rows.extend(
            by_class(&self.refused)
                .into_iter()
                .map(|row| ("refused", row)),
        );
        measure::write_table(out, &rows)
    }

    fn hidden_rows(&self) -> Vec<(&'static str, String)> {
        if self.capacities.is_empty() {
            return vec![("hidden capacity", "none: no limit by standing".to_owned())];
        }
        self.capacities.iter().flat_map(Hidden::rows).collect()
    }
}

/// The first of them, where neither was used more.
fn fuller<'a>(one: &'a Hidden, other: &'a Hidden) -> &'a Hidden {
    if other.goodput_over_capacity > one.goodput_over_capacity {
        other
    } else {
        one
    }
}

impl Hidden {
    fn rows(&self) -> [(&'static str, String); 4] {
        [
            (
                "hidden capacity",
                format!(
                    "per {} ({}): {:.0} messages, {:.3}/s at the end",
                    self.per, self.senders, self.capacity, self.capacity_per_second
                ),
            ),
            (
                "goodput / capacity",
                format!("{:.3}", self.goodput_over_capacity),
            ),
            (
                "above capacity",
                format!("{:.0} s", self.seconds_above_capacity),
            ),
            (
                "standing",
                format!(
                    "reputation {:.2}, warmth {:.2}",
                    self.reputation, self.warmth
                ),
            ),
        ]
    }
}

#[cfg(test)]
#[path = "truth_tests.rs"]
mod tests;
