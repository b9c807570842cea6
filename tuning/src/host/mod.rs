//! Facts of a host as plain data, read from the files a kernel shows. Judges nothing.

mod block;
mod kind;
mod net;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

pub use block::Mount;
pub use kind::{Kind, Place};
pub use net::{Nic, TimeWait};

use tree::Tree;

/// What was seen; `None` or empty where the file is not there.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub place: Place,
    pub hostname: Option<String>,
    /// As `uname -r` prints it.
    pub release: Option<String>,
    /// The sysctl: 0 allows io_uring to all.
    pub uring_disabled: Option<u64>,
    /// Of the first CPU; empty where the architecture names none.
    pub cpu_flags: BTreeSet<String>,
    pub cpus_online: Vec<u16>,
    /// Hard limits of this process.
    pub memlock: Option<u64>,
    pub nofile: Option<u64>,
    pub is_root: bool,
    /// CPU time per second of the control group, in hundredths of a CPU.
    pub quota_percent: Option<u64>,
    /// Octets this process may have: of the machine or of its control group, whichever is less.
    pub memory: Option<u64>,
    pub somaxconn: Option<u64>,
    pub syn_backlog: Option<u64>,
    pub syn_cookies: Option<u64>,
    /// First and last ephemeral port.
    pub ports: Option<(u64, u64)>,
    /// Times a listener's queue was full, since boot.
    pub listen_drops: Option<u64>,
    /// Packets dropped because a CPU's queue was full, since boot.
    pub packet_drops: Option<u64>,
    pub time_wait: Option<BTreeMap<IpAddr, TimeWait>>,
    /// Connections tracked, and how many may be.
    pub conntrack: Option<(u64, u64)>,
    /// Network cards with a device behind them.
    pub nics: Vec<Nic>,
    pub governors: BTreeSet<String>,
    pub clocksource: Option<String>,
    /// The setting in force: always, madvise or never.
    pub huge_pages: Option<String>,
    pub mounts: Vec<Mount>,
}

impl Host {
    /// Reads `proc`, `sys` and a few files beside them under `root`, which is `/` for this host.
    pub fn read(root: &Path) -> Self {
        let tree = Tree::new(root);
        let mounts = block::mounts(&tree);
        let limits = tree.text("proc/self/limits").unwrap_or_default();
        let status = tree.text("proc/self/status").unwrap_or_default();
        Self {
            place: kind::place(&tree, &mounts),
            hostname: tree.line("proc/sys/kernel/hostname"),
            release: tree.line("proc/sys/kernel/osrelease"),
            uring_disabled: tree.number("proc/sys/kernel/io_uring_disabled"),
            cpu_flags: kind::cpu_flags(&tree),
            cpus_online: tree
                .line("sys/devices/system/cpu/online")
                .map(|list| tree::numbers(&list))
                .unwrap_or_default(),
            memlock: hard_limit(&limits, "Max locked memory"),
            nofile: hard_limit(&limits, "Max open files"),
            is_root: tree::field(&status, "Uid:").is_some_and(|uid| {
                // Real, effective, saved, of the file system.
                uid.split_whitespace().nth(1) == Some("0")
            }),
            quota_percent: quota(&tree),
            memory: memory(&tree),
            somaxconn: tree.number("proc/sys/net/core/somaxconn"),
            syn_backlog: tree.number("proc/sys/net/ipv4/tcp_max_syn_backlog"),
            syn_cookies: tree.number("proc/sys/net/ipv4/tcp_syncookies"),
            ports: tree
                .line("proc/sys/net/ipv4/ip_local_port_range")
                .and_then(|range| tree::pair(&range)),
            listen_drops: net::listen_drops(&tree),
            packet_drops: net::packet_drops(&tree),
            time_wait: net::time_wait(&tree),
            conntrack: tree
                .number("proc/sys/net/netfilter/nf_conntrack_count")
                .zip(tree.number("proc/sys/net/netfilter/nf_conntrack_max")),
            nics: net::nics(&tree),
            governors: governors(&tree),
            clocksource: tree
                .line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            huge_pages: tree
                .line("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|line| tree::chosen(&line)),
            mounts,
        }
    }

    /// The file system that holds `path`, an absolute path without links.
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        // Of two mounts on one point the later hides the earlier.
        self.mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
    }
}

fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match row.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Of control groups version 2, then 1, as a process sees its own in a namespace.
fn quota(tree: &Tree<'_>) -> Option<u64> {
    let (quota, period) = match tree.line("sys/fs/cgroup/cpu.max") {
        Some(line) => tree::pair(&line)?,
        None => (
            tree.number("sys/fs/cgroup/cpu/cpu.cfs_quota_us")?,
            tree.number("sys/fs/cgroup/cpu/cpu.cfs_period_us")?,
        ),
    };
    quota.checked_mul(100)?.checked_div(period)
}

fn memory(tree: &Tree<'_>) -> Option<u64> {
    let meminfo = tree.text("proc/meminfo")?;
    let total = tree::field(&meminfo, "MemTotal:")?;
    let total = total.strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    let group = tree
        .number("sys/fs/cgroup/memory.max")
        .or_else(|| tree.number("sys/fs/cgroup/memory/memory.limit_in_bytes"));
    Some(group.map_or(total, |limit| limit.min(total)))
}

fn governors(tree: &Tree<'_>) -> BTreeSet<String> {
    let cpus = tree.names("sys/devices/system/cpu");
    let numbered = cpus.iter().filter(|name| {
        name.strip_prefix("cpu")
            .is_some_and(|number| number.parse::<u16>().is_ok())
    });
    numbered
        .filter_map(|cpu| {
            tree.line(&format!(
                "sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"
            ))
        })
        .collect()
}
