//! Whose a failure is: by what the rules of shaping know of a provider's replies, else by its words.

use super::terms::{Shapes, facts, hosts};
use crate::egress::{Blame, Event, Fault};
use crate::shaping::{self, Action, Key, Rule, RuleOf, Shaping, SiteFacts};
use crate::words::{Cause, Outcome, Plan, Reply};

impl Shapes {
    /// Of mail to `domain` that went by `plan`.
    pub(super) fn blame(&self, plan: &Plan, domain: &str, outcome: &Outcome) -> Blame {
        if matches!(outcome, Outcome::Delivered(_)) {
            return Blame::of(outcome);
        }
        let hosts = hosts(plan);
        blame(&self.shaping, &facts(plan, &hosts, domain), outcome)
    }
}

/// Rules are asked of replies that refuse or defer alone, and not of those that speak of a mailbox by
/// number, which are most: a reply is read by every pattern of its provider.
pub(super) fn blame(shaping: &Shaping, facts: &SiteFacts<'_>, outcome: &Outcome) -> Blame {
    let by_words = Blame::of(outcome);
    match outcome {
        Outcome::Deferred(Cause::Reply { reply, .. })
        | Outcome::Refused(Cause::Reply { reply, .. })
            if !matches!(by_words, Blame::Recipient | Blame::Receiver) =>
        {
            by_rules(shaping, facts, reply, by_words).unwrap_or(by_words)
        }
        Outcome::Delivered(_) | Outcome::Deferred(_) | Outcome::Refused(_) => by_words,
    }
}

/// What blames somebody else than the source comes first, so that no verdict on a message or a
/// domain sends it round by another source.
fn by_rules(
    shaping: &Shaping,
    facts: &SiteFacts<'_>,
    reply: &Reply,
    by_words: Blame,
) -> Option<Blame> {
    let line = reply.to_string();
    let mut of_source: Option<Option<Fault>> = None;
    for (rule, of) in shaping.rules(facts) {
        // Words that are common to many sites do not know better.
        let is_vague = of == RuleOf::AnySite && matches!(by_words, Blame::Content | Blame::Domain);
        let Some(scope) = rule
            .blame
            .filter(|_| !is_vague && rule.matches(&line, false))
        else {
            continue;
        };
        match scope {
            shaping::Blame::Tenant | shaping::Blame::DkimDomain => return Some(Blame::Domain),
            shaping::Blame::Recipient => return Some(Blame::Recipient),
            shaping::Blame::Source | shaping::Blame::Network => {
                let fault = fault(rule, reply);
                of_source = Some(heavier(of_source.flatten(), fault));
            }
        }
    }
    of_source.map(|fault| fault.map_or(Blame::Other, Blame::Source))
}

/// What the source has done, by what the rule would do about it. `None`: another source would do no
/// better, or the connection was only used up.
fn fault(rule: &Rule, reply: &Reply) -> Option<Fault> {
    let of_key = |key: Key| match key.name() {
        "connection_limit"
        | "max_connection_rate"
        | "max_message_rate"
        | "source_selection_rate" => Some(Fault::Connection),
        "ip_lookup_strategy" => Some(Fault::Address),
        _ => None,
    };
    let of_action = |action: &Action| match action {
        Action::SetConfig(key, _) | Action::SetDomainConfig(key, _) => of_key(*key),
        Action::Suspend
        | Action::SuspendTenant
        | Action::SuspendCampaign
        | Action::Bounce
        | Action::BounceTenant
        | Action::BounceCampaign => Some(Fault::of_reply(reply)),
    };
    rule.actions.iter().map(of_action).fold(None, heavier)
}

/// A pace that was too fast is over soon.
const fn heavier(one: Option<Fault>, other: Option<Fault>) -> Option<Fault> {
    match (one, other) {
        (None | Some(Fault::Connection), Some(_)) => other,
        _ => one,
    }
}

/// What an outcome counts for, if the source has anything to do with it.
pub(super) const fn event(outcome: &Outcome, blame: Blame) -> Option<Event> {
    match (outcome, blame) {
        (Outcome::Delivered(_), _) => Some(Event::Delivered),
        // A site that is away has nothing against anybody.
        (
            Outcome::Deferred(Cause::Reply { .. }) | Outcome::Refused(Cause::Reply { .. }),
            Blame::Source(Fault::Reputation | Fault::Address),
        )
        | (Outcome::Refused(Cause::Reply { .. }), Blame::Source(Fault::Connection)) => {
            Some(Event::Blocked)
        }
        (
            Outcome::Deferred(Cause::Reply { .. }),
            Blame::Source(Fault::Connection) | Blame::Other,
        ) => Some(Event::Deferred),
        (Outcome::Deferred(_) | Outcome::Refused(_), _) => None,
    }
}
