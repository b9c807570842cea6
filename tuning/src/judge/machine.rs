//! Kernel, CPUs, limits and memory.

use crate::amount::{Unit, release, show};
use crate::check::Check;
use crate::host::Host;

use super::Wanted;
use super::sheet::{Case, Sheet, Value};

pub(super) fn judge(host: &Host, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    kernel(host, sheet);
    cpus(host, wanted, sheet);
    limits(host, wanted, sheet);
    let memory = host.memory.filter(|memory| *memory > 0);
    let percent = memory.map(|memory| wanted.memory.saturating_mul(100) / memory);
    let mut case = Case::number(Check::Memory, percent);
    if let (Some(memory), Some(percent)) = (memory, percent) {
        let [budget, memory] = [wanted.memory, memory].map(|n| show(n, Unit::Octets));
        case = case.said(format!("{percent} %: {budget} of {memory}"));
    }
    sheet.judge(case);
    let governors: Vec<&str> = host.governors.iter().map(String::as_str).collect();
    let governors = Some(governors.join(", ")).filter(|all| !all.is_empty());
    sheet.judge(Case::word(Check::Governor, governors.as_deref()));
    sheet.judge(Case::word(Check::Clocksource, host.clocksource.as_deref()));
    sheet.judge(Case::word(Check::HugePages, host.huge_pages.as_deref()));
}

fn kernel(host: &Host, sheet: &mut Sheet<'_>) {
    // Whether this process is given a ring was tried; the setting tells of others.
    let ring = match host.uring_disabled {
        None | Some(0) => "given",
        Some(1) => "given to privileged processes only",
        Some(_) => "forbidden to all",
    };
    sheet.judge(Case::word(Check::IoUring, Some(ring)));
    let number = host.release.as_deref().and_then(release);
    let mut case = Case::number(Check::Kernel, number);
    if let (Some(_), Some(release)) = (number, &host.release) {
        case = case.said(release.clone());
    }
    sheet.judge(case);
}

fn cpus(host: &Host, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    let has = |flag: &str| host.cpu_flags.contains(flag);
    let case = match (has("sse4_2"), has("pclmulqdq")) {
        _ if host.cpu_flags.is_empty() => {
            Case::new(Check::Cpu, Value::Unknown("another architecture"))
        }
        (true, true) => Case::word(Check::Cpu, Some("SSE 4.2, PCLMULQDQ")),
        (true, false) => Case::word(Check::Cpu, Some("no PCLMULQDQ")),
        (false, _) => Case::word(Check::Cpu, Some("no SSE 4.2")),
    };
    sheet.judge(case);
    let shards = wanted.cpus.len();
    let online = host.cpus_online.len();
    let word = if shards <= online {
        "one for each CPU"
    } else {
        "more than CPUs"
    };
    let case = if online == 0 {
        Case::number(Check::Shards, None)
    } else {
        Case::word(Check::Shards, Some(word)).said(format!("{shards} for {online} CPUs"))
    };
    sheet.judge(case);
    let case = match (host.quota_percent, u64::try_from(shards.max(1))) {
        (Some(quota), Ok(shards)) => {
            Case::number(Check::CpuQuota, Some(quota / shards)).said(format!(
                "{}.{:02} CPUs for {shards} shards",
                quota / 100,
                quota % 100
            ))
        }
        (None, _) | (_, Err(_)) => {
            Case::number(Check::CpuQuota, Some(u64::MAX)).said("no quota".into())
        }
    };
    sheet.judge(case);
}

fn limits(host: &Host, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    let shards = u64::try_from(wanted.cpus.len().max(1)).unwrap_or(u64::MAX);
    let least = sheet.least(Check::Memlock).saturating_mul(shards);
    let mut case = Case::number(Check::Memlock, host.memlock).at_least(least);
    if let Some(limit) = host
        .memlock
        .filter(|limit| host.is_root && *limit != u64::MAX)
    {
        let limit = show(limit, Unit::Octets);
        case = Case::number(Check::Memlock, Some(u64::MAX))
            .at_least(least)
            .said(format!("{limit}, not for root"));
    }
    sheet.judge(case);
    let least = sheet.least(Check::Nofile).max(wanted.files);
    sheet.judge(Case::number(Check::Nofile, host.nofile).at_least(least));
}
