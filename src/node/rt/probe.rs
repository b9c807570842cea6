//! Whether this host lets us run, asked before anything is opened.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::raw;

/// Locked memory one executor needs for its rings and registered buffer.
const MEMLOCK_PER_SHARD: u64 = 512 << 10;
/// Descriptors below which no mail server works: the spool's files and some hundred connections.
const NOFILE_MIN: u64 = 2048;

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
         set LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`, or fewer shards"
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
        // Root may lock what it likes.
        Ok((limit, _)) if limit < wanted && !nix::unistd::geteuid().is_root() => {
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
}
