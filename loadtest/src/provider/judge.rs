//! How the brain judges: standing, limits, boxes, greylisting, caches, mailboxes, and what a refusal leads to.

use super::brain::{Brain, Seen, SessionId, Then, Verdict, source_mut};
use super::class::Class;
use super::key::{bound, hash, key, meter, unit};
use super::profile::{Limit, Profile, Scope, Span, Stage};
use super::source::Consequence;
use super::standing::Standing;
use super::text::{Filling, Reply};
use posthaste_core::words::Moment;
use std::time::Duration;

impl Brain {
    /// Blocked, or in the penalty box.
    pub(super) fn barred(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        now: Moment,
    ) -> Option<Verdict> {
        let source = source_mut(&mut self.sources, &self.sessions, id);
        if let Some(escalation) = &profile.escalation
            && source.blocked_until > now
            && escalation.stage == stage
        {
            return Some(self.closing(profile, id, "block", Class::Block, now));
        }
        let penalty = profile.penalty.as_ref()?;
        if source.boxed_until <= now || penalty.stage != stage {
            return None;
        }
        if source.probe(penalty, now) {
            self.counts.extensions += 1;
            let (loss, floor) = (profile.reputation.probe, profile.reputation.floor);
            self.each_standing(profile, id, now, |standing| standing.lose(loss, floor));
        }
        Some(self.closing(profile, id, "penalty", Class::Penalty, now))
    }

    /// The client's address has no name, and that is looked at here.
    pub(super) fn nameless(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        now: Moment,
    ) -> Option<Verdict> {
        let ptr = profile.ptr.as_ref().filter(|ptr| ptr.stage == stage)?;
        let source = source_mut(&mut self.sources, &self.sessions, id);
        let address = source.ip.to_string();
        if unit(hash(&[b"ptr", address.as_bytes()], self.seed)) >= ptr.missing {
            return None;
        }
        let mut verdict = self.reject(profile, id, "ptr", Class::Ptr, "", "", now);
        if stage == Stage::Connect {
            verdict.then = Then::Close;
        }
        Some(verdict)
    }

    /// The first limit or capacity of this stage that refuses; all of them count what none refuses.
    pub(super) fn limited(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        recipient: &str,
        now: Moment,
    ) -> Option<Verdict> {
        let has_id = !self.session(id).message_id.is_empty();
        let mut refusing: Option<(&str, Class, bool)> = None;
        for (index, limit) in profile.limits.iter().enumerate() {
            if limit.is_asked(stage, has_id) && refusing.is_none() {
                let key = self.key(limit.scope, id, recipient);
                let meter = meter(&mut self.meters[index], key, limit, now);
                let share = meter.share_with_one(limit, 1.0, now);
                if self.exceeds(limit, share) {
                    refusing = Some((&*limit.reply, limit.class(), limit.closes));
                }
            }
        }
        for (index, capacity) in profile.capacities.iter().enumerate() {
            let limit = &capacity.limit;
            if limit.is_asked(stage, has_id) && refusing.is_none() {
                let key = self.key(limit.scope, id, recipient);
                let standing = self.standing(profile, index, key, now);
                let (scale, is_blocked) = (standing.scale(), standing.blocked_until > now);
                let share = standing.meter.share_with_one(limit, scale, now);
                if is_blocked {
                    refusing = Some((&*capacity.blocked, Class::Block, limit.closes));
                } else if self.exceeds(limit, share) {
                    refusing = Some((&*limit.reply, Class::Capacity, limit.closes));
                }
            }
        }
        self.count(profile, id, stage, recipient, refusing.is_none(), now);
        let (reply, class, closes) = refusing?;
        let mut verdict = self.reject(profile, id, reply, class, recipient, "", now);
        if closes {
            verdict.then = Then::Close;
        }
        Some(verdict)
    }

    pub(super) fn count(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        recipient: &str,
        is_admitted: bool,
        now: Moment,
    ) {
        let has_id = !self.session(id).message_id.is_empty();
        let counts =
            |limit: &Limit| limit.is_asked(stage, has_id) && (is_admitted || limit.counts_deferred);
        for (index, limit) in profile.limits.iter().enumerate() {
            if counts(limit) {
                let key = self.key(limit.scope, id, recipient);
                meter(&mut self.meters[index], key, limit, now).add(limit, 1.0, now);
            }
        }
        for (index, capacity) in profile.capacities.iter().enumerate() {
            if counts(&capacity.limit) {
                let key = self.key(capacity.limit.scope, id, recipient);
                let standing = self.standing(profile, index, key, now);
                let scale = standing.scale();
                standing.meter.add(&capacity.limit, scale, now);
            }
        }
    }

    /// An attempt counts where it is known whose it is: for a signing domain that is the dot.
    pub(super) fn count_attempt(
        &mut self,
        profile: &Profile,
        id: SessionId,
        is_dot: bool,
        now: Moment,
    ) {
        for (index, capacity) in profile.capacities.iter().enumerate() {
            let (scope, stage) = (capacity.limit.scope, capacity.limit.stage);
            if is_dot == (scope == Scope::Domain && stage == Stage::Dot) {
                let key = self.key(scope, id, "");
                self.standing(profile, index, key, now).count_attempt();
            }
        }
    }

    /// From the knee on by chance, from `full` on always.
    pub(super) fn exceeds(&mut self, limit: &Limit, share: f64) -> bool {
        if share <= limit.knee {
            return false;
        }
        share > limit.full
            || self
                .random
                .falls_in((share - limit.knee) / (limit.full - limit.knee).max(f64::MIN_POSITIVE))
    }

    pub(super) fn is_greylisted(
        &mut self,
        profile: &Profile,
        id: SessionId,
        recipient: &str,
        now: Moment,
    ) -> bool {
        let Some(greylist) = &profile.greylist else {
            return false;
        };
        let key = self.triplet(id, recipient);
        bound(&mut self.greylist, |seen| {
            let life = if seen.has_passed {
                greylist.lifetime
            } else {
                greylist.window
            };
            now.since(seen.first) < life
        });
        let fresh = Seen {
            first: now,
            has_passed: false,
        };
        let seen = self.greylist.entry(key).or_insert(fresh);
        let age = now.since(seen.first);
        if seen.has_passed && age < greylist.lifetime {
            return false;
        }
        if age >= greylist.delay && age < greylist.window {
            *seen = Seen {
                first: now,
                has_passed: true,
            };
            return false;
        }
        if age >= greylist.delay {
            *seen = fresh;
        }
        true
    }

    pub(super) fn remembered(
        &mut self,
        id: SessionId,
        recipient: &str,
        now: Moment,
    ) -> Option<Verdict> {
        self.profile.cache.as_ref()?;
        let key = self.triplet(id, recipient);
        let (until, reply) = self.cache.get(&key)?;
        if *until <= now {
            self.cache.remove(&key);
            return None;
        }
        let reply = reply.clone();
        self.counts.reject(Class::Cached, reply.code);
        Some(Verdict {
            reply,
            delay: Duration::ZERO,
            then: Then::Go,
            class: Class::Cached,
            is_taken: false,
        })
    }

    pub(super) fn remember(
        &mut self,
        profile: &Profile,
        id: SessionId,
        recipient: &str,
        verdict: &Verdict,
        now: Moment,
    ) {
        let Some(cache) = &profile.cache else { return };
        let span = if verdict.reply.code >= 500 {
            cache.permanent
        } else {
            cache.temporary
        };
        let key = self.triplet(id, recipient);
        bound(&mut self.cache, |(until, _)| *until > now);
        self.cache.insert(key, (now + span, verdict.reply.clone()));
    }

    /// A mailbox is what its address hashes to; `unknown-`, `full-` and `inactive-` in front say it outright.
    pub(super) fn mailbox(
        &self,
        profile: &Profile,
        recipient: &str,
        now: Moment,
    ) -> Option<(&'static str, Class)> {
        const UNKNOWN: (&str, Class) = ("unknown_mailbox", Class::UnknownMailbox);
        const INACTIVE: (&str, Class) = ("inactive_mailbox", Class::InactiveMailbox);
        const FULL: (&str, Class) = ("full_mailbox", Class::FullMailbox);
        if recipient.starts_with("unknown-") {
            return Some(UNKNOWN);
        }
        if recipient.starts_with("inactive-") {
            return Some(INACTIVE);
        }
        if recipient.starts_with("full-") {
            return Some(FULL);
        }
        let rules = &profile.mailboxes;
        if rules.unknown + rules.inactive + rules.full == 0.0 {
            return None;
        }
        let chance = unit(hash(&[recipient.as_bytes()], self.seed));
        if chance < rules.unknown {
            return Some(UNKNOWN);
        }
        if chance < rules.unknown + rules.inactive {
            return Some(INACTIVE);
        }
        let period = now.as_micros() / rules.full_span.as_micros() as u64;
        let chance = unit(hash(&[recipient.as_bytes()], self.seed ^ (period + 1)));
        (chance < rules.full).then_some(FULL)
    }

    pub(super) fn closing(
        &mut self,
        profile: &Profile,
        id: SessionId,
        key: &str,
        class: Class,
        now: Moment,
    ) -> Verdict {
        let mut verdict = self.reject(profile, id, key, class, "", "", now);
        verdict.then = Then::Close;
        verdict
    }

    /// A negative reply and what it leads to.
    #[expect(
        clippy::too_many_arguments,
        reason = "what fills the text, beside what is judged"
    )]
    pub(super) fn reject(
        &mut self,
        profile: &Profile,
        id: SessionId,
        key: &str,
        class: Class,
        recipient: &str,
        mask: &str,
        now: Moment,
    ) -> Verdict {
        let reply = self.say(profile, id, key, recipient, mask, now);
        self.counts.reject(class, reply.code);
        let rules = &profile.reputation;
        let loss = if class.is_pressure() {
            rules.deferred
        } else if class == Class::UnknownMailbox {
            rules.unknown
        } else {
            0.0
        };
        if loss > 0.0 {
            self.each_standing(profile, id, now, |standing| {
                standing.lose(loss, rules.floor);
            });
        }
        if class.is_pressure() {
            let is_offence = |of_connections| of_connections == (class == Class::ConnectionLimit);
            let penalty = profile
                .penalty
                .as_ref()
                .filter(|p| is_offence(p.of_connections));
            let source = source_mut(&mut self.sources, &self.sessions, id);
            match source.press(penalty, profile.escalation.as_ref(), now) {
                Consequence::Nothing => {}
                Consequence::Boxed => self.counts.boxed += 1,
                Consequence::Blocked => self.counts.blocks += 1,
            }
        }
        let delay = self.wait(profile, id, profile.delays.command, now);
        let then = if reply.code == 421 {
            Then::Close
        } else {
            Then::Go
        };
        Verdict {
            reply,
            delay,
            then,
            class,
            is_taken: false,
        }
    }

    pub(super) fn say(
        &mut self,
        profile: &Profile,
        id: SessionId,
        key: &str,
        recipient: &str,
        mask: &str,
        now: Moment,
    ) -> Reply {
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let filling = Filling {
            ip: Some(self.sources[session.source as usize].ip),
            host: &profile.host,
            sender: &session.sender,
            recipient,
            mask,
            author: &session.author,
        };
        let age = now.since(self.began);
        profile.texts.reply(key, age, filling, &mut self.random)
    }

    pub(super) fn wait(
        &mut self,
        profile: &Profile,
        id: SessionId,
        span: Span,
        now: Moment,
    ) -> Duration {
        let wait = self.random.between(span.0, span.1);
        let delays = &profile.delays;
        if delays.tarpit_below == 0.0 {
            return wait;
        }
        let mut lowest = 1.0_f64;
        self.each_standing(profile, id, now, |standing| {
            lowest = lowest.min(standing.reputation);
        });
        if lowest < delays.tarpit_below {
            return wait + self.random.between(delays.tarpit.0, delays.tarpit.1);
        }
        wait
    }

    pub(super) fn reputation_at_connect(
        &mut self,
        profile: &Profile,
        id: SessionId,
        now: Moment,
    ) -> f64 {
        let mut lowest = 1.0_f64;
        for (index, capacity) in profile.capacities.iter().enumerate() {
            if capacity.limit.scope != Scope::Domain {
                let key = self.key(capacity.limit.scope, id, "");
                lowest = lowest.min(self.standing(profile, index, key, now).reputation);
            }
        }
        lowest
    }

    /// Every standing that this session's mail counts against.
    pub(super) fn each_standing(
        &mut self,
        profile: &Profile,
        id: SessionId,
        now: Moment,
        mut visit: impl FnMut(&mut Standing),
    ) {
        for (index, capacity) in profile.capacities.iter().enumerate() {
            let scope = capacity.limit.scope;
            // Before MAIL there is no domain.
            if scope == Scope::Domain && self.session(id).domain == 0 {
                continue;
            }
            let key = self.key(scope, id, "");
            visit(self.standing(profile, index, key, now));
        }
    }

    pub(super) fn standing(
        &mut self,
        profile: &Profile,
        index: usize,
        key: u64,
        now: Moment,
    ) -> &mut Standing {
        let capacity = &profile.capacities[index];
        let luck = unit(hash(&[&key.to_le_bytes(), &index.to_le_bytes()], self.seed));
        let standing = self.standings[index]
            .entry(key)
            .or_insert_with(|| Standing::new(capacity, &profile.reputation, luck, now));
        standing.pass(capacity, &profile.reputation, now);
        standing
    }

    pub(super) fn key(&self, scope: Scope, id: SessionId, recipient: &str) -> u64 {
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let ip = self.sources[session.source as usize].ip;
        let text = match scope {
            Scope::MessageId => &session.message_id,
            Scope::Ip | Scope::Net | Scope::Domain | Scope::Recipient | Scope::Site => recipient,
        };
        key(scope, ip, session.domain, text)
    }

    pub(super) fn triplet(&self, id: SessionId, recipient: &str) -> u64 {
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let source = session.source.to_le_bytes();
        hash(
            &[&source, session.sender.as_bytes(), recipient.as_bytes()],
            0,
        )
    }
}
