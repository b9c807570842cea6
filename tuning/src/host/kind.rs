//! Metal, virtual machine or container: told by the traces each leaves, a container's first, for
//! one may run in a virtual machine.

use std::collections::BTreeSet;

use super::Mount;
use super::tree::{Tree, field};

/// What a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Metal,
    Vm,
    Container,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Metal, Self::Vm, Self::Container];

    /// Also the name of its profile.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Vm => "vm",
            Self::Container => "container",
        }
    }
}

/// What a host seems to be, and what tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    pub evidence: String,
}

/// Control groups that engines of containers name so.
const ENGINES: &[&str] = &[
    "docker",
    "kubepods",
    "containerd",
    "libpod",
    "lxc",
    "crio",
    "garden",
];
/// Makers and products of virtual machines, as DMI names them.
const MACHINES: &[&str] = &[
    "QEMU",
    "KVM",
    "VMware",
    "VirtualBox",
    "Xen",
    "Bochs",
    "Virtual Machine",
    "Amazon EC2",
    "Google Compute Engine",
    "DigitalOcean",
    "OpenStack",
    "Droplet",
    "Parallels",
    "Apple Virtualization",
    "vServer",
    "BHYVE",
];

pub(super) fn place(tree: &Tree<'_>, mounts: &[Mount]) -> Place {
    let seen = |kind, evidence: String| Place { kind, evidence };
    if let Some(evidence) = container(tree, mounts) {
        return seen(Kind::Container, evidence);
    }
    if cpu_flags(tree).contains("hypervisor") {
        return seen(Kind::Vm, "the CPU names a hypervisor".into());
    }
    if let Some(kind) = tree.line("sys/hypervisor/type") {
        return seen(Kind::Vm, format!("/sys/hypervisor/type says {kind}"));
    }
    let dmi = ["sys_vendor", "product_name", "bios_vendor"]
        .map(|name| tree.line(&format!("sys/class/dmi/id/{name}")));
    // A cloud's bare machines bear its name too.
    let is_bare = dmi[1].as_ref().is_some_and(|name| name.contains("metal"));
    for said in dmi.into_iter().flatten() {
        if !is_bare && MACHINES.iter().any(|machine| said.contains(machine)) {
            return seen(Kind::Vm, format!("DMI says {said}"));
        }
    }
    seen(
        Kind::Metal,
        "no trace of a hypervisor or a container".into(),
    )
}

fn container(tree: &Tree<'_>, mounts: &[Mount]) -> Option<String> {
    let is_on_disk = mounts
        .iter()
        .rfind(|mount| mount.point.as_os_str() == "/")
        .is_some_and(|root| root.source.starts_with("/dev/") && !root.source.contains("/docker-"));
    // Images of virtual machines are made from those of containers, and the file stays in them.
    if tree.has(".dockerenv") && !is_on_disk {
        return Some("/.dockerenv is there".into());
    }
    if tree.has("run/.containerenv") {
        return Some("/run/.containerenv is there".into());
    }
    if let Some(engine) = tree.line("run/systemd/container") {
        return Some(format!("/run/systemd/container says {engine}"));
    }
    let environ = tree.text("proc/1/environ").unwrap_or_default();
    let variable = environ
        .split('\0')
        .find(|variable| variable.starts_with("container="));
    if let Some(variable) = variable {
        return Some(format!("process 1 has {variable}"));
    }
    let groups = tree.text("proc/1/cgroup").unwrap_or_default();
    let engine = ENGINES
        .iter()
        .find(|engine| groups.lines().any(|line| line.contains(**engine)));
    engine.map(|engine| format!("process 1 is in a control group of {engine}"))
}

pub(super) fn cpu_flags(tree: &Tree<'_>) -> BTreeSet<String> {
    let text = tree.text("proc/cpuinfo").unwrap_or_default();
    let flags = field(&text, "flags").and_then(|rest| rest.strip_prefix(':'));
    flags
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}
