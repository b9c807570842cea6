//! A provider as its TOML file describes it, checked: holding a [`Profile`] means that it is sound. Decides nothing.

use super::class::Class;
use super::text::Texts;
use posthaste_core::words::Moment;
use std::time::Duration;

/// A least and a most; drawn evenly.
pub(super) type Span = (Duration, Duration);

/// Where a verdict is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    Mail,
    Rcpt,
    /// After the final dot.
    Dot,
}

/// What shares one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Ip,
    /// The /24 of an IPv4 address, the /64 of an IPv6 address.
    Net,
    /// The envelope sender's domain, or the signing domain where the verdict comes after the dot.
    Domain,
    Recipient,
    /// Known after the dot; messages without one are not counted.
    MessageId,
    Site,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// A token bucket.
    Bucket,
    /// The last so many seconds, estimated from two halves.
    Sliding,
    /// Aligned to the clock: a window of 30 minutes ends at :00 and :30.
    Fixed,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Connections,
    Messages,
    Recipients,
}

/// A quantity in a window, with its reply.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) counted: Counted,
    pub(super) scope: Scope,
    pub(super) window: Window,
    pub(super) amount: f64,
    pub(super) span: Duration,
    /// A bucket's depth.
    pub(super) burst: f64,
    /// Share of the amount from which deferrals begin, and from which all is deferred.
    pub(super) knee: f64,
    pub(super) full: f64,
    /// Deferred attempts count as well.
    pub(super) counts_deferred: bool,
    pub(super) stage: Stage,
    pub(super) reply: Box<str>,
    pub(super) closes: bool,
}

/// A limit that the client cannot know: it depends on standing.
#[derive(Clone, Debug)]
pub(super) struct Capacity {
    pub(super) limit: Limit,
    /// Warm over cold amount: how far warm-up leads.
    pub(super) warmth_max: f64,
    /// Factor per day of good use.
    pub(super) growth: f64,
    /// Complaints per message above which a day does not warm.
    pub(super) complaints_max: f64,
    /// The amount is drawn by seed within this share of what is written.
    pub(super) randomised: f64,
    /// The text for mail of a key that complaints have blocked.
    pub(super) blocked: Box<str>,
}

#[derive(Clone, Debug)]
pub(super) struct Reputation {
    pub(super) initial: f64,
    pub(super) floor: f64,
    /// Time in which two thirds of what was lost comes back.
    pub(super) recovery: Duration,
    /// What each event takes.
    pub(super) complaint: f64,
    pub(super) unknown: f64,
    pub(super) deferred: f64,
    pub(super) probe: f64,
    pub(super) spam: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) per_ip: u32,
    pub(super) per_site: u32,
    /// The limit per address shrinks with reputation.
    pub(super) is_scaled: bool,
    pub(super) messages: u32,
    pub(super) recipients: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Penalty {
    /// So many pressing attempts within `within` open the box.
    pub(super) after: f64,
    pub(super) within: Duration,
    pub(super) length: Duration,
    /// Probes in the box beyond `probes` lengthen it by so much, up to `length_max` from the probe.
    pub(super) extension: Duration,
    pub(super) length_max: Duration,
    pub(super) probes: u32,
    pub(super) stage: Stage,
    /// Only refused connections count, not deferred messages.
    pub(super) of_connections: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Escalation {
    pub(super) after: f64,
    pub(super) within: Duration,
    /// Blocks only while attempts stay above this share of what they were when deferrals began.
    pub(super) reduced: f64,
    pub(super) length: Duration,
    pub(super) stage: Stage,
    pub(super) complaints: Option<ComplaintBound>,
}

/// From when on complaints turn what a key of a capacity sends into 5xx.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComplaintBound {
    /// Complaints per message within `within`; more of them block.
    pub(super) share: f64,
    pub(super) within: Duration,
    /// Fewer complaints than this say nothing.
    pub(super) least: f64,
    pub(super) length: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Greylist {
    pub(super) delay: Duration,
    pub(super) window: Duration,
    pub(super) lifetime: Duration,
}

/// How long an answer is given again to the same address, sender and recipient.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pub(super) temporary: Duration,
    pub(super) permanent: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Mailboxes {
    pub(super) unknown: f64,
    pub(super) full: f64,
    pub(super) inactive: f64,
    /// How long a mailbox stays full.
    pub(super) full_span: Duration,
    pub(super) stage: Stage,
}

/// What must be proved of a sender's domain.
#[derive(Clone, Debug)]
pub(super) struct Authentication {
    /// Shares of domains whose SPF record does not name the client, whose signatures do not verify, whose DMARC policy is to reject.
    pub(super) spf_fails: f64,
    pub(super) dkim_fails: f64,
    pub(super) dmarc_rejects: f64,
    /// Beyond so many messages of one From domain, SPF, DKIM and alignment must all be had; else either of the first two.
    pub(super) bulk: Option<(f64, Duration)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    pub(super) banner: Span,
    pub(super) command: Span,
    pub(super) rcpt: Span,
    pub(super) dot: Span,
    /// Below this reputation every reply waits for `tarpit` more.
    pub(super) tarpit_below: f64,
    pub(super) tarpit: Span,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FaultRates {
    /// Final replies that take `slow_by` longer.
    pub(super) slow: f64,
    pub(super) slow_by: Span,
    /// Final replies that never come.
    pub(super) silent: f64,
    /// Connections reset after the dot, and the share of those whose message was taken all the same.
    pub(super) reset: f64,
    pub(super) reset_takes: f64,
    /// 421 in the middle, with the connection closed.
    pub(super) interrupt: f64,
    /// 451 at MAIL.
    pub(super) temporary: f64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    /// Connections to which STARTTLS is offered.
    pub(super) offer: f64,
    /// What becomes of STARTTLS, by share: 454, octets that are no TLS, a reset connection; else TLS.
    pub(super) refuse: f64,
    pub(super) garbage: f64,
    pub(super) reset: f64,
    /// Messages outside TLS that are refused for want of it.
    pub(super) required: f64,
    /// The same, after the dot, of messages of those who send much.
    pub(super) required_of_bulk: f64,
}

/// Client addresses that have no name.
#[derive(Clone, Debug)]
pub(super) struct Ptr {
    pub(super) missing: f64,
    pub(super) stage: Stage,
}

/// One list in the bit mask.
#[derive(Clone, Debug)]
pub(super) struct ListBit {
    /// Reputation below which an address may get on it.
    pub(super) below: f64,
    /// Chance per hour below that.
    pub(super) hourly: f64,
    pub(super) length: Duration,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Backends {
    pub(super) count: u32,
    pub(super) dead: u32,
}

/// What comes back later by mail.
#[derive(Clone, Debug, Default)]
pub(super) struct Return {
    pub(super) share: f64,
    pub(super) after: Span,
}

/// Whose mail is complained of more than that of others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dislike {
    /// Share of senders that are disliked.
    pub(super) senders: f64,
    /// Share of their messages that is complained of.
    pub(super) share: f64,
}

/// A mail host: `addresses` A records, `ipv6` AAAA records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    pub name: Box<str>,
    pub preference: u16,
    pub addresses: u8,
    /// Nothing listens on the first so many of its addresses.
    pub refused: u8,
    /// The next so many never answer a SYN.
    pub unreachable: u8,
    /// So many AAAA records besides, where there is a block of IPv6 addresses.
    pub ipv6: u8,
    /// Nothing listens on the first so many of those.
    pub ipv6_refused: u8,
}

/// How its name servers behave, as shares of queries.
#[derive(Clone, Debug, Default)]
pub struct NameFaults {
    pub servfail: f64,
    pub silent: f64,
    pub truncated: f64,
}

/// A provider, checked. One per provider, shared.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: Box<str>,
    /// Name in the banner.
    pub host: Box<str>,
    pub domains: Vec<Box<str>>,
    /// Domains that take no mail and say so (RFC 7505).
    pub null_mx: Vec<Box<str>>,
    pub hosts: Vec<MailHost>,
    pub name_faults: NameFaults,
    pub(super) capacities: Vec<Capacity>,
    pub(super) limits: Vec<Limit>,
    pub(super) reputation: Reputation,
    pub(super) connections: Connections,
    pub(super) penalty: Option<Penalty>,
    pub(super) escalation: Option<Escalation>,
    pub(super) greylist: Option<Greylist>,
    pub(super) cache: Option<Cache>,
    pub(super) mailboxes: Mailboxes,
    pub(super) authentication: Option<Authentication>,
    pub(super) spam: f64,
    pub(super) delays: Delays,
    pub(super) faults: FaultRates,
    pub(super) tls: Tls,
    pub(super) ptr: Option<Ptr>,
    pub(super) lists: Vec<ListBit>,
    pub(super) backends: Backends,
    pub(super) complaints: Return,
    pub(super) dislike: Dislike,
    pub(super) bounces: Return,
    pub(super) texts: Texts,
}

impl Profile {
    /// Whether mail to `domain` is unwanted for good: it has a null MX.
    pub(super) fn takes_none(&self, domain: &str) -> bool {
        let mut domains = self.null_mx.iter();
        domains.any(|one| one.eq_ignore_ascii_case(domain))
    }
}

impl Scope {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Net => "net",
            Self::Domain => "domain",
            Self::Recipient => "recipient",
            Self::MessageId => "message_id",
            Self::Site => "site",
        }
    }
}

impl Limit {
    /// Messages per second that the limit comes to.
    pub(super) fn rate(&self) -> f64 {
        self.amount / self.span.as_secs_f64()
    }

    /// The most that it lets through at once, all of it unused.
    pub(super) fn at_once(&self, scale: f64) -> f64 {
        let amount = match self.window {
            Window::Bucket => self.burst,
            Window::Sliding | Window::Fixed => self.amount,
        };
        (amount * scale).max(1.0)
    }

    /// The number of the window by the clock that `now` is in.
    pub(super) fn window_at(&self, now: Moment) -> u64 {
        now.as_micros() / self.span_us()
    }

    pub(super) fn window_end(&self, number: u64) -> Moment {
        Moment::from_micros((number + 1) * self.span_us())
    }

    fn span_us(&self) -> u64 {
        (self.span.as_micros() as u64).max(1)
    }

    /// Whether it is looked at there; a message that may have no id is no matter of a limit that counts by it.
    pub(super) fn is_asked(&self, stage: Stage, has_id: bool) -> bool {
        self.stage == stage && (has_id || self.scope != Scope::MessageId)
    }

    /// The class of what a plain limit refuses.
    pub(super) const fn class(&self) -> Class {
        match self.counted {
            Counted::Connections => Class::ConnectionLimit,
            Counted::Messages | Counted::Recipients => Class::Rate,
        }
    }
}
