//! Real Redis servers on free ports of loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait::until;
use crate::disk::skip;

const SERVER: &str = "/usr/bin/redis-server";
const CLI: &str = "/usr/bin/redis-cli";
/// A cluster's second port lies this far above the first.
const BUS: u16 = 10_000;

/// Ends with the test. Never saves, so that one that starts again has forgotten everything.
pub(super) struct RedisServer {
    child: Child,
    folder: tempfile::TempDir,
    pub(super) port: u16,
    arguments: Vec<String>,
}

/// Whether there is Redis; said aloud when not.
pub(super) fn is_installed() -> bool {
    let is_there = Path::new(SERVER).exists();
    if !is_there {
        skip(&format!(
            "{SERVER} is missing (apt-get install redis-server)"
        ));
    }
    is_there
}

fn free_port() -> u16 {
    until("a port is free", || {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
        let bus = port.port().checked_add(BUS)?;
        TcpListener::bind(("127.0.0.1", bus)).ok()?;
        Some(port.port())
    })
}

fn run(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let child = Command::new(SERVER)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts");
    until("Redis listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child
}

impl RedisServer {
    /// `None`: there is no Redis here.
    pub(super) fn start() -> Option<Self> {
        is_installed().then(|| Self::with(|_, port| ["--port", port].map(Into::into).to_vec()))
    }

    /// Lets in who knows it. `None`: there is no Redis here.
    pub(super) fn with_password(password: &str) -> Option<Self> {
        is_installed().then(|| {
            Self::with(|_, port| {
                ["--port", port, "--requirepass", password]
                    .map(Into::into)
                    .to_vec()
            })
        })
    }

    /// With arguments made of its folder and port.
    pub(super) fn with(arguments: impl FnOnce(&Path, &str) -> Vec<String>) -> Self {
        Self::bare(|folder, port| {
            let own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let mut all = arguments(folder, port);
            all.extend(own.map(Into::into));
            all
        })
    }

    fn bare(arguments: impl FnOnce(&Path, &str) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let arguments = arguments(folder.path(), &port.to_string());
        Self {
            child: run(port, folder.path(), &arguments),
            folder,
            port,
            arguments,
        }
    }

    /// Follows `master`.
    pub(super) fn replica(master: &Self) -> Self {
        let at = format!("127.0.0.1 {}", master.port);
        let replica = Self::with(|_, port| {
            ["--port", port, "--replicaof", &at]
                .map(Into::into)
                .to_vec()
        });
        until("the replica follows", || {
            let state = replica.cli(&["INFO", "replication"]);
            state.contains("master_link_status:up").then_some(())
        });
        replica
    }

    /// Watches `master`, whose name is `shared`, and puts another in its place after a second.
    pub(super) fn sentinel(master: &Self) -> Self {
        Self::sentinel_of(master, |port| format!("port {port}\n"))
    }

    /// The same, with lines of its configuration made of its port.
    pub(super) fn sentinel_of(master: &Self, lines: impl FnOnce(&str) -> String) -> Self {
        Self::bare(|folder, port| {
            let file = folder.join("sentinel.conf");
            let text = format!(
                "{}bind 127.0.0.1\nsentinel monitor shared 127.0.0.1 {} 1\n\
                 sentinel down-after-milliseconds shared 1000\n\
                 sentinel failover-timeout shared 5000\n",
                lines(port),
                master.port
            );
            fs::write(&file, text).expect("sentinel.conf is written");
            vec![file.display().to_string(), "--sentinel".into()]
        })
    }

    /// Three nodes that know each other.
    pub(super) fn cluster() -> Vec<Self> {
        Self::cluster_of(&[], |_, port| {
            ["--port", port, "--cluster-enabled", "yes"]
                .map(Into::into)
                .to_vec()
        })
    }

    /// The same, whose nodes have these arguments and are asked by redis-cli with those.
    pub(super) fn cluster_of(
        cli: &[&str],
        arguments: impl Fn(&Path, &str) -> Vec<String>,
    ) -> Vec<Self> {
        let node = || Self::with(&arguments);
        let nodes: Vec<Self> = (0..3).map(|_| node()).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let made = Command::new(CLI)
            .args(cli)
            .args(["--cluster", "create"])
            .args(addresses)
            .arg("--cluster-yes")
            .stdout(Stdio::null())
            .status()
            .expect("redis-cli runs");
        assert!(made.success(), "the cluster is made");
        until("the cluster serves", || {
            let info = [cli, &["CLUSTER", "INFO"]].concat();
            let serves = |node: &Self| node.cli(&info).contains("cluster_state:ok");
            nodes.iter().all(serves).then_some(())
        });
        nodes
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.folder.path().into()
    }

    /// What redis-cli prints.
    pub(super) fn cli(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new(CLI)
            .args(["-p", &port])
            .args(command)
            .output()
            .expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Again on its port, without what it knew.
    pub(super) fn restart(&mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.child = run(self.port, self.folder.path(), &self.arguments);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
