//! Hosts that lack what the node needs: a start fails at once, with its status and what to do.

use std::process::{Command, Output, Stdio};

use super::node::Setup;
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
    ended(&Setup::new().fail_under(&wrapper), 71, &advice);
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
            ended(&Setup::new().fail_under(&wrapper), 78, &advice);
        } else {
            skip(&format!("{who} cannot be had here"));
        }
    }
}
