//! Real proxies, haproxy and danted, each on a loopback address of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::node::own_ip;
use super::wait::until;
use crate::disk::skip;

const HAPROXY: &str = "/usr/sbin/haproxy";
const DANTED: &str = "/usr/sbin/danted";
/// Connects from where the header says, which takes a capability.
const SPOOFING_PORT: u16 = 5200;
/// Connects from an address of its own.
const PLAIN_PORT: u16 = 5201;
const SOCKS_PORT: u16 = 1080;

/// Whom danted knows.
pub(super) const USER: &str = "outward";
pub(super) const PASSWORD: &str = "through-the-wall";
/// Of that password, as crypt(3) makes it.
const HASH: &str = "$6$posthaste$q0Eoz.9DWZ.MtTzObtdL1XL/n.0VNO7r4WiPDn0/ZsutT8y.0xU7s0fwCNm4lv3TD7Gty1WtkQkbHgJ38rX.q/";

/// Whether the program is there and may be what it is; said aloud where not.
pub(super) fn can_run_haproxy() -> bool {
    can_run(HAPROXY, "haproxy")
}

pub(super) fn can_run_danted() -> bool {
    can_run(DANTED, "dante-server")
}

fn can_run(program: &str, package: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    if Path::new(program).exists() && is_root {
        return true;
    }
    skip(&format!(
        "needs root and {program} (apt-get install {package})"
    ));
    false
}

/// A program in a process group of its own, all of it killed when this is dropped.
struct Group(Child);

impl Group {
    fn start(command: &mut Command, told: &Path) -> Self {
        let told = File::create(told).expect("the folder is ours");
        let child = command
            .stdin(Stdio::null())
            .stdout(told.try_clone().expect("a file is shared"))
            .stderr(told)
            .process_group(0)
            .spawn();
        Self(child.expect("the proxy starts"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let line = format!("kill -KILL -{}", self.0.id());
        let _ = Command::new("sh").args(["-c", &line]).status();
        let _ = self.0.wait();
    }
}

/// A proxy that may die and come back at its address.
pub(super) struct Proxy {
    folder: tempfile::TempDir,
    /// From which it connects by itself.
    pub(super) outer: Ipv4Addr,
    ip: Ipv4Addr,
    port: u16,
    command: fn(&Path) -> Command,
    running: Option<Group>,
}

impl Proxy {
    /// Takes PROXY headers on both ports.
    pub(super) fn haproxy() -> Self {
        let (ip, outer) = (own_ip(), own_ip());
        let configuration = format!(
            "global\n maxconn 500\n log stdout format raw local0\n\
             defaults\n mode tcp\n log global\n option tcplog\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen spoofing\n bind {ip}:{SPOOFING_PORT} accept-proxy\n source 0.0.0.0 usesrc clientip\n server target 0.0.0.0\n\
             listen plain\n bind {ip}:{PLAIN_PORT} accept-proxy\n source {outer}\n server target 0.0.0.0\n"
        );
        Self::new(ip, outer, SPOOFING_PORT, &configuration, |folder| {
            let mut command = Command::new(HAPROXY);
            command.arg("-db").arg("-f").arg(folder.join("conf"));
            command
        })
    }

    /// Asks for nothing.
    pub(super) fn dante() -> Self {
        Self::danted("none", |folder| danted(&mut Command::new(DANTED), folder))
    }

    /// Knows [`USER`], whom this system does not: it sees files of its own.
    pub(super) fn dante_with_password() -> Self {
        let proxy = Self::danted("username", |folder| {
            let folder_text = folder.display();
            let script = format!(
                "mount --bind {folder_text}/passwd /etc/passwd && \
                 mount --bind {folder_text}/shadow /etc/shadow && exec {DANTED} \"$@\""
            );
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script, "danted"]);
            danted(&mut command, folder)
        });
        for (name, line) in [
            (
                "passwd",
                format!("{USER}:x:64998:64998::/nonexistent:/bin/false"),
            ),
            ("shadow", format!("{USER}:{HASH}:19000:0:99999:7:::")),
        ] {
            let system = fs::read_to_string(format!("/etc/{name}")).expect("root reads it");
            let path = proxy.folder.path().join(name);
            fs::write(path, format!("{system}{line}\n")).expect("the folder is ours");
        }
        proxy
    }

    fn danted(method: &str, command: fn(&Path) -> Command) -> Self {
        let (ip, outer) = (own_ip(), own_ip());
        let configuration = format!(
            "logoutput: stderr\ninternal: {ip} port = {SOCKS_PORT}\nexternal: {outer}\n\
             clientmethod: none\nsocksmethod: {method}\nuser.privileged: root\nuser.unprivileged: nobody\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp }}\n"
        );
        Self::new(ip, outer, SOCKS_PORT, &configuration, command)
    }

    fn new(
        ip: Ipv4Addr,
        outer: Ipv4Addr,
        port: u16,
        configuration: &str,
        command: fn(&Path) -> Command,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("conf"), configuration).expect("the folder is ours");
        Self {
            folder,
            outer,
            ip,
            port,
            command,
            running: None,
        }
    }

    /// Starts it and waits until it listens.
    pub(super) fn start(&mut self) {
        let folder = self.folder.path();
        self.running = Some(Group::start(
            &mut (self.command)(folder),
            &folder.join("told"),
        ));
        let address = self.address();
        let listening = std::panic::catch_unwind(|| {
            until("the proxy listens", || TcpStream::connect(address).ok())
        });
        assert!(listening.is_ok(), "it said: {}", self.told());
    }

    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    pub(super) const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.ip), self.port)
    }

    /// Of a haproxy: where it connects from [`Proxy::outer`].
    pub(super) const fn plain_address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.ip), PLAIN_PORT)
    }

    pub(super) fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("told")).unwrap_or_default()
    }
}

fn danted(command: &mut Command, folder: &Path) -> Command {
    let mut made = Command::new(command.get_program());
    made.args(command.get_args())
        .arg("-f")
        .arg(folder.join("conf"))
        .arg("-p")
        .arg(folder.join("pid"));
    made
}
