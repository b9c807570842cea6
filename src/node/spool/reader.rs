//! The reader: brings messages back from the store for shards that let go of them. It never writes.
//! One thread per spool.

use std::sync::Arc;

use crossbeam::channel::Receiver;
use posthaste_core::words::{Message, MessageId};

use super::codec;
use super::handle::{Answers, Errand, Loaded};
use super::store::{Store, Table};

/// Messages read before their shards are woken.
const GROUP_MAX: usize = 32;

/// Runs until [`Errand::Stop`].
pub(super) fn run(store: &dyn Store, errands: &Receiver<Errand>, mut answers: Answers) {
    while let Ok(first) = errands.recv() {
        let mut next = Some(first);
        for _ in 0..GROUP_MAX {
            match next {
                Some(Errand::Load(shard, id)) => answers.loaded(shard, id, load(store, id)),
                Some(Errand::Stop) => {
                    answers.flush();
                    return;
                }
                None => break,
            }
            next = errands.try_recv().ok();
        }
        if let Some(Errand::Load(shard, id)) = next {
            answers.loaded(shard, id, load(store, id));
        }
        answers.flush();
        if let Some(Errand::Stop) = next {
            return;
        }
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
