//! What is allowed, and yet hardly meant.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::block::Match;
use super::fault::Place;
use super::index::{Found, Shaping};
use super::labels::Given;
use crate::words::Moment;

/// A review older than this is told.
const REVIEW_DAYS_MAX: i32 = 365;

/// What the configuration has, for names to be checked against. `None` is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    pub sources: Option<&'a BTreeSet<Box<str>>>,
    /// Their addresses.
    pub listeners: Option<&'a BTreeSet<Box<str>>>,
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lint {
    /// Blocks of several domains hold for one site: they are laid over each other.
    OneSite {
        site: String,
        domains: Vec<(String, Place)>,
    },
    /// Several providers are recognised by the same entry: all of them hold.
    OneMatch {
        entry: String,
        providers: Vec<(String, Place)>,
    },
    /// The site of a domain's block is not known: it holds for the domain alone.
    NotFound {
        domain: String,
        place: Place,
        why: String,
    },
    /// A domain that takes no mail has a block for its site.
    NullMx {
        domain: String,
        place: Place,
    },
    /// A provider without `match`: nothing of it is ever reached.
    NoMatch {
        provider: String,
        place: Place,
    },
    /// A label rule behind one that takes all its messages.
    Unreachable {
        place: Place,
        behind: Place,
    },
    OldReview {
        place: Place,
        reviewed: Date,
        days: i32,
    },
    /// A domain of one label: most likely its dots were not quoted.
    SingleLabel {
        domain: String,
        place: Place,
    },
    UnknownSource {
        name: String,
        place: Place,
    },
    /// A label rule names a listener that there is not.
    UnknownListener {
        name: String,
        place: Place,
    },
    /// A block of a tenant, campaign or queue that no mail can have.
    NotGiven {
        /// `tenant` or `campaign`.
        kind: &'static str,
        name: String,
        place: Place,
    },
}

impl Lint {
    /// The place the warning is told at.
    pub fn place(&self) -> &Place {
        match self {
            Self::OneSite { domains, .. } => &domains[1].1,
            Self::OneMatch { providers, .. } => &providers[1].1,
            Self::NotFound { place, .. }
            | Self::NullMx { place, .. }
            | Self::NoMatch { place, .. }
            | Self::Unreachable { place, .. }
            | Self::OldReview { place, .. }
            | Self::SingleLabel { place, .. }
            | Self::UnknownSource { place, .. }
            | Self::UnknownListener { place, .. }
            | Self::NotGiven { place, .. } => place,
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place())?;
        match self {
            Self::OneSite { site, domains } => {
                write!(f, "several blocks for the site {site}: {}", list(domains))
            }
            Self::OneMatch { entry, providers } => {
                write!(f, "several providers match {entry}: {}", list(providers))
            }
            Self::NotFound { domain, why, .. } => write!(
                f,
                "the site of {domain} is not known ({why}): its block holds for the domain alone"
            ),
            Self::NullMx { domain, .. } => write!(
                f,
                "{domain} takes no mail (null MX); with mx_rollup = false its block holds for it"
            ),
            Self::NoMatch { provider, .. } => write!(
                f,
                "provider {provider} has no match in any file: nothing of it is reached"
            ),
            Self::Unreachable { behind, .. } => {
                write!(f, "is never reached: {behind} takes all its messages")
            }
            Self::OldReview { reviewed, days, .. } => {
                write!(f, "was reviewed on {reviewed}, {days} days ago")
            }
            Self::SingleLabel { domain, .. } => {
                write!(
                    f,
                    "{domain} is no mail domain: quote names with dots, [\"{domain}.com\"]"
                )
            }
            Self::UnknownSource { name, .. } => write!(f, "there is no source {name}"),
            Self::UnknownListener { name, .. } => write!(f, "there is no listener {name}"),
            Self::NotGiven { kind, name, .. } => write!(
                f,
                "is never reached: no label rule and no header gives {kind} {name}"
            ),
        }
    }
}

fn list(named: &[(String, Place)]) -> String {
    let each = named
        .iter()
        .map(|(name, place)| format!("{name} ({place})"));
    each.collect::<Vec<_>>().join(", ")
}

impl Shaping {
    /// All warnings, by place. Sites are judged as [`Shaping::place_sites`] was told them.
    pub fn lints(&self, known: Known<'_>, today: Moment) -> Vec<Lint> {
        let mut lints = self.site_lints();
        lints.extend(self.provider_lints());
        lints.extend(self.review_lints(today));
        let unreachable = self.labels().unreachable();
        lints.extend(unreachable.map(|(place, behind)| Lint::Unreachable {
            place: place.clone(),
            behind: behind.clone(),
        }));
        let singles = self.single_labels.iter();
        lints.extend(singles.map(|(name, place)| Lint::SingleLabel {
            domain: name.to_string(),
            place: place.clone(),
        }));
        if let Some(known) = known.sources {
            let names = self.source_names.iter();
            let unknown = names.filter(|(name, _)| !known.contains(name));
            lints.extend(unknown.map(|(name, place)| Lint::UnknownSource {
                name: name.to_string(),
                place: place.clone(),
            }));
        }
        if let Some(known) = known.listeners {
            let names = self.labels().listeners();
            let unknown = names.filter(|(name, _)| !known.contains(*name));
            lints.extend(unknown.map(|(name, place)| Lint::UnknownListener {
                name: name.to_owned(),
                place: place.clone(),
            }));
        }
        lints.extend(self.label_lints());
        lints.sort_by(|a, b| a.place().cmp(b.place()));
        lints
    }

    fn label_lints(&self) -> impl Iterator<Item = Lint> {
        let [tenants, campaigns, _] = self.labels().given();
        self.named_labels.iter().filter_map(move |block| {
            let missing = |kind, name: Option<&Box<str>>, given: &Given<'_>| {
                let name = name.filter(|name| !given.has(name))?;
                Some((kind, name.to_string()))
            };
            let tenant = missing("tenant", block.tenant.as_ref(), &tenants);
            let campaign = || missing("campaign", block.campaign.as_ref(), &campaigns);
            let (kind, name) = tenant.or_else(campaign)?;
            let place = block.place.clone();
            Some(Lint::NotGiven { kind, name, place })
        })
    }

    fn site_lints(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let mut by_site: BTreeMap<&str, Vec<(String, Place)>> = BTreeMap::new();
        for (name, rollup) in &self.rollups {
            let (domain, place) = (name.to_string(), rollup.blocks[0].place.clone());
            match &rollup.found {
                Some(Found::Site(site)) => {
                    by_site
                        .entry(site.as_str())
                        .or_default()
                        .push((domain, place));
                }
                Some(Found::NullMx) => lints.push(Lint::NullMx { domain, place }),
                Some(Found::Unknown(why) | Found::Unanswered(why)) => {
                    let why = why.to_string();
                    lints.push(Lint::NotFound { domain, place, why });
                }
                None => {}
            }
        }
        let shared = by_site.into_iter().filter(|(_, domains)| domains.len() > 1);
        lints.extend(shared.map(|(site, domains)| Lint::OneSite {
            site: site.to_owned(),
            domains,
        }));
        lints
    }

    fn provider_lints(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let mut by_entry: BTreeMap<String, Vec<(String, Place)>> = BTreeMap::new();
        for provider in &self.providers {
            let named = || (provider.name.to_string(), provider.place.clone());
            if provider.merged.matches.is_empty() {
                let (provider, place) = named();
                lints.push(Lint::NoMatch { provider, place });
            }
            let entries: BTreeSet<String> = provider.merged.matches.iter().map(entry).collect();
            for entry in entries {
                by_entry.entry(entry).or_default().push(named());
            }
        }
        let shared = by_entry.into_iter().filter(|(_, names)| names.len() > 1);
        lints.extend(shared.map(|(entry, providers)| Lint::OneMatch { entry, providers }));
        lints
    }

    fn review_lints(&self, today: Moment) -> Vec<Lint> {
        let micros = i64::try_from(today.as_micros()).ok();
        let now = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let Some(today) = now.map(|now| TimeZone::UTC.to_datetime(now).date()) else {
            return Vec::new();
        };
        let reviews = self.reviews.iter();
        reviews
            .filter_map(|(reviewed, place)| {
                let days = reviewed.until(today).ok()?.get_days();
                (days > REVIEW_DAYS_MAX).then(|| Lint::OldReview {
                    place: place.clone(),
                    reviewed: *reviewed,
                    days,
                })
            })
            .collect()
    }
}

fn entry(entry: &Match) -> String {
    match entry {
        Match::MxSuffix(text) => format!("MXSuffix {text}"),
        Match::DomainSuffix(text) => format!("DomainSuffix {text}"),
        Match::HostName(text) => format!("HostName {text}"),
    }
}
