//! What a start finds: envelopes and states, read side by side in key order. Bodies are not touched,
//! and what cannot be read is told, never deleted.

use core::fmt;

use posthaste_core::words::{MessageId, RecipientState, Recovered, RecoveredRecipient};

use super::codec::{self, Outline, State, Torn};
use super::counts::Counts;
use super::store::{Cursor, Store, StoreError, Table};

/// Unreadable rows that are named one by one; the rest are counted.
const NAMED_MAX: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages handed on.
    pub messages: u64,
    /// Their unsettled recipients.
    pub recipients: u64,
    /// Rows that cannot be read, or make no sense. They stay where they are.
    pub unreadable: u64,
    /// The first hundred of them.
    pub named: Vec<Unreadable>,
}

/// A row that was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The column family.
    pub table: &'static str,
    pub key: Box<[u8]>,
    pub why: Torn,
}

impl fmt::Display for Unreadable {
    /// `envelopes/0123…ef: it ends too early`, the key in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.table)?;
        for octet in &self.key {
            write!(f, "{octet:02x}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Recovery {
    fn report(&mut self, table: Table, key: &[u8], why: Torn) {
        self.unreadable += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(Unreadable {
                table: table.name(),
                key: key.into(),
                why,
            });
        }
    }
}

/// Hands on each message, in the order of reception, and fills `counts`.
pub(super) fn recover(
    store: &dyn Store,
    counts: &mut Counts,
    each: &mut dyn FnMut(Recovered),
) -> Result<Recovery, StoreError> {
    let mut recovery = Recovery::default();
    let mut states = store.scan(Table::States, &[]);
    let mut envelopes = store.scan(Table::Envelopes, &[]);
    while let Some((key, row)) = envelopes.row() {
        let parsed = codec::parse_message_key(key);
        let outline = parsed.and_then(|id| Ok((id, codec::read_outline(row)?)));
        match outline {
            Ok((id, outline)) => {
                let slots = read_states(&mut *states, id, outline.domains.len(), &mut recovery);
                match assemble(id, outline, slots, counts) {
                    Some(recovered) => {
                        recovery.messages += 1;
                        recovery.recipients += recovered.unsettled.len() as u64;
                        each(recovered);
                    }
                    None => recovery.report(Table::Envelopes, key, Torn::NothingLeft),
                }
            }
            Err(why) => recovery.report(Table::Envelopes, key, why),
        }
        envelopes.advance();
    }
    while let Some((key, _)) = states.row() {
        let why = codec::parse_state_key(key).err();
        recovery.report(Table::States, key, why.unwrap_or(Torn::Orphan));
        states.advance();
    }
    envelopes.status()?;
    states.status()?;
    Ok(recovery)
}

/// What the states say of one recipient.
#[derive(Clone)]
enum Slot {
    Fresh,
    Settled,
    Deferred(RecipientState),
}

/// The states of one message. A recipient whose state is torn is taken as never tried: rather twice
/// than never.
fn read_states(
    states: &mut dyn Cursor,
    id: MessageId,
    of: usize,
    recovery: &mut Recovery,
) -> Vec<Slot> {
    let mut slots = vec![Slot::Fresh; of];
    while let Some((key, row)) = states.row() {
        match codec::parse_state_key(key) {
            Err(why) => recovery.report(Table::States, key, why),
            Ok((owner, _)) if owner > id => break,
            Ok((owner, _)) if owner < id => recovery.report(Table::States, key, Torn::Orphan),
            Ok((_, recipient)) => match (
                slots.get_mut(usize::from(recipient)),
                codec::read_state(row),
            ) {
                (None, _) => recovery.report(Table::States, key, Torn::NoSuchRecipient),
                (_, Err(why)) => recovery.report(Table::States, key, why),
                (Some(slot), Ok(State::Settled)) => *slot = Slot::Settled,
                (Some(slot), Ok(State::Deferred(state))) => *slot = Slot::Deferred(state),
            },
        }
        states.advance();
    }
    slots
}

/// `None` if nobody is left.
fn assemble(
    id: MessageId,
    outline: Outline,
    slots: Vec<Slot>,
    counts: &mut Counts,
) -> Option<Recovered> {
    let of = u16::try_from(slots.len()).expect("an outline has at most 65,535 recipients");
    let is_settled = |(_, slot): &(u16, &Slot)| matches!(slot, Slot::Settled);
    let settled: Vec<u16> = (0..of)
        .zip(&slots)
        .filter(is_settled)
        .map(|(recipient, _)| recipient)
        .collect();
    let unsettled = (0..of).zip(slots).zip(outline.domains);
    let unsettled = unsettled.filter_map(|((recipient, slot), domain)| {
        let state = match slot {
            Slot::Settled => return None,
            Slot::Fresh => RecipientState {
                due: outline.received,
                ..RecipientState::default()
            },
            Slot::Deferred(state) => state,
        };
        Some(RecoveredRecipient {
            recipient,
            domain,
            attempts: state.attempts,
            due: state.due,
            last: state.last,
        })
    });
    let recovered = Recovered {
        id,
        received: outline.received,
        of,
        labels: outline.labels,
        unsettled: unsettled.collect(),
    };
    if recovered.unsettled.is_empty() {
        return None;
    }
    counts.store(id, of);
    for recipient in settled {
        counts.settle(id, recipient, of);
    }
    counts.confirm();
    Some(recovered)
}
