//! What an operator or automation sets at run time: laid over all files, each until it expires.

use std::collections::BTreeMap;

use super::block::normal;
use super::fault::{Place, Wrong};
use super::keys::{BASE, KEYS, Key, LABELS, MAIL, PROVIDER, PROVIDER_SOURCES, SOURCES, Support};
use super::queue_name::{NoQueue, QueueName};
use super::read::literal;
use super::value::{Layer, Setting, Value};
use crate::words::{Moment, nearest};

/// Live overrides at once; automation that would set more has gone wild.
pub const OVERRIDES_MAX: usize = 100_000;

/// What an override is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// All paths; the name is empty.
    Default,
    Provider,
    Site,
    Domain,
    Source,
    Tenant,
    Campaign,
    /// The name is that of a [`QueueName`].
    Queue,
}

impl TargetKind {
    const COUNT: usize = 8;
    /// In the order they are laid over each other.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Default,
        Self::Provider,
        Self::Site,
        Self::Domain,
        Self::Source,
        Self::Tenant,
        Self::Campaign,
        Self::Queue,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Provider => "provider",
            Self::Site => "site",
            Self::Domain => "domain",
            Self::Source => "source",
            Self::Tenant => "tenant",
            Self::Campaign => "campaign",
            Self::Queue => "queue",
        }
    }

    fn places(self, of_source: bool) -> u8 {
        match (self, of_source) {
            (Self::Default | Self::Site | Self::Domain, false) => BASE,
            (Self::Default | Self::Site | Self::Domain, true) => SOURCES,
            (Self::Provider, false) => BASE | PROVIDER,
            (Self::Provider, true) => SOURCES | PROVIDER_SOURCES,
            (Self::Source, _) => LABELS,
            (Self::Tenant | Self::Campaign | Self::Queue, _) => MAIL,
        }
    }

    /// Whether an override of such a target may set the key.
    pub(crate) fn takes(self, key: Key, of_source: bool) -> bool {
        key.row().may_stand(self.places(of_source))
    }

    /// A name as targets of this kind are found by: those of DNS are compared in lower case.
    pub fn normal(self, name: &str) -> Box<str> {
        match self {
            Self::Site | Self::Domain => normal(name),
            Self::Queue => name
                .parse::<QueueName>()
                .map_or_else(|_| name.into(), |queue| queue.to_string().into()),
            Self::Default | Self::Provider | Self::Source | Self::Tenant | Self::Campaign => {
                name.into()
            }
        }
    }
}

/// An override as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub kind: TargetKind,
    pub name: Box<str>,
    /// For this source alone.
    pub source: Option<Box<str>>,
    pub key: Key,
    pub value: Value,
    pub expires: Moment,
    pub reason: Box<str>,
    /// Who asked: an operator's name, or a rule's place.
    pub by: Box<str>,
}

impl Wish {
    /// Whether it was asked for by one of that name, or on his behalf.
    pub(crate) fn is_by(&self, who: &str) -> bool {
        self.by.starts_with(who)
    }
}

/// Why an override is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    #[error("`{0}` {1}")]
    Wrong(String, Wrong),
    #[error("the time it expires has passed")]
    Expired,
    #[error("there are {OVERRIDES_MAX} overrides already")]
    TooMany,
    #[error("`{0}` names no queue: TENANT/CAMPAIGN/DOMAIN, with * for any")]
    NoQueue(Box<str>),
}

impl Key {
    /// Reads a value for the key as a command line writes it: `10/s`, `5`, `true`, `Required`.
    pub fn read(name: &str, value: &str) -> Result<(Self, Value), NotSet> {
        let wrong = |wrong| NotSet::Wrong(name.to_owned(), wrong);
        let Some(key) = Self::find(name) else {
            let nearest = nearest(name, KEYS.iter().map(|row| row.name)).map(Into::into);
            return Err(wrong(Wrong::UnknownKey { nearest }));
        };
        match key.row().support {
            Support::Honoured | Support::Partly { .. } if key.map_index().is_none() => {}
            Support::Honoured | Support::Partly { .. } => {
                return Err(wrong(Wrong::NotHonoured(
                    "an override sets one value, not a map",
                )));
            }
            Support::Ignored(why) | Support::Refused(why) | Support::Later { why, .. } => {
                return Err(wrong(Wrong::NotHonoured(why)));
            }
        }
        let value = key.row().kind.check(&literal(value)).map_err(wrong)?;
        Ok((key, value))
    }
}

/// One that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub wish: Wish,
    pub since: Moment,
    pub(super) setting: Setting,
}

impl Override {
    fn holds(&self, key: Key, source: &str, now: Moment) -> bool {
        self.wish.key == key && self.is_for(source) && self.wish.expires > now
    }

    pub(super) fn is_for(&self, source: &str) -> bool {
        self.wish
            .source
            .as_deref()
            .is_none_or(|mine| mine == source)
    }
}

/// All that are set.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Per kind and name, in the order they are laid over each other: those for all sources first.
    by_target: [BTreeMap<Box<str>, Vec<Override>>; TargetKind::COUNT],
    count: usize,
    /// Domains that overrides of queues name, and how many do.
    queue_domains: BTreeMap<Box<str>, usize>,
}

impl Overrides {
    /// Sets `wish`, in place of one for the same target, source and key, which is returned.
    pub fn set(&mut self, wish: Wish, now: Moment) -> Result<Option<Override>, NotSet> {
        if !wish.kind.takes(wish.key, wish.source.is_some()) {
            let home = Wrong::Misplaced(wish.key.row().home());
            return Err(NotSet::Wrong(wish.key.name().into(), home));
        }
        if wish.expires <= now {
            return Err(NotSet::Expired);
        }
        let mut queue = None;
        if wish.kind == TargetKind::Queue {
            let name = wish.name.parse::<QueueName>();
            queue = Some(name.map_err(|NoQueue| NotSet::NoQueue(wish.name.clone()))?);
        }
        let replaced = self.cancel(wish.kind, &wish.name, wish.source.as_deref(), wish.key);
        if self.count >= OVERRIDES_MAX {
            return Err(NotSet::TooMany);
        }
        let until = wish.expires.rfc3339();
        let file = format!(
            "live override by {} until {until}: {}",
            wish.by, wish.reason
        );
        let setting = Setting {
            value: wish.value.clone(),
            place: Place {
                file: file.into(),
                line: 0,
                column: 0,
            },
            layer: Layer::Live,
        };
        let list = self.by_target[wish.kind as usize].entry(wish.name.clone());
        let list = list.or_default();
        let general = wish.source.is_none();
        let at = list.partition_point(|set| general && set.wish.source.is_none());
        let at = if general { at } else { list.len() };
        list.insert(
            at,
            Override {
                wish,
                since: now,
                setting,
            },
        );
        self.count += 1;
        if let Some(domain) = queue.and_then(|queue| queue.domain) {
            *self.queue_domains.entry(domain).or_default() += 1;
        }
        Ok(replaced)
    }

    /// Of one that is gone.
    fn forget(&mut self, gone: &Override) {
        self.count -= 1;
        if gone.wish.kind != TargetKind::Queue {
            return;
        }
        let queue = gone.wish.name.parse::<QueueName>();
        let Some(domain) = queue.ok().and_then(|queue| queue.domain) else {
            return;
        };
        if let Some(count) = self.queue_domains.get_mut(&domain) {
            *count -= 1;
            if *count == 0 {
                self.queue_domains.remove(&domain);
            }
        }
    }

    /// Whether one is about some of the mail to the domain.
    pub(super) fn has_queue_of(&self, domain: &str) -> bool {
        !self.queue_domains.is_empty() && self.queue_domains.contains_key(domain)
    }

    /// The one that `wish` would replace.
    pub(crate) fn get(&self, wish: &Wish) -> Option<&Wish> {
        let all = self.of(wish.kind, &wish.name).0.iter().map(|set| &set.wish);
        let mut like = all.filter(|set| set.key == wish.key && set.source == wish.source);
        like.next()
    }

    /// Takes one back before it expires.
    pub fn cancel(
        &mut self,
        kind: TargetKind,
        name: &str,
        source: Option<&str>,
        key: Key,
    ) -> Option<Override> {
        let list = self.by_target[kind as usize].get_mut(name)?;
        let at = list
            .iter()
            .position(|set| set.wish.key == key && set.wish.source.as_deref() == source)?;
        let gone = list.remove(at);
        if list.is_empty() {
            self.by_target[kind as usize].remove(name);
        }
        self.forget(&gone);
        Some(gone)
    }

    /// Takes out all that have expired.
    pub fn expire(&mut self, now: Moment) -> Vec<Override> {
        let mut gone = Vec::new();
        for map in &mut self.by_target {
            for list in map.values_mut() {
                gone.extend(list.extract_if(.., |set| set.wish.expires <= now));
            }
            map.retain(|_, list| !list.is_empty());
        }
        for gone in &gone {
            self.forget(gone);
        }
        gone
    }

    /// All, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Override> {
        self.by_target.iter().flat_map(BTreeMap::values).flatten()
    }

    /// Whether there are any for targets of these kinds.
    pub fn has_any(&self, kinds: &[TargetKind]) -> bool {
        let mut kinds = kinds.iter();
        kinds.any(|kind| !self.by_target[*kind as usize].is_empty())
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Option<Moment> {
        self.iter().map(|set| set.wish.expires).min()
    }

    pub(super) fn of(&self, kind: TargetKind, name: &str) -> Live<'_> {
        let map = &self.by_target[kind as usize];
        let list = if map.is_empty() { None } else { map.get(name) };
        Live(list.map_or(&[], Vec::as_slice))
    }
}

/// The overrides of one target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live<'a>(&'a [Override]);

impl<'a> Live<'a> {
    pub(super) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Those that hold for `source`, in the order they are laid over each other.
    pub(super) fn iter(self, source: &'a str, now: Moment) -> impl Iterator<Item = &'a Override> {
        let all = self.0.iter();
        all.filter(move |set| set.is_for(source) && set.wish.expires > now)
    }

    pub(super) fn find(self, key: Key, source: &str, now: Moment) -> Option<&'a Override> {
        self.0.iter().rev().find(|set| set.holds(key, source, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, key: &str, value: &str, expires: u64) -> Wish {
        let (key, value) = Key::read(key, value).unwrap();
        Wish {
            kind: TargetKind::Domain,
            name: name.into(),
            source: None,
            key,
            value,
            expires: Moment::from_secs(expires),
            reason: "test".into(),
            by: "me".into(),
        }
    }

    #[test]
    fn an_override_replaces_its_like_and_expires() {
        let mut overrides = Overrides::default();
        let now = Moment::from_secs(1);
        let first = wish("a.test", "max_message_rate", "5/s", 10);
        assert_eq!(overrides.set(first.clone(), now), Ok(None));
        let other = wish("a.test", "connection_limit", "5", 20);
        assert_eq!(overrides.set(other, now), Ok(None));
        let again = wish("a.test", "max_message_rate", "6/s", 30);
        assert_eq!(overrides.set(again, now).unwrap().unwrap().wish, first);
        assert_eq!(overrides.next_expiry(), Some(Moment::from_secs(20)));
        assert_eq!(overrides.expire(Moment::from_secs(20)).len(), 1);
        assert_eq!(overrides.iter().count(), 1);
        let (key, _) = Key::read("max_message_rate", "1/s").unwrap();
        assert!(
            overrides
                .cancel(TargetKind::Domain, "a.test", None, key)
                .is_some()
        );
        assert!(
            overrides
                .cancel(TargetKind::Domain, "a.test", None, key)
                .is_none()
        );
        assert_eq!(
            (overrides.iter().count(), overrides.next_expiry()),
            (0, None)
        );
    }

    #[test]
    fn a_wrong_override_is_refused_with_its_reason() {
        for (key, value, says) in [
            ("max_mesage_rate", "5/s", "did you mean `max_message_rate`"),
            ("max_message_rate", "5/x", "no known unit"),
            ("max_message_rate", "5", "must be a rate"),
            ("use_lmtp", "true", "not honoured"),
            ("additional_connection_limits", "{}", "not a map"),
        ] {
            let why = Key::read(key, value).unwrap_err().to_string();
            assert!(why.contains(says), "{key} {value}: {why}");
        }
        let mut overrides = Overrides::default();
        let late = wish("a.test", "max_message_rate", "5/s", 10);
        assert_eq!(
            overrides.set(late, Moment::from_secs(10)),
            Err(NotSet::Expired)
        );
        let alien = wish("a.test", "provider_connection_limit", "5", 10);
        let why = overrides.set(alien, Moment::from_secs(1)).unwrap_err();
        assert!(why.to_string().contains("a provider's block"), "{why}");
    }
}
