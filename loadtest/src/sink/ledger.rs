//! What arrived, by run, sequence number and recipient: a bit each. One per sink, shared by its threads.

use crate::measure;
use crate::quantity::scatter;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

/// Bits per run: 128 MiB at most, whatever a stranger's header claims.
const BITS_MAX: u64 = 1 << 30;
/// Runs told apart; mail of further ones counts as unidentified.
const RUNS_MAX: usize = 256;
/// Senders told apart; the order of further ones is not looked at.
const SENDERS_MAX: usize = 1 << 20;

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
    /// Messages whose session had brought a later one of their run before.
    pub(crate) overtaken_in_session: u64,
    /// Messages before which a later one of the same sender and run had come, over any session.
    pub(crate) overtaken_of_sender: u64,
}

impl Counts {
    /// What threads count by themselves.
    fn is_empty(&self) -> bool {
        let counts = self.connections
            + self.dropped
            + self.recipients_failed
            + self.recipients_refused
            + self.bad_commands
            + self.overtaken_in_session;
        counts == 0
    }

    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.dropped += other.dropped;
        self.recipients_failed += other.recipients_failed;
        self.recipients_refused += other.recipients_refused;
        self.bad_commands += other.bad_commands;
        self.overtaken_in_session += other.overtaken_in_session;
    }
}

/// One message, as a thread hands it over.
pub(crate) struct Arrival {
    pub(crate) label: Option<Label>,
    /// Of the sender's path.
    pub(crate) sender: u64,
    /// How many of the batch's recipients are its own, in turn.
    pub(crate) recipients: usize,
    pub(crate) octets: u64,
    /// Microseconds since the epoch.
    pub(crate) at_us: u64,
}

/// What one thread has taken since it last held the ledger, so that it holds it once a turn, not once a message.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) arrivals: Vec<Arrival>,
    /// The numbers of all their recipients.
    pub(crate) recipients: Vec<u32>,
    pub(crate) counts: Counts,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.counts.is_empty()
    }
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

/// Takes a key as it is: `scatter` has mixed it.
#[derive(Default)]
struct Scattered(u64);

impl Hasher for Scattered {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Everything the sink knows.
pub(crate) struct Ledger {
    pub(crate) counts: Counts,
    pub(crate) latency: Histogram<u64>,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    /// The most messages that one was overtaken by, as far as their numbers tell.
    pub(crate) displacement_max: u64,
    runs: BTreeMap<u64, Run>,
    /// The highest number of each sender and run, and when it came.
    senders: HashMap<u64, (u64, u64), BuildHasherDefault<Scattered>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            counts: Counts::default(),
            latency: measure::histogram(),
            first: None,
            last: None,
            displacement_max: 0,
            runs: BTreeMap::new(),
            senders: HashMap::default(),
        }
    }

    /// Takes down a batch and leaves it empty.
    pub(crate) fn book(&mut self, batch: &mut Batch) {
        self.counts.add(&batch.counts);
        batch.counts = Counts::default();
        let mut recipients = &batch.recipients[..];
        if !batch.arrivals.is_empty() {
            let now = *self.last.insert(Instant::now());
            self.first.get_or_insert(now);
        }
        for arrival in batch.arrivals.drain(..) {
            let (own, others) = recipients.split_at(arrival.recipients);
            self.accept(&arrival, own);
            recipients = others;
        }
        batch.recipients.clear();
    }

    /// Takes down one accepted message; `recipients` are the numbers its recipients carry.
    pub(crate) fn accept(&mut self, arrival: &Arrival, recipients: &[u32]) {
        self.counts.messages += 1;
        self.counts.recipients += recipients.len() as u64;
        self.counts.octets += arrival.octets;
        let Some(label) = arrival.label.filter(|label| self.admits(label)) else {
            self.counts.unidentified += 1;
            return;
        };
        if let Some(sent) = label.time_us {
            self.latency
                .saturating_record(arrival.at_us.saturating_sub(sent));
        }
        self.order(label, arrival);
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

    fn order(&mut self, label: Label, arrival: &Arrival) {
        let key = scatter(label.run, arrival.sender);
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&key) {
            return;
        }
        let highest = self.senders.entry(key).or_default();
        let here = (label.sequence, arrival.at_us);
        if label.sequence >= highest.0 {
            *highest = here;
        } else if arrival.at_us > highest.1 {
            // Threads hand over in turns: only what came later was overtaken.
            self.counts.overtaken_of_sender += 1;
            self.displacement_max = self.displacement_max.max(highest.0 - label.sequence);
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

    fn accept(ledger: &mut Ledger, label: Option<Label>, recipients: &[u32]) {
        let mut batch = Batch {
            recipients: recipients.to_vec(),
            ..Batch::default()
        };
        batch.arrivals.push(Arrival {
            label,
            sender: 1,
            recipients: recipients.len(),
            octets: 10,
            at_us: ledger.counts.messages,
        });
        ledger.book(&mut batch);
        assert!(batch.is_empty() && batch.recipients.is_empty());
    }

    #[test]
    fn what_was_overtaken_is_told_by_sender() {
        let mut ledger = Ledger::new();
        let mut batch = Batch::default();
        for (sender, sequence, at_us) in [
            (1, 0, 10),
            (1, 5, 20),
            (2, 3, 30),
            (1, 4, 40),
            (1, 2, 50),
            (1, 6, 60),
            // Handed over late, but it came before 6 did.
            (1, 1, 15),
        ] {
            batch.recipients.push(0);
            batch.arrivals.push(Arrival {
                label: numbered(sequence),
                sender,
                recipients: 1,
                octets: 1,
                at_us,
            });
        }
        ledger.book(&mut batch);
        assert_eq!(ledger.counts.overtaken_of_sender, 2);
        assert_eq!(ledger.displacement_max, 3);
        assert_eq!(ledger.counts.duplicates, 0);
    }

    #[test]
    fn gaps_and_doubles_are_told() {
        let mut ledger = Ledger::new();
        for sequence in [0, 1, 3, 3] {
            accept(&mut ledger, numbered(sequence), &[0]);
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
        accept(&mut ledger, label, &[0, 2]);
        assert_eq!(ledger.lost(None), 1);
        accept(&mut ledger, label, &[1]);
        assert_eq!((ledger.counts.duplicates, ledger.lost(Some(3))), (0, 0));
    }

    #[test]
    fn absurd_numbers_take_no_memory() {
        let mut ledger = Ledger::new();
        accept(&mut ledger, numbered(u64::MAX), &[0]);
        accept(&mut ledger, numbered(BITS_MAX), &[0]);
        accept(
            &mut ledger,
            Some(Label {
                run: 1,
                sequence: 1 << 20,
                fan: 1 << 50,
                time_us: None,
            }),
            &[0],
        );
        assert_eq!((ledger.counts.unidentified, ledger.runs()), (3, 0));
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
