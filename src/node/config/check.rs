//! Merges defaults, file, environment and flags, and checks every value against its knob. All
//! faults are collected; only a configuration without any becomes a [`Config`].

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use posthaste_core::mail::Noted;
use posthaste_core::words::{Address, Domain, Network, NotANetwork};

use super::fault::{Fault, Place, Wrong};
use super::knobs::{self, KNOBS, Kind};
use super::source::{self, Given, Item, Items, form};
use super::types::{
    Config, Delivery, Dns, Durability, EightBit, Http, LineEnds, Listener, Log, NextHop, Node,
    Redis, RedisKind, RedisLoss, Route, Secret, Shaping, Shards, Smtp, Spool, Timeouts,
};
use super::value;

const HOSTNAME_FALLBACK: &str = "localhost.localdomain";
const DNS_PORT: u16 = 53;
const CPUS_MAX: i64 = 1024;

/// A flag's word against the file's. One for a repeated section replaces all of the file's.
#[derive(Clone, Debug)]
pub struct Override {
    key: String,
    item: Item,
}

impl Override {
    /// `flag` without its dashes.
    pub fn new(key: &str, flag: &'static str, given: Given) -> Self {
        let place = Place::Flag(flag);
        Self {
            key: key.into(),
            item: Item { given, place },
        }
    }

    pub fn text(key: &str, flag: &'static str, text: &str) -> Self {
        Self::new(key, flag, Given::Text(text.into()))
    }

    /// A list of texts.
    pub fn list<'a>(key: &str, flag: &'static str, texts: impl Iterator<Item = &'a str>) -> Self {
        let item = |text: &str| Item {
            given: Given::Text(text.into()),
            place: Place::Flag(flag),
        };
        Self::new(key, flag, Given::List(texts.map(item).collect()))
    }
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name and text of the file.
    pub file: Option<(String, String)>,
    /// Environment variables of secrets: name and value.
    pub environment: Vec<(String, String)>,
    pub overrides: Vec<Override>,
}

/// Checks `settings` against the table of knobs.
pub fn check(settings: &Settings) -> Result<Config, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut items = match &settings.file {
        Some((name, text)) => source::read(name, text, &mut faults),
        None => Items::new(),
    };
    for knob in KNOBS {
        let Some(variable) = knob.environment else {
            continue;
        };
        let set = settings.environment.iter();
        let Some((_, value)) = set.clone().find(|(name, _)| name == variable) else {
            continue;
        };
        for key in knobs::keys_in(knob, items.keys()) {
            let given = Given::Text(value.clone());
            let place = Place::Environment(variable);
            items.insert(key, Item { given, place });
        }
    }
    for Override { key, .. } in &settings.overrides {
        if let Some((section, _)) = key.split_once('[') {
            let head = format!("{section}[");
            items.retain(|key, _| !key.starts_with(&head));
        }
    }
    for Override { key, item } in &settings.overrides {
        items.insert(key.clone(), item.clone());
    }
    let mut reader = Reader { items, faults };
    let config = reader.config();
    if reader.faults.is_empty() {
        Ok(config)
    } else {
        reader.faults.sort_by(|a, b| a.place.cmp(&b.place));
        Err(reader.faults)
    }
}

pub(super) struct Reader {
    pub(super) items: Items,
    faults: Vec<Fault>,
}

impl Reader {
    fn config(&mut self) -> Config {
        let node = self.node();
        let delivery = self.delivery(&node.hostname);
        let sources = self.sources();
        let config = Config {
            listeners: self.listeners(),
            smtp: self.smtp(),
            trust: self.trust(),
            http: Http {
                address: self.one("http.address", endpoint),
                token: Some(self.text("http.token"))
                    .filter(|token| !token.is_empty())
                    .map(|token| Secret::new(&token)),
            },
            spool: self.spool(),
            dns: self.dns(),
            routes: self.routes(),
            shaping: Shaping {
                files: self.list("shaping.files", |given, _| {
                    as_text(given, "a path").map(PathBuf::from)
                }),
                providers: self.one("shaping.providers", boolean),
            },
            pools: self.pools(&sources),
            warmups: self.warmups(&sources),
            sources,
            redis: self.redis(),
            log: Log {
                dir: self.path("log.dir"),
                rotate_octets: self.amount("log.rotate_size"),
                keep: self.count("log.keep"),
                headers: self.fields("log.headers"),
            },
            node,
            delivery,
        };
        if config.spool.bodies_octets_max < config.smtp.message_octets_max as u64 {
            let found = value::size_text(config.spool.bodies_octets_max);
            let bound = "at least smtp.message_octets_max".into();
            self.fault("spool.bodies_max", Wrong::Bounds { found, bound });
        }
        config
    }

    /// Names of header fields, which are the same in any case of letters.
    fn fields(&mut self, key: &str) -> Vec<Box<str>> {
        let names = self.list(key, field_name);
        if names.len() > Noted::NAMES_MAX {
            let found = format!("a list of {}", names.len());
            let bound = format!("at most {}", Noted::NAMES_MAX);
            self.fault(key, Wrong::Bounds { found, bound });
        }
        let mut seen = BTreeSet::new();
        for name in &names {
            if !seen.insert(name.to_ascii_lowercase()) {
                self.fault(key, Wrong::Twice(name.to_string()));
            }
        }
        names
    }

    fn node(&mut self) -> Node {
        let hostname = self.domain_or("node.hostname", system_hostname);
        let nodeid = Some(self.text("node.nodeid")).filter(|id| !id.is_empty());
        Node {
            nodeid: nodeid.unwrap_or_else(|| hostname.to_string()),
            shards: self.one("node.shards", shards),
            hostname,
        }
    }

    fn listeners(&mut self) -> Vec<Listener> {
        let indices = self.indices("listener");
        if indices.is_empty() {
            let address = SocketAddr::from(([127, 0, 0, 1], 2525));
            return vec![self.listener(0, Some(address))];
        }
        let listeners: Vec<Listener> = indices.iter().map(|i| self.listener(*i, None)).collect();
        let mut seen = BTreeSet::new();
        for (index, listener) in indices.iter().zip(&listeners) {
            let key = format!("listener[{index}].address");
            if listener.address.port() != 0
                && self.items.contains_key(&key)
                && !seen.insert(listener.address)
            {
                self.fault(&key, Wrong::Twice(listener.address.to_string()));
            }
        }
        listeners
    }

    fn listener(&mut self, index: usize, address: Option<SocketAddr>) -> Listener {
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = address.unwrap_or_else(|| {
            self.required(&format!("listener[{index}].address"), endpoint, unset)
        });
        Listener {
            address,
            connections_max: self.count(&format!("listener[{index}].connections_max")),
            connections_per_client_max: self
                .count(&format!("listener[{index}].connections_per_client_max")),
        }
    }

    fn smtp(&mut self) -> Smtp {
        Smtp {
            command_octets_max: self.amount_usize("smtp.command_octets_max"),
            recipients_max: self.amount_usize("smtp.recipients_max"),
            message_octets_max: self.amount_usize("smtp.message_octets_max"),
            commands_max: self.count("smtp.commands_max"),
            errors_max: self.count("smtp.errors_max"),
            messages_max: Some(self.count("smtp.messages_max")).filter(|max| *max != 0),
            idle: self.duration("smtp.idle"),
            session: self.duration("smtp.session"),
            line_ends: if self.choice("smtp.line_ends") == "normalise" {
                LineEnds::Normalise
            } else {
                LineEnds::Reject
            },
            postmaster: self.one("smtp.postmaster", mailbox),
        }
    }

    fn trust(&mut self) -> Vec<Network> {
        self.list("trust.networks", |given, _| {
            let text = as_text(given, "a network such as \"10.0.0.0/8\"")?;
            let network: Network = text.parse().map_err(|error| match error {
                NotANetwork::Address | NotANetwork::Prefix => {
                    form("a network such as \"10.0.0.0/8\"", given)
                }
                NotANetwork::HostBits => form("a network without host bits", given),
            })?;
            if network.prefix() == 0 {
                return Err(Wrong::OpenRelay(network.to_string()));
            }
            Ok(network)
        })
    }

    fn spool(&mut self) -> Spool {
        Spool {
            path: self.path("spool.path"),
            durability: if self.choice("spool.durability") == "relaxed" {
                Durability::Relaxed
            } else {
                Durability::Commit
            },
            free_octets_min: self.amount("spool.free_min"),
            memtable_octets_max: self.amount("spool.memtables_max"),
            flush_octets_per_s: self.amount("spool.flush_per_second_max"),
            bodies_octets_max: self.amount("spool.bodies_max"),
            queue_octets_max: self.amount("spool.queue_max"),
        }
    }

    fn delivery(&mut self, hostname: &Domain) -> Delivery {
        let delivery = Delivery {
            ehlo_name: self.domain_or("delivery.ehlo_name", || hostname.clone()),
            port: u16::try_from(self.amount("delivery.port")).unwrap_or(25),
            connections_max: self.count("delivery.connections_max"),
            messages_per_connection_max: self.count("delivery.messages_per_connection_max"),
            recipients_per_transaction_max: self.count("delivery.recipients_per_transaction_max"),
            unsynced_max: self.count("delivery.unsynced_max"),
            idle: self.duration("delivery.idle"),
            pipelining: self.one("delivery.pipelining", boolean),
            eight_bit: if self.choice("delivery.eight_bit") == "refuse" {
                EightBit::Refuse
            } else {
                EightBit::Send
            },
            allow_private_targets: self.one("delivery.allow_private_targets", boolean),
            timeouts: Timeouts {
                connect: self.duration("delivery.timeout.connect"),
                banner: self.duration("delivery.timeout.banner"),
                ehlo: self.duration("delivery.timeout.ehlo"),
                mail: self.duration("delivery.timeout.mail"),
                rcpt: self.duration("delivery.timeout.rcpt"),
                data: self.duration("delivery.timeout.data"),
                dot: self.duration("delivery.timeout.dot"),
                quit: self.duration("delivery.timeout.quit"),
            },
            retry: self.list("delivery.retry", duration),
            jitter: self.one("delivery.jitter", share),
            max_age: self.duration("delivery.max_age"),
            warn_after: Some(self.duration("delivery.warn_after")).filter(|age| !age.is_zero()),
        };
        let refused = |fault: &Fault| fault.key.starts_with("delivery.retry");
        if delivery.retry.is_empty() && !self.faults.iter().any(refused) {
            self.fault("delivery.retry", Wrong::Missing);
        }
        delivery
    }

    fn dns(&mut self) -> Dns {
        const EXPECTED: &str = "an IP address with or without port";
        Dns {
            resolvers: self.list("dns.resolvers", |given, _| {
                value::endpoint(as_text(given, EXPECTED)?, DNS_PORT)
                    .filter(|resolver| resolver.port() != 0)
                    .ok_or_else(|| form(EXPECTED, given))
            }),
            timeout: Some(self.one("dns.timeout", unset_or_seconds)).filter(|wait| !wait.is_zero()),
            attempts_max: Some(self.count("dns.attempts_max")).filter(|rounds| *rounds > 0),
            cache_entries_max: self.amount_usize("dns.cache_entries_max"),
            ttl_max: self.duration("dns.ttl_max"),
            negative_ttl_max: self.duration("dns.negative_ttl_max"),
        }
    }

    fn redis(&mut self) -> Option<Redis> {
        let before = self.faults.len();
        let urls = self.list("redis.urls", redis_url);
        let urls_hold = self.faults.len() == before;
        let master = self.text("redis.sentinel_master");
        let kind = match self.choice("redis.kind").as_str() {
            "sentinel" => RedisKind::Sentinel { master },
            "cluster" => RedisKind::Cluster,
            _ => RedisKind::Single,
        };
        if kind == RedisKind::Single && urls.len() > 1 {
            let found = format!("a list of {}", urls.len());
            let bound = "one URL, unless redis.kind is sentinel or cluster".into();
            self.fault("redis.urls", Wrong::Bounds { found, bound });
        }
        let is_nameless =
            matches!(&kind, RedisKind::Sentinel { master } if master.trim().is_empty());
        if is_nameless && !urls.is_empty() {
            self.fault("redis.sentinel_master", Wrong::Missing);
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let redis = Redis {
            user: given(self.text("redis.user")),
            password: given(self.text("redis.password")).map(|text| Secret::new(&text)),
            tls_ca: given(self.text("redis.tls_ca")).map(Into::into),
            prefix: self.text("redis.prefix"),
            on_loss: if self.choice("redis.on_redis_loss") == "stop" {
                RedisLoss::Stop
            } else {
                RedisLoss::LastShare
            },
            timeout: self.duration("redis.timeout"),
            urls,
            kind,
        };
        (urls_hold && !redis.urls.is_empty()).then_some(redis)
    }

    fn routes(&mut self) -> Vec<Route> {
        let mut seen = BTreeSet::new();
        let mut routes = Vec::new();
        for index in self.indices("route") {
            let key = format!("route[{index}].domain");
            let domain = self.one(&key, route_domain);
            if !seen.insert(domain.clone()) {
                let name = domain
                    .as_ref()
                    .map_or_else(|| "*".into(), ToString::to_string);
                self.fault(&key, Wrong::Twice(name));
            }
            let key = format!("route[{index}].next_hop");
            if self.items.contains_key(&key) {
                let before = self.faults.len();
                let next_hops = self.list(&key, next_hop);
                if next_hops.is_empty() && self.faults.len() == before {
                    self.fault(&key, Wrong::Missing);
                }
                routes.push(Route { domain, next_hops });
            } else {
                self.fault(&key, Wrong::Missing);
            }
        }
        // The route for every domain comes last, so that the first that fits counts.
        routes.sort_by_key(|route| route.domain.is_none());
        routes
    }

    /// Which tables of a repeated section were given.
    pub(super) fn indices(&self, section: &str) -> Vec<usize> {
        let head = format!("{section}[");
        let index = |key: &String| key.strip_prefix(&head)?.split_once(']')?.0.parse().ok();
        let indices: BTreeSet<usize> = self.items.keys().filter_map(index).collect();
        indices.into_iter().collect()
    }

    pub(super) fn fault(&mut self, key: &str, wrong: Wrong) {
        let own = self.items.get(key);
        // A missing key is reported where its table begins.
        let table = || {
            self.items
                .get(key.rsplit_once('.').map_or(key, |(table, _)| table))
        };
        let place = own
            .or_else(table)
            .map_or(Place::Default, |item| item.place.clone());
        self.faults.push(Fault {
            place,
            key: key.into(),
            wrong,
        });
    }

    pub(super) fn faults_so_far(&self) -> usize {
        self.faults.len()
    }

    pub(super) fn one<T>(
        &mut self,
        key: &str,
        convert: fn(&Given, &Kind) -> Result<T, Wrong>,
    ) -> T {
        let knob = knobs::find(key).expect("each key read is in the table of knobs");
        if let Some(item) = self.items.get(key) {
            match convert(&item.given, &knob.kind) {
                Ok(value) => return value,
                Err(wrong) => self.fault(key, wrong),
            }
        }
        let default = knob.default.expect("required knobs are read by `required`");
        convert(&source::literal(default), &knob.kind).expect("defaults are within their bounds")
    }

    pub(super) fn required<T>(
        &mut self,
        key: &str,
        convert: fn(&Given, &Kind) -> Result<T, Wrong>,
        unset: T,
    ) -> T {
        let knob = knobs::find(key).expect("each key read is in the table of knobs");
        let checked = match self.items.get(key) {
            Some(item) => convert(&item.given, &knob.kind),
            None => Err(Wrong::Missing),
        };
        checked.unwrap_or_else(|wrong| {
            self.fault(key, wrong);
            unset
        })
    }

    pub(super) fn list<T>(
        &mut self,
        key: &str,
        convert: fn(&Given, &Kind) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let knob = knobs::find(key).expect("each key read is in the table of knobs");
        let given = match self.items.get(key) {
            Some(item) => item.given.clone(),
            None => source::literal(knob.default.expect("only given keys lack a default")),
        };
        let Given::List(elements) = given else {
            self.fault(key, form("a list ([…])", &given));
            return Vec::new();
        };
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            match convert(&element.given, &knob.kind) {
                Ok(value) => values.push(value),
                Err(wrong) => self.faults.push(Fault {
                    place: element.place,
                    key: format!("{key}[{index}]"),
                    wrong,
                }),
            }
        }
        values
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        self.one(key, |given, _| Ok(as_text(given, "a text")?.to_owned()))
    }

    fn path(&mut self, key: &str) -> PathBuf {
        self.one(key, |given, _| {
            let text = as_text(given, "a path")?;
            (!text.is_empty())
                .then(|| text.into())
                .ok_or_else(|| form("a path", given))
        })
    }

    pub(super) fn choice(&mut self, key: &str) -> String {
        self.one(key, word)
    }

    fn domain_or(&mut self, key: &str, fallback: impl FnOnce() -> Domain) -> Domain {
        self.domain(key).unwrap_or_else(fallback)
    }

    /// None: empty.
    pub(super) fn domain(&mut self, key: &str) -> Option<Domain> {
        self.one(key, |given, _| {
            let text = as_text(given, "a domain")?;
            if text.is_empty() {
                return Ok(None);
            }
            Domain::parse(text)
                .map(Some)
                .map_err(|_| form("a domain", given))
        })
    }

    fn duration(&mut self, key: &str) -> Duration {
        self.one(key, duration)
    }

    fn amount(&mut self, key: &str) -> u64 {
        self.one(key, amount)
    }

    fn amount_usize(&mut self, key: &str) -> usize {
        usize::try_from(self.amount(key)).unwrap_or(usize::MAX)
    }

    pub(super) fn count(&mut self, key: &str) -> u32 {
        u32::try_from(self.amount(key)).unwrap_or(u32::MAX)
    }
}

pub(super) fn as_text<'a>(given: &'a Given, expected: &'static str) -> Result<&'a str, Wrong> {
    let Given::Text(text) = given else {
        return Err(form(expected, given));
    };
    Ok(text)
}

pub(super) fn host_address(given: &Given) -> Result<IpAddr, Wrong> {
    const EXPECTED: &str = "an IP address of this host";
    let address: Option<IpAddr> = as_text(given, EXPECTED)?.parse().ok();
    address
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .ok_or_else(|| form(EXPECTED, given))
}

/// Clients without SMTPUTF8 write to it too.
fn mailbox(given: &Given, _: &Kind) -> Result<Option<Address>, Wrong> {
    let expected = "an ASCII address such as \"ops@example.com\"";
    match as_text(given, expected)? {
        "" => Ok(None),
        text => Address::parse(text)
            .ok()
            .filter(|address| !address.needs_utf8())
            .map(Some)
            .ok_or_else(|| form(expected, given)),
    }
}

pub(super) fn word(given: &Given, kind: &Kind) -> Result<String, Wrong> {
    let Kind::Choice(words) = kind else {
        unreachable!("`word` reads knobs of that kind only")
    };
    let text = as_text(given, "one of the words listed")?;
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let bound = format!("one of {}", words.join(", "));
    Err(Wrong::Bounds {
        found: given.to_string(),
        bound,
    })
}

pub(super) fn boolean(given: &Given, _: &Kind) -> Result<bool, Wrong> {
    let Given::Bool(value) = given else {
        return Err(form("true or false", given));
    };
    Ok(*value)
}

fn share(given: &Given, kind: &Kind) -> Result<f64, Wrong> {
    let Kind::Share { min, max } = kind else {
        unreachable!("`share` reads knobs of that kind only")
    };
    let value = match given {
        Given::Decimal(value) => *value,
        Given::Number(0) => 0.0,
        Given::Number(1) => 1.0,
        Given::Number(_) | Given::Bool(_) | Given::Text(_) | Given::List(_) | Given::Foreign(_) => {
            return Err(form("a number between 0 and 1", given));
        }
    };
    if (*min..=*max).contains(&value) {
        return Ok(value);
    }
    Err(Wrong::Bounds {
        found: value.to_string(),
        bound: kind.bound(),
    })
}

/// A count or a size.
pub(super) fn amount(given: &Given, kind: &Kind) -> Result<u64, Wrong> {
    let (expected, value, (min, max)) = match (kind, given) {
        (Kind::Count { min, max } | Kind::Counts { min, max }, Given::Number(n)) => {
            ("", u64::try_from(*n).ok(), (*min, *max))
        }
        (Kind::Count { min, max } | Kind::Counts { min, max }, _) => {
            ("a whole number", None, (*min, *max))
        }
        (Kind::Size { min, max }, Given::Text(text)) => {
            ("a size such as \"10MiB\"", value::size(text), (*min, *max))
        }
        _ => ("a size such as \"10MiB\"", None, (0, 0)),
    };
    match value {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        None if !expected.is_empty() => Err(form(expected, given)),
        _ => Err(Wrong::Bounds {
            found: given.to_string(),
            bound: kind.bound(),
        }),
    }
}

fn duration(given: &Given, kind: &Kind) -> Result<Duration, Wrong> {
    let (Kind::Duration { min, max } | Kind::Delays { min, max }) = kind else {
        unreachable!("`duration` reads knobs of that kind only")
    };
    let expected = "a duration such as \"90s\" or \"5d\"";
    let value = value::duration(as_text(given, expected)?).ok_or_else(|| form(expected, given))?;
    if (Duration::from_secs(*min)..=Duration::from_secs(*max)).contains(&value) {
        return Ok(value);
    }
    Err(Wrong::Bounds {
        found: given.to_string(),
        bound: kind.bound(),
    })
}

/// Zero leaves it to others; else a second at least, or servers that are only slow count as dead.
fn unset_or_seconds(given: &Given, kind: &Kind) -> Result<Duration, Wrong> {
    let value = duration(given, kind)?;
    if value.is_zero() || value >= Duration::from_secs(1) {
        return Ok(value);
    }
    Err(Wrong::Bounds {
        found: given.to_string(),
        bound: "0s, or 1s and more".to_owned(),
    })
}

pub(super) fn endpoint(given: &Given, _: &Kind) -> Result<SocketAddr, Wrong> {
    let expected = "an address with port such as \"127.0.0.1:2525\"";
    as_text(given, expected)?
        .parse()
        .map_err(|_| form(expected, given))
}

fn next_hop(given: &Given, _: &Kind) -> Result<NextHop, Wrong> {
    let expected = "a host such as \"relay.example:25\"";
    value::next_hop(as_text(given, expected)?).ok_or_else(|| form(expected, given))
}

/// Who logs in, and with what, has knobs of its own, which keep it out of what is printed.
fn redis_url(given: &Given, _: &Kind) -> Result<String, Wrong> {
    let expected = "a URL such as \"redis://127.0.0.1:6379/0\", without user and password";
    let text = as_text(given, expected)?;
    let rest = text
        .strip_prefix("redis://")
        .or_else(|| text.strip_prefix("rediss://"));
    rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/'))
        .filter(|rest| !rest.contains(['@', '?', '#', ' ']))
        .map(|_| text.to_owned())
        .ok_or_else(|| form(expected, given))
}

/// RFC 5322 §2.2, and no longer than names are.
fn field_name(given: &Given, _: &Kind) -> Result<Box<str>, Wrong> {
    const EXPECTED: &str = "the name of a header field such as \"X-Campaign\"";
    let text = as_text(given, EXPECTED)?;
    let is_of_name = |octet: u8| octet.is_ascii_graphic() && octet != b':';
    ((1..=64).contains(&text.len()) && text.bytes().all(is_of_name))
        .then(|| text.into())
        .ok_or_else(|| form(EXPECTED, given))
}

fn route_domain(given: &Given, _: &Kind) -> Result<Option<Domain>, Wrong> {
    match as_text(given, "a domain or \"*\"")? {
        "*" => Ok(None),
        text => Domain::parse(text)
            .map(Some)
            .map_err(|_| form("a domain or \"*\"", given)),
    }
}

fn shards(given: &Given, _: &Kind) -> Result<Shards, Wrong> {
    let expected = "\"all\", a number of shards from 1 to 1024, or a list of CPU numbers";
    let refuse = || form(expected, given);
    match given {
        Given::Text(text) if text == "all" => Ok(Shards::All),
        // As the flag gives it: `--shards 4`, `--shards 0,2`.
        Given::Text(text) if text.contains(',') => {
            let numbers = text.split(',').map(|cpu| cpu.trim().parse().ok());
            cpus(numbers).ok_or_else(refuse)
        }
        Given::Text(text) => text.parse().ok().and_then(shard_count).ok_or_else(refuse),
        Given::Number(number) => shard_count(*number).ok_or_else(refuse),
        Given::List(items) => {
            let numbers = items.iter().map(|item| {
                let Given::Number(cpu) = item.given else {
                    return None;
                };
                Some(cpu)
            });
            cpus(numbers).ok_or_else(refuse)
        }
        Given::Bool(_) | Given::Decimal(_) | Given::Foreign(_) => Err(refuse()),
    }
}

fn shard_count(number: i64) -> Option<Shards> {
    let count = u16::try_from(number).ok()?;
    (1..=CPUS_MAX)
        .contains(&number)
        .then_some(Shards::Count(count))
}

fn cpus(numbers: impl Iterator<Item = Option<i64>>) -> Option<Shards> {
    let cpu = |n: Option<i64>| u16::try_from(n.filter(|n| *n < CPUS_MAX)?).ok();
    let cpus: Vec<u16> = numbers.map(cpu).collect::<Option<_>>()?;
    let distinct: BTreeSet<&u16> = cpus.iter().collect();
    (!cpus.is_empty() && distinct.len() == cpus.len()).then_some(Shards::Cpus(cpus))
}

/// The system's name when it is one that other hosts could know.
fn system_hostname() -> Domain {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Domain::parse(name.trim())
        .ok()
        .filter(|name| name.as_str().contains('.'))
        .unwrap_or_else(|| Domain::parse(HOSTNAME_FALLBACK).expect("the fallback is a domain"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
