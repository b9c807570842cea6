//! What is asked of Redis: four scripts, each on one key, so that a cluster takes them as well. The
//! clock is Redis's, in microseconds, and only there.

use std::time::Duration;

use posthaste_core::shaping::limit::{Ask, Pace, Places};
use redis::{RedisResult, Script};

use super::link::Link;

/// Granted ahead of what has come back, so that a late round loses nothing. With [`LEASE`] less than a
/// second, which is how far a limit may be overdrawn.
pub(super) const AHEAD: Duration = Duration::from_millis(400);
/// How long a permit is good.
pub(super) const LEASE: Duration = Duration::from_millis(500);
/// How long a node counts after its last word: the time in which the share of a dead one is taken up.
pub(super) const WORD: Duration = Duration::from_secs(2);
/// The same for connections, which stay open without a word.
pub(super) const PLACES_WORD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Scripts {
    lease: Script,
    places: Script,
    note: Script,
    notes: Script,
}

/// How a limit was without Redis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    /// Zero: it was not.
    pub gone: Duration,
    /// Nodes that asked for it before, this one included.
    pub peers: u64,
}

/// A note on its way out.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub key: String,
    pub text: String,
    pub lasts: Duration,
    /// Leaves a note of that key alone.
    pub if_missing: bool,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What Redis grants this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    /// Permits, or its part of the places.
    pub(super) count: u64,
    /// Nodes that ask for the rate, or hold places.
    pub(super) nodes: u64,
    /// Of a rate: when all that is granted to any node has come back, from now.
    pub(super) gone: Duration,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            lease: Script::new(include_str!("lease.lua")),
            places: Script::new(include_str!("places.lua")),
            note: Script::new(include_str!("note.lua")),
            notes: Script::new(include_str!("notes.lua")),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a microsecond of a year is within a double"
    )]
    pub(super) async fn lease(
        &self,
        link: &mut Link,
        key: &str,
        node: &str,
        rate: Pace,
        ask: Ask,
        absence: Absence,
    ) -> RedisResult<Granted> {
        let cost = rate.period().as_micros() as f64 / rate.count() as f64;
        let mut call = self.lease.key(key);
        call.arg(node).arg(cost).arg(rate.burst());
        call.arg(micros(AHEAD)).arg(micros(WORD));
        call.arg(ask.wanted).arg(ask.left).arg(ask.unused);
        call.arg(ask.alone)
            .arg(micros(absence.gone))
            .arg(absence.peers);
        let (count, nodes, gone) = call.invoke_async(link).await?;
        let gone = Duration::from_micros(gone);
        Ok(Granted { count, nodes, gone })
    }

    pub(super) async fn places(
        &self,
        link: &mut Link,
        key: &str,
        node: &str,
        places: Places,
        absence: Absence,
    ) -> RedisResult<Granted> {
        let mut call = self.places.key(key);
        call.arg(node).arg(places.total).arg(places.open);
        call.arg(places.wanted).arg(places.part);
        call.arg(u8::from(places.is_short));
        call.arg(micros(PLACES_WORD)).arg(micros(absence.gone));
        let (count, nodes) = call.invoke_async(link).await?;
        let gone = Duration::ZERO;
        Ok(Granted { count, nodes, gone })
    }

    pub(super) async fn put(
        &self,
        link: &mut Link,
        key: &str,
        channel: &str,
        put: &Put,
    ) -> RedisResult<()> {
        let mut call = self.note.key(key);
        call.arg(&put.key).arg(&put.text).arg(micros(put.lasts));
        call.arg(channel).arg(u8::from(put.if_missing));
        let _was_put: u8 = call.invoke_async(link).await?;
        Ok(())
    }

    /// Key, text and microseconds left of each note.
    pub(super) async fn notes(
        &self,
        link: &mut Link,
        key: &str,
    ) -> RedisResult<Vec<(String, String, u64)>> {
        self.notes.key(key).invoke_async(link).await
    }
}
