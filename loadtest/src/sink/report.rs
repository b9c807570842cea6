//! The sink's account, as JSON and as a table.

use super::ledger::Ledger;
use crate::measure::{self, Latency, ratio};
use serde::Serialize;
use std::io;

/// What the run came to.
#[derive(Serialize)]
pub(crate) struct Report {
    kind: &'static str,
    connections: u64,
    messages: u64,
    recipients: u64,
    octets: u64,
    runs: usize,
    unidentified: u64,
    expected: Option<u64>,
    lost: u64,
    duplicates: u64,
    dropped: u64,
    recipients_failed: u64,
    recipients_refused: u64,
    bad_commands: u64,
    overtaken_in_session: u64,
    overtaken_of_sender: u64,
    displacement_max: u64,
    seconds: f64,
    messages_per_second: f64,
    cpu_user_seconds: f64,
    cpu_system_seconds: f64,
    cpu_us_per_message: f64,
    latency: Latency,
}

impl Report {
    pub(crate) fn of(ledger: &Ledger, expected: Option<u64>) -> Self {
        let counts = &ledger.counts;
        let seconds = match (ledger.first, ledger.last) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
            _ => 0.0,
        };
        let (user, system) = measure::cpu_seconds();
        Self {
            kind: "sink",
            connections: counts.connections,
            messages: counts.messages,
            recipients: counts.recipients,
            octets: counts.octets,
            runs: ledger.runs(),
            unidentified: counts.unidentified,
            expected,
            lost: ledger.lost(expected),
            duplicates: counts.duplicates,
            dropped: counts.dropped,
            recipients_failed: counts.recipients_failed,
            recipients_refused: counts.recipients_refused,
            bad_commands: counts.bad_commands,
            overtaken_in_session: counts.overtaken_in_session,
            overtaken_of_sender: counts.overtaken_of_sender,
            displacement_max: ledger.displacement_max,
            seconds,
            messages_per_second: ratio(counts.messages as f64, seconds),
            cpu_user_seconds: user,
            cpu_system_seconds: system,
            cpu_us_per_message: ratio((user + system) * 1e6, counts.messages as f64),
            latency: Latency::of(&ledger.latency),
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0
    }

    pub(crate) fn print(&self, out: &mut dyn io::Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let expected = self
            .expected
            .map_or_else(String::new, |expected| format!(" of {expected} expected"));
        let cpu = self.cpu_user_seconds + self.cpu_system_seconds;
        let rows = [
            (
                "messages",
                format!(
                    "{}  ({} recipients{expected}, {} octets)",
                    self.messages, self.recipients, self.octets
                ),
            ),
            ("connections", self.connections.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("without id", self.unidentified.to_string()),
            (
                "made to fail",
                format!(
                    "{} x 451, {} x 550, {} dropped after the dot",
                    self.recipients_failed, self.recipients_refused, self.dropped
                ),
            ),
            (
                "overtaken",
                format!(
                    "{} in their session, {} of their sender, by {} at most",
                    self.overtaken_in_session, self.overtaken_of_sender, self.displacement_max
                ),
            ),
            ("bad commands", self.bad_commands.to_string()),
            (
                "rate",
                format!(
                    "{:.0} messages/s over {:.2} s",
                    self.messages_per_second, self.seconds
                ),
            ),
            ("latency", self.latency.line()),
            (
                "cpu",
                format!("{cpu:.2} s, {:.1} us per message", self.cpu_us_per_message),
            ),
        ];
        measure::write_table(out, &rows)
    }
}
