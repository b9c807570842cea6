//! Round trips with all fields, and rows that were cut or flipped.

use bytes::Bytes;

use super::*;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn full() -> Message {
    Message {
        id: MessageId::from_u128(7),
        envelope: Envelope {
            sender: Some(address("\"a@b\"@bücher.example")),
            body: BodyKind::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ+2B314159".into()),
            recipients: vec![
                Recipient {
                    address: address("jörg@[IPv6:2001:db8::1]"),
                    notify: Notify {
                        given: true,
                        success: true,
                        failure: false,
                        delay: true,
                    },
                    orcpt: Some("rfc822;x+3Dy@example.com".into()),
                },
                Recipient {
                    address: address("b@example.com"),
                    notify: Notify::default(),
                    orcpt: None,
                },
            ],
        },
        reception: Reception {
            at: Moment::from_micros(1_800_000_000_000_042),
            peer: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 65_535, 3, 4).into()),
            helo: "client.example".into(),
            protocol: "ESMTPSA",
        },
        content: Content {
            eight_bit: true,
            utf8_header: true,
        },
        labels: Labels::default(),
        data: Bytes::new(),
    }
}

fn labelled() -> Message {
    Message {
        labels: Labels::new(Some("acme"), Some("spring"), Some("shared")),
        ..full()
    }
}

fn bare() -> Message {
    let mut message = full();
    message.envelope = Envelope {
        sender: None,
        body: BodyKind::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        recipients: vec![Recipient {
            address: address("postmaster@example.com"),
            notify: Notify::NEVER,
            orcpt: None,
        }],
    };
    message.reception = Reception {
        at: Moment::NEVER,
        peer: None,
        helo: "".into(),
        protocol: "LOCAL",
    };
    message.content = Content::default();
    message
}

fn row(message: &Message) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    write_envelope(message, &mut out);
    out
}

fn assert_round_trip(message: &Message) {
    let parts = read_envelope(&row(message)).unwrap();
    assert_eq!(parts.envelope, message.envelope);
    assert_eq!(parts.reception, message.reception);
    assert_eq!(parts.content, message.content);
    assert_eq!(parts.labels, message.labels);
    let outline = read_outline(&row(message)).unwrap();
    assert_eq!(outline.received, message.reception.at);
    assert_eq!(outline.labels, message.labels);
    let domains: Vec<_> = message
        .envelope
        .recipients
        .iter()
        .map(|r| r.address.domain())
        .collect();
    assert_eq!(outline.domains, domains);
}

#[test]
fn envelopes_come_back_as_they_went() {
    assert_round_trip(&full());
    assert_round_trip(&bare());
    assert_round_trip(&labelled());
    let mut message = labelled();
    message.labels = Labels::new(None, Some("spring"), None);
    assert_round_trip(&message);
    let mut message = full();
    message.reception.peer = Some("192.0.2.7:25".parse().unwrap());
    message.envelope.ret = Some(Ret::Full);
    assert_round_trip(&message);
    for protocol in PROTOCOLS {
        message.reception.protocol = protocol;
        assert_round_trip(&message);
    }
    message.envelope.recipients = vec![message.envelope.recipients[1].clone(); 65_535];
    assert_round_trip(&message);
}

#[test]
fn a_protocol_without_a_number_costs_its_name_only() {
    let mut message = full();
    message.reception.protocol = "CARRIER-PIGEON";
    let parts = read_envelope(&row(&message)).unwrap();
    assert_eq!(parts.reception.protocol, "UNKNOWN");
}

#[test]
fn states_come_back_as_they_went() {
    let state = RecipientState {
        attempts: 65_535,
        due: Moment::from_secs(1_800_000_000),
        last: "451 4.7.1 später".into(),
    };
    let mut out = b"left over".to_vec();
    write_state(&state, &mut out);
    assert_eq!(read_state(&out), Ok(State::Deferred(state)));
    assert_eq!(read_state(SETTLED), Ok(State::Settled));
    for len in 0..out.len() {
        assert!(read_state(&out[..len]).is_err(), "{len}");
    }
    for octet in 0..=255 {
        for place in 0..out.len() {
            let mut flipped = out.clone();
            flipped[place] ^= octet;
            let _ = read_state(&flipped);
        }
    }
    out.push(0);
    assert_eq!(read_state(&out), Err(Torn::Trailing));
}

#[test]
fn cut_envelopes_are_torn_and_never_panic() {
    for message in [full(), bare(), labelled()] {
        let row = row(&message);
        for len in 0..row.len() {
            assert!(read_envelope(&row[..len]).is_err(), "{len}");
            assert!(read_outline(&row[..len]).is_err(), "{len}");
        }
        let longer = [&row[..], b"x"].concat();
        assert_eq!(read_envelope(&longer), Err(Torn::Trailing));
    }
}

#[test]
fn flipped_octets_never_panic() {
    for message in [full(), bare(), labelled()] {
        let row = row(&message);
        for place in 0..row.len() {
            for octet in 1..=255 {
                let mut flipped = row.clone();
                flipped[place] ^= octet;
                let whole = read_envelope(&flipped);
                let outline = read_outline(&flipped);
                // Recovery reads less than delivery does, so it may accept more.
                assert!(whole.is_err() || outline.is_ok(), "{place} {octet}");
            }
        }
    }
}

#[test]
fn a_newer_row_names_its_version() {
    let mut row = row(&full());
    row[0] = 9;
    assert_eq!(read_envelope(&row), Err(Torn::Version(9)));
    assert_eq!(read_outline(&row), Err(Torn::Version(9)));
    assert_eq!(read_state(&[9, 0]), Err(Torn::Version(9)));
}

/// What was written before there were labels is read, and written so where there are none.
#[test]
fn a_row_without_labels_is_of_the_first_version() {
    assert_eq!((row(&full())[0], row(&labelled())[0]), (1, 2));
}

#[test]
fn an_absurd_count_costs_no_memory() {
    let mut row = row(&bare());
    let tail = row.len() - ("postmaster@example.com".len() + 3);
    row.truncate(tail);
    write_number(0xffff, &mut row);
    assert_eq!(read_outline(&row), Err(Torn::Short));
    row.truncate(tail);
    write_number(0, &mut row);
    assert_eq!(read_envelope(&row), Err(Torn::Recipients));
    row.truncate(tail);
    write_number(usize::MAX, &mut row);
    assert!(read_envelope(&row).is_err());
}

#[test]
fn keys_sort_by_message_then_recipient() {
    let id = MessageId::from_u128(u128::MAX - 1);
    assert_eq!(parse_state_key(&state_key(id, 513)), Ok((id, 513)));
    assert!(state_key(id, 2) < state_key(id, 256));
    assert_eq!(parse_message_key(&id.to_bytes()), Ok(id));
    assert_eq!(parse_state_key(&id.to_bytes()), Err(Torn::Short));
    assert_eq!(parse_message_key(&state_key(id, 1)), Err(Torn::Trailing));
}
