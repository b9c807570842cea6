//! From the checked configuration to the values each part takes.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use metrics::Gauge;
use nix::ifaddrs::getifaddrs;
use posthaste_core::admission::{Admission, ConnectionLimits};
use posthaste_core::dispatch::{self, Fleet, Keeping, LadderPlan, PoolPlan};
use posthaste_core::egress::{HealthRules, Member, Selection, Source, SourceId, WarmupState};
use posthaste_core::mail::Noted;
use posthaste_core::queue::Schedule;
use posthaste_core::route::{Families, Policy};
use posthaste_core::smtp::{client, data, server};
use posthaste_core::words::{Domain, Moment, ShardId};

use crate::config::{self, Config};
use crate::control;
use crate::delivery::{Outlet, Sources};
use crate::{dns, spool};

/// First pause of a lane whose connections fail, unless retries come faster.
const CONNECT_PAUSE: Duration = Duration::from_secs(30);
/// The largest `recipients_per_transaction_max`.
const RECIPIENTS_PER_ENTRY_MAX: usize = 1000;
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(1800);

pub(super) fn control(config: &Config, shards: u16) -> control::Options {
    control::Options {
        token: config.http.token.clone(),
        shards,
        log: config.log.dir.clone(),
    }
}

pub(super) fn session(config: &Config) -> server::Config {
    let smtp = &config.smtp;
    server::Config {
        limits: server::Limits {
            command_octets_max: smtp.command_octets_max,
            recipients_max: smtp.recipients_max,
            message_octets_max: smtp.message_octets_max,
            commands_max: smtp.commands_max,
            errors_max: smtp.errors_max,
            messages_max: smtp.messages_max,
            idle: smtp.idle,
            session: smtp.session,
        },
        line_ends: match smtp.line_ends {
            config::LineEnds::Reject => data::LineEnds::Reject,
            config::LineEnds::Normalise => data::LineEnds::Normalise,
        },
        ..server::Config::new(config.node.hostname.clone())
    }
}

pub(super) fn connection_limits(listener: &config::Listener) -> ConnectionLimits {
    ConnectionLimits {
        per_listener_max: listener.connections_max,
        per_network_max: listener.connections_per_client_max,
        ..ConnectionLimits::default()
    }
}

/// What all connections share; the rest is told by shaping, of which `[delivery]` is the base.
pub(super) fn dialogue(config: &Config) -> client::Config {
    let delivery = &config.delivery;
    client::Config {
        timeouts: client::Timeouts {
            quit: delivery.timeouts.quit,
            ..client::Timeouts::default()
        },
        ..client::Config::new(delivery.ehlo_name.as_str())
    }
}

/// `suspended` are the gauges of [`Config::sources_enabled`].
pub(super) fn sources(config: &Config, suspended: &[Gauge]) -> Sources {
    let common = Arc::new(dialogue(config));
    if config.sources.is_empty() {
        let any = Source::new("", None);
        return Sources::new(vec![Outlet::new(any, common, Gauge::noop())]);
    }
    let outlets = config
        .sources_enabled()
        .zip(suspended)
        .map(|(source, gauge)| {
            let dialogue = match &source.ehlo {
                Some(name) => Arc::new(client::Config {
                    ehlo_name: name.to_string(),
                    ..client::Config::clone(&common)
                }),
                None => Arc::clone(&common),
            };
            Outlet::new(source.clone(), dialogue, gauge.clone())
        });
    Sources::new(outlets.collect())
}

/// The sources mail leaves from and the pools they are in; `before` is from before a restart, and `cut`
/// the moment of it if the last run ended without a word.
pub(super) fn fleet(config: &Config, before: Vec<WarmupState>, cut: Option<Moment>) -> Fleet {
    if config.sources.is_empty() {
        return Fleet::default();
    }
    let sources: Vec<Source> = config.sources_enabled().cloned().collect();
    let find = |name: &str| {
        let place = sources.iter().position(|source| *source.name == *name)?;
        u32::try_from(place).ok().map(SourceId)
    };
    let mut pools: Vec<PoolPlan> = config.pools.iter().map(|pool| plan(pool, &find)).collect();
    match pools
        .iter()
        .position(|pool| *pool.name == *config::POOL_DEFAULT)
    {
        Some(place) => pools[..=place].rotate_right(1),
        None => {
            let all = config::Pool {
                name: config::POOL_DEFAULT.into(),
                selection: Selection::Weighted,
                hours: None,
                members: sources.iter().map(evenly).collect(),
            };
            pools.insert(0, plan(&all, &find));
        }
    }
    let ladders = config.warmups.iter().filter_map(|warmup| {
        Some(LadderPlan {
            source: find(&warmup.source)?,
            providers: warmup.providers.clone(),
            ladder: Arc::new(warmup.ladder.clone()),
        })
    });
    let ladders = ladders.collect();
    Fleet::kept(sources, pools, ladders, before, Keeping::Ahead { cut })
}

fn evenly(source: &Source) -> config::PoolMember {
    config::PoolMember {
        source: Arc::clone(&source.name),
        weight: 1,
        off_hours: None,
    }
}

/// As [`fleet`] has them: the default one first.
pub(super) fn pool_names(config: &Config) -> Vec<&str> {
    if config.sources.is_empty() {
        return Vec::new();
    }
    let named = config.pools.iter().map(|pool| &*pool.name);
    let others = named.filter(|name| *name != config::POOL_DEFAULT);
    std::iter::once(config::POOL_DEFAULT)
        .chain(others)
        .collect()
}

/// Without the sources that are not enabled.
fn plan(pool: &config::Pool, find: &impl Fn(&str) -> Option<SourceId>) -> PoolPlan {
    let members = pool.members.iter().filter_map(|member| {
        Some(Member {
            source: find(&member.source)?,
            name: Arc::clone(&member.source),
            weight: member.weight,
            off_hours: member.off_hours,
        })
    });
    PoolPlan {
        name: Arc::clone(&pool.name),
        members: members.collect(),
        hours: pool.hours.clone(),
        selection: pool.selection,
        rules: HealthRules::default(),
    }
}

pub(super) fn dispatch(
    config: &Config,
    fleet: &Arc<Fleet>,
    shard: ShardId,
    shards: u16,
) -> dispatch::Config {
    let delivery = &config.delivery;
    let first = delivery.retry.first().copied().unwrap_or(CONNECT_PAUSE);
    let pause = first.min(CONNECT_PAUSE);
    dispatch::Config {
        schedule: Schedule {
            delays: delivery.retry.clone(),
            jitter_percent: percent(delivery.jitter),
            max_age: delivery.max_age,
        },
        connect_backoff: Schedule::exponential(pause, CONNECT_PAUSE_MAX.max(pause), Duration::MAX),
        held_octets_max: share(config.spool.bodies_octets_max, shards),
        recipients_per_entry_max: RECIPIENTS_PER_ENTRY_MAX,
        unsynced_max: (delivery.unsynced_max as usize / usize::from(shards)).max(1),
        warn_after: delivery.warn_after,
        nodeid: config.node.nodeid.as_str().into(),
        noted: Noted::new(config.log.headers.iter().cloned()),
        shard,
        shards,
        fleet: Arc::clone(fleet),
    }
}

/// Content that sessions of one shard may hold: as much again as what waits for delivery.
pub(super) fn receiving_octets_max(config: &Config, shards: u16) -> usize {
    share(config.spool.bodies_octets_max, shards)
}

fn share(octets: u64, shards: u16) -> usize {
    usize::try_from(octets / u64::from(shards)).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a checked share is between 0 and 1"
)]
fn percent(share: f64) -> u32 {
    (share * 100.0).round() as u32
}

pub(super) fn spool(config: &Config, shards: u16) -> spool::Options {
    let wanted = &config.spool;
    spool::Options {
        durability: match wanted.durability {
            config::Durability::Commit => spool::Durability::Commit,
            config::Durability::Relaxed => spool::Durability::Relaxed,
        },
        free_octets_min: wanted.free_octets_min,
        memtable_octets_max: wanted.memtable_octets_max,
        flush_octets_per_s: wanted.flush_octets_per_s,
        ..spool::Options::new(&wanted.path, shards)
    }
}

/// `/etc/resolv.conf` is read when the configuration names no resolver.
pub(super) fn policy(config: &Config, listeners: &[SocketAddr]) -> Policy {
    let delivery = &config.delivery;
    Policy {
        hostnames: hostnames(config),
        listeners: expand(listeners),
        allow_private: delivery.allow_private_targets,
        families: families(config),
        port: delivery.port,
        routes: config.static_routes(),
    }
}

/// All names that are ours: an MX of such a name is this host.
fn hostnames(config: &Config) -> Vec<Domain> {
    let of_sources = config.sources.iter().filter_map(|s| s.ehlo.clone());
    let mut names = vec![
        config.node.hostname.clone(),
        config.delivery.ehlo_name.clone(),
    ];
    names.extend(of_sources);
    names
}

/// A family that no source can reach is not worth a question. What lies behind a SOCKS5 proxy is not
/// known here.
fn families(config: &Config) -> Families {
    let sources: Vec<Option<IpAddr>> = config.sources_enabled().map(Source::seen).collect();
    let any = |is_v4: bool| {
        let mut sources = sources.iter();
        sources.any(|source| source.is_none_or(|source| source.is_ipv4() == is_v4))
    };
    match (any(true), any(false)) {
        (true, false) => Families::V4,
        (false, true) => Families::V6,
        (true, true) | (false, false) => Families::default(),
    }
}

/// A listener on all addresses is one on each of this host.
fn expand(listeners: &[SocketAddr]) -> Vec<SocketAddr> {
    let own: Vec<IpAddr> = getifaddrs().map_or_else(
        |_| Vec::new(),
        |interfaces| {
            interfaces
                .filter_map(|interface| {
                    let address = interface.address?;
                    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
                })
                .collect()
        },
    );
    let mut expanded = Vec::new();
    for listener in listeners {
        if !listener.ip().is_unspecified() {
            expanded.push(*listener);
            continue;
        }
        let of_family = own.iter().filter(|ip| ip.is_ipv4() == listener.is_ipv4());
        expanded.extend(of_family.map(|ip| SocketAddr::new(*ip, listener.port())));
    }
    expanded
}

/// What every shard shares of the configuration.
pub(super) struct Shared {
    pub admission: Arc<Admission>,
    pub session: Arc<server::Config>,
    pub policy: Arc<Policy>,
    pub dns: dns::Options,
}

impl Shared {
    pub(super) fn new(config: &Config, listeners: &[SocketAddr]) -> Self {
        Self {
            admission: Arc::new(Admission {
                relay_networks: config.trust.clone(),
                hostname: config.node.hostname.clone(),
                postmaster: config.smtp.postmaster.clone(),
            }),
            session: Arc::new(session(config)),
            policy: Arc::new(policy(config, listeners)),
            dns: config.dns_options(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_one_on_loopback_too() {
        let expanded = expand(&["0.0.0.0:25".parse().unwrap(), "[::2]:26".parse().unwrap()]);
        assert!(expanded.contains(&"127.0.0.1:25".parse().unwrap()));
        assert!(expanded.contains(&"[::2]:26".parse().unwrap()));
    }
}
