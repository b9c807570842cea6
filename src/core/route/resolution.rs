//! One domain on its way to a plan: asks, follows, drops what must not be used.

use core::mem;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    Answer, Data, Exchange, Families, HopHost, NextHop, Policy, Query, RecordType, Status,
    is_prohibited, site_name,
};
use crate::words::{Domain, Host, Plan, RouteError, SiteName};

/// MX hosts looked up for one domain; RFC 5321 §5.1 asks for two at least.
const HOSTS_MAX: usize = 16;
/// Addresses in one plan.
const ADDRESSES_MAX: usize = 32;
/// CNAMEs followed beyond what the name server followed itself.
const ALIASES_MAX: u8 = 8;
/// How long a plan holds that needed no DNS. The node may forget it sooner.
const STATIC_TTL: Duration = Duration::from_secs(3600);

/// How a domain is reached, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    pub result: Result<Plan, RouteError>,
    /// The shortest life of all answers this rests on.
    pub ttl: Duration,
}

/// What the resolution wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To be answered by [`Resolution::handle_answer`]. Several may be out at once.
    Query(Query),
    /// The last action.
    Done(Routed),
}

/// The machine: one per domain being looked up.
#[derive(Debug)]
pub struct Resolution {
    policy: Arc<Policy>,
    random: u64,
    stage: Stage,
    candidates: Vec<Candidate>,
    lookups: Vec<Lookup>,
    site: SiteName,
    origin: Origin,
    ttl: Duration,
    actions: VecDeque<Action>,
}

/// Whose word the candidates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Dns,
    /// The sender's, in an address literal.
    Literal,
    /// The operator's, which outranks [`is_prohibited`].
    Static,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the MX records of `name`.
    Mx {
        domain: Domain,
        name: Domain,
        aliases: u8,
    },
    Addresses,
    Done,
}

/// A host that may take the mail, best first.
#[derive(Debug)]
struct Candidate {
    name: Arc<str>,
    preference: u16,
    port: u16,
}

/// The search for one host's addresses of one family.
#[derive(Debug)]
struct Lookup {
    candidate: usize,
    query: Query,
    aliases: u8,
    found: Option<Found>,
}

#[derive(Debug)]
enum Found {
    Addresses(Vec<IpAddr>),
    Failed(&'static str),
}

impl Resolution {
    /// `random` decides the order among equal preferences (RFC 5321 §5.1).
    pub fn new(domain: &Domain, policy: &Arc<Policy>, random: u64) -> Self {
        let mut resolution = Self {
            policy: Arc::clone(policy),
            random,
            stage: Stage::Addresses,
            candidates: Vec::new(),
            lookups: Vec::new(),
            site: SiteName::new(domain.as_str()),
            origin: Origin::Dns,
            ttl: STATIC_TTL,
            actions: VecDeque::new(),
        };
        if let Some(hops) = policy.routes.find(domain) {
            resolution.start_static(hops);
        } else if let Some(address) = domain.literal() {
            resolution.origin = Origin::Literal;
            resolution.add_address(address, policy.port);
            resolution.settle_when_found();
        } else {
            resolution.stage = Stage::Mx {
                domain: domain.clone(),
                name: domain.clone(),
                aliases: 0,
            };
            resolution.ask(domain.clone(), RecordType::Mx);
        }
        resolution
    }

    /// The next thing to do; `None` while answers are awaited and after [`Action::Done`].
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The answer to a query. Answers to questions not open are ignored.
    pub fn handle_answer(&mut self, query: &Query, answer: &Answer) {
        match mem::replace(&mut self.stage, Stage::Done) {
            Stage::Mx {
                domain,
                name,
                aliases,
            } if query.kind == RecordType::Mx && query.name == name => {
                self.ttl = self.ttl.min(answer.ttl);
                self.take_mx(domain, aliases, answer);
            }
            Stage::Addresses => {
                self.stage = Stage::Addresses;
                self.take_addresses(query, answer);
                self.settle_when_found();
            }
            stage @ (Stage::Mx { .. } | Stage::Done) => self.stage = stage,
        }
    }

    fn start_static(&mut self, hops: &[NextHop]) {
        self.origin = Origin::Static;
        let texts: Vec<String> = hops.iter().map(NextHop::to_string).collect();
        self.site = SiteName::new(&texts.join(","));
        for hop in hops.iter().take(HOSTS_MAX) {
            match &hop.host {
                HopHost::Address(address) => self.add_address(*address, hop.port),
                HopHost::Name(name) => {
                    // Each hop stands for itself: the order is the operator's.
                    let preference = u16::try_from(self.candidates.len()).unwrap_or(u16::MAX);
                    self.add_name(name.clone(), preference, hop.port);
                }
            }
        }
        self.settle_when_found();
    }

    fn take_mx(&mut self, domain: Domain, aliases: u8, answer: &Answer) {
        match answer.status {
            Status::Failed(why) => return self.finish(Err(RouteError::Dns(why))),
            Status::NoSuchName => return self.finish(Err(RouteError::NoSuchDomain)),
            Status::Exists => {}
        }
        if answer.records.is_empty()
            && let Some(alias) = &answer.alias
        {
            if aliases >= ALIASES_MAX {
                return self.finish(Err(RouteError::Dns("too many aliases")));
            }
            self.ask(alias.clone(), RecordType::Mx);
            self.stage = Stage::Mx {
                domain,
                name: alias.clone(),
                aliases: aliases + 1,
            };
            return;
        }
        self.stage = Stage::Addresses;
        match self.mx_hosts(&answer.records) {
            Ok(hosts) if hosts.is_empty() => {
                // RFC 5321 §5.1: no MX at all means the domain itself, at preference 0.
                if self.is_our_name(&domain) {
                    return self.finish(Err(RouteError::LoopsToUs));
                }
                self.add_name(domain, 0, self.policy.port);
            }
            Ok(hosts) => {
                self.site = site_name(hosts.iter().map(|(_, name)| name.as_str()));
                for (preference, name) in self.shuffle(hosts) {
                    self.add_name(name, preference, self.policy.port);
                }
            }
            Err(error) => return self.finish(Err(error)),
        }
        self.settle_when_found();
    }

    /// The usable MX hosts, by preference and name; empty when there is no MX record.
    fn mx_hosts(&self, records: &[Data]) -> Result<Vec<(u16, Domain)>, RouteError> {
        let mut hosts: Vec<(u16, Domain)> = Vec::new();
        let (mut roots, mut any) = (0_usize, false);
        for record in records {
            let Data::Mx {
                preference,
                exchange,
            } = record
            else {
                continue;
            };
            any = true;
            match exchange {
                Exchange::Root => roots += 1,
                Exchange::Name(name) if name.literal().is_none() => {
                    hosts.push((*preference, name.clone()));
                }
                Exchange::Name(_) | Exchange::Malformed => {}
            }
        }
        if !any {
            return Ok(hosts);
        }
        if hosts.is_empty() {
            // A root beside other records is no null MX (RFC 7505 §3), yet leads nowhere either.
            return Err(if roots > 0 {
                RouteError::NullMx
            } else {
                RouteError::NoSuchDomain
            });
        }
        hosts.sort_unstable();
        let ours = hosts
            .iter()
            .find(|(_, name)| self.is_our_name(name))
            .map(|(preference, _)| *preference);
        if let Some(ours) = ours {
            hosts.retain(|(preference, _)| *preference < ours);
        }
        if hosts.is_empty() {
            return Err(RouteError::LoopsToUs);
        }
        let mut seen: Vec<Domain> = Vec::new();
        hosts.retain(|(_, name)| {
            let fresh = seen.len() < HOSTS_MAX && !seen.contains(name);
            if fresh {
                seen.push(name.clone());
            }
            fresh
        });
        Ok(hosts)
    }

    fn is_our_name(&self, name: &Domain) -> bool {
        self.policy.hostnames.contains(name)
    }

    /// Random order within each preference; `hosts` is sorted.
    fn shuffle(&self, mut hosts: Vec<(u16, Domain)>) -> Vec<(u16, Domain)> {
        let mut state = self.random;
        for group in hosts.chunk_by_mut(|a, b| a.0 == b.0) {
            for last in (1..group.len()).rev() {
                let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
                let other = usize::try_from(split_mix(&mut state) % bound).unwrap_or(0);
                group.swap(last, other);
            }
        }
        hosts
    }

    fn ask(&mut self, name: Domain, kind: RecordType) {
        self.actions.push_back(Action::Query(Query { name, kind }));
    }

    fn add_address(&mut self, address: IpAddr, port: u16) {
        let candidate = self.candidates.len();
        let kind = if address.is_ipv4() {
            RecordType::A
        } else {
            RecordType::Aaaa
        };
        let name = address.to_string();
        self.candidates.push(Candidate {
            name: name.as_str().into(),
            preference: u16::try_from(candidate).unwrap_or(u16::MAX),
            port,
        });
        // Found before it is asked; the name only has to be one nobody asks for.
        if let Ok(name) = Domain::parse(&literal_text(address)) {
            self.lookups.push(Lookup {
                candidate,
                query: Query { name, kind },
                aliases: 0,
                found: Some(Found::Addresses(vec![address])),
            });
        }
    }

    fn add_name(&mut self, name: Domain, preference: u16, port: u16) {
        let candidate = self.candidates.len();
        self.candidates.push(Candidate {
            name: name.as_str().into(),
            preference,
            port,
        });
        let kinds: &[RecordType] = match self.policy.families {
            Families::V4 => &[RecordType::A],
            Families::V6 => &[RecordType::Aaaa],
            Families::V4ThenV6 => &[RecordType::A, RecordType::Aaaa],
            Families::V6ThenV4 => &[RecordType::Aaaa, RecordType::A],
        };
        for kind in kinds {
            self.lookups.push(Lookup {
                candidate,
                query: Query {
                    name: name.clone(),
                    kind: *kind,
                },
                aliases: 0,
                found: None,
            });
            self.ask(name.clone(), *kind);
        }
    }

    fn take_addresses(&mut self, query: &Query, answer: &Answer) {
        let mut follow = None;
        for lookup in &mut self.lookups {
            if lookup.found.is_some() || lookup.query != *query {
                continue;
            }
            self.ttl = self.ttl.min(answer.ttl);
            lookup.found = match (answer.status, &answer.alias) {
                (Status::Failed(why), _) => Some(Found::Failed(why)),
                (Status::Exists, Some(alias)) if answer.records.is_empty() => {
                    if lookup.aliases < ALIASES_MAX {
                        lookup.aliases += 1;
                        lookup.query.name = alias.clone();
                        follow = Some(alias.clone());
                        None
                    } else {
                        Some(Found::Failed("too many aliases"))
                    }
                }
                (Status::Exists | Status::NoSuchName, _) => Some(Found::Addresses(
                    answer.records.iter().filter_map(address_of).collect(),
                )),
            };
        }
        if let Some(alias) = follow {
            self.ask(alias, query.kind);
        }
    }

    fn settle_when_found(&mut self) {
        if self.lookups.iter().all(|lookup| lookup.found.is_some()) {
            let result = self.plan();
            self.finish(result);
        }
    }

    fn finish(&mut self, result: Result<Plan, RouteError>) {
        self.stage = Stage::Done;
        self.actions.clear();
        self.actions.push_back(Action::Done(Routed {
            result,
            ttl: self.ttl,
        }));
    }

    fn plan(&self) -> Result<Plan, RouteError> {
        let ours = self.our_preference();
        let mut hosts: Vec<Host> = Vec::new();
        let (mut prohibited, mut failed, mut looped) = (None, None, false);
        for lookup in &self.lookups {
            let candidate = &self.candidates[lookup.candidate];
            if ours.is_some_and(|ours| candidate.preference >= ours) {
                looped = true;
                continue;
            }
            match &lookup.found {
                Some(Found::Failed(why)) => failed = Some(*why),
                Some(Found::Addresses(addresses)) => {
                    for address in addresses {
                        if self.is_prohibited(*address) {
                            prohibited.get_or_insert(*address);
                            continue;
                        }
                        let host = Host {
                            name: Arc::clone(&candidate.name),
                            address: SocketAddr::new(*address, candidate.port),
                            preference: candidate.preference,
                        };
                        if hosts.len() < ADDRESSES_MAX
                            && !hosts.iter().any(|h| h.address == host.address)
                        {
                            hosts.push(host);
                        }
                    }
                }
                None => {}
            }
        }
        if !hosts.is_empty() {
            return Ok(Plan {
                site: self.site.clone(),
                names: self.names(),
                mx_hosts: self.host_names(),
                hosts,
            });
        }
        // A better host whose lookup failed may be there next time: temporary beats permanent.
        Err(match (failed, prohibited, looped) {
            (Some(why), _, _) => RouteError::Dns(why),
            (None, Some(address), _) => RouteError::Prohibited(address),
            (None, None, true) => RouteError::LoopsToUs,
            (None, None, false) => RouteError::NoSuchDomain,
        })
    }

    /// Candidates by rank, so that neither the shuffle nor the numbers of preferences matter.
    fn names(&self) -> Arc<str> {
        let groups = self
            .candidates
            .chunk_by(|a, b| a.preference == b.preference);
        let texts = groups.map(|group| {
            let one = |candidate: &Candidate| format!("{} {}", candidate.name, candidate.port);
            let mut texts: Vec<String> = group.iter().map(one).collect();
            texts.sort_unstable();
            texts.join("\t")
        });
        let texts: Vec<String> = texts.collect();
        texts.join("\n").into()
    }

    fn host_names(&self) -> Vec<Box<str>> {
        if self.origin != Origin::Dns {
            return Vec::new();
        }
        let names = self.candidates.iter().map(|candidate| &*candidate.name);
        let mut names: Vec<Box<str>> = names.map(Box::from).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn is_prohibited(&self, address: IpAddr) -> bool {
        self.origin != Origin::Static && !self.policy.allow_private && is_prohibited(address)
    }

    /// The best preference at which a host turned out to be one of our own listeners.
    fn our_preference(&self) -> Option<u16> {
        let is_ours = |lookup: &&Lookup| {
            let port = self.candidates[lookup.candidate].port;
            let Some(Found::Addresses(addresses)) = &lookup.found else {
                return false;
            };
            addresses.iter().any(|address| {
                self.policy
                    .listeners
                    .contains(&SocketAddr::new(*address, port))
            })
        };
        self.lookups
            .iter()
            .filter(is_ours)
            .map(|lookup| self.candidates[lookup.candidate].preference)
            .min()
    }
}

const fn address_of(data: &Data) -> Option<IpAddr> {
    match data {
        Data::Address(address) => Some(*address),
        Data::Mx { .. } => None,
    }
}

fn literal_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

/// `SplitMix64`: enough to spread load over equal hosts.
const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
