//! What a lane obeys at the moment: its limits and bounds, as shaping has them.

use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use super::lane::LaneKey;
use crate::shaping::limit::{Freed, Registry, Set};
use crate::shaping::{Amount, Limit, Limited, Manner, Overrides, Party, Scope, Shaping, SiteFacts};
use crate::words::{Moment, Plan};

/// The egress source of mail for which none is chosen.
const SOURCE: &str = "unspecified";

/// What all shards of a node obey. Replaced as a whole; the registry is kept, so that a changed rate
/// remembers what was consumed.
#[derive(Debug)]
pub struct Shapes {
    pub shaping: Arc<Shaping>,
    pub overrides: Overrides,
    pub registry: Arc<Registry>,
}

impl Default for Shapes {
    /// What holds where no file says anything.
    fn default() -> Self {
        Self {
            shaping: Arc::new(Shaping::read(&[]).expect("the built-in default is tested")),
            overrides: Overrides::default(),
            registry: Arc::default(),
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

    /// With it, limits that have become wider.
    pub(super) fn terms(&self, plan: &Plan, key: &LaneKey, now: Moment) -> (Terms, Freed) {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, key.apart.as_deref().unwrap_or_default());
        let labels = self.shaping.labels();
        let party = Party {
            source: SOURCE,
            tenant: labels.default_tenant(),
            campaign: labels.default_campaign(),
        };
        let effective = self.shaping.resolve(&self.overrides, facts, party, now);
        let whole = SiteFacts {
            domain: "",
            ..facts
        };
        let of_site = match &key.apart {
            Some(_) => self
                .shaping
                .resolve(&self.overrides, whole, party, now)
                .limits(),
            None => Vec::new(),
        };
        let (mut connections, mut messages) = (Vec::new(), Vec::new());
        let (mut at_once, mut per_connection, mut per_transaction) = (u32::MAX, u32::MAX, u32::MAX);
        let mut freed = Freed::default();
        for mut limit in effective.limits() {
            if let Some(domain) = &key.apart {
                name_apart(&mut limit, domain, &of_site);
            }
            match (limit.key.limited, limit.amount) {
                (Limited::Connections, Amount::Cap(cap)) => {
                    at_once = at_once.min(cap.most);
                    let (limit, told) = self.registry.connections(&limit.key, cap.most);
                    freed.add(limit.id, told);
                    connections.push(limit);
                }
                (Limited::ConnectionRate, Amount::Rate(rate)) => {
                    connections.push(self.registry.rate(&limit.key, rate.paced(), now));
                }
                (Limited::Messages, Amount::Rate(rate)) => {
                    messages.push(self.registry.rate(&limit.key, rate.paced(), now));
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
