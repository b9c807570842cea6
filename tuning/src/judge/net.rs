//! Queues, ports, connections and cards.

use std::collections::BTreeSet;

use crate::amount::{Unit, show};
use crate::check::Check;
use crate::host::{Host, Nic, TimeWait};

use super::Wanted;
use super::sheet::{Case, Sheet, Value};

/// How long an ended connection holds its port, as Linux has it built in.
const TIME_WAIT_SECS: u64 = 60;

pub(super) fn judge(host: &Host, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    sheet.judge(Case::number(Check::Somaxconn, host.somaxconn));
    let cookies = host.syn_cookies.is_some_and(|cookies| cookies > 0);
    let mut case = Case::number(Check::SynBacklog, host.syn_backlog);
    if let (true, Some(backlog)) = (cookies, host.syn_backlog) {
        let backlog = show(backlog, Unit::Count);
        case = Case::number(Check::SynBacklog, Some(u64::MAX))
            .said(format!("{backlog}, then SYN cookies"));
    }
    sheet.judge(case);
    sheet.judge(Case::number(Check::ListenDrops, host.listen_drops));
    sheet.judge(Case::number(Check::PacketDrops, host.packet_drops));
    ports(host, wanted, sheet);
    let conntrack = host.conntrack.filter(|(_, max)| *max > 0);
    sheet.judge(match conntrack {
        None => Case::number(Check::Conntrack, Some(0)).said("not in use".into()),
        Some((count, max)) => {
            let [used, of] = [count, max].map(|n| show(n, Unit::Count));
            Case::number(Check::Conntrack, Some(count.saturating_mul(100) / max))
                .said(format!("{used} of {of}"))
        }
    });
    if host.nics.is_empty() {
        let value = Value::Unknown("no network card seen");
        sheet.judge(Case::new(Check::RxSpread, value));
    }
    for nic in &host.nics {
        spread(nic, wanted, sheet);
    }
}

fn ports(host: &Host, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    let count = host
        .ports
        .map(|(first, last)| (last + 1).saturating_sub(first));
    let mut case = Case::number(Check::PortRange, count);
    if let Some(count) = count {
        let rate = show(count / TIME_WAIT_SECS, Unit::Count);
        let count = show(count, Unit::Count);
        case = case.said(format!("{count} ({rate}/s to one host)"));
    }
    sheet.judge(case);
    let count = count.filter(|count| *count > 0);
    let Some((waiting, count)) = host.time_wait.as_ref().zip(count) else {
        sheet.judge(Case::number(Check::TimeWait, None));
        return;
    };
    let case = |of: TimeWait| {
        let all = show(of.total, Unit::Count);
        let percent = of.most_to_one.saturating_mul(100) / count;
        Case::number(Check::TimeWait, Some(percent))
            .said(format!("{percent} % to one host, {all} in all"))
    };
    for source in &wanted.sources {
        let of = waiting.get(source).copied().unwrap_or_default();
        sheet.judge(case(of).of(source));
    }
    if wanted.sources.is_empty() {
        let fullest = waiting.values().max_by_key(|of| of.most_to_one);
        sheet.judge(case(fullest.copied().unwrap_or_default()));
    }
}

fn spread(nic: &Nic, wanted: &Wanted, sheet: &mut Sheet<'_>) {
    let shards = u64::try_from(wanted.cpus.len()).unwrap_or(u64::MAX);
    let least = sheet.least(Check::RxSpread).min(shards);
    let (cpus, by) = if nic.rps_cpus.len() > nic.irq_cpus.len() {
        (&nic.rps_cpus, "RPS to")
    } else {
        (&nic.irq_cpus, "interrupts on")
    };
    let queues = nic.rx_queues;
    let s = if queues == 1 { "" } else { "s" };
    let case = if cpus.is_empty() {
        Case::new(
            Check::RxSpread,
            Value::Unknown("its interrupts are not seen"),
        )
    } else {
        let count = u64::try_from(cpus.len()).unwrap_or(u64::MAX);
        Case::number(Check::RxSpread, Some(count))
            .said(format!("{queues} queue{s}, {by} CPU {}", listed(cpus)))
    };
    sheet.judge(case.of(&nic.name).at_least(least).mask(mask(&wanted.cpus)));
}

/// `0-3,8`.
fn listed(cpus: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => runs.push((*cpu, *cpu)),
        }
    }
    let runs = runs.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    runs.collect::<Vec<_>>().join(",")
}

/// As `rps_cpus` takes it: groups of 32 bits in hexadecimal, the highest first.
fn mask(cpus: &[u16]) -> String {
    let groups = cpus.iter().max().map_or(1, |cpu| usize::from(cpu / 32) + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[usize::from(cpu / 32)] |= 1 << (cpu % 32);
    }
    let words = words.iter().rev().map(|word| format!("{word:08x}"));
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed_for_people_and_masked_for_the_kernel() {
        assert_eq!(listed(&BTreeSet::from([0, 1, 2, 5])), "0-2,5");
        assert_eq!(mask(&[0, 1]), "00000003");
        assert_eq!(mask(&[0, 33]), "00000002,00000001");
    }
}
