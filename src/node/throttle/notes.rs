//! What nodes tell each other, each note for a time: suspensions, overrides. What they mean is not
//! known here. They are read as a whole at each connection, and heard one by one from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::StreamExt as _;
use posthaste_core::words::Moment;
use redis::{ErrorKind, Msg, RedisError, RedisResult};
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, sleep, timeout};

use super::link::{Link, connect, subscribe};
use super::scripts::{Put, Scripts};
use super::start::Shared;
use crate::rt::now;

/// Notes of this node that wait for their way out.
pub(super) const WAITING_MAX: usize = 1024;
/// Notes of this node that are told anew to a Redis that has forgotten them. Beyond, the newest are
/// told once only.
const OWN_MAX: usize = 16_384;
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks whether a silent Redis is there.
const PROBE: Duration = Duration::from_secs(2);

/// What a node said, this one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub key: String,
    /// `None`: it was withdrawn, or is no more.
    pub text: Option<String>,
    /// It holds until then.
    pub until: Moment,
}

/// As many notes wait as may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many notes wait for Redis")]
pub struct Busy;

/// The giving end. Clones share it; no call waits.
#[derive(Clone, Debug)]
pub struct SharedNotes(pub(super) mpsc::Sender<Put>);

impl SharedNotes {
    /// Tells all nodes `text` under `key`, for `lasts`. While Redis is away it waits, and counts from
    /// when it is told.
    ///
    /// # Errors
    /// [`Busy`], when too many wait.
    pub fn publish(&self, key: &str, text: &str, lasts: Duration) -> Result<(), Busy> {
        let put = Put {
            key: key.into(),
            text: text.into(),
            lasts,
            if_missing: false,
        };
        self.0.try_send(put).map_err(|_| Busy)
    }

    /// Whether half of the room is free: what can be said again leaves the rest to what is said once.
    pub fn is_roomy(&self) -> bool {
        self.0.capacity() > WAITING_MAX / 2
    }

    /// The note of that key is no more.
    ///
    /// # Errors
    /// [`Busy`], when too many wait.
    pub fn withdraw(&self, key: &str) -> Result<(), Busy> {
        self.publish(key, "", Duration::ZERO)
    }
}

/// One per node, on the throttle's thread.
#[derive(Debug)]
pub(super) struct Exchange {
    shared: Arc<Shared>,
    scripts: Arc<Scripts>,
    waiting: mpsc::Receiver<Put>,
    /// Read from the queue, and not known to have arrived.
    unsent: Option<Put>,
    own: BTreeMap<String, (String, Moment)>,
    known: BTreeMap<String, Moment>,
    /// Names the memory of Redis: another one, and it has forgotten.
    epoch: Option<String>,
    turn: usize,
}

impl Exchange {
    pub(super) fn new(
        shared: Arc<Shared>,
        scripts: Arc<Scripts>,
        waiting: mpsc::Receiver<Put>,
    ) -> Self {
        let own = shared.options.known.clone();
        let ends = own.iter().map(|(key, (_, until))| (key.clone(), *until));
        let (known, epoch) = (ends.collect(), shared.options.epoch.clone());
        Self {
            shared,
            scripts,
            waiting,
            unsent: None,
            own,
            known,
            epoch,
            turn: 0,
        }
    }

    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.go_on() => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    async fn go_on(&mut self) {
        loop {
            // That Redis is lost is said by the rounds, which see it first.
            let _ = self.session().await;
            self.turn += 1;
            sleep(PAUSE).await;
        }
    }

    fn key(&self, of: &str) -> String {
        format!("{}{of}", self.shared.options.prefix)
    }

    async fn session(&mut self) -> RedisResult<()> {
        let options = self.shared.options.clone();
        let (key, channel) = (self.key("notes"), self.key("notes:told"));
        let patience = options.timeout * 2;
        let late = |_| RedisError::from((ErrorKind::Io, "no answer"));
        let ear = timeout(patience, subscribe(&options, &channel, self.turn));
        let ear = ear.await.map_err(late)??;
        let mut link = timeout(patience, connect(&options)).await.map_err(late)??;
        self.remind(&mut link, &key, &channel).await?;
        let all = self.scripts.notes(&mut link, &key).await?;
        self.hear_all(all);
        if let Some(epoch) = &self.epoch {
            self.shared.node.joined(epoch);
        }
        let mut probe = interval(PROBE);
        let (mut sink, mut told) = ear.split();
        loop {
            if let Some(put) = self.unsent.clone() {
                self.scripts.put(&mut link, &key, &channel, &put).await?;
                self.unsent = None;
            }
            tokio::select! {
                message = told.next() => {
                    let Some(message) = message else {
                        return Err(RedisError::from((ErrorKind::Io, "the channel closed")));
                    };
                    self.hear(&message);
                }
                put = self.waiting.recv() => {
                    let Some(put) = put else {
                        return core::future::pending().await;
                    };
                    self.keep(&put);
                    self.unsent = Some(put);
                }
                _ = probe.tick() => {
                    let ping = timeout(patience, sink.ping::<redis::Value>());
                    ping.await.map_err(late)??;
                }
            }
        }
    }

    /// Tells a Redis that has forgotten everything what this node had told it.
    async fn remind(&mut self, link: &mut Link, key: &str, channel: &str) -> RedisResult<()> {
        let own = format!("{} {}", self.shared.options.node, now().as_micros());
        let epoch = self.key("notes:epoch");
        let mut set = redis::cmd("SET");
        let _was_set: Option<String> = set.arg(&epoch).arg(own).arg("NX").query_async(link).await?;
        let found: String = redis::cmd("GET").arg(&epoch).query_async(link).await?;
        let known = self.epoch.replace(found.clone());
        if known.is_none_or(|known| known == found) {
            return Ok(());
        }
        let now = now();
        self.own.retain(|_, (_, until)| *until > now);
        for (note, (text, until)) in &self.own {
            let put = Put {
                key: note.clone(),
                text: text.clone(),
                lasts: until.since(now),
                if_missing: true,
            };
            let put = self.scripts.put(link, key, channel, &put).await;
            if put.is_err() {
                // To be reminded again.
                self.epoch = Some(String::new());
                return put;
            }
        }
        Ok(())
    }

    fn keep(&mut self, put: &Put) {
        let now = now();
        if put.lasts.is_zero() {
            self.own.remove(&put.key);
            return;
        }
        if self.own.len() >= OWN_MAX {
            self.own.retain(|_, (_, until)| *until > now);
        }
        if self.own.len() < OWN_MAX || self.own.contains_key(&put.key) {
            let note = (put.text.clone(), now + put.lasts);
            self.own.insert(put.key.clone(), note);
        }
    }

    fn hear_all(&mut self, all: Vec<(String, String, u64)>) {
        let there: BTreeSet<&String> = all.iter().map(|(key, _, _)| key).collect();
        let now = now();
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(key, until)| !there.contains(key) && **until > now)
            .map(|(key, _)| key.clone())
            .collect();
        self.known.clear();
        let gone = gone.into_iter().map(|key| Noted {
            key,
            text: None,
            until: now,
        });
        let there = all.into_iter().map(|(key, text, left)| Noted {
            key,
            text: Some(text),
            until: now + Duration::from_micros(left),
        });
        let all: Vec<Noted> = gone.chain(there).collect();
        for noted in &all {
            self.learn(noted);
        }
        self.shared.node.noted(all);
    }

    fn hear(&mut self, message: &Msg) {
        let Ok(payload) = message.get_payload::<String>() else {
            return;
        };
        if let Some((key, text, lasts)) = parse(&payload) {
            let noted = Noted {
                key: key.to_owned(),
                text: (!lasts.is_zero()).then(|| text.to_owned()),
                until: now() + lasts,
            };
            self.learn(&noted);
            self.shared.node.noted(vec![noted]);
        }
    }

    fn learn(&mut self, noted: &Noted) {
        if noted.text.is_some() {
            self.known.insert(noted.key.clone(), noted.until);
        } else {
            self.known.remove(&noted.key);
        }
        // Somebody else's word on it counts as well as ours.
        if let Some(own) = self.own.get(&noted.key)
            && noted.text.as_ref() != Some(&own.0)
        {
            self.own.remove(&noted.key);
        }
    }
}

/// `<octets of the key> <microseconds> <key><text>`.
fn parse(payload: &str) -> Option<(&str, &str, Duration)> {
    let (octets, rest) = payload.split_once(' ')?;
    let (lasts, rest) = rest.split_once(' ')?;
    let (key, text) = rest.split_at_checked(octets.parse().ok()?)?;
    Some((key, text, Duration::from_micros(lasts.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_may_hold_anything() {
        let note = parse("4 1000000 a b\u{e9}{\"x\": 1}");
        assert_eq!(note, None, "a key ends between characters");
        let (key, text, lasts) = parse("5 1000000 a b\u{e9}{\"x\": 1}").unwrap();
        assert_eq!((key, text), ("a b\u{e9}", "{\"x\": 1}"));
        assert_eq!(lasts, Duration::from_secs(1));
        assert_eq!(parse("9 1 short"), None);
    }
}
