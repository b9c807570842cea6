//! Profiles: what is wanted, why, and how it is mended, as data (`tuning/profile/*.toml`).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::amount::{Amount, show};
use crate::check::Check;
use crate::host::Kind;

const METAL: &str = include_str!("../profile/metal.toml");
const VM: &str = include_str!("../profile/vm.toml");
const CONTAINER: &str = include_str!("../profile/container.toml");

/// Words named of those that will do.
const WORDS_MAX: usize = 3;

/// A profile that is not whole; a fault of the file, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    Toml(String),
    /// An entry for a check that does not exist.
    Unknown(String),
    /// A check without an entry.
    Missing(&'static str),
    /// An entry without a reason.
    Unreasoned(&'static str),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(said) => write!(f, "{said}"),
            Self::Unknown(name) => write!(f, "[{name}] is no check"),
            Self::Missing(name) => write!(f, "[{name}] is missing"),
            Self::Unreasoned(name) => write!(f, "[{name}] gives no `why`"),
        }
    }
}

/// What is wanted of one check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    at_least: Option<Amount>,
    at_most: Option<Amount>,
    #[serde(default)]
    one_of: Vec<String>,
    /// Why it is not judged here: somebody else decides it.
    pub skip: Option<String>,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub fix: String,
    /// Lines of sysctl.d(5).
    #[serde(default)]
    pub sysctl: Vec<String>,
    /// Lines of the unit's `[Service]` section.
    #[serde(default)]
    pub unit: Vec<String>,
    #[serde(default)]
    pub shell: Vec<String>,
}

impl Want {
    pub(crate) fn at_least(&self) -> Option<u64> {
        self.at_least.map(|amount| amount.0)
    }

    pub(crate) fn allows_number(&self, number: u64, at_least: Option<u64>) -> bool {
        let enough = at_least.is_none_or(|least| number >= least);
        enough && self.at_most.is_none_or(|most| number <= most.0)
    }

    pub(crate) fn allows_word(&self, word: &str) -> bool {
        self.one_of.iter().any(|one| one == word)
    }

    /// In words, and the bare number or first word for a script.
    pub(crate) fn shown(&self, check: Check, at_least: Option<u64>) -> (String, String) {
        let unit = check.unit();
        match (at_least, self.at_most, self.one_of.split_last()) {
            (Some(least), _, _) => (format!("at least {}", show(least, unit)), least.to_string()),
            (None, Some(Amount(0)), _) => ("none".into(), "0".into()),
            (None, Some(most), _) => (
                format!("at most {}", show(most.0, unit)),
                most.0.to_string(),
            ),
            (None, None, Some((last, []))) => (last.clone(), last.clone()),
            (None, None, Some((_, others))) if others.len() >= WORDS_MAX => (
                format!("{}, …", others[..WORDS_MAX - 1].join(", ")),
                self.one_of[0].clone(),
            ),
            (None, None, Some((last, others))) => (
                format!("{} or {last}", others.join(", ")),
                self.one_of[0].clone(),
            ),
            (None, None, None) => ("—".into(), String::new()),
        }
    }
}

/// An entry for each check.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: &'static str,
    wants: BTreeMap<Check, Want>,
}

impl Profile {
    /// The profile for a host of `kind`. What its file does not say is as on metal.
    ///
    /// # Errors
    /// When the built-in data is not whole, which a test excludes.
    pub fn of(kind: Kind) -> Result<Self, Misfit> {
        let mut profile = Self {
            name: kind.name(),
            wants: read(METAL)?,
        };
        match kind {
            Kind::Metal => {}
            Kind::Vm => profile.wants.extend(read(VM)?),
            Kind::Container => profile.wants.extend(read(CONTAINER)?),
        }
        match Check::ALL
            .iter()
            .find(|check| !profile.wants.contains_key(check))
        {
            Some(check) => Err(Misfit::Missing(check.name())),
            None => Ok(profile),
        }
    }

    pub fn want(&self, check: Check) -> &Want {
        // `of` has looked that none is missing.
        &self.wants[&check]
    }
}

fn read(text: &str) -> Result<BTreeMap<Check, Want>, Misfit> {
    let wants: BTreeMap<String, Want> =
        toml::from_str(text).map_err(|error| Misfit::Toml(error.to_string()))?;
    let known = |name: &str| {
        Check::ALL
            .iter()
            .copied()
            .find(|check| check.name() == name)
    };
    wants
        .into_iter()
        .map(|(name, want)| match known(&name) {
            None => Err(Misfit::Unknown(name)),
            Some(check) if want.why.is_empty() => Err(Misfit::Unreasoned(check.name())),
            Some(check) => Ok((check, want)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_has_a_reason_for_each_check() {
        for kind in [Kind::Metal, Kind::Vm, Kind::Container] {
            let profile = Profile::of(kind).unwrap_or_else(|misfit| panic!("{kind:?}: {misfit}"));
            for check in Check::ALL {
                let want = profile.want(*check);
                assert!(
                    want.skip.is_some() || !want.fix.is_empty(),
                    "{kind:?}: {check:?} says no fix"
                );
                assert!(
                    want.skip.is_some()
                        || want.at_least.is_some()
                        || want.at_most.is_some()
                        || !want.one_of.is_empty(),
                    "{kind:?}: {check:?} wants nothing"
                );
            }
        }
    }

    #[test]
    fn a_container_is_told_nothing_that_it_cannot_do() {
        let profile = Profile::of(Kind::Container).unwrap();
        for check in Check::ALL {
            let want = profile.want(*check);
            let has_steps = [&want.sysctl, &want.unit, &want.shell];
            assert!(has_steps.iter().all(|steps| steps.is_empty()), "{check:?}");
        }
    }

    #[test]
    fn a_profile_that_is_not_whole_is_named() {
        let misfit = |text| read(text).map(|_| ()).unwrap_err();
        assert_eq!(misfit("[sink]\nwhy = 'x'"), Misfit::Unknown("sink".into()));
        assert_eq!(misfit("[cpu]\nfix = 'x'"), Misfit::Unreasoned("cpu"));
        assert!(matches!(misfit("[cpu]\nwry = 'x'"), Misfit::Toml(_)));
        assert!(matches!(misfit("[cpu]\nat_least = 'x'"), Misfit::Toml(_)));
    }
}
