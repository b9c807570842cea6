//! Each judgement on a made-up host, on both sides of its bound.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::check::Check;
use crate::finding::{Finding, Verdict};
use crate::host::Kind;

/// Files of a machine of which nothing bad can be said.
const GOOD: &[(&str, &str)] = &[
    ("proc/sys/kernel/hostname", "mx\n"),
    ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/cpuinfo", "flags\t\t: fpu sse4_2 pclmulqdq\n"),
    ("sys/devices/system/cpu/online", "0-1\n"),
    (
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            1024                 65536                files\n\
         Max locked memory         8388608              2097152              bytes\n",
    ),
    (
        "proc/self/status",
        "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n",
    ),
    ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
    (
        "proc/meminfo",
        "MemTotal:        4194304 kB\nMemFree: 1 kB\n",
    ),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "0\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "15000\t64999\n"),
    (
        "proc/net/netstat",
        "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 9999 100\n",
    ),
    (
        "proc/net/softnet_stat",
        "00ff 00000060 0\n00ff 00000004 0\n",
    ),
    ("proc/net/tcp", "  sl  local_address rem_address   st\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "500\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "1000\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/device/msi_irqs/40", "msi\n"),
    ("sys/class/net/eth0/device/msi_irqs/41", "msi\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    (
        "proc/interrupts",
        "      CPU0  CPU1\n 40:  500  0  PCI-MSI eth0-rx-0\n 41:  0  500  PCI-MSI eth0-rx-1\n",
    ),
    ("sys/class/net/lo/operstate", "unknown\n"),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    (
        "proc/self/mountinfo",
        "21 20 0:20 / /tmp rw - tmpfs tmpfs rw\n\
         20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n",
    ),
    ("sys/devices/sda/queue/write_cache", "write back\n"),
    ("sys/devices/sda/sda1/partition", "1\n"),
];

struct Case {
    root: tempfile::TempDir,
    wanted: Wanted,
    measured: Measured,
    refusals: Vec<Refusal>,
    kind: Kind,
}

impl Case {
    fn good() -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in GOOD {
            put(root.path(), name, text);
        }
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        symlink(
            "../../devices/sda/sda1",
            root.path().join("sys/dev/block/8:1"),
        )
        .unwrap();
        let space = Space {
            free_octets: 4 << 30,
            free_inodes: Some(10_000),
        };
        let latency = |p99| Latency { p50: p99, p99 };
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let resolver: SocketAddr = "127.0.0.1:53".parse().unwrap();
        Self {
            root,
            wanted: Wanted {
                cpus: vec![0, 1],
                files: 30_000,
                memory: 2 << 30,
                free_octets_min: 1 << 30,
                sources: vec![source],
                shares_limits: true,
                names_sources: true,
                proxied: Vec::new(),
                resolvers: vec![resolver],
                spool: "/var/spool/posthaste".into(),
            },
            measured: Measured {
                sync: Some(Ok(latency(5000))),
                spaces: vec![("/var/spool".into(), space)],
                resolvers: vec![(resolver, Ok(latency(5000)))],
                reverse: vec![(source, Reverse::Confirmed("mx.example.com".into()))],
            },
            refusals: Vec::new(),
            kind: Kind::Metal,
        }
    }

    fn file(self, name: &str, text: &str) -> Self {
        put(self.root.path(), name, text);
        self
    }

    fn without(self, name: &str) -> Self {
        fs::remove_file(self.root.path().join(name)).unwrap();
        self
    }

    fn on(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    fn wanting(mut self, change: impl FnOnce(&mut Wanted)) -> Self {
        change(&mut self.wanted);
        self
    }

    fn measuring(mut self, change: impl FnOnce(&mut Measured)) -> Self {
        change(&mut self.measured);
        self
    }

    fn refusing(mut self, refusal: Refusal) -> Self {
        self.refusals.push(refusal);
        self
    }

    fn report(&self) -> Report {
        let host = Host::read(self.root.path());
        let profile = Profile::of(self.kind).unwrap();
        judge(
            &host,
            &self.wanted,
            &self.measured,
            &self.refusals,
            &profile,
        )
    }

    fn finding(&self, check: Check) -> Finding {
        let found = self
            .report()
            .findings
            .into_iter()
            .find(|f| f.check == check);
        found.unwrap_or_else(|| panic!("{check:?} is judged"))
    }

    #[track_caller]
    fn is(&self, check: Check, verdict: Verdict) {
        let finding = self.finding(check);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
    }
}

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_good_host_is_well_at_each_bound() {
    let report = Case::good().report();
    for finding in &report.findings {
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
        assert_eq!((finding.fix.as_str(), finding.steps.len()), ("", 0));
    }
    let checks: Vec<Check> = report.findings.iter().map(|f| f.check).collect();
    assert_eq!(checks, Check::ALL, "each once, in order");
    assert_eq!(report.exit(true), 0);
}

/// One file each that is not as it should be, by the least there is.
const BAD: &[(Check, &str, &str)] = &[
    (Check::IoUring, "proc/sys/kernel/io_uring_disabled", "1"),
    (Check::Kernel, "proc/sys/kernel/osrelease", "5.18.99"),
    (Check::Cpu, "proc/cpuinfo", "flags : fpu sse4_2\n"),
    (Check::Shards, "sys/devices/system/cpu/online", "0"),
    (Check::CpuQuota, "sys/fs/cgroup/cpu.max", "199999 100000"),
    (
        Check::Memlock,
        "proc/self/limits",
        "Max open files 1 65536 files\nMax locked memory 1 2097151 bytes\n",
    ),
    (
        Check::Nofile,
        "proc/self/limits",
        "Max open files 1 65535 files\nMax locked memory 1 unlimited bytes\n",
    ),
    (Check::Memory, "proc/meminfo", "MemTotal: 4100000 kB\n"),
    (Check::Somaxconn, "proc/sys/net/core/somaxconn", "4095"),
    (
        Check::SynBacklog,
        "proc/sys/net/ipv4/tcp_max_syn_backlog",
        "4095",
    ),
    (
        Check::ListenDrops,
        "proc/net/netstat",
        "TcpExt: A ListenDrops\nTcpExt: 0 101\n",
    ),
    (
        Check::PacketDrops,
        "proc/net/softnet_stat",
        "00ff 00000061 0\n00ff 00000004 0\n",
    ),
    (
        Check::PortRange,
        "proc/sys/net/ipv4/ip_local_port_range",
        "15001 64999",
    ),
    (
        Check::Conntrack,
        "proc/sys/net/netfilter/nf_conntrack_count",
        "510",
    ),
    (
        Check::RxSpread,
        "proc/interrupts",
        " CPU0 CPU1\n 40: 950 0 x eth0-rx-0\n 41: 0 50 x eth0-rx-1\n",
    ),
    (
        Check::Governor,
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "powersave",
    ),
    (
        Check::Clocksource,
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet",
    ),
    (
        Check::HugePages,
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
    ),
    (
        Check::Filesystem,
        "proc/self/mountinfo",
        "20 1 8:1 / / rw - btrfs /dev/sda1 rw\n",
    ),
    (
        Check::WriteCache,
        "proc/self/mountinfo",
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw,nobarrier\n",
    ),
];

#[test]
fn each_file_beyond_its_bound_is_warned_of_alone() {
    for (check, name, text) in BAD {
        let report = Case::good().file(name, text).report();
        let warned: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|f| f.verdict != Verdict::Ok)
            .collect();
        assert_eq!(warned.len(), 1, "{check:?}: {warned:?}");
        assert_eq!(
            (warned[0].check, warned[0].verdict),
            (*check, Verdict::Warn)
        );
        assert!(
            !warned[0].fix.is_empty() && !warned[0].fix.contains('{'),
            "{warned:?}"
        );
        assert_eq!((report.exit(false), report.exit(true)), (0, 1));
    }
}

#[test]
fn what_the_configuration_asks_for_moves_the_bounds() {
    let case = || Case::good();
    case()
        .wanting(|w| w.files = 65_536)
        .is(Check::Nofile, Verdict::Ok);
    case()
        .wanting(|w| w.files = 65_537)
        .is(Check::Nofile, Verdict::Warn);
    case()
        .wanting(|w| w.memory = (2 << 30) + (1 << 26))
        .is(Check::Memory, Verdict::Warn);
    case()
        .wanting(|w| w.free_octets_min = 2 << 30)
        .is(Check::Space, Verdict::Ok);
    case()
        .wanting(|w| w.free_octets_min = (2 << 30) + 1)
        .is(Check::Space, Verdict::Warn);
    case()
        .wanting(|w| w.cpus = vec![0, 1, 2])
        .is(Check::Shards, Verdict::Warn);
    case()
        .wanting(|w| w.cpus = vec![0])
        .is(Check::Memlock, Verdict::Ok);
    case()
        .wanting(|w| w.cpus = vec![0])
        .is(Check::RxSpread, Verdict::Ok);
    case()
        .wanting(|w| w.spool = "/tmp/spool".into())
        .is(Check::Filesystem, Verdict::Warn);
    case()
        .wanting(|w| w.resolvers.clear())
        .is(Check::Resolver, Verdict::Warn);
    case()
        .wanting(|w| w.sources.clear())
        .is(Check::Source, Verdict::Ok);
}

#[test]
fn a_source_that_shares_limits_with_other_nodes_needs_a_name() {
    let case = || Case::good();
    case().is(Check::SharedSource, Verdict::Ok);
    let nameless = case().wanting(|w| w.names_sources = false);
    nameless.is(Check::SharedSource, Verdict::Warn);
    let alone = case().wanting(|w| (w.shares_limits, w.names_sources) = (false, false));
    let findings = alone.report().findings;
    assert!(
        findings
            .iter()
            .all(|finding| finding.check != Check::SharedSource)
    );
}

#[test]
fn an_address_of_a_proxy_needs_a_name_and_no_place_on_this_host() {
    let proxied: IpAddr = "192.0.2.9".parse().unwrap();
    let case = Case::good()
        .wanting(|w| w.proxied = vec![proxied])
        .measuring(|m| m.reverse.push((proxied, Reverse::Nameless)));
    let report = case.report();
    let mut of = report
        .findings
        .iter()
        .filter(|finding| finding.subject.as_deref() == Some("192.0.2.9"));
    let finding = of.next().unwrap();
    assert_eq!(
        (finding.check, finding.verdict),
        (Check::Reverse, Verdict::Warn)
    );
    assert!(of.next().is_none());
}

#[test]
fn what_was_measured_is_judged_at_its_bound() {
    let latency = |p50, p99| Ok(Latency { p50, p99 });
    let case = || Case::good();
    case()
        .measuring(|m| m.sync = Some(latency(1, 5001)))
        .is(Check::Sync, Verdict::Warn);
    let failed = case().measuring(|m| m.sync = Some(Err("permission denied".into())));
    assert_eq!(failed.finding(Check::Sync).found, "permission denied");
    failed.is(Check::Sync, Verdict::Warn);
    case()
        .measuring(|m| m.sync = None)
        .is(Check::Sync, Verdict::Unknown);
    case()
        .measuring(|m| m.resolvers[0].1 = latency(5001, 9999))
        .is(Check::Resolver, Verdict::Warn);
    case()
        .measuring(|m| m.resolvers[0].1 = latency(5000, 9999))
        .is(Check::Resolver, Verdict::Ok);
    case()
        .measuring(|m| m.resolvers[0].1 = Err("no answer".into()))
        .is(Check::Resolver, Verdict::Warn);
    case()
        .measuring(|m| m.resolvers.clear())
        .is(Check::Resolver, Verdict::Unknown);
    case()
        .measuring(|m| m.spaces[0].1.free_octets = (4 << 30) - 1)
        .is(Check::Space, Verdict::Warn);
    case()
        .measuring(|m| m.spaces[0].1.free_inodes = Some(9_999))
        .is(Check::Inodes, Verdict::Warn);
    case()
        .measuring(|m| m.spaces[0].1.free_inodes = None)
        .is(Check::Inodes, Verdict::Ok);
    for (reverse, verdict) in [
        (Reverse::Nameless, Verdict::Warn),
        (Reverse::Unconfirmed("a.example".into()), Verdict::Warn),
        (Reverse::Private, Verdict::Unknown),
        (Reverse::Unreachable("timed out".into()), Verdict::Unknown),
    ] {
        case()
            .measuring(|m| m.reverse[0].1 = reverse)
            .is(Check::Reverse, verdict);
    }
}

#[test]
fn ports_that_wait_are_counted_for_each_source_and_the_fullest_host() {
    let octets = u32::from_ne_bytes([192, 0, 2, 1]);
    let rows = |many: usize, few: usize| {
        let row = |remote: &str| format!("   0: {octets:08X}:C350 {remote} 06 0\n");
        let other = format!("   0: {octets:08X}:C350 09090909:0019 01 0\n");
        let all = [
            "  sl  local_address rem_address   st\n".to_owned(),
            row("01010101:0019").repeat(many),
            row("02020202:0019").repeat(few),
            other.repeat(99),
        ];
        all.concat()
    };
    let case = |many, few| {
        Case::good()
            .file("proc/sys/net/ipv4/ip_local_port_range", "1 1000")
            .file("proc/net/tcp", &rows(many, few))
    };
    case(509, 509).is(Check::TimeWait, Verdict::Ok);
    case(510, 0).is(Check::TimeWait, Verdict::Warn);
    let finding = case(510, 7).finding(Check::TimeWait);
    assert_eq!(finding.subject.as_deref(), Some("192.0.2.1"));
    assert_eq!(finding.found, "51 % to one host, 517 in all");
    let any = case(510, 7).wanting(|w| w.sources.clear());
    assert_eq!(any.finding(Check::TimeWait).subject, None);
    any.is(Check::TimeWait, Verdict::Warn);
}

#[test]
fn packets_handed_on_by_software_count_as_spread() {
    let one = Case::good().file("proc/interrupts", " CPU0 CPU1\n 40: 1000 0 x eth0-rx-0\n");
    let finding = one.finding(Check::RxSpread);
    assert_eq!(finding.found, "2 queues, interrupts on CPU 0");
    let [crate::finding::Step::Shell(line)] = finding.steps.as_slice() else {
        panic!("{finding:?}")
    };
    assert!(
        line.contains("echo 00000003 >") && line.contains("/net/eth0/"),
        "{line}"
    );
    let handed_on = one.file("sys/class/net/eth0/queues/rx-0/rps_cpus", "3");
    assert_eq!(
        handed_on.finding(Check::RxSpread).found,
        "2 queues, RPS to CPU 0-1"
    );
    handed_on.is(Check::RxSpread, Verdict::Ok);
    let down = Case::good().file("sys/class/net/eth0/operstate", "down");
    down.is(Check::RxSpread, Verdict::Unknown);
}

#[test]
fn syn_cookies_stand_in_for_a_backlog() {
    let case = Case::good()
        .file("proc/sys/net/ipv4/tcp_max_syn_backlog", "128")
        .file("proc/sys/net/ipv4/tcp_syncookies", "1");
    case.is(Check::SynBacklog, Verdict::Ok);
}

#[test]
fn root_may_lock_what_it_likes() {
    let limits = "Max open files 1 65536 files\nMax locked memory 1 4096 bytes\n";
    let case = Case::good()
        .file("proc/self/limits", limits)
        .file("proc/self/status", "Uid:\t1000\t0\t0\t0\n");
    case.is(Check::Memlock, Verdict::Ok);
    assert_eq!(case.finding(Check::Memlock).found, "4 KiB, not for root");
}

#[test]
fn limits_of_a_control_group_are_seen_in_both_versions() {
    let case = Case::good()
        .without("sys/fs/cgroup/cpu.max")
        .file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000")
        .file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    case.is(Check::CpuQuota, Verdict::Warn);
    assert_eq!(
        case.finding(Check::CpuQuota).found,
        "1.50 CPUs for 2 shards"
    );
    let none = case.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
    none.is(Check::CpuQuota, Verdict::Ok);
    let group = Case::good().file("sys/fs/cgroup/memory.max", "4000000000");
    group.is(Check::Memory, Verdict::Warn);
    Case::good()
        .file("sys/fs/cgroup/memory.max", "max")
        .is(Check::Memory, Verdict::Ok);
}

#[test]
fn what_cannot_be_seen_is_not_known_and_no_warning() {
    let empty = tempfile::tempdir().unwrap();
    let host = Host::read(empty.path());
    let profile = Profile::of(Kind::Metal).unwrap();
    let good = Case::good();
    let report = judge(&host, &good.wanted, &Measured::default(), &[], &profile);
    assert_eq!(report.count(Verdict::Warn), 0, "{report:#?}");
    assert!(report.count(Verdict::Unknown) > 15);
    assert_eq!(report.exit(true), 0);
}

#[test]
fn what_the_node_refuses_is_fatal_in_its_words() {
    let case = Case::good().refusing(Refusal {
        check: Check::Source,
        subject: Some("192.0.2.1".into()),
        found: "not on this host".into(),
        said: "192.0.2.1 is foreign\n  take it out\n  or add it".into(),
        exit: 78,
    });
    let finding = case.finding(Check::Source);
    assert_eq!(finding.verdict, Verdict::Fatal);
    assert_eq!(finding.found, "not on this host");
    assert_eq!(finding.why, "192.0.2.1 is foreign");
    assert_eq!(finding.fix, "take it out or add it");
    assert_eq!(
        (case.report().exit(false), case.report().exit(true)),
        (78, 78)
    );
    let other = case.wanting(|w| w.sources = vec!["192.0.2.2".parse().unwrap()]);
    other.is(Check::Source, Verdict::Ok);
}

#[test]
fn the_place_is_told_by_its_traces() {
    let place = |name: &str, text: &str| {
        Host::read(Case::good().file(name, text).root.path())
            .place
            .kind
    };
    assert_eq!(place("proc/uptime", "1"), Kind::Metal);
    assert_eq!(place("proc/cpuinfo", "flags : hypervisor\n"), Kind::Vm);
    assert_eq!(place("sys/class/dmi/id/sys_vendor", "QEMU"), Kind::Vm);
    assert_eq!(place("sys/hypervisor/type", "xen"), Kind::Vm);
    assert_eq!(place("run/.containerenv", ""), Kind::Container);
    assert_eq!(
        place("proc/1/environ", "PATH=/bin\0container=lxc\0"),
        Kind::Container
    );
    assert_eq!(
        place("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n"),
        Kind::Container
    );
    // A virtual machine made from an image of a container keeps the file, on a disk of its own.
    assert_eq!(place(".dockerenv", ""), Kind::Metal);
    let overlay = Case::good().file(".dockerenv", "").file(
        "proc/self/mountinfo",
        "20 1 0:9 / / rw - overlay overlay rw\n",
    );
    assert_eq!(Host::read(overlay.root.path()).place.kind, Kind::Container);
    let bare = Case::good()
        .file("sys/class/dmi/id/sys_vendor", "Amazon EC2")
        .file("sys/class/dmi/id/product_name", "c5.metal");
    assert_eq!(Host::read(bare.root.path()).place.kind, Kind::Metal);
    assert_eq!(
        Host::read(
            bare.file("sys/class/dmi/id/product_name", "c5.large")
                .root
                .path()
        )
        .place
        .kind,
        Kind::Vm
    );
}

#[test]
fn profiles_judge_the_same_host_differently() {
    let slow = || Case::good().measuring(|m| m.sync = Some(Ok(Latency { p50: 1, p99: 9000 })));
    slow().is(Check::Sync, Verdict::Warn);
    slow().on(Kind::Vm).is(Check::Sync, Verdict::Ok);
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    Case::good()
        .file(clock, "kvm-clock")
        .is(Check::Clocksource, Verdict::Warn);
    Case::good()
        .file(clock, "kvm-clock")
        .on(Kind::Vm)
        .is(Check::Clocksource, Verdict::Ok);
    let saving = || {
        Case::good().file(
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave",
        )
    };
    saving().is(Check::Governor, Verdict::Warn);
    let left = saving().on(Kind::Vm).finding(Check::Governor);
    assert_eq!(
        (left.verdict, left.wanted.as_str()),
        (Verdict::Unknown, "the host below decides")
    );
}
