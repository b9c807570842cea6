//! Resolvers, asked one question at a time, and the names of addresses. Blocking: no executor runs.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType as WireType};
use posthaste_core::route::{Answer, Data, Query, RecordType};
use posthaste_core::words::Domain;
use posthaste_tuning::{Latency, Reverse};

use super::disk;
use crate::dns::{BadReply, build_query, parse_answer};

/// RFC 6761 §6.4: a name under this never exists.
const NO_NAME: &str = "posthaste-doctor.invalid";
const QUESTIONS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(1);
const DATAGRAM_OCTETS_MAX: usize = 4096;
/// Datagrams that answer something else, before we give up.
const STRAYS_MAX: usize = 8;
/// Names of one address that are tried.
const NAMES_MAX: usize = 4;

/// How long `resolver` takes for a name that does not exist.
///
/// # Errors
/// Why it does not answer, for the operator.
pub(super) fn latency(resolver: SocketAddr) -> Result<Latency, String> {
    let query = Query {
        name: Domain::parse(NO_NAME).map_err(|error| error.to_string())?,
        kind: RecordType::A,
    };
    let deadline = || Instant::now() + PATIENCE;
    let mut samples = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let start = Instant::now();
        address_answer(resolver, &query, deadline())?;
        samples.push(start.elapsed());
    }
    Ok(disk::latency(&mut samples))
}

/// The name of `source` and whether it leads back to it; asked within `deadline`.
pub(super) fn reverse(source: IpAddr, resolver: SocketAddr, deadline: Instant) -> Reverse {
    let patience = || deadline.min(Instant::now() + 2 * PATIENCE);
    let names = match names_of(source, resolver, patience()) {
        Ok(names) => names,
        Err(why) => return Reverse::Unreachable(why),
    };
    let kind = match source {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::Aaaa,
    };
    let text = |name: &Name| name.to_utf8().trim_end_matches('.').to_owned();
    for name in &names {
        let Ok(domain) = Domain::parse(&text(name)) else {
            continue;
        };
        let query = Query { name: domain, kind };
        match address_answer(resolver, &query, patience()) {
            Ok(Some(answer)) if answer.records.contains(&Data::Address(source)) => {
                return Reverse::Confirmed(text(name));
            }
            Ok(_) => {}
            Err(why) => return Reverse::Unreachable(why),
        }
    }
    let first = names.first().map(text);
    first.map_or(Reverse::Nameless, Reverse::Unconfirmed)
}

/// None from a server that answers, but not as we asked.
fn address_answer(
    resolver: SocketAddr,
    query: &Query,
    deadline: Instant,
) -> Result<Option<Answer>, String> {
    let id = draw();
    let bytes = build_query(query, id, true).ok_or("the name cannot be asked for")?;
    ask(resolver, &bytes, deadline, |reply| {
        match parse_answer(reply, query, id) {
            Ok(answer) => Some(Ok(Some(answer))),
            Err(BadReply::NotOurs) => None,
            Err(BadReply::NoEdns | BadReply::Truncated) => Some(Ok(None)),
            Err(error @ (BadReply::Malformed | BadReply::Unwilling(_))) => {
                Some(Err(error.to_string()))
            }
        }
    })
}

fn names_of(source: IpAddr, resolver: SocketAddr, deadline: Instant) -> Result<Vec<Name>, String> {
    let id = draw();
    let asked = Name::from(source);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(asked.clone(), WireType::PTR));
    let bytes = message.to_vec().map_err(|error| error.to_string())?;
    ask(resolver, &bytes, deadline, |reply| {
        let message = Message::from_vec(reply).ok()?;
        let is_ours = message.metadata.id == id
            && message.metadata.message_type == MessageType::Response
            && message.queries.iter().any(|query| *query.name() == asked);
        if !is_ours {
            return None;
        }
        let code = message.metadata.response_code;
        if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
            return Some(Err(code.to_string()));
        }
        let names = message.answers.iter().filter_map(|record| {
            if let RData::PTR(name) = &record.data {
                Some(name.0.clone())
            } else {
                None
            }
        });
        Some(Ok(names.take(NAMES_MAX).collect()))
    })
}

/// Sends once, and reads until `read` knows a reply as ours.
fn ask<T>(
    resolver: SocketAddr,
    bytes: &[u8],
    deadline: Instant,
    read: impl Fn(&[u8]) -> Option<Result<T, String>>,
) -> Result<T, String> {
    let any: IpAddr = if resolver.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let said = |error: io::Error| {
        let kind = error.kind();
        if kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::TimedOut {
            "no answer".to_owned()
        } else if kind == io::ErrorKind::ConnectionRefused {
            "nobody answers there".to_owned()
        } else {
            error.to_string()
        }
    };
    let socket = UdpSocket::bind((any, 0)).map_err(said)?;
    socket.connect(resolver).map_err(said)?;
    socket.send(bytes).map_err(said)?;
    let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
    for _ in 0..STRAYS_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left)).map_err(said)?;
        let octets = socket.recv(&mut buffer).map_err(said)?;
        if let Some(result) = read(&buffer[..octets]) {
            return result;
        }
    }
    Err("no answer".into())
}

/// A number a stranger cannot guess.
fn draw() -> u16 {
    let [a, b, ..] = RandomState::new().hash_one(0).to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, PTR};

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    /// A server that names [`SOURCE`] and leads its name to `back`; it first answers somebody else.
    fn server(name: Option<&'static str>, back: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((octets, from)) = socket.recv_from(&mut buffer) {
                let asked = Message::from_vec(&buffer[..octets]).unwrap();
                let question = asked.queries[0].clone();
                let mut reply =
                    Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
                reply.add_query(question.clone());
                let data = if question.query_type() == WireType::PTR {
                    name.map(|name| RData::PTR(PTR(Name::from_ascii(name).unwrap())))
                } else {
                    Some(RData::A(A(back)))
                };
                if let Some(data) = data {
                    reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
                let mut stray = reply.clone();
                stray.metadata.id = !asked.metadata.id;
                socket.send_to(&stray.to_vec().unwrap(), from).unwrap();
                socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
            }
        });
        address
    }

    fn named(name: Option<&'static str>, back: Ipv4Addr) -> Reverse {
        let deadline = Instant::now() + 4 * PATIENCE;
        reverse(SOURCE.into(), server(name, back), deadline)
    }

    #[test]
    fn a_name_counts_when_it_leads_back() {
        let name = "mx.example.com";
        assert_eq!(
            named(Some("mx.example.com."), SOURCE),
            Reverse::Confirmed(name.into())
        );
        let other = Ipv4Addr::new(198, 51, 100, 8);
        assert_eq!(
            named(Some("mx.example.com."), other),
            Reverse::Unconfirmed(name.into())
        );
        assert_eq!(named(None, SOURCE), Reverse::Nameless);
    }

    #[test]
    fn a_resolver_that_answers_is_timed_and_a_silent_one_is_told() {
        let latency_of = latency(server(None, SOURCE)).unwrap();
        assert!(latency_of.p50 <= latency_of.p99 && latency_of.p99 < 1_000_000);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        assert_eq!(latency(address), Err("no answer".into()));
        drop(silent);
        assert_eq!(latency(address), Err("nobody answers there".into()));
    }
}
