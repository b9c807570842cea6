//! Whether this host can run what the configuration asks for: one judgement, for the start of the
//! node and for `posthaste doctor`.

use std::collections::BTreeSet;
use std::sync::Arc;

use posthaste_tuning::{Check, Refusal};

use super::boot::{Broken, Files};
use super::plan::cpus;
use crate::cli::{Exit, Grounds};
use crate::config::Config;
use crate::rt::{Unfit, owns, probe};

/// A node that holds nothing, measured with two shards: 55 MiB.
const OWN_OCTETS: u64 = 64 << 20;
/// Of an idle session, measured.
const SESSION_OCTETS: u64 = 2560;

/// What the start-up check found.
pub(super) struct Standing {
    /// The CPU of each shard; the first CPU when that cannot be.
    pub cpus: Vec<u16>,
    /// Files this process may open.
    pub files_max: u64,
    /// What is in the way. The node starts in spite of some: see [`Broken::forbids_start`].
    pub troubles: Vec<Broken>,
}

/// Looks at limits, CPUs and egress addresses. Raises the limit of open files to what is allowed.
pub(super) fn stand(config: &Config) -> Standing {
    let mut troubles = Vec::new();
    let cpus = cpus(&config.node.shards).unwrap_or_else(|said| {
        troubles.push(Broken::Wanted(said));
        vec![0]
    });
    let shards = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
    let files_max = probe(shards).unwrap_or_else(|unfit| {
        troubles.push(Broken::Host(unfit));
        0
    });
    let mut seen = BTreeSet::new();
    troubles.extend(config.sources_enabled().filter_map(|source| {
        let address = source.own().filter(|address| seen.insert(*address))?;
        let error = owns(address).err()?;
        let name = Arc::clone(&source.name);
        Some(Broken::Source {
            name,
            address,
            error,
        })
    }));
    Standing {
        cpus,
        files_max,
        troubles,
    }
}

/// What `posthaste doctor` needs to know. `exit` is the status with which the node would end.
pub fn grounds(config: &Config, exit: fn(&Broken) -> Exit) -> Grounds {
    let standing = stand(config);
    let sessions = sessions_max(config);
    let spool = &config.spool;
    // Bodies that wait for delivery, and as much again being received.
    let bodies = spool.bodies_octets_max.saturating_mul(2);
    Grounds {
        cpus: standing.cpus,
        files: Files::wanted(sessions),
        memory: OWN_OCTETS
            .saturating_add(spool.memtable_octets_max)
            .saturating_add(bodies)
            .saturating_add(spool.queue_octets_max)
            .saturating_add(sessions.saturating_mul(SESSION_OCTETS)),
        resolvers: config.dns_options().resolvers,
        refusals: standing
            .troubles
            .iter()
            .filter_map(|trouble| refusal(trouble, exit))
            .collect(),
    }
}

fn sessions_max(config: &Config) -> u64 {
    let of_each = config
        .listeners
        .iter()
        .map(|listener| listener.connections_max);
    of_each.map(u64::from).sum()
}

fn refusal(trouble: &Broken, exit: fn(&Broken) -> Exit) -> Option<Refusal> {
    let (check, subject, found) = match trouble {
        Broken::Host(Unfit::Uring(_)) => (Check::IoUring, None, "not given"),
        Broken::Host(Unfit::Cpu) => (Check::Cpu, None, ""),
        Broken::Host(Unfit::Memlock { .. }) => (Check::Memlock, None, ""),
        Broken::Host(Unfit::Nofile { .. }) => (Check::Nofile, None, ""),
        Broken::Wanted(_) => (Check::Shards, None, "CPUs it may not use"),
        Broken::Source { address, .. } => {
            (Check::Source, Some(address.to_string()), "not on this host")
        }
        Broken::Bind { .. }
        | Broken::Spool(_)
        | Broken::Log(_)
        | Broken::Shaping(_)
        | Broken::Throttle(_)
        | Broken::Control(_)
        | Broken::Signals(_)
        | Broken::Shard { .. } => return None,
    };
    Some(Refusal {
        check,
        subject,
        found: found.into(),
        said: trouble.to_string(),
        exit: exit(trouble) as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, Settings, check};

    fn config(overrides: Vec<Override>) -> Config {
        let settings = Settings {
            overrides,
            ..Settings::default()
        };
        check(&settings).unwrap()
    }

    #[test]
    fn a_foreign_source_is_told_and_keeps_nothing_from_starting() {
        let sources = ["127.0.0.9", "192.0.2.9"].into_iter();
        let config = config(vec![Override::list("delivery.sources", "x", sources)]);
        let standing = stand(&config);
        let [trouble] = standing.troubles.as_slice() else {
            panic!("{:?}", standing.troubles)
        };
        assert!(!trouble.forbids_start());
        let grounds = grounds(&config, |_| Exit::Config);
        assert_eq!(grounds.refusals[0].subject.as_deref(), Some("192.0.2.9"));
        assert_eq!(grounds.refusals[0].exit, 78);
        assert!(grounds.refusals[0].said.contains("192.0.2.9"));
    }

    #[test]
    fn the_address_of_a_configured_source_is_tried_where_this_host_must_have_it() {
        let file = "[[source]]\nname = \"a\"\naddress = \"192.0.2.9\"\n\
            [[source]]\nname = \"b\"\naddress = \"192.0.2.9\"\nehlo_name = \"b.example\"\n\
            [[source]]\nname = \"off\"\naddress = \"192.0.2.10\"\nenabled = false\n\
            [[source]]\nname = \"ha\"\naddress = \"192.0.2.11\"\n\
            proxy = { kind = \"haproxy-v1\", server = \"127.0.0.1:1\" }\n";
        let settings = Settings {
            file: Some(("a.toml".into(), file.into())),
            ..Settings::default()
        };
        let standing = stand(&check(&settings).unwrap());
        let [Broken::Source { name, address, .. }] = standing.troubles.as_slice() else {
            panic!("{:?}", standing.troubles)
        };
        assert_eq!((&**name, address.to_string().as_str()), ("a", "192.0.2.9"));
    }

    #[test]
    fn more_shards_than_cpus_forbid_the_start() {
        let config = config(vec![Override::text("node.shards", "shards", "1024")]);
        let standing = stand(&config);
        assert!(standing.troubles.iter().all(Broken::forbids_start));
        let grounds = grounds(&config, |_| Exit::Config);
        assert_eq!(grounds.refusals[0].check, Check::Shards);
    }

    #[test]
    fn all_listeners_count() {
        let listeners = ["127.0.0.1:1025", "127.0.0.1:1026"];
        let listeners = (0..).zip(listeners).map(|(index, address)| {
            Override::text(&format!("listener[{index}].address"), "listen", address)
        });
        let grounds = grounds(&config(listeners.collect()), |_| Exit::Config);
        assert_eq!(grounds.files, Files::wanted(40_000));
        assert!(grounds.memory > 40_000 * SESSION_OCTETS + (256 << 20) * 3);
    }
}
