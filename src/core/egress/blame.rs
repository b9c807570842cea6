//! Whether a failure is the source's own: only then may another source do better.

use crate::words::{Cause, Enhanced, Outcome, Reply, Stage};

/// What a provider has against a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was sent from the address before.
    Reputation,
    /// No connection from it, or not so many, or not so much in a time.
    Connection,
    /// The address itself: no name, a dynamic one, a block list.
    Address,
}

impl Fault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reputation => "reputation",
            Self::Connection => "connection",
            Self::Address => "address",
        }
    }
}

/// Whose a failure is, as far as pools go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The source's, at this provider.
    Source(Fault),
    /// The message's: what it says or links to. The same from every source.
    Content,
    /// The sending domain's or the tenant's: authentication, policy, reputation.
    Domain,
    /// The recipient's: no such mailbox, a full one, one that gets too much.
    Recipient,
    /// The receiver's own: a block list gives it no answers, and it takes that for a listing.
    Receiver,
    /// The site's, ours, or nobody knows whose.
    Other,
}

/// Spamhaus answers so who asks it by a public resolver or too often (return codes 127.255.255.252 to
/// 255). The receiver's mistake, whatever else the reply says.
const RECEIVER: &[&str] = &[
    "open resolver",
    "public resolver",
    "excessive queries",
    "excessive number of queries",
    "127.255.255",
];
/// In this order: the first that is found decides, and what speaks of content or domain comes first,
/// so that a reply which names both never sends mail round by another source.
const CONTENT: &[&str] = &[
    "content",
    "spam message",
    "as spam",
    "looks like spam",
    "considered spam",
    "spam detected",
    "message contains",
    "virus",
    "malware",
    "phish",
    "url",
    "link",
    // Lists of what a message links to, or who it says it is from.
    "surbl",
    "uribl",
    "rhsbl",
    "attachment",
];
const DOMAIN: &[&str] = &[
    "dmarc",
    "dkim",
    "spf",
    "authentication",
    "unauthenticated",
    "sending domain",
    "sender domain",
    "from domain",
    "domain reputation",
    "reputation of the domain",
    "reputation of your domain",
    "dbl",
    "banned sender",
    "sender address",
    "sender rejected",
];
/// The address has no name, or another one.
const NAMELESS: &[&str] = &["ptr", "reverse dns", "rdns", "forward dns"];
const ADDRESS: &[&str] = &[
    "block list",
    "blocklist",
    "blocklisted",
    "blacklist",
    "blacklisted",
    "dnsbl",
    "blocked using",
    "spamhaus",
    "dynamic ip",
    "banned sending ip",
    "ip address is blocked",
    "your ip",
    "client host",
];
const REPUTATION: &[&str] = &[
    "reputation",
    "unusual rate",
    "rate limited due to ip",
    "complaints",
];
const CONNECTION: &[&str] = &[
    "too many connections",
    "maximum number of connections",
    "concurrent connections",
    "connection limit",
    "too many concurrent",
];

/// RFC 7372 §3 and the registry of enhanced codes: what 4.7.x and 5.7.x say by number.
const fn by_code(enhanced: Enhanced) -> Option<Blame> {
    match (enhanced.subject, enhanced.detail) {
        // SPF, DKIM, several of them, DMARC. Google has 4.7.23 for reverse DNS: see `by_reply`.
        (7, 20..=24 | 26 | 27 | 30 | 32) => Some(Blame::Domain),
        // Reverse DNS.
        (7, 25) => Some(Blame::Source(Fault::Address)),
        // Media or conversion.
        (6, _) => Some(Blame::Content),
        // Bad or unknown mailbox; without a detail Comcast and Spectrum throttle by it.
        (1 | 2, 1..) => Some(Blame::Recipient),
        _ => None,
    }
}

impl Fault {
    /// Of a reply that blames the source for more than its pace.
    pub fn of_reply(reply: &Reply) -> Self {
        let text = folded(reply);
        let is_listed = says(&text, ADDRESS) && !says(&text, REPUTATION);
        if is_listed || says(&text, NAMELESS) {
            Self::Address
        } else {
            Self::Reputation
        }
    }
}

impl Blame {
    /// A careful reading of what happened; who knows the provider's words better uses them instead.
    pub fn of(outcome: &Outcome) -> Self {
        let (Outcome::Deferred(cause) | Outcome::Refused(cause)) = outcome else {
            return Self::Other;
        };
        match cause {
            Cause::Reply { stage, reply } => by_reply(*stage, reply),
            Cause::Connect { .. } => Self::Source(Fault::Connection),
            Cause::Lost { stage, .. } if is_before_mail(*stage) => Self::Source(Fault::Connection),
            Cause::Lost { .. }
            | Cause::Protocol { .. }
            | Cause::Route(_)
            | Cause::NotSupported { .. }
            | Cause::Expired { .. }
            | Cause::Operator { .. }
            | Cause::Ours { .. } => Self::Other,
        }
    }
}

fn by_reply(stage: Stage, reply: &Reply) -> Blame {
    let text = folded(reply);
    let says = |words: &[&str]| says(&text, words);
    let enhanced = reply.enhanced;
    let is_policy = enhanced.is_none_or(|code| code.subject == 7 || code.subject == 0);
    if says(RECEIVER) {
        return Blame::Receiver;
    }
    // SPF by the registry; Google's code for an address without a name.
    if enhanced.is_some_and(|code| (code.subject, code.detail) == (7, 23)) && says(NAMELESS) {
        return Blame::Source(Fault::Address);
    }
    if let Some(blame) = enhanced.and_then(by_code) {
        return blame;
    }
    if says(CONTENT) {
        return Blame::Content;
    }
    if says(DOMAIN) {
        return Blame::Domain;
    }
    if says(CONNECTION) {
        return Blame::Source(Fault::Connection);
    }
    // A mailbox that is full or unknown may be told of in many words, but not with 5.7.x.
    if !is_policy && !is_before_mail(stage) {
        return Blame::Other;
    }
    if says(NAMELESS) {
        return Blame::Source(Fault::Address);
    }
    // Who has read the message speaks of it as well as of the address: common words do not tell.
    if stage == Stage::Dot {
        return Blame::Other;
    }
    if says(ADDRESS) {
        return Blame::Source(Fault::Address);
    }
    if says(REPUTATION) {
        return Blame::Source(Fault::Reputation);
    }
    Blame::Other
}

fn folded(reply: &Reply) -> String {
    reply.text.to_ascii_lowercase().replace('\n', " ")
}

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|words| has_words(text, words))
}

/// Nothing of the message is known to the peer yet.
const fn is_before_mail(stage: Stage) -> bool {
    matches!(stage, Stage::Connect | Stage::Banner | Stage::Ehlo)
}

/// Whole words: `spf` is not in `hotspfield`.
fn has_words(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let is_edge = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
        is_edge(text[..at].chars().next_back()) && {
            let rest = &text[at + words.len()..];
            is_edge(rest.strip_prefix('s').unwrap_or(rest).chars().next())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(stage: Stage, code: u16, text: &str) -> Blame {
        let (enhanced, text) = match Enhanced::parse_prefix(text) {
            Some((enhanced, text)) => (Some(enhanced), text),
            None => (None, text),
        };
        let reply = Reply::new(code, enhanced, text);
        Blame::of(&Outcome::Refused(Cause::Reply { stage, reply }))
    }

    #[test]
    fn verdicts_on_a_source_are_its_own() {
        use Fault::{Address, Connection, Reputation};
        let cases = [
            (
                Stage::Mail,
                421,
                "4.7.0 very low reputation of the sending ip address",
                Reputation,
            ),
            (
                Stage::Dot,
                421,
                "4.7.23 the sending address doesn't have a PTR record, or the record fails SPF",
                Address,
            ),
            (Stage::Rcpt, 554, "5.7.1 192.0.2.1 is blacklisted", Address),
            (
                Stage::Dot,
                550,
                "5.7.25 The IP address does not have a PTR record",
                Address,
            ),
            (
                Stage::Mail,
                550,
                "5.7.1 part of their network is on our block list (S3140)",
                Address,
            ),
            (
                Stage::Mail,
                550,
                "5.7.606 Access denied, banned sending IP [192.0.2.1]",
                Address,
            ),
            (
                Stage::Banner,
                554,
                "blocked using zen.spamhaus.org",
                Address,
            ),
            (
                Stage::Mail,
                451,
                "4.7.650 temporarily rate limited due to IP reputation",
                Reputation,
            ),
            (
                Stage::Banner,
                421,
                "too many connections from your host",
                Connection,
            ),
        ];
        for (stage, code, text, fault) in cases {
            assert_eq!(blame(stage, code, text), Blame::Source(fault), "{text}");
        }
    }

    #[test]
    fn verdicts_on_content_or_domain_are_never_the_sources() {
        let content = [
            "5.7.1 message content rejected, see our block list policy",
            "5.7.1 This message looks like spam from your IP",
            "5.7.1 message contains a URL listed by Spamhaus",
            "5.6.0 malformed message",
            "5.7.1 Message blocked using multi.surbl.org",
            "5.7.1 rejected as spam, your IP is 192.0.2.1",
            "5.7.1 a link in it is on our block list",
        ];
        for text in content {
            assert_eq!(blame(Stage::Dot, 550, text), Blame::Content, "{text}");
        }
        let domain = [
            "4.7.0 very low reputation of the sending domain",
            "5.7.26 fails to pass authentication checks",
            "5.7.1 not accepted due to domain's DMARC policy, ip reputation",
            "5.7.1 sender rejected, listed at dbl.spamhaus.org",
            "4.7.28 unusual rate of mail from your DKIM domain",
            "5.7.23 Sender Policy Framework violation",
        ];
        for text in domain {
            assert_eq!(blame(Stage::Dot, 550, text), Blame::Domain, "{text}");
        }
    }

    #[test]
    fn what_is_nobodys_moves_no_source() {
        use Blame::{Other, Receiver, Recipient};
        let cases = [
            (Stage::Rcpt, "5.1.1 no such user", Recipient),
            (Stage::Rcpt, "5.2.2 mailbox full, reputation", Recipient),
            (Stage::Rcpt, "4.3.2 try again later", Other),
            (Stage::Rcpt, "please wait", Other),
            (
                Stage::Rcpt,
                "5.7.1 listed at spamhaus: open resolver",
                Receiver,
            ),
            // Said of a message that was read.
            (Stage::Dot, "5.7.1 your IP has a bad reputation", Other),
        ];
        for (stage, text, whose) in cases {
            assert_eq!(blame(stage, 550, text), whose, "{text}");
        }
        let ours = Cause::Ours { detail: "x".into() };
        assert_eq!(Blame::of(&Outcome::Deferred(ours)), Other);
    }
}
