//! What operators see of a shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::brain::Dispatch;
use super::fleet::PoolId;
use super::lane::{Lane, Route, Via};
use super::terms::Closed;
use crate::queue::{Entry, LabelId};
use crate::shaping::QueueName;
use crate::words::{Domain, Labels, MessageId, Moment, RecordKind, SiteName};

/// Tenants and campaigns of a lane that are told one by one.
const STRANDS_TOLD_MAX: usize = 100;

/// Of one pool: recipients since the start, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    pub delivered: u64,
    pub deferred: u64,
    pub refused: u64,
    pub expired: u64,
    /// Entries that wait for a source at this moment.
    pub waiting: usize,
}

/// Totals since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub delivered: u64,
    pub deferred: u64,
    pub refused: u64,
    pub expired: u64,
    pub forwarded: u64,
    /// Loads that failed; the work is tried again.
    pub unreadable: u64,
    /// Entries queued at this moment, wherever they are.
    pub queued: usize,
    /// Message octets held at this moment.
    pub held_octets: usize,
    pub connections: usize,
    /// Entries that wait because TLS is required for them and not spoken.
    pub tls_barred: usize,
    /// In the order of the fleet's.
    pub pools: Vec<PoolCounters>,
}

impl Counters {
    fn count(&mut self, kind: RecordKind, pool: Option<PoolId>) {
        let mut none = PoolCounters::default();
        let pool = pool.and_then(|pool| self.pools.get_mut(usize::from(pool.0)));
        let pool = pool.unwrap_or(&mut none);
        let (all, of_pool) = match kind {
            RecordKind::Delivery => (&mut self.delivered, &mut pool.delivered),
            RecordKind::TransientFailure => (&mut self.deferred, &mut pool.deferred),
            RecordKind::Bounce | RecordKind::AdminBounce => (&mut self.refused, &mut pool.refused),
            RecordKind::Expiration => (&mut self.expired, &mut pool.expired),
            RecordKind::Reception | RecordKind::Rejection => return,
        };
        *all += 1;
        *of_pool += 1;
    }
}

/// Whose mail is asked about; what is not said is anybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    pub tenant: Option<Box<str>>,
    pub campaign: Option<Box<str>>,
    pub domain: Option<Box<str>>,
}

impl Whose {
    pub const fn is_anybody(&self) -> bool {
        self.tenant.is_none() && self.campaign.is_none() && self.domain.is_none()
    }

    /// In words, for people.
    pub fn told(&self) -> String {
        QueueName {
            tenant: self.tenant.clone(),
            campaign: self.campaign.clone(),
            domain: self.domain.clone(),
        }
        .told()
    }
}

/// Ready work of one tenant's campaign in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrandRow {
    pub labels: Labels,
    pub ready: usize,
    /// What holds it back beside what holds the lane; empty if nothing does.
    pub waits_for: Box<str>,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    pub site: SiteName,
    /// Of its work; `None` where nothing is to be chosen.
    pub pool: Option<Arc<str>>,
    /// By which its work leaves; `None` where nothing is to be chosen, or nothing is chosen yet.
    pub source: Option<Arc<str>>,
    pub ready: usize,
    pub in_flight: usize,
    pub connections: usize,
    pub paused_until: Option<Moment>,
    /// The last trouble; empty if there was none.
    pub why: Box<str>,
    /// The limits it waits for, or some of its work; empty if there are none.
    pub waits_for: Box<str>,
    /// Its work by whose it is, a bounded part of it, unless all is of the default.
    pub strands: Vec<StrandRow>,
}

/// One domain with queued work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    pub domain: Domain,
    pub site: Option<SiteName>,
    /// Entries, wherever they are.
    pub queued: usize,
    pub paused_until: Option<Moment>,
    pub why: Box<str>,
    /// The limits its lane waits for; empty if there are none.
    pub waits_for: Box<str>,
}

/// Work of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub domain: Domain,
    pub recipients: Vec<u16>,
    pub attempts: u16,
    pub labels: Labels,
    /// By which it leaves; `None` where nothing is to be chosen.
    pub pool: Option<Arc<str>>,
    /// The limits it waits for; empty if there are none.
    pub waits_for: Box<str>,
}

impl Dispatch {
    /// Entries of the queue on this shard.
    pub fn queue_length(&self) -> usize {
        self.entries.len()
    }

    pub fn counters(&self) -> Counters {
        Counters {
            queued: self.queue_length(),
            held_octets: self.held_octets,
            connections: self.connections.len(),
            tls_barred: self.tls_barred(),
            pools: self.pool_counters(),
            ..self.counters.clone()
        }
    }

    /// O(lanes): for who looks from outside.
    fn tls_barred(&self) -> usize {
        let is_barred = |lane: &Lane| lane.terms.closed.as_ref().is_some_and(Closed::is_of_tls);
        let lanes = self.lanes.iter().filter(|lane| {
            let mut exits = lane.exits.values();
            let is_gate_barred =
                !lane.exits.is_empty() && exits.all(|exit| is_barred(&self.lanes[*exit]));
            is_barred(lane) || is_gate_barred
        });
        lanes.map(|lane| lane.strands.len()).sum()
    }

    /// O(lanes).
    fn pool_counters(&self) -> Vec<PoolCounters> {
        let mut pools = self.counters.pools.clone();
        for lane in self.lanes.iter() {
            if let Via::Gate(pool) = lane.key.via {
                pools[usize::from(pool.0)].waiting += lane.strands.len();
            }
        }
        pools
    }

    pub(super) fn count(&mut self, kind: RecordKind, via: Via) {
        let pool = match via {
            Via::Gate(pool) | Via::Source(pool, _) => Some(pool),
            Via::Sole => None,
        };
        self.counters.count(kind, pool);
    }

    /// Whether nothing is in flight, on connections or to the spool, and all that was asked for is
    /// fetched: a node that shuts down may stop then, and is asked for nothing more.
    pub fn is_quiet(&self) -> bool {
        self.actions.is_empty() && self.connections.is_empty() && self.reports_asked == 0
    }

    /// Domains and lanes that are known at this moment.
    pub fn known(&self) -> (usize, usize) {
        (self.domains.len(), self.lanes.len())
    }

    /// Lanes with work or connections.
    pub fn lanes(&self, limit: usize, now: Moment) -> Vec<LaneRow> {
        let rows = self.lanes.iter().map(|lane| LaneRow {
            site: lane.plan.site.clone(),
            pool: self.pool_name(lane.key.via),
            source: self.source_of(lane),
            ready: lane.strands.len() + lane.loading,
            in_flight: lane.in_flight,
            connections: lane.connected + lane.opening,
            paused_until: (now < lane.paused_until).then_some(lane.paused_until),
            why: lane.why.clone(),
            waits_for: lane.all_waits(|strand| strand.len() > 0),
            strands: self.strand_rows(lane),
        });
        rows.filter(|row| row.ready + row.in_flight + row.connections > 0)
            .take(limit)
            .collect()
    }

    fn strand_rows(&self, lane: &Lane) -> Vec<StrandRow> {
        let strands = lane.strands.iter().filter(|strand| strand.len() > 0);
        let rows = strands.map(|strand| StrandRow {
            labels: self.labels.get(strand.labels).clone(),
            ready: strand.len(),
            waits_for: strand.waits_for().unwrap_or_default().into(),
        });
        let rows: Vec<StrandRow> = rows.take(STRANDS_TOLD_MAX).collect();
        let is_plain = rows.iter().all(|row| row.labels.is_default());
        if is_plain { Vec::new() } else { rows }
    }

    fn is_of(&self, labels: LabelId, whose: &Whose) -> bool {
        let (labels, defaults) = (self.labels.get(labels), self.shapes.shaping.labels());
        let is = |wanted: &Option<Box<str>>, label: Option<&str>, default| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted == label.unwrap_or(default))
        };
        is(&whose.tenant, labels.tenant(), defaults.default_tenant())
            && is(
                &whose.campaign,
                labels.campaign(),
                defaults.default_campaign(),
            )
    }

    /// Of which domain it is, too.
    pub(super) fn is_entry_of(&self, entry: &Entry, whose: &Whose) -> bool {
        let name = self.domains[entry.domain].name.as_str();
        whose.domain.as_deref().is_none_or(|wanted| wanted == name)
            && self.is_of(entry.labels, whose)
    }

    /// Entries of each domain that has any of these. O(domains), O(entries) if not anybody's are meant.
    fn queued_of(&self, whose: &Whose) -> BTreeMap<u32, usize> {
        if whose.is_anybody() {
            let numbers = self.domains.numbers().into_iter();
            let rows = numbers.map(|index| (index, self.domains[index].entries as usize));
            return rows.filter(|(_, entries)| *entries > 0).collect();
        }
        let mut queued = BTreeMap::new();
        let entries = self.entries.iter();
        for entry in entries.filter(|entry| self.is_entry_of(entry, whose)) {
            *queued.entry(entry.domain).or_default() += 1;
        }
        queued
    }

    /// Domains with queued work of these. For an operator's command.
    pub fn list(&self, limit: usize, whose: &Whose, now: Moment) -> Vec<DomainRow> {
        let domains = self.queued_of(whose).into_iter().take(limit);
        domains
            .map(|(index, queued)| {
                let domain = &self.domains[index];
                let (site, paused_until, why, waits_for) = match &domain.route {
                    Route::Lane { lane, .. } => {
                        let site = Some(self.lanes[*lane].plan.site.clone());
                        let lane = &self.lanes[self.telling(*lane)];
                        // Of a lane that has heard nothing, what was known before.
                        let why = if lane.why.is_empty() {
                            &domain.why
                        } else {
                            &lane.why
                        };
                        let waits = lane.all_waits(|strand| {
                            strand.len() > 0 && self.is_of(strand.labels, whose)
                        });
                        (site, lane.paused_until, why, waits)
                    }
                    Route::Unknown | Route::Refused { .. } => {
                        (None, domain.paused_until, &domain.why, Box::default())
                    }
                };
                DomainRow {
                    domain: domain.name.clone(),
                    site,
                    queued,
                    paused_until: (now < paused_until).then_some(paused_until),
                    why: why.clone(),
                    waits_for,
                }
            })
            .collect()
    }

    fn source_of(&self, lane: &Lane) -> Option<Arc<str>> {
        let Via::Source(_, source) = lane.key.via else {
            return None;
        };
        Some(Arc::clone(&self.config.fleet.source(source).name))
    }

    pub(super) fn pool_name(&self, via: Via) -> Option<Arc<str>> {
        let pool = self.config.fleet.pool_behind(via)?;
        Some(Arc::clone(&pool.name))
    }

    /// Which lane tells why work that the route leads to `gate` is still here: a gate while work
    /// waits there, else the first source's that has something to tell.
    pub(super) fn telling(&self, gate: u32) -> u32 {
        let family = self.family(gate);
        let waits = |lane: &&u32| {
            let lane = &self.lanes[**lane];
            lane.is_gate() && !lane.strands.is_empty()
        };
        let has_told = |lane: &&u32| {
            let lane = &self.lanes[**lane];
            !lane.is_gate() && (!lane.why.is_empty() || !lane.all_waits(|_| true).is_empty())
        };
        let mut telling = family.iter().find(waits);
        telling = telling.or_else(|| family.iter().find(has_told));
        telling.copied().unwrap_or(gate)
    }

    /// Queued work of one message. O(entries): for an operator's command.
    pub fn find(&self, id: MessageId) -> Vec<Found> {
        let entries = self.entries.iter().filter(|entry| entry.id() == id);
        entries
            .map(|entry| Found {
                domain: self.domains[entry.domain].name.clone(),
                recipients: entry.recipients.as_slice().to_vec(),
                attempts: entry.attempts,
                labels: self.labels.get(entry.labels).clone(),
                pool: self.pool_name(self.via_of_labels(self.labels.get(entry.labels))),
                waits_for: match &self.domains[entry.domain].route {
                    Route::Lane { lane, .. } => {
                        let gate = self.gate_of_entry(*lane, entry.labels);
                        let lane = &self.lanes[self.telling(gate)];
                        lane.all_waits(|strand| strand.labels == entry.labels)
                    }
                    Route::Unknown | Route::Refused { .. } => Box::default(),
                },
            })
            .collect()
    }

    /// All queued work: messages and those of their recipients that are on this shard. O(entries).
    pub fn queued(&self) -> impl Iterator<Item = (MessageId, &[u16])> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.id(), entry.recipients.as_slice()))
    }

    /// Entries that wait for their due time and other timers. For tests of memory and work.
    pub fn timers(&self) -> usize {
        self.due.len() + self.flushes.len()
    }
}
