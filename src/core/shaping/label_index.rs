//! Finds the label rules that may hold for a message by one condition of each, so that thousands of
//! them cost a message a few look-ups. It decides nothing: who finds a rule asks whether it holds.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::words::Network;

/// Any value of a header.
pub(super) const ANY_VALUE: &str = "*";

/// What a rule asks of a message; of several only those of one kind find it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions<'r> {
    /// Small letters; with a dot at the start all below it and itself.
    pub(super) sender_domains: &'r [Box<str>],
    pub(super) headers: &'r [(Box<str>, Box<str>)],
    pub(super) clients: &'r [Network],
    pub(super) listeners: &'r [Box<str>],
}

/// What is known of a message, or of all messages that a rule holds for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'p> {
    /// In any letters; with a dot at the start all below it are meant.
    pub(super) sender_domain: Option<&'p str>,
    pub(super) client: Option<Network>,
    pub(super) listener: Option<&'p str>,
}

/// Numbers of rules, the lowest first.
type Rules = Vec<u32>;

/// By the value of one kind of condition.
#[derive(Clone, Debug, Default)]
struct Kinds {
    domains: BTreeMap<Box<str>, Rules>,
    below: BTreeMap<Box<str>, Rules>,
    /// By name in small letters, then by value.
    headers: BTreeMap<Box<str>, BTreeMap<Box<str>, Rules>>,
    networks: BTreeMap<Network, Rules>,
    listeners: BTreeMap<Box<str>, Rules>,
}

/// All label rules by the condition that fewest rules share with each.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelIndex {
    always: Rules,
    kinds: Kinds,
    /// Lengths of the prefixes in `networks`.
    prefixes: BTreeSet<u8>,
}

/// A kind of condition.
#[derive(Clone, Copy, Debug)]
enum By {
    Domains,
    Header(usize),
    Clients,
    Listeners,
}

impl Kinds {
    /// The rules of each value of that kind that the conditions name.
    fn each(&mut self, by: By, conditions: &Conditions<'_>, mut act: impl FnMut(&mut Rules)) {
        match by {
            By::Domains => {
                for domain in conditions.sender_domains {
                    let (map, name) = match domain.strip_prefix('.') {
                        Some(base) => (&mut self.below, base),
                        None => (&mut self.domains, &**domain),
                    };
                    act(map.entry(name.into()).or_default());
                }
            }
            By::Header(index) => {
                let (name, value) = &conditions.headers[index];
                let values = self.headers.entry(name.to_ascii_lowercase().into());
                act(values.or_default().entry(value.clone()).or_default());
            }
            By::Clients => {
                for network in conditions.clients {
                    act(self.networks.entry(*network).or_default());
                }
            }
            By::Listeners => {
                for name in conditions.listeners {
                    act(self.listeners.entry(name.clone()).or_default());
                }
            }
        }
    }
}

impl Conditions<'_> {
    fn kinds(&self) -> impl Iterator<Item = By> {
        let some = |is_some: bool, by| is_some.then_some(by);
        let headers = (0..self.headers.len()).map(By::Header);
        [
            some(!self.sender_domains.is_empty(), By::Domains),
            some(!self.clients.is_empty(), By::Clients),
            some(!self.listeners.is_empty(), By::Listeners),
        ]
        .into_iter()
        .flatten()
        .chain(headers)
    }
}

impl LabelIndex {
    pub(super) fn new<'r>(rules: impl Iterator<Item = Conditions<'r>> + Clone) -> Self {
        let mut all = Kinds::default();
        for (number, conditions) in (0..).zip(rules.clone()) {
            for by in conditions.kinds() {
                all.each(by, &conditions, |rules| rules.push(number));
            }
        }
        let mut index = Self::default();
        for (number, conditions) in (0..).zip(rules) {
            let company = |by: &By| {
                let mut count = 0;
                all.each(*by, &conditions, |rules| count += rules.len());
                count
            };
            match conditions.kinds().min_by_key(company) {
                Some(by) => {
                    let kinds = &mut index.kinds;
                    kinds.each(by, &conditions, |rules| rules.push(number));
                    if matches!(by, By::Clients) {
                        index
                            .prefixes
                            .extend(conditions.clients.iter().map(Network::prefix));
                    }
                }
                None => index.always.push(number),
            }
        }
        index
    }

    /// Shows the rules that may hold for all that `probe` and these headers are known of, in lists.
    pub(super) fn find<'h>(
        &self,
        probe: &Probe<'_>,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
        mut found: impl FnMut(&[u32]),
    ) {
        found(&self.always);
        let kinds = &self.kinds;
        let mut show = |rules: Option<&Rules>| {
            if let Some(rules) = rules {
                found(rules);
            }
        };
        if let Some(domain) = probe.sender_domain {
            let domain = domain.to_ascii_lowercase();
            let base = domain.strip_prefix('.').unwrap_or(&domain);
            if base.len() == domain.len() {
                show(kinds.domains.get(base));
            }
            let mut rest = Some(base);
            while let Some(base) = rest.filter(|_| !kinds.below.is_empty()) {
                show(kinds.below.get(base));
                rest = base.split_once('.').map(|(_, parent)| parent);
            }
        }
        for (name, value) in headers.filter(|_| !kinds.headers.is_empty()) {
            if let Some(values) = kinds.headers.get(&*name.to_ascii_lowercase()) {
                show(values.get(value.trim()));
                show(values.get(ANY_VALUE).filter(|_| value.trim() != ANY_VALUE));
            }
        }
        if let Some(client) = probe.client {
            for prefix in self.prefixes.iter().filter(|p| **p <= client.prefix()) {
                show(kinds.networks.get(&Network::around(client.base(), *prefix)));
            }
        }
        show(probe.listener.and_then(|name| kinds.listeners.get(name)));
    }

    /// The rules that may hold for a message, in their order.
    pub(super) fn candidates<'h>(
        &self,
        probe: &Probe<'_>,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
    ) -> SmallVec<[u32; 16]> {
        let mut numbers: SmallVec<[u32; 16]> = SmallVec::new();
        self.find(probe, headers, |rules| numbers.extend_from_slice(rules));
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

impl Probe<'_> {
    /// One client.
    pub(super) fn host(client: IpAddr) -> Network {
        Network::around(client, u8::MAX)
    }
}
