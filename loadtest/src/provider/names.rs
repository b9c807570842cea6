//! The providers' name servers: MX (null ones too), A and AAAA records of made-up domains, NXDOMAIN for all else, faults by rate. The answer is a pure function of
//! query and chance; a thread carries it over UDP, and one for each connection over TCP.

use super::profile::{NameFaults, Profile};
use crate::quantity::Random;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Short, so that a change of profile is seen.
const TTL: u32 = 60;
const NEGATIVE_TTL: u32 = 5;
const LOOK: Duration = Duration::from_millis(50);
/// For one TCP query, however slowly it comes.
const PATIENCE: Duration = Duration::from_secs(2);
/// TCP connections at once; further ones are closed unanswered.
const STREAMS_MAX: usize = 64;
const UDP_PAYLOAD: u16 = 1232;

#[derive(Default)]
struct Entry {
    exchanges: Vec<(u16, Name)>,
    addresses: Vec<IpAddr>,
    faults: NameFaults,
}

/// All records, by lower-case name.
#[derive(Default)]
pub(super) struct Zone(BTreeMap<String, Entry>);

impl Zone {
    /// Adds a provider; `addresses` are those of its hosts, in order.
    pub(super) fn add(&mut self, profile: &Profile, addresses: &[Vec<IpAddr>]) -> io::Result<()> {
        let mut exchanges = Vec::new();
        for (host, addresses) in profile.hosts.iter().zip(addresses) {
            exchanges.push((host.preference, name_of(&host.name)?));
            let entry = self.0.entry(host.name.to_string()).or_default();
            entry.addresses.extend_from_slice(addresses);
            entry.faults = profile.name_faults.clone();
        }
        for domain in &profile.domains {
            let entry = self.0.entry(domain.to_string()).or_default();
            if !entry.exchanges.is_empty() {
                let text = format!("{domain} belongs to two providers");
                return Err(io::Error::other(text));
            }
            entry.exchanges.clone_from(&exchanges);
            entry.faults = profile.name_faults.clone();
        }
        for domain in &profile.null_mx {
            let entry = self.0.entry(domain.to_string()).or_default();
            if !entry.exchanges.is_empty() {
                let text = format!("{domain} takes mail and takes none");
                return Err(io::Error::other(text));
            }
            entry.exchanges = vec![(0, Name::root())];
            entry.faults = profile.name_faults.clone();
        }
        Ok(())
    }

    /// The reply to a query; `None` is silence.
    pub(super) fn answer(
        &self,
        query: &[u8],
        is_tcp: bool,
        random: &mut Random,
    ) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = true;
        if query.edns.is_some() {
            let mut options = Edns::new();
            options.set_max_payload(UDP_PAYLOAD).set_version(0);
            reply.set_edns(options);
        }
        let question = match query.queries.as_slice() {
            [question] if query.metadata.op_code == OpCode::Query => question.clone(),
            _ => {
                reply.metadata.response_code = ResponseCode::NotImp;
                return reply.to_vec().ok();
            }
        };
        reply.add_query(question.clone());
        let name = question.name().clone();
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let Some(entry) = self.0.get(&text) else {
            if !self.has_below(&text) {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            reply.add_authority(authority(&name));
            return reply.to_vec().ok();
        };
        if random.falls_in(entry.faults.silent) {
            return None;
        }
        if random.falls_in(entry.faults.servfail) {
            reply.metadata.response_code = ResponseCode::ServFail;
            return reply.to_vec().ok();
        }
        if !is_tcp && random.falls_in(entry.faults.truncated) {
            reply.metadata.truncation = true;
            return reply.to_vec().ok();
        }
        entry.records(&name, question.query_type(), &mut reply);
        if reply.answers.is_empty() {
            reply.add_authority(authority(&name));
        }
        reply.to_vec().ok()
    }

    /// An empty non-terminal exists (RFC 8020).
    fn has_below(&self, name: &str) -> bool {
        let suffix = format!(".{name}");
        self.0.keys().any(|known| known.ends_with(&suffix))
    }
}

impl Entry {
    fn records(&self, name: &Name, kind: RecordType, reply: &mut Message) {
        if kind == RecordType::MX || kind == RecordType::ANY {
            for (preference, exchange) in &self.exchanges {
                let data = RData::MX(MX::new(*preference, exchange.clone()));
                reply.add_answer(Record::from_rdata(name.clone(), TTL, data));
            }
        }
        for address in &self.addresses {
            let (its_kind, data) = match address {
                IpAddr::V4(address) => (RecordType::A, RData::A(A(*address))),
                IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(*address))),
            };
            if kind == its_kind || kind == RecordType::ANY {
                reply.add_answer(Record::from_rdata(name.clone(), TTL, data));
            }
        }
    }
}

fn authority(name: &Name) -> Record {
    let zone = name.base_name();
    let data = SOA::new(
        zone.clone(),
        zone.clone(),
        1,
        3600,
        600,
        86_400,
        NEGATIVE_TTL,
    );
    Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(data))
}

fn name_of(text: &str) -> io::Result<Name> {
    Name::from_ascii(format!("{text}."))
        .map_err(|error| io::Error::other(format!("{text}: {error}")))
}

/// Name servers that answer.
pub(super) struct Started {
    pub(super) address: SocketAddr,
    pub(super) queries: Arc<AtomicU64>,
    pub(super) threads: [JoinHandle<io::Result<()>>; 2],
}

/// Answers on UDP and TCP until `finished`; returns once both are bound.
pub(super) fn start(
    address: SocketAddr,
    zone: Zone,
    seed: u64,
    finished: &Arc<AtomicBool>,
) -> io::Result<Started> {
    let wrap = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot serve DNS on {address}: {error}"),
        )
    };
    let udp = UdpSocket::bind(address).map_err(wrap)?;
    let address = udp.local_addr()?;
    let tcp = TcpListener::bind(address).map_err(wrap)?;
    udp.set_read_timeout(Some(LOOK))?;
    tcp.set_nonblocking(true)?;
    let (zone, queries) = (Arc::new(zone), Arc::new(AtomicU64::new(0)));
    let (over, of_udp, count) = (
        Arc::clone(finished),
        Arc::clone(&zone),
        Arc::clone(&queries),
    );
    let over_udp = std::thread::spawn(move || {
        let mut random = Random::new(seed);
        let mut buffer = [0; 4096];
        while !over.load(Ordering::Relaxed) {
            let Ok((length, peer)) = udp.recv_from(&mut buffer) else {
                continue;
            };
            count.fetch_add(1, Ordering::Relaxed);
            if let Some(reply) = of_udp.answer(&buffer[..length], false, &mut random) {
                // A peer that is gone does not need it.
                let _ = udp.send_to(&reply, peer);
            }
        }
        Ok(())
    });
    let (over, count) = (Arc::clone(finished), Arc::clone(&queries));
    let over_tcp = std::thread::spawn(move || {
        let mut random = Random::new(seed ^ 1);
        let mut streams: Vec<JoinHandle<()>> = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = tcp.accept() else {
                std::thread::sleep(LOOK);
                continue;
            };
            count.fetch_add(1, Ordering::Relaxed);
            streams.retain(|stream| !stream.is_finished());
            if streams.len() >= STREAMS_MAX {
                continue;
            }
            let (zone, mut random) = (Arc::clone(&zone), Random::new(random.draw()));
            streams.push(std::thread::spawn(move || {
                // A peer that breaks off is its own trouble.
                let _ = answer_stream(stream, &zone, &mut random);
            }));
        }
        for stream in streams {
            let panicked = |_| io::Error::other("a name server's thread panicked");
            stream.join().map_err(panicked)?;
        }
        Ok(())
    });
    Ok(Started {
        address,
        queries,
        threads: [over_udp, over_tcp],
    })
}

/// One query of a connection, then it is closed.
fn answer_stream(mut stream: TcpStream, zone: &Zone, random: &mut Random) -> io::Result<()> {
    let ends = Instant::now() + PATIENCE;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut length = [0; 2];
    read_by(ends, &mut stream, &mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    read_by(ends, &mut stream, &mut query)?;
    let Some(reply) = zone.answer(&query, true, random) else {
        return Ok(());
    };
    let mut framed = u16::try_from(reply.len())
        .map_err(io::Error::other)?
        .to_be_bytes()
        .to_vec();
    framed.extend_from_slice(&reply);
    stream.write_all(&framed)
}

/// Fills `buffer`; an octet now and then wins no time.
fn read_by(ends: Instant, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;

    fn zone(faults: &str) -> Zone {
        let text = format!(
            "name = \"x\"\ndomains = [\"x.test\", \"deep.y.test\"]\n[[mx]]\nname = \"mx.x.test\"\npreference = 7\naddresses = 2\n{faults}"
        );
        let profile = Profile::parse("x", &text).unwrap();
        let mut zone = Zone::default();
        let addresses = ["127.1.0.1", "127.1.0.2", "fd00::1"].map(|text| text.parse().unwrap());
        zone.add(&profile, &[addresses.to_vec()]).unwrap();
        zone
    }

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> Option<Message> {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let octets = query.to_vec().unwrap();
        let reply = zone.answer(&octets, false, &mut Random::new(1))?;
        Some(Message::from_vec(&reply).unwrap())
    }

    #[test]
    fn domains_have_exchanges_and_hosts_have_addresses() {
        let zone = zone("");
        let reply = ask(&zone, "X.Test.", RecordType::MX).unwrap();
        let RData::MX(mx) = &reply.answers[0].data else {
            panic!("{reply:?}");
        };
        assert_eq!(
            (mx.preference, mx.exchange.to_ascii()),
            (7, "mx.x.test.".to_owned())
        );
        assert_eq!(reply.metadata.id, 77);
        let reply = ask(&zone, "mx.x.test.", RecordType::A).unwrap();
        let kinds: Vec<_> = reply.answers.iter().map(Record::record_type).collect();
        assert_eq!(kinds, [RecordType::A, RecordType::A]);
        let reply = ask(&zone, "mx.x.test.", RecordType::AAAA).unwrap();
        let [record] = &reply.answers[..] else {
            panic!("{reply:?}");
        };
        assert_eq!(record.data.to_string(), "fd00::1");
    }

    #[test]
    fn a_domain_that_takes_no_mail_says_so() {
        let text = "name = \"x\"\ndomains = [\"x.test\"]\nnull_mx = [\"No.x.test\"]\n[[mx]]\nname = \"mx.x.test\"\n";
        let profile = Profile::parse("x", text).unwrap();
        let mut zone = Zone::default();
        zone.add(&profile, &[vec!["127.1.0.1".parse().unwrap()]])
            .unwrap();
        let reply = ask(&zone, "no.x.test.", RecordType::MX).unwrap();
        let [record] = &reply.answers[..] else {
            panic!("{reply:?}");
        };
        assert_eq!(record.data.to_string(), "0 .");
        let address = ask(&zone, "no.x.test.", RecordType::A).unwrap();
        assert!(address.answers.is_empty());
        let text = text.replace("No.x.test", "x.test");
        let profile = Profile::parse("x", &text).unwrap();
        let made = Zone::default().add(&profile, &[Vec::new()]);
        assert_eq!(
            made.unwrap_err().to_string(),
            "x.test takes mail and takes none"
        );
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let zone = zone("");
        let missing = ask(&zone, "no.such.test.", RecordType::MX).unwrap();
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(missing.authorities.len(), 1);
        for (name, kind) in [
            ("mx.x.test.", RecordType::MX),
            ("x.test.", RecordType::AAAA),
            ("y.test.", RecordType::MX),
            ("x.test.", RecordType::A),
        ] {
            let reply = ask(&zone, name, kind).unwrap();
            assert_eq!(
                reply.metadata.response_code,
                ResponseCode::NoError,
                "{name}"
            );
            assert!(reply.answers.is_empty());
        }
    }

    #[test]
    fn faults_are_made() {
        assert!(ask(&zone("[dns]\nsilent = 1.0\n"), "x.test.", RecordType::MX).is_none());
        let failed = ask(&zone("[dns]\nservfail = 1.0\n"), "x.test.", RecordType::MX).unwrap();
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        let short = ask(&zone("[dns]\ntruncated = 1.0\n"), "x.test.", RecordType::MX).unwrap();
        assert!(short.metadata.truncation && short.answers.is_empty());
    }

    #[test]
    fn garbage_is_no_query() {
        let zone = zone("");
        for garbage in [&b""[..], b"x", &[0xFF; 40], &[0; 12]] {
            // No panic; what cannot be read gets no answer or an error.
            let _ = zone.answer(garbage, false, &mut Random::new(1));
        }
        let mut reply = Message::new(77, MessageType::Response, OpCode::Query);
        let name = Name::from_ascii("x.test.").unwrap();
        reply.add_query(Query::query(name, RecordType::MX));
        for unasked in [&[0xFF; 40][..], &reply.to_vec().unwrap()] {
            assert!(zone.answer(unasked, false, &mut Random::new(1)).is_none());
        }
    }
}
