//! Whose a failure is, and which rules of automation it sets off: by what the rules of shaping know of a
//! provider's replies, else by its words.

use std::sync::Arc;

use super::terms::Shapes;
use crate::egress::{Blame, Event, Fault};
use crate::shaping::{self, Action, Key, Rule, RuleOf, Shaping, SiteFacts};
use crate::words::{Cause, Outcome, Reply};

/// What is to be made of an outcome.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) blame: Blame,
    /// Those that match, in their order, and whose each is.
    pub(super) rules: Vec<(Arc<Rule>, RuleOf)>,
}

impl Finding {
    /// Of a delivery.
    pub(super) const fn well() -> Self {
        Self {
            blame: Blame::Other,
            rules: Vec::new(),
        }
    }
}

impl Shapes {
    /// Of mail that went to a site.
    pub(super) fn find(&self, facts: &SiteFacts<'_>, outcome: &Outcome) -> Finding {
        let rules = matching(&self.shaping, facts, outcome);
        let blame = blame(&rules, outcome);
        Finding { blame, rules }
    }
}

/// The rules that speak of the outcome. A reply is read by every pattern of its provider; what is not
/// the peer's word, only by those that ask for it. What we or an operator did sets off nothing.
fn matching(
    shaping: &Shaping,
    facts: &SiteFacts<'_>,
    outcome: &Outcome,
) -> Vec<(Arc<Rule>, RuleOf)> {
    let cause = match outcome {
        Outcome::Delivered(_) => return Vec::new(),
        Outcome::Deferred(cause) | Outcome::Refused(cause) => cause,
    };
    if !cause.blames_site() {
        return Vec::new();
    }
    let (line, is_internal) = (cause.to_string(), !matches!(cause, Cause::Reply { .. }));
    let rules = shaping.rules(facts).into_iter();
    let matching = rules.filter(|(rule, _)| rule.matches(&line, is_internal));
    matching.map(|(rule, of)| (Arc::clone(rule), of)).collect()
}

/// Rules know best whom a refusal means, but for one that speaks of a mailbox by number.
fn blame(rules: &[(Arc<Rule>, RuleOf)], outcome: &Outcome) -> Blame {
    let by_words = Blame::of(outcome);
    match outcome {
        Outcome::Deferred(Cause::Reply { reply, .. })
        | Outcome::Refused(Cause::Reply { reply, .. })
            if !matches!(by_words, Blame::Recipient | Blame::Receiver) =>
        {
            by_rules(rules, reply, by_words).unwrap_or(by_words)
        }
        Outcome::Delivered(_) | Outcome::Deferred(_) | Outcome::Refused(_) => by_words,
    }
}

/// What blames somebody else than the source comes first, so that no verdict on a message or a
/// domain sends it round by another source.
fn by_rules(rules: &[(Arc<Rule>, RuleOf)], reply: &Reply, by_words: Blame) -> Option<Blame> {
    let mut of_source: Option<Option<Fault>> = None;
    for (rule, of) in rules {
        // Words that are common to many sites do not know better.
        let is_vague = *of == RuleOf::AnySite && matches!(by_words, Blame::Content | Blame::Domain);
        let Some(scope) = rule.blame.filter(|_| !is_vague) else {
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
