//! What a rule of automation does about a reply that it matches: which override or order each of its
//! actions is, for this mail.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use super::overview::Whose;
use super::terms::{Shapes, facts, hosts};
use crate::egress::{Blame, Source};
use crate::shaping::{
    self, Action, Key, Layer, Party, QueueName, Rule, RuleOf, Support, TargetKind,
    UNSPECIFIED_SOURCE, Value, Wish,
};
use crate::words::{Domain, Labels, Moment, Network, Plan};

/// Octets of a reply that are kept.
const REPLY_MAX: usize = 400;
/// Addresses so near to each other are one network to a provider.
const NEAR: (u8, u8) = (24, 64);

/// Whose mail something became of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub domain: Domain,
    pub labels: Labels,
}

/// A rule that matched what became of mail.
#[derive(Clone, Debug)]
pub struct Firing {
    pub rule: Arc<Rule>,
    /// In whose block it stands.
    pub of: RuleOf,
    /// Whose fault it was.
    pub blame: Blame,
    pub plan: Arc<Plan>,
    /// `None` where nothing has a name.
    pub source: Option<Arc<str>>,
    /// `None` where no message was under way.
    pub mail: Option<Mail>,
    /// One line.
    pub reply: Box<str>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Set(Wish),
    /// All mail of these that waits ends.
    Bounce {
        whose: Whose,
        reason: Box<str>,
    },
}

/// Why an action does nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    #[error("no message was under way")]
    NoMail,
    #[error("the mail is of no tenant")]
    NoTenant,
    #[error("the mail is of no campaign")]
    NoCampaign,
    #[error("{0} is as low already")]
    Tighter(&'static str),
    #[error("an operator has set {0}")]
    Operators(&'static str),
    #[error("an operator has taken it back")]
    TakenBack,
    #[error("the reply is about a recipient")]
    OfRecipient,
    #[error("{key} {why}")]
    Barring {
        key: &'static str,
        why: &'static str,
    },
    #[error("{0} has no effect")]
    Idle(&'static str),
    #[error("{0} cannot be said of this mail alone")]
    Misplaced(&'static str),
}

/// Whom an action is about.
enum Target {
    /// The source, or those near to it, at the site or of the one domain.
    Path { is_domain: bool, is_network: bool },
    /// Mail of the tenant, and of its campaign, to the domain.
    Labels { has_campaign: bool },
}

impl Firing {
    /// One line, cut where it is too long.
    pub(super) fn line(reply: &dyn fmt::Display) -> Box<str> {
        let text = reply.to_string();
        let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut line = String::new();
        for c in clean {
            if line.len() + c.len_utf8() > REPLY_MAX {
                break;
            }
            line.push(c);
        }
        line.into()
    }

    /// Of whom matches are counted together, in words.
    pub fn whom(&self, sources: &[Source]) -> String {
        let to = || {
            let domain = self.mail.as_ref().map(|mail| mail.domain.as_str());
            domain.unwrap_or(self.plan.site.as_str()).to_owned()
        };
        let names = |has_campaign: bool| {
            let labels = self.mail.as_ref().map(|mail| &mail.labels);
            let tenant = labels.and_then(Labels::tenant).unwrap_or("-");
            let campaign = labels.and_then(Labels::campaign).unwrap_or("-");
            match has_campaign {
                true => format!("tenant {tenant}, campaign {campaign} to {}", to()),
                false => format!("tenant {tenant} to {}", to()),
            }
        };
        let actions = &self.rule.actions;
        let is_of_campaign =
            |action: &Action| matches!(action, Action::SuspendCampaign | Action::BounceCampaign);
        let is_of_tenant =
            |action: &Action| matches!(action, Action::SuspendTenant | Action::BounceTenant);
        if actions.iter().any(is_of_campaign) {
            return names(true);
        }
        if actions.iter().any(is_of_tenant) || self.is_of_sender() {
            return names(false);
        }
        if actions
            .iter()
            .all(|action| matches!(action, Action::Bounce))
        {
            return format!("mail to {}", to());
        }
        let is_of_domain = self.of == RuleOf::Domain
            || actions
                .iter()
                .any(|action| matches!(action, Action::SetDomainConfig(..)));
        let place = match is_of_domain {
            true => to(),
            false => self.plan.site.to_string(),
        };
        match &self.source {
            Some(source) if self.rule.blame == Some(shaping::Blame::Network) => {
                let all = near(source, sources).into_iter().flatten();
                format!("{} at {place}", all.collect::<Vec<_>>().join(", "))
            }
            Some(source) => format!("{source} at {place}"),
            None => format!("mail to {place}"),
        }
    }

    /// Another source would hear the same.
    fn is_of_sender(&self) -> bool {
        match self.rule.blame {
            Some(shaping::Blame::Tenant | shaping::Blame::DkimDomain) => true,
            Some(shaping::Blame::Source | shaping::Blame::Network | shaping::Blame::Recipient) => {
                false
            }
            None => matches!(self.blame, Blame::Content | Blame::Domain),
        }
    }

    /// What each action of the rule is to do, `shapes` being what holds now. `sources`: those that
    /// may be near to the one that was used.
    pub fn deeds(
        &self,
        shapes: &Shapes,
        sources: &[Source],
        now: Moment,
    ) -> Vec<Result<Deed, Undone>> {
        let actions = self.rule.actions.iter();
        actions
            .flat_map(|action| self.deeds_of(action, shapes, sources, now))
            .collect()
    }

    fn deeds_of(
        &self,
        action: &Action,
        shapes: &Shapes,
        sources: &[Source],
        now: Moment,
    ) -> Vec<Result<Deed, Undone>> {
        let suspended = || (const { Key::of("suspended") }, Value::Flag(true));
        let path = |is_domain: bool| {
            if self.is_of_sender() {
                return Target::Labels {
                    has_campaign: false,
                };
            }
            Target::Path {
                is_domain,
                is_network: self.rule.blame == Some(shaping::Blame::Network),
            }
        };
        let (target, (key, value)) = match action {
            Action::Suspend => (path(self.of == RuleOf::Domain), suspended()),
            Action::SetConfig(key, value) => {
                (path(self.of == RuleOf::Domain), (*key, value.clone()))
            }
            Action::SetDomainConfig(key, value) => (path(true), (*key, value.clone())),
            Action::SuspendTenant | Action::SuspendCampaign => {
                let has_campaign = matches!(action, Action::SuspendCampaign);
                if let Err(undone) = self.labels(shapes, true, has_campaign) {
                    return vec![Err(undone)];
                }
                (Target::Labels { has_campaign }, suspended())
            }
            Action::Bounce => return vec![self.bounce(shapes, (false, false))],
            Action::BounceTenant => return vec![self.bounce(shapes, (true, false))],
            Action::BounceCampaign => return vec![self.bounce(shapes, (true, true))],
        };
        let is_of_path = matches!(target, Target::Path { .. });
        if is_of_path && self.rule.blame == Some(shaping::Blame::Recipient) {
            return vec![Err(Undone::OfRecipient)];
        }
        let places = match self.places(&target, key, shapes, sources) {
            Ok(places) => places,
            Err(undone) => return vec![Err(undone)],
        };
        let wishes = places.into_iter().map(|(kind, name, source)| {
            let wish = Wish {
                kind,
                name,
                source,
                key,
                value: value.clone(),
                expires: now + self.rule.duration,
                reason: self.reply.clone(),
                by: Wish::by_rule(&self.rule.place),
            };
            self.may(shapes, &wish, now).map(|()| Deed::Set(wish))
        });
        wishes.collect()
    }

    /// The mail with its tenant and its campaign, under the names that the default has. What is asked
    /// for must be said by the mail itself; a campaign alone is one of the default tenant's.
    fn labels<'a>(
        &'a self,
        shapes: &'a Shapes,
        has_tenant: bool,
        has_campaign: bool,
    ) -> Result<(&'a Mail, &'a str, &'a str), Undone> {
        let mail = self.mail.as_ref().ok_or(Undone::NoMail)?;
        let (tenant, campaign) = (mail.labels.tenant(), mail.labels.campaign());
        if has_campaign && campaign.is_none() {
            return Err(Undone::NoCampaign);
        }
        if has_tenant && tenant.is_none() && !has_campaign {
            return Err(Undone::NoTenant);
        }
        let defaults = shapes.shaping.labels();
        let tenant = tenant.unwrap_or_else(|| defaults.default_tenant());
        let campaign = campaign.unwrap_or_else(|| defaults.default_campaign());
        Ok((mail, tenant, campaign))
    }

    fn bounce(
        &self,
        shapes: &Shapes,
        (has_tenant, has_campaign): (bool, bool),
    ) -> Result<Deed, Undone> {
        let (mail, tenant, campaign) = self.labels(shapes, has_tenant, has_campaign)?;
        Ok(Deed::Bounce {
            whose: Whose {
                tenant: has_tenant.then(|| tenant.into()),
                campaign: has_campaign.then(|| campaign.into()),
                domain: Some(mail.domain.as_str().into()),
            },
            reason: format!("automation rule: {}", self.reply).into(),
        })
    }

    /// The targets of overrides, each with its source.
    #[expect(clippy::type_complexity, reason = "one caller takes it apart at once")]
    fn places(
        &self,
        target: &Target,
        key: Key,
        shapes: &Shapes,
        sources: &[Source],
    ) -> Result<Vec<(TargetKind, Box<str>, Option<Box<str>>)>, Undone> {
        let site: Box<str> = self.plan.site.as_str().into();
        match *target {
            Target::Labels { has_campaign } => {
                if !TargetKind::Queue.takes(key, false) {
                    // What cannot be said of a tenant is said of all mail there, whatever its source.
                    return match TargetKind::Site.takes(key, false) {
                        true => Ok(vec![(TargetKind::Site, site, None)]),
                        false => Err(Undone::Misplaced(key.name())),
                    };
                }
                let (mail, tenant, campaign) = self.labels(shapes, false, has_campaign)?;
                let queue = QueueName {
                    tenant: Some(tenant.into()),
                    campaign: has_campaign.then(|| campaign.into()),
                    domain: Some(mail.domain.as_str().into()),
                };
                Ok(vec![(TargetKind::Queue, queue.to_string().into(), None)])
            }
            Target::Path {
                is_domain,
                is_network,
            } => {
                let (kind, name) = if is_domain {
                    let mail = self.mail.as_ref().ok_or(Undone::NoMail)?;
                    (TargetKind::Domain, mail.domain.as_str().into())
                } else {
                    (TargetKind::Site, site)
                };
                let used = self.source.as_deref();
                let used = used.filter(|_| TargetKind::Site.takes(key, true));
                let all = match used {
                    None => vec![None],
                    Some(used) if is_network => near(used, sources),
                    Some(used) => vec![Some(used.into())],
                };
                if !kind.takes(key, used.is_some()) {
                    return Err(Undone::Misplaced(key.name()));
                }
                Ok(all
                    .into_iter()
                    .map(|source| (kind, name.clone(), source))
                    .collect())
            }
        }
    }

    /// What an operator has set stays, and no trouble makes anything faster.
    fn may(&self, shapes: &Shapes, wish: &Wish, now: Moment) -> Result<(), Undone> {
        let key = wish.key.name();
        if let Some(why) = wish.key.row().bars(&wish.value) {
            return Err(Undone::Barring { key, why });
        }
        match wish.key.row().support {
            Support::Honoured | Support::Partly { .. } => {}
            Support::Ignored(_) | Support::Refused(_) | Support::Later { .. } => {
                return Err(Undone::Idle(key));
            }
        }
        if shapes.overrides.is_taken_back(wish, now) {
            return Err(Undone::TakenBack);
        }
        // Its own is prolonged.
        if shapes.overrides.get(wish).is_some() {
            return Ok(());
        }
        let hosts = hosts(&self.plan);
        let domain = self.mail.as_ref().map_or("", |mail| mail.domain.as_str());
        let (tenant, campaign) = self
            .labels(shapes, false, false)
            .map_or(("", ""), |(_, tenant, campaign)| (tenant, campaign));
        let party = Party {
            source: wish.source.as_deref().unwrap_or(UNSPECIFIED_SOURCE),
            tenant,
            campaign,
        };
        let facts = facts(&self.plan, &hosts, domain);
        let effective = shapes.shaping.resolve(&shapes.overrides, facts, party, now);
        match effective.said(wish.key, wish.kind) {
            Some(below) if below.layer == Layer::Live => Err(Undone::Operators(key)),
            // Another rule's may end before.
            Some(below) if below.layer == Layer::Rule => Ok(()),
            Some(below) if !wish.key.tightens(&wish.value, &below.value) => {
                Err(Undone::Tighter(key))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Sources in the network of the one that was used, itself included.
fn near(used: &str, sources: &[Source]) -> Vec<Option<Box<str>>> {
    let network = |source: &Source| {
        let address = source.seen()?;
        let prefix = match address {
            IpAddr::V4(_) => NEAR.0,
            IpAddr::V6(_) => NEAR.1,
        };
        Some(Network::around(address, prefix))
    };
    let its = sources.iter().find(|source| *source.name == *used);
    let Some(its) = its.and_then(network) else {
        return vec![Some(used.into())];
    };
    let near = sources.iter().filter(|source| network(source) == Some(its));
    near.map(|source| Some(Box::from(&*source.name))).collect()
}

/// How much later a deed must end to be done again: replies come by the thousand.
pub(super) fn renewal(duration: Duration) -> Duration {
    (duration / 4).max(Duration::from_secs(1))
}
