//! The checks by name.

use crate::amount::Unit;

/// One thing that is looked at. Each has an entry of its name in every profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    IoUring,
    Kernel,
    Cpu,
    Shards,
    CpuQuota,
    Memlock,
    Nofile,
    Memory,
    Somaxconn,
    SynBacklog,
    ListenDrops,
    PacketDrops,
    PortRange,
    TimeWait,
    Conntrack,
    RxSpread,
    Governor,
    Clocksource,
    HugePages,
    Filesystem,
    WriteCache,
    Sync,
    Space,
    Inodes,
    Resolver,
    Source,
    SharedSource,
    Reverse,
}

impl Check {
    /// All of them, in the order they are told.
    pub const ALL: &[Self] = &[
        Self::IoUring,
        Self::Kernel,
        Self::Cpu,
        Self::Shards,
        Self::CpuQuota,
        Self::Memlock,
        Self::Nofile,
        Self::Memory,
        Self::Somaxconn,
        Self::SynBacklog,
        Self::ListenDrops,
        Self::PacketDrops,
        Self::PortRange,
        Self::TimeWait,
        Self::Conntrack,
        Self::RxSpread,
        Self::Governor,
        Self::Clocksource,
        Self::HugePages,
        Self::Filesystem,
        Self::WriteCache,
        Self::Sync,
        Self::Space,
        Self::Inodes,
        Self::Resolver,
        Self::Source,
        Self::SharedSource,
        Self::Reverse,
    ];

    /// As profiles, tables and JSON name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Kernel => "kernel",
            Self::Cpu => "cpu",
            Self::Shards => "shards",
            Self::CpuQuota => "cpu_quota",
            Self::Memlock => "memlock",
            Self::Nofile => "nofile",
            Self::Memory => "memory",
            Self::Somaxconn => "somaxconn",
            Self::SynBacklog => "syn_backlog",
            Self::ListenDrops => "listen_drops",
            Self::PacketDrops => "packet_drops",
            Self::PortRange => "port_range",
            Self::TimeWait => "time_wait",
            Self::Conntrack => "conntrack",
            Self::RxSpread => "rx_spread",
            Self::Governor => "governor",
            Self::Clocksource => "clocksource",
            Self::HugePages => "huge_pages",
            Self::Filesystem => "filesystem",
            Self::WriteCache => "write_cache",
            Self::Sync => "sync",
            Self::Space => "space",
            Self::Inodes => "inodes",
            Self::Resolver => "resolver",
            Self::Source => "source",
            Self::SharedSource => "shared_source",
            Self::Reverse => "reverse_dns",
        }
    }

    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Memlock | Self::Space => Unit::Octets,
            Self::Sync | Self::Resolver => Unit::Micros,
            Self::CpuQuota | Self::Memory | Self::TimeWait | Self::Conntrack => Unit::Percent,
            Self::Kernel => Unit::Release,
            Self::IoUring
            | Self::Cpu
            | Self::Shards
            | Self::Nofile
            | Self::Somaxconn
            | Self::SynBacklog
            | Self::ListenDrops
            | Self::PacketDrops
            | Self::PortRange
            | Self::RxSpread
            | Self::Governor
            | Self::Clocksource
            | Self::HugePages
            | Self::Filesystem
            | Self::WriteCache
            | Self::Inodes
            | Self::Source
            | Self::SharedSource
            | Self::Reverse => Unit::Count,
        }
    }
}
