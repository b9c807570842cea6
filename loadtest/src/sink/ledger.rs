//! What arrived, by run, sequence number and recipient: a bit each. One per sink, shared by its threads.

use crate::measure;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Instant;

/// Bits per run: 128 MiB at most, whatever a stranger's header claims.
const BITS_MAX: u64 = 1 << 30;
/// Runs told apart; mail of further ones counts as unidentified.
const RUNS_MAX: usize = 256;

/// Plain counts of the run.
#[derive(Default, Clone)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
    pub(crate) octets: u64,
    /// Messages without a usable `X-Load-Id`.
    pub(crate) unidentified: u64,
    pub(crate) duplicates: u64,
    pub(crate) dropped: u64,
    pub(crate) recipients_failed: u64,
    pub(crate) recipients_refused: u64,
    pub(crate) bad_commands: u64,
}

/// The identity a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Label {
    pub(crate) run: u64,
    pub(crate) sequence: u64,
    /// Recipients of the whole message, of which a transaction may carry a part.
    pub(crate) fan: u64,
    pub(crate) time_us: Option<u64>,
}

#[derive(Default)]
struct Run {
    bits: Vec<u64>,
    fan: u64,
    highest: u64,
    distinct: u64,
}

/// Everything the sink knows.
pub(crate) struct Ledger {
    pub(crate) counts: Counts,
    pub(crate) latency: Histogram<u64>,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    runs: BTreeMap<u64, Run>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            counts: Counts::default(),
            latency: measure::histogram(),
            first: None,
            last: None,
            runs: BTreeMap::new(),
        }
    }

    /// Takes down one accepted message; `recipients` are the numbers its recipients carry.
    pub(crate) fn accept(&mut self, label: Option<Label>, recipients: &[u32], octets: u64) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.counts.messages += 1;
        self.counts.recipients += recipients.len() as u64;
        self.counts.octets += octets;
        let Some(label) = label.filter(|label| self.admits(label)) else {
            self.counts.unidentified += 1;
            return;
        };
        if let Some(sent) = label.time_us {
            self.latency
                .saturating_record(measure::epoch_us().saturating_sub(sent));
        }
        let run = self.runs.entry(label.run).or_default();
        run.fan = run.fan.max(label.fan);
        run.highest = run.highest.max(label.sequence);
        for recipient in recipients {
            let index = label.sequence * label.fan + u64::from(*recipient) % label.fan;
            let (word, bit) = ((index / 64) as usize, 1_u64 << (index % 64));
            if run.bits.len() <= word {
                run.bits.resize(word + 1, 0);
            }
            if run.bits[word] & bit == 0 {
                run.bits[word] |= bit;
                run.distinct += 1;
            } else {
                self.counts.duplicates += 1;
            }
        }
    }

    /// Different deliveries seen; mail without an id counts as it comes.
    pub(crate) fn distinct(&self) -> u64 {
        self.counts.unidentified + self.runs.values().map(|run| run.distinct).sum::<u64>()
    }

    /// Deliveries missing: gaps below the highest number of each run, or fewer than expected, whichever is more.
    pub(crate) fn lost(&self, expect: Option<u64>) -> u64 {
        let gaps: u64 = self
            .runs
            .values()
            .map(|run| ((run.highest + 1) * run.fan).saturating_sub(run.distinct))
            .sum();
        gaps.max(expect.unwrap_or(0).saturating_sub(self.distinct()))
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    fn admits(&self, label: &Label) -> bool {
        let fits = label
            .sequence
            .checked_add(1)
            .and_then(|count| count.checked_mul(label.fan))
            .is_some_and(|bits| bits <= BITS_MAX);
        fits && label.fan > 0 && (self.runs.len() < RUNS_MAX || self.runs.contains_key(&label.run))
    }
}

/// Reads the label out of a header block; field names match in any case.
pub(crate) fn label(header: &[u8]) -> Option<Label> {
    let mut id = None;
    let mut label = Label {
        run: 0,
        sequence: 0,
        fan: 1,
        time_us: None,
    };
    let mut rest = header;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, next) = rest.split_at(end);
        rest = next;
        if line.len() < 10 || !line[0].eq_ignore_ascii_case(&b'x') {
            continue;
        }
        if let Some(value) = field(line, b"x-load-id:") {
            id = value.split_once('-').and_then(|(run, sequence)| {
                Some((u64::from_str_radix(run, 16).ok()?, sequence.parse().ok()?))
            });
        } else if let Some(value) = field(line, b"x-load-time:") {
            label.time_us = value.parse().ok();
        } else if let Some(value) = field(line, b"x-load-recipients:") {
            label.fan = value.parse().ok()?;
        }
    }
    (label.run, label.sequence) = id?;
    Some(label)
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let (head, value) = line.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name) {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(sequence: u64) -> Option<Label> {
        Some(Label {
            run: 1,
            sequence,
            fan: 1,
            time_us: None,
        })
    }

    #[test]
    fn gaps_and_doubles_are_told() {
        let mut ledger = Ledger::new();
        for sequence in [0, 1, 3, 3] {
            ledger.accept(numbered(sequence), &[0], 10);
        }
        assert_eq!(ledger.counts.duplicates, 1);
        assert_eq!(ledger.lost(None), 1);
        assert_eq!(ledger.lost(Some(10)), 7);
    }

    #[test]
    fn parts_of_one_message_are_no_duplicates() {
        let mut ledger = Ledger::new();
        let label = Some(Label {
            run: 1,
            sequence: 0,
            fan: 3,
            time_us: None,
        });
        ledger.accept(label, &[0, 2], 10);
        assert_eq!(ledger.lost(None), 1);
        ledger.accept(label, &[1], 10);
        assert_eq!((ledger.counts.duplicates, ledger.lost(Some(3))), (0, 0));
    }

    #[test]
    fn absurd_numbers_take_no_memory() {
        let mut ledger = Ledger::new();
        ledger.accept(numbered(u64::MAX), &[0], 10);
        ledger.accept(
            Some(Label {
                run: 1,
                sequence: 1 << 20,
                fan: 1 << 50,
                time_us: None,
            }),
            &[0],
            10,
        );
        assert_eq!((ledger.counts.unidentified, ledger.runs()), (2, 0));
    }

    #[test]
    fn labels_are_found_among_other_fields() {
        let found =
            label(b"Received: by x\r\nx-load-id: 0a-77\r\nSubject: a\r\nX-LOAD-TIME: 5\r\n");
        assert_eq!(
            found,
            Some(Label {
                run: 10,
                sequence: 77,
                fan: 1,
                time_us: Some(5)
            })
        );
        assert_eq!(label(b"X-Load-Id: zz\r\n"), None);
        assert_eq!(label(b""), None);
    }
}
