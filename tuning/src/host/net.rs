//! Cards, queues and connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::tree::Tree;

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub rx_queues: usize,
    /// CPUs that take at least a tenth of its interrupts for reception.
    pub irq_cpus: BTreeSet<u16>,
    /// CPUs that packets are handed on to (RPS).
    pub rps_cpus: BTreeSet<u16>,
}

/// Connections of one local address that hold their port after their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWait {
    pub total: u64,
    /// To the one remote address and port that has most of them.
    pub most_to_one: u64,
}

/// Share of a card's interrupts below which a CPU does not count.
const IRQ_SHARE_MIN: u64 = 10;
/// TIME_WAIT, as `/proc/net/tcp` writes it.
const STATE_TIME_WAIT: &str = "06";

pub(super) fn listen_drops(tree: &Tree<'_>) -> Option<u64> {
    let text = tree.text("proc/net/netstat")?;
    let mut rows = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let mut named = rows
        .next()?
        .split_whitespace()
        .zip(rows.next()?.split_whitespace());
    named
        .find(|(name, _)| *name == "ListenDrops")
        .and_then(|(_, count)| count.parse().ok())
}

/// Of all CPUs: the second column, in hexadecimal.
pub(super) fn packet_drops(tree: &Tree<'_>) -> Option<u64> {
    let text = tree.text("proc/net/softnet_stat")?;
    text.lines()
        .map(|line| {
            let count = line.split_whitespace().nth(1)?;
            u64::from_str_radix(count, 16).ok()
        })
        .sum()
}

pub(super) fn time_wait(tree: &Tree<'_>) -> Option<BTreeMap<IpAddr, TimeWait>> {
    let texts = [tree.text("proc/net/tcp"), tree.text("proc/net/tcp6")];
    if texts.iter().all(Option::is_none) {
        return None;
    }
    let mut pairs: HashMap<(IpAddr, &str), u64> = HashMap::new();
    for line in texts.iter().flatten().flat_map(|text| text.lines().skip(1)) {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), Some(remote)) = (words.next(), words.next()) else {
            continue;
        };
        if words.next() == Some(STATE_TIME_WAIT)
            && let Some(local) = address(local)
        {
            *pairs.entry((local, remote)).or_default() += 1;
        }
    }
    let mut found: BTreeMap<IpAddr, TimeWait> = BTreeMap::new();
    for ((local, _), count) in pairs {
        let entry = found.entry(local).or_default();
        entry.total += count;
        entry.most_to_one = entry.most_to_one.max(count);
    }
    Some(found)
}

/// `0100007F:1F90`: words of 32 bits, each in the order of this machine.
fn address(text: &str) -> Option<IpAddr> {
    let (octets, _port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = octets.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    if octets.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut whole = [0; 16];
    for (at, part) in whole.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(at)?);
    }
    Some(IpAddr::V6(Ipv6Addr::from(whole)).to_canonical())
}

/// Cards with a device behind them that are not down: no bridges, no tunnels, no loopback.
pub(super) fn nics(tree: &Tree<'_>) -> Vec<Nic> {
    let interrupts = tree.text("proc/interrupts").unwrap_or_default();
    let names = tree.names("sys/class/net");
    // The name goes into lines of shell.
    let is_plain = |name: &String| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
    };
    let real = names.into_iter().filter(is_plain).filter(|name| {
        let state = tree.line(&format!("sys/class/net/{name}/operstate"));
        tree.has(&format!("sys/class/net/{name}/device")) && state.as_deref() != Some("down")
    });
    real.map(|name| nic(tree, name, &interrupts)).collect()
}

fn nic(tree: &Tree<'_>, name: String, interrupts: &str) -> Nic {
    let queues = tree.names(&format!("sys/class/net/{name}/queues"));
    let rx: Vec<&String> = queues.iter().filter(|q| q.starts_with("rx-")).collect();
    let masks = rx
        .iter()
        .filter_map(|queue| tree.line(&format!("sys/class/net/{name}/queues/{queue}/rps_cpus")));
    // The interrupts of a virtio card are those of the PCI device above it.
    let irqs: BTreeSet<String> = ["device/msi_irqs", "device/../msi_irqs"]
        .iter()
        .flat_map(|place| tree.names(&format!("sys/class/net/{name}/{place}")))
        .collect();
    Nic {
        rx_queues: rx.len(),
        irq_cpus: irq_cpus(interrupts, &irqs),
        rps_cpus: masks.flat_map(|mask| cpus_of(&mask)).collect(),
        name,
    }
}

fn irq_cpus(interrupts: &str, irqs: &BTreeSet<String>) -> BTreeSet<u16> {
    let cpus = interrupts.lines().next().unwrap_or_default();
    let cpus: Vec<u16> = cpus
        .split_whitespace()
        .filter_map(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    let mut counts = vec![0_u64; cpus.len()];
    for line in interrupts.lines().skip(1) {
        let Some((number, rest)) = line.split_once(':') else {
            continue;
        };
        let name = rest.split_whitespace().last().unwrap_or_default();
        let is_for_rx = !["config", "output", "-tx"].iter().any(|n| name.contains(n));
        if irqs.contains(number.trim()) && is_for_rx {
            for (sum, count) in counts.iter_mut().zip(rest.split_whitespace()) {
                *sum += count.parse::<u64>().unwrap_or(0);
            }
        }
    }
    let total: u64 = counts.iter().sum();
    cpus.into_iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0 && count * 100 >= total * IRQ_SHARE_MIN)
        .map(|(cpu, _)| cpu)
        .collect()
}

/// `00000001,00000003` → 0, 1, 32: groups of 32 bits, the highest first.
fn cpus_of(mask: &str) -> BTreeSet<u16> {
    let mut cpus = BTreeSet::new();
    for (group, digits) in (0_u16..).zip(mask.split(',').rev()) {
        let bits = u32::from_str_radix(digits.trim(), 16).unwrap_or(0);
        cpus.extend(
            (0..32)
                .filter(|bit| bits & 1 << bit != 0)
                .map(|bit| group * 32 + bit),
        );
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpus_of("00000001,00000003"), BTreeSet::from([0, 1, 32]));
        assert_eq!(cpus_of("0"), BTreeSet::new());
        let octets = u32::from_ne_bytes([127, 0, 0, 3]);
        assert_eq!(
            address(&format!("{octets:08X}:0019")),
            Some(IpAddr::from([127, 0, 0, 3]))
        );
        let one = u32::from_ne_bytes([0, 0, 0, 1]);
        assert_eq!(
            address(&format!("{:024}{one:08X}:0019", 0)),
            "::1".parse().ok()
        );
        assert_eq!(address("01:0019"), None);
    }
}
