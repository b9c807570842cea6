//! What of shaping outlives a restart: overrides, and what is gone of slow rates. One small file beside
//! the spool's own, replaced as a whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use posthaste_core::shaping::limit::{Consumed, Pace, Registry};
use posthaste_core::shaping::{LimitKey, Limited, Overrides, Scope};
use posthaste_core::words::Moment;
use serde_json::{Value, json};

use super::hold::{Hold, Snapshot, notes_of};
use super::notes::{About, about, wish_of};

const FILE: &str = "shaping.json";
/// So often it is written down what is gone of rates.
const RATES_EVERY: Duration = Duration::from_secs(5);
/// Of shorter periods nothing is left when the next run begins.
const PERIOD_MIN: Duration = Duration::from_secs(60);

/// What the last run left.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub overrides: Overrides,
    /// Those that Redis knew, by the names of their notes.
    pub shared: BTreeSet<String>,
    pub epoch: Option<String>,
    pub rates: Vec<Consumed>,
    /// What could not be read, for the operator.
    pub remarks: Vec<String>,
}

/// One per node, in its main thread.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    written: Option<String>,
    change: Option<u64>,
    next_rates: Instant,
    is_failing: bool,
}

impl Kept {
    /// Reads what the last run left in `folder`; a file that cannot be read is told and passed over, as
    /// mail must go on.
    pub(super) fn open(folder: &Path, now: Moment) -> (Self, Before) {
        let path = folder.join(FILE);
        let before = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Before::default(),
            Err(error) => Before {
                remarks: vec![error.to_string()],
                ..Before::default()
            },
        };
        let kept = Self {
            path,
            written: None,
            change: None,
            next_rates: Instant::now() + RATES_EVERY,
            is_failing: false,
        };
        (kept, before)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called often: writes what has changed. What an operator is to know is returned.
    pub(super) fn keep(&mut self, hold: &Hold, now: Moment) -> Option<String> {
        let is_due = Instant::now() >= self.next_rates;
        if self.change == Some(hold.changes()) && !is_due {
            return None;
        }
        self.next_rates = Instant::now() + RATES_EVERY;
        self.write(hold, &hold.snapshot(), now)
    }

    /// Writes all, at the end of a run.
    pub(super) fn keep_last(&mut self, hold: &Hold, now: Moment) -> Option<String> {
        self.write(hold, &hold.snapshot(), now)
    }

    fn write(&mut self, hold: &Hold, snapshot: &Snapshot, now: Moment) -> Option<String> {
        let text = print(snapshot, &hold.shapes().registry, now);
        let is_written = self.written.as_ref() == Some(&text);
        let is_nothing = self.written.is_none() && text == NOTHING && !self.path.exists();
        let done = if is_written || is_nothing {
            Ok(())
        } else {
            replace(&self.path, &text)
        };
        let was_failing = core::mem::replace(&mut self.is_failing, done.is_err());
        match done {
            Ok(()) => {
                self.written = Some(text);
                self.change = Some(snapshot.change);
                hold.set_kept(snapshot.change);
                was_failing.then(|| format!("{} can be written again", self.path.display()))
            }
            Err(error) if !was_failing => Some(format!(
                "{}: {error}: a restart would forget overrides",
                self.path.display()
            )),
            Err(_) => None,
        }
    }
}

/// All of the new text or all of the old, whenever the power fails.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Without overrides and rates.
const NOTHING: &str = "{\n  \"notes\": [],\n  \"rates\": [],\n  \"redis\": null\n}\n";

fn print(snapshot: &Snapshot, registry: &Registry, now: Moment) -> String {
    let notes = notes_of(&snapshot.overrides).into_iter();
    let notes = notes.filter(|(_, (_, until))| *until > now);
    let notes: Vec<Value> = notes
        .map(|(key, (text, until))| {
            let shared = snapshot.shared.contains(&key);
            json!({ "key": key, "text": text, "until": until.as_micros(), "shared": shared })
        })
        .collect();
    let rates = registry.consumed(PERIOD_MIN, now);
    let rates: Vec<Value> = rates.iter().map(rate_text).collect();
    let all = json!({ "notes": notes, "rates": rates, "redis": snapshot.epoch });
    format!("{all:#}\n")
}

fn rate_text(of: &Consumed) -> Value {
    let period = u64::try_from(of.rate.period().as_micros()).unwrap_or(u64::MAX);
    json!({
        "limited": of.name.limited.name(), "scope": of.name.scope.name(), "name": of.name.name,
        "count": of.rate.count(), "period": period, "burst": of.rate.burst(), "until": of.until.as_micros(),
    })
}

fn parse(text: &str, now: Moment) -> Before {
    let all: Value = match serde_json::from_str(text) {
        Ok(all) => all,
        Err(error) => {
            return Before {
                remarks: vec![error.to_string()],
                ..Before::default()
            };
        }
    };
    let mut before = Before {
        epoch: all["redis"].as_str().map(Into::into),
        ..Before::default()
    };
    for note in all["notes"].as_array().into_iter().flatten() {
        if let Err(remark) = before.take_note(note, now) {
            before.remarks.push(remark);
        }
    }
    let rates = all["rates"].as_array().into_iter().flatten();
    before.rates = rates.filter_map(rate_of).collect();
    before.rates.retain(|rate| rate.until > now);
    before
}

impl Before {
    fn take_note(&mut self, note: &Value, now: Moment) -> Result<(), String> {
        let key = note["key"].as_str().unwrap_or_default();
        let until = Moment::from_micros(note["until"].as_u64().unwrap_or(0));
        if until <= now {
            return Ok(());
        }
        let text = note["text"].as_str().unwrap_or_default();
        let unknown = || format!("an override that is not understood: {key}");
        match about(key).ok_or_else(unknown)? {
            About::Override(target) => {
                let wish = wish_of(&target, text, until).ok_or_else(unknown)?;
                let set = self.overrides.set(wish, now);
                set.map_err(|wrong| format!("an override that cannot be: {wrong}"))?;
            }
            About::TakenBack(target) => target.take_back(&mut self.overrides, until),
        }
        if note["shared"] == true {
            self.shared.insert(key.into());
        }
        Ok(())
    }
}

fn rate_of(text: &Value) -> Option<Consumed> {
    let period = Duration::from_micros(text["period"].as_u64()?);
    Some(Consumed {
        name: LimitKey {
            limited: Limited::find(text["limited"].as_str()?)?,
            scope: Scope::find(text["scope"].as_str()?)?,
            name: text["name"].as_str()?.into(),
        },
        rate: Pace::new(text["count"].as_u64()?, period, text["burst"].as_u64()?).ok()?,
        until: Moment::from_micros(text["until"].as_u64()?),
    })
}

#[cfg(test)]
mod tests {
    use posthaste_core::dispatch::Shapes;
    use posthaste_core::shaping::{Key, TargetKind, Wish};

    use super::*;
    use crate::control::Target;
    use crate::mesh::mesh;

    const NOW: Moment = Moment::from_secs(1_900_000_000);

    fn wish(value: &str, secs: u64) -> Wish {
        let (key, value) = Key::read("connection_limit", value).unwrap();
        Wish {
            kind: TargetKind::Site,
            name: "mx.example".into(),
            source: None,
            key,
            value,
            expires: NOW + Duration::from_secs(secs),
            reason: "they \"asked\"".into(),
            by: "me".into(),
        }
    }

    fn hold(before: &Before) -> Hold {
        let shapes = Shapes {
            overrides: before.overrides.clone(),
            ..Shapes::default()
        };
        shapes.registry.remember(before.rates.clone());
        Hold::new(mesh(1).0, shapes, before)
    }

    #[test]
    fn overrides_and_slow_rates_outlive_a_restart_and_expire_as_they_would_have() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, before) = Kept::open(folder.path(), NOW);
        let first = hold(&before);
        assert_eq!(kept.keep(&first, NOW), None);
        assert!(!kept.path().exists(), "there is nothing to keep");
        first.set_override(wish("3", 3600), NOW).unwrap();
        first.set_epoch("memory");
        assert!(!first.is_kept());
        let name = LimitKey {
            limited: Limited::Messages,
            scope: Scope::Site,
            name: "mx.example".into(),
        };
        let day = Pace::new(10, Duration::from_secs(86_400), 10).unwrap();
        let limit = first.shapes().registry.rate(&name, day, NOW);
        limit.take(NOW).unwrap();
        assert_eq!(kept.keep(&first, NOW), None);
        assert!(first.is_kept());

        let (_, before) = Kept::open(folder.path(), NOW);
        assert_eq!(before.epoch.as_deref(), Some("memory"));
        let sets: Vec<_> = before.overrides.iter().collect();
        assert_eq!(sets[0].wish, wish("3", 3600));
        let second = hold(&before);
        let limit = second.shapes().registry.rate(&name, day, NOW);
        let left = (0..20).filter(|_| limit.take(NOW).is_ok()).count();
        assert_eq!(left, 9);

        let later = NOW + Duration::from_secs(3600);
        let (_, before) = Kept::open(folder.path(), later);
        assert_eq!(before.overrides.iter().count(), 0, "it has expired");
    }

    #[test]
    fn what_was_taken_back_from_a_rule_is_so_after_a_restart_until_it_would_have_expired() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, before) = Kept::open(folder.path(), NOW);
        let first = hold(&before);
        let of_rule = Wish {
            by: "automation, p.toml:3:1".into(),
            ..wish("3", 3600)
        };
        first.set_overrides(vec![of_rule.clone()], NOW);
        let mut target = Target::of(&of_rule);
        target.rule = None;
        assert_eq!(first.cancel_override(&target, NOW).len(), 1);
        assert_eq!(kept.keep(&first, NOW), None);

        let (_, before) = Kept::open(folder.path(), NOW);
        let second = hold(&before);
        assert!(second.set_overrides(vec![of_rule.clone()], NOW).is_empty());
        let later = NOW + Duration::from_secs(3600);
        let again = Wish {
            expires: later + Duration::from_secs(60),
            ..of_rule
        };
        assert_eq!(second.set_overrides(vec![again], later).len(), 1);
    }

    #[test]
    fn a_file_that_is_no_use_is_told_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{ torn").unwrap();
        let (mut kept, before) = Kept::open(folder.path(), NOW);
        assert_eq!(before.remarks.len(), 1, "{:?}", before.remarks);
        let hold = hold(&before);
        hold.set_override(wish("3", 60), NOW).unwrap();
        assert_eq!(kept.keep(&hold, NOW), None);
        let (_, before) = Kept::open(folder.path(), NOW);
        assert_eq!(before.overrides.iter().count(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_told_once_and_not_said_to_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let (mut kept, before) = Kept::open(&gone, NOW);
        let hold = hold(&before);
        hold.set_override(wish("3", 60), NOW).unwrap();
        let told = kept.keep(&hold, NOW).unwrap();
        assert!(told.contains("would forget"), "{told}");
        assert_eq!(kept.keep(&hold, NOW), None);
        assert!(!hold.is_kept());
        fs::create_dir(&gone).unwrap();
        assert!(kept.keep(&hold, NOW).unwrap().contains("again"));
        assert!(hold.is_kept());
    }
}
