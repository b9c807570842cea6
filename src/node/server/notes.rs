//! The notes that nodes tell each other, and a node itself over a restart: an override each. Another
//! kind begins with another word.

use posthaste_core::shaping::{Key, TargetKind, Wish};
use posthaste_core::words::Moment;
use serde_json::{Value, json};

use crate::control::Target;

/// The name of the note that tells of an override.
pub(super) fn note_key(target: &Target) -> String {
    let Target {
        kind,
        name,
        source,
        key,
        rule,
    } = target;
    let mut parts = vec![
        json!("override"),
        json!(kind.name()),
        json!(name),
        json!(source),
        json!(key.name()),
    ];
    parts.extend(rule.as_ref().map(|rule| json!(rule)));
    Value::Array(parts).to_string()
}

/// Its text.
pub(super) fn note_text(wish: &Wish) -> String {
    json!({ "value": wish.value.to_string(), "reason": wish.reason, "by": wish.by }).to_string()
}

/// Whom the note of that name is about; `None` when it is of another kind.
pub(super) fn target_of(key: &str) -> Option<Target> {
    let parts: Value = serde_json::from_str(key).ok()?;
    if parts[0] != "override" {
        return None;
    }
    let kind = parts[1].as_str()?;
    Some(Target {
        kind: TargetKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)?,
        name: parts[2].as_str()?.into(),
        source: parts[3].as_str().map(Into::into),
        key: Key::find(parts[4].as_str()?)?,
        rule: parts[5].as_str().map(Into::into),
    })
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
            let read = target_of(&note_key(&target)).unwrap();
            assert_eq!(read, target);
            assert_eq!(
                wish_of(&read, &note_text(&wish), until).as_ref(),
                Some(&wish)
            );
            // What a rule has set is another note, and names the rule.
            let of_rule = Wish {
                by: "automation, p.toml:3:1".into(),
                ..wish
            };
            let name = note_key(&Target::of(&of_rule));
            assert!(name != note_key(&target) && name.contains("p.toml:3:1"));
            let read = target_of(&name).unwrap();
            assert_eq!(wish_of(&read, &note_text(&of_rule), until), Some(of_rule));
        }
        assert!(target_of("[\"suspension\"]").is_none() && target_of("x").is_none());
    }
}
