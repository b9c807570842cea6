//! The shipped scenario `postfix.toml` against Postfix itself, which needs ports 25 and 53 and a resolv.conf: in namespaces of the test's own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_posthaste-load");
const POSTFIX: &str = "/usr/sbin/postfix";
/// Network, mounts and processes of its own: whatever is started in there ends with it.
const UNSHARE: &[&str] = &[
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
const SERVICES: &str = "\
127.0.0.1:2525 inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// What is missing for this test; nothing where all is there.
fn missing() -> Option<&'static str> {
    if !Path::new(POSTFIX).exists() {
        return Some("Postfix is missing (apt-get install postfix)");
    }
    let made = Command::new("unshare")
        .args(UNSHARE)
        .args(["ip", "link", "set", "lo", "up"])
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Some(
            "no namespaces for network, mounts and processes: they need root, unshare and ip",
        );
    }
    None
}

fn configure(folder: &Path) {
    let etc = folder.join("etc");
    for name in ["etc", "queue", "data"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let main = format!(
        "compatibility_level = 3.6\nmyhostname = relay.test\nqueue_directory = {0}/queue\ndata_directory = {0}/data\n\
         maillog_file = {0}/maillog\nmaillog_file_prefixes = {0}\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\nmydestination =\nalias_maps =\nsmtp_tls_security_level = may\n",
        folder.display()
    );
    std::fs::write(etc.join("main.cf"), main).unwrap();
    std::fs::write(etc.join("master.cf"), SERVICES).unwrap();
    std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let owned = Command::new("chown")
        .arg("postfix")
        .arg(folder.join("data"))
        .status();
    assert!(owned.unwrap().success());
}

/// Out of the way of a target directory that other users, Postfix's among them, may not enter.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("posthaste-load-postfix-{}", std::process::id()))
}

#[test]
fn postfix_meets_the_scenario_that_is_made_for_it() {
    if let Some(why) = missing() {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        // Not by a macro, whose words a passing test keeps to itself.
        writeln!(
            std::io::stderr(),
            "SKIPPED: {why}: no scenario was run against Postfix"
        )
        .unwrap();
        return;
    }
    let folder = folder();
    configure(&folder);
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario/postfix.toml");
    let script = "set -e\nip link set lo up\nmount --bind \"$1/resolv.conf\" /etc/resolv.conf\n\
                  postfix -c \"$1/etc\" start >&2\nexec \"$2\" run \"$3\" --json\n";
    let output = Command::new("unshare")
        .args(UNSHARE)
        .args(["sh", "-c", script, "sh"])
        .args([&folder, Path::new(BINARY), &scenario])
        .output()
        .unwrap();
    let log = std::fs::read_to_string(folder.join("maillog")).unwrap_or_default();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {told}\n{log}"));
    assert!(output.status.success(), "{report:#}\n{told}\n{log}");
}
