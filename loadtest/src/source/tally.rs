//! What a thread of the source counted in one interval; tallies add up.

use crate::measure;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Different errors told apart; further ones are counted together.
const ERRORS_MAX: usize = 200;

/// Counts and latencies. One per thread and interval.
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) failed: u64,
    /// Last octet sent, connection lost before the answer: the server may or may not have the message.
    pub(crate) unanswered: u64,
    pub(crate) octets: u64,
    pub(crate) connections: u64,
    pub(crate) recipients_accepted: u64,
    /// Of messages that were taken for others, too.
    pub(crate) recipients_refused: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// From the message's last octet to its answer.
    pub(crate) dot: Histogram<u64>,
    /// From the intended start to the answer.
    pub(crate) transaction: Histogram<u64>,
    /// From the intended start to the actual one, where arrivals are planned.
    pub(crate) lag: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            accepted: 0,
            failed: 0,
            unanswered: 0,
            octets: 0,
            connections: 0,
            recipients_accepted: 0,
            recipients_refused: 0,
            errors: BTreeMap::new(),
            dot: measure::histogram(),
            transaction: measure::histogram(),
            lag: measure::histogram(),
        }
    }

    pub(crate) fn error(&mut self, name: &str) {
        self.errors_of(name, 1);
    }

    fn errors_of(&mut self, name: &str, count: u64) {
        if let Some(known) = self.errors.get_mut(name) {
            *known += count;
            return;
        }
        let name = if self.errors.len() < ERRORS_MAX {
            name
        } else {
            "others"
        };
        *self.errors.entry(name.to_owned()).or_default() += count;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        self.octets += other.octets;
        self.connections += other.connections;
        self.recipients_accepted += other.recipients_accepted;
        self.recipients_refused += other.recipients_refused;
        for (name, count) in &other.errors {
            self.errors_of(name, *count);
        }
        self.dot += &other.dot;
        self.transaction += &other.transaction;
        self.lag += &other.lag;
    }
}
