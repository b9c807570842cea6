//! A model of the spool: batches become durable in order, or fail as a whole. `tests/crash/model.rs` holds
//! it to the real one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use posthaste_core::words::{
    Change, Message, MessageId, Moment, RecipientState, Recovered, RecoveredRecipient,
};
use serde_json::Value;

use crate::ledger::Ledger;

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
    settled: BTreeSet<u16>,
    states: BTreeMap<u16, RecipientState>,
}

/// Who asked, and wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Intake { shard: usize },
    Outcome { shard: usize },
    Report { shard: usize, token: u32 },
}

#[derive(Debug)]
pub struct Batch {
    pub from: From,
    pub changes: Vec<Change>,
}

#[derive(Debug, Default)]
pub struct Spool {
    pub(crate) messages: BTreeMap<MessageId, Stored>,
    pending: VecDeque<Batch>,
    /// The disk has no room for messages: less is free than there is to be.
    pub is_full: bool,
    /// A sync has failed: nothing is durable from here on, until the next start.
    is_poisoned: bool,
    /// What was delivered since, and is in no books.
    forgotten: BTreeSet<(MessageId, u16)>,
    pub records: u64,
}

/// A record of one batch, as far as the books are checked.
struct Row {
    id: String,
    recipient: String,
    kind: String,
    attempts: u64,
}

impl Spool {
    pub fn submit(&mut self, from: From, changes: Vec<Change>) {
        self.pending.push_back(Batch { from, changes });
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// The first batch and whether it is durable.
    pub fn complete(&mut self, ledger: &mut Ledger) -> Option<(Batch, bool)> {
        let batch = self.pending.pop_front()?;
        if self.is_poisoned {
            self.forget(&batch, ledger);
            return Some((batch, false));
        }
        let stores = batch.changes.iter().any(|c| matches!(c, Change::Store(_)));
        if stores && self.is_full {
            let is_told = !matches!(batch.from, From::Outcome { .. });
            assert!(is_told, "a store that nobody waits for");
            return Some((batch, false));
        }
        self.apply(&batch.changes, ledger);
        Some((batch, true))
    }

    fn apply(&mut self, changes: &[Change], ledger: &mut Ledger) {
        let mut rows: Vec<Row> = changes.iter().filter_map(row).collect();
        self.records += rows.len() as u64;
        for change in changes {
            match change {
                Change::Append(_) => {}
                Change::Store(message) => {
                    ledger.accept(message);
                    let stored = Stored {
                        message: Arc::clone(message),
                        settled: BTreeSet::new(),
                        states: BTreeMap::new(),
                    };
                    self.messages.insert(message.id, stored);
                }
                Change::Defer {
                    id,
                    recipient,
                    state,
                } => {
                    let stored = self.open(*id, *recipient);
                    let before = stored.states.insert(*recipient, state.clone());
                    let before = before.map_or(0, |state| state.attempts);
                    assert!(state.attempts > before, "attempts go backwards");
                    let row = take_row(&mut rows, stored, *recipient);
                    assert_eq!(row.kind, "TransientFailure");
                    assert_eq!(row.attempts, u64::from(state.attempts));
                }
                Change::Settle {
                    id,
                    recipient,
                    of,
                    deferred_before,
                } => {
                    let stored = self.open(*id, *recipient);
                    assert_eq!(usize::from(*of), stored.message.envelope.recipients.len());
                    if stored.states.contains_key(recipient) {
                        assert!(deferred_before, "a state would be left behind");
                    }
                    stored.settled.insert(*recipient);
                    let row = take_row(&mut rows, stored, *recipient);
                    assert_ne!(row.kind, "TransientFailure");
                    ledger.end(*id, *recipient, &row.kind);
                    if stored.settled.len() == usize::from(*of) {
                        self.messages.remove(id);
                    }
                }
            }
        }
        // A warning that found no room and came too late leaves its record and no state.
        for row in rows {
            assert_eq!(row.kind, "TransientFailure", "a record without a change");
        }
    }

    fn open(&mut self, id: MessageId, recipient: u16) -> &mut Stored {
        let stored = self.messages.get_mut(&id);
        let stored = stored.unwrap_or_else(|| panic!("{id} is not in the spool"));
        assert!(
            !stored.settled.contains(&recipient),
            "{id}/{recipient} is settled already"
        );
        stored
    }

    pub fn poison(&mut self) {
        self.is_poisoned = true;
    }

    /// What comes of a report is asked for again without it. All else is forgotten with the process,
    /// which must not do it a second time in its life.
    fn forget(&mut self, batch: &Batch, ledger: &mut Ledger) {
        if matches!(batch.from, From::Report { .. }) {
            return;
        }
        for (id, recipient) in self.deliveries(batch) {
            let is_first = self.forgotten.insert((id, recipient));
            assert!(is_first, "{id}/{recipient} was sent twice in one life");
            ledger.forgive(id, recipient);
        }
    }

    /// What was not durable is gone. Deliveries that were to be written are forgiven.
    pub fn crash(&mut self, ledger: &mut Ledger) {
        for batch in core::mem::take(&mut self.pending) {
            for (id, recipient) in self.deliveries(&batch) {
                ledger.forgive(id, recipient);
            }
        }
    }

    /// The disk is a good one again.
    pub fn begin_anew(&mut self) {
        self.is_poisoned = false;
        self.forgotten.clear();
    }

    fn deliveries(&self, batch: &Batch) -> Vec<(MessageId, u16)> {
        let rows: Vec<Row> = batch.changes.iter().filter_map(row).collect();
        let settled = batch.changes.iter().filter_map(|change| match change {
            Change::Settle { id, recipient, .. } => Some((*id, *recipient)),
            Change::Store(_) | Change::Defer { .. } | Change::Append(_) => None,
        });
        let is_delivery = |(id, recipient): &(MessageId, u16)| {
            let recipients = &self.messages[id].message.envelope.recipients;
            let address = recipients[usize::from(*recipient)].address.as_str();
            rows.iter().any(|row| {
                row.id == id.to_string() && row.recipient == address && row.kind == "Delivery"
            })
        };
        settled.filter(is_delivery).collect()
    }

    pub fn recover(&self) -> Vec<Recovered> {
        let recovered = self.messages.iter().map(|(id, stored)| {
            let all = (0u16..).zip(&stored.message.envelope.recipients);
            let unsettled = all.filter(|(index, _)| !stored.settled.contains(index));
            let unsettled = unsettled.map(|(recipient, known)| {
                let state = stored.states.get(&recipient);
                RecoveredRecipient {
                    recipient,
                    domain: known.address.domain(),
                    attempts: state.map_or(0, |state| state.attempts),
                    due: state.map_or(stored.message.reception.at, |state| state.due),
                    last: state.map_or_else(Box::default, |state| state.last.clone()),
                }
            });
            Recovered {
                id: *id,
                received: stored.message.reception.at,
                of: u16::try_from(stored.message.envelope.recipients.len()).expect("few"),
                labels: stored.message.labels.clone(),
                unsettled: unsettled.collect(),
            }
        });
        recovered.collect()
    }

    /// The earliest reception of what is still here.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        let stored = self.messages.values().next()?;
        Some(stored.message.reception.at)
    }
}

fn row(change: &Change) -> Option<Row> {
    let Change::Append(line) = change else {
        return None;
    };
    let value: Value = serde_json::from_slice(line).expect("a record is JSON");
    let text = |name: &str| value[name].as_str().expect("a string").to_owned();
    Some(Row {
        id: text("id"),
        recipient: text("recipient"),
        kind: text("type"),
        attempts: value["num_attempts"].as_u64().expect("a number"),
    })
}

fn take_row(rows: &mut Vec<Row>, stored: &Stored, recipient: u16) -> Row {
    let id = stored.message.id.to_string();
    let address = &stored.message.envelope.recipients[usize::from(recipient)].address;
    let is_it = |row: &Row| row.id == id && row.recipient == address.as_str();
    let at = rows.iter().position(is_it);
    rows.swap_remove(at.expect("each change has its record in the same batch"))
}
