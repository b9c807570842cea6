//! This node among others: limits leased through Redis, and overrides that hold on all nodes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use posthaste_core::shaping::limit::{LimitId, Loss, Shards};

use super::boot::Broken;
use super::hold::{Hold, notes_of};
use super::kept::Before;
use super::notes::{About, about, is_told};
use crate::config::{Config, Redis, RedisKind, RedisLoss};
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
pub(super) fn start(
    config: &Config,
    hold: &Arc<Hold>,
    before: Before,
) -> Result<Option<Throttle>, Broken> {
    let Some(redis) = &config.redis else {
        return Ok(None);
    };
    let node = Arc::new(Member {
        hold: Arc::clone(hold),
    });
    let registry = Arc::clone(&hold.shapes().registry);
    let mut known = notes_of(&hold.shapes().overrides);
    known.retain(|key, _| match about(key) {
        Some(About::Override(target) | About::TakenBack(target)) => is_told(&target),
        None => false,
    });
    let untold = known.extract_if(.., |key, _| !before.shared.contains(key));
    let untold: Vec<_> = untold.collect();
    let options = Options {
        known,
        epoch: before.epoch,
        ..options(config, redis)?
    };
    let throttle = throttle::start(options, registry, node)?;
    let (notes, now) = (throttle.notes(), crate::rt::now());
    for (key, (text, until)) in untold {
        // Other nodes hear of it when it is set anew, if so many wait.
        let _ = notes.publish(&key, &text, until.since(now));
    }
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
        known: BTreeMap::new(),
        epoch: None,
    })
}

struct Member {
    hold: Arc<Hold>,
}

impl throttle::Node for Member {
    fn freed(&self, limit: LimitId, shards: Shards) {
        self.hold.tell_freed(limit, shards);
    }

    fn noted(&self, noted: Vec<Noted>) {
        self.hold.hear(&noted, crate::rt::now());
    }

    fn joined(&self, epoch: &str) {
        self.hold.set_epoch(epoch);
    }

    fn say(&self, line: &str) {
        super::boot::tell(&format!("posthaste: {line}\n"));
    }
}
