//! A node as an operator starts it: the binary, on a loopback address of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::wait::{PATIENCE, until, within};

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_posthaste");
const SMTP_PORT: u16 = 2525;
const HTTP_PORT: u16 = 8000;
/// Longest orderly end: sessions have 25 seconds, deliveries 60.
const STOP_MAX: Duration = Duration::from_secs(90);

/// A loopback address that no other node or peer has: all of 127/8 is this host, and on addresses
/// of their own fixed ports cannot be taken by anybody's ephemeral one.
pub(super) fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(next < 1000, "the suite has used up its addresses");
    // The upper half of 127/8, in blocks of 1,024 by process.
    let block = std::process::id() & 0x1FFF;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 128, 0, 0).to_bits() | block << 10 | next)
}

/// Fourteen loopback addresses that nobody else has, as the block that they are in.
pub(super) fn own_net() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(next < 16, "the suite has used up its blocks");
    // A quarter of what lies below those of `own_ip`, in blocks of 256 by process.
    let block = std::process::id() & 0x1FFF;
    let first = Ipv4Addr::new(127, 32, 0, 0).to_bits() | block << 8 | next << 4;
    format!("{}/28", Ipv4Addr::from_bits(first))
}

/// An address where nobody listens.
pub(super) fn closed() -> SocketAddr {
    SocketAddr::from((own_ip(), 1))
}

/// How a node is to be started. Flags and file as the operator would give them.
pub(super) struct Setup {
    ip: Ipv4Addr,
    args: Vec<String>,
    file: String,
    /// Where mail goes that no route is for.
    rest: Option<SocketAddr>,
    is_listening_by_file: bool,
    /// No flag is given that was not asked for.
    is_bare: bool,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Setup {
    /// One shard, retries each second, loopback trusted, no way out.
    pub(super) fn new() -> Self {
        Self {
            ip: own_ip(),
            args: Vec::new(),
            file: String::new(),
            rest: None,
            is_listening_by_file: false,
            is_bare: false,
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
        .arg("--shards", "1")
        .arg("--hostname", "mta.example.test")
        .arg("--retry", "1s")
    }

    /// All mail goes to `peer`.
    pub(super) fn to(peer: SocketAddr) -> Self {
        Self {
            rest: Some(peer),
            ..Self::new()
        }
    }

    /// As a stranger starts it, without file and flags: where the defaults say.
    pub(super) fn bare() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST,
            args: Vec::new(),
            is_bare: true,
            ..Self::new()
        }
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Started by `wrapper`, which is to execute what follows it.
    pub(super) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// A flag that may be given more than once.
    pub(super) fn also(mut self, flag: &str, value: &str) -> Self {
        self.args.extend([flag.into(), value.into()]);
        self
    }

    /// A later value of a flag replaces an earlier one.
    pub(super) fn arg(mut self, flag: &str, value: &str) -> Self {
        if let Some(at) = self.args.iter().position(|arg| arg == flag) {
            self.args[at + 1] = value.into();
        } else {
            self.args.extend([flag.into(), value.into()]);
        }
        self
    }

    /// Text of the configuration file; flags override it.
    pub(super) fn file(mut self, text: &str) -> Self {
        self.file.push_str(text);
        self.file.push('\n');
        self
    }

    /// Mail for `domain` goes to these, in this order.
    pub(super) fn route(self, domain: &str, hops: &[SocketAddr]) -> Self {
        let hops: Vec<String> = hops.iter().map(|hop| format!("\"{hop}\"")).collect();
        let hops = hops.join(", ");
        self.file(&format!(
            "[[route]]\ndomain = \"{domain}\"\nnext_hop = [{hops}]"
        ))
    }

    /// The file has its `[[listener]]`.
    pub(super) fn listeners_in_file(mut self) -> Self {
        self.is_listening_by_file = true;
        self
    }

    pub(super) const fn smtp(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), SMTP_PORT)
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(self) -> Node {
        let (setup, folder) = self.written();
        let mut node = Node {
            setup,
            folder,
            child: None,
            told: Arc::default(),
        };
        node.launch();
        node
    }

    /// Runs it to its end, for starts that must fail.
    pub(super) fn fail(self) -> Output {
        let (setup, folder) = self.written();
        ended(&mut setup.command(folder.path().to_path_buf()))
    }

    /// The flag for one way out replaces all routes of the file, so it is used where there are none.
    fn written(mut self) -> (Self, tempfile::TempDir) {
        if let Some(rest) = self.rest {
            self = if self.file.contains("[[route]]") {
                self.route("*", &[rest])
            } else {
                self.arg("--next-hop", &rest.to_string())
            };
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("posthaste.toml"), &self.file).expect("a file is written");
        (self, folder)
    }

    fn command(&self, folder: PathBuf) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).chain([BINARY]);
        let mut command = Command::new(words.next().expect("there is the binary"));
        command.args(words);
        command.arg("run").args(&self.args).current_dir(&folder);
        command.env_remove("POSTHASTE_HTTP_TOKEN");
        command.envs(self.environment.iter().cloned());
        if self.is_bare {
            return command;
        }
        for (flag, value) in [
            ("--listen", self.smtp().to_string()),
            ("--http", SocketAddr::from((self.ip, HTTP_PORT)).to_string()),
            ("--spool", folder.join("spool").display().to_string()),
            ("--log", folder.join("log").display().to_string()),
            (
                "--config",
                folder.join("posthaste.toml").display().to_string(),
            ),
        ] {
            let is_in_file = flag == "--listen" && self.is_listening_by_file;
            if !is_in_file && !self.args.iter().any(|arg| arg == flag) {
                command.args([flag, &value]);
            }
        }
        command
    }
}

/// What a program says that is to end by itself.
fn ended(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let end = within(PATIENCE, || child.try_wait().expect("a child is ours"));
    if end.is_none() {
        child.kill().expect("a child is ours");
    }
    let output = child.wait_with_output().expect("a child is ours");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(end.is_some(), "it goes on: {told}");
    output
}

/// A running node, killed when dropped.
pub(super) struct Node {
    setup: Setup,
    folder: tempfile::TempDir,
    child: Option<Child>,
    told: Arc<Mutex<String>>,
}

impl Node {
    fn launch(&mut self) {
        let mut child = self
            .setup
            .command(self.folder.path().to_path_buf())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("posthaste starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        self.told = Arc::default();
        let told = Arc::clone(&self.told);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut told = told.lock().expect("no reader panics");
                told.push_str(&line);
                told.push('\n');
            }
        });
        self.child = Some(child);
        let ready = within(PATIENCE, || {
            self.told().contains("posthaste: ready").then_some(())
        });
        assert!(ready.is_some(), "not ready: {}", self.told());
    }

    /// Starts it again on what the last run left.
    pub(super) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the last run has ended");
        self.launch();
    }

    /// For the next start.
    pub(super) fn add_to_file(&self, text: &str) {
        let path = self.folder.path().join("posthaste.toml");
        let written = fs::read_to_string(&path).expect("the file is ours");
        fs::write(path, format!("{written}\n{text}\n")).expect("the file is ours");
    }

    /// Freezes it, or lets it go on.
    pub(super) fn freeze(&self, is_frozen: bool) {
        self.signal(if is_frozen { "STOP" } else { "CONT" });
    }

    /// SIGTERM, and the end that follows.
    pub(super) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// SIGTERM only.
    pub(super) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGHUP.
    pub(super) fn hang_up(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {pid}")])
            .status();
        assert!(sent.expect("sh runs").success());
    }

    /// Waits for the end of a run that was told to end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let ended = within(STOP_MAX, || child.try_wait().expect("a child is ours"));
        ended.unwrap_or_else(|| {
            let _ = child.kill();
            panic!("SIGTERM did not end it: {}", self.told())
        })
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().expect("a child is ours");
        child.wait().expect("a child is ours");
    }

    pub(super) fn is_alive(&mut self) -> bool {
        let child = self.child.as_mut().expect("the node was started");
        matches!(child.try_wait(), Ok(None))
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// What this run wrote to standard error.
    pub(super) fn told(&self) -> String {
        self.told.lock().expect("no writer panics").clone()
    }

    pub(super) const fn smtp(&self) -> SocketAddr {
        self.setup.smtp()
    }

    pub(super) const fn http(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.setup.ip), HTTP_PORT)
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.folder().join("spool")
    }

    /// The directory of the delivery log.
    fn log(&self) -> PathBuf {
        let flag = self.setup.args.iter().position(|arg| arg == "--log");
        let named = flag.map(|at| PathBuf::from(&self.setup.args[at + 1]));
        named.unwrap_or_else(|| self.folder().join("log"))
    }

    /// Where it was started, and what is its own.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// CPUs that each of its threads may run on, by the names of the threads.
    pub(super) fn cpus(&self) -> BTreeMap<String, String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid()));
        let threads = threads.expect("a running process has threads");
        let read = |path: PathBuf| fs::read_to_string(path).ok();
        // A thread may end while it is looked at.
        let of = |thread: io::Result<fs::DirEntry>| {
            let path = thread.ok()?.path();
            let status = read(path.join("status"))?;
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
            Some((read(path.join("comm"))?.trim().into(), line.trim().into()))
        };
        threads.filter_map(of).collect()
    }

    /// Resident octets.
    pub(super) fn resident(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let text = text.expect("a running process has a status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilo = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        kilo.and_then(|kilo| kilo.trim().parse::<u64>().ok())
            .expect("VmRSS is in kB")
            * 1024
    }

    /// Open descriptors.
    pub(super) fn files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.expect("a running process has descriptors").count()
    }

    /// All whole lines of the delivery log.
    pub(super) fn records(&self) -> Vec<Value> {
        let path = self.log().join("delivery.log");
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("each line is one JSON object"))
            .collect()
    }

    /// The records of one message.
    pub(super) fn records_of(&self, id: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["id"] == id);
        records
    }

    /// Waits for `count` records of a kind, whatever the message.
    pub(super) fn wait_for(&self, kind: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} {kind} are logged"), || {
            let mut records = self.records();
            records.retain(|record| record["type"] == kind);
            (records.len() >= count).then_some(records)
        })
    }

    /// Status and body.
    pub(super) fn get(&self, path: &str) -> (u16, String) {
        get_at(self.http(), path)
    }

    /// Status and body.
    pub(super) fn post(&self, path: &str) -> (u16, String) {
        ask_at(self.http(), "POST", path)
    }

    /// One sample of `/metrics`; zero when it is not there.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix(' ')
        });
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until nothing is queued.
    pub(super) fn wait_empty(&self) {
        until("the queue is empty", || {
            (self.metric("posthaste_queue_entries") == 0.0).then_some(())
        });
    }

    /// `posthaste queue …` against this node.
    pub(super) fn queue(&self, arguments: &[&str]) -> Output {
        self.command(&[&["queue"], arguments].concat())
    }

    /// `posthaste …` against this node.
    pub(super) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .args(arguments)
            .args(["--http", &self.http().to_string()])
            .env_remove("POSTHASTE_HTTP_TOKEN")
            .output()
            .expect("posthaste runs")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Told by the test harness with the failed test's own output.
            print_told(&self.told());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Status and body.
pub(super) fn get_at(address: SocketAddr, path: &str) -> (u16, String) {
    ask_at(address, "GET", path)
}

fn ask_at(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("HTTP answers");
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("a request is taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("HTTP is text here");
    let status = text.get(9..12).and_then(|code| code.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.expect("a status line"), body.to_owned())
}

fn print_told(told: &str) {
    eprintln!("the node said:\n{told}");
}
