//! What each reply comes to, octet for octet.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA};

use super::*;

const ID: u16 = 0x2b1a;

fn query(kind: RecordType) -> Query {
    Query {
        name: Domain::parse("two.test").unwrap(),
        kind,
    }
}

fn name(text: &str) -> Name {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut name = Name::from_labels(labels.map(str::as_bytes)).unwrap();
    name.set_fqdn(true);
    name
}

/// The reply to the MX question, made different by `edit`.
fn reply(edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::response(ID, OpCode::Query);
    message.add_query(Question::query(name("two.test"), WireType::MX));
    edit(&mut message);
    message.to_vec().unwrap()
}

fn coded(code: ResponseCode) -> Vec<u8> {
    reply(|message| message.metadata.response_code = code)
}

fn read(bytes: &[u8]) -> Result<Answer, BadReply> {
    parse_answer(bytes, &query(RecordType::Mx), ID)
}

fn mx(owner: &str, ttl: u32, preference: u16, exchange: &str) -> Record {
    let data = RData::MX(MX::new(preference, name(exchange)));
    Record::from_rdata(name(owner), ttl, data)
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn delegation() -> Record {
    Record::from_rdata(name("test"), 900, RData::NS(NS(name("ns.test"))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns.test"), name("root.test"), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("test"), ttl, RData::SOA(soa))
}

fn host(preference: u16, exchange: &str) -> Data {
    Data::Mx {
        preference,
        exchange: Exchange::Name(Domain::parse(exchange).unwrap()),
    }
}

fn answer(records: Vec<Data>, secs: u64) -> Answer {
    Answer {
        status: Status::Exists,
        alias: None,
        records,
        ttl: Duration::from_secs(secs),
    }
}

fn missing(secs: u64) -> Answer {
    Answer {
        status: Status::NoSuchName,
        ..answer(Vec::new(), secs)
    }
}

fn check_all(cases: Vec<(&str, Vec<u8>, Result<Answer, BadReply>)>) {
    for (what, bytes, expected) in cases {
        assert_eq!(read(&bytes), expected, "{what}");
    }
}

#[test]
fn a_query_says_what_we_can_take() {
    let bytes = build_query(&query(RecordType::Mx), ID, true).unwrap();
    let question = b"\x03two\x04test\0\0\x0f\0\x01";
    let head = [0x2b, 0x1a, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
    // RFC 6891 §6.1.2: the root, type 41, 1232 octets, version 0, no flags, no options.
    let opt = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bytes, [&head[..], question, &opt].concat());
    let plain = build_query(&query(RecordType::Mx), ID, false).unwrap();
    let head = [0x2b, 0x1a, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(plain, [&head[..], question].concat());
    let literal = Query {
        name: Domain::parse("[192.0.2.1]").unwrap(),
        kind: RecordType::A,
    };
    assert_eq!(build_query(&literal, ID, true), None);
}

#[test]
fn what_is_not_the_reply_to_our_question_is_passed_over() {
    let good = reply(|message| {
        message.add_answer(mx("two.test", 300, 10, "a.test"));
    });
    assert_eq!(read(&good), Ok(answer(vec![host(10, "a.test")], 300)));
    let with = |at: usize, octet: u8| {
        let mut bytes = good.clone();
        bytes[at] = octet;
        bytes
    };
    let asked = |name: Name, kind| reply(|m| m.queries = vec![Question::query(name, kind)]);
    let of_chaos = reply(|m| {
        m.queries[0].set_query_class(DNSClass::CH);
    });
    let twofold = reply(|m| m.queries.push(m.queries[0].clone()));
    let unasked = reply(|m| m.queries.clear());
    for (what, bytes) in [
        ("wrong id, high octet", with(0, good[0] ^ 1)),
        ("wrong id, low octet", with(1, good[1] ^ 1)),
        ("QR is 0", with(2, good[2] & 0x7f)),
        ("a reply to a NOTIFY", with(2, good[2] | 4 << 3)),
        ("another name", asked(name("tow.test"), WireType::MX)),
        ("a name below", asked(name("a.two.test"), WireType::MX)),
        ("another type", asked(name("two.test"), WireType::A)),
        ("another class", of_chaos),
        ("two questions", twofold),
        ("no question", unasked),
        ("no octet", Vec::new()),
        ("three octets", good[..3].to_vec()),
    ] {
        assert_eq!(read(&bytes), Err(BadReply::NotOurs), "{what}");
    }
}

#[test]
fn what_a_server_cannot_or_will_not_answer_is_told_apart() {
    let bare = |code| {
        let mut bytes = vec![0x2b, 0x1a, 0x81, code];
        bytes.extend([0; 8]);
        bytes
    };
    let mut garbled = coded(ResponseCode::FormErr);
    garbled.truncate(20);
    let truncated = reply(|m| m.metadata.truncation = true);
    let mut cut = reply(|m| {
        m.metadata.truncation = true;
        m.add_answer(mx("two.test", 300, 10, "a.test"));
    });
    cut.truncate(cut.len() - 5);
    let mut short = reply(|m| {
        m.add_answer(mx("two.test", 300, 10, "a.test"));
    });
    short.truncate(short.len() - 5);
    let versions = reply(|m| {
        m.set_edns(Edns::new());
        m.metadata.response_code = ResponseCode::BADVERS;
    });
    let unwilling = |said| Err(BadReply::Unwilling(said));
    check_all(vec![
        ("TC", truncated, Err(BadReply::Truncated)),
        ("TC, cut in a record", cut, Err(BadReply::Truncated)),
        ("cut, no TC", short, Err(BadReply::Malformed)),
        (
            "a bare TC",
            vec![0x2b, 0x1a, 0x83, 0x80],
            Err(BadReply::Truncated),
        ),
        (
            "FORMERR",
            coded(ResponseCode::FormErr),
            Err(BadReply::NoEdns),
        ),
        ("FORMERR, header alone", bare(1), Err(BadReply::NoEdns)),
        ("FORMERR, garbled", garbled, Err(BadReply::NoEdns)),
        ("NOTIMP", coded(ResponseCode::NotImp), Err(BadReply::NoEdns)),
        ("NOTIMP, header alone", bare(4), Err(BadReply::NoEdns)),
        ("BADVERS", versions, Err(BadReply::NoEdns)),
        (
            "SERVFAIL",
            coded(ResponseCode::ServFail),
            unwilling("SERVFAIL"),
        ),
        ("SERVFAIL, header alone", bare(2), Err(BadReply::NotOurs)),
        (
            "REFUSED",
            coded(ResponseCode::Refused),
            unwilling("REFUSED"),
        ),
        ("REFUSED, header alone", bare(5), Err(BadReply::NotOurs)),
        (
            "YXDOMAIN",
            coded(ResponseCode::YXDomain),
            unwilling("unexpected response code"),
        ),
    ]);
}

#[test]
fn a_referral_is_no_answer() {
    let referred = reply(|m| {
        m.add_authority(delegation());
    });
    let owned = reply(|m| {
        m.metadata.authoritative = true;
        m.add_authority(delegation());
    });
    let denied = reply(|m| {
        m.add_authority(delegation());
        m.add_authority(soa(60, 60));
    });
    let unwilling = BadReply::Unwilling("name server does not recurse");
    check_all(vec![
        ("delegated", referred, Err(unwilling)),
        (
            "by the owner of the zone",
            owned,
            Ok(answer(Vec::new(), 30)),
        ),
        ("with a SOA", denied, Ok(answer(Vec::new(), 60))),
    ]);
}

#[test]
fn negative_answers_hold_as_the_soa_says() {
    let none = |soas: Vec<Record>| reply(|m| m.authorities = soas);
    let gone = |soas: Vec<Record>| {
        reply(|m| {
            m.metadata.response_code = ResponseCode::NXDomain;
            m.authorities = soas;
        })
    };
    let kept_from = reply(|m| {
        m.metadata.response_code = ResponseCode::NXDomain;
        m.add_answer(mx("two.test", 300, 10, "a.test"));
    });
    let nothing = |secs| Ok(answer(Vec::new(), secs));
    check_all(vec![
        ("ttl < MINIMUM", none(vec![soa(40, 90)]), nothing(40)),
        ("ttl > MINIMUM", none(vec![soa(90, 41)]), nothing(41)),
        ("no SOA", none(Vec::new()), nothing(30)),
        (
            "NXDOMAIN, ttl < MINIMUM",
            gone(vec![soa(42, 90)]),
            Ok(missing(42)),
        ),
        (
            "NXDOMAIN, ttl > MINIMUM",
            gone(vec![soa(90, 43)]),
            Ok(missing(43)),
        ),
        ("NXDOMAIN, no SOA", gone(Vec::new()), Ok(missing(30))),
        ("NXDOMAIN with records", kept_from, Ok(missing(300))),
    ]);
}

#[test]
fn aliases_are_followed_as_far_as_the_answer_goes() {
    let with = |answers: Vec<Record>, edit: fn(&mut Message)| {
        reply(|m| {
            m.answers = answers;
            edit(m);
        })
    };
    let chain = || {
        vec![
            alias("two.test", 200, "b.test"),
            alias("b.test", 90, "c.test"),
        ]
    };
    let whole = [vec![mx("c.test", 300, 10, "a.test")], chain()].concat();
    let end = Domain::parse("c.test").unwrap();
    let onward = Answer {
        alias: Some(end),
        ..answer(Vec::new(), 90)
    };
    let no_host = BadReply::Unwilling("alias is no host name");
    check_all(vec![
        (
            "whole",
            with(whole, |_| ()),
            Ok(answer(vec![host(10, "a.test")], 90)),
        ),
        ("cut short", with(chain(), |_| ()), Ok(onward.clone())),
        (
            "cut short, with a delegation",
            with(chain(), |m| m.authorities = vec![delegation()]),
            Ok(onward),
        ),
        (
            "to a name without MX",
            with(chain(), |m| m.authorities = vec![soa(60, 60)]),
            Ok(answer(Vec::new(), 60)),
        ),
        (
            "to no name",
            with(chain(), |m| {
                m.metadata.response_code = ResponseCode::NXDomain
            }),
            Ok(missing(30)),
        ),
        (
            "to itself",
            with(vec![alias("two.test", 20, "two.test")], |_| ()),
            Ok(answer(Vec::new(), 20)),
        ),
        (
            "to no host name",
            with(vec![alias("two.test", 20, "a b.test")], |_| ()),
            Err(no_host),
        ),
    ]);
}

#[test]
fn of_the_records_those_asked_for_are_taken() {
    let with = |answers: Vec<Record>| reply(|m| m.answers = answers);
    let exchange = |preference, exchange| Data::Mx {
        preference,
        exchange,
    };
    let odd = with(vec![
        mx("two.test", 300, 0, ""),
        mx("two.test", 200, 5, "a b.test"),
        mx("two.test", 400, 7, "a.test"),
    ]);
    let odd_data = vec![
        exchange(0, Exchange::Root),
        exchange(5, Exchange::Malformed),
        host(7, "a.test"),
    ];
    let mut chaos = mx("two.test", 10, 10, "a.test");
    chaos.dns_class = DNSClass::CH;
    let mut chaos_alias = alias("two.test", 10, "b.test");
    chaos_alias.dns_class = DNSClass::CH;
    let address = RData::A(A("192.0.2.1".parse().unwrap()));
    let others = with(vec![
        mx("other.test", 10, 10, "a.test"),
        Record::from_rdata(name("two.test"), 10, address),
    ]);
    let many = (0..300).map(|n| mx("two.test", 300, n, "a.test")).collect();
    let first: Vec<Data> = (0..256).map(|n| host(n, "a.test")).collect();
    let upper = reply(|m| {
        m.queries = vec![Question::query(name("TWO.Test"), WireType::MX)];
        m.add_answer(alias("Two.TEST", 60, "B.test"));
        m.add_answer(mx("b.TEST", 300, 10, "MX.A.Test"));
    });
    check_all(vec![
        ("root and no host name", odd, Ok(answer(odd_data, 200))),
        ("wrong class", with(vec![chaos]), Ok(answer(Vec::new(), 30))),
        (
            "an alias of a wrong class",
            with(vec![chaos_alias]),
            Ok(answer(Vec::new(), 30)),
        ),
        (
            "another owner, another type",
            others,
            Ok(answer(Vec::new(), 30)),
        ),
        ("too many", with(many), Ok(answer(first, 300))),
        (
            "upper case",
            upper,
            Ok(answer(vec![host(10, "mx.a.test")], 60)),
        ),
    ]);
}

#[test]
fn addresses_are_those_of_the_family_asked_for() {
    let four: core::net::Ipv4Addr = "192.0.2.1".parse().unwrap();
    let six: core::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    for (kind, ttl, address) in [
        (RecordType::A, 50, IpAddr::V4(four)),
        (RecordType::Aaaa, 70, IpAddr::V6(six)),
    ] {
        let bytes = reply(|m| {
            m.queries = vec![Question::query(name("two.test"), wire_type(kind))];
            let records = [(50, RData::A(A(four))), (70, RData::AAAA(AAAA(six)))];
            m.answers = records
                .map(|(ttl, data)| Record::from_rdata(name("two.test"), ttl, data))
                .into();
        });
        let expected = answer(vec![Data::Address(address)], ttl);
        assert_eq!(parse_answer(&bytes, &query(kind), ID), Ok(expected));
    }
}
