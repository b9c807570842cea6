//! The load of a scenario: `source` as a process of its own, so that neither side's CPU counts as the other's and a report comes whatever
//! happens. One per load.

use super::file::Load;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Domains given to a source on its command line.
const DOMAINS_MAX: usize = 2_000;
/// A source has its own grace of 3 s after the first signal.
const PATIENCE: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_millis(20);

/// A source that runs.
pub(super) struct Running {
    pid: Pid,
    /// Domains of the providers that get no mail, for want of room on the command line.
    left_out: usize,
    report: JoinHandle<io::Result<Value>>,
}

impl Running {
    /// Starts a source in a process group of its own: a Ctrl-C at the terminal reaches it once, through us.
    pub(super) fn start(
        load: &Load,
        target: &str,
        domains: &[Box<str>],
        owned: bool,
        seed: u64,
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["source", "--json", "--to", target])
            .args(["--messages", &load.messages.to_string()])
            .args(["--sessions", &load.sessions.to_string()])
            .args(["--per-connection", &load.per_connection.to_string()])
            .args(["--size", &load.size, "--timeout", &load.timeout])
            .args(["--recipients", &load.recipients.to_string()])
            .args(["--seed", &seed.to_string()])
            .args(&load.flags.line);
        let mut left_out = 0;
        if !load.flags.has_domains {
            let given = &domains[..domains.len().min(DOMAINS_MAX)];
            command.args(["--domain", &given.join(",")]);
            left_out = domains.len() - given.len();
        }
        if let Some(plan) = &load.arrivals {
            command.args(["--arrivals", plan]);
        }
        if owned {
            command.arg("--i-own-this-target");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = pid_of(&child);
        Ok(Self {
            pid,
            left_out,
            report: std::thread::spawn(move || report(child)),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.report.is_finished()
    }

    /// Ends the source, by force when it does not heed, and gives its report.
    pub(super) fn end(self) -> Value {
        if !self.is_over() {
            // It may just have ended by itself.
            let _ = kill(self.pid, Signal::SIGINT);
        }
        let began = Instant::now();
        while !self.is_over() && began.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
        }
        if !self.is_over() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        let fault = |text: String| json!({ "kind": "source", "accepted": 0, "fault": text });
        let mut report = match self.report.join() {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => fault(error.to_string()),
            Err(_) => fault("the reader of its report panicked".to_owned()),
        };
        if self.left_out > 0 {
            report["domains_left_out"] = self.left_out.into();
        }
        report
    }
}

fn report(child: Child) -> io::Result<Value> {
    let output = child.wait_with_output()?;
    // One object a line; the last is the report.
    let lines = output.stdout.trim_ascii_end();
    let last = lines.rsplit(|octet| *octet == b'\n').next();
    serde_json::from_slice(last.unwrap_or_default()).map_err(|_| {
        let told = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("{}: {}", output.status, told.trim()))
    })
}

/// The server under test, where the scenario starts it.
pub(super) struct Server(Child);

impl Server {
    pub(super) fn start(command: &[String]) -> io::Result<Option<Self>> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(None);
        };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        Ok(Some(Self(child)))
    }

    /// How it ended, if it did so before it was asked to.
    pub(super) fn fate(&mut self) -> Option<String> {
        match self.0.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(super) fn end(mut self) {
        // It may have ended by itself.
        let _ = kill(pid_of(&self.0), Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"))
}
