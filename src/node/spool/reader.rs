//! The reader: brings messages back from the store for shards that let go of them. It never writes.
//! One thread per spool.

use std::sync::Arc;

use crossbeam::channel::Receiver;
use posthaste_core::words::{Message, MessageId};

use super::codec::{self, State};
use super::handle::{Answers, Errand, Loaded};
use super::store::{Store, StoreError, Table};

/// Messages read before their shards are woken.
const GROUP_MAX: usize = 32;

/// Runs until [`Errand::Stop`].
pub(super) fn run(store: &dyn Store, errands: &Receiver<Errand>, mut answers: Answers) {
    while let Ok(first) = errands.recv() {
        let group = core::iter::once(first).chain(errands.try_iter());
        for errand in group.take(GROUP_MAX) {
            match errand {
                Errand::Load(shard, id) => answers.loaded(shard, id, load(store, id)),
                Errand::Recall(shard, id) => answers.loaded(shard, id, recall(store, id)),
                Errand::Stop => {
                    answers.flush();
                    return;
                }
            }
        }
        answers.flush();
    }
}

/// A settle may come between the two reads: a message that lacks either row is gone.
fn load(store: &dyn Store, id: MessageId) -> Loaded {
    let key = id.to_bytes();
    let (envelope, data) = match (
        store.get(Table::Envelopes, &key),
        store.get(Table::Bodies, &key),
    ) {
        (Ok(Some(envelope)), Ok(Some(data))) => (envelope, data),
        (Ok(None), _) | (_, Ok(None)) => return Loaded::Gone,
        (Err(_), _) | (_, Err(_)) => return Loaded::Unreadable,
    };
    let Ok(parts) = codec::read_envelope(&envelope) else {
        return Loaded::Unreadable;
    };
    Loaded::Message(Arc::new(Message {
        id,
        envelope: parts.envelope,
        reception: parts.reception,
        content: parts.content,
        labels: parts.labels,
        data,
    }))
}

fn recall(store: &dyn Store, id: MessageId) -> Loaded {
    match load(store, id) {
        // Without them the message can still be reported on.
        Loaded::Message(message) => {
            let last = last_outcomes(store, &message).unwrap_or_default();
            Loaded::Recalled(message, last)
        }
        other @ (Loaded::Recalled(..) | Loaded::Gone | Loaded::Unreadable) => other,
    }
}

fn last_outcomes(store: &dyn Store, message: &Message) -> Result<Vec<(u16, Box<str>)>, StoreError> {
    let mut found = Vec::new();
    let mut states = store.scan(Table::States, &codec::state_key(message.id, 0));
    while let Some((key, row)) = states.row() {
        match (codec::parse_state_key(key), codec::read_state(row)) {
            (Ok((owner, _)), _) if owner != message.id => break,
            (Ok((_, recipient)), Ok(State::Deferred(state))) => {
                found.push((recipient, state.last));
            }
            (Ok(_) | Err(_), _) => {}
        }
        states.advance();
    }
    states.status()?;
    Ok(found)
}
