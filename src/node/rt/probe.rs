//! Whether this host lets us run, asked before anything is opened.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::raw;

/// Locked memory one executor needs for its rings and registered buffer.
const MEMLOCK_PER_SHARD: u64 = 512 << 10;
/// Descriptors below which no mail server works: the spool's files and some hundred connections.
const NOFILE_MIN: u64 = 2048;

/// Its number in `linux/capability.h`.
const CAP_IPC_LOCK: u32 = 14;
/// What `/proc/self/uid_map` holds where ids are nobody's but the kernel's own.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// What is in the way, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the kernel gives no io_uring: {0}\n  \
         Linux 5.8 or later is needed; see `sysctl kernel.io_uring_disabled` (must be 0), and in a \
         container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    Uring(io::Error),
    #[error("this CPU has no SSE 4.2 or no PCLMULQDQ, which the spool's checksums are built with")]
    Cpu,
    #[error(
        "the limit of locked memory is {limit} octets; {shards} shards need {wanted}\n  \
         set LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`, or give CAP_IPC_LOCK, or \
         fewer shards"
    )]
    Memlock {
        limit: u64,
        wanted: u64,
        shards: u16,
    },
    #[error(
        "the limit of open files is {limit}; at least {NOFILE_MIN} are needed\n  \
         set LimitNOFILE=1048576 in the unit, or `ulimit -n 1048576`"
    )]
    Nofile { limit: u64 },
}

/// Checks the host for `shards` executors and raises the soft limit of open files to the hard one.
/// Answers how many files may be open.
pub fn probe(shards: u16) -> Result<u64, Unfit> {
    if !has_checksum_instructions() {
        return Err(Unfit::Cpu);
    }
    raw::probe_ring().map_err(Unfit::Uring)?;
    let wanted = MEMLOCK_PER_SHARD * u64::from(shards);
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit < wanted && !may_lock_all() => {
            return Err(Unfit::Memlock {
                limit,
                wanted,
                shards,
            });
        }
        Ok(_) | Err(_) => {}
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((NOFILE_MIN, NOFILE_MIN));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    if limit < NOFILE_MIN {
        return Err(Unfit::Nofile { limit });
    }
    Ok(limit)
}

/// Whether the kernel asks us for no limit of locked memory. Being root is not enough: a service may
/// have dropped the capability.
fn may_lock_all() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    holds_ipc_lock(&read("/proc/self/status"), &read("/proc/self/uid_map"))
}

/// A capability of a user namespace of our own does not count for the kernel, and looks the same.
fn holds_ipc_lock(status: &str, uid_map: &str) -> bool {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let held = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let is_first_namespace = uid_map.split_ascii_whitespace().eq(ALL_IDS);
    is_first_namespace && held.is_some_and(|held| held >> CAP_IPC_LOCK & 1 == 1)
}

/// As `.cargo/config.toml` builds RocksDB.
#[cfg(target_arch = "x86_64")]
fn has_checksum_instructions() -> bool {
    std::is_x86_feature_detected!("sse4.2") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_checksum_instructions() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_fit_and_absurd_wants_name_what_to_do() {
        assert!(probe(1).unwrap() >= NOFILE_MIN);
        let sentence = Unfit::Nofile { limit: 12 }.to_string();
        assert!(sentence.contains("LimitNOFILE"), "{sentence}");
    }

    #[test]
    fn only_a_capability_that_the_kernel_heeds_lifts_the_limit() {
        let status = |held: &str| format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{held}\n");
        let all = "         0          0 4294967295\n";
        assert!(holds_ipc_lock(&status("000001ffffffffff"), all));
        assert!(holds_ipc_lock(&status("0000000000004000"), all));
        assert!(!holds_ipc_lock(&status("000001ffffffbfff"), all));
        assert!(!holds_ipc_lock(&status("000001ffffffffff"), "0 1000 1\n"));
        assert!(!holds_ipc_lock("", all) && !holds_ipc_lock(&status("x"), all));
    }
}
