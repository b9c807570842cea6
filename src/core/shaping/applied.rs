//! Which limits a message in a lane is under: plain data, for whoever takes the permits.

use core::cmp::Ordering;
use core::fmt;

use super::effective::Effective;
use super::fault::Place;
use super::keys::{Key, MAPS};
use super::rate::{Cap, Rate};
use super::value::{Layer, Setting, Value};

/// What a limit limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limited {
    /// Connections at once.
    Connections,
    /// New connections per time.
    ConnectionRate,
    /// Selections of a source per time.
    Selections,
    /// Messages per time.
    Messages,
    /// Messages on one connection; no permit is taken for it.
    MessagesPerConnection,
    /// Recipients in one transaction; no permit is taken for it.
    RecipientsPerTransaction,
}

impl Limited {
    const ALL: [Self; 6] = [
        Self::Connections,
        Self::ConnectionRate,
        Self::Selections,
        Self::Messages,
        Self::MessagesPerConnection,
        Self::RecipientsPerTransaction,
    ];

    /// The one of that [`Limited::name`].
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limited| limited.name() == name)
    }

    /// Nodes of several releases that share a limit call it the same.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionRate => "connection rate",
            Self::Selections => "source selection rate",
            Self::Messages => "message rate",
            Self::MessagesPerConnection => "messages per connection",
            Self::RecipientsPerTransaction => "recipients per transaction",
        }
    }
}

/// Over what a limit counts. All that share scope and name share one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One source towards one site.
    Lane,
    /// All sources towards one site.
    Site,
    /// One source towards all sites of a provider.
    ProviderSource,
    /// All sources towards all sites of a provider.
    Provider,
    /// One source towards everybody.
    Source,
    Tenant,
    Campaign,
    /// What the queue names of tenant, campaign and domain; all of what it leaves out together.
    Queue,
    /// A name that the operator chose.
    Named,
    /// All that this node does.
    Node,
}

impl Scope {
    const ALL: [Self; 10] = [
        Self::Lane,
        Self::Site,
        Self::ProviderSource,
        Self::Provider,
        Self::Source,
        Self::Tenant,
        Self::Campaign,
        Self::Queue,
        Self::Named,
        Self::Node,
    ];

    /// The one of that [`Scope::name`].
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Site => "site",
            Self::ProviderSource => "provider and source",
            Self::Provider => "provider",
            Self::Source => "source",
            Self::Tenant => "tenant",
            Self::Campaign => "campaign",
            Self::Queue => "queue",
            Self::Named => "named",
            Self::Node => "node",
        }
    }
}

/// The name of a counter: equal keys are one counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitKey {
    pub limited: Limited,
    pub scope: Scope,
    pub name: Box<str>,
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} {}",
            self.limited.name(),
            self.scope.name(),
            self.name
        )
    }
}

/// How much a limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Cap(Cap),
    Rate(Rate),
}

impl Amount {
    /// Compares two amounts of one [`Limited`].
    fn cmp_tightness(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Cap(mine), Self::Cap(theirs)) => mine.most.cmp(&theirs.most),
            (Self::Rate(mine), Self::Rate(theirs)) => mine.cmp_sustained(theirs),
            (Self::Cap(_), Self::Rate(_)) => Ordering::Less,
            (Self::Rate(_), Self::Cap(_)) => Ordering::Greater,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cap(cap) => write!(f, "{cap}"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

/// One limit, and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<'a> {
    pub key: LimitKey,
    pub amount: Amount,
    pub place: &'a Place,
    pub layer: Layer,
}

/// The keys that set a limit of each kind, by where they stand.
struct Keys {
    limited: Limited,
    path: Key,
    site: Option<Key>,
    provider: Option<Key>,
    provider_total: Option<Key>,
}

const CONNECTIONS: Keys = Keys {
    limited: Limited::Connections,
    path: Key::of("connection_limit"),
    site: Some(Key::of("site_connection_limit")),
    provider: Some(Key::of("provider_connection_limit")),
    provider_total: Some(Key::of("provider_total_connection_limit")),
};
const CONNECTION_RATE: Keys = Keys {
    limited: Limited::ConnectionRate,
    path: Key::of("max_connection_rate"),
    site: Some(Key::of("site_max_connection_rate")),
    provider: Some(Key::of("provider_max_connection_rate")),
    provider_total: Some(Key::of("provider_total_max_connection_rate")),
};
const SELECTIONS: Keys = Keys {
    limited: Limited::Selections,
    path: Key::of("source_selection_rate"),
    site: Some(Key::of("site_source_selection_rate")),
    provider: Some(Key::of("provider_source_selection_rate")),
    provider_total: Some(Key::of("provider_total_source_selection_rate")),
};
const MESSAGES: Keys = Keys {
    limited: Limited::Messages,
    path: Key::of("max_message_rate"),
    site: Some(Key::of("site_max_message_rate")),
    provider: Some(Key::of("provider_max_message_rate")),
    provider_total: Some(Key::of("provider_total_max_message_rate")),
};
const PER_CONNECTION: Keys = Keys {
    limited: Limited::MessagesPerConnection,
    path: Key::of("max_deliveries_per_connection"),
    site: None,
    provider: None,
    provider_total: None,
};
const PER_TRANSACTION: Keys = Keys {
    limited: Limited::RecipientsPerTransaction,
    path: Key::of("max_recipients_per_batch"),
    site: None,
    provider: None,
    provider_total: None,
};
const ALL: [Keys; 6] = [
    CONNECTIONS,
    CONNECTION_RATE,
    SELECTIONS,
    MESSAGES,
    PER_CONNECTION,
    PER_TRANSACTION,
];
/// What the maps of [`MAPS`] limit.
const NAMED: [Limited; MAPS.len()] = [Limited::Connections, Limited::Messages, Limited::Selections];

impl<'a> Effective<'a> {
    /// Every limit a message of this party is under, in the order of [`LimitKey`], which is the same
    /// for all messages: who takes permits in it never waits in a circle.
    pub fn limits(&self) -> Vec<Limit<'a>> {
        let mut limits = Vec::with_capacity(24);
        for keys in &ALL {
            self.limits_of(keys, &mut limits);
        }
        for (map, name, setting) in &self.named {
            add(
                &mut limits,
                NAMED[*map],
                Scope::Named,
                || (*name).to_owned(),
                Some(setting),
            );
        }
        limits.sort_by(|a, b| a.key.cmp(&b.key));
        limits
    }

    fn limits_of(&self, keys: &Keys, limits: &mut Vec<Limit<'a>>) {
        let (site, source) = (self.facts.site, self.party.source);
        let mut put = |scope, name: &dyn Fn() -> String, setting| {
            add(limits, keys.limited, scope, name, setting);
        };
        let lane = || format!("{source}->{site}");
        put(Scope::Lane, &lane, self.setting(keys.path));
        let of_site = keys.site.and_then(|key| self.setting(key));
        put(Scope::Site, &|| site.to_owned(), of_site);
        for view in &self.providers {
            let of = |key: Option<Key>| key.and_then(|key| self.of_view(view, key));
            let name = || format!("{source}->{}", view.name);
            put(Scope::ProviderSource, &name, of(keys.provider));
            let name = || view.name.to_owned();
            put(Scope::Provider, &name, of(keys.provider_total));
        }
        for (scope, view) in [
            (Scope::Source, &self.source),
            (Scope::Tenant, &self.tenant),
            (Scope::Campaign, &self.campaign),
        ] {
            if let Some(view) = view {
                let setting = self.of_view(view, keys.path);
                put(scope, &|| view.name.to_owned(), setting);
            }
        }
        // What it leaves out counts together.
        for (mask, setting) in self.queue_limits(keys.path) {
            let queue = || self.queue(mask).to_string();
            put(Scope::Queue, &queue, Some(setting));
        }
    }

    /// The limit that bites first: the fewest at once, or the lowest rate in the long run.
    pub fn tightest(&self, limited: Limited) -> Option<Limit<'a>> {
        let limits = self.limits().into_iter();
        limits
            .filter(|limit| limit.key.limited == limited)
            .min_by(|a, b| a.amount.cmp_tightness(&b.amount))
    }
}

fn add<'a>(
    limits: &mut Vec<Limit<'a>>,
    limited: Limited,
    scope: Scope,
    name: impl Fn() -> String,
    setting: Option<&'a Setting>,
) {
    let Some(setting) = setting else {
        return;
    };
    let amount = match setting.value {
        Value::Cap(cap) => Amount::Cap(cap),
        Value::Rate(rate) => Amount::Rate(rate),
        Value::Count(most) => Amount::Cap(Cap { most, local: true }),
        Value::Flag(_)
        | Value::Duration(_)
        | Value::Text(_)
        | Value::Word(_)
        | Value::Networks(_)
        | Value::Pacing(_) => return,
    };
    limits.push(Limit {
        key: LimitKey {
            limited,
            scope,
            name: name().into(),
        },
        amount,
        place: &setting.place,
        layer: setting.layer,
    });
}
