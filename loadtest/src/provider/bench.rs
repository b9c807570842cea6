//! A brain under test with a clock that the test turns.

use super::brain::{Brain, SessionId, Verdict};
use super::profile::Profile;
use posthaste_core::words::Moment;
use std::sync::Arc;
use std::time::Duration;

const BASE: &str = "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"m.test\"\n";

/// One brain and its time.
pub(super) struct Bench {
    pub(super) brain: Brain,
    pub(super) now: Moment,
}

impl Bench {
    pub(super) fn new(text: &str) -> Self {
        let profile = Profile::parse("x.toml", &format!("{BASE}{text}"));
        Self::of(profile.unwrap_or_else(|faults| panic!("{faults}")))
    }

    /// At a full hour.
    pub(super) fn of(profile: Profile) -> Self {
        Self::of_seed(&Arc::new(profile), 1)
    }

    pub(super) fn of_seed(profile: &Arc<Profile>, seed: u64) -> Self {
        let now = Moment::from_secs(1_800 * 1_000_000);
        Self {
            brain: Brain::new(Arc::clone(profile), seed, now),
            now,
        }
    }

    pub(super) fn connect(&mut self, last: u8) -> (SessionId, Verdict) {
        self.brain
            .handle_connect([192, 0, 2, last].into(), self.now)
    }

    pub(super) fn ready(&mut self) -> SessionId {
        let (id, verdict) = self.connect(1);
        assert!(verdict.is_positive(), "{verdict:?}");
        id
    }

    /// The verdict that decides over one message.
    pub(super) fn send(&mut self, id: SessionId, recipient: &str) -> Verdict {
        self.send_as(id, "a@sender.test", recipient, "")
    }

    pub(super) fn send_as(
        &mut self,
        id: SessionId,
        sender: &str,
        recipient: &str,
        header: &str,
    ) -> Verdict {
        let verdict = self.brain.handle_mail(id, sender, self.now);
        if !verdict.is_positive() {
            return verdict;
        }
        let verdict = self.brain.handle_rcpt(id, recipient, self.now);
        if !verdict.is_positive() {
            return verdict;
        }
        assert_eq!(self.brain.handle_data(id, self.now).reply.code, 354);
        self.brain
            .handle_end_of_data(id, header.as_bytes(), self.now)
    }

    /// A message signed for `domain`.
    pub(super) fn send_signed(&mut self, id: SessionId, domain: &str) -> Verdict {
        let header = format!("From: <a@{domain}>\r\nDKIM-Signature: v=1; d={domain}; s=x\r\n\r\n");
        self.send_as(id, "a@sender.test", "b@x.test", &header)
    }

    pub(super) fn pass(&mut self, secs: u64) {
        self.now = self.now + Duration::from_secs(secs);
    }
}
