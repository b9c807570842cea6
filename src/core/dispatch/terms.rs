//! What a lane obeys at the moment: its limits and bounds, as shaping has them.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use super::explain::{By, Explanation, HoursRow, LimitRow, OverrideRow, ValueRow, WindowRow, used};
use super::lane::{LaneKey, READY_PER_CONNECTION, Via};
use crate::shaping::limit::{self, Freed, Loss, Registry, Set};
use crate::shaping::{
    Amount, Cap, Effective, Layer, Limit, Limited, Manner, Overrides, Party, Rate, Scope, Shaping,
    SiteFacts, Suspension, UNSPECIFIED_SOURCE,
};
use crate::words::{Labels, Moment, Plan};

/// What part of a shared rate a node has until it has heard of its share.
const FIRST_PART: u64 = 10;
/// Work that a lane of one source of several takes from the gate: so much for each connection, and no
/// more than lasts so long at its rate. The rest may go by other sources.
const READY_FACTOR: usize = 2 * READY_PER_CONNECTION;
const READY_SPAN: Duration = Duration::from_secs(2);
const READY_MIN: usize = 4;
const READY_MAX: usize = 1024;
/// The provider of a site that no provider's block matches, as far as reputation and warm-up go: they
/// are few at each of them.
const OTHERS: &str = "others";

/// What all shards of a node obey. Replaced as a whole; the registry is kept, so that a changed rate
/// remembers what was consumed.
#[derive(Clone, Debug)]
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
    /// What a pool needs to pick the lane's source.
    pub(super) selections: Set,
    /// The tightest of `connections`.
    pub(super) connections_max: usize,
    pub(super) messages_per_connection_max: u32,
    pub(super) recipients_per_transaction_max: usize,
    /// How long a connection without work is kept.
    pub(super) idle: Duration,
    /// Work that a lane of one source of several has at hand.
    pub(super) ready_max: usize,
    /// Who keeps count of what a source sends there.
    pub(super) provider: Arc<str>,
    pub(super) manner: Arc<Manner>,
    /// None of its mail may go.
    pub(super) closed: Option<Closed>,
    /// It is the same until then.
    pub(super) until: Moment,
}

/// What mail of some labels obeys in a lane, beside what all mail of the lane does.
#[derive(Debug)]
pub(super) struct StrandTerms {
    /// Message rates, and transactions at once.
    pub(super) own: Set,
    pub(super) recipients_per_transaction_max: usize,
    /// A connection that has carried such mail ends after so many messages.
    pub(super) messages_per_connection_max: u32,
    /// Messages of the tenant in its turn.
    pub(super) weight: u16,
    pub(super) closed: Option<Closed>,
    /// It is the same until then.
    pub(super) until: Moment,
}

impl StrandTerms {
    /// Of what is said of no label in particular, in a lane that is closed.
    fn closed(closed: Closed) -> Self {
        Self {
            own: Set::default(),
            recipients_per_transaction_max: usize::MAX,
            messages_per_connection_max: u32::MAX,
            weight: 1,
            closed: Some(closed),
            until: Moment::NEVER,
        }
    }

    /// Whether transactions take places that are to be given back.
    pub(super) fn has_places(&self) -> bool {
        self.own.places().next().is_some()
    }
}

/// Why mail may not go at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// `tenant acme`, and when its window opens.
    Window { whose: Box<str>, opens: Moment },
    /// `tenant acme`, and who said so where.
    Suspended { whose: Box<str>, place: Box<str> },
    /// It must not go in clear, and nothing else is spoken. Who said so where.
    TlsRequired { place: Box<str> },
}

impl fmt::Display for Closed {
    /// What it waits for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { whose, opens } => {
                write!(
                    f,
                    "the delivery window of {whose}, which opens {}",
                    opens.rfc3339()
                )
            }
            Self::Suspended { whose, place } => {
                write!(f, "the end of the suspension of {whose} ({place})")
            }
            Self::TlsRequired { place } => {
                write!(
                    f,
                    "TLS, which is required here ({place}) and which this build does not speak"
                )
            }
        }
    }
}

impl Closed {
    /// Of the whole lane, whosoever mail it is.
    fn of_lane(effective: &Effective<'_>) -> Option<Self> {
        let held = effective.suspensions().into_iter();
        let mut held = held.filter(|held| held.is_of_path);
        if let Some(held) = held.next() {
            return Some(Self::suspended(&held));
        }
        let place = effective.requires_tls()?.to_string().into();
        Some(Self::TlsRequired { place })
    }

    pub(super) const fn is_of_tls(&self) -> bool {
        matches!(self, Self::TlsRequired { .. })
    }

    fn suspended(held: &Suspension<'_>) -> Self {
        Self::Suspended {
            whose: held.whose.as_str().into(),
            place: held.place.to_string().into(),
        }
    }

    /// The first reason of all: what an operator did before what the hour does.
    fn of(effective: &Effective<'_>) -> Option<Self> {
        if let Some(held) = effective.suspensions().first() {
            return Some(Self::suspended(held));
        }
        let shut = effective.windows().iter().filter(|w| !w.state.holds);
        // All must be open; the one that opens last is waited for.
        let last = shut.max_by_key(|window| window.state.until)?;
        Some(Self::Window {
            whose: format!("{} {}", last.kind.name(), last.name).into(),
            opens: last.state.until,
        })
    }
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
            via: Via::Sole,
        }
    }

    /// What is not said is the default.
    fn party<'a>(&'a self, by: By<'a>) -> Party<'a> {
        let labels = self.shaping.labels();
        Party {
            source: by.source.unwrap_or(UNSPECIFIED_SOURCE),
            tenant: by.tenant.unwrap_or_else(|| labels.default_tenant()),
            campaign: by.campaign.unwrap_or_else(|| labels.default_campaign()),
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
        let party = self.party(by);
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
            provider: effective.path().provider_name.unwrap_or(OTHERS).into(),
            source: party.source.into(),
            tenant: party.tenant.into(),
            campaign: party.campaign.into(),
            default_pool: self.shaping.labels().default_pool().into(),
            weight: effective.weight(),
            windows: effective.windows().iter().map(WindowRow::of).collect(),
            hours: effective.hours().iter().map(HoursRow::of).collect(),
            suspended: effective.suspensions().iter().map(told).collect(),
            barred: effective.requires_tls().map(|place| {
                format!("TLS is required here ({place}) and this build does not speak it")
            }),
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

    /// Of a gate, which lets nothing through by itself.
    pub(super) fn gate_terms(&self, plan: &Plan, key: &LaneKey, now: Moment) -> Terms {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, key.apart.as_deref().unwrap_or_default());
        let party = self.party(By::default());
        let effective = self.shaping.resolve(&self.overrides, facts, party, now);
        let mut terms = Terms::of(&effective, &mut Bounds::new(0));
        // The lanes of its sources say for themselves whether they may go in clear.
        terms.closed.take_if(|closed| closed.is_of_tls());
        terms
    }

    /// With it, limits that have become wider.
    pub(super) fn terms(
        &self,
        plan: &Plan,
        key: &LaneKey,
        source: Option<&str>,
        now: Moment,
    ) -> (Terms, Freed) {
        let hosts = hosts(plan);
        let facts = facts(plan, &hosts, key.apart.as_deref().unwrap_or_default());
        let party = self.party(By {
            source,
            ..By::default()
        });
        let effective = self.shaping.resolve(&self.overrides, facts, party, now);
        let mut bounds = Bounds::new(u32::MAX);
        bounds.is_chosen = source.is_some();
        let of_lane = |limit: &Limit<'_>| !is_of_labels(limit.key.scope);
        let limits = self.limits(&effective, facts, party, key.apart.as_deref(), now);
        for limit in limits.into_iter().filter(of_lane) {
            self.bind(&limit, &mut bounds, now);
        }
        bounds.connections.extend(self.registry.of_node());
        let terms = Terms::of(&effective, &mut bounds);
        (terms, bounds.freed)
    }

    fn bind(&self, limit: &Limit<'_>, bounds: &mut Bounds, now: Moment) {
        match (limit.key.limited, limit.amount) {
            (Limited::Connections, Amount::Cap(cap)) => {
                bounds.at_once = bounds.at_once.min(cap.most);
                let places = self.places(limit, cap, &mut bounds.freed);
                bounds.connections.push(places);
            }
            (Limited::ConnectionRate, Amount::Rate(rate)) => {
                bounds.connections.push(self.meter(limit, &rate, now));
            }
            (Limited::Messages, Amount::Rate(rate)) => {
                bounds.ready_max = bounds.ready_max.min(within(&rate.paced(), READY_SPAN));
                bounds.messages.push(self.meter(limit, &rate, now));
            }
            // Where nothing is chosen, each message counts as a choice.
            (Limited::Selections, Amount::Rate(rate)) => {
                let limits = if bounds.is_chosen {
                    &mut bounds.selections
                } else {
                    &mut bounds.messages
                };
                limits.push(self.meter(limit, &rate, now));
            }
            (Limited::MessagesPerConnection, Amount::Cap(cap)) => {
                bounds.per_connection = bounds.per_connection.min(cap.most);
            }
            (Limited::RecipientsPerTransaction, Amount::Cap(cap)) => {
                bounds.per_transaction = bounds.per_transaction.min(cap.most);
            }
            (_, Amount::Cap(_) | Amount::Rate(_)) => {}
        }
    }
}

/// The limits of a lane, while they are gathered.
struct Bounds {
    connections: Vec<Arc<limit::Limit>>,
    messages: Vec<Arc<limit::Limit>>,
    selections: Vec<Arc<limit::Limit>>,
    at_once: u32,
    per_connection: u32,
    per_transaction: u32,
    ready_max: usize,
    /// Of a source that a pool has chosen.
    is_chosen: bool,
    freed: Freed,
}

impl Bounds {
    fn new(at_once: u32) -> Self {
        Self {
            connections: Vec::new(),
            messages: Vec::new(),
            selections: Vec::new(),
            at_once,
            per_connection: u32::MAX,
            per_transaction: u32::MAX,
            ready_max: READY_MAX,
            is_chosen: false,
            freed: Freed::default(),
        }
    }
}

impl Terms {
    /// `None` where no provider's block matches.
    pub(super) fn provider_name(&self) -> Option<&str> {
        Some(&*self.provider).filter(|name| *name != OTHERS)
    }

    fn of(effective: &Effective<'_>, bounds: &mut Bounds) -> Self {
        let manner = effective.manner();
        let set = |limits: &mut Vec<_>| Set::new(core::mem::take(limits));
        let of_connections = (bounds.at_once as usize).saturating_mul(READY_FACTOR);
        let ready_max = bounds.ready_max.min(of_connections);
        Self {
            connections: set(&mut bounds.connections),
            messages: set(&mut bounds.messages),
            selections: set(&mut bounds.selections),
            connections_max: bounds.at_once as usize,
            messages_per_connection_max: bounds.per_connection,
            recipients_per_transaction_max: bounds.per_transaction.max(1) as usize,
            idle: manner.waits.idle,
            ready_max: ready_max.clamp(READY_MIN, READY_MAX),
            provider: effective.path().provider_name.unwrap_or(OTHERS).into(),
            manner: Arc::new(manner),
            closed: Closed::of_lane(effective),
            until: effective.until(),
        }
    }
}

impl Shapes {
    fn places(&self, limit: &Limit<'_>, cap: Cap, freed: &mut Freed) -> Arc<limit::Limit> {
        let registry = &self.registry;
        let (places, told) = match self.shared(limit, cap.local) {
            Some(loss) => registry.leased_connections(&limit.key, cap.most, 0, loss),
            None => registry.connections(&limit.key, cap.most),
        };
        freed.add(places.id, told);
        places
    }

    /// What holds for mail of `labels` in the lane, which has these terms. `None` if nothing is said
    /// of it; with it, limits that have become wider.
    pub(super) fn strand_terms(
        &self,
        plan: &Plan,
        (key, lane): (&LaneKey, &Terms),
        labels: &Labels,
        now: Moment,
    ) -> Option<(StrandTerms, Freed)> {
        let domain = key.apart.as_deref().unwrap_or_default();
        let facts = facts(plan, &[], domain);
        let party = self.party(By {
            source: None,
            tenant: labels.tenant(),
            campaign: labels.campaign(),
        });
        let shaping = &self.shaping;
        let closed = lane.closed.clone();
        let Some(effective) = shaping.resolve_labels(&self.overrides, facts, party, now) else {
            return closed.map(|closed| (StrandTerms::closed(closed), Freed::default()));
        };
        let mut own = Vec::new();
        let (mut per_connection, mut per_transaction) = (u32::MAX, u32::MAX);
        let mut freed = Freed::default();
        let of_labels = |limit: &Limit<'_>| is_of_labels(limit.key.scope);
        for limit in effective.limits().into_iter().filter(of_labels) {
            match (limit.key.limited, limit.amount) {
                (Limited::Connections, Amount::Cap(cap)) => {
                    own.push(self.places(&limit, cap, &mut freed));
                }
                (Limited::Messages, Amount::Rate(rate)) => {
                    own.push(self.meter(&limit, &rate, now));
                }
                (Limited::MessagesPerConnection, Amount::Cap(cap)) => {
                    per_connection = per_connection.min(cap.most);
                }
                (Limited::RecipientsPerTransaction, Amount::Cap(cap)) => {
                    per_transaction = per_transaction.min(cap.most);
                }
                // These may not stand in blocks of labels.
                (Limited::ConnectionRate | Limited::Selections, _)
                | (_, Amount::Cap(_) | Amount::Rate(_)) => {}
            }
        }
        let terms = StrandTerms {
            own: Set::new(own),
            recipients_per_transaction_max: per_transaction.max(1) as usize,
            messages_per_connection_max: per_connection,
            weight: effective.weight(),
            closed: closed.or_else(|| Closed::of(&effective)),
            until: effective.until(),
        };
        Some((terms, freed))
    }
}

/// Permits that fall due in `span`, and what may go at once, within reason.
fn within(rate: &limit::Pace, span: Duration) -> usize {
    let due = u128::from(rate.count()) * span.as_micros() / rate.period().as_micros().max(1);
    let due = usize::try_from(due).unwrap_or(READY_MAX);
    due.clamp(READY_MIN, READY_MAX)
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

fn told(held: &Suspension<'_>) -> String {
    format!("{} ({})", held.whose, held.place)
}

/// Whether mail of the lane differs in it, so that it is looked at message by message.
const fn is_of_labels(scope: Scope) -> bool {
    matches!(scope, Scope::Tenant | Scope::Campaign | Scope::Queue)
}

pub(super) fn hosts(plan: &Plan) -> SmallVec<[&str; 8]> {
    plan.mx_hosts.iter().map(|host| &**host).collect()
}

pub(super) fn facts<'a>(plan: &'a Plan, hosts: &'a [&'a str], domain: &'a str) -> SiteFacts<'a> {
    SiteFacts {
        domain,
        mx_hosts: hosts,
        site: plan.site.as_str(),
    }
}
