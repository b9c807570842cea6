//! From one client to one server: what arrives is what was given.

use super::client::{Client, letter, mail, queued_as, stuffed};
use super::node::Setup;
use super::peer::Peer;

/// Without the trace field.
fn received(peer: &Peer, count: usize) -> Vec<Vec<u8>> {
    let letters = peer.wait(count);
    letters.iter().map(|l| l.parts().1.to_vec()).collect()
}

#[test]
fn a_message_arrives_once_with_its_trace() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let id = mail(
        node.smtp(),
        "from@sender.example",
        &["to@rcpt.example"],
        &letter("one"),
    );
    let arrived = peer.wait(1).remove(0);
    let (trace, rest) = arrived.parts();
    assert_eq!(rest, letter("one"));
    assert!(
        trace.starts_with("Received: from client.example ([127.0.0.1])\r\n"),
        "{trace}"
    );
    for part in [
        "by mta.example.test",
        "with ESMTP",
        &format!("id {id}"),
        "for <to@rcpt.example>",
    ] {
        assert!(trace.contains(part), "{part}: {trace}");
    }
    assert!(
        arrived.mail.starts_with("<from@sender.example>"),
        "{arrived:?}"
    );
    assert!(
        arrived.rcpts[0].starts_with("<to@rcpt.example>"),
        "{arrived:?}"
    );
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
}

#[test]
fn content_of_any_shape_arrives_octet_for_octet() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let mut eight_bit = b"Subject: \xC3\xA4\r\n\r\n".to_vec();
    eight_bit.extend((1..=255).filter(|octet| !matches!(octet, 10 | 13)));
    eight_bit.extend(b"\r\n");
    let shapes: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\r\n".to_vec(),
        b"x\r\n".to_vec(),
        b".\r\n".to_vec(),
        b"..\r\n.\r\n...\r\n.x\r\n\r\n.\r\n".to_vec(),
        [
            b"Subject: long\r\n\r\n".to_vec(),
            vec![b'y'; 200_000],
            b"\r\n".to_vec(),
        ]
        .concat(),
        b"A: b\r\n\r\n".repeat(10_000),
        eight_bit,
    ];
    let mut client = Client::greeted(node.smtp());
    for shape in &shapes {
        client.mail("a@s.example", &["b@r.example"], shape);
    }
    let mut arrived = received(&peer, shapes.len());
    let mut awaited = shapes;
    arrived.sort();
    awaited.sort();
    assert_eq!(arrived.len(), awaited.len());
    for (arrived, awaited) in arrived.iter().zip(&awaited) {
        assert!(
            arrived == awaited,
            "{} octets for {}",
            arrived.len(),
            awaited.len()
        );
    }
}

#[test]
fn five_megabytes_arrive_octet_for_octet() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let mut content = b"Subject: big\r\n\r\n".to_vec();
    let mut seed = 1_u32;
    while content.len() < 5 << 20 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = seed as usize >> 16 & 127;
        let first = if seed & 7 == 0 { b'.' } else { b'q' };
        content.extend(std::iter::repeat_n(first, length));
        content.extend(b"\r\n");
    }
    mail(node.smtp(), "a@s.example", &["b@r.example"], &content);
    assert!(received(&peer, 1)[0] == content);
}

#[test]
fn content_cut_anywhere_is_the_same_content() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let content = b"Subject: cut\r\n\r\n.\r\n..dots\r\n\r\nend\r\n";
    let mut wire = stuffed(content);
    wire.extend(b".\r\n");
    let cuts = [1, 2, 3, 5, 17];
    let mut client = Client::greeted(node.smtp());
    for cut in cuts {
        client.begin("a@s.example", &["b@r.example"]);
        for piece in wire.chunks(cut) {
            client.send(piece);
        }
        queued_as(&client.reply());
    }
    for arrived in received(&peer, cuts.len()) {
        assert_eq!(arrived, content);
    }
}

#[test]
fn recipients_of_one_site_share_a_transaction() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let to: Vec<String> = (0..10).map(|n| format!("r{n}@one.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    mail(node.smtp(), "a@s.example", &to, &letter("many"));
    let arrived = peer.wait(1).remove(0);
    assert_eq!(arrived.rcpts.len(), 10, "{:?}", arrived.rcpts);
    // A message to several shows none of them to the others.
    assert!(!arrived.parts().0.contains("for <"), "{}", arrived.text());
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
    assert_eq!(node.wait_for("Delivery", 10).len(), 10);
}

#[test]
fn recipients_of_several_domains_each_get_it_once() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).arg("--shards", "2").start();
    let to: Vec<String> = (0..24)
        .map(|n| format!("r{n}@d{}.example", n % 6))
        .collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    mail(node.smtp(), "a@s.example", &to, &letter("many"));
    node.wait_for("Delivery", 24);
    node.wait_empty();
    let letters = peer.letters();
    let mut got: Vec<&String> = letters.iter().flat_map(|l| &l.rcpts).collect();
    got.sort();
    let given = got.len();
    got.dedup();
    assert_eq!((given, got.len()), (24, 24), "{got:?}");
}

#[test]
fn chunks_arrive_as_one_message() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<a@s.example>", "250");
    client.expect("RCPT TO:<b@r.example>", "250");
    client.send(b"BDAT 13\r\nSubject: a\r\n\r");
    client.hear("250");
    client.send(b"BDAT 1\r\n\n");
    client.hear("250");
    client.send(b"BDAT 6 LAST\r\n.\r\n.\r\n");
    queued_as(&client.reply());
    // One octet, and no line end: SMTP to the next hop needs one.
    client.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nBDAT 1 LAST\r\nx");
    client.hear("250");
    client.hear("250");
    queued_as(&client.reply());
    let mut arrived = received(&peer, 2);
    arrived.sort();
    assert_eq!(arrived[0], b"Subject: a\r\n\r\n.\r\n.\r\n");
    assert_eq!(arrived[1], b"x\r\n");
}

#[test]
fn a_pipelined_session_is_one_flight_each_way() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let mut client = Client::greeted(node.smtp());
    let envelope = b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n";
    client.send(envelope);
    for answer in ["250", "250", "354"] {
        client.hear(answer);
    }
    // The next envelope rides with the dot.
    for _ in 0..20 {
        client.send(b"Subject: p\r\n\r\nx\r\n.\r\n");
        client.send(envelope);
        queued_as(&client.reply());
        for answer in ["250", "250", "354"] {
            client.hear(answer);
        }
    }
    client.send(b"Subject: p\r\n\r\nx\r\n.\r\nQUIT\r\n");
    queued_as(&client.reply());
    client.hear("221");
    client.hear_end();
    peer.wait(21);
}

#[test]
fn a_stranger_may_not_relay() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .start();
    let mut stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    stranger.hear("220 ");
    stranger.expect("EHLO stranger.example", "250");
    stranger.expect("MAIL FROM:<a@s.example>", "250");
    stranger.expect("RCPT TO:<b@r.example>", "550 5.7.1");
    stranger.expect("RCPT TO:<@mta.example.test:b@r.example>", "5");
    stranger.expect("RCPT TO:<\"b@r.example\"@mta.example.test>", "550 5.7.1");
    stranger.expect("RCPT TO:<postmaster@r.example>", "550 5.7.1");
    stranger.expect("DATA", "5");
    mail(
        node.smtp(),
        "a@s.example",
        &["b@r.example"],
        &letter("friend"),
    );
    peer.wait(1);
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
}

#[test]
fn postmaster_is_reached_by_strangers_once_there_is_one() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .file("[smtp]\npostmaster = \"ops@home.example\"")
        .start();
    let mut stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    stranger.hear("220 ");
    stranger.expect("EHLO stranger.example", "250");
    stranger.mail("a@s.example", &["PostMaster"], &letter("bare"));
    stranger.mail("", &["postmaster@MTA.example.test"], &letter("whole"));
    stranger.expect("MAIL FROM:<>", "250");
    stranger.expect("RCPT TO:<ops@home.example>", "550 5.7.1");
    mail(node.smtp(), "", &["postmaster"], &letter("friend"));
    for letter in peer.wait(3) {
        assert_eq!(letter.rcpts, ["<ops@home.example>"]);
    }
    let received = node.wait_for("Reception", 3);
    assert!(
        received
            .iter()
            .all(|r| r["recipient"] == "ops@home.example")
    );
}

#[test]
fn without_a_postmaster_mail_for_it_is_relayed_for_those_who_may() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .start();
    let friend = Client::dial_from([127, 0, 0, 1].into(), node.smtp());
    let stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    for (mut client, expected) in [(friend, "250 "), (stranger, "550 5.1.1 ")] {
        client.hear("220 ");
        client.expect("EHLO c.example", "250");
        client.expect("MAIL FROM:<a@s.example>", "250");
        for recipient in ["postmaster", "Postmaster@mta.example.test"] {
            let reply = client.say(&format!("RCPT TO:<{recipient}>"));
            assert!(reply.starts_with(expected), "{reply}");
            assert_eq!(reply.contains("smtp.postmaster"), expected != "250 ");
        }
        client.expect("RSET", "250");
        client.expect("QUIT", "221");
    }
    assert!(peer.letters().is_empty());
}
