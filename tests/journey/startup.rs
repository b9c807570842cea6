//! Hosts that lack what the node needs: a start fails at once, with its status and what to do.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use super::client::{letter, mail};
use super::node::Setup;
use super::peer::{Answer, Peer, Stage, always};
use crate::disk::skip;

/// Less than one shard needs.
const MEMLOCK_OCTETS: &str = "--memlock=65536:65536";

/// Executes its arguments with a seccomp filter that answers `io_uring_setup` (425 on every
/// architecture) with EPERM, as container runtimes do.
const WITHOUT_URING: &str = r#"
import ctypes, os, struct, sys
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(len(steps), code)), 0, 0):
    sys.exit(111)
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn runs(wrapper: &[&str]) -> bool {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg("/bin/true");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[track_caller]
fn ended(output: &Output, code: i32, advice: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in advice {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn a_kernel_that_gives_no_ring_is_told_with_what_to_do() {
    let wrapper = ["python3", "-c", WITHOUT_URING];
    if !runs(&wrapper) {
        return skip("python3 cannot set a seccomp filter here");
    }
    let advice = ["no io_uring", "kernel.io_uring_disabled", "seccomp profile"];
    ended(&Setup::new().under(&wrapper).fail(), 71, &advice);
}

#[test]
fn too_little_locked_memory_is_told_with_what_to_do() {
    let advice = [
        "65536 octets",
        "LimitMEMLOCK=infinity",
        "ulimit -l",
        "CAP_IPC_LOCK",
    ];
    let ways: [(&str, &[&str]); 2] = [
        (
            "a root without the capability",
            &[
                "setpriv",
                "--bounding-set",
                "-ipc_lock",
                "--inh-caps",
                "-ipc_lock",
            ],
        ),
        (
            "the root of a user namespace",
            &["unshare", "--user", "--map-root-user"],
        ),
    ];
    for (who, way) in ways {
        let wrapper = [way, &["prlimit", MEMLOCK_OCTETS]].concat();
        if runs(&wrapper) {
            ended(&Setup::new().under(&wrapper).fail(), 78, &advice);
        } else {
            skip(&format!("{who} cannot be had here"));
        }
    }
}

#[test]
fn too_few_open_files_are_told_with_what_to_do() {
    let wrapper = ["prlimit", "--nofile=1000:1000"];
    if !runs(&wrapper) {
        return skip("prlimit does not run here");
    }
    let advice = ["open files is 1000", "LimitNOFILE=1048576", "ulimit -n"];
    ended(&Setup::new().under(&wrapper).fail(), 78, &advice);
}

#[test]
fn a_node_with_few_open_files_puts_no_mail_off() {
    const RECIPIENTS: usize = 1000;
    // A quarter of what is left beside the node's own.
    const PLACES: usize = 128;
    let wrapper = ["prlimit", "--nofile=2048:2048"];
    if !runs(&wrapper) {
        return skip("prlimit does not run here");
    }
    let slow = Answer::Late(Duration::from_millis(500), "220 slow.example".into());
    let peer = Peer::new(always(Stage::Banner, slow));
    let node = Setup::to(peer.address())
        .under(&wrapper)
        .file("[delivery]\nconnections_max = 1000\nrecipients_per_transaction_max = 1")
        .start();
    let recipients: Vec<String> = (0..RECIPIENTS).map(|n| format!("a@d{n}.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    mail(node.smtp(), "", &recipients, &letter("to many"));
    peer.wait(RECIPIENTS);
    assert_eq!(peer.uses().0, PLACES);
    let put_off = |record: &Value| record["type"] == "TransientFailure";
    assert!(!node.records().iter().any(put_off));
}

#[test]
fn each_shard_is_pinned_to_its_cpu() {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("it can be asked");
    let usable = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true));
    let usable: Vec<String> = usable.map(|cpu| cpu.to_string()).collect();
    let [first, .., last] = usable.as_slice() else {
        return skip("there is but one CPU here");
    };
    // Not in the order in which they would be taken anyhow.
    let node = Setup::new()
        .arg("--shards", &format!("{last},{first}"))
        .start();
    let cpus = node.cpus();
    // The runtime adds a number of its own to the name.
    let of = |shard: &str| {
        let mut found = cpus.iter().filter(|(name, _)| name.starts_with(shard));
        found.next().map(|(_, list)| list)
    };
    assert_eq!(of("shard-0-"), Some(last), "{cpus:?}");
    assert_eq!(of("shard-1-"), Some(first), "{cpus:?}");
    assert_eq!(of("shard-2-"), None, "{cpus:?}");
    // The disk's thread goes where there is time.
    let free = cpus.get("spool-commit").expect("it has a name");
    assert!(free != first && free != last, "{cpus:?}");
    drop(node);
    let node = Setup::new().arg("--shards", "all").start();
    let shards = node
        .cpus()
        .keys()
        .filter(|name| name.starts_with("shard-"))
        .count();
    assert_eq!(shards, usable.len());
}
