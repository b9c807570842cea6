//! The source's account: JSON lines while it runs, and the whole as JSON or as a table.

use super::options::Options;
use super::tally::Tally;
use crate::measure::{self, Latency, ratio};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

/// Where the JSON lines go: standard output, a file, the HTML report, as asked. One per run.
pub(crate) struct Lines {
    prints: bool,
    file: Option<BufWriter<File>>,
    kept: Option<Vec<Value>>,
}

impl Lines {
    pub(crate) fn open(options: &Options) -> io::Result<Self> {
        let file = match &options.report {
            Some(path) => Some(BufWriter::new(File::create(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?)),
            None => None,
        };
        Ok(Self {
            prints: options.json,
            file,
            kept: options.html.as_ref().map(|_| Vec::new()),
        })
    }

    pub(crate) fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        if self.prints {
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, line)?;
            writeln!(out)?;
        }
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, line)?;
            writeln!(file)?;
            file.flush()?;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(serde_json::to_value(line)?);
        }
        Ok(())
    }

    /// What was kept for the HTML report.
    pub(crate) fn end(self) -> Vec<Value> {
        self.kept.unwrap_or_default()
    }
}

/// What the run came to.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    kind: &'static str,
    config: Value,
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
    /// How late planned messages started; where it is high, sessions were too few or the source too slow.
    start_lag: Option<Latency>,
    /// Pairs of milliseconds and the share that took no longer.
    transaction_cdf: Vec<(f64, f64)>,
    dot_to_250_cdf: Vec<(f64, f64)>,
}

impl<'a> Report<'a> {
    pub(crate) fn of(
        tally: &'a Tally,
        options: &Options,
        asked: u64,
        interrupted: bool,
        elapsed: Duration,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let (user, system) = measure::cpu_seconds();
        Self {
            kind: "source",
            config: options.summary(),
            asked,
            accepted: tally.accepted,
            recipients_accepted: tally.recipients_accepted,
            recipients_refused: tally.recipients_refused,
            failed: tally.failed,
            unanswered: tally.unanswered,
            not_sent: asked.saturating_sub(tally.accepted + tally.failed + tally.unanswered),
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
            start_lag: options.plan().map(|_| Latency::of(&tally.lag)),
            transaction_cdf: measure::distribution(&tally.transaction),
            dot_to_250_cdf: measure::distribution(&tally.dot),
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.accepted == self.asked && self.recipients_refused == 0
    }

    /// Prints the table.
    pub(crate) fn print(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let note = if self.interrupted {
            "  (interrupted)"
        } else {
            ""
        };
        let cpu = self.cpu_user_seconds + self.cpu_system_seconds;
        let accepted = format!(
            "{} of {} messages, {} recipients{note}",
            self.accepted, self.asked, self.recipients_accepted
        );
        let missing = format!(
            "{} failed, {} unanswered, {} not sent, {} recipients refused",
            self.failed, self.unanswered, self.not_sent, self.recipients_refused
        );
        let rate = format!(
            "{:.0} messages/s over {:.2} s",
            self.messages_per_second, self.seconds
        );
        let mut rows = vec![
            ("accepted", accepted),
            ("not accepted", missing),
            ("connections", self.connections.to_string()),
            ("rate", rate),
            ("dot to 250", self.dot_to_250.line()),
            ("transaction", self.transaction.line()),
        ];
        if let Some(lag) = &self.start_lag {
            rows.push(("start lag", lag.line()));
        }
        rows.push((
            "cpu",
            format!("{cpu:.2} s, {:.1} us per message", self.cpu_us_per_message),
        ));
        for (name, count) in self.errors {
            rows.push(("error", format!("{count} x {name}")));
        }
        measure::write_table(out, &rows)
    }
}
