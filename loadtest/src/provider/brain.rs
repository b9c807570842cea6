//! A provider's mind: events of SMTP sessions in, verdicts out, time as an argument, chance by seed. No socket, no clock. What a caller
//! does with a verdict (write, wait, close, reset, keep silent) is the caller's work.

use super::authentication::{Claims, message_id, signer};
use super::class::Class;
use super::key::{AsIs, Map, bound, hash};
use super::meter::{Meter, Recent};
use super::profile::{Capacity, Profile, Scope, Stage};
use super::returned::{Due, EventKind};
use super::source::Source;
use super::standing::Standing;
use super::text::{Reply, domain_of};
use super::truth::{Counts, Hidden, Truth};
use crate::measure::ratio;
use crate::quantity::Random;
use posthaste_core::words::Moment;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const READY: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";

/// Says which session an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) u32);

/// What happens after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Go,
    Close,
    /// TLS from the next octet on, then [`Brain::handle_secured`].
    Secure,
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

pub(super) struct Session {
    pub(super) source: u32,
    /// Counted among the open connections of its address.
    pub(super) is_counted: bool,
    pub(super) offers_tls: bool,
    pub(super) is_secured: bool,
    pub(super) messages: u32,
    pub(super) sender: Box<str>,
    /// Hash of the sender's domain, or of the signing domain after the dot.
    pub(super) domain: u64,
    /// Domain of From, after the dot where senders must authenticate.
    pub(super) author: Box<str>,
    pub(super) recipients: Vec<Box<str>>,
    /// After the dot, where one is counted by it.
    pub(super) message_id: Box<str>,
}

#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) first: Moment,
    pub(super) has_passed: bool,
}

/// One provider. Memory is bounded by the number of addresses and domains that send to it.
pub struct Brain {
    pub(super) profile: Arc<Profile>,
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) began: Moment,
    pub(super) sessions: Vec<Option<Session>>,
    pub(super) free: Vec<u32>,
    pub(super) sources: Vec<Source>,
    pub(super) source_of: HashMap<IpAddr, u32, BuildHasherDefault<AsIs>>,
    pub(super) connections: u32,
    pub(super) backend: u32,
    pub(super) standings: Vec<Map<Standing>>,
    pub(super) meters: Vec<Map<Meter>>,
    pub(super) greylist: Map<Seen>,
    /// Accepted messages by From domain, where that makes a bulk sender.
    authors: Map<Recent>,
    pub(super) cache: Map<(Moment, Reply)>,
    pub(super) due: BinaryHeap<Reverse<Due>>,
    pub(super) serial: u64,
    pub(super) counts: Counts,
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
            authors: Map::default(),
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
        // Where all connections have it there is no chance to be drawn.
        let offers_tls = profile.tls.offer >= 1.0 || self.random.falls_in(profile.tls.offer);
        let id = self.open(Session {
            source,
            is_counted: false,
            offers_tls,
            is_secured: false,
            messages: 0,
            sender: "".into(),
            domain: 0,
            author: "".into(),
            recipients: Vec::new(),
            message_id: "".into(),
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
        if let Some(verdict) = self.nameless(profile, id, Stage::Connect, now) {
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
        let session = self.session(id);
        let tls = if session.offers_tls && !session.is_secured {
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

    /// TLS, or what fails of it by share.
    pub fn handle_starttls(&mut self, id: SessionId, now: Moment) -> Verdict {
        let profile = Arc::clone(&self.profile);
        let session = self.session(id);
        if session.is_secured || !session.offers_tls {
            let reply = Reply::fixed(b"503 5.5.1 STARTTLS is not offered\r\n");
            return positive(reply, Duration::ZERO);
        }
        let (chance, tls) = (self.random.unit(), &profile.tls);
        if chance >= tls.refuse + tls.garbage + tls.reset {
            let delay = self.wait(&profile, id, profile.delays.command, now);
            let mut verdict = positive(Reply::fixed(READY), delay);
            verdict.then = Then::Secure;
            return verdict;
        }
        let mut verdict = self.reject(&profile, id, "tls_fault", Class::TlsFault, "", "", now);
        if chance < tls.refuse {
            return verdict;
        }
        verdict.then = Then::Reset;
        if chance < tls.refuse + tls.garbage {
            let mut octets = READY.to_vec();
            octets.extend((0..64).map(|_| (self.random.draw() >> 56) as u8));
            verdict.reply = Reply::made(octets);
            verdict.then = Then::Close;
        }
        verdict
    }

    /// TLS stands.
    pub fn handle_secured(&mut self, id: SessionId) {
        self.session(id).is_secured = true;
        self.counts.secured += 1;
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
        self.count_attempt(&profile, id, false, now);
        if self.random.falls_in(profile.faults.interrupt) {
            return self.closing(&profile, id, "interrupt", Class::Fault, now);
        }
        if messages > profile.connections.messages {
            return self.closing(&profile, id, "message_limit", Class::MessageLimit, now);
        }
        if let Some(verdict) = self.barred(&profile, id, Stage::Mail, now) {
            return verdict;
        }
        if !self.session(id).is_secured && self.random.falls_in(profile.tls.required) {
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
        if profile.takes_none(domain_of(recipient)) {
            return self.reject(&profile, id, "null_mx", Class::NullMx, recipient, "", now);
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
        self.count_attempt(&profile, id, true, now);
        if profile
            .limits
            .iter()
            .any(|limit| limit.scope == Scope::MessageId)
        {
            self.session(id).message_id = message_id(header).into();
        }
        if let Some(verdict) = self.refusal_at_dot(&profile, id, header, now) {
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

    fn refusal_at_dot(
        &mut self,
        profile: &Profile,
        id: SessionId,
        header: &[u8],
        now: Moment,
    ) -> Option<Verdict> {
        if let Some(verdict) = self.nameless(profile, id, Stage::Dot, now) {
            return Some(verdict);
        }
        if let Some((key, class)) = self.lack_of_proof(profile, id, header, now) {
            return Some(self.reject(profile, id, key, class, "", "", now));
        }
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

    /// What the message lacks of SPF, DKIM and DMARC, and of TLS where those who send much must have it: the key of its text.
    fn lack_of_proof(
        &mut self,
        profile: &Profile,
        id: SessionId,
        header: &[u8],
        now: Moment,
    ) -> Option<(&'static str, Class)> {
        let rules = profile.authentication.as_ref()?;
        let sender = self.session(id).sender.clone();
        let claims = Claims::of(&sender, header);
        self.session(id).author = claims.author.into();
        let key = hash(&[claims.author.as_bytes()], 0);
        let is_bulk = rules.bulk.is_some_and(|(amount, span)| {
            let sent = self.authors.get_mut(&key);
            sent.is_some_and(|sent| sent.count(span, now) >= amount)
        });
        let lacking = rules.lack(&claims, is_bulk, self.seed);
        let is_plain = is_bulk && !self.session(id).is_secured;
        if is_plain && self.random.falls_in(profile.tls.required_of_bulk) {
            return Some(("tls_required", Class::TlsRequired));
        }
        lacking.map(|key| (key, Class::Authentication))
    }

    fn count_author(&mut self, profile: &Profile, id: SessionId, now: Moment) {
        let rules = profile.authentication.as_ref();
        let Some((_, span)) = rules.and_then(|rules| rules.bulk) else {
            return;
        };
        let key = hash(&[self.session(id).author.as_bytes()], 0);
        // A map that is full begins anew.
        bound(&mut self.authors, |_| false);
        self.authors.entry(key).or_default().add(span, now);
    }

    fn accept(&mut self, profile: &Profile, id: SessionId, header: &[u8], now: Moment) {
        let recipients = std::mem::take(&mut self.session(id).recipients);
        self.counts.accept(recipients.len() as u64);
        self.count_author(profile, id, now);
        let escalation = profile.escalation.as_ref();
        let bound = escalation.and_then(|it| it.complaints.as_ref());
        self.each_standing(profile, id, now, |standing| {
            standing.count_accepted(bound, now);
        });
        let (complaints, bounces) = (&profile.complaints, &profile.bounces);
        let (dislike, seed) = (&profile.dislike, self.seed);
        let sender = &self.session(id).sender;
        let complained_of = dislike.share_of(complaints.share, sender, header, seed);
        for recipient in &recipients {
            for (kind, share, after) in [
                (EventKind::Complaint, complained_of, complaints.after),
                (EventKind::Bounce, bounces.share, bounces.after),
            ] {
                if self.random.falls_in(share) {
                    self.schedule(id, kind, after, recipient, header, now);
                }
            }
        }
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

    /// Each capacity, over all keys that anything was attempted for.
    fn hidden(&mut self, now: Moment) -> Vec<Hidden> {
        let profile = Arc::clone(&self.profile);
        let pairs = profile.capacities.iter().zip(&mut self.standings);
        let counts = &self.counts;
        let of = |(capacity, standings): (&Capacity, &mut Map<Standing>)| {
            let mut hidden = Hidden {
                per: capacity.limit.scope.name(),
                ..Hidden::default()
            };
            let mut reputation = 0.0;
            let mut warmth = 0.0;
            for standing in standings.values_mut().filter(|one| one.is_used()) {
                standing.pass(capacity, &profile.reputation, now);
                hidden.senders += 1;
                hidden.capacity += standing.capacity_sum();
                hidden.capacity_per_second += standing.rate(capacity);
                hidden.seconds_above_capacity += standing.seconds_above(capacity, now);
                reputation += standing.reputation;
                warmth += standing.warmth;
            }
            let goodput = match capacity.limit.stage {
                Stage::Rcpt => counts.recipients,
                Stage::Connect | Stage::Mail | Stage::Dot => counts.messages,
            };
            let senders = hidden.senders as f64;
            hidden.goodput_over_capacity = ratio(goodput as f64, hidden.capacity);
            hidden.reputation = ratio(reputation, senders);
            hidden.warmth = ratio(warmth, senders);
            hidden
        };
        pairs.map(of).collect()
    }

    fn end_days(&mut self, now: Moment) {
        while self.counts.is_day_over(now) {
            let hidden = self.hidden(now);
            self.counts.close_day(&hidden);
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

    pub(super) fn session(&mut self, id: SessionId) -> &mut Session {
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
}

pub(super) fn source_mut<'a>(
    sources: &'a mut [Source],
    sessions: &[Option<Session>],
    id: SessionId,
) -> &'a mut Source {
    let session = sessions[id.0 as usize]
        .as_ref()
        .expect("a session lives until its close");
    &mut sources[session.source as usize]
}

pub(super) const fn positive(reply: Reply, delay: Duration) -> Verdict {
    Verdict {
        reply,
        delay,
        then: Then::Go,
        class: Class::Accepted,
        is_taken: false,
    }
}

#[cfg(test)]
#[path = "brain_tests.rs"]
mod tests;
