//! Simulated providers over real sockets: a scripted client, their name server, what they send back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenarios;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_posthaste-load");
const PATIENCE: Duration = Duration::from_secs(10);

/// A block of addresses and a port that no other test uses.
struct Place {
    net: String,
    port: u16,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        Self {
            net: format!(
                "127.{}.{}",
                64 + process % 64,
                (process / 64 * 16 + number) % 256
            ),
            port: free_port(),
        }
    }

    fn host(&self, number: u8) -> String {
        format!("{}.{number}:{}", self.net, self.port)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn profile(text: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("posthaste-load-{}-{number}.toml", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let base = "name = \"x\"\nhost = \"x.test\"\ndomains = [\"x.test\"]\n";
    std::fs::write(&path, format!("{base}{text}")).unwrap();
    path
}

const HOST: &str = "[[mx]]\nname = \"mx.x.test\"\n";

struct Serving {
    child: Child,
    place: Place,
    dns: String,
}

impl Serving {
    fn start(profile: &Path, more: &[&str]) -> Self {
        let place = Place::new();
        let dns = format!("127.0.0.1:{}", free_port());
        let mut child = Command::new(BINARY)
            .args(["provider", "serve", profile.to_str().unwrap(), "--json"])
            .args(["--addresses", &format!("{}.0/24", place.net)])
            .args(["--port", &place.port.to_string(), "--dns", &dns])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stderr.take().unwrap());
        let is_ready = told.lines().any(|line| line.unwrap() == "providers serve");
        assert!(is_ready, "the simulator did not start");
        Self { child, place, dns }
    }

    fn client(&self, host: u8) -> Client {
        Client::connect(&self.place.host(host))
    }

    /// By a signal, as from a terminal; the report must come all the same.
    fn end(self) -> Value {
        interrupt(&self.child);
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Once the program has taken the signal's handling upon itself.
fn interrupt(child: &Child) {
    let began = Instant::now();
    while !catches_interrupts(child.id()) {
        assert!(began.elapsed() < PATIENCE, "it would just be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
}

/// proc(5): `SigCgt` has a bit for each signal that is caught, SIGINT (2) the second.
fn catches_interrupts(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & 2 != 0
}

struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap());
        Self { stream, replies }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// All lines of one reply; empty when the connection is closed, in order or by a reset.
    fn reply(&mut self) -> String {
        let mut whole = Vec::new();
        loop {
            let start = whole.len();
            let read = self.replies.read_until(b'\n', &mut whole);
            let is_over = match read {
                Ok(length) => length == 0,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                Err(error) => panic!("no reply: {error}"),
            };
            if is_over || whole.get(start + 3) != Some(&b'-') {
                return String::from_utf8_lossy(&whole).into_owned();
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(&format!("{line}\r\n"));
        self.reply()
    }

    fn send(&mut self, recipient: &str) -> String {
        self.submit(recipient).unwrap_or_else(|| self.reply())
    }

    /// How the connection ends, or that it does not within the time-out; nothing where it ends in order.
    fn ending(&mut self) -> Option<ErrorKind> {
        self.stream.read(&mut [0]).err().map(|error| error.kind())
    }

    /// Sends a message up to its dot; the reply that came before, where it was refused earlier.
    fn submit(&mut self, recipient: &str) -> Option<String> {
        for command in [
            "MAIL FROM:<news@sender.test>",
            &format!("RCPT TO:<{recipient}>"),
            "DATA",
        ] {
            let reply = self.ask(command);
            if !reply.starts_with(['2', '3']) {
                return Some(reply);
            }
        }
        self.say("Subject: a\r\nX-Load-Id: a-0\r\n\r\nbody\r\n.\r\n");
        None
    }
}

#[test]
fn a_client_is_told_what_the_brain_decides() {
    let text = format!(
        "{HOST}[connections]\nper_ip = 2\n[[limit]]\namount = \"2/h\"\nwindow = \"sliding\"\n[[text.rate]]\ncode = \"421 4.7.28\"\n\
         lines = [\"too much\", \"from {{ip}}\"]\n"
    );
    let serving = Serving::start(&profile(&text), &[]);
    let mut client = serving.client(1);
    assert_eq!(client.reply(), "220 x.test ESMTP\r\n");
    assert!(client.ask("EHLO c.test").contains("PIPELINING"));
    assert!(client.send("a@x.test").starts_with("250 2.0.0"));
    assert!(client.send("unknown-7@x.test").starts_with("550 5.1.1"));
    let mut second = serving.client(1);
    assert!(second.reply().starts_with("220"));
    let mut third = serving.client(1);
    assert!(third.reply().starts_with("421 4.7.0"));
    assert_eq!(third.reply(), "", "closed");
    client.ask("RSET");
    assert_eq!(
        client.send("a@x.test"),
        "421-4.7.28 too much\r\n421 4.7.28 from 127.0.0.1\r\n"
    );
    assert_eq!(client.reply(), "", "closed");
    let report = serving.end();
    let account = &report["providers"][0];
    assert_eq!(account["accepted"], 1);
    assert_eq!(account["deferred"]["rate"], 1);
    assert_eq!(account["deferred"]["connection_limit"], 1);
    assert_eq!(account["refused"]["unknown_mailbox"], 1);
}

#[test]
fn slow_and_silent_and_reset_are_what_they_say() {
    let text =
        format!("{HOST}[delay]\nbanner = \"300ms\"\n[fault]\nreset = 1.0\nreset_takes = 1.0\n");
    let serving = Serving::start(&profile(&text), &[]);
    let began = Instant::now();
    let mut client = serving.client(1);
    assert!(client.reply().starts_with("220"));
    assert!(began.elapsed() >= Duration::from_millis(290));
    client.ask("EHLO c");
    assert_eq!(client.submit("a@x.test"), None);
    assert_eq!(client.ending(), Some(ErrorKind::ConnectionReset));
    let account = &serving.end()["providers"][0];
    assert_eq!(
        (&account["accepted"], &account["reset_but_taken"]),
        (&1.into(), &1.into())
    );

    let serving = Serving::start(&profile(&format!("{HOST}[fault]\nsilent = 1.0\n")), &[]);
    let mut client = serving.client(1);
    client.reply();
    client.ask("EHLO c");
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(client.submit("a@x.test"), None);
    assert_eq!(client.ending(), Some(ErrorKind::WouldBlock));
    assert_eq!(serving.end()["providers"][0]["silent"], 1);
}

#[test]
fn starttls_is_offered_and_fails() {
    let text = format!("{HOST}[tls]\noffer = 1.0\ngarbage = 1.0\n");
    let serving = Serving::start(&profile(&text), &[]);
    let mut client = serving.client(1);
    client.reply();
    assert!(client.ask("EHLO c").contains("STARTTLS"));
    assert!(client.ask("STARTTLS").starts_with("220"));
    let mut garbage = Vec::new();
    client.replies.read_to_end(&mut garbage).unwrap();
    assert_eq!(garbage.len(), 64);
    assert_eq!(serving.end()["providers"][0]["deferred"]["tls_fault"], 1);
}

#[test]
fn tls_carries_mail_to_a_provider() {
    let text = format!("{HOST}[tls]\noffer = 1.0\nrequired = 1.0\n");
    let serving = Serving::start(&profile(&text), &[]);
    let common = ["source", "--json", "--messages", "30", "--sessions", "3"];
    let host = serving.place.host(1);
    let common = [&common[..], &["--to", &host]].concat();
    let output = run(&[&common[..], &["--starttls", "--tls-insecure"]].concat());
    assert!(output.status.success(), "{output:?}");
    let output = run(&[&common[..], &["--retries", "0"]].concat());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("530 to MAIL"),
        "{output:?}"
    );
    let report = serving.end();
    let account = &report["providers"][0];
    assert_eq!(account["accepted"], 30);
    assert_eq!(account["latency"]["count"], 30);
    assert_eq!(account["refused"]["tls_required"], 30);
    let secured = account["secured"].as_u64().unwrap();
    assert!((1..account["connections"].as_u64().unwrap()).contains(&secured));
}

#[test]
fn commands_ahead_of_tls_are_never_heard() {
    let text = format!("{HOST}[tls]\noffer = 1.0\n");
    let serving = Serving::start(&profile(&text), &[]);
    let mut client = serving.client(1);
    client.reply();
    client.ask("EHLO c");
    client.say("STARTTLS\r\nNOOP\r\n");
    let mut rest = String::new();
    // A reset reads as an end.
    let _ = client.replies.read_to_string(&mut rest);
    assert!(!rest.contains("250"), "{rest}");
    assert_eq!(serving.end()["providers"][0]["secured"], 0);
}

#[test]
fn hosts_may_have_ipv6() {
    const AAAA: u8 = 28;
    if TcpListener::bind("[::1]:0").is_err() {
        assert!(std::env::var_os("CI").is_none(), "no IPv6 in CI");
        // Not by a macro, whose words a passing test keeps to itself.
        let told = "SKIPPED: this machine has no ::1: no AAAA record was followed";
        writeln!(std::io::stderr(), "{told}").unwrap();
        return;
    }
    let text = format!("{HOST}ipv6 = 1\n");
    let count = |serving: &Serving| ask(serving, "mx.x.test", AAAA).1;
    let serving = Serving::start(&profile(&text), &["--addresses6", "::1/128"]);
    let (code, answers, reply) = ask(&serving, "mx.x.test", AAAA);
    assert_eq!((code, answers), (0, 1));
    let mut address = [0; 16];
    address.copy_from_slice(&reply[reply.len() - 16..]);
    assert_eq!(Ipv6Addr::from(address), Ipv6Addr::LOCALHOST);
    let there = format!("[::1]:{}", serving.place.port);
    assert!(Client::connect(&there).reply().starts_with("220"));
    assert!(serving.client(1).reply().starts_with("220"));
    serving.end();
    // Without a block there are none; those that refuse are in the zone all the same.
    let serving = Serving::start(&profile(&text), &[]);
    assert_eq!(count(&serving), 0);
    serving.end();
    let text = format!("{text}ipv6_refused = 1\n");
    let serving = Serving::start(&profile(&text), &["--addresses6", "::1/128"]);
    assert_eq!(count(&serving), 1);
    let there = format!("[::1]:{}", serving.place.port);
    assert!(TcpStream::connect(there).is_err());
    serving.end();
}

#[test]
fn hosts_may_refuse_or_never_answer() {
    let text = "[[mx]]\nname = \"mx.x.test\"\naddresses = 3\nrefused = 1\nunreachable = 1\n";
    let serving = Serving::start(&profile(text), &[]);
    let attempt = |host: u8| {
        let address = serving.place.host(host).parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_millis(500)).map_err(|e| e.kind())
    };
    assert_eq!(attempt(1).unwrap_err(), ErrorKind::ConnectionRefused);
    assert_eq!(attempt(2).unwrap_err(), ErrorKind::TimedOut);
    assert!(serving.client(3).reply().starts_with("220"));
    serving.end();
}

/// A question for the records of `name`, by hand (RFC 1035 §4).
fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, kind, 0, 1]);
    query
}

/// Response code, number of answers and the whole reply, over UDP.
fn ask(serving: &Serving, name: &str, kind: u8) -> (u8, u8, Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question(name, kind), &serving.dns).unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).unwrap();
    (reply[3] & 15, reply[7], reply[..length].to_vec())
}

#[test]
fn the_name_server_leads_to_the_hosts() {
    const A: u8 = 1;
    const MX: u8 = 15;
    let serving = Serving::start(&profile(HOST), &[]);
    let ask = |name: &str, kind: u8| ask(&serving, name, kind);
    let (code, answers, _) = ask("x.test", MX);
    assert_eq!((code, answers), (0, 1));
    let (code, answers, reply) = ask("mx.x.test", A);
    assert_eq!((code, answers), (0, 1));
    let address = serving.place.host(1);
    let octets = reply[reply.len() - 4..].to_vec();
    let told = format!("{}.{}.{}.{}", octets[0], octets[1], octets[2], octets[3]);
    assert!(address.starts_with(&told), "{told} {address}");
    assert_eq!(ask("nowhere.test", MX).0, 3);
    let mut stream = TcpStream::connect(&serving.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = question("x.test", MX);
    stream
        .write_all(&u16::try_from(query.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&query).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!((reply[5] & 15, reply[9]), (0, 1));
    assert_eq!(serving.end()["queries"], 4);
}

#[test]
fn silent_clients_hold_up_no_name_over_tcp() {
    const MX: u8 = 15;
    let serving = Serving::start(&profile(HOST), &[]);
    let connect = || TcpStream::connect(&serving.dns).unwrap();
    // Each is waited for in turn by a server that takes one after the other: longer than the one that asks is patient.
    let _silent: Vec<_> = (0..20).map(|_| connect()).collect();
    let mut stream = connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = question("x.test", MX);
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!((reply[5] & 15, reply[9]), (0, 1));
    serving.end();
}

#[test]
fn threads_of_one_provider_share_its_mind() {
    let text = format!("{HOST}[connections]\nper_ip = 6\n");
    let serving = Serving::start(&profile(&text), &["--threads", "3"]);
    let host = serving.place.host(1);
    let arguments = [
        "source",
        "--json",
        "--messages",
        "300",
        "--sessions",
        "6",
        "--per-connection",
        "10",
        "--to",
        &host,
    ];
    let output = run(&arguments);
    assert!(output.status.success(), "{output:?}");
    let open: Vec<_> = (0..9)
        .map(|_| {
            let mut client = serving.client(1);
            let is_taken = client.reply().starts_with("220");
            (client, is_taken)
        })
        .collect();
    let taken = open.iter().filter(|(_, is_taken)| *is_taken).count();
    assert_eq!(taken, 6, "whatever thread each came to");
    let report = serving.end();
    let account = &report["providers"][0];
    assert_eq!(account["accepted"], 300);
    assert_eq!(account["latency"]["count"], 300);
    assert_eq!(account["duplicates"], 0);
    assert_eq!(account["connections_max"], 6);
}

/// Takes one message by SMTP and gives its envelope and text.
fn take_one(listener: &TcpListener) -> String {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut whole = String::new();
    out.write_all(b"220 t\r\n").unwrap();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let is_data = whole.contains("DATA\n");
        let reply: &[u8] = match line.as_str() {
            "DATA" => b"354 go\r\n",
            "." => b"250 ok\r\n",
            _ if is_data => b"",
            _ => b"250 ok\r\n",
        };
        out.write_all(reply).unwrap();
        whole.push_str(&line);
        whole.push('\n');
        if line == "." {
            break;
        }
    }
    whole
}

#[test]
fn complaints_and_bounces_are_sent_back() {
    let text =
        format!("{HOST}[complaint]\nshare = 1.0\n[bounce]\nshare = 1.0\nafter = \"200ms\"\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let serving = Serving::start(
        &profile(&text),
        &["--return-to", &target, "--complaints-to", "fbl@sender.test"],
    );
    let mut client = serving.client(1);
    client.reply();
    client.ask("EHLO c");
    assert!(client.send("b@x.test").starts_with("250"));
    let complaint = take_one(&listener);
    assert!(
        complaint.contains("RCPT TO:<fbl@sender.test>\n"),
        "{complaint}"
    );
    assert!(complaint.contains("\nFeedback-Type: abuse\n"));
    assert!(
        complaint.contains("\nX-Load-Id: a-0\n"),
        "the header comes along"
    );
    let bounce = take_one(&listener);
    assert!(bounce.contains("MAIL FROM:<>\n") && bounce.contains("RCPT TO:<news@sender.test>\n"));
    assert!(bounce.contains("\nStatus: 5.1.1\n"));
    let report = serving.end();
    assert_eq!(
        (&report["returned"], &report["not_returned"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn what_cannot_be_sent_back_is_told() {
    let text = format!("{HOST}[complaint]\nshare = 1.0\n[bounce]\nshare = 1.0\n");
    // It is connected to and never answers.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = deaf.local_addr().unwrap().to_string();
    for more in [&["--return-to", &target][..], &[]] {
        let serving = Serving::start(&profile(&text), more);
        let mut client = serving.client(1);
        client.reply();
        for _ in 0..3 {
            assert!(client.send("b@x.test").starts_with("250"));
        }
        let report = serving.end();
        let account = &report["providers"][0];
        assert_eq!(account["complaints"], 3, "{more:?}");
        assert_eq!(account["bounces"], 3, "{more:?}");
        assert_eq!(report["returned"], 0, "{more:?}");
        assert_eq!(report["not_returned"], 6, "{more:?}");
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

#[test]
fn a_wrong_profile_is_told_with_place_and_nearest_key_and_exit_78() {
    let path = profile("[[mx]]\nname = \"m.test\"\n[conections]\nper_ip = 5\n");
    let output = run(&["provider", "check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains(".toml:6:2: `conections` is not a known key; did you mean `connections`?"),
        "{told}"
    );
}

#[test]
fn a_name_of_no_profile_is_told_with_the_nearest() {
    for command in ["list", "check"] {
        let output = run(&["provider", command, "gmial"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(output.stdout.is_empty());
        assert!(told.contains("gmial: "), "{told}");
        assert!(told.contains("did you mean gmail? Shipped profiles are comcast, gateway, gmail,"));
    }
    let output = run(&["provider", "list", "gmail"]);
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"# Gmail-like: "));
}

#[test]
fn the_simulator_prints_the_truth_as_json() {
    let output = run(&[
        "provider", "simulate", "limiter", "--days", "0.01", "--json",
    ]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["truth"]["provider"], "limiter");
    assert_eq!(report["delivered"], report["truth"]["recipients_accepted"]);
}

/// Some seconds where nothing else runs: the bound is for machines that are busy with much else, and builds without optimisation.
#[test]
fn a_simulated_month_runs_in_seconds() {
    const BOUND: Duration = Duration::from_secs(120);
    let line = "provider simulate outlook --days 30 --rate 1/s --model aimd --json";
    let began = Instant::now();
    let output = run(&line.split(' ').collect::<Vec<_>>());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["offered"], 30 * 86_400 + 1);
    assert_eq!(report["truth"]["days"].as_array().unwrap().len(), 30);
    let speed = report["attempts_per_second_real"].as_f64().unwrap();
    let attempts = report["attempts"].as_f64().unwrap();
    assert!(speed > attempts / BOUND.as_secs_f64(), "{speed}");
    assert!(report["seconds_real"].as_f64().unwrap() > 0.0);
}

/// As `postfix_defers_what_it_published` has it from the library.
#[test]
fn the_published_figures_of_postfix_have_a_command() {
    for (feedback, published) in [("1/N", 16.5), ("1/sqrt(N)", 24.5), ("1", 49.7)] {
        let line = format!(
            "provider simulate limiter --model postfix --feedback {feedback} --once --batch 1000 --recipients 2 --rate 0 --json"
        );
        let arguments: Vec<_> = line.split(' ').collect();
        let report: Value = serde_json::from_slice(&run(&arguments).stdout).unwrap();
        let count = |key: &str| report[key].as_f64().unwrap();
        let deferred = count("deferrals") / (count("delivered") + count("expired")) * 100.0;
        assert!((deferred - published).abs() <= 1.0, "{feedback}: {report}");
    }
    let refused = ["provider", "simulate", "limiter", "--feedback", "2/N"];
    assert_eq!(run(&refused).status.code(), Some(2));
}

#[test]
fn an_interrupted_simulation_still_reports() {
    let years = [
        "provider", "simulate", "yahoo", "--days", "100000", "--json",
    ];
    let child = Command::new(BINARY)
        .args(years)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let settled = ["delivered", "refused", "expired", "waiting"];
    let settled: u64 = settled
        .iter()
        .map(|key| report[key].as_u64().unwrap())
        .sum();
    assert_eq!(report["offered"], settled, "{report}");
}
