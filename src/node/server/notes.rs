//! The notes that nodes tell each other, and a node itself over a restart: an override each, or that one
//! was taken back. Another kind begins with another word.

use posthaste_core::shaping::{Key, TargetKind, Wish};
use posthaste_core::words::Moment;
use serde_json::{Value, json};

use crate::control::Target;

/// What a note is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Override(Target),
    /// Somebody has taken back what a rule had set.
    TakenBack(Target),
}

const OVERRIDE: &str = "override";
const TAKEN_BACK: &str = "taken back";

/// The name of the note that tells of an override.
pub(super) fn note_key(target: &Target) -> String {
    name(OVERRIDE, target)
}

/// The name of the note that tells that it was taken back.
pub(super) fn back_key(target: &Target) -> String {
    name(TAKEN_BACK, target)
}

/// The text of such a note.
pub(super) const BACK_TEXT: &str = "{}";

fn name(what: &str, target: &Target) -> String {
    let Target {
        kind,
        name,
        source,
        key,
        rule,
    } = target;
    let mut parts = vec![
        json!(what),
        json!(kind.name()),
        json!(name),
        json!(source),
        json!(key.name()),
    ];
    parts.extend(rule.as_ref().map(|rule| json!(rule)));
    Value::Array(parts).to_string()
}

/// Whether other nodes are to hear of it: a rule of a node whose sources have no name speaks of an address
/// that is not theirs.
pub(super) fn is_told(target: &Target) -> bool {
    let is_of_path = matches!(target.kind, TargetKind::Site | TargetKind::Domain);
    target.rule.is_none() || !is_of_path || target.source.is_some()
}

/// Its text.
pub(super) fn note_text(wish: &Wish) -> String {
    json!({ "value": wish.value.to_string(), "reason": wish.reason, "by": wish.by }).to_string()
}

/// What the note of that name is about; `None` when it is of another kind.
pub(super) fn about(key: &str) -> Option<About> {
    let parts: Value = serde_json::from_str(key).ok()?;
    let kind = parts[1].as_str()?;
    let target = Target {
        kind: TargetKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)?,
        name: parts[2].as_str()?.into(),
        source: parts[3].as_str().map(Into::into),
        key: Key::find(parts[4].as_str()?)?,
        rule: parts[5].as_str().map(Into::into),
    };
    match parts[0].as_str()? {
        OVERRIDE => Some(About::Override(target)),
        TAKEN_BACK if target.rule.is_some() => Some(About::TakenBack(target)),
        _ => None,
    }
}

/// What it says; `None` when it cannot be understood.
pub(super) fn wish_of(target: &Target, text: &str, until: Moment) -> Option<Wish> {
    let said: Value = serde_json::from_str(text).ok()?;
    let value = said["value"].as_str()?;
    let (key, value) = Key::read(target.key.name(), value.trim_matches('"')).ok()?;
    Some(Wish {
        kind: target.kind,
        name: target.name.clone(),
        source: target.source.clone(),
        key,
        value,
        expires: until,
        reason: said["reason"].as_str().unwrap_or_default().into(),
        by: said["by"].as_str().unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_an_address_without_a_name_is_not_for_other_nodes() {
        for (kind, source, rule, told) in [
            (
                TargetKind::Site,
                None,
                Some("automation, p.toml:3:1"),
                false,
            ),
            (
                TargetKind::Site,
                Some("a"),
                Some("automation, p.toml:3:1"),
                true,
            ),
            (
                TargetKind::Queue,
                None,
                Some("automation, p.toml:3:1"),
                true,
            ),
            (TargetKind::Site, None, None, true),
        ] {
            let target = Target {
                kind,
                name: "x".into(),
                source: source.map(Into::into),
                key: Key::find("suspended").unwrap(),
                rule: rule.map(Into::into),
            };
            assert_eq!(is_told(&target), told, "{target:?}");
        }
    }

    #[test]
    fn an_override_survives_its_way_as_a_note() {
        for (key, value) in [
            ("max_message_rate", "10/s,max_burst=5"),
            ("connection_limit", "local:3"),
            ("connect_timeout", "90s"),
            ("enable_pipelining", "false"),
            ("ehlo_domain", "mta.example"),
        ] {
            let (key, value) = Key::read(key, value).unwrap();
            let until = Moment::from_secs(2_000_000_000);
            let wish = Wish {
                kind: TargetKind::Site,
                name: "mx.example".into(),
                source: Some("a".into()),
                key,
                value,
                expires: until,
                reason: "r".into(),
                by: "b".into(),
            };
            let target = Target::of(&wish);
            assert_eq!(
                about(&note_key(&target)),
                Some(About::Override(target.clone()))
            );
            let read = wish_of(&target, &note_text(&wish), until);
            assert_eq!(read.as_ref(), Some(&wish));
            // What a rule has set is another note, and names the rule.
            let of_rule = Wish {
                by: "automation, p.toml:3:1".into(),
                ..wish
            };
            let name = note_key(&Target::of(&of_rule));
            assert!(name != note_key(&target) && name.contains("p.toml:3:1"));
            let target = Target::of(&of_rule);
            assert_eq!(about(&name), Some(About::Override(target.clone())));
            assert_eq!(
                about(&back_key(&target)),
                Some(About::TakenBack(target.clone()))
            );
            assert_eq!(wish_of(&target, &note_text(&of_rule), until), Some(of_rule));
        }
        assert!(about("[\"suspension\"]").is_none() && about("x").is_none());
    }
}
