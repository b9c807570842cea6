//! The resolver against a real name server (nsd) and against one that sends garbage.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste::dns::{Options, Resolver};
use posthaste::rt;
use posthaste_core::route::Policy;
use posthaste_core::words::{Domain, Moment, Plan, RouteError};

const NOW: Moment = Moment::from_secs(1_800_000_000);
const NSD: &str = "/usr/sbin/nsd";
const START_MAX: Duration = Duration::from_secs(10);
/// Equal MX records of `big.test.`: more than a UDP answer holds.
const BIG: usize = 120;

const ZONE: &str = "$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
two MX 10 a
two MX 20 b
a A 203.0.113.1
b A 203.0.113.2
b AAAA 2001:db9::2
implicit A 203.0.113.3
null MX 0 .
alias CNAME two
";

struct NameServer {
    child: Child,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl NameServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let address = free_address();
        let mut zone = ZONE.to_owned();
        for host in 0..BIG {
            zone += &format!("big MX 10 a-rather-long-host-name-{host}\n");
            zone += &format!("a-rather-long-host-name-{host} A 203.0.113.9\n");
        }
        fs::write(root.join("test.zone"), zone).expect("the zone is written");
        fs::write(root.join("nsd.conf"), configuration(root, address))
            .expect("nsd.conf is written");
        let child = Command::new(NSD)
            .arg("-d")
            .arg("-c")
            .arg(root.join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsd starts");
        let server = Self {
            child,
            _folder: folder,
            address,
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(server.address).is_err() {
            assert!(
                begun.elapsed() < START_MAX,
                "nsd does not listen on {address}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("a bound socket has an address")
}

fn configuration(root: &Path, address: SocketAddr) -> String {
    let (ip, port, root) = (address.ip(), address.port(), root.display());
    format!(
        "server:\n ip-address: {ip}@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{root}\"\n \
         pidfile: \"{root}/nsd.pid\"\n xfrdfile: \"{root}/xfrd.state\"\n zonelistfile: \"{root}/zone.list\"\n \
         xfrdir: \"{root}\"\n database: \"\"\n server-count: 1\nremote-control:\n control-enable: no\n\
         zone:\n name: test\n zonefile: test.zone\n"
    )
}

fn resolver(server: SocketAddr) -> Resolver {
    let options = Options {
        resolvers: vec![server],
        timeout: Duration::from_millis(300),
        attempts: 2,
        ..Options::default()
    };
    Resolver::new(options, Arc::new(Policy::default()))
}

async fn route(resolver: &Resolver, name: &str) -> Result<Arc<Plan>, RouteError> {
    let domain = Domain::parse(name).expect("a domain");
    resolver.resolve(&domain, NOW).await.0
}

fn addresses(plan: &Plan) -> Vec<String> {
    plan.hosts
        .iter()
        .map(|host| host.address.to_string())
        .collect()
}

#[test]
fn a_real_name_server_is_understood() {
    if !Path::new(NSD).exists() {
        assert!(std::env::var_os("CI").is_none(), "nsd is missing in CI");
        eprintln!(
            "SKIPPED: {NSD} is missing (apt-get install nsd): the resolver met no real server"
        );
        return;
    }
    let server = NameServer::start();
    rt::run(async {
        let resolver = resolver(server.address);
        let two = route(&resolver, "two.test").await.expect("two MX");
        assert_eq!(
            addresses(&two),
            ["203.0.113.1:25", "203.0.113.2:25", "[2001:db9::2]:25"]
        );
        let alias = route(&resolver, "alias.test")
            .await
            .expect("an alias of two MX");
        assert_eq!(alias.hosts, two.hosts);
        let implicit = route(&resolver, "implicit.test")
            .await
            .expect("an address is an MX");
        assert_eq!(addresses(&implicit), ["203.0.113.3:25"]);
        assert_eq!(route(&resolver, "null.test").await, Err(RouteError::NullMx));
        assert_eq!(
            route(&resolver, "gone.test").await,
            Err(RouteError::NoSuchDomain)
        );
        let big = route(&resolver, "big.test")
            .await
            .expect("TCP carries what UDP cannot");
        assert!(
            big.hosts
                .iter()
                .all(|host| host.address.ip().to_string() == "203.0.113.9")
        );
    })
    .expect("an executor");
}

#[test]
fn a_garbling_or_silent_server_is_a_temporary_failure() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = server.local_addr().expect("a bound socket has an address");
    server
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout is set");
    let garbler = std::thread::spawn(move || {
        let mut query = [0; 1500];
        let mut seen = 0usize;
        while let Ok((octets, from)) = server.recv_from(&mut query) {
            let mut answer = query[..octets].to_vec();
            match seen % 4 {
                0 => answer[0] ^= 0xFF,
                1 => answer.truncate(7),
                2 => answer.extend([0xC0, 0x0C].repeat(200)),
                _ => answer.clear(),
            }
            seen += 1;
            let _ = server.send_to(&answer, from);
        }
        seen
    });
    let result =
        rt::run(async { route(&resolver(address), "two.test").await }).expect("an executor");
    assert!(matches!(result, Err(RouteError::Dns(_))), "{result:?}");
    assert!(garbler.join().expect("the garbler ends") > 0);
}
