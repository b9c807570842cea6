//! Automation rules as files tell them, checked. What one does is said by `dispatch::Firing`.

use core::fmt;
use core::time::Duration;

use jiff::civil::Date;

use super::fault::{Place, Wrong};
use super::keys::{BASE, KEYS, Key, Kind, SOURCES};
use super::pattern::Pattern;
use super::rate::Rate;
use super::read::{Entry, Node, Tree};
use super::reader::{Reader, form, join};
use super::span;
use super::value::{Layer, Value};
use crate::words::nearest;

const RULE_KEYS: &[&str] = &[
    "regex",
    "action",
    "trigger",
    "duration",
    "match_internal",
    "mode",
    "scope",
    "evidence",
    "reviewed",
];
const ACTIONS: &[&str] = &[
    "Suspend",
    "SuspendTenant",
    "SuspendCampaign",
    "Bounce",
    "BounceTenant",
    "BounceCampaign",
    "SetConfig",
    "SetDomainConfig",
];

/// When a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// At the first match.
    Immediate,
    /// At the n-th match within the period, counted over the period.
    Threshold(Rate),
}

/// What a rule does for its duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Suspends this source towards this site.
    Suspend,
    SuspendTenant,
    SuspendCampaign,
    Bounce,
    BounceTenant,
    BounceCampaign,
    /// Sets a key of the path, for the site when the rule was found by it.
    SetConfig(Key, Value),
    /// Sets a key of the path, for the one domain.
    SetDomainConfig(Key, Value),
}

/// How far a rule may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Counts and logs.
    Observe,
    /// Tells the operator what it would do.
    Advise,
    /// Does it.
    #[default]
    Enforce,
}

impl Mode {
    /// As files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Advise => "advise",
            Self::Enforce => "enforce",
        }
    }
}

/// What the reply blames, where its text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Source,
    Network,
    DkimDomain,
    Tenant,
    Recipient,
}

/// Whose block a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOf {
    /// Of the default: its words are common to many sites.
    AnySite,
    Provider,
    Site,
    Domain,
}

/// One `[[….automation]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// One that matches is enough.
    pub patterns: Vec<Pattern>,
    pub actions: Vec<Action>,
    pub trigger: Trigger,
    pub duration: Duration,
    /// Also against replies of our own making.
    pub match_internal: bool,
    pub mode: Mode,
    pub blame: Option<Blame>,
    /// Where the rule's knowledge is from.
    pub evidence: Option<Box<str>>,
    pub reviewed: Option<Date>,
    pub place: Place,
    pub layer: Layer,
}

impl Rule {
    /// Whether the rule is about this one-line reply, `code x.y.z text`.
    pub fn matches(&self, reply: &str, internal: bool) -> bool {
        (self.match_internal || !internal) && self.patterns.iter().any(|p| p.matches(reply))
    }
}

/// A rule as written.
#[derive(Default)]
struct RawRule {
    patterns: Vec<Pattern>,
    actions: Vec<Action>,
    trigger: Option<Trigger>,
    duration: Option<Duration>,
    match_internal: bool,
    mode: Mode,
    blame: Option<Blame>,
    evidence: Option<Box<str>>,
    reviewed: Option<Date>,
}

impl Reader<'_, '_> {
    /// `automation`: a list of rules.
    pub(super) fn rules(&mut self, path: &str, node: &Node<'_>) -> Vec<Rule> {
        let Tree::List(items) = &node.tree else {
            self.fault(node.offset, path, form("an array of tables ([[…]])", node));
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items
            .filter_map(|(index, item)| self.rule(&format!("{path}[{index}]"), item))
            .collect()
    }

    fn rule(&mut self, path: &str, node: &Node<'_>) -> Option<Rule> {
        let entries = self.table(path, node)?;
        let mut raw = RawRule::default();
        let faults = self.faults.len();
        for entry in entries {
            self.rule_key(path, entry, &mut raw);
        }
        let given = [
            ("regex", !raw.patterns.is_empty()),
            ("action", !raw.actions.is_empty()),
            ("duration", raw.duration.is_some()),
        ];
        // What was given and is wrong was told already.
        let silent = self.faults.len() == faults;
        for (name, _) in given.into_iter().filter(|(_, given)| silent && !given) {
            self.fault(node.offset, join(path, name), Wrong::Missing);
        }
        Some(Rule {
            patterns: raw.patterns,
            actions: raw.actions,
            trigger: raw.trigger.unwrap_or(Trigger::Immediate),
            duration: raw.duration?,
            match_internal: raw.match_internal,
            mode: raw.mode,
            blame: raw.blame,
            evidence: raw.evidence,
            reviewed: raw.reviewed,
            place: self.place(node.offset),
            layer: self.layer,
        })
    }

    fn rule_key(&mut self, path: &str, entry: &Entry<'_>, raw: &mut RawRule) {
        let node = &entry.node;
        let at = || join(path, &entry.key);
        match &*entry.key {
            "regex" => raw.patterns = self.patterns(&at(), node),
            "action" => {
                let items = Self::one_or_more(node).iter();
                let actions = items.filter_map(|item| self.action(&at(), item));
                raw.actions = actions.collect();
            }
            "trigger" => raw.trigger = self.trigger(&at(), node),
            "duration" => match Kind::Duration.check(node) {
                Ok(Value::Duration(Duration::ZERO)) => {
                    let wrong = form("longer than nothing", node);
                    self.fault(node.offset, at(), wrong);
                }
                Ok(Value::Duration(duration)) => raw.duration = Some(duration),
                Ok(_) => {}
                Err(wrong) => self.fault(node.offset, at(), wrong),
            },
            "match_internal" => {
                raw.match_internal = self.flag(&at(), node).unwrap_or_default();
            }
            "mode" => {
                let modes = [Mode::Observe, Mode::Advise, Mode::Enforce];
                let modes = modes.map(|mode| (mode.name(), mode));
                let expected = "observe, advise or enforce";
                raw.mode = self.word(&at(), node, &modes, expected).unwrap_or_default();
            }
            "scope" => {
                let scopes = [
                    ("source", Blame::Source),
                    ("network", Blame::Network),
                    ("dkim-domain", Blame::DkimDomain),
                    ("tenant", Blame::Tenant),
                    ("recipient", Blame::Recipient),
                ];
                let expected = "source, network, dkim-domain, tenant or recipient";
                raw.blame = self.word(&at(), node, &scopes, expected);
            }
            "evidence" => raw.evidence = self.text(&at(), node),
            "reviewed" => raw.reviewed = self.date(&at(), node),
            _ => self.unknown(path, entry, 0, RULE_KEYS),
        }
    }

    fn word<T: Copy>(
        &mut self,
        path: &str,
        node: &Node<'_>,
        words: &[(&str, T)],
        expected: &'static str,
    ) -> Option<T> {
        let text = node.tree.text().unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.fault(node.offset, path, form(expected, node));
        }
        found.map(|(_, value)| *value)
    }

    fn patterns(&mut self, path: &str, node: &Node<'_>) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for item in Self::one_or_more(node) {
            let Tree::Text(text) = &item.tree else {
                self.fault(item.offset, path, form("a regular expression", item));
                continue;
            };
            match Pattern::compile(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => self.fault(item.offset, path, Wrong::Regex(why)),
            }
        }
        patterns
    }

    fn trigger(&mut self, path: &str, node: &Node<'_>) -> Option<Trigger> {
        if node.tree.text() == Some("Immediate") {
            return Some(Trigger::Immediate);
        }
        if let Some([entry]) = node.tree.table()
            && entry.key == "Threshold"
        {
            return match Kind::Rate.check(&entry.node) {
                Ok(Value::Rate(rate)) => Some(Trigger::Threshold(rate)),
                Ok(_) => None,
                Err(wrong) => {
                    self.fault(entry.node.offset, join(path, "Threshold"), wrong);
                    None
                }
            };
        }
        let expected = "\"Immediate\" or { Threshold = \"N/period\" }";
        self.fault(node.offset, path, form(expected, node));
        None
    }

    fn action(&mut self, path: &str, node: &Node<'_>) -> Option<Action> {
        if let Some(word) = node.tree.text() {
            return self.plain_action(path, node, word);
        }
        match node.tree.table() {
            Some([entry]) if entry.key == "SetConfig" => {
                let (key, value) = self.assignment(&join(path, "SetConfig"), &entry.node)?;
                Some(Action::SetConfig(key, value))
            }
            Some([entry]) if entry.key == "SetDomainConfig" => {
                let path = join(path, "SetDomainConfig");
                let (key, value) = self.assignment(&path, &entry.node)?;
                Some(Action::SetDomainConfig(key, value))
            }
            _ => self.no_action(path, node),
        }
    }

    fn plain_action(&mut self, path: &str, node: &Node<'_>, word: &str) -> Option<Action> {
        Some(match word {
            "Suspend" => Action::Suspend,
            "SuspendTenant" => Action::SuspendTenant,
            "SuspendCampaign" => Action::SuspendCampaign,
            "Bounce" => Action::Bounce,
            "BounceTenant" => Action::BounceTenant,
            "BounceCampaign" => Action::BounceCampaign,
            _ => {
                let nearest = nearest(word, ACTIONS.iter().copied()).map(Into::into);
                let path = format!("{path}.{word}");
                self.fault(node.offset, path, Wrong::UnknownKey { nearest });
                return None;
            }
        })
    }

    fn no_action(&mut self, path: &str, node: &Node<'_>) -> Option<Action> {
        let expected = "an action such as \"Suspend\" or { SetConfig = { name, value } }";
        self.fault(node.offset, path, form(expected, node));
        None
    }

    /// `{ name = …, value = … }`.
    fn assignment(&mut self, path: &str, node: &Node<'_>) -> Option<(Key, Value)> {
        let entries = self.table(path, node)?;
        let find = |name: &str| entries.iter().find(|entry| entry.key == name);
        for entry in entries {
            if !["name", "value"].contains(&&*entry.key) {
                self.unknown(path, entry, 0, &["name", "value"]);
            }
        }
        let (Some(name), Some(value)) = (find("name"), find("value")) else {
            self.fault(node.offset, path, form("a table of name and value", node));
            return None;
        };
        let text = self.text(&join(path, "name"), &name.node)?;
        let Some(key) = Key::find(&text).filter(|key| key.row().may_stand(BASE | SOURCES)) else {
            let known = KEYS.iter().filter(|row| row.may_stand(BASE | SOURCES));
            let nearest = nearest(&text, known.map(|row| row.name)).map(Into::into);
            let path = format!("{path}.{text}");
            self.fault(name.node.offset, path, Wrong::UnknownKey { nearest });
            return None;
        };
        if key.map_index().is_some() {
            let why = "an action sets one value, not a map";
            self.fault(
                name.node.offset,
                format!("{path}.{text}"),
                Wrong::NotHonoured(why),
            );
            return None;
        }
        let at = || format!("{path}.{text}");
        let before = self.notes.len();
        let value = self.value(key, name.node.offset, at, &value.node)?;
        for note in &mut self.notes[before..] {
            if core::mem::take(&mut note.is_barring) {
                note.why = "it would hold mail, so this action does nothing";
            }
        }
        Some((key, value))
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediate => f.write_str("Immediate"),
            Self::Threshold(rate) => write!(f, "{rate}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetConfig(key, value) => write!(f, "SetConfig {} = {value}", key.name()),
            Self::SetDomainConfig(key, value) => {
                write!(f, "SetDomainConfig {} = {value}", key.name())
            }
            Self::Suspend
            | Self::SuspendTenant
            | Self::SuspendCampaign
            | Self::Bounce
            | Self::BounceTenant
            | Self::BounceCampaign => fmt::Debug::fmt(self, f),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<&str> = self.patterns.iter().map(Pattern::as_str).collect();
        let actions: Vec<String> = self.actions.iter().map(ToString::to_string).collect();
        let duration = span::print(self.duration);
        write!(
            f,
            "{} -> {} for {duration} ({})",
            patterns.join(" | "),
            actions.join(", "),
            self.trigger
        )
    }
}
