//! What the endpoint shows: the shards' answers put together, in the names of its JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::dispatch::{Counters, DomainRow, Found, LaneRow, PoolCounters};
use posthaste_core::words::{MessageId, Moment};
use serde::Serialize;

/// A pause of deliveries.
#[derive(Debug, Serialize)]
pub(super) struct Pause {
    /// RFC 3339, UTC.
    paused_until: Option<String>,
    /// Seconds from now on, rounded up.
    paused_seconds: Option<u64>,
}

impl Pause {
    fn new(until: Option<Moment>, now: Moment) -> Self {
        let left = until.map(|until| until.since(now));
        Self {
            paused_until: until.map(|until| until.rfc3339().to_string()),
            paused_seconds: left.map(|left| left.as_millis().div_ceil(1000) as u64),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct DomainView {
    domain: String,
    /// Null until the domain's route is known.
    site: Option<String>,
    queued: usize,
    #[serde(flatten)]
    pause: Pause,
    /// The last trouble; empty if there was none.
    why: String,
    /// Limits that hold it back at this moment; empty if there are none.
    waits_for: String,
}

#[derive(Debug, Serialize)]
pub(super) struct LaneView {
    site: String,
    /// Null where there are no sources.
    pool: Option<String>,
    /// Null where none is chosen yet, too.
    source: Option<String>,
    shard: u16,
    ready: usize,
    in_flight: usize,
    connections: usize,
    #[serde(flatten)]
    pause: Pause,
    why: String,
    waits_for: String,
}

#[derive(Debug, Serialize)]
pub(super) struct QueueView {
    /// Entries of all domains, those not listed included.
    queued: usize,
    /// The fullest first.
    domains: Vec<DomainView>,
    /// The fullest first.
    lanes: Vec<LaneView>,
    /// There are more domains or lanes than listed.
    truncated: bool,
    /// Shards that did not answer; what they hold is missing here.
    silent_shards: Vec<u16>,
}

/// How many rows were asked of each shard, and how many are shown.
pub(super) struct Bounds {
    pub(super) asked: usize,
    pub(super) shown: usize,
}

/// `queued` entries in all; the rows of each shard come with its number.
pub(super) fn queue(
    queued: usize,
    domains: Vec<(u16, Vec<DomainRow>)>,
    lanes: Vec<(u16, Vec<LaneRow>)>,
    silent: BTreeSet<u16>,
    bounds: Bounds,
    now: Moment,
) -> QueueView {
    let cut = domains.iter().any(|(_, rows)| rows.len() >= bounds.asked)
        || lanes.iter().any(|(_, rows)| rows.len() >= bounds.asked);
    let mut domains = merge(domains.into_iter().flat_map(|(_, rows)| rows));
    domains.sort_by(|a, b| {
        b.queued
            .cmp(&a.queued)
            .then_with(|| a.domain.cmp(&b.domain))
    });
    let mut lanes: Vec<(u16, LaneRow)> = lanes
        .into_iter()
        .flat_map(|(shard, rows)| rows.into_iter().map(move |row| (shard, row)))
        .collect();
    lanes.sort_by(|(_, a), (_, b)| {
        let size = |row: &LaneRow| row.ready + row.in_flight;
        size(b).cmp(&size(a)).then_with(|| a.site.cmp(&b.site))
    });
    QueueView {
        queued,
        truncated: cut || domains.len() > bounds.shown || lanes.len() > bounds.shown,
        domains: domains
            .into_iter()
            .take(bounds.shown)
            .map(|row| domain_view(row, now))
            .collect(),
        lanes: lanes
            .into_iter()
            .take(bounds.shown)
            .map(|(shard, row)| lane_view(shard, row, now))
            .collect(),
        silent_shards: silent.into_iter().collect(),
    }
}

/// One row a domain. Of two pauses the longer counts, with its reason.
fn merge(rows: impl Iterator<Item = DomainRow>) -> Vec<DomainRow> {
    let mut merged: BTreeMap<_, DomainRow> = BTreeMap::new();
    for row in rows {
        let Some(kept) = merged.get_mut(&row.domain) else {
            merged.insert(row.domain.clone(), row);
            continue;
        };
        kept.queued += row.queued;
        if kept.site.is_none() {
            kept.site = row.site;
        }
        if row.paused_until > kept.paused_until || kept.why.is_empty() {
            kept.paused_until = kept.paused_until.max(row.paused_until);
            kept.why = row.why;
        }
        if kept.waits_for.is_empty() {
            kept.waits_for = row.waits_for;
        }
    }
    merged.into_values().collect()
}

fn domain_view(row: DomainRow, now: Moment) -> DomainView {
    DomainView {
        domain: row.domain.to_string(),
        site: row.site.map(|site| site.to_string()),
        queued: row.queued,
        pause: Pause::new(row.paused_until, now),
        why: row.why.into(),
        waits_for: row.waits_for.into(),
    }
}

fn lane_view(shard: u16, row: LaneRow, now: Moment) -> LaneView {
    LaneView {
        site: row.site.to_string(),
        pool: row.pool.as_deref().map(Into::into),
        source: row.source.as_deref().map(Into::into),
        shard,
        ready: row.ready,
        in_flight: row.in_flight,
        connections: row.connections,
        pause: Pause::new(row.paused_until, now),
        why: row.why.into(),
        waits_for: row.waits_for.into(),
    }
}

/// Work of one message: recipients of one domain.
#[derive(Debug, Serialize)]
struct WorkView {
    domain: String,
    /// Recipients not yet settled, by their place in the envelope, from 0.
    recipients: Vec<u16>,
    attempts: u16,
    shard: u16,
    site: Option<String>,
    #[serde(flatten)]
    pause: Pause,
    why: String,
    waits_for: String,
    /// Null is the default.
    tenant: Option<String>,
    campaign: Option<String>,
    /// By which it leaves.
    pool: Option<String>,
    /// The one its label names, where there is no such pool.
    pool_gone: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct MessageView {
    id: String,
    /// RFC 3339, UTC.
    received: String,
    work: Vec<WorkView>,
    silent_shards: Vec<u16>,
}

/// `domains` are those of the shards where work was found.
pub(super) fn message(
    id: MessageId,
    found: Vec<(u16, Vec<Found>)>,
    domains: &[(u16, Vec<DomainRow>)],
    silent: BTreeSet<u16>,
    now: Moment,
) -> MessageView {
    let work = found
        .into_iter()
        .flat_map(|(shard, found)| found.into_iter().map(move |found| (shard, found)));
    let work = work.map(|(shard, found)| {
        let rows = domains.iter().filter(|(number, _)| *number == shard);
        let row = rows
            .flat_map(|(_, rows)| rows)
            .find(|row| row.domain == found.domain);
        let pool = found.pool.as_deref();
        let is_gone = |name: &str| pool.is_some_and(|pool| pool != name);
        WorkView {
            domain: found.domain.to_string(),
            recipients: found.recipients,
            attempts: found.attempts,
            shard,
            site: row.and_then(|row| Some(row.site.as_ref()?.to_string())),
            pause: Pause::new(row.and_then(|row| row.paused_until), now),
            why: row.map_or_else(String::new, |row| row.why.as_ref().into()),
            waits_for: found.waits_for.into(),
            tenant: found.labels.tenant().map(Into::into),
            campaign: found.labels.campaign().map(Into::into),
            pool_gone: found
                .labels
                .pool()
                .filter(|name| is_gone(name))
                .map(Into::into),
            pool: pool.or_else(|| found.labels.pool()).map(Into::into),
        }
    });
    let received = Moment::default() + Duration::from_millis(id.millis());
    MessageView {
        id: id.to_string(),
        received: received.rfc3339().to_string(),
        work: work.collect(),
        silent_shards: silent.into_iter().collect(),
    }
}

/// What all shards count together.
pub(super) fn sum(shards: &[Counters]) -> Counters {
    let mut sum = Counters::default();
    for shard in shards {
        sum.delivered += shard.delivered;
        sum.deferred += shard.deferred;
        sum.refused += shard.refused;
        sum.expired += shard.expired;
        let pools = sum.pools.len().max(shard.pools.len());
        sum.pools.resize_with(pools, PoolCounters::default);
        for (sum, pool) in sum.pools.iter_mut().zip(&shard.pools) {
            sum.delivered += pool.delivered;
            sum.deferred += pool.deferred;
            sum.refused += pool.refused;
            sum.expired += pool.expired;
            sum.waiting += pool.waiting;
        }
        sum.forwarded += shard.forwarded;
        sum.unreadable += shard.unreadable;
        sum.queued += shard.queued;
        sum.held_octets += shard.held_octets;
        sum.connections += shard.connections;
        sum.tls_barred += shard.tls_barred;
    }
    sum
}

#[cfg(test)]
mod tests {
    use posthaste_core::words::{Domain, SiteName};

    use super::*;

    fn row(domain: &str, queued: usize, paused: Option<u64>, why: &str) -> DomainRow {
        DomainRow {
            domain: Domain::parse(domain).unwrap(),
            site: (queued > 1).then(|| SiteName::new("mx")),
            queued,
            paused_until: paused.map(Moment::from_secs),
            why: why.into(),
            waits_for: "".into(),
        }
    }

    #[test]
    fn domains_of_all_shards_are_put_together() {
        let rows = vec![
            (
                0,
                vec![
                    row("a.example", 1, None, ""),
                    row("b.example", 5, Some(100), "x"),
                ],
            ),
            (
                1,
                vec![
                    row("a.example", 7, None, "old"),
                    row("b.example", 5, Some(160), "y"),
                ],
            ),
        ];
        let silent = BTreeSet::from([2]);
        let bounds = Bounds {
            asked: 100,
            shown: 1,
        };
        let view = queue(
            18,
            rows,
            Vec::new(),
            silent,
            bounds,
            Moment::from_micros(99_500_000),
        );
        assert_eq!(view.queued, 18);
        assert!(view.truncated);
        assert_eq!(view.silent_shards, [2]);
        let [b] = &view.domains[..] else {
            panic!("one row was asked for")
        };
        assert_eq!(
            (b.domain.as_str(), b.queued, b.why.as_str()),
            ("b.example", 10, "y")
        );
        assert_eq!(b.pause.paused_seconds, Some(61));
        assert_eq!(
            b.pause.paused_until.as_deref(),
            Some("1970-01-01T00:02:40.000000Z")
        );
        let a = merge(
            [
                row("a.example", 1, None, ""),
                row("a.example", 7, None, "old"),
            ]
            .into_iter(),
        );
        assert_eq!(
            a,
            [DomainRow {
                queued: 8,
                ..row("a.example", 7, None, "old")
            }]
        );
    }
}
