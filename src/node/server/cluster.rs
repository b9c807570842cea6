//! This node among others: limits leased through Redis, and overrides that hold on all nodes.

use std::fs;
use std::sync::Arc;

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::limit::{LimitId, Loss, Shards};
use posthaste_core::shaping::{Key, Overrides, TargetKind, Wish};
use posthaste_core::words::Moment;
use serde_json::{Value, json};

use super::boot::Broken;
use super::shaper::Hold;
use crate::config::{Config, Redis, RedisKind, RedisLoss};
use crate::control::Target;
use crate::throttle::{self, Noted, Options, Password, Throttle, Topology};

/// What shared limits do while Redis is away; `None` without Redis.
pub(super) fn sharing(config: &Config) -> Option<Loss> {
    config.redis.as_ref().map(|redis| match redis.on_loss {
        RedisLoss::LastShare => Loss::LastShare,
        RedisLoss::Stop => Loss::Stop,
    })
}

/// # Errors
/// When the configuration names what cannot be used. That Redis is away is none.
pub(super) fn start(config: &Config, hold: &Arc<Hold>) -> Result<Option<Throttle>, Broken> {
    let Some(redis) = &config.redis else {
        return Ok(None);
    };
    let node = Arc::new(Member {
        hold: Arc::clone(hold),
    });
    let registry = Arc::clone(&hold.shapes().registry);
    let throttle = throttle::start(options(config, redis)?, registry, node)?;
    Ok(Some(throttle))
}

fn options(config: &Config, redis: &Redis) -> Result<Options, Broken> {
    let authorities = match &redis.tls_ca {
        None => None,
        Some(path) => Some(fs::read(path).map_err(|error| {
            Broken::Wanted(format!("redis.tls_ca: {}: {error}", path.display()))
        })?),
    };
    Ok(Options {
        // Several nodes of one host have one name, and an address of their own.
        node: format!("{} {}", config.node.nodeid, config.listeners[0].address),
        topology: match &redis.kind {
            RedisKind::Single => Topology::Single,
            RedisKind::Sentinel { master } => Topology::Sentinel {
                master: master.clone(),
            },
            RedisKind::Cluster => Topology::Cluster,
        },
        urls: redis.urls.clone(),
        user: redis.user.clone(),
        password: redis
            .password
            .as_ref()
            .map(|word| Password::new(word.reveal())),
        authorities,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
    })
}

struct Member {
    hold: Arc<Hold>,
}

impl throttle::Node for Member {
    fn freed(&self, limit: LimitId, shards: Shards) {
        self.hold.tell_freed(limit, shards);
    }

    fn noted(&self, noted: Noted) {
        // Notes of another kind are for another release.
        let Some(target) = target_of(&noted.key) else {
            return;
        };
        let wish = noted
            .text
            .as_deref()
            .and_then(|text| wish_of(&target, text, noted.until));
        let now = crate::rt::now();
        match wish {
            // One that has expired on its way is none.
            Some(wish) => drop(self.hold.set_override(wish, now)),
            None => drop(self.hold.cancel_override(&target, now)),
        }
    }

    fn say(&self, line: &str) {
        super::boot::tell(&format!("posthaste: {line}\n"));
    }
}

/// The name of the note that tells of an override.
pub(super) fn note_key(target: &Target) -> String {
    json!([
        "override",
        target.kind.name(),
        target.name,
        target.source,
        target.key.name()
    ])
    .to_string()
}

/// Its text.
pub(super) fn note_text(wish: &Wish) -> String {
    json!({ "value": wish.value.to_string(), "reason": wish.reason, "by": wish.by }).to_string()
}

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
    })
}

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

/// The same shaping under other overrides.
pub(super) fn with_overrides(before: &Shapes, overrides: Overrides) -> Shapes {
    Shapes {
        shaping: Arc::clone(&before.shaping),
        overrides,
        registry: Arc::clone(&before.registry),
        sharing: before.sharing,
    }
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
            let target = Target {
                kind: wish.kind,
                name: wish.name.clone(),
                source: wish.source.clone(),
                key,
            };
            let read = target_of(&note_key(&target)).unwrap();
            assert_eq!(wish_of(&read, &note_text(&wish), until), Some(wish));
        }
        assert!(target_of("[\"suspension\"]").is_none() && target_of("x").is_none());
    }
}
