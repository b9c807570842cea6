//! The committer: gathers what all shards submit, writes one batch, syncs once, answers. It never
//! waits for company, and never for the log. One thread per spool.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use posthaste_core::words::{Change, Message, MessageId};

use super::codec;
use super::counts::{Counts, Verdict};
use super::events::{Event, write_cursor};
use super::handle::{Answers, Batch, Failed, Health, Order, Shared};
use super::store::{Rows, Store, StoreError, Table};

/// Messages stored in one commit: more only make each wait longer.
const GROUP_MESSAGES_MAX: usize = 128;
/// Octets of message data in one commit, give or take the last message.
const GROUP_OCTETS_MAX: usize = 1 << 20;
/// Batches in one commit, whatever they hold.
const GROUP_BATCHES_MAX: usize = 1024;
/// How long the thread sleeps when nothing is submitted.
const IDLE: Duration = Duration::from_secs(1);
/// How often a full disk is tried again, and free space is looked at.
const SPACE_EVERY: Duration = Duration::from_millis(100);
/// How often passed events are dropped: each drop is a range for the store to remember.
const CURSOR_EVERY: Duration = Duration::from_millis(100);
/// How long a stop waits for a full disk before it leaves the rest undone.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What the committer is made of.
pub(super) struct Parts {
    pub(super) orders: Receiver<Order>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<dyn Store>,
    pub(super) sync: bool,
    pub(super) free_octets_min: u64,
    /// Batches kept while the disk is full.
    pub(super) kept_max: usize,
    pub(super) counts: Counts,
    pub(super) answers: Answers,
    pub(super) events: Sender<Vec<Event>>,
    /// The durable event cursor.
    pub(super) passed: u64,
}

pub(super) struct Committer {
    parts: Parts,
    rows: Box<dyn Rows>,
    scratch: Vec<u8>,
    /// What is committed next.
    group: Vec<Batch>,
    /// What waits for space, in order; everything submitted later goes behind it.
    kept: VecDeque<Batch>,
    /// The number of the next event.
    sequence: u64,
    passed: u64,
    passed_at: Instant,
    /// The log has asked for its cursor to be written.
    cursor_asked: bool,
    /// Less is free than the operator wants.
    low: bool,
    low_at: Option<Instant>,
    /// The last write found no space.
    no_space: bool,
    poisoned: bool,
    stopping: bool,
}

impl Committer {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            rows: Arc::clone(&parts.store).rows(),
            scratch: Vec::new(),
            group: Vec::with_capacity(GROUP_BATCHES_MAX),
            kept: VecDeque::new(),
            sequence: parts.shared.last_event.load(Ordering::Acquire) + 1,
            passed: parts.passed,
            passed_at: Instant::now(),
            cursor_asked: false,
            low: false,
            low_at: None,
            no_space: false,
            poisoned: false,
            stopping: false,
            parts,
        }
    }

    /// Runs until [`Order::Stop`], then commits what is queued and makes the store ready to be
    /// closed.
    pub(super) fn run(mut self) {
        while !self.stopping {
            self.turn();
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while !(self.kept.is_empty() && self.parts.orders.is_empty()) && Instant::now() < deadline {
            self.turn();
        }
        for batch in core::mem::take(&mut self.kept) {
            self.parts.answers.answer(&batch, Err(Failed::Full));
        }
        self.parts.answers.flush();
        if !self.poisoned {
            // If this fails the log still has everything, and the next start reads it.
            let _ = self.parts.store.flush();
        }
    }

    fn turn(&mut self) {
        self.gather();
        self.look_at_space();
        self.refuse();
        let probes = self.no_space && !self.poisoned;
        if !self.group.is_empty() || self.cursor_due().is_some() || probes {
            self.commit();
        }
        self.parts.answers.flush();
        self.tell_health();
    }

    /// Fills the group: with what was kept, or else with what is there, waiting only for the first.
    fn gather(&mut self) {
        if self.no_space {
            self.wait_for_space();
        }
        let (mut messages, mut octets) = (0, 0);
        let mut room = |batch: &Batch| {
            let weight = batch.weight();
            messages += weight.0;
            octets += weight.1;
            messages < GROUP_MESSAGES_MAX && octets < GROUP_OCTETS_MAX
        };
        while let Some(batch) = self.kept.pop_front() {
            let goes_on = room(&batch);
            self.group.push(batch);
            if !goes_on || self.group.len() == GROUP_BATCHES_MAX {
                return;
            }
        }
        if self.no_space {
            return;
        }
        let mut order = if self.group.is_empty() && !self.stopping {
            let patience = if self.low { SPACE_EVERY } else { IDLE };
            self.parts.orders.recv_timeout(patience).ok()
        } else {
            self.parts.orders.try_recv().ok()
        };
        while let Some(taken) = order {
            let batch = match taken {
                Order::Batch(batch) => batch,
                Order::Cursor => {
                    self.cursor_asked = true;
                    order = self.parts.orders.try_recv().ok();
                    continue;
                }
                Order::Stop => {
                    self.stopping = true;
                    return;
                }
            };
            let goes_on = room(&batch);
            self.group.push(batch);
            if !goes_on || self.group.len() == GROUP_BATCHES_MAX {
                return;
            }
            order = self.parts.orders.try_recv().ok();
        }
    }

    /// Lets some time pass. Who can be refused is refused meanwhile, all else is kept; when no more
    /// can be kept the queue fills, and the shards hear of it there.
    fn wait_for_space(&mut self) {
        let deadline = Instant::now() + SPACE_EVERY;
        while self.kept.len() < self.parts.kept_max {
            match self.parts.orders.recv_deadline(deadline) {
                Ok(Order::Batch(batch)) if batch.is_refusable() => {
                    self.parts.answers.answer(&batch, Err(Failed::Full));
                    if self.parts.orders.is_empty() {
                        self.parts.answers.flush();
                    }
                }
                Ok(Order::Batch(batch)) => self.kept.push_back(batch),
                Ok(Order::Cursor) => self.cursor_asked = true,
                Ok(Order::Stop) => {
                    self.stopping = true;
                    return;
                }
                Err(_) => break,
            }
        }
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }

    fn look_at_space(&mut self) {
        let now = Instant::now();
        let fresh = |at: Instant| now.duration_since(at) < SPACE_EVERY;
        if self.parts.free_octets_min == 0 || self.low_at.is_some_and(fresh) {
            return;
        }
        self.low_at = Some(now);
        let free = self.parts.store.free_octets();
        self.parts.shared.tell_free(free);
        self.low = free.is_some_and(|free| free < self.parts.free_octets_min);
    }

    /// Answers those of the group that cannot be committed, and takes them out.
    fn refuse(&mut self) {
        if !self.poisoned && !self.low && !self.no_space {
            return;
        }
        let (poisoned, answers) = (self.poisoned, &mut self.parts.answers);
        self.group.retain(|batch| {
            let verdict = if poisoned {
                Err(Failed::Poisoned)
            } else if batch.is_refusable() {
                Err(Failed::Full)
            } else {
                return true;
            };
            answers.answer(batch, verdict);
            false
        });
    }

    fn commit(&mut self) {
        let first = self.sequence;
        for batch in &self.group {
            for change in &batch.changes {
                let rows = &mut *self.rows;
                match change {
                    Change::Store(message) => {
                        store(message, rows, &mut self.parts.counts, &mut self.scratch);
                    }
                    Change::Defer {
                        id,
                        recipient,
                        state,
                    } => {
                        if !self.parts.counts.is_settled(*id, *recipient) {
                            codec::write_state(state, &mut self.scratch);
                            let key = codec::state_key(*id, *recipient);
                            rows.put(Table::States, &key, &self.scratch);
                        }
                    }
                    Change::Settle {
                        id,
                        recipient,
                        of,
                        deferred_before,
                    } => {
                        let verdict = self.parts.counts.settle(*id, *recipient, *of);
                        settle(*id, *recipient, *of, *deferred_before, verdict, rows);
                    }
                    Change::Append(line) => {
                        rows.put(Table::Events, &self.sequence.to_be_bytes(), line);
                        self.sequence += 1;
                    }
                }
            }
        }
        let passed = self.cursor_due();
        if let Some(passed) = passed {
            write_cursor(self.passed, passed, &mut *self.rows);
        }
        match self.rows.write(self.parts.sync) {
            Ok(()) => self.committed(first, passed),
            Err(StoreError::NoSpace) => self.keep(first),
            Err(StoreError::Broken(detail)) => self.poison(detail),
        }
    }

    /// The cursor to be written with the next commit, if it is worth one.
    fn cursor_due(&self) -> Option<u64> {
        let due = self.stopping || self.cursor_asked || self.passed_at.elapsed() >= CURSOR_EVERY;
        // Whatever a log claims, events that are not committed yet cannot have been passed.
        let last = self.parts.shared.last_event.load(Ordering::Relaxed);
        let passed = self.parts.shared.passed.load(Ordering::Acquire).min(last);
        (due && passed > self.passed && !self.poisoned).then_some(passed)
    }

    fn committed(&mut self, first: u64, passed: Option<u64>) {
        self.no_space = false;
        self.parts.counts.confirm();
        if let Some(passed) = passed {
            self.passed = passed;
            self.passed_at = Instant::now();
            self.cursor_asked = false;
            self.parts.shared.cursor.store(passed, Ordering::Release);
        }
        let last = self.sequence - 1;
        self.parts.shared.last_event.store(last, Ordering::Release);
        self.parts.shared.commits.fetch_add(1, Ordering::Relaxed);
        for batch in &self.group {
            self.parts.answers.answer(batch, Ok(()));
        }
        self.parts.answers.flush();
        if self.sequence > first && !self.parts.events.is_full() {
            let lines = self.group.drain(..).flat_map(|batch| batch.changes);
            let lines = lines.filter_map(|change| match change {
                Change::Append(line) => Some(line),
                Change::Store(_) | Change::Defer { .. } | Change::Settle { .. } => None,
            });
            let events = (first..).zip(lines);
            let events = events.map(|(sequence, line)| Event { sequence, line });
            // If it is full or gone by now, the rows are still there to be read.
            let _ = self.parts.events.try_send(events.collect());
        }
        self.group.clear();
    }

    fn keep(&mut self, first: u64) {
        self.no_space = true;
        self.sequence = first;
        self.parts.counts.undo();
        self.refuse();
        while let Some(batch) = self.group.pop() {
            self.kept.push_front(batch);
        }
    }

    /// A sync that failed may have dropped what it should have written, and a second one would not
    /// tell: nothing that is written from now on can be trusted.
    fn poison(&mut self, detail: Box<str>) {
        self.poisoned = true;
        self.no_space = false;
        // Only the first fault is told, and there is only one.
        let _ = self.parts.shared.fault.set(detail);
        self.parts.counts.confirm();
        self.refuse();
        for batch in core::mem::take(&mut self.kept) {
            self.parts.answers.answer(&batch, Err(Failed::Poisoned));
        }
    }

    fn tell_health(&self) {
        let health = match (self.poisoned, self.low || self.no_space) {
            (true, _) => Health::Poisoned,
            (false, true) => Health::Full,
            (false, false) => Health::Good,
        };
        self.parts.shared.set_health(health);
    }
}

fn store(message: &Message, rows: &mut dyn Rows, counts: &mut Counts, scratch: &mut Vec<u8>) {
    let key = message.id.to_bytes();
    rows.put(Table::Bodies, &key, &message.data);
    codec::write_envelope(message, scratch);
    rows.put(Table::Envelopes, &key, scratch);
    let of = u16::try_from(message.envelope.recipients.len());
    counts.store(
        message.id,
        of.expect("an envelope has at most 65,535 recipients"),
    );
}

fn settle(
    id: MessageId,
    recipient: u16,
    of: u16,
    deferred_before: bool,
    verdict: Verdict,
    rows: &mut dyn Rows,
) {
    match verdict {
        Verdict::Again => {}
        Verdict::Marked => {
            let key = codec::state_key(id, recipient);
            rows.put(Table::States, &key, codec::SETTLED);
        }
        Verdict::Last => {
            rows.delete_once(Table::Bodies, &id.to_bytes());
            rows.delete_once(Table::Envelopes, &id.to_bytes());
            for other in 0..of.max(1) {
                if of > 1 || deferred_before {
                    rows.delete(Table::States, &codec::state_key(id, other));
                }
            }
        }
    }
}
