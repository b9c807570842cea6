//! The source's account, as JSON and as a table.

use super::options::Options;
use super::tally::Tally;
use crate::measure::{self, Latency, ratio};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// What the run came to.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    kind: &'static str,
    asked: u64,
    accepted: u64,
    recipients_accepted: u64,
    recipients_refused: u64,
    failed: u64,
    unanswered: u64,
    not_sent: u64,
    interrupted: bool,
    connections: u64,
    octets: u64,
    seconds: f64,
    messages_per_second: f64,
    cpu_user_seconds: f64,
    cpu_system_seconds: f64,
    cpu_us_per_message: f64,
    errors: &'a BTreeMap<String, u64>,
    dot_to_250: Latency,
    transaction: Latency,
}

impl<'a> Report<'a> {
    pub(crate) fn of(
        tally: &'a Tally,
        options: &Options,
        interrupted: bool,
        started: Instant,
    ) -> Self {
        let seconds = started.elapsed().as_secs_f64();
        let (user, system) = measure::cpu_seconds();
        Self {
            kind: "source",
            asked: options.messages,
            accepted: tally.accepted,
            recipients_accepted: tally.recipients_accepted,
            recipients_refused: tally.recipients_refused,
            failed: tally.failed,
            unanswered: tally.unanswered,
            not_sent: options
                .messages
                .saturating_sub(tally.accepted + tally.failed + tally.unanswered),
            interrupted,
            connections: tally.connections,
            octets: tally.octets,
            seconds,
            messages_per_second: ratio(tally.accepted as f64, seconds),
            cpu_user_seconds: user,
            cpu_system_seconds: system,
            cpu_us_per_message: ratio((user + system) * 1e6, tally.accepted as f64),
            errors: &tally.errors,
            dot_to_250: Latency::of(&tally.dot),
            transaction: Latency::of(&tally.transaction),
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.accepted == self.asked && self.recipients_refused == 0
    }

    pub(crate) fn print(&self, out: &mut dyn io::Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let note = if self.interrupted {
            "  (interrupted)"
        } else {
            ""
        };
        let cpu = self.cpu_user_seconds + self.cpu_system_seconds;
        let mut rows = vec![
            (
                "accepted",
                format!(
                    "{} of {} messages, {} recipients{note}",
                    self.accepted, self.asked, self.recipients_accepted
                ),
            ),
            (
                "not accepted",
                format!(
                    "{} failed, {} unanswered, {} not sent, {} recipients refused",
                    self.failed, self.unanswered, self.not_sent, self.recipients_refused
                ),
            ),
            ("connections", self.connections.to_string()),
            (
                "rate",
                format!(
                    "{:.0} messages/s over {:.2} s",
                    self.messages_per_second, self.seconds
                ),
            ),
            ("dot to 250", self.dot_to_250.line()),
            ("transaction", self.transaction.line()),
            (
                "cpu",
                format!("{cpu:.2} s, {:.1} us per message", self.cpu_us_per_message),
            ),
        ];
        for (name, count) in self.errors {
            rows.push(("error", format!("{count} x {name}")));
        }
        measure::write_table(out, &rows)
    }
}
