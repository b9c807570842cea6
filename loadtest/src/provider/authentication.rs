//! What a provider makes of a message's SPF, DKIM and DMARC. No DNS of senders is asked and no signature is verified: what their
//! records would say follows from the domain's name and the seed. Pure.

use super::key::{hash, unit};
use super::profile::Authentication;
use super::text::domain_of;
use posthaste_core::mail;

/// The domains that a message speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claims<'a> {
    /// Of the envelope's sender; empty for the null path.
    pub(super) sender: &'a str,
    /// `d=` of the first signature.
    pub(super) signer: Option<&'a str>,
    /// Of From; the sender's where there is none.
    pub(super) author: &'a str,
}

impl<'a> Claims<'a> {
    pub(super) fn of(sender: &'a str, header: &'a [u8]) -> Self {
        let sender = domain_of(sender);
        Self {
            sender,
            signer: signer(header).and_then(|signer| str::from_utf8(signer).ok()),
            author: author(header).unwrap_or(sender),
        }
    }

    /// Relaxed (RFC 7489 §3.1): of one organisation, which is told by two labels here, for want of a list of public suffixes.
    fn aligns(&self, domain: &str) -> bool {
        organisation(self.author).eq_ignore_ascii_case(organisation(domain))
    }
}

fn organisation(domain: &str) -> &str {
    let mut dots = domain.rmatch_indices('.');
    dots.nth(1).map_or(domain, |(dot, _)| &domain[dot + 1..])
}

impl Authentication {
    /// The key of the text that says what is lacking. A null path is not judged: its SPF hangs on the EHLO name.
    pub(super) fn lack(
        &self,
        claims: &Claims<'_>,
        is_bulk: bool,
        seed: u64,
    ) -> Option<&'static str> {
        if claims.sender.is_empty() {
            return None;
        }
        let has = |domain: &str, label: &str, share: f64| {
            domain.split('.').any(|part| part == label)
                || unit(hash(&[label.as_bytes(), domain.as_bytes()], seed)) < share
        };
        let spf = !has(claims.sender, "spf-fails", self.spf_fails);
        let signer = claims.signer;
        let signer = signer.filter(|domain| !has(domain, "dkim-fails", self.dkim_fails));
        let is_aligned =
            (spf && claims.aligns(claims.sender)) || signer.is_some_and(|d| claims.aligns(d));
        if !is_aligned && has(claims.author, "dmarc-rejects", self.dmarc_rejects) {
            return Some("dmarc");
        }
        match (spf, signer) {
            (false, None) => Some("unauthenticated"),
            (false, Some(_)) if is_bulk => Some("spf"),
            (true, None) if is_bulk => Some("dkim"),
            _ if is_bulk && !is_aligned => Some("alignment"),
            _ => None,
        }
    }
}

/// The `d=` of the first DKIM-Signature.
pub(super) fn signer(header: &[u8]) -> Option<&[u8]> {
    let field = mail::fields(header).find(|field| field.is("DKIM-Signature"))?;
    field.value.split(|octet| *octet == b';').find_map(|tag| {
        let value = tag.trim_ascii().strip_prefix(b"d")?.trim_ascii_start();
        Some(value.strip_prefix(b"=")?.trim_ascii())
    })
}

/// The first Message-ID; empty where there is none.
pub(super) fn message_id(header: &[u8]) -> &str {
    let field = mail::fields(header).find(|field| field.is("Message-ID"));
    let value = field.and_then(|field| str::from_utf8(field.value).ok());
    value.unwrap_or("").trim()
}

/// The domain of the first From, display name or not.
fn author(header: &[u8]) -> Option<&str> {
    let field = mail::fields(header).find(|field| field.is("From"))?;
    let (_, domain) = str::from_utf8(field.value).ok()?.rsplit_once('@')?;
    let end = domain.find(['>', ' ', '\t', ')', '\r', ',']);
    Some(&domain[..end.unwrap_or(domain.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Authentication = Authentication {
        spf_fails: 0.0,
        dkim_fails: 0.0,
        dmarc_rejects: 0.0,
        bulk: None,
    };

    fn lack(sender: &str, header: &str, is_bulk: bool) -> Option<&'static str> {
        RULES.lack(&Claims::of(sender, header.as_bytes()), is_bulk, 1)
    }

    #[test]
    fn claims_are_read_from_folded_fields_and_display_names() {
        let header = b"from: \"A @ b.test\" <a@News.Shop.test>\r\nDKIM-Signature: v=1; a=rsa-sha256;\r\n\tbh=abc; d = mail.shop.test ; s=x\r\n\r\n";
        let claims = Claims::of("bounce@shop.test", header);
        let expected = Claims {
            sender: "shop.test",
            signer: Some("mail.shop.test"),
            author: "News.Shop.test",
        };
        assert_eq!(claims, expected);
        assert!(claims.aligns("shop.test") && claims.aligns("mail.SHOP.test"));
        assert!(!claims.aligns("other.test") && !claims.aligns("test"));
        let bare = Claims::of("a@b.test", b"Subject: x\r\n\r\n");
        assert_eq!((bare.signer, bare.author), (None, "b.test"));
    }

    #[test]
    fn each_lack_has_its_own_name() {
        let signed = |by: &str, from: &str| {
            format!("From: <a@{from}>\r\nDKIM-Signature: v=1; d={by}; s=x\r\n\r\n")
        };
        for (sender, header, many, bulk) in [
            ("a@x.test", signed("x.test", "x.test"), None, None),
            (
                "a@x.test",
                "From: <a@x.test>\r\n\r\n".to_owned(),
                None,
                Some("dkim"),
            ),
            (
                "a@spf-fails.x.test",
                signed("x.test", "x.test"),
                None,
                Some("spf"),
            ),
            (
                "a@x.test",
                signed("dkim-fails.x.test", "x.test"),
                None,
                Some("dkim"),
            ),
            (
                "a@x.test",
                signed("x.test", "other.test"),
                None,
                Some("alignment"),
            ),
            (
                "a@spf-fails.x.test",
                "From: <a@x.test>\r\n\r\n".to_owned(),
                Some("unauthenticated"),
                Some("unauthenticated"),
            ),
            (
                "a@x.test",
                signed("x.test", "dmarc-rejects.other.test"),
                Some("dmarc"),
                Some("dmarc"),
            ),
            // Either of the two aligns it.
            (
                "a@x.test",
                signed("y.test", "dmarc-rejects.y.test"),
                None,
                None,
            ),
            (
                "a@y.test",
                signed("x.test", "dmarc-rejects.y.test"),
                None,
                None,
            ),
            (
                "",
                "From: <a@spf-fails.x.test>\r\n\r\n".to_owned(),
                None,
                None,
            ),
        ] {
            let found = (lack(sender, &header, false), lack(sender, &header, true));
            assert_eq!(found, (many, bulk), "{sender} {header}");
        }
    }

    #[test]
    fn shares_are_of_domains_and_a_domain_stays_what_it_is() {
        let rules = Authentication {
            spf_fails: 0.3,
            ..RULES
        };
        let failing: Vec<bool> = (0..1000)
            .map(|number| {
                let sender = format!("a@d{number}.test");
                let once = rules.lack(&Claims::of(&sender, b""), false, 7);
                assert_eq!(once, rules.lack(&Claims::of(&sender, b""), false, 7));
                once == Some("unauthenticated")
            })
            .collect();
        let count = failing.iter().filter(|fails| **fails).count();
        assert!((250..350).contains(&count), "{count}");
    }
}
