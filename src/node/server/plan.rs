//! Which CPUs shards run on.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::config::Shards;

/// The CPU of each shard, and why that cannot be done.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn cpus(wanted: &Shards) -> Result<Vec<u16>, String> {
    let usable = usable();
    match wanted {
        Shards::All => Ok(usable),
        Shards::Count(count) if usize::from(*count) <= usable.len() => {
            Ok(usable[..usize::from(*count)].to_vec())
        }
        Shards::Count(count) => Err(format!(
            "node.shards is {count}, and this process may use {} CPUs",
            usable.len()
        )),
        Shards::Cpus(cpus) => match cpus.iter().find(|cpu| !usable.contains(cpu)) {
            None => Ok(cpus.clone()),
            Some(cpu) => Err(format!(
                "node.shards names CPU {cpu}, which this process may not use; it may use {usable:?}"
            )),
        },
    }
}

fn usable() -> Vec<u16> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return vec![0];
    };
    let cpus = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true));
    cpus.filter_map(|cpu| u16::try_from(cpu).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_shards_than_cpus_are_refused_in_words() {
        let all = cpus(&Shards::All).unwrap();
        assert!(!all.is_empty());
        assert_eq!(cpus(&Shards::Count(1)).unwrap(), all[..1]);
        assert!(cpus(&Shards::Count(5000)).unwrap_err().contains("may use"));
        assert!(cpus(&Shards::Cpus(vec![5000])).is_err());
    }
}
