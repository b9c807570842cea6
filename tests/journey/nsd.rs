//! A real name server, nsd, with one zone: `test.`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::node::own_ip;
use super::wait::until;
use crate::disk::skip;

const NSD: &str = "/usr/sbin/nsd";
const PORT: u16 = 5300;
const HEAD: &str = "$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
";

pub(super) struct NameServer {
    child: Child,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl NameServer {
    /// Serves `records`, lines of a zone file. `None`, said aloud, where nsd is not installed.
    pub(super) fn start(records: &str) -> Option<Self> {
        if !Path::new(NSD).exists() {
            skip(&format!("{NSD} is missing (apt-get install nsd)"));
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let address = SocketAddr::from((own_ip(), PORT));
        fs::write(root.join("test.zone"), format!("{HEAD}{records}")).expect("a zone is written");
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
        until("nsd listens", || TcpStream::connect(address).ok());
        Some(server)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
