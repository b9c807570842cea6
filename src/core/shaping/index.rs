//! All files laid over each other, indexed by what a path is found by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use smallvec::SmallVec;

use super::block::{Block, Match, Merged};
use super::fault::{Fault, Place};
use super::file::{Draft, File, QueueBlock};
use super::hours::DeliveryWindow;
use super::labels::LabelRules;
use super::overrides::{Overrides, TargetKind};
use super::params::Params;
use super::reader::Note;
use super::rule::{Rule, RuleOf};
use super::shipped;
use super::suffix::Suffixes;
use crate::words::SiteName;

/// The egress source of mail for which none is chosen.
pub const UNSPECIFIED_SOURCE: &str = "unspecified";
/// The block that stands for every source, tenant or campaign.
pub(super) const ANY: &str = "*";

/// What is known of where mail goes. Names are lower case, without a dot at the end.
#[derive(Clone, Copy, Debug)]
pub struct SiteFacts<'a> {
    pub domain: &'a str,
    /// Empty where there are none: a static route, an address literal.
    pub mx_hosts: &'a [&'a str],
    /// The name of the site, as routing writes it.
    pub site: &'a str,
}

/// What became of looking up the site of a domain that has a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Site(SiteName),
    NullMx,
    /// There is none; the text says why.
    Unknown(Box<str>),
    /// DNS gave no answer; the text says why.
    Unanswered(Box<str>),
}

/// Looked-up sites by domain.
pub type Sites = BTreeMap<Box<str>, Found>;

/// A domain whose block holds for its whole site, so that the site must be found.
#[derive(Clone, Copy, Debug)]
pub struct ToFind<'a> {
    pub domain: &'a str,
    /// Its MX hosts, when the block declares them: then DNS is not asked.
    pub mx_hosts: Option<&'a [Box<str>]>,
    pub place: &'a Place,
}

/// Blocks of a domain that hold for its site.
#[derive(Clone, Debug)]
pub(super) struct Rollup {
    pub(super) blocks: Vec<Block>,
    pub(super) own: Merged,
    /// Where the domain was found to be.
    pub(super) found: Option<Found>,
}

/// A provider: how it is recognised and what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    pub(super) merged: Merged,
}

/// What is said of a source, tenant or campaign.
#[derive(Clone, Debug)]
pub(super) struct Labelled {
    pub(super) params: Params,
    pub(super) delivery_window: Option<DeliveryWindow>,
    pub(super) weight: Option<u16>,
}

/// The labels that a block is about.
#[derive(Clone, Debug)]
pub(super) struct NamedLabels {
    pub(super) tenant: Option<Box<str>>,
    pub(super) campaign: Option<Box<str>>,
    pub(super) place: Place,
}

/// Labelled blocks by name.
pub(super) type ByName = BTreeMap<Box<str>, Labelled>;

/// Fields that a queue's block names; an absent one is any.
type QueueFields = (Option<Box<str>>, Option<Box<str>>, Option<Box<str>>);

/// The whole of shaping: what all files say. Holding one means that they were checked.
#[derive(Clone, Debug)]
pub struct Shaping {
    pub(super) builtin: Params,
    pub(super) default: Merged,
    /// In the order of their first blocks.
    pub(super) providers: Vec<Provider>,
    by_mx_suffix: Suffixes,
    by_domain_suffix: Suffixes,
    by_host: BTreeMap<Box<str>, Vec<u32>>,
    pub(super) rollups: BTreeMap<Box<str>, Rollup>,
    sites: BTreeMap<Box<str>, Merged>,
    domains: BTreeMap<Box<str>, Merged>,
    pub(super) sources: ByName,
    pub(super) tenants: ByName,
    pub(super) campaigns: ByName,
    pub(super) queues: BTreeMap<QueueFields, Params>,
    /// That some of `queues` name.
    queue_domains: BTreeSet<Box<str>>,
    labels: LabelRules,
    notes: Vec<Note>,
    shipped_notes: Vec<Note>,
    /// Each review date in the files.
    pub(super) reviews: Vec<(Date, Place)>,
    /// Each egress source that a block names.
    pub(super) source_names: Vec<(Box<str>, Place)>,
    /// Each block of a tenant, a campaign or a queue.
    pub(super) named_labels: Vec<NamedLabels>,
    /// Domains of a single label, which no mail has.
    pub(super) single_labels: Vec<(Box<str>, Place)>,
}

impl Shaping {
    /// Reads `files` in their order, each laid over those before it, all over the built-in default.
    /// All faults of all files are told; with one there is no shaping. A domain's block holds for
    /// the domain alone until [`Shaping::place_sites`] tells its site.
    pub fn read(files: &[File<'_>]) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut builtin = Draft::default();
        builtin.read(shipped::DEFAULT, &mut faults);
        let mut draft = Draft::default();
        for file in files {
            draft.read(*file, &mut faults);
        }
        if faults.is_empty() {
            Ok(Self::build(Merged::of(&builtin.defaults).params, draft))
        } else {
            Err(faults)
        }
    }

    fn build(builtin: Params, draft: Draft) -> Self {
        let reviews = reviews(&draft);
        let source_names = source_names(&draft);
        let named_labels = named_labels(&draft);
        let providers = providers(draft.providers);
        let domains = draft.domains.iter();
        let single_labels = domains
            .filter(|block| block.mx_rollup && !block.name.contains('.'))
            .map(|block| (block.name.clone(), block.place.clone()))
            .collect();
        let (rollups, exact): (Vec<Block>, Vec<Block>) =
            draft.domains.into_iter().partition(|block| block.mx_rollup);
        let tenants = by_name(&draft.tenants);
        let campaigns = by_name(&draft.campaigns);
        let labels = LabelRules::new(
            draft.labels,
            draft.label_defaults,
            tenants.keys().filter(|name| ***name != *ANY).cloned(),
            campaigns.keys().filter(|name| ***name != *ANY).cloned(),
        );
        let (notes, shipped_notes) = (draft.notes, draft.shipped_notes);
        let queues = queues(&draft.queues);
        let domains_of_queues = queues.keys().filter_map(|(_, _, domain)| domain.clone());
        Self {
            builtin,
            default: Merged::of(&draft.defaults),
            by_mx_suffix: Suffixes::new(matches_of(&providers, |entry| match entry {
                Match::MxSuffix(text) => Some(text),
                Match::DomainSuffix(_) | Match::HostName(_) => None,
            })),
            by_domain_suffix: Suffixes::new(matches_of(&providers, |entry| match entry {
                Match::DomainSuffix(text) => Some(text),
                Match::MxSuffix(_) | Match::HostName(_) => None,
            })),
            by_host: by_host(&providers),
            providers,
            rollups: rolled_up(rollups),
            sites: BTreeMap::new(),
            domains: merged_by_name(&exact),
            sources: by_name(&draft.sources),
            tenants,
            campaigns,
            queue_domains: domains_of_queues.collect(),
            queues,
            labels,
            notes,
            shipped_notes,
            reviews,
            source_names,
            named_labels,
            single_labels,
        }
    }

    /// Keys of the operator's files that are without effect, with the reason.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The same of files that come with the program.
    pub fn shipped_notes(&self) -> &[Note] {
        &self.shipped_notes
    }

    pub fn labels(&self) -> &LabelRules {
        &self.labels
    }

    /// Tells which pools there are, the default one among them. A header that names another gives the
    /// default pool.
    ///
    /// # Errors
    /// A fault for each rule that names another.
    pub fn know_pools(&mut self, pools: &BTreeSet<Box<str>>) -> Result<(), Vec<Fault>> {
        let faults = self.labels.know_pools(pools);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// Domains whose sites are to be looked up, or named from their declared hosts.
    pub fn domains_to_find(&self) -> impl Iterator<Item = ToFind<'_>> {
        self.rollups.iter().map(|(domain, rollup)| {
            let declared = rollup.blocks.iter().rev();
            ToFind {
                domain,
                mx_hosts: declared.filter_map(|b| b.mx_hosts.as_deref()).next(),
                place: &rollup.blocks[0].place,
            }
        })
    }

    /// Tells where the domains of [`Shaping::domains_to_find`] are; their blocks hold for those
    /// sites from then on. To be told again when DNS says otherwise.
    pub fn place_sites(&mut self, found: &Sites) {
        let mut by_site: BTreeMap<Box<str>, Vec<&Block>> = BTreeMap::new();
        for (domain, rollup) in &mut self.rollups {
            rollup.found = found.get(domain).cloned();
            if let Some(Found::Site(site)) = &rollup.found {
                let blocks = by_site.entry(site.as_str().into()).or_default();
                blocks.extend(&rollup.blocks);
            }
        }
        let merged = by_site.into_iter().map(|(site, mut blocks)| {
            blocks.sort_by_key(|block| block.order);
            (site, Merged::of(blocks))
        });
        self.sites = merged.collect();
    }

    /// Providers that `facts` belong to, in the order of their first blocks.
    pub(super) fn providers_of(&self, facts: &SiteFacts<'_>) -> SmallVec<[u32; 4]> {
        let mut by_domain: SmallVec<[u32; 4]> = SmallVec::new();
        self.by_domain_suffix
            .find(facts.domain, |provider| by_domain.push(provider));
        let mut by_hosts: Option<SmallVec<[u32; 4]>> = None;
        for host in facts.mx_hosts {
            let mut here: SmallVec<[u32; 4]> = SmallVec::new();
            self.by_mx_suffix.find(host, |provider| here.push(provider));
            if !self.by_host.is_empty() {
                here.extend(self.by_host.get(*host).into_iter().flatten().copied());
            }
            match &mut by_hosts {
                None => by_hosts = Some(here),
                Some(all) => all.retain(|provider| here.contains(provider)),
            }
            if by_hosts.as_ref().is_some_and(SmallVec::is_empty) {
                break;
            }
        }
        by_domain.extend(by_hosts.unwrap_or_default());
        by_domain.sort_unstable();
        by_domain.dedup();
        by_domain
    }

    /// Blocks of the site and, where the domain has one that went elsewhere, its own.
    pub(super) fn of_site(&self, facts: &SiteFacts<'_>) -> impl Iterator<Item = &Merged> {
        let site = self.sites.get(facts.site);
        let own = self.rollups.get(facts.domain).filter(|rollup| {
            let placed = matches!(&rollup.found, Some(Found::Site(s)) if s.as_str() == facts.site);
            !placed
        });
        site.into_iter().chain(own.map(|rollup| &rollup.own))
    }

    /// Whether something is said of the domain that does not hold for its whole site, so that its
    /// mail needs a lane of its own.
    pub fn is_apart(&self, overrides: &Overrides, facts: &SiteFacts<'_>) -> bool {
        let mut has_suffix = false;
        self.by_domain_suffix
            .find(facts.domain, |_| has_suffix = true);
        let is_placed = |rollup: &Rollup| matches!(&rollup.found, Some(Found::Site(s)) if s.as_str() == facts.site);
        has_suffix
            || !self.queue_domains.is_empty() && self.queue_domains.contains(facts.domain)
            || self.domains.contains_key(facts.domain)
            || self
                .rollups
                .get(facts.domain)
                .is_some_and(|rollup| !is_placed(rollup))
            || !overrides.of(TargetKind::Domain, facts.domain).is_empty()
            || overrides.has_queue_of(facts.domain)
    }

    pub(super) fn of_domain(&self, facts: &SiteFacts<'_>) -> Option<&Merged> {
        self.domains.get(facts.domain)
    }

    /// The automation rules for replies from there, and whose each is: of the default, the providers,
    /// the site, the domain. All that match fire.
    pub fn rules(&self, facts: &SiteFacts<'_>) -> Vec<(&Arc<Rule>, RuleOf)> {
        let providers = self.providers_of(facts).into_iter();
        let providers = providers.map(|index| &self.providers[index as usize].merged);
        let all = core::iter::once(&self.default).map(|merged| (merged, RuleOf::AnySite));
        all.chain(providers.map(|merged| (merged, RuleOf::Provider)))
            .chain(self.of_site(facts).map(|merged| (merged, RuleOf::Site)))
            .chain(self.of_domain(facts).map(|merged| (merged, RuleOf::Domain)))
            .flat_map(|(merged, of)| merged.rules.iter().map(move |rule| (rule, of)))
            .collect()
    }
}

pub(super) fn labelled<'a>(map: &'a ByName, name: &str) -> Option<&'a Labelled> {
    map.get(name).or_else(|| map.get(ANY))
}

fn grouped<'b>(blocks: &'b [Block]) -> BTreeMap<&'b str, Vec<&'b Block>> {
    let mut groups: BTreeMap<&'b str, Vec<&'b Block>> = BTreeMap::new();
    for block in blocks {
        groups.entry(&block.name).or_default().push(block);
    }
    groups
}

fn merged_by_name(blocks: &[Block]) -> BTreeMap<Box<str>, Merged> {
    let groups = grouped(blocks).into_iter();
    groups
        .map(|(name, blocks)| (name.into(), Merged::of(blocks)))
        .collect()
}

/// Each name's block lies over the one of all names.
fn by_name(blocks: &[Block]) -> ByName {
    let merged = merged_by_name(blocks);
    let any = merged.get(ANY).cloned().unwrap_or_default();
    let merged = merged.into_iter().map(|(name, merged)| {
        let mut params = any.params.clone();
        params.merge(&merged.params);
        let delivery_window = merged
            .delivery_window
            .or_else(|| any.delivery_window.clone());
        let labelled = Labelled {
            params,
            delivery_window,
            weight: merged.weight.or(any.weight),
        };
        (name, labelled)
    });
    merged.collect()
}

fn rolled_up(blocks: Vec<Block>) -> BTreeMap<Box<str>, Rollup> {
    let mut by_domain: BTreeMap<Box<str>, Vec<Block>> = BTreeMap::new();
    for block in blocks {
        by_domain.entry(block.name.clone()).or_default().push(block);
    }
    let rollups = by_domain.into_iter().map(|(domain, blocks)| {
        let rollup = Rollup {
            own: Merged::of(&blocks),
            blocks,
            found: None,
        };
        (domain, rollup)
    });
    rollups.collect()
}

fn providers(blocks: Vec<Block>) -> Vec<Provider> {
    let mut index: BTreeMap<Box<str>, usize> = BTreeMap::new();
    let mut providers: Vec<Provider> = Vec::new();
    for block in blocks {
        let at = *index.entry(block.name.clone()).or_insert_with(|| {
            providers.push(Provider {
                name: block.name.clone(),
                place: block.place.clone(),
                merged: Merged::default(),
            });
            providers.len() - 1
        });
        providers[at].merged.lay(&block);
    }
    providers
}

fn numbered(providers: &[Provider]) -> impl Iterator<Item = (&Provider, u32)> {
    providers.iter().zip(0..)
}

fn matches_of<'p>(
    providers: &'p [Provider],
    text: impl Fn(&'p Match) -> Option<&'p Box<str>> + Copy,
) -> impl Iterator<Item = (&'p str, u32)> {
    numbered(providers).flat_map(move |(provider, index)| {
        let matches = provider.merged.matches.iter();
        matches.filter_map(move |entry| Some((&**text(entry)?, index)))
    })
}

fn by_host(providers: &[Provider]) -> BTreeMap<Box<str>, Vec<u32>> {
    let mut hosts: BTreeMap<Box<str>, Vec<u32>> = BTreeMap::new();
    for (provider, index) in numbered(providers) {
        for entry in &provider.merged.matches {
            if let Match::HostName(host) = entry {
                hosts.entry(host.clone()).or_default().push(index);
            }
        }
    }
    hosts
}

fn queues(blocks: &[QueueBlock]) -> BTreeMap<QueueFields, Params> {
    let mut queues: BTreeMap<QueueFields, Params> = BTreeMap::new();
    for queue in blocks {
        let fields = (
            queue.tenant.clone(),
            queue.campaign.clone(),
            queue.domain.clone(),
        );
        queues.entry(fields).or_default().merge(&queue.block.params);
    }
    queues
}

fn all_blocks(draft: &Draft) -> impl Iterator<Item = &Block> {
    let named = [
        &draft.defaults,
        &draft.domains,
        &draft.providers,
        &draft.sources,
        &draft.tenants,
        &draft.campaigns,
    ];
    let queues = draft.queues.iter().map(|queue| &queue.block);
    named.into_iter().flatten().chain(queues)
}

fn reviews(draft: &Draft) -> Vec<(Date, Place)> {
    let of_rule = |rule: &Arc<Rule>| Some((rule.reviewed?, rule.place.clone()));
    all_blocks(draft)
        .flat_map(|block| {
            let own = block.reviewed.map(|date| (date, block.place.clone()));
            own.into_iter()
                .chain(block.rules.iter().filter_map(of_rule))
        })
        .collect()
}

fn source_names(draft: &Draft) -> Vec<(Box<str>, Place)> {
    let inner = all_blocks(draft).flat_map(|block| {
        let names = block.sources.iter();
        names.map(|(name, _)| (name.clone(), block.place.clone()))
    });
    let own = draft.sources.iter().filter(|block| *block.name != *ANY);
    let own = own.map(|block| (block.name.clone(), block.place.clone()));
    let names: BTreeSet<(Box<str>, Place)> = inner.chain(own).collect();
    names.into_iter().collect()
}

fn named_labels(draft: &Draft) -> Vec<NamedLabels> {
    let named = |block: &Block| Some(block.name.clone()).filter(|name| **name != *ANY);
    let tenants = draft.tenants.iter().map(|block| NamedLabels {
        tenant: named(block),
        campaign: None,
        place: block.place.clone(),
    });
    let campaigns = draft.campaigns.iter().map(|block| NamedLabels {
        tenant: None,
        campaign: named(block),
        place: block.place.clone(),
    });
    let queues = draft.queues.iter().map(|queue| NamedLabels {
        tenant: queue.tenant.clone(),
        campaign: queue.campaign.clone(),
        place: queue.block.place.clone(),
    });
    tenants.chain(campaigns).chain(queues).collect()
}
