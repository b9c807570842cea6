//! The proof that something is durable.

/// Proof that a batch is durable. A session must be given one before it says 250, which makes the
/// message ours (RFC 5321 §4.2.5).
///
/// Only who has seen the sync may make one: `clippy.toml` bans [`Committed::witnessed`], and the place in the
/// spool that calls it, like each test that plays the spool, says why it may.
#[derive(Debug)]
pub struct Committed(());

impl Committed {
    /// The batch was written, and synced as the spool's durability asks.
    pub const fn witnessed() -> Self {
        Self(())
    }
}
