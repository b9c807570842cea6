//! A provider's mind: events of SMTP sessions in, verdicts out, time as an argument, chance by seed. No socket, no clock. What a caller
//! does with a verdict (write, wait, close, reset, keep silent) is the caller's work.

use super::class::Class;
use super::meter::Meter;
use super::profile::{Limit, Profile, Scope, Span, Stage};
use super::source::{Consequence, Source};
use super::standing::Standing;
use super::text::{Filling, Reply, domain_of};
use super::truth::{Counts, Hidden, Truth};
use crate::quantity::Random;
use posthaste_core::words::Moment;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Entries of one map; beyond, what is spent is forgotten, and then all.
const KEYS_MAX: usize = 1 << 20;
/// Complaints and bounces that wait to be sent.
const EVENTS_MAX: usize = 100_000;
/// Octets of a message's header kept for a report.
const HEADER_OCTETS_MAX: usize = 16 << 10;

/// Keys are hashes already.
#[derive(Clone, Copy, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, octets: &[u8]) {
        self.0 = hash(&[octets], self.0);
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Map<T> = HashMap<u64, T, BuildHasherDefault<AsIs>>;

/// Says which session an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u32);

/// What happens after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Go,
    Close,
    /// No reply: the connection is reset.
    Reset,
    /// No reply, ever.
    Silence,
}

/// The answer to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reply: Reply,
    /// To wait before the reply.
    pub delay: Duration,
    pub then: Then,
    pub class: Class,
    /// The message is in its mailboxes, whatever the client is told.
    pub is_taken: bool,
}

impl Verdict {
    pub const fn is_positive(&self) -> bool {
        self.reply.code < 400 && matches!(self.then, Then::Go)
    }
}

/// What comes back by mail, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Complaint,
    Bounce,
}

/// A complaint or an asynchronous bounce of a message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub ip: IpAddr,
    pub sender: Box<str>,
    pub recipient: Box<str>,
    /// The message's header block as it came, cut at 16 KiB.
    pub header: Box<[u8]>,
    pub accepted: Moment,
    domain: u64,
}

#[derive(Debug)]
struct Due {
    at: Moment,
    serial: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

struct Session {
    source: u32,
    /// Counted among the open connections of its address.
    is_counted: bool,
    offers_tls: bool,
    messages: u32,
    sender: Box<str>,
    /// Hash of the sender's domain, or of the signing domain after the dot.
    domain: u64,
    recipients: Vec<Box<str>>,
}

#[derive(Clone, Copy)]
struct Seen {
    first: Moment,
    has_passed: bool,
}

/// One provider. Memory is bounded by the number of addresses and domains that send to it.
pub struct Brain {
    profile: Arc<Profile>,
    seed: u64,
    random: Random,
    began: Moment,
    sessions: Vec<Option<Session>>,
    free: Vec<u32>,
    sources: Vec<Source>,
    source_of: HashMap<IpAddr, u32, BuildHasherDefault<AsIs>>,
    connections: u32,
    backend: u32,
    standings: Vec<Map<Standing>>,
    meters: Vec<Map<Meter>>,
    greylist: Map<Seen>,
    cache: Map<(Moment, Reply)>,
    due: BinaryHeap<Reverse<Due>>,
    serial: u64,
    counts: Counts,
}

impl Brain {
    pub fn new(profile: Arc<Profile>, seed: u64, now: Moment) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            began: now,
            sessions: Vec::new(),
            free: Vec::new(),
            sources: Vec::new(),
            source_of: HashMap::default(),
            connections: 0,
            backend: 0,
            standings: profile.capacities.iter().map(|_| Map::default()).collect(),
            meters: profile.limits.iter().map(|_| Map::default()).collect(),
            greylist: Map::default(),
            cache: Map::default(),
            due: BinaryHeap::new(),
            serial: 0,
            counts: Counts::new(now),
            profile,
        }
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// A connection from `peer`. Whatever the verdict, the session lives until [`Self::handle_close`].
    pub fn handle_connect(&mut self, peer: IpAddr, now: Moment) -> (SessionId, Verdict) {
        let profile = Arc::clone(&self.profile);
        self.end_days(now);
        let source = self.source(peer, now);
        self.counts.connections += 1;
        let offers_tls = self.random.falls_in(profile.tls.offer);
        let id = self.open(Session {
            source,
            is_counted: false,
            offers_tls,
            messages: 0,
            sender: "".into(),
            domain: 0,
            recipients: Vec::new(),
        });
        let verdict = self.judge_connection(&profile, id, now);
        (id, verdict)
    }

    fn judge_connection(&mut self, profile: &Profile, id: SessionId, now: Moment) -> Verdict {
        // Load balancers go round.
        self.backend = (self.backend + 1) % profile.backends.count;
        if self.backend < profile.backends.dead {
            self.counts.reject(Class::Backend, 421);
            return Verdict {
                reply: Reply::fixed(b"421"),
                delay: Duration::ZERO,
                then: Then::Silence,
                class: Class::Backend,
                is_taken: false,
            };
        }
        if let Some(verdict) = self.barred(profile, id, Stage::Connect, now) {
            return verdict;
        }
        let reputation = self.reputation_at_connect(profile, id, now);
        let source = source_mut(&mut self.sources, &self.sessions, id);
        source.look_at_lists(&profile.lists, reputation, &mut self.random, now);
        if let Some(mask) = source.mask(now) {
            let mut verdict =
                self.reject(profile, id, "blocklist", Class::Blocklist, "", &mask, now);
            verdict.then = Then::Close;
            return verdict;
        }
        let limits = &profile.connections;
        let per_ip = if limits.is_scaled {
            (f64::from(limits.per_ip) * reputation).max(1.0) as u32
        } else {
            limits.per_ip
        };
        if source.connections >= per_ip || self.connections >= limits.per_site {
            let mut verdict = self.reject(
                profile,
                id,
                "connection_limit",
                Class::ConnectionLimit,
                "",
                "",
                now,
            );
            verdict.then = Then::Close;
            return verdict;
        }
        if let Some(verdict) = self.limited(profile, id, Stage::Connect, "", now) {
            return verdict;
        }
        source_mut(&mut self.sources, &self.sessions, id).connect();
        self.session(id).is_counted = true;
        self.connections += 1;
        let delay = self.wait(profile, id, profile.delays.banner, now);
        let reply = self.say(profile, id, "banner", "", "", now);
        positive(reply, delay)
    }

    /// The session ended, by whichever side.
    pub fn handle_close(&mut self, id: SessionId, _now: Moment) {
        let session = self.sessions[id.0 as usize]
            .take()
            .expect("a session is closed once");
        if session.is_counted {
            self.sources[session.source as usize].connections -= 1;
            self.connections -= 1;
        }
        self.free.push(id.0);
    }

    pub fn handle_ehlo(&mut self, id: SessionId, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        let tls = if self.session(id).offers_tls {
            "250-STARTTLS\r\n"
        } else {
            ""
        };
        let text = format!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE 36700160\r\n250-8BITMIME\r\n{tls}250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8\r\n",
            profile.host
        );
        let delay = self.wait(&profile, id, profile.delays.command, now);
        positive(Reply::made(text.into_bytes()), delay)
    }

    /// Always a fault: there is no TLS behind it.
    pub fn handle_starttls(&mut self, id: SessionId, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        let chance = self.random.unit();
        let mut verdict = self.reject(&profile, id, "tls_fault", Class::TlsFault, "", "", now);
        if chance < profile.tls.refuse {
            return verdict;
        }
        verdict.then = Then::Reset;
        if chance < profile.tls.refuse + profile.tls.garbage {
            let mut octets = b"220 2.0.0 Ready to start TLS\r\n".to_vec();
            octets.extend((0..64).map(|_| (self.random.draw() >> 56) as u8));
            verdict.reply = Reply::made(octets);
            verdict.then = Then::Close;
        }
        verdict
    }

    /// MAIL; `sender` is empty for the null path.
    pub fn handle_mail(&mut self, id: SessionId, sender: &str, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        self.end_days(now);
        let session = self.session(id);
        session.sender = sender.into();
        session.domain = hash(&[domain_of(sender).as_bytes()], 0);
        session.recipients.clear();
        session.messages += 1;
        let messages = session.messages;
        source_mut(&mut self.sources, &self.sessions, id).count_attempt(now);
        self.each_standing(&profile, id, now, |standing| standing.count_attempt());
        if self.random.falls_in(profile.faults.interrupt) {
            return self.closing(&profile, id, "interrupt", Class::Fault, now);
        }
        if messages > profile.connections.messages {
            return self.closing(&profile, id, "message_limit", Class::MessageLimit, now);
        }
        if let Some(verdict) = self.barred(&profile, id, Stage::Mail, now) {
            return verdict;
        }
        if self.random.falls_in(profile.tls.required) {
            return self.reject(
                &profile,
                id,
                "tls_required",
                Class::TlsRequired,
                "",
                "",
                now,
            );
        }
        if self.random.falls_in(profile.faults.temporary) {
            return self.reject(&profile, id, "temporary", Class::Fault, "", "", now);
        }
        if let Some(verdict) = self.limited(&profile, id, Stage::Mail, "", now) {
            return verdict;
        }
        let delay = self.wait(&profile, id, profile.delays.command, now);
        positive(Reply::fixed(b"250 2.1.0 OK\r\n"), delay)
    }

    pub fn handle_rcpt(&mut self, id: SessionId, recipient: &str, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        if let Some(verdict) = self.remembered(id, recipient, now) {
            return verdict;
        }
        if self.session(id).recipients.len() >= profile.connections.recipients as usize {
            return self.reject(
                &profile,
                id,
                "recipient_limit",
                Class::Rate,
                recipient,
                "",
                now,
            );
        }
        if let Some(verdict) = self.limited(&profile, id, Stage::Rcpt, recipient, now) {
            self.remember(&profile, id, recipient, &verdict, now);
            return verdict;
        }
        if self.is_greylisted(&profile, id, recipient, now) {
            return self.reject(
                &profile,
                id,
                "greylist",
                Class::Greylist,
                recipient,
                "",
                now,
            );
        }
        if profile.mailboxes.stage == Stage::Rcpt
            && let Some((key, class)) = self.mailbox(&profile, recipient, now)
        {
            let verdict = self.reject(&profile, id, key, class, recipient, "", now);
            self.remember(&profile, id, recipient, &verdict, now);
            return verdict;
        }
        self.session(id).recipients.push(recipient.into());
        let delay = self.wait(&profile, id, profile.delays.rcpt, now);
        positive(Reply::fixed(b"250 2.1.5 OK\r\n"), delay)
    }

    pub fn handle_data(&mut self, id: SessionId, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        let delay = self.wait(&profile, id, profile.delays.command, now);
        if self.session(id).recipients.is_empty() {
            let reply = Reply::fixed(b"554 5.5.1 No valid recipients\r\n");
            return positive(reply, delay);
        }
        positive(Reply::fixed(b"354 Go ahead\r\n"), delay)
    }

    /// The final dot; `header` is the message's header block.
    pub fn handle_end_of_data(&mut self, id: SessionId, header: &[u8], now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        if let Some(signer) = signer(header) {
            self.session(id).domain = hash(&[signer], 0);
        }
        if let Some(verdict) = self.refusal_at_dot(&profile, id, now) {
            let recipients = self.session(id).recipients.clone();
            for recipient in &recipients {
                self.remember(&profile, id, recipient, &verdict, now);
            }
            return verdict;
        }
        let faults = &profile.faults;
        let mut delay = self.wait(&profile, id, profile.delays.dot, now);
        if self.random.falls_in(faults.slow) {
            delay += self.random.between(faults.slow_by.0, faults.slow_by.1);
        }
        let reply = self.say(&profile, id, "accepted", "", "", now);
        let mut verdict = positive(reply, delay);
        let is_reset = self.random.falls_in(faults.reset);
        if is_reset {
            self.counts.reset += 1;
            verdict.then = Then::Reset;
            verdict.class = Class::Fault;
            if !self.random.falls_in(faults.reset_takes) {
                return verdict;
            }
            self.counts.reset_taken += 1;
        } else if self.random.falls_in(faults.silent) {
            self.counts.silent += 1;
            verdict.then = Then::Silence;
            verdict.class = Class::Fault;
            return verdict;
        }
        verdict.is_taken = true;
        self.accept(&profile, id, header, now);
        verdict
    }

    fn refusal_at_dot(&mut self, profile: &Profile, id: SessionId, now: Moment) -> Option<Verdict> {
        if let Some(verdict) = self.limited(profile, id, Stage::Dot, "", now) {
            return Some(verdict);
        }
        if profile.mailboxes.stage == Stage::Dot {
            let recipients = std::mem::take(&mut self.session(id).recipients);
            let bad = recipients.iter().find_map(|recipient| {
                let (key, class) = self.mailbox(profile, recipient, now)?;
                Some((key, class, recipient))
            });
            let verdict = bad.map(|(key, class, recipient)| {
                self.reject(profile, id, key, class, recipient, "", now)
            });
            self.session(id).recipients = recipients;
            if verdict.is_some() {
                return verdict;
            }
        }
        if self.random.falls_in(profile.spam) {
            let loss = profile.reputation.spam;
            let floor = profile.reputation.floor;
            self.each_standing(profile, id, now, |standing| standing.lose(loss, floor));
            return Some(self.reject(profile, id, "content", Class::Content, "", "", now));
        }
        None
    }

    fn accept(&mut self, profile: &Profile, id: SessionId, header: &[u8], now: Moment) {
        let recipients = std::mem::take(&mut self.session(id).recipients);
        self.counts.accept(recipients.len() as u64);
        self.each_standing(profile, id, now, |standing| standing.count_accepted());
        for recipient in &recipients {
            for (kind, rule) in [
                (EventKind::Complaint, &profile.complaints),
                (EventKind::Bounce, &profile.bounces),
            ] {
                if self.random.falls_in(rule.share) && self.due.len() < EVENTS_MAX {
                    self.schedule(id, kind, rule.after, recipient, header, now);
                }
            }
        }
    }

    fn schedule(
        &mut self,
        id: SessionId,
        kind: EventKind,
        after: Span,
        recipient: &str,
        header: &[u8],
        now: Moment,
    ) {
        let at = now + self.random.between(after.0, after.1);
        self.serial += 1;
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let event = Event {
            kind,
            ip: self.sources[session.source as usize].ip,
            sender: session.sender.clone(),
            recipient: recipient.into(),
            header: header[..header.len().min(HEADER_OCTETS_MAX)].into(),
            accepted: now,
            domain: session.domain,
        };
        let serial = self.serial;
        self.due.push(Reverse(Due { at, serial, event }));
    }

    /// What is to be sent back and due; a complaint costs reputation when it is made.
    pub fn poll_event(&mut self, now: Moment) -> Option<Event> {
        if self.due.peek().is_none_or(|due| due.0.at > now) {
            return None;
        }
        let event = self.due.pop()?.0.event;
        match event.kind {
            EventKind::Bounce => self.counts.bounces += 1,
            EventKind::Complaint => {
                self.counts.complaints += 1;
                let profile = Arc::clone(&self.profile);
                let (loss, floor) = (profile.reputation.complaint, profile.reputation.floor);
                for index in 0..profile.capacities.len() {
                    let scope = profile.capacities[index].limit.scope;
                    let key = key(scope, event.ip, event.domain, &event.recipient);
                    let standing = self.standing(&profile, index, key, now);
                    standing.count_complaint();
                    standing.lose(loss, floor);
                }
            }
        }
        Some(event)
    }

    /// When [`Self::poll_event`] has something next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.due.peek().map(|due| due.0.at)
    }

    /// RSET, or EHLO again: the transaction is forgotten.
    pub fn handle_reset(&mut self, id: SessionId) {
        self.session(id).recipients.clear();
    }

    /// Grows with every connection and every verdict.
    pub(super) fn activity(&self) -> u64 {
        self.counts.connections + self.counts.verdicts()
    }

    /// The account so far.
    pub fn truth(&mut self, now: Moment) -> Truth {
        self.end_days(now);
        let hidden = self.hidden(now);
        let most = self.sources.iter().map(|source| source.connections_max);
        Truth::of(
            &self.profile.name,
            &self.counts,
            hidden,
            most.max().unwrap_or(0),
            now.since(self.began),
        )
    }

    fn hidden(&mut self, now: Moment) -> Option<Hidden> {
        let profile = Arc::clone(&self.profile);
        let (capacity, standings) = profile.capacities.first().zip(self.standings.first_mut())?;
        let mut hidden = Hidden::default();
        for standing in standings.values_mut() {
            standing.pass(capacity, &profile.reputation, now);
            hidden.capacity_sum += standing.capacity_sum(capacity);
            hidden.rate += standing.rate(capacity);
            hidden.seconds_above += standing.seconds_above(capacity, now);
            hidden.reputation += standing.reputation;
            hidden.warmth += standing.warmth;
        }
        let keys = (standings.len() as f64).max(1.0);
        hidden.reputation /= keys;
        hidden.warmth /= keys;
        Some(hidden)
    }

    fn end_days(&mut self, now: Moment) {
        while self.counts.is_day_over(now) {
            let hidden = self.hidden(now);
            self.counts.close_day(
                hidden.map(|hidden| hidden.rate),
                hidden.map(|hidden| hidden.reputation),
            );
        }
    }

    fn open(&mut self, session: Session) -> SessionId {
        if let Some(index) = self.free.pop() {
            self.sessions[index as usize] = Some(session);
            return SessionId(index);
        }
        self.sessions.push(Some(session));
        SessionId(u32::try_from(self.sessions.len() - 1).expect("descriptors run out before"))
    }

    fn session(&mut self, id: SessionId) -> &mut Session {
        self.sessions[id.0 as usize]
            .as_mut()
            .expect("a session lives until its close")
    }

    fn source(&mut self, peer: IpAddr, now: Moment) -> u32 {
        let peer = peer.to_canonical();
        if let Some(index) = self.source_of.get(&peer) {
            return *index;
        }
        let index = u32::try_from(self.sources.len()).expect("addresses are fewer");
        self.sources
            .push(Source::new(peer, self.profile.lists.len(), now));
        self.source_of.insert(peer, index);
        index
    }

    /// Blocked, or in the penalty box.
    fn barred(
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

    /// The first limit or capacity of this stage that refuses; all of them count what none refuses.
    fn limited(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        recipient: &str,
        now: Moment,
    ) -> Option<Verdict> {
        let is_here = |limit: &Limit| limit.stage == stage;
        let mut refusing: Option<(&Limit, bool)> = None;
        for (index, limit) in profile.limits.iter().enumerate() {
            if is_here(limit) && refusing.is_none() {
                let key = self.key(limit.scope, id, recipient);
                let meter = meter(&mut self.meters[index], key, limit, now);
                let share = meter.share_with_one(limit, 1.0, now);
                if self.exceeds(limit, share) {
                    refusing = Some((limit, false));
                }
            }
        }
        for (index, capacity) in profile.capacities.iter().enumerate() {
            let limit = &capacity.limit;
            if is_here(limit) && refusing.is_none() {
                let key = self.key(limit.scope, id, recipient);
                let standing = self.standing(profile, index, key, now);
                let scale = standing.scale();
                let share = standing.meter.share_with_one(limit, scale, now);
                if self.exceeds(limit, share) {
                    refusing = Some((limit, true));
                }
            }
        }
        self.count(profile, id, stage, recipient, refusing.is_none(), now);
        let (limit, is_hidden) = refusing?;
        let class = limit.class(is_hidden);
        let mut verdict = self.reject(profile, id, &limit.reply, class, recipient, "", now);
        if limit.closes {
            verdict.then = Then::Close;
        }
        Some(verdict)
    }

    fn count(
        &mut self,
        profile: &Profile,
        id: SessionId,
        stage: Stage,
        recipient: &str,
        is_admitted: bool,
        now: Moment,
    ) {
        let counts = |limit: &Limit| limit.stage == stage && (is_admitted || limit.counts_deferred);
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

    /// From the knee on by chance, from `full` on always.
    fn exceeds(&mut self, limit: &Limit, share: f64) -> bool {
        if share <= limit.knee {
            return false;
        }
        share > limit.full
            || self
                .random
                .falls_in((share - limit.knee) / (limit.full - limit.knee).max(f64::MIN_POSITIVE))
    }

    fn is_greylisted(
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

    fn remembered(&mut self, id: SessionId, recipient: &str, now: Moment) -> Option<Verdict> {
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

    fn remember(
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
    fn mailbox(
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

    fn closing(
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
    fn reject(
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

    fn say(
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
        };
        let age = now.since(self.began);
        profile.texts.reply(key, age, filling, &mut self.random)
    }

    fn wait(&mut self, profile: &Profile, id: SessionId, span: Span, now: Moment) -> Duration {
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

    fn reputation_at_connect(&mut self, profile: &Profile, id: SessionId, now: Moment) -> f64 {
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
    fn each_standing(
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

    fn standing(
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

    fn key(&self, scope: Scope, id: SessionId, recipient: &str) -> u64 {
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let ip = self.sources[session.source as usize].ip;
        key(scope, ip, session.domain, recipient)
    }

    fn triplet(&self, id: SessionId, recipient: &str) -> u64 {
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

impl Source {
    fn connect(&mut self) {
        self.connections += 1;
        self.connections_max = self.connections_max.max(self.connections);
    }
}

fn source_mut<'a>(
    sources: &'a mut [Source],
    sessions: &[Option<Session>],
    id: SessionId,
) -> &'a mut Source {
    let session = sessions[id.0 as usize]
        .as_ref()
        .expect("a session lives until its close");
    &mut sources[session.source as usize]
}

const fn positive(reply: Reply, delay: Duration) -> Verdict {
    Verdict {
        reply,
        delay,
        then: Then::Go,
        class: Class::Accepted,
        is_taken: false,
    }
}

fn meter<'a>(meters: &'a mut Map<Meter>, key: u64, limit: &Limit, now: Moment) -> &'a mut Meter {
    if meters.len() >= KEYS_MAX {
        meters.retain(|_, meter| !meter.is_spent(limit, now));
    }
    meters.entry(key).or_default()
}

/// Forgets what is spent when the map is full, and all when nothing is.
fn bound<T>(map: &mut Map<T>, is_alive: impl Fn(&T) -> bool) {
    if map.len() < KEYS_MAX {
        return;
    }
    map.retain(|_, value| is_alive(value));
    if map.len() >= KEYS_MAX {
        map.clear();
    }
}

fn key(scope: Scope, ip: IpAddr, domain: u64, recipient: &str) -> u64 {
    match (scope, ip) {
        (Scope::Site, _) => 1,
        (Scope::Domain, _) => domain,
        (Scope::Recipient, _) => hash(&[recipient.as_bytes()], 0),
        (Scope::Ip, IpAddr::V4(ip)) => hash(&[&ip.octets()], 0),
        (Scope::Ip, IpAddr::V6(ip)) => hash(&[&ip.octets()], 0),
        (Scope::Net, IpAddr::V4(ip)) => hash(&[&ip.octets()[..3]], 0),
        (Scope::Net, IpAddr::V6(ip)) => hash(&[&ip.octets()[..8]], 0),
    }
}

/// FNV-1a over the parts, then mixed; never 0.
fn hash(parts: &[&[u8]], seed: u64) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for part in parts {
        for octet in *part {
            state = (state ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        state = (state ^ 0x1FF).wrapping_mul(0x0000_0100_0000_01B3);
    }
    state ^= state >> 31;
    state = state.wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^= state >> 29;
    state | 1
}

fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// The `d=` of the first DKIM-Signature.
fn signer(header: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"dkim-signature:";
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', header).map(|at| at + 1));
    let field = starts.map(|at| &header[at..]).find(|rest| {
        rest.get(..NAME.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(NAME))
    })?;
    // The field ends at a line end that no white space follows.
    let end = memchr::memchr_iter(b'\n', field)
        .find(|at| !matches!(field.get(at + 1), Some(b' ' | b'\t')))
        .unwrap_or(field.len());
    field[NAME.len()..end]
        .split(|octet| *octet == b';')
        .find_map(|tag| {
            let value = tag.trim_ascii().strip_prefix(b"d")?.trim_ascii_start();
            Some(value.strip_prefix(b"=")?.trim_ascii())
        })
}

#[cfg(test)]
#[path = "brain_tests.rs"]
mod tests;
