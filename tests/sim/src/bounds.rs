//! What holds in the hour of traffic, several limits at once at several scopes, and judges who count
//! what goes by what the limits say and nothing of ours.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::{File, Layer, Shaping};
use posthaste_core::words::Moment;

use crate::rules::Meter;

pub(crate) const SHARDS: u16 = 4;
pub(crate) const SITES: usize = 50;
pub(crate) const SOURCES: u32 = 20;

/// Messages a minute, and at once, of a source towards a site.
const LANE_RATE: (u64, u64) = (60, 2);
/// Of a source towards everybody.
pub(crate) const SOURCE_RATE: (u64, u64) = (100, 2);
/// Of all sources towards the strict site, which is asked for more than that and has sources enough.
pub(crate) const STRICT: usize = 3;
pub(crate) const STRICT_RATE: (u64, u64) = (15, 1);
/// Of each source towards the provider of these sites, in all.
const PROVIDER_SITES: core::ops::Range<usize> = 10..15;
const PROVIDER_RATE: (u64, u64) = (20, 1);
/// New connections a minute of a source to a site.
const CONNECTION_RATE: (u64, u64) = (30, 4);
/// Connections at once, of a source to a site, to the provider, and to everybody.
const CONNECTIONS: usize = 4;
const PROVIDER_CONNECTIONS: usize = 3;
const SOURCE_CONNECTIONS: usize = 40;
const PER_CONNECTION: u32 = 20;

/// By weight; each brings as much as any other.
pub(crate) const TENANTS: [(&str, u64); 3] = [("two", 2), ("three", 3), ("four", 4)];
/// It brings more than it may send.
pub(crate) const RATED: &str = "rated";
pub(crate) const TENANT_RATE: (u64, u64) = (90, 2);
/// Its transactions at once.
pub(crate) const SINGLE: &str = "single";
const SINGLE_AT_ONCE: usize = 3;
/// Of each of its campaigns.
pub(crate) const CAMPAIGNS: [&str; 2] = ["spring", "autumn"];
const CAMPAIGN_RATE: (u64, u64) = (60, 2);

fn rate((count, burst): (u64, u64)) -> String {
    format!("\"{count}/min,max_burst={burst}\"")
}

pub(crate) fn shapes() -> Arc<Shapes> {
    let mut text = format!(
        "[\"default\"]\nconnection_limit = {CONNECTIONS}\nmax_message_rate = {}\n\
         max_connection_rate = {}\nmax_deliveries_per_connection = {PER_CONNECTION}\n\
         [\"d{STRICT}.example\"]\nmx_hosts = [\"mx.site{STRICT}.example\"]\nsite_max_message_rate = {}\n\
         [provider.p]\nprovider_max_message_rate = {}\nprovider_connection_limit = {PROVIDER_CONNECTIONS}\n\
         match = [{}]\n[tenant.{RATED}]\nmax_message_rate = {}\n\
         [tenant.{SINGLE}]\nconnection_limit = {SINGLE_AT_ONCE}\n",
        rate(LANE_RATE),
        rate(CONNECTION_RATE),
        rate(STRICT_RATE),
        rate(PROVIDER_RATE),
        PROVIDER_SITES
            .map(|site| format!("{{ HostName = \"mx.site{site}.example\" }}"))
            .collect::<Vec<_>>()
            .join(", "),
        rate(TENANT_RATE),
    );
    for (tenant, weight) in TENANTS {
        text += &format!("[tenant.{tenant}]\nweight = {weight}\n");
    }
    for campaign in CAMPAIGNS {
        let rate = rate(CAMPAIGN_RATE);
        text += &format!("[campaign.{campaign}]\nmax_message_rate = {rate}\n");
    }
    for n in 0..SOURCES {
        let rate = rate(SOURCE_RATE);
        text += &format!(
            "[source.\"s{n}\"]\nmax_message_rate = {rate}\nconnection_limit = {SOURCE_CONNECTIONS}\n"
        );
    }
    let file = File {
        name: "hour.toml",
        text: &text,
        layer: Layer::Operator,
    };
    let mut shaping = Shaping::read(&[file]).expect("well formed");
    let site = posthaste_core::words::SiteName::new(&format!("site{STRICT}"));
    let found = posthaste_core::shaping::Found::Site(site);
    let sites = [(format!("d{STRICT}.example").into(), found)];
    shaping.place_sites(&sites.into_iter().collect());
    Arc::new(Shapes {
        shaping: Arc::new(shaping),
        ..Shapes::default()
    })
}

/// The names of all message rates from a source to a site.
pub(crate) fn rates_of(site: &str, source: u32) -> Vec<String> {
    let mut names = vec![
        format!("message rate of lane s{source}->{site}"),
        format!("message rate of source s{source}"),
    ];
    if site == format!("site{STRICT}") {
        names.push(format!("message rate of site {site}"));
    }
    if PROVIDER_SITES
        .map(|site| format!("site{site}"))
        .any(|of| of == site)
    {
        names.push(format!("message rate of provider and source s{source}->p"));
    }
    names
}

/// Whose a message is, as the judges need it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Whose {
    pub(crate) tenant: Box<str>,
    pub(crate) campaign: Option<Box<str>>,
}

/// One connection, as a peer and a source see it.
pub(crate) struct Link {
    pub(crate) site: usize,
    pub(crate) source: u32,
    /// Whose the transaction is that is under way.
    pub(crate) busy: Option<Whose>,
    pub(crate) carried: u32,
}

/// A permit that waited for a connection, or went from hand to hand, may be used when the next is due: one
/// message beyond what goes at once, for each counter, however many lanes and shards share it.
const LATE: u64 = 1;

/// Counters of one name each.
#[derive(Default)]
pub(crate) struct Judges {
    messages: BTreeMap<String, Meter>,
    connections: BTreeMap<(usize, u32), Meter>,
    /// Of each name in all, and the rate.
    totals: BTreeMap<String, u64>,
}

impl Judges {
    fn count(&mut self, name: String, rate: (u64, u64), now: Moment) {
        *self.totals.entry(name.clone()).or_default() += 1;
        let meter = self.messages.entry(name).or_default();
        meter.count(rate, LATE, now);
    }

    /// A connection is asked for; `links` has it.
    pub(crate) fn connect<'l>(
        &mut self,
        (site, source): (usize, u32),
        links: impl Iterator<Item = &'l Link> + Clone,
        now: Moment,
    ) {
        let meter = self.connections.entry((site, source)).or_default();
        meter.count(CONNECTION_RATE, LATE, now);
        let of_source = links.filter(|link| link.source == source);
        let of_lane = of_source.clone().filter(|link| link.site == site).count();
        assert!(of_lane <= CONNECTIONS, "{of_lane} from s{source} to {site}");
        let of_provider = of_source.clone();
        let of_provider = of_provider.filter(|link| PROVIDER_SITES.contains(&link.site));
        let of_provider = of_provider.count();
        assert!(of_provider <= PROVIDER_CONNECTIONS, "{of_provider} at p");
        let all = of_source.count();
        assert!(all <= SOURCE_CONNECTIONS, "{all} from s{source}");
    }

    /// A transaction begins on `link`, which knows of it.
    pub(crate) fn send(&mut self, link: &Link, single_at_once: usize, now: Moment) {
        let (site, source) = (link.site, link.source);
        assert!(link.carried <= PER_CONNECTION, "on one connection");
        self.count(format!("lane {site} {source}"), LANE_RATE, now);
        self.count(format!("source {source}"), SOURCE_RATE, now);
        if site == STRICT {
            self.count("strict".into(), STRICT_RATE, now);
        }
        if PROVIDER_SITES.contains(&site) {
            self.count(format!("provider {source}"), PROVIDER_RATE, now);
        }
        let whose = link.busy.as_ref().expect("a transaction is somebody's");
        if &*whose.tenant == RATED {
            self.count(RATED.into(), TENANT_RATE, now);
        }
        if &*whose.tenant == SINGLE {
            assert!(single_at_once <= SINGLE_AT_ONCE, "{single_at_once} at once");
        }
        if let Some(campaign) = &whose.campaign {
            self.count(format!("of {campaign}"), CAMPAIGN_RATE, now);
        }
    }

    /// What went of this name.
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.totals.get(name).copied().unwrap_or(0)
    }

    /// Over the whole time nobody has had more than its rate and what goes at once.
    pub(crate) fn check_totals(&self, time: Duration) {
        let minutes = time.as_secs() / 60;
        let names: BTreeSet<&String> = self.totals.keys().collect();
        for name in names {
            let kind = name.split(' ').next().unwrap_or_default();
            let (rate, burst) = match kind {
                "lane" => LANE_RATE,
                "source" => SOURCE_RATE,
                "strict" => STRICT_RATE,
                "provider" => PROVIDER_RATE,
                RATED => TENANT_RATE,
                _ => CAMPAIGN_RATE,
            };
            let (went, most) = (self.totals[name], rate * minutes + burst + LATE);
            assert!(went <= most, "{name}: {went} of {most}");
        }
    }
}
