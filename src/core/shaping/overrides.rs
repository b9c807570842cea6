//! What an operator or automation sets at run time: laid over all files, each until it expires.

use std::collections::BTreeMap;

use super::block::normal;
use super::fault::{Place, Wrong};
use super::keys::{BASE, KEYS, Key, LABELS, MAIL, PROVIDER, PROVIDER_SOURCES, SOURCES, Support};
use super::queue_name::{NoQueue, QueueName};
use super::read::literal;
use super::value::{Layer, Setting, Value};
use crate::words::{Moment, nearest};

/// Live overrides at once.
pub const OVERRIDES_MAX: usize = 100_000;
/// Of these, what rules of automation may have set: an operator always finds room.
const BY_RULES_MAX: usize = OVERRIDES_MAX / 10 * 9;
/// In front of the place of the rule that asks for an override.
const BY_RULE: &str = "automation, ";

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
    /// By whom an override is that the rule at this place asks for.
    pub fn by_rule(place: &Place) -> Box<str> {
        format!("{BY_RULE}{place}").into()
    }

    /// Asked for by a rule of automation, and not by somebody. What several rules set for one target holds
    /// side by side, each until it expires; somebody's word is one.
    pub fn is_of_rule(&self) -> bool {
        self.by.starts_with(BY_RULE)
    }

    /// What tells it from all others that hold.
    pub fn place(&self) -> WishPlace {
        let Self {
            kind,
            name,
            source,
            key,
            by,
            ..
        } = self;
        (*kind, name.clone(), source.clone(), *key, by.clone())
    }

    /// The rule that asked for it.
    pub fn rule(&self) -> Option<&str> {
        self.is_of_rule().then_some(&*self.by)
    }

    fn is_for(&self, key: Key, source: Option<&str>) -> bool {
        self.key == key && self.source.as_deref() == source
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
    #[error("there are {BY_RULES_MAX} overrides by rules already")]
    TooManyByRules,
    #[error("an operator has taken it back, and it is not set anew before it would have expired")]
    TakenBack,
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

    /// Whether it is to lie over `below`. An operator's word does. A rule's never lies over that, and makes
    /// nothing faster.
    pub(super) fn covers(&self, below: Option<&Setting>) -> bool {
        let Some(below) = below else {
            return true;
        };
        let is_of_rule = self.wish.is_of_rule();
        !is_of_rule
            || below.layer != Layer::Live && self.wish.key.tightens(&self.wish.value, &below.value)
    }

    pub(super) fn is_for(&self, source: &str) -> bool {
        self.wish
            .source
            .as_deref()
            .is_none_or(|mine| mine == source)
    }
}

/// Kind and name, source, key, rule.
pub type WishPlace = (TargetKind, Box<str>, Option<Box<str>>, Key, Box<str>);

/// All that are set.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Per kind and name, in the order they are laid over each other: those for all sources first.
    by_target: [BTreeMap<Box<str>, Vec<Override>>; TargetKind::COUNT],
    count: usize,
    by_rules: usize,
    /// What rules had set and an operator has taken back, until when it would have held.
    taken_back: BTreeMap<WishPlace, Moment>,
    /// Domains that overrides of queues name, and how many do.
    queue_domains: BTreeMap<Box<str>, usize>,
}

impl Overrides {
    /// Sets `wish`, in place of its like, which is returned: one for the same target, source and key by
    /// the same rule, or by somebody as well. What a rule says again ends no earlier than before.
    pub fn set(&mut self, wish: Wish, now: Moment) -> Result<Option<Override>, NotSet> {
        let mut wish = wish;
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
        let before = self.get(&wish).filter(|_| wish.is_of_rule());
        if let Some(before) = before.filter(|before| before.value == wish.value) {
            wish.expires = wish.expires.max(before.expires);
        }
        if wish.is_of_rule() && self.is_taken_back(&wish, now) {
            return Err(NotSet::TakenBack);
        }
        let is_new = self.get(&wish).is_none();
        if is_new && self.count >= OVERRIDES_MAX {
            return Err(NotSet::TooMany);
        }
        if is_new && wish.is_of_rule() && self.by_rules >= BY_RULES_MAX {
            return Err(NotSet::TooManyByRules);
        }
        let replaced = self.take(&wish);
        let until = wish.expires.rfc3339();
        let file = format!(
            "live override by {} until {until}: {}",
            wish.by, wish.reason
        );
        let layer = match wish.is_of_rule() {
            true => Layer::Rule,
            false => Layer::Live,
        };
        let setting = Setting {
            value: wish.value.clone(),
            place: Place {
                file: file.into(),
                line: 0,
                column: 0,
            },
            layer,
        };
        let is_of_rule = wish.is_of_rule();
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
        self.by_rules += usize::from(is_of_rule);
        if let Some(domain) = queue.and_then(|queue| queue.domain) {
            *self.queue_domains.entry(domain).or_default() += 1;
        }
        Ok(replaced)
    }

    /// Of one that is gone.
    fn forget(&mut self, gone: &Override) {
        self.count -= 1;
        self.by_rules -= usize::from(gone.wish.is_of_rule());
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
        let mut like = all.filter(|set| is_like(set, wish));
        like.next()
    }

    /// Whether the same holds.
    pub fn has(&self, wish: &Wish, now: Moment) -> bool {
        let before = self.get(wish);
        before.is_some_and(|set| set.value == wish.value && set.expires > now)
    }

    fn take(&mut self, wish: &Wish) -> Option<Override> {
        let list = self.by_target[wish.kind as usize].get_mut(&wish.name)?;
        let at = list.iter().position(|set| is_like(&set.wish, wish))?;
        let gone = list.remove(at);
        if list.is_empty() {
            self.by_target[wish.kind as usize].remove(&wish.name);
        }
        self.forget(&gone);
        Some(gone)
    }

    /// Takes back before they expire what is set for the target, source and key, by rules and by whomever.
    /// What a rule had set it does not set anew meanwhile.
    pub fn cancel(
        &mut self,
        kind: TargetKind,
        name: &str,
        (source, key): (Option<&str>, Key),
    ) -> Vec<Override> {
        let all = self.by_target[kind as usize].get(name);
        let meant = all.into_iter().flatten().map(|set| &set.wish);
        let meant: Vec<Wish> = meant
            .filter(|set| set.is_for(key, source))
            .cloned()
            .collect();
        let gone: Vec<Override> = meant.iter().filter_map(|wish| self.take(wish)).collect();
        for wish in gone.iter().map(|gone| &gone.wish) {
            if let Some(rule) = wish.rule() {
                self.take_back(kind, name, (source, key), rule, wish.expires);
            }
        }
        gone
    }

    /// Takes away what the rule has set, or without one what somebody has: others have said that it is no
    /// more. Whether it was there.
    pub fn remove(
        &mut self,
        kind: TargetKind,
        name: &str,
        (source, key): (Option<&str>, Key),
        rule: Option<&str>,
    ) -> bool {
        let all = self.by_target[kind as usize].get(name);
        let mut all = all.into_iter().flatten().map(|set| &set.wish);
        let meant = all.find(|set| set.is_for(key, source) && set.rule() == rule);
        let meant = meant.cloned();
        meant.is_some_and(|wish| self.take(&wish).is_some())
    }

    /// What the rule sets for the target is not to hold before then.
    pub fn take_back(
        &mut self,
        kind: TargetKind,
        name: &str,
        (source, key): (Option<&str>, Key),
        rule: &str,
        until: Moment,
    ) {
        self.remove(kind, name, (source, key), Some(rule));
        let taken = (kind, name.into(), source.map(Into::into), key, rule.into());
        self.taken_back.insert(taken, until);
    }

    /// What rules had set and somebody has taken back, and until when that is so.
    pub fn taken_back(&self) -> impl Iterator<Item = (&WishPlace, Moment)> {
        self.taken_back.iter().map(|(taken, until)| (taken, *until))
    }

    /// Whether somebody has taken back what the rule had set, which would hold still.
    pub(crate) fn is_taken_back(&self, wish: &Wish, now: Moment) -> bool {
        !self.taken_back.is_empty()
            && self
                .taken_back
                .get(&wish.place())
                .is_some_and(|until| *until > now)
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
        self.taken_back.retain(|_, until| *until > now);
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

/// Whether one takes the place of the other.
fn is_like(set: &Wish, wish: &Wish) -> bool {
    set.is_for(wish.key, wish.source.as_deref()) && set.rule() == wish.rule()
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

    /// An operator's.
    pub(super) fn find(self, key: Key, source: &str, now: Moment) -> Option<&'a Override> {
        let mut all = self.0.iter().rev();
        all.find(|set| !set.wish.is_of_rule() && set.holds(key, source, now))
    }

    /// What rules say.
    pub(super) fn of_rules(
        self,
        key: Key,
        source: &'a str,
        now: Moment,
    ) -> impl Iterator<Item = &'a Override> {
        let all = self.0.iter();
        all.filter(move |set| set.wish.is_of_rule() && set.holds(key, source, now))
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
        let mut cancel = || overrides.cancel(TargetKind::Domain, "a.test", (None, key));
        assert_eq!((cancel().len(), cancel().len()), (1, 0));
        assert_eq!(
            (overrides.iter().count(), overrides.next_expiry()),
            (0, None)
        );
    }

    fn by_rule(line: u32, value: &str, expires: u64) -> Wish {
        let place = Place {
            file: "p.toml".into(),
            line,
            column: 1,
        };
        Wish {
            by: Wish::by_rule(&place),
            ..wish("a.test", "max_message_rate", value, expires)
        }
    }

    #[test]
    fn what_rules_set_holds_side_by_side_and_beside_an_operators_word() {
        let mut overrides = Overrides::default();
        let now = Moment::from_secs(1);
        let all = [
            by_rule(1, "10/m", 100),
            by_rule(2, "1/m", 20),
            wish("a.test", "max_message_rate", "5/m", 50),
        ];
        for wish in all {
            assert_eq!(overrides.set(wish, now), Ok(None));
        }
        assert_eq!(overrides.iter().count(), 3);
        // Said again it ends no earlier; another value is another word.
        overrides.set(by_rule(1, "10/m", 60), now).unwrap();
        overrides.set(by_rule(2, "2/m", 10), now).unwrap();
        let ends: Vec<u64> = overrides
            .iter()
            .map(|set| set.wish.expires.as_micros() / 1_000_000)
            .collect();
        assert_eq!(ends, [50, 100, 10]);
        let (key, _) = Key::read("max_message_rate", "1/s").unwrap();
        let of = (None, key);
        let rule = by_rule(1, "10/m", 60).by;
        let mut remove = |rule| overrides.remove(TargetKind::Domain, "a.test", of, rule);
        assert!(remove(Some(&rule)) && !remove(Some(&rule)));
        // That it is gone is nobody's word against it.
        overrides.set(by_rule(1, "10/m", 100), now).unwrap();
        let gone = overrides.cancel(TargetKind::Domain, "a.test", of);
        assert_eq!(gone.len(), 3);
        assert_eq!(overrides.taken_back().count(), 2);
        let again = overrides.set(by_rule(1, "10/m", 60), now);
        assert_eq!(again, Err(NotSet::TakenBack));
        let later = Moment::from_secs(100);
        assert!(overrides.set(by_rule(1, "10/m", 160), later).is_ok());
    }

    #[test]
    fn rules_leave_room_for_an_operator() {
        let mut overrides = Overrides::default();
        let now = Moment::from_secs(1);
        let mut line = 0;
        let last = loop {
            line += 1;
            let wish = Wish {
                name: format!("d{line}.test").into(),
                ..by_rule(line, "1/m", 100)
            };
            if let Err(wrong) = overrides.set(wish, now) {
                break wrong;
            }
        };
        assert_eq!(last, NotSet::TooManyByRules);
        let word = wish("b.test", "max_message_rate", "5/m", 50);
        assert_eq!(overrides.set(word, now), Ok(None));
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
