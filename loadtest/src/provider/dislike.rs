//! Whose mail draws complaints: by campaign where there is one, else by the domain that signs, else by that of the sender. What a name
//! draws follows from the name and the seed. Pure.

use super::authentication::signer;
use super::key::{hash, unit};
use super::profile::Dislike;
use super::text::domain_of;
use posthaste_core::mail;

/// A domain with this label, or a campaign with this word, is disliked by name.
const WORD: &str = "disliked";

impl Dislike {
    /// The share of such messages that is complained of; `plain` is that of anyone.
    pub(super) fn share_of(&self, plain: f64, sender: &str, header: &[u8], seed: u64) -> f64 {
        if self.share == 0.0 {
            return plain;
        }
        let whose = whose(sender, header);
        let chance = unit(hash(&[WORD.as_bytes(), whose.as_bytes()], seed));
        if whose.split(['.', '-']).any(|word| word == WORD) || chance < self.senders {
            self.share
        } else {
            plain
        }
    }
}

fn whose<'a>(sender: &'a str, header: &'a [u8]) -> &'a str {
    let campaign = mail::fields(header).find(|field| field.is("X-Campaign"));
    let campaign = campaign.map(|field| field.value.trim_ascii());
    let named = campaign.or_else(|| signer(header));
    let named = named.and_then(|name| str::from_utf8(name).ok());
    named.unwrap_or_else(|| domain_of(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_told_from_a_signer_and_that_from_a_sender() {
        let signed = b"DKIM-Signature: v=1; d=shop.test\r\n\r\n";
        let both = b"X-Campaign: spring\r\nDKIM-Signature: v=1; d=shop.test\r\n\r\n";
        assert_eq!(whose("a@b.test", both), "spring");
        assert_eq!(whose("a@b.test", signed), "shop.test");
        assert_eq!(whose("a@b.test", b"Subject: x\r\n\r\n"), "b.test");
    }

    #[test]
    fn some_are_disliked_by_chance_and_some_by_name() {
        let dislike = Dislike {
            senders: 0.2,
            share: 0.05,
        };
        let share = |sender: &str, header: &[u8]| dislike.share_of(0.001, sender, header, 3);
        assert_eq!(share("a@disliked.shop.test", b""), 0.05);
        assert_eq!(
            share("a@shop.test", b"X-Campaign: disliked-7\r\n\r\n"),
            0.05
        );
        let of = |number: usize| share(&format!("a@d{number}.test"), b"");
        assert!((0..1000).all(|number| of(number) == of(number)));
        let disliked = (0..1000).filter(|number| of(*number) == 0.05).count();
        assert!((150..250).contains(&disliked), "{disliked}");
        assert!((0..1000).all(|number| [0.05, 0.001].contains(&of(number))));
    }
}
