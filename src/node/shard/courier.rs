//! Carries the spool's answers into a shard's inbox.

use posthaste_core::words::{Committed, MessageId};

use crate::mesh::Note;
use crate::rt::Post;
use crate::spool::{Completion, Failed, Loaded};

/// What the spool tells a shard.
#[derive(Debug)]
pub enum DiskNote {
    Committed {
        token: u64,
        result: Result<Committed, Failed>,
    },
    Loaded {
        id: MessageId,
        loaded: Loaded,
    },
}

/// One per shard, called by the spool's threads.
#[derive(Debug)]
pub struct Courier(pub Post<Note<DiskNote>>);

impl Completion for Courier {
    fn committed(&self, token: u64, result: Result<Committed, Failed>) {
        self.0
            .put_patiently(Note::Disk(DiskNote::Committed { token, result }));
    }

    fn loaded(&self, id: MessageId, loaded: Loaded) {
        self.0
            .put_patiently(Note::Disk(DiskNote::Loaded { id, loaded }));
    }

    fn flush(&self) {
        self.0.ring();
    }
}
