//! What operators see of a shard.

use super::brain::Dispatch;
use super::lane::Route;
use crate::words::{Domain, MessageId, Moment, RecordKind, SiteName};

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

impl Counters {
    pub(super) fn count(&mut self, kind: RecordKind) {
        match kind {
            RecordKind::Delivery => self.delivered += 1,
            RecordKind::TransientFailure => self.deferred += 1,
            RecordKind::Bounce => self.refused += 1,
            RecordKind::Expiration => self.expired += 1,
            RecordKind::Reception | RecordKind::AdminBounce | RecordKind::Rejection => {}
        }
    }
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    pub site: SiteName,
    pub ready: usize,
    pub in_flight: usize,
    pub connections: usize,
    pub paused_until: Option<Moment>,
    /// The last trouble; empty if there was none.
    pub why: Box<str>,
    /// The limits it waits for; empty if there are none.
    pub waits_for: Box<str>,
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
}

impl Dispatch {
    pub fn counters(&self) -> Counters {
        Counters {
            queued: self.entries.len(),
            held_octets: self.held_octets,
            connections: self.connections.len(),
            ..self.counters
        }
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
            ready: lane.ready.len() + lane.staged.len() + lane.loading,
            in_flight: lane.in_flight,
            connections: lane.connected + lane.opening,
            paused_until: (now < lane.paused_until).then_some(lane.paused_until),
            why: lane.why.clone(),
            waits_for: lane.waits_for(),
        });
        rows.filter(|row| row.ready + row.in_flight + row.connections > 0)
            .take(limit)
            .collect()
    }

    /// Domains with queued work. O(domains): for an operator's command.
    pub fn list(&self, limit: usize, now: Moment) -> Vec<DomainRow> {
        let domains = self.domains.iter().filter(|domain| domain.entries > 0);
        domains
            .take(limit)
            .map(|domain| {
                let (site, paused_until, why, waits_for) = match &domain.route {
                    Route::Lane { lane, .. } => {
                        let lane = &self.lanes[*lane];
                        let site = Some(lane.plan.site.clone());
                        // Of a lane that has heard nothing, what was known before.
                        let why = if lane.why.is_empty() {
                            &domain.why
                        } else {
                            &lane.why
                        };
                        (site, lane.paused_until, why, lane.waits_for())
                    }
                    Route::Unknown | Route::Refused { .. } => {
                        (None, domain.paused_until, &domain.why, Box::default())
                    }
                };
                DomainRow {
                    domain: domain.name.clone(),
                    site,
                    queued: domain.entries as usize,
                    paused_until: (now < paused_until).then_some(paused_until),
                    why: why.clone(),
                    waits_for,
                }
            })
            .collect()
    }

    /// Queued work of one message. O(entries): for an operator's command.
    pub fn find(&self, id: MessageId) -> Vec<Found> {
        let entries = self.entries.iter().filter(|entry| entry.id() == id);
        entries
            .map(|entry| Found {
                domain: self.domains[entry.domain].name.clone(),
                recipients: entry.recipients.as_slice().to_vec(),
                attempts: entry.attempts,
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
