//! What the spool needs of a disk: ordered tables of rows, and batches of rows that are written as a
//! whole or not at all. One store per spool.

use std::sync::Arc;

use bytes::Bytes;

/// The tables of a spool. The order is that of [`Table::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Message id → [`Message::data`](posthaste_core::words::Message::data).
    Bodies,
    /// Message id → all else of the message.
    Envelopes,
    /// Message id and recipient → what became of it so far.
    States,
    /// Sequence, u64 big-endian → one line.
    Events,
    /// Format version and event cursor.
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 5] = [
        Self::Bodies,
        Self::Envelopes,
        Self::States,
        Self::Events,
        Self::Meta,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Envelopes => "envelopes",
            Self::States => "states",
            Self::Events => "events",
            Self::Meta => "meta",
        }
    }
}

/// What to do about a store that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// Nothing of the batch is in the store. Try again when there is space.
    #[error("no space left on the disk")]
    NoSpace,
    /// Whether the batch is durable is not known: write nothing more.
    #[error("{0}")]
    Broken(Box<str>),
}

/// One store, shared by the committer, the reader and the reader of events.
pub(super) trait Store: Send + Sync {
    /// An empty batch.
    fn rows(self: Arc<Self>) -> Box<dyn Rows>;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows in key order, from the first whose key is `from` or greater.
    fn scan<'a>(&'a self, table: Table, from: &[u8]) -> Box<dyn Cursor + 'a>;

    /// The greatest key of a table.
    fn last_key(&self, table: Table) -> Result<Option<Box<[u8]>>, StoreError>;

    /// Octets that may still be written to the disk; `None` if it cannot be told.
    fn free_octets(&self) -> Option<u64>;

    /// Octets of memory that the store itself holds: rows that are in no file yet, cached blocks of
    /// files and their indices.
    fn held_octets(&self) -> u64;

    /// Makes durable whatever was written without sync, so that the next start is a quick one.
    fn flush(&self) -> Result<(), StoreError>;
}

/// A batch in the making.
pub(super) trait Rows: Send {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]);

    /// For rows that may have been written more than once.
    fn delete(&mut self, table: Table, key: &[u8]);

    /// For rows that were written at most once since their last delete.
    fn delete_once(&mut self, table: Table, key: &[u8]);

    /// All rows from `from` up to, without, `to`.
    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]);

    /// Writes all or nothing, durably if `sync`. Empty afterwards, whatever happened.
    fn write(&mut self, sync: bool) -> Result<(), StoreError>;
}

/// A place in a scan.
pub(super) trait Cursor {
    /// The row here; `None` at the end, and where the store cannot be read: see [`Cursor::status`].
    fn row(&self) -> Option<(&[u8], &[u8])>;

    fn advance(&mut self);

    fn status(&self) -> Result<(), StoreError>;
}
