//! One block of a file, and blocks laid over each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::fault::{Place, Wrong};
use super::hours::DeliveryWindow;
use super::keys::{BASE, KEYS, Kind, LABELS, MAIL, PROVIDER, PROVIDER_SOURCES, SOURCES};
use super::params::Params;
use super::read::{Entry, Node, Tree};
use super::reader::{Reader, form, join};
use super::rule::Rule;
use super::value::Value;

/// The most messages a tenant may send in its turn.
pub(super) const WEIGHT_MAX: u16 = 1000;

/// What a block is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Default,
    Domain,
    Provider,
    /// A source, by itself.
    Source,
    Tenant,
    Campaign,
    Queue,
}

/// How a provider is recognised. Texts are lower case, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Every MX host ends so, or is matched by another entry.
    MxSuffix(Box<str>),
    /// The domain ends so: this alone is enough.
    DomainSuffix(Box<str>),
    /// Every MX host is this one, or is matched by another entry.
    HostName(Box<str>),
}

/// A block as one file has it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) name: Box<str>,
    pub(super) place: Place,
    /// Its turn among all blocks of all files.
    pub(super) order: usize,
    pub(super) params: Params,
    pub(super) sources: Vec<(Box<str>, Params)>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) matches: Vec<Match>,
    pub(super) mx_rollup: bool,
    pub(super) replace_base: bool,
    /// The domain's MX hosts, declared instead of looked up.
    pub(super) mx_hosts: Option<Vec<Box<str>>>,
    pub(super) delivery_window: Option<DeliveryWindow>,
    /// Of a tenant, among those of a lane.
    pub(super) weight: Option<u16>,
    pub(super) reviewed: Option<Date>,
}

impl BlockKind {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[
                "replace_base",
                "automation",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
            ],
            Self::Domain => &[
                "replace_base",
                "automation",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
                "sources",
                "mx_rollup",
                "mx_hosts",
            ],
            Self::Provider => &[
                "replace_base",
                "automation",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
                "sources",
                "match",
            ],
            Self::Tenant => &[
                "replace_base",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
                "delivery_window",
                "weight",
            ],
            Self::Campaign => &[
                "replace_base",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
                "delivery_window",
            ],
            Self::Source => &[
                "replace_base",
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
            ],
            Self::Queue => &[
                "business_hours",
                "off_hours",
                "evidence",
                "reviewed",
                "tenant",
                "campaign",
                "domain",
            ],
        }
    }

    fn places(self) -> u8 {
        match self {
            Self::Default | Self::Domain => BASE,
            Self::Provider => BASE | PROVIDER,
            Self::Source => LABELS,
            Self::Tenant | Self::Campaign | Self::Queue => MAIL,
        }
    }

    fn source_places(self) -> u8 {
        if self == Self::Provider {
            SOURCES | PROVIDER_SOURCES
        } else {
            SOURCES
        }
    }
}

/// The block that a word of the vocabulary belongs to, when it stands elsewhere.
fn home_of(word: &str) -> Option<&'static str> {
    match word {
        "mx_rollup" | "mx_hosts" => Some("a domain's block"),
        "match" => Some("a provider's block"),
        "sources" => Some("a domain's or a provider's block; for all sites use [source.\"name\"]"),
        "automation" => Some("the block of the default, a domain or a provider"),
        "delivery_window" => Some("a tenant's or a campaign's block"),
        "weight" => Some("a tenant's block"),
        "replace_base" => Some("a block with a name"),
        _ => None,
    }
}

impl Reader<'_, '_> {
    pub(super) fn block(
        &mut self,
        kind: BlockKind,
        path: &str,
        name: &str,
        entry: (usize, &Node<'_>),
        order: usize,
    ) -> Option<Block> {
        let (offset, node) = entry;
        let entries = self.table(path, node)?;
        let mut block = Block {
            name: name.into(),
            place: self.place(offset),
            order,
            params: Params::default(),
            sources: Vec::new(),
            rules: Vec::new(),
            matches: Vec::new(),
            mx_rollup: true,
            replace_base: false,
            mx_hosts: None,
            delivery_window: None,
            weight: None,
            reviewed: None,
        };
        let (mut business, mut off) = (Vec::new(), Vec::new());
        for entry in entries {
            let at = join(path, &entry.key);
            let node = &entry.node;
            if !kind.words().contains(&&*entry.key) {
                self.path_key(kind, path, entry, &mut block.params);
                continue;
            }
            match &*entry.key {
                "business_hours" => business = self.overlays(&at, false, node, kind.places()),
                "off_hours" => off = self.overlays(&at, true, node, kind.places()),
                _ => self.block_key(kind, &at, entry, &mut block),
            }
        }
        self.lay(path, (business, off), &mut block.params);
        Some(block)
    }

    fn block_key(&mut self, kind: BlockKind, path: &str, entry: &Entry<'_>, block: &mut Block) {
        let node = &entry.node;
        match &*entry.key {
            "mx_rollup" => block.mx_rollup = self.flag(path, node).unwrap_or(true),
            "replace_base" => block.replace_base = self.flag(path, node).unwrap_or_default(),
            "mx_hosts" => {
                let hosts = self.texts(path, node).into_iter();
                let hosts: Vec<Box<str>> = hosts.map(|host| normal(&host)).collect();
                if hosts.is_empty() {
                    self.fault(node.offset, path, form("a list of host names", node));
                }
                block.mx_hosts = Some(hosts);
            }
            "automation" => {
                let rules = self.rules(path, node).into_iter();
                block.rules = rules.map(Arc::new).collect();
            }
            "match" => block.matches = self.matches(path, node),
            "sources" => {
                let Some(entries) = self.table(path, node) else {
                    return;
                };
                for source in entries {
                    let params = self.source(kind, &join(path, &source.key), &source.node);
                    block.sources.push((source.key.as_ref().into(), params));
                }
            }
            "delivery_window" => {
                let hours = self.hours(path, node);
                let place = self.place(node.offset);
                block.delivery_window = hours.map(|hours| DeliveryWindow { hours, place });
            }
            "weight" => block.weight = self.weight(path, node),
            // For people alone; a form that is no text is still a fault.
            "evidence" => drop(self.text(path, node)),
            "reviewed" => block.reviewed = self.date(path, node),
            // The fields of a queue are read before its block.
            _ => {}
        }
    }

    fn source(&mut self, kind: BlockKind, path: &str, node: &Node<'_>) -> Params {
        const WORDS: &[&str] = &["business_hours", "off_hours"];
        let mut params = Params::default();
        let (mut business, mut off) = (Vec::new(), Vec::new());
        let places = kind.source_places();
        for entry in self.table(path, node).unwrap_or_default() {
            let at = join(path, &entry.key);
            match &*entry.key {
                "business_hours" => business = self.overlays(&at, false, &entry.node, places),
                "off_hours" => off = self.overlays(&at, true, &entry.node, places),
                _ => self.setting(path, entry, (places, WORDS), &mut params),
            }
        }
        self.lay(path, (business, off), &mut params);
        params
    }

    /// A key that is none of the block's words: of the path, of another block, or of none.
    fn path_key(&mut self, kind: BlockKind, path: &str, entry: &Entry<'_>, params: &mut Params) {
        let known = KEYS.iter().any(|row| row.name == entry.key);
        if let (false, Some(home)) = (known, home_of(&entry.key)) {
            let wrong = Wrong::Misplaced(home);
            return self.fault(entry.offset, join(path, &entry.key), wrong);
        }
        if let (false, BlockKind::Domain, Tree::Table(_)) = (known, kind, &entry.node.tree) {
            let name = format!("{path}.{}", entry.key);
            let wrong = Wrong::Unquoted(name.clone());
            return self.fault(entry.offset, name, wrong);
        }
        self.setting(path, entry, (kind.places(), kind.words()), params);
    }

    fn weight(&mut self, path: &str, node: &Node<'_>) -> Option<u16> {
        let bounds = Kind::Count {
            min: 1,
            max: u32::from(WEIGHT_MAX),
        };
        match bounds.check(node) {
            Ok(Value::Count(count)) => u16::try_from(count).ok(),
            Ok(_) => None,
            Err(wrong) => {
                self.fault(node.offset, path, wrong);
                None
            }
        }
    }

    fn matches(&mut self, path: &str, node: &Node<'_>) -> Vec<Match> {
        const FORM: &str = "a list of { MXSuffix = … }, { DomainSuffix = … } or { HostName = … }";
        let Tree::List(items) = &node.tree else {
            self.fault(node.offset, path, form(FORM, node));
            return Vec::new();
        };
        let mut matches = Vec::new();
        for item in items {
            let Tree::Table(entries) = &item.tree else {
                self.fault(item.offset, path, form(FORM, item));
                continue;
            };
            let [entry] = entries.as_slice() else {
                self.fault(item.offset, path, form(FORM, item));
                continue;
            };
            let Some(text) = self.text(&join(path, &entry.key), &entry.node) else {
                continue;
            };
            match &*entry.key {
                _ if text.is_empty() => self.fault(item.offset, path, form(FORM, &entry.node)),
                "MXSuffix" => matches.push(Match::MxSuffix(normal(&text))),
                "DomainSuffix" => matches.push(Match::DomainSuffix(normal(&text))),
                "HostName" => matches.push(Match::HostName(normal(&text))),
                _ => self.unknown(path, entry, 0, &["MXSuffix", "DomainSuffix", "HostName"]),
            }
        }
        matches
    }
}

/// As names are compared: lower case, without the dot at the end.
pub(super) fn normal(name: &str) -> Box<str> {
    name.strip_suffix('.')
        .unwrap_or(name)
        .to_ascii_lowercase()
        .into()
}

/// Blocks of one name, laid over each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    pub(super) params: Params,
    pub(super) sources: BTreeMap<Box<str>, Params>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) matches: Vec<Match>,
    pub(super) delivery_window: Option<DeliveryWindow>,
    pub(super) weight: Option<u16>,
}

impl Merged {
    pub(super) fn of<'b>(blocks: impl IntoIterator<Item = &'b Block>) -> Self {
        let mut merged = Self::default();
        for block in blocks {
            merged.lay(block);
        }
        merged
    }

    /// Lays `later` over this; with `replace_base` it stands alone.
    pub(super) fn lay(&mut self, later: &Block) {
        if later.replace_base {
            *self = Self::default();
        }
        self.params.merge(&later.params);
        for (name, params) in &later.sources {
            let mine = self.sources.entry(name.clone()).or_default();
            mine.merge(params);
        }
        self.rules.extend(later.rules.iter().cloned());
        self.matches.extend(later.matches.iter().cloned());
        if later.delivery_window.is_some() {
            self.delivery_window.clone_from(&later.delivery_window);
        }
        self.weight = later.weight.or(self.weight);
    }
}
