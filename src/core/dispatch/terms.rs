//! What a lane obeys at the moment: its limits and bounds, as shaping has them.

use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use super::explain::{By, Explanation, LimitRow, OverrideRow, ValueRow, used};
use super::lane::LaneKey;
use crate::shaping::limit::{self, Freed, Loss, Registry, Set};
use crate::shaping::{
    Amount, Effective, Layer, Limit, Limited, Manner, Overrides, Party, Rate, Scope, Shaping,
    SiteFacts, UNSPECIFIED_SOURCE,
};
use crate::words::{Moment, Plan};

/// What part of a shared rate a node has until it has heard of its share.
const FIRST_PART: u64 = 10;

/// What all shards of a node obey. Replaced as a whole; the registry is kept, so that a changed rate
/// remembers what was consumed.
#[derive(Debug)]
pub struct Shapes {
    pub shaping: Arc<Shaping>,
    pub overrides: Overrides,
    pub registry: Arc<Registry>,
    /// What shared limits do while nobody shares them out; `None`: each node counts for itself.
    pub sharing: Option<Loss>,
}

impl Default for Shapes {
    /// What holds where no file says anything.
    fn default() -> Self {
        Self {
            shaping: Arc::new(Shaping::read(&[]).expect("the built-in default is tested")),
            overrides: Overrides::default(),
            registry: Arc::default(),
            sharing: None,
        }
    }
}

/// See [`Shapes`].
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) connections: Set,
    pub(super) messages: Set,
    /// The tightest of `connections`.
    pub(super) connections_max: usize,
    pub(super) messages_per_connection_max: u32,
    pub(super) recipients_per_transaction_max: usize,
    /// How long a connection without work is kept.
    pub(super) idle: Duration,
    pub(super) manner: Arc<Manner>,
    /// It is the same until then.
    pub(super) until: Moment,
}

impl Shapes {
    /// The lane of mail that goes to `domain` by `plan`.
    pub(super) fn key(&self, plan: &Plan, domain: &str) -> LaneKey {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, domain);
        let is_apart = self.shaping.is_apart(&self.overrides, &facts);
        LaneKey {
            site: plan.site.clone(),
            names: Arc::clone(&plan.names),
            apart: is_apart.then(|| domain.into()),
        }
    }

    /// Whose mail it is where nothing else is said.
    fn party<'a>(&'a self, source: Option<&'a str>, tenant: Option<&'a str>) -> Party<'a> {
        let labels = self.shaping.labels();
        Party {
            source: source.unwrap_or(UNSPECIFIED_SOURCE),
            tenant: tenant.unwrap_or_else(|| labels.default_tenant()),
            campaign: labels.default_campaign(),
        }
    }

    /// Whether nodes share the limit. What no file says is each node's own.
    fn shared(&self, limit: &Limit<'_>, is_local: bool) -> Option<Loss> {
        self.sharing
            .filter(|_| !is_local && limit.layer != Layer::BuiltIn)
    }

    fn meter(&self, limit: &Limit<'_>, rate: &Rate, now: Moment) -> Arc<limit::Limit> {
        match self.shared(limit, rate.local) {
            Some(loss) => {
                let (whole, part) = (rate.paced(), rate.part(FIRST_PART));
                self.registry.leased(&limit.key, whole, part, loss, now)
            }
            None => self.registry.rate(&limit.key, rate.paced(), now),
        }
    }

    /// All limits, under the names by which they are counted.
    fn limits<'a>(
        &'a self,
        effective: &Effective<'a>,
        facts: SiteFacts<'a>,
        party: Party<'a>,
        apart: Option<&str>,
        now: Moment,
    ) -> Vec<Limit<'a>> {
        let mut limits = effective.limits();
        if let Some(domain) = apart {
            let whole = SiteFacts {
                domain: "",
                ..facts
            };
            let of_site = self.shaping.resolve(&self.overrides, whole, party, now);
            let of_site = of_site.limits();
            for limit in &mut limits {
                name_apart(limit, domain, &of_site);
            }
        }
        limits
    }

    /// What holds for mail to `domain` by `plan`, from where, and how much of it is used.
    pub fn explain(&self, plan: &Plan, domain: &str, by: By<'_>, now: Moment) -> Explanation {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, domain);
        let party = self.party(by.source, by.tenant);
        let effective = self.shaping.resolve(&self.overrides, facts, party, now);
        let key = self.key(plan, domain);
        let limits = self.limits(&effective, facts, party, key.apart.as_deref(), now);
        let limits = limits.iter().map(|limit| {
            let meter = self.registry.find(&limit.key);
            LimitRow {
                name: limit.key.to_string(),
                amount: limit.amount.to_string(),
                place: limit.place.to_string(),
                layer: limit.layer.name(),
                used: meter.as_deref().map(|meter| used(meter, now)),
                due: meter
                    .and_then(|meter| meter.when(now))
                    .filter(|due| *due > now),
            }
        });
        let rows = effective.rows().into_iter().map(|row| ValueRow {
            key: row.key,
            value: row.value,
            place: row.place.to_string(),
            layer: row.layer.name(),
        });
        Explanation {
            domain: domain.into(),
            site: plan.site.to_string(),
            mx_hosts: plan.mx_hosts.iter().map(ToString::to_string).collect(),
            has_own_lane: key.apart.is_some(),
            providers: effective.providers().map(Into::into).collect(),
            source: party.source.into(),
            tenant: party.tenant.into(),
            campaign: party.campaign.into(),
            limits: limits.collect(),
            values: rows.collect(),
            overrides: effective
                .overrides()
                .iter()
                .map(|set| OverrideRow::of(set))
                .collect(),
            until: Some(effective.until()).filter(|until| *until < Moment::NEVER),
        }
    }

    /// With it, limits that have become wider.
    pub(super) fn terms(&self, plan: &Plan, key: &LaneKey, now: Moment) -> (Terms, Freed) {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, key.apart.as_deref().unwrap_or_default());
        let party = self.party(None, None);
        let effective = self.shaping.resolve(&self.overrides, facts, party, now);
        let (mut connections, mut messages) = (Vec::new(), Vec::new());
        let (mut at_once, mut per_connection, mut per_transaction) = (u32::MAX, u32::MAX, u32::MAX);
        let mut freed = Freed::default();
        for limit in self.limits(&effective, facts, party, key.apart.as_deref(), now) {
            match (limit.key.limited, limit.amount) {
                (Limited::Connections, Amount::Cap(cap)) => {
                    at_once = at_once.min(cap.most);
                    let (limit, told) = match self.shared(&limit, cap.local) {
                        Some(loss) => {
                            let registry = &self.registry;
                            registry.leased_connections(&limit.key, cap.most, 0, loss)
                        }
                        None => self.registry.connections(&limit.key, cap.most),
                    };
                    freed.add(limit.id, told);
                    connections.push(limit);
                }
                (Limited::ConnectionRate, Amount::Rate(rate)) => {
                    connections.push(self.meter(&limit, &rate, now));
                }
                (Limited::Messages, Amount::Rate(rate)) => {
                    messages.push(self.meter(&limit, &rate, now));
                }
                (Limited::MessagesPerConnection, Amount::Cap(cap)) => {
                    per_connection = per_connection.min(cap.most);
                }
                (Limited::RecipientsPerTransaction, Amount::Cap(cap)) => {
                    per_transaction = per_transaction.min(cap.most);
                }
                (Limited::Selections, _) | (_, Amount::Cap(_) | Amount::Rate(_)) => {}
            }
        }
        let manner = effective.manner();
        let terms = Terms {
            connections: Set::new(connections),
            messages: Set::new(messages),
            connections_max: at_once as usize,
            messages_per_connection_max: per_connection,
            recipients_per_transaction_max: per_transaction.max(1) as usize,
            idle: manner.waits.idle,
            manner: Arc::new(manner),
            until: effective.until(),
        };
        (terms, freed)
    }
}

/// What a domain has of its own counts for it alone; what it has from its site or wider counts
/// together with the site's other mail.
fn name_apart(limit: &mut Limit<'_>, domain: &str, of_site: &[Limit<'_>]) {
    let is_of_path = matches!(limit.key.scope, Scope::Lane | Scope::Site);
    let alike = of_site.iter().find(|other| other.key == limit.key);
    if is_of_path && alike.is_none_or(|other| other.place != limit.place) {
        limit.key.name = format!("{} for {domain}", limit.key.name).into();
    }
}

fn hosts(plan: &Plan) -> SmallVec<[&str; 8]> {
    plan.mx_hosts.iter().map(|host| &**host).collect()
}

fn facts<'a>(plan: &'a Plan, hosts: &'a [&'a str], domain: &'a str) -> SiteFacts<'a> {
    SiteFacts {
        domain,
        mx_hosts: hosts,
        site: plan.site.as_str(),
    }
}
