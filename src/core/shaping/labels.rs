//! Which tenant, campaign and pool a message belongs to, told by rules over how it came.

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::BTreeSet;

use super::block::normal;
use super::fault::{Fault, Place, Wrong};
use super::label_index::{ANY_VALUE, Conditions, LabelIndex, Probe};
use super::read::{Entry, Node, Tree};
use super::reader::{Reader, form, join};
use crate::words::Network;

/// The tenant, campaign and pool of a message that no rule speaks of.
const DEFAULTS: [&str; 3] = ["default", "none", "default"];
/// Octets of a label taken from a header. Labels name limiters, so a stranger's text is bounded.
const LABEL_OCTETS_MAX: usize = 64;
/// Names of the three labels, in the order they are kept.
const NAMES: [&str; 3] = ["tenant", "campaign", "pool"];
const HEADER_KEYS: [&str; 3] = ["tenant_header", "campaign_header", "pool_header"];
const RULE_KEYS: &[&str] = &[
    "listener",
    "client",
    "login",
    "sender_domain",
    "header",
    "tenant",
    "campaign",
    "pool",
    "tenant_header",
    "campaign_header",
    "pool_header",
    "remove_headers",
];
const DEFAULT_KEYS: &[&str] = &[
    "tenant",
    "campaign",
    "pool",
    "unknown_tenant",
    "unknown_campaign",
];

/// What is known of a message when it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The listener's name or address, as the configuration has it.
    pub listener: &'a str,
    pub client: IpAddr,
    /// `None` is the null reverse-path.
    pub sender_domain: Option<&'a str>,
    /// Names and unfolded values, in their order.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A label and the rule that gave it; `None` is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    pub name: Cow<'a, str>,
    pub by: Option<&'a Place>,
}

/// What the rules say of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    pub tenant: Label<'a>,
    pub campaign: Label<'a>,
    pub pool: Label<'a>,
    /// Names of the headers that must not leave, in any case of letters.
    pub remove: Vec<&'a str>,
}

/// Where a rule takes a label from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Name(Box<str>),
    /// The value of the first header of that name.
    Header(Box<str>),
}

/// One `[[label]]`. All its conditions must hold; one with none always does.
#[derive(Clone, Debug)]
pub(super) struct LabelRule {
    listeners: Vec<Box<str>>,
    clients: Vec<Network>,
    /// One with a dot in front means all domains below it as well.
    sender_domains: Vec<Box<str>>,
    /// Name and value; `*` is any value.
    headers: Vec<(Box<str>, Box<str>)>,
    labels: [Option<Origin>; 3],
    remove: Vec<Box<str>>,
    pub(super) place: Place,
}

/// `[label_defaults]` as written.
#[derive(Clone, Debug, Default)]
pub(super) struct RawDefaults {
    names: [Option<Box<str>>; 3],
    keep_unknown_tenant: Option<bool>,
    keep_unknown_campaign: Option<bool>,
    /// Where the default pool was set.
    pool_place: Option<Place>,
}

/// All rules of all files. The first rule that matches and gives a label decides that label.
#[derive(Clone, Debug)]
pub struct LabelRules {
    rules: Vec<LabelRule>,
    index: LabelIndex,
    defaults: [Box<str>; 3],
    /// Per label: the names a header may give. `None` is any.
    known: [Option<BTreeSet<Box<str>>>; 3],
    /// Headers that a rule looks at, in small letters.
    headers: BTreeSet<Box<str>>,
    /// Where the default pool was set.
    pool_place: Option<Place>,
}

/// The names that messages may get for one of their labels.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// By rules, or because none speaks of the message.
    names: BTreeSet<&'a str>,
    by_header: bool,
    /// What a header may give; `None` is any.
    known: Option<&'a BTreeSet<Box<str>>>,
}

impl Given<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        let is_known = || self.known.is_none_or(|known| known.contains(name));
        self.names.contains(name) || self.by_header && is_label(name) && is_known()
    }
}

impl LabelRules {
    /// `tenants` and `campaigns` have blocks of their own.
    pub(super) fn new(
        rules: Vec<LabelRule>,
        raw: RawDefaults,
        tenants: impl Iterator<Item = Box<str>>,
        campaigns: impl Iterator<Item = Box<str>>,
    ) -> Self {
        let mut defaults = raw.names.into_iter().zip(DEFAULTS);
        let mut default = || {
            let (name, usual) = defaults.next().expect("there are three labels");
            name.unwrap_or_else(|| usual.into())
        };
        let defaults = [default(), default(), default()];
        let named = |index: usize| {
            rules
                .iter()
                .filter_map(move |rule| match &rule.labels[index] {
                    Some(Origin::Name(name)) => Some(name.clone()),
                    _ => None,
                })
        };
        let tenants = tenants.chain(named(0)).collect();
        let campaigns = campaigns.chain(named(1)).collect();
        let keep_tenant = raw.keep_unknown_tenant.unwrap_or(false);
        let keep_campaign = raw.keep_unknown_campaign.unwrap_or(true);
        Self {
            known: [
                (!keep_tenant).then_some(tenants),
                (!keep_campaign).then_some(campaigns),
                None,
            ],
            headers: rules.iter().flat_map(LabelRule::header_names).collect(),
            pool_place: raw.pool_place,
            index: LabelIndex::new(rules.iter().map(LabelRule::conditions)),
            rules,
            defaults,
        }
    }

    /// All mail has the default labels.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule looks at headers of that name.
    pub fn names_header(&self, name: &str) -> bool {
        !self.headers.is_empty() && self.headers.contains(&*name.to_ascii_lowercase())
    }

    /// Of mail that no rule speaks of.
    pub fn default_pool(&self) -> &str {
        &self.defaults[2]
    }

    /// Of mail that no rule speaks of.
    pub fn default_tenant(&self) -> &str {
        &self.defaults[0]
    }

    /// Of mail that no rule speaks of.
    pub fn default_campaign(&self) -> &str {
        &self.defaults[1]
    }

    /// Tells which pools there are: a header that names another gives the default pool, and a rule that
    /// does has a fault.
    pub(super) fn know_pools(&mut self, pools: &BTreeSet<Box<str>>) -> Vec<Fault> {
        self.known[2] = Some(pools.clone());
        let default = self.pool_place.as_ref();
        let default = default.map(|place| ("label_defaults.pool", self.default_pool(), place));
        let rules = self
            .pools()
            .map(|(name, place)| ("label.pool", name, place));
        let unknown = rules
            .chain(default)
            .filter(|(_, name, _)| !pools.contains(*name));
        let fault = |(key, name, place): (&str, &str, &Place)| Fault {
            place: place.clone(),
            key: key.into(),
            wrong: Wrong::UnknownPool {
                name: name.into(),
                known: pools
                    .iter()
                    .map(|name| &**name)
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        };
        unknown.map(fault).collect()
    }

    /// The labels of a message.
    pub fn classify<'a>(&'a self, submission: &Submission<'a>) -> Labels<'a> {
        let mut labels: [Option<Label<'a>>; 3] = [None, None, None];
        let mut remove: Vec<&'a str> = Vec::new();
        let probe = Probe {
            sender_domain: submission.sender_domain,
            client: Some(Probe::host(submission.client)),
            listener: Some(submission.listener),
        };
        let headers = submission.headers.iter().copied();
        let candidates = self.index.candidates(&probe, headers).into_iter();
        let rules = candidates.map(|number| &self.rules[number as usize]);
        for rule in rules.filter(|rule| rule.holds(submission)) {
            for (index, label) in labels.iter_mut().enumerate() {
                if label.is_none() {
                    *label = self.label(rule, index, submission);
                }
            }
            for name in &rule.remove {
                if !remove.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    remove.push(name);
                }
            }
        }
        let mut index = 0;
        let [tenant, campaign, pool] = labels.map(|label| {
            let default = &self.defaults[index];
            index += 1;
            label.unwrap_or(Label {
                name: Cow::Borrowed(default),
                by: None,
            })
        });
        Labels {
            tenant,
            campaign,
            pool,
            remove,
        }
    }

    fn label<'a>(
        &'a self,
        rule: &'a LabelRule,
        index: usize,
        submission: &Submission<'a>,
    ) -> Option<Label<'a>> {
        let by = Some(&rule.place);
        let header = match rule.labels[index].as_ref()? {
            Origin::Name(name) => {
                let name = Cow::Borrowed(&**name);
                return Some(Label { name, by });
            }
            Origin::Header(header) => header,
        };
        let value = submission.header(header)?.trim();
        let known = self.known[index].as_ref();
        let usable = is_label(value) && known.is_none_or(|known| known.contains(value));
        let name = if usable { value } else { &self.defaults[index] };
        let name = Cow::Borrowed(name);
        Some(Label { name, by })
    }

    /// Rules that can give nothing, each with the one before it that takes all.
    pub(super) fn unreachable(&self) -> impl Iterator<Item = (&Place, &Place)> {
        let rules = self.rules.iter().enumerate();
        rules.filter_map(|(index, rule)| {
            let gives = (0..3).filter(|label| rule.labels[*label].is_some());
            let mut takers = gives.map(|label| self.taker(index, label));
            let first = takers.next()??;
            let all = takers.all(|taker| taker.is_some());
            (all && rule.remove.is_empty()).then_some((&rule.place, &first.place))
        })
    }

    /// The first rule before that one which gives `label` by name to all its messages.
    fn taker(&self, index: usize, label: usize) -> Option<&LabelRule> {
        let rule = &self.rules[index];
        let probe = Probe {
            sender_domain: rule.sender_domains.first().map(|domain| &**domain),
            client: rule.clients.first().copied(),
            listener: rule.listeners.first().map(|name| &**name),
        };
        let headers = rule.headers.iter().map(|(name, value)| (&**name, &**value));
        let takes = |number: &u32| {
            let earlier = &self.rules[*number as usize];
            matches!(earlier.labels[label], Some(Origin::Name(_))) && earlier.is_wider(rule)
        };
        let mut first: Option<u32> = None;
        self.index.find(&probe, headers, |numbers| {
            let bound = first.map_or(index, |first| first as usize);
            let earlier = numbers
                .iter()
                .take_while(|number| (**number as usize) < bound);
            first = earlier.copied().find(takes).or(first);
        });
        first.map(|number| &self.rules[number as usize])
    }

    /// Of tenants, campaigns and pools: what messages may get.
    pub(super) fn given(&self) -> [Given<'_>; 3] {
        [0, 1, 2].map(|label| {
            let by_name = self
                .rules
                .iter()
                .filter_map(|rule| match &rule.labels[label] {
                    Some(Origin::Name(name)) => Some(&**name),
                    Some(Origin::Header(_)) | None => None,
                });
            let is_header =
                |rule: &LabelRule| matches!(rule.labels[label], Some(Origin::Header(_)));
            Given {
                names: by_name.chain([&*self.defaults[label]]).collect(),
                by_header: self.rules.iter().any(is_header),
                known: self.known[label].as_ref(),
            }
        })
    }

    /// Listeners that rules name, each with its place.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, &Place)> {
        let rules = self.rules.iter();
        rules.flat_map(|rule| rule.listeners.iter().map(|name| (&**name, &rule.place)))
    }

    /// Pools that rules name, each with its place.
    fn pools(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.rules.iter().filter_map(|rule| match &rule.labels[2] {
            Some(Origin::Name(name)) => Some((&**name, &rule.place)),
            _ => None,
        })
    }
}

impl<'a> Submission<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

impl LabelRule {
    fn header_names(&self) -> impl Iterator<Item = Box<str>> {
        let told = self.labels.iter().filter_map(|label| match label {
            Some(Origin::Header(name)) => Some(name),
            Some(Origin::Name(_)) | None => None,
        });
        let asked = self.headers.iter().map(|(name, _)| name);
        told.chain(asked)
            .map(|name| name.to_ascii_lowercase().into())
    }

    fn holds(&self, submission: &Submission<'_>) -> bool {
        let listener = |name: &str| name == submission.listener;
        let sender = |known: &str| {
            let sent = submission.sender_domain.unwrap_or_default();
            known.strip_prefix('.').map_or_else(
                || sent.eq_ignore_ascii_case(known),
                |base| is_at_or_below(sent, base),
            )
        };
        let header = |(name, wanted): &(Box<str>, Box<str>)| {
            let values = submission.headers.iter();
            values
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .any(|(_, value)| **wanted == *ANY_VALUE || value.trim() == &**wanted)
        };
        let client = |network: &Network| network.contains(submission.client);
        (self.listeners.is_empty() || self.listeners.iter().any(|name| listener(name)))
            && (self.clients.is_empty() || self.clients.iter().any(client))
            && (self.sender_domains.is_empty()
                || self.sender_domains.iter().any(|known| sender(known)))
            && self.headers.iter().all(header)
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            sender_domains: &self.sender_domains,
            headers: &self.headers,
            clients: &self.clients,
            listeners: &self.listeners,
        }
    }

    /// Whether this holds for all that `other` holds for, as far as one can tell.
    fn is_wider(&self, other: &Self) -> bool {
        let header = |(name, value): &(Box<str>, Box<str>)| {
            let mut same = other
                .headers
                .iter()
                .filter(|(n, _)| n.eq_ignore_ascii_case(name));
            same.any(|(_, theirs)| **value == *ANY_VALUE || value == theirs)
        };
        covers(&self.clients, &other.clients, Network::covers)
            && covers(&self.listeners, &other.listeners, |mine, theirs| {
                mine == theirs
            })
            && covers(
                &self.sender_domains,
                &other.sender_domains,
                |mine, theirs| covers_domain(mine, theirs),
            )
            && self.headers.iter().all(header)
    }
}

/// Whether each of `theirs` is within one of `mine`; none at all is everything.
fn covers<T>(mine: &[T], theirs: &[T], is_within: impl Fn(&T, &T) -> bool) -> bool {
    let is_covered = |theirs: &T| mine.iter().any(|mine| is_within(mine, theirs));
    mine.is_empty() || (!theirs.is_empty() && theirs.iter().all(is_covered))
}

fn covers_domain(mine: &str, theirs: &str) -> bool {
    match mine.strip_prefix('.') {
        Some(base) => is_at_or_below(theirs.strip_prefix('.').unwrap_or(theirs), base),
        None => mine == theirs,
    }
}

fn is_at_or_below(domain: &str, base: &str) -> bool {
    let Some(cut) = domain.len().checked_sub(base.len()) else {
        return false;
    };
    let ends = domain
        .get(cut..)
        .is_some_and(|end| end.eq_ignore_ascii_case(base));
    ends && (cut == 0 || domain.as_bytes()[cut - 1] == b'.')
}

fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b);
    (1..=LABEL_OCTETS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

impl Reader<'_, '_> {
    pub(super) fn label(&mut self, path: &str, node: &Node<'_>) -> Option<LabelRule> {
        let entries = self.table(path, node)?;
        let mut rule = LabelRule {
            listeners: Vec::new(),
            clients: Vec::new(),
            sender_domains: Vec::new(),
            headers: Vec::new(),
            labels: [None, None, None],
            remove: Vec::new(),
            place: self.place(node.offset),
        };
        for entry in entries {
            self.label_key(path, entry, &mut rule);
        }
        Some(rule)
    }

    fn label_key(&mut self, path: &str, entry: &Entry<'_>, rule: &mut LabelRule) {
        let at = join(path, &entry.key);
        let node = &entry.node;
        match &*entry.key {
            "listener" => rule.listeners = self.texts(&at, node),
            "client" => rule.clients = self.networks(&at, node),
            "login" => {
                let why = "no listener takes logins";
                self.fault(entry.offset, at, Wrong::NotHonoured(why));
            }
            "sender_domain" => {
                let domains = self.texts(&at, node).into_iter();
                rule.sender_domains = domains.map(|domain| normal(&domain)).collect();
            }
            "header" => {
                for header in self.table(&at, node).unwrap_or_default() {
                    let value = self.text(&join(&at, &header.key), &header.node);
                    rule.headers
                        .extend(value.map(|value| (header.key.as_ref().into(), value)));
                }
            }
            "remove_headers" => rule.remove = self.texts(&at, node),
            key => {
                let plain = NAMES.iter().position(|name| *name == key);
                let header = HEADER_KEYS.iter().position(|name| *name == key);
                let Some(index) = plain.or(header) else {
                    return self.unknown(path, entry, 0, RULE_KEYS);
                };
                let Some(text) = self.text(&at, node) else {
                    return;
                };
                if rule.labels[index].is_some() {
                    let wrong = form("given once: by name or by header", node);
                    return self.fault(entry.offset, at, wrong);
                }
                rule.labels[index] = Some(match header {
                    Some(_) => Origin::Header(text),
                    None => Origin::Name(text),
                });
                if plain.is_some() {
                    self.check_label(&at, node);
                }
            }
        }
    }

    fn check_label(&mut self, path: &str, node: &Node<'_>) {
        let fits = matches!(&node.tree, Tree::Text(text) if is_label(text));
        if !fits {
            let expected = "1 to 64 letters, digits or any of . _ - : @ +";
            self.fault(node.offset, path, form(expected, node));
        }
    }

    fn networks(&mut self, path: &str, node: &Node<'_>) -> Vec<Network> {
        let mut networks = Vec::new();
        for item in Self::one_or_more(node) {
            let network = item
                .tree
                .text()
                .and_then(|text| Network::rounded(text).ok());
            if network.is_none() {
                let wrong = form("a network such as \"10.0.0.0/8\"", item);
                self.fault(item.offset, path, wrong);
            }
            networks.extend(network);
        }
        networks
    }

    pub(super) fn label_defaults(&mut self, node: &Node<'_>, raw: &mut RawDefaults) {
        let path = "label_defaults";
        for entry in self.table(path, node).unwrap_or_default() {
            let at = join(path, &entry.key);
            let keep = |reader: &mut Self| {
                let known = matches!(&entry.node.tree, Tree::Text(word) if word == "keep");
                let default = matches!(&entry.node.tree, Tree::Text(word) if word == "default");
                if !known && !default {
                    let wrong = form("\"keep\" or \"default\"", &entry.node);
                    reader.fault(entry.node.offset, at.as_str(), wrong);
                }
                Some(known)
            };
            match &*entry.key {
                "unknown_tenant" => raw.keep_unknown_tenant = keep(self),
                "unknown_campaign" => raw.keep_unknown_campaign = keep(self),
                key => {
                    let Some(index) = NAMES.iter().position(|name| *name == key) else {
                        self.unknown(path, entry, 0, DEFAULT_KEYS);
                        continue;
                    };
                    self.check_label(&at, &entry.node);
                    if key == "pool" {
                        raw.pool_place = Some(self.place(entry.node.offset));
                    }
                    raw.names[index] = self.text(&at, &entry.node);
                }
            }
        }
    }
}
