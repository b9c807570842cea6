//! Clients that mean ill or break down: the next one is served, and memory keeps its bound.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::client::{Client, letter, mail, queued_as};
use super::node::{Node, Setup};
use super::peer::Peer;
use super::wait::{until, within};

const MIB: u64 = 1 << 20;
/// Connections that are rightly there: one to the peer, one of a client that is to be kept.
const FILES_MORE_MAX: usize = 2;

/// A node, a peer behind it, and how much memory it began with.
struct Scene {
    peer: Peer,
    node: Node,
    before: u64,
    files: usize,
}

impl Scene {
    fn new() -> Self {
        Self::with("")
    }

    /// With this in the configuration.
    fn with(text: &str) -> Self {
        let peer = Peer::good();
        let node = Setup::to(peer.address()).file(text).start();
        // The first message touches what every message needs.
        mail(node.smtp(), "", &["b@r.example"], &letter("first"));
        peer.wait(1);
        Self {
            before: node.resident(),
            files: node.files(),
            peer,
            node,
        }
    }

    /// The node has grown by less than `octets`, serves the next client, and took nothing else.
    #[track_caller]
    fn is_well(&mut self, octets: u64) {
        assert!(self.node.is_alive(), "{}", self.node.told());
        let grown = self.node.resident().saturating_sub(self.before);
        assert!(grown < octets, "{} KiB more", grown >> 10);
        mail(self.node.smtp(), "", &["b@r.example"], &letter("next"));
        self.peer.wait(2);
        self.node.wait_empty();
        until("descriptors are given back", || {
            (self.node.files() <= self.files + FILES_MORE_MAX).then_some(())
        });
        assert_eq!(self.peer.letters().len(), 2);
        assert_eq!(self.node.metric("posthaste_messages_accepted_total"), 2.0);
    }
}

#[test]
fn binary_garbage_is_answered_and_forgotten() {
    let mut scene = Scene::new();
    let mut seed = 7_u32;
    for _ in 0..50 {
        let garbage: Vec<u8> = (0..20_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let mut client = Client::connect(scene.node.smtp());
        client.send(&garbage);
        // Each line is refused until there are too many; nothing is left unanswered, and no reset takes
        // the last word away.
        let mut last = String::new();
        loop {
            let reply = client.reply();
            if reply.is_empty() {
                break;
            }
            assert!(reply.starts_with(['4', '5']), "{reply}");
            last = reply;
        }
        assert!(last.starts_with("421 4.7.0 "), "{last:?}");
    }
    scene.is_well(16 * MIB);
}

#[test]
fn an_endless_line_costs_no_memory() {
    let mut scene = Scene::new();
    let mut client = Client::greeted(scene.node.smtp());
    let block = vec![b'A'; 1 << 20];
    for _ in 0..64 {
        client.send(&block);
    }
    client.send(b"\r\n");
    client.hear("500 5.5.2");
    client.expect("NOOP", "250");
    scene.is_well(16 * MIB);
}

#[test]
fn content_without_line_ends_is_bounded_by_the_size_limit() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[smtp]\nmessage_octets_max = \"1MiB\"")
        .start();
    let before = node.resident();
    let mut client = Client::greeted(node.smtp());
    client.begin("a@s.example", &["b@r.example"]);
    let block = vec![b'A'; 1 << 20];
    for _ in 0..64 {
        client.send(&block);
    }
    client.send(b"\r\n.\r\n");
    client.hear("552 5.3.4");
    let grown = node.resident().saturating_sub(before);
    assert!(grown < 16 * MIB, "{} KiB more", grown >> 10);
    client.mail("a@s.example", &["b@r.example"], &letter("small"));
    peer.wait(1);
}

#[test]
fn a_message_cut_off_midway_is_nobodys() {
    let mut scene = Scene::new();
    for way in 0..3 {
        let mut client = Client::greeted(scene.node.smtp());
        client.begin("a@s.example", &["b@r.example"]);
        client.send(b"Subject: half\r\n\r\nhalf a mess");
        match way {
            0 => drop(client),
            1 => client.reset(),
            _ => {
                // All but the last octet of the end.
                client.send(b"age\r\n.\r");
                drop(client);
            }
        }
    }
    let mut chunk = Client::greeted(scene.node.smtp());
    chunk.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nBDAT 9 LAST\r\n12345678");
    chunk.hear("250");
    chunk.hear("250");
    drop(chunk);
    until("their sessions are over", || {
        (scene.node.metric("posthaste_sessions_open") == 0.0).then_some(())
    });
    scene.is_well(16 * MIB);
    assert_eq!(scene.node.wait_for("Reception", 2).len(), 2);
    // None of them heard anything; the operator is told of each.
    let unfinished = r#"posthaste_messages_refused_total{reason="unfinished"}"#;
    assert_eq!(scene.node.metric(unfinished), 4.0);
    let mut rejections = scene.node.wait_for("Rejection", 4);
    assert_eq!(rejections.len(), 4, "{rejections:?}");
    let chunk = rejections.pop().expect("there are four");
    assert_eq!(chunk["response"]["command"], "BDAT", "{chunk}");
    for record in &rejections {
        let response = &record["response"];
        assert_eq!(response["command"], "DATA", "{record}");
        assert_eq!(response["code"], 451, "{record}");
        assert_eq!(record["sender"], "a@s.example", "{record}");
    }
}

#[test]
fn a_message_taken_from_a_client_that_has_gone_is_delivered() {
    let mut scene = Scene::new();
    let mut client = Client::greeted(scene.node.smtp());
    client.begin("", &["b@r.example"]);
    client.send(b"Subject: gone\r\n\r\nx\r\n.\r\n");
    client.finish();
    queued_as(&client.reply());
    client.hear_end();
    scene.peer.wait(2);
    assert!(scene.node.is_alive());
}

#[test]
fn a_slow_writer_is_served() {
    let mut scene = Scene::new();
    let mut client = Client::connect(scene.node.smtp());
    let wire = "EHLO slow.example\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n\
                Subject: slow\r\n\r\n..\r\n.\r\n";
    for octet in wire.bytes() {
        client.send(&[octet]);
        // Each octet is a segment of its own, read alone or nearly so.
        std::thread::yield_now();
    }
    for answer in ["250", "250", "250", "354"] {
        client.hear(answer);
    }
    queued_as(&client.reply());
    let arrived = scene.peer.wait(2).remove(1);
    assert_eq!(arrived.parts().1, b"Subject: slow\r\n\r\n.\r\n");
    assert!(scene.node.is_alive());
}

#[test]
fn a_command_in_drops_is_silence_and_content_in_drops_is_not() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[smtp]\nidle = \"6s\"")
        .start();
    let mut content = Client::greeted(node.smtp());
    content.begin("", &["b@r.example"]);
    let mut command = Client::greeted(node.smtp());
    // Nobody is silent for long, but one of the two never comes to a line's end.
    let said = within(Duration::from_secs(60), || {
        content.send(b"x");
        // It may have been closed since.
        let _ = command.try_send(b"N");
        let heard = command.heard_within(Duration::from_millis(100));
        heard.expect("421 comes before the end")
    });
    assert_eq!(said.as_deref(), Some("421 4.4.2 Timeout"));
    content.send(b"\r\n.\r\n");
    queued_as(&content.reply());
    peer.wait(1);
}

/// As many commands as the client can get rid of, whose replies it does not read.
fn flood(scene: &Scene) -> TcpStream {
    let mut stream = Client::connect(scene.node.smtp()).into_stream();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a time-out is set");
    let block = b"EHLO x\r\n".repeat(20_000);
    // Ends when both ends' buffers are full: the node does not read on.
    while stream.write_all(&block).is_ok() {}
    assert_eq!(scene.node.metric("posthaste_sessions_open"), 1.0);
    stream
}

const NO_END: &str = "[smtp]\ncommands_max = 1000000000";
/// A client that takes no reply has a minute.
const UNREAD_MAX: Duration = Duration::from_secs(240);

#[test]
fn a_client_that_takes_no_reply_is_let_go() {
    let scene = Scene::with(NO_END);
    let stream = flood(&scene);
    // Long before it has been idle for as long as a client may.
    let gone = within(UNREAD_MAX, || {
        (scene.node.metric("posthaste_sessions_open") == 0.0).then_some(())
    });
    assert!(gone.is_some(), "it still has its session");
    drop(stream);
}

#[test]
fn two_thousand_idle_connections_leave_room_for_the_busy() {
    let scene = Scene::new();
    let address = scene.node.smtp();
    let idle: Vec<TcpStream> = (0..2000)
        .map(|_| TcpStream::connect(address).expect("the node accepts"))
        .collect();
    until("all are greeted", || {
        (scene.node.metric("posthaste_sessions_open") >= 2000.0).then_some(())
    });
    let mut client = Client::greeted(address);
    for _ in 0..50 {
        client.mail("", &["b@r.example"], &letter("busy"));
    }
    scene.peer.wait(51);
    // 8 KiB a session.
    let grown = scene.node.resident().saturating_sub(scene.before);
    assert!(grown < 32 * MIB, "{} KiB more", grown >> 10);
    drop(idle);
    until("the idle are gone", || {
        (scene.node.metric("posthaste_sessions_open") <= 1.0).then_some(())
    });
}

#[test]
fn other_protocols_are_sent_away() {
    let mut scene = Scene::new();
    let mut http = Client::connect(scene.node.smtp());
    http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = http.reply();
    assert!(reply.starts_with(['4', '5']), "{reply}");
    http.hear_end();
    let mut post = Client::connect(scene.node.smtp());
    post.send(b"POST / HTTP/1.1\r\n\r\nEHLO x\r\nMAIL FROM:<a@s.example>\r\n");
    let reply = post.reply();
    assert!(reply.starts_with(['4', '5']), "{reply}");
    post.hear_end();
    let mut tls = Client::connect(scene.node.smtp());
    tls.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03");
    tls.hear("421 4.7.0");
    tls.hear_end();
    scene.is_well(16 * MIB);
}

#[test]
fn who_speaks_before_the_greeting_is_sent_away() {
    let mut scene = Scene::new();
    // The kernel accepts for the frozen node, so the client is sure to be first to speak.
    scene.node.freeze(true);
    let mut early = Client::dial(scene.node.smtp());
    early.send(b"EHLO early.example\r\nMAIL FROM:<a@s.example>\r\n");
    scene.node.freeze(false);
    early.hear("554 5.5.0");
    early.hear_end();
    scene.is_well(16 * MIB);
}

#[test]
fn a_flood_of_commands_whose_replies_nobody_reads_is_held_back() {
    let mut scene = Scene::with(NO_END);
    let stream = flood(&scene);
    scene.is_well(16 * MIB);
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn no_line_end_but_crlf_ends_a_message() {
    let mut scene = Scene::new();
    for end in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut client = Client::greeted(scene.node.smtp());
        client.begin("a@s.example", &["b@r.example"]);
        let smuggled = format!(
            "Subject: x\r\n\r\nx{end}MAIL FROM:<evil@s.example>\r\nRCPT TO:<b@r.example>\r\n\
             DATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n"
        );
        client.send(smuggled.as_bytes());
        client.hear("554 5.6.0");
        client.expect("NOOP", "250");
    }
    let mut client = Client::greeted(scene.node.smtp());
    client.begin("a@s.example", &["b@r.example"]);
    client.send(b"Subject: nul\r\n\r\n\0\r\n.\r\n");
    client.hear("554 5.6.0");
    scene.is_well(16 * MIB);
}

#[test]
fn a_message_that_goes_in_circles_is_refused() {
    let scene = Scene::new();
    let mut client = Client::greeted(scene.node.smtp());
    let hops = "Received: from a by b; Tue, 24 Nov 2026 13:26:22 +0000\r\n".repeat(101);
    client.begin("a@s.example", &["b@r.example"]);
    client.send(format!("{hops}Subject: loop\r\n\r\nx\r\n.\r\n").as_bytes());
    client.hear("554 5.4.6");
    client.expect("NOOP", "250");
}
