//! Reply texts: variants by weight and time, with places to fill in. Renders octets; never chooses whether to refuse.

use crate::quantity::Random;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// A whole reply, all its lines with their CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub octets: Cow<'static, [u8]>,
}

impl Reply {
    /// A reply whose first three octets are its code.
    pub(super) fn fixed(octets: &'static [u8]) -> Self {
        Self {
            code: code_of(octets),
            octets: Cow::Borrowed(octets),
        }
    }

    pub(super) fn made(octets: Vec<u8>) -> Self {
        Self {
            code: code_of(&octets),
            octets: Cow::Owned(octets),
        }
    }
}

fn code_of(octets: &[u8]) -> u16 {
    octets
        .iter()
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u16::from(digit & 15))
}

/// One wording.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// `421` or `421 4.7.28`; the enhanced code stands on every line.
    pub(super) code: Box<str>,
    pub(super) lines: Vec<Box<str>>,
    pub(super) weight: f64,
    /// In use from and until so long after the start.
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// Characters up to U+00FF as single octets, as some still send them.
    pub(super) is_latin1: bool,
}

/// What fills the places in a text.
#[derive(Clone, Copy, Default)]
pub(super) struct Filling<'a> {
    pub(super) ip: Option<std::net::IpAddr>,
    pub(super) host: &'a str,
    pub(super) sender: &'a str,
    pub(super) recipient: &'a str,
    pub(super) mask: &'a str,
    /// The domain of From; known after the dot, where senders must authenticate.
    pub(super) author: &'a str,
}

/// Places a text may have.
pub(super) const PLACES: &[&str] = &[
    "ip",
    "net",
    "host",
    "sender",
    "recipient",
    "domain",
    "author",
    "mask",
    "tag",
];

/// Replies that every profile has, with the words used where it gives none.
const DEFAULTS: &str = "\
banner | 220 | {host} ESMTP
accepted | 250 2.0.0 | Ok
capacity | 451 4.7.1 | Too much mail from {ip}, try again later
rate | 451 4.7.1 | Rate limit exceeded, try again later
connection_limit | 421 4.7.0 | {host} Too many connections from {ip}
message_limit | 421 4.7.0 | Too many messages in this connection
recipient_limit | 452 4.5.3 | Too many recipients
penalty | 421 4.7.1 | Mail from {ip} is deferred
block | 550 5.7.1 | Mail from {ip} is blocked
blocklist | 554 5.7.1 | {ip} is listed ({mask})
ptr | 550 5.7.25 | {ip} has no PTR record
greylist | 450 4.7.1 | Greylisted, try again later
unknown_mailbox | 550 5.1.1 | <{recipient}>: no such mailbox
full_mailbox | 452 4.2.2 | <{recipient}>: mailbox full
inactive_mailbox | 550 5.2.1 | <{recipient}>: mailbox disabled
null_mx | 556 5.1.10 | <{recipient}>: domain has a null MX
content | 550 5.7.1 | Message refused as unwanted
unauthenticated | 550 5.7.26 | Neither SPF nor DKIM passes for {domain}
spf | 550 5.7.27 | SPF does not pass for {domain}
dkim | 550 5.7.30 | No DKIM signature passes
alignment | 550 5.7.32 | {author} is aligned with neither SPF nor DKIM
dmarc | 550 5.7.26 | Refused by the DMARC policy of {author}
tls_required | 530 5.7.0 | Must issue a STARTTLS command first
tls_fault | 454 4.7.0 | TLS not available
interrupt | 421 4.3.2 | {host} closing connection
temporary | 451 4.3.0 | Temporary failure, try again later";

/// Key, code and text of each reply that every profile has.
pub(super) fn defaults() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    DEFAULTS.lines().map(|line| {
        let mut parts = line.splitn(3, " | ");
        let mut part = || parts.next().expect("each line has three parts");
        (part(), part(), part())
    })
}

/// All wordings of a profile by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts(BTreeMap<Box<str>, Vec<Variant>>);

impl Texts {
    pub(super) fn defaults() -> Self {
        let mut texts = Self::default();
        for (key, code, line) in defaults() {
            texts.insert(
                key,
                vec![Variant {
                    code: code.into(),
                    lines: vec![line.into()],
                    weight: 1.0,
                    from: Duration::ZERO,
                    until: Duration::MAX,
                    is_latin1: false,
                }],
            );
        }
        texts
    }

    pub(super) fn insert(&mut self, key: &str, variants: Vec<Variant>) {
        self.0.insert(key.into(), variants);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| &**key).collect()
    }

    /// The reply under `key` at `age` after the start.
    pub(super) fn reply(
        &self,
        key: &str,
        age: Duration,
        filling: Filling<'_>,
        random: &mut Random,
    ) -> Reply {
        let variants = self.0.get(key).expect("reply keys are checked at reading");
        let is_in_use = |variant: &&Variant| variant.from <= age && age < variant.until;
        let weight: f64 = variants.iter().filter(is_in_use).map(|v| v.weight).sum();
        let mut left = random.unit() * weight;
        let mut chosen = &variants[0];
        for variant in variants.iter().filter(is_in_use) {
            chosen = variant;
            left -= variant.weight;
            if left < 0.0 {
                break;
            }
        }
        render(chosen, filling, random)
    }
}

fn render(variant: &Variant, filling: Filling<'_>, random: &mut Random) -> Reply {
    let (code, enhanced) = variant.code.split_once(' ').unwrap_or((&variant.code, ""));
    let mut octets = Vec::with_capacity(128);
    for (index, line) in variant.lines.iter().enumerate() {
        let is_last = index + 1 == variant.lines.len();
        let mut text = String::with_capacity(line.len() + 64);
        text.push_str(code);
        text.push(if is_last { ' ' } else { '-' });
        if !enhanced.is_empty() {
            text.push_str(enhanced);
            text.push(' ');
        }
        fill(line, filling, random, &mut text);
        text.push_str("\r\n");
        if variant.is_latin1 {
            octets.extend(
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')),
            );
        } else {
            octets.extend_from_slice(text.as_bytes());
        }
    }
    Reply::made(octets)
}

fn fill(line: &str, filling: Filling<'_>, random: &mut Random, out: &mut String) {
    let mut rest = line;
    while let Some(start) = rest.find('{') {
        let Some(length) = rest[start..].find('}') else {
            break;
        };
        out.push_str(&rest[..start]);
        place(&rest[start + 1..start + length], filling, random, out);
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
}

fn place(name: &str, filling: Filling<'_>, random: &mut Random, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = match (name, filling.ip) {
        ("ip", Some(ip)) => write!(out, "{ip}"),
        ("net", Some(std::net::IpAddr::V4(ip))) => {
            let [a, b, c, _] = ip.octets();
            write!(out, "{a}.{b}.{c}.0/24")
        }
        ("net", Some(ip)) => write!(out, "{ip}/64"),
        ("host", _) => out.write_str(filling.host),
        ("sender", _) => out.write_str(filling.sender),
        ("recipient", _) => out.write_str(filling.recipient),
        ("domain", _) => out.write_str(domain_of(filling.sender)),
        ("author", _) => out.write_str(filling.author),
        ("mask", _) => out.write_str(filling.mask),
        ("tag", _) => write!(out, "{:010x}", random.draw() >> 24),
        _ => Ok(()),
    };
}

/// Behind the at sign; all of it where there is none.
pub(super) fn domain_of(address: &str) -> &str {
    address
        .rsplit_once('@')
        .map_or(address, |(_, domain)| domain)
}

/// The first place in `line` that nothing fills.
pub(super) fn unknown_place(line: &str) -> Option<&str> {
    let mut rest = line;
    while let Some(start) = rest.find('{') {
        let length = rest[start..].find('}')?;
        let name = &rest[start + 1..start + length];
        if !PLACES.contains(&name) {
            return Some(name);
        }
        rest = &rest[start + length + 1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(code: &str, lines: &[&str], is_latin1: bool) -> Variant {
        Variant {
            code: code.into(),
            lines: lines.iter().map(|line| (*line).into()).collect(),
            weight: 1.0,
            from: Duration::ZERO,
            until: Duration::MAX,
            is_latin1,
        }
    }

    fn filling() -> Filling<'static> {
        Filling {
            ip: Some([192, 0, 2, 7].into()),
            sender: "a@b.test",
            ..Filling::default()
        }
    }

    #[test]
    fn every_line_carries_code_and_enhanced_code() {
        let made = render(
            &variant("421 4.7.28", &["From {ip}", "of {domain}"], false),
            filling(),
            &mut Random::new(1),
        );
        assert_eq!(made.code, 421);
        assert_eq!(
            &*made.octets,
            b"421-4.7.28 From 192.0.2.7\r\n421 4.7.28 of b.test\r\n"
        );
    }

    #[test]
    fn latin1_is_not_utf8() {
        let made = render(
            &variant("421", &["dépassé"], true),
            filling(),
            &mut Random::new(1),
        );
        assert_eq!(&*made.octets, b"421 d\xE9pass\xE9\r\n");
    }

    #[test]
    fn texts_change_at_their_time() {
        let mut texts = Texts::defaults();
        let (mut old, mut new) = (
            variant("451", &["old"], false),
            variant("421", &["new"], false),
        );
        old.until = Duration::from_secs(10);
        new.from = Duration::from_secs(10);
        texts.insert("rate", vec![old, new]);
        let mut random = Random::new(1);
        let mut at = |secs| {
            texts
                .reply("rate", Duration::from_secs(secs), filling(), &mut random)
                .code
        };
        for _ in 0..50 {
            assert_eq!((at(9), at(10)), (451, 421));
        }
    }
}
