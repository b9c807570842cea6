//! DNS messages in and out, as pure functions: a hostile reply is an error, never a panic.

use core::net::IpAddr;
use core::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType as WireType};
use posthaste_core::route::{Answer, Data, Exchange, Query, RecordType, Status};
use posthaste_core::words::Domain;

/// What we can take in one datagram: no fragments on any sane path (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
/// Records taken from one answer.
const RECORDS_MAX: usize = 256;
/// CNAMEs followed within one answer.
const CHAIN_MAX: usize = 16;
/// How long a negative answer without SOA holds (RFC 2308 §5 would not cache it at all).
const NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long a resolver's failure holds (RFC 2308 §7 allows five minutes).
const FAILURE_TTL: Duration = Duration::from_secs(15);

/// Why bytes are no answer to our question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Wrong id, wrong question or no reply at all: somebody else's; keep listening.
    #[error("reply to another question")]
    NotOurs,
    /// The answer did not fit: ask again by TCP.
    #[error("reply is truncated")]
    Truncated,
    /// The server does not know EDNS: ask again without.
    #[error("name server refuses EDNS")]
    NoEdns,
    /// Ours, but no DNS message: ask another server.
    #[error("reply is malformed")]
    Malformed,
    /// The server would not answer: ask another.
    #[error("{0}")]
    Unwilling(&'static str),
}

/// The wire form of `query`; `None` for a name that has none, such as an address literal.
pub fn build_query(query: &Query, id: u16, edns: bool) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(
        name_of(&query.name)?,
        wire_type(query.kind),
    ));
    if edns {
        let mut options = Edns::new();
        options.set_max_payload(UDP_PAYLOAD).set_version(0);
        message.set_edns(options);
    }
    message.to_vec().ok()
}

/// Reads a reply to `query` sent under `id`.
pub fn parse_answer(bytes: &[u8], query: &Query, id: u16) -> Result<Answer, BadReply> {
    let &[id_high, id_low, flags, codes, ..] = bytes else {
        return Err(BadReply::NotOurs);
    };
    // 0xf8: QR set, opcode QUERY.
    if u16::from_be_bytes([id_high, id_low]) != id || flags & 0xf8 != 0x80 {
        return Err(BadReply::NotOurs);
    }
    let truncated = flags & 0x02 != 0;
    let Ok(message) = Message::from_vec(bytes) else {
        return Err(match (truncated, codes & 0x0f) {
            (true, _) => BadReply::Truncated,
            (false, 1) => BadReply::NoEdns,
            (false, _) => BadReply::Malformed,
        });
    };
    let name = name_of(&query.name).ok_or(BadReply::NotOurs)?;
    let code = message.metadata.response_code;
    let is_edns_trouble = code == ResponseCode::FormErr || code == ResponseCode::NotImp;
    match message.queries.as_slice() {
        [asked]
            if *asked.name() == name
                && asked.query_type() == wire_type(query.kind)
                && asked.query_class() == DNSClass::IN => {}
        // A server that could not read the question need not repeat it.
        [] if is_edns_trouble => {}
        _ => return Err(BadReply::NotOurs),
    }
    if truncated {
        return Err(BadReply::Truncated);
    }
    // 16 is BADVERS in an OPT and BADSIG in a TSIG; hickory reads it as the latter.
    if is_edns_trouble || code == ResponseCode::BADVERS || code == ResponseCode::BADSIG {
        return Err(BadReply::NoEdns);
    }
    if code == ResponseCode::ServFail {
        return Err(BadReply::Unwilling("SERVFAIL"));
    }
    if code == ResponseCode::Refused {
        return Err(BadReply::Unwilling("REFUSED"));
    }
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return Err(BadReply::Unwilling("unexpected response code"));
    }
    read_answer(&message, name, query.kind)
}

fn read_answer(message: &Message, name: Name, kind: RecordType) -> Result<Answer, BadReply> {
    let mut ttl = Duration::MAX;
    let mut end = name.clone();
    for _ in 0..CHAIN_MAX {
        let Some((target, seconds)) = alias_of(&message.answers, &end) else {
            break;
        };
        ttl = ttl.min(Duration::from_secs(seconds.into()));
        end = target.clone();
    }
    let mut records = Vec::new();
    for record in message.answers.iter().filter(|r| r.name == end) {
        if let Some(data) = data_of(record, kind).filter(|_| records.len() < RECORDS_MAX) {
            ttl = ttl.min(Duration::from_secs(record.ttl.into()));
            records.push(data);
        }
    }
    let is_missing = message.metadata.response_code == ResponseCode::NXDomain;
    let negative = negative_ttl(&message.authorities);
    let is_short_of_end = records.is_empty() && !is_missing && negative.is_none();
    if is_short_of_end && end == name && is_referral(message) {
        return Err(BadReply::Unwilling("name server does not recurse"));
    }
    let alias = if is_short_of_end && end != name {
        let target = domain_of(&end).ok_or(BadReply::Unwilling("alias is no host name"))?;
        Some(target)
    } else {
        None
    };
    if records.is_empty() && alias.is_none() {
        ttl = ttl.min(negative.unwrap_or(NEGATIVE_TTL));
    }
    Ok(Answer {
        status: if is_missing {
            Status::NoSuchName
        } else {
            Status::Exists
        },
        alias,
        records: if is_missing { Vec::new() } else { records },
        ttl,
    })
}

/// An answer for when no server gave one.
pub(super) const fn failure(why: &'static str) -> Answer {
    Answer::failed(why, FAILURE_TTL)
}

fn is_referral(message: &Message) -> bool {
    let is_delegation = |r: &Record| r.record_type() == WireType::NS;
    !message.metadata.authoritative && message.authorities.iter().any(is_delegation)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a peer may send any record type; all but the one asked for are passed over"
)]
fn alias_of<'a>(answers: &'a [Record], owner: &Name) -> Option<(&'a Name, u32)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *owner && record.dns_class == DNSClass::IN => {
            Some((&target.0, record.ttl))
        }
        _ => None,
    })
}

fn data_of(record: &Record, kind: RecordType) -> Option<Data> {
    if record.dns_class != DNSClass::IN {
        return None;
    }
    match (&record.data, kind) {
        (RData::A(a), RecordType::A) => Some(Data::Address(IpAddr::V4(a.0))),
        (RData::AAAA(aaaa), RecordType::Aaaa) => Some(Data::Address(IpAddr::V6(aaaa.0))),
        (RData::MX(mx), RecordType::Mx) => Some(Data::Mx {
            preference: mx.preference,
            exchange: if mx.exchange.is_root() {
                Exchange::Root
            } else {
                domain_of(&mx.exchange).map_or(Exchange::Malformed, Exchange::Name)
            },
        }),
        _ => None,
    }
}

/// RFC 2308 §5: the lesser of the SOA's own TTL and its MINIMUM.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a peer may send any record type; all but the one asked for are passed over"
)]
fn negative_ttl(authorities: &[Record]) -> Option<Duration> {
    authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(Duration::from_secs(record.ttl.min(soa.minimum).into())),
        _ => None,
    })
}

fn name_of(domain: &Domain) -> Option<Name> {
    if domain.literal().is_some() {
        return None;
    }
    let labels = domain.as_str().split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// `None` for names that are no host names.
fn domain_of(name: &Name) -> Option<Domain> {
    let text = name.to_ascii();
    Domain::parse(text.strip_suffix('.').unwrap_or(&text))
        .ok()
        .filter(|domain| domain.literal().is_none())
}

const fn wire_type(kind: RecordType) -> WireType {
    match kind {
        RecordType::Mx => WireType::MX,
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
    }
}

/// For fuzzing: reads `input` as the reply to each kind of question about `two.test`, under the id
/// it has.
///
/// # Panics
/// When an answer lies outside what [`Answer`] promises.
pub fn exercise(input: &[u8]) {
    let id = input
        .first_chunk()
        .map_or(0, |id: &[u8; 2]| u16::from_be_bytes(*id));
    for kind in [RecordType::Mx, RecordType::A, RecordType::Aaaa] {
        let query = Query {
            name: Domain::parse("two.test").expect("a plain name is a domain"),
            kind,
        };
        let asked = build_query(&query, id, true).expect("a plain name can be asked for");
        assert_eq!(parse_answer(&asked, &query, id), Err(BadReply::NotOurs));
        let Ok(answer) = parse_answer(input, &query, id) else {
            continue;
        };
        assert!(answer.records.len() <= RECORDS_MAX);
        assert!(answer.alias.is_none() || answer.records.is_empty());
        for data in &answer.records {
            assert_eq!(matches!(data, Data::Mx { .. }), kind == RecordType::Mx);
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
