//! Bounds over the wire: each has its answer, and the session goes on where it may.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, letter, mail, queued_as};
use super::node::{Setup, closed, own_ip};
use super::peer::Peer;
use super::wait::until;
use crate::disk::{Mount, skip};

fn limited(text: &str) -> (Peer, super::node::Node) {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).file(text).start();
    (peer, node)
}

#[test]
fn a_message_too_large_is_refused_before_during_and_after() {
    let (peer, node) = limited("[smtp]\nmessage_octets_max = \"64KiB\"");
    let mut client = Client::connect(node.smtp());
    let offered = client.say("EHLO client.example");
    assert!(offered.contains("250-SIZE 65536\n"), "{offered}");
    client.expect("MAIL FROM:<a@s.example> SIZE=65537", "552 5.3.4");
    client.expect("MAIL FROM:<a@s.example> SIZE=65536", "250");
    client.expect("RCPT TO:<b@r.example>", "250");
    client.expect("DATA", "354");
    let mut content = b"x\r\n".repeat(65536 / 3 + 1);
    client.send(&content);
    client.send(b".\r\n");
    client.hear("552 5.3.4");
    client.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nBDAT 65537 LAST\r\n");
    client.send(&vec![b'x'; 65537]);
    for answer in ["250", "250", "552 5.3.4"] {
        client.hear(answer);
    }
    client.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nBDAT 40000\r\n");
    client.send(&vec![b'x'; 40000]);
    client.send(b"BDAT 40000 LAST\r\n");
    client.send(&vec![b'x'; 40000]);
    for answer in ["250", "250", "250", "552 5.3.4"] {
        client.hear(answer);
    }
    // Exactly as much as is allowed.
    content.truncate(65532);
    content.extend(b"xx\r\n");
    client.mail("a@s.example", &["b@r.example"], &content);
    assert_eq!(peer.wait(1)[0].parts().1, content);
}

#[test]
fn one_recipient_too_many_is_left_out() {
    let (peer, node) = limited("[smtp]\nrecipients_max = 100");
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<a@s.example>", "250");
    for number in 0..100 {
        client.expect(&format!("RCPT TO:<r{number}@r.example>"), "250");
    }
    for number in 100..150 {
        client.expect(&format!("RCPT TO:<r{number}@r.example>"), "452 4.5.3");
    }
    client.expect("DATA", "354");
    client.end(&letter("hundred"));
    assert_eq!(peer.wait(1)[0].rcpts.len(), 100);
}

#[test]
fn too_many_errors_or_commands_end_a_session() {
    let (_peer, node) = limited("[smtp]\nerrors_max = 5\ncommands_max = 100");
    let mut wrong = Client::greeted(node.smtp());
    wrong.expect("MAIL FROM:<a@s.example>", "250");
    for _ in 0..5 {
        wrong.expect("RCPT TO:<no address>", "5");
    }
    wrong.expect("RCPT TO:<no address>", "5");
    wrong.hear("421 4.7.0");
    wrong.hear_end();
    let mut eager = Client::greeted(node.smtp());
    for _ in 0..99 {
        eager.expect("NOOP", "250");
    }
    eager.expect("NOOP", "421 4.7.0");
    eager.hear_end();
    let mut stranger = Client::greeted(node.smtp());
    stranger.expect("NOOP", "250");
}

#[test]
fn refused_recipients_count_as_errors() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .file("[smtp]\nerrors_max = 5")
        .start();
    let mut stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    stranger.hear("220");
    stranger.expect("EHLO x.example", "250");
    stranger.expect("MAIL FROM:<a@s.example>", "250");
    for number in 0..6 {
        stranger.expect(&format!("RCPT TO:<r{number}@r.example>"), "550 5.7.1");
    }
    stranger.hear("421 4.7.0");
    stranger.hear_end();
}

#[test]
fn a_session_has_its_number_of_messages() {
    let (peer, node) = limited("[smtp]\nmessages_max = 2");
    let mut client = Client::greeted(node.smtp());
    client.mail("", &["b@r.example"], &letter("one"));
    client.mail("", &["b@r.example"], &letter("two"));
    client.expect("MAIL FROM:<>", "421 4.7.0");
    client.hear_end();
    peer.wait(2);
}

#[test]
fn silence_ends_a_session_with_421() {
    let (_peer, node) = limited("[smtp]\nidle = \"1s\"");
    let mut idle = Client::greeted(node.smtp());
    let mut midway = Client::greeted(node.smtp());
    midway.begin("", &["b@r.example"]);
    midway.send(b"Subject: half\r\n");
    let mut mute = Client::connect(node.smtp());
    for client in [&mut idle, &mut midway, &mut mute] {
        client.hear("421 4.4.2");
        client.hear_end();
    }
    until("their sessions are over", || {
        (node.metric("posthaste_sessions_open") == 0.0).then_some(())
    });
}

#[test]
fn the_longest_session_ends_with_421_however_busy_it_is() {
    let (_peer, node) = limited("[smtp]\nsession = \"10s\"");
    let began = Instant::now();
    let mut client = Client::greeted(node.smtp());
    let last = loop {
        let reply = client.say("NOOP");
        if !reply.starts_with("250") {
            break reply;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on");
        thread::sleep(Duration::from_millis(100));
    };
    assert!(last.starts_with("421 4.4.2"), "{last}");
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    client.hear_end();
}

#[test]
fn connections_are_bounded_per_client_and_in_all() {
    let peer = Peer::good();
    let setup = Setup::to(peer.address());
    let listener = format!(
        "[[listener]]\naddress = \"{}\"\nconnections_max = 4\nconnections_per_client_max = 2",
        setup.smtp()
    );
    let node = setup.file(&listener).listeners_in_file().start();
    let first = Client::connect(node.smtp());
    let _second = Client::connect(node.smtp());
    let mut third = Client::dial(node.smtp());
    third.hear("421 4.7.0");
    third.hear_end();
    let mut others: Vec<Client> = (66..68)
        .map(|last| Client::dial_from([127, 0, 0, last].into(), node.smtp()))
        .collect();
    for other in &mut others {
        other.hear("220");
    }
    let mut fifth = Client::dial_from([127, 0, 0, 70].into(), node.smtp());
    fifth.hear("421 4.7.0");
    drop(first);
    let mut next = until("a place is free again", || {
        let mut next = Client::dial(node.smtp());
        next.reply().starts_with("220").then_some(next)
    });
    next.expect("NOOP", "250");
    assert!(node.metric("posthaste_connections_refused_total{reason=\"full\"}") >= 1.0);
    assert!(node.metric("posthaste_connections_refused_total{reason=\"client\"}") >= 1.0);
}

#[test]
fn memory_for_messages_under_way_is_bounded() {
    let (peer, node) =
        limited("[smtp]\nmessage_octets_max = \"1MiB\"\n[spool]\nbodies_max = \"1MiB\"");
    let mut large = Client::greeted(node.smtp());
    large.begin("", &["b@r.example"]);
    let content = b"x\r\n".repeat(300_000);
    large.send(&content);
    let mut small = Client::greeted(node.smtp());
    let reply = until("there is no room", || {
        small.expect("MAIL FROM:<>", "250");
        small.expect("RCPT TO:<b@r.example>", "250");
        match small.say("DATA") {
            reply if reply.starts_with("354") => {
                small.end(&letter("early"));
                None
            }
            reply => Some(reply),
        }
    });
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    large.end(b"");
    small.expect("RSET", "250");
    small.mail("", &["b@r.example"], &letter("late"));
    let letters = peer.wait(2);
    assert!(letters.iter().any(|letter| letter.parts().1 == content));
}

#[test]
fn many_large_messages_need_no_more_memory_than_is_allowed() {
    let (peer, node) =
        limited("[smtp]\nmessage_octets_max = \"4MiB\"\n[spool]\nbodies_max = \"4MiB\"");
    let content = b"Subject: large\r\n\r\n".iter().copied();
    let content: Vec<u8> = content.chain(b"0123456789\r\n".repeat(300_000)).collect();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..8 {
        client.mail("", &["b@r.example", "c@q.example"], &content);
    }
    node.wait_empty();
    let letters = peer.letters();
    assert!(letters.iter().all(|letter| letter.parts().1 == content));
    let recipients = letters.iter().flat_map(|letter| &letter.rcpts);
    assert_eq!(recipients.count(), 16);
}

#[test]
fn a_disk_without_room_refuses_mail_for_now_and_goes_on_delivering() {
    let down = closed();
    let mut node = Setup::to(down).start();
    mail(node.smtp(), "", &["b@r.example"], &letter("before"));
    assert!(node.stop().success());
    let peer = Peer::good_at(down);
    node.add_to_file("[spool]\nfree_min = \"100TiB\"");
    node.start_again();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..3 {
        client.expect("MAIL FROM:<>", "250");
        client.expect("RCPT TO:<b@r.example>", "250");
        let mut reply = client.say("DATA");
        if reply.starts_with("354") {
            client.send(b"Subject: full\r\n\r\nx\r\n.\r\n");
            reply = client.reply();
        } else {
            client.expect("RSET", "250");
        }
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
    }
    let (status, body) = node.get("/ready");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("full"), "{body}");
    assert_eq!(node.get("/health").0, 200);
    assert!(node.metric("posthaste_messages_refused_total{reason=\"full\"}") >= 3.0);
    peer.wait(1);
    node.wait_for("Delivery", 1);
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
}

const MIB: u64 = 1 << 20;

#[test]
fn senders_that_stop_midway_cost_no_more_memory_than_is_allowed() {
    const SENDERS: usize = 60;
    const CHUNK: usize = 64 << 10;
    const CHUNKS: usize = 48;
    let (peer, node) =
        limited("[smtp]\nmessage_octets_max = \"4MiB\"\n[spool]\nbodies_max = \"4MiB\"");
    mail(node.smtp(), "", &["b@r.example"], &letter("first"));
    peer.wait(1);
    let before = node.resident();
    let begun = |number: usize| {
        let mut client = Client::greeted(node.smtp());
        client.begin("", &[&format!("r{number}@r.example")]);
        client
    };
    let chunk = |number: usize| format!("{number:014}\r\n").repeat(CHUNK / 16).into_bytes();
    // None holds anything when the others begin: all are let in, 180 MiB of them.
    let mut clients: Vec<Client> = (0..SENDERS).map(begun).collect();
    for _ in 0..CHUNKS {
        for (number, client) in clients.iter_mut().enumerate() {
            // Who was given up is not read from any longer.
            let _ = client.try_send(&chunk(number));
        }
    }
    let refused = || node.metric("posthaste_messages_refused_total{reason=\"memory\"}") as usize;
    let mut last = refused();
    until("the node has read all that was sent", || {
        thread::sleep(Duration::from_millis(300));
        let is_settled = last > 0 && refused() == last;
        last = refused();
        is_settled.then_some(())
    });
    let (mut stuck, mut heard) = (Vec::new(), 0);
    for (number, mut client) in clients.into_iter().enumerate() {
        match client.heard_within(Duration::from_millis(20)) {
            Ok(None) => stuck.push((number, client)),
            Ok(Some(reply)) => {
                assert!(reply.starts_with("421 4.3.1"), "{number}: {reply}");
                heard += 1;
            }
            // Who goes on sending for long may lose the word with the connection.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(heard >= SENDERS / 2, "{heard} were told");
    assert!((1..=16).contains(&stuck.len()), "{} are left", stuck.len());
    let grown = node.resident().saturating_sub(before);
    assert!(grown < 48 * MIB, "{} KiB more", grown >> 10);
    for _ in 0..3 {
        let mut late = Client::greeted(node.smtp());
        late.expect("MAIL FROM:<>", "250");
        late.expect("RCPT TO:<b@r.example>", "250");
        late.expect("DATA", "452 4.3.1");
    }
    assert_eq!(refused(), SENDERS - stuck.len() + 3);
    let (number, mut client) = stuck.remove(0);
    client.end(b"");
    let letters = peer.wait(2);
    let whole = chunk(number).repeat(CHUNKS);
    assert!(letters[1].parts().1 == whole, "it arrives unharmed");
    drop(stuck);
    until("the others are gone", || {
        (node.metric("posthaste_sessions_open") <= 1.0).then_some(())
    });
    for again in 0..3 {
        let id = begun(again).end(&whole);
        assert!(!id.is_empty());
    }
    for letter in &peer.wait(5)[2..] {
        assert!(letter.parts().1 == whole);
    }
}

#[test]
fn a_disk_known_to_be_full_is_told_at_data_and_one_that_fills_later_at_the_dot() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = folder.path().join("mount");
    let Some(_mounted) = Mount::new(&mount, &["-t", "tmpfs", "-o", "size=128m", "none"]) else {
        return skip("a tmpfs cannot be mounted here");
    };
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--spool", &mount.join("spool").display().to_string())
        .file("[spool]\nfree_min = \"32MiB\"\nmemtables_max = \"16MiB\"")
        .start();
    mail(node.smtp(), "", &["b@r.example"], &letter("before"));
    let mut early = Client::greeted(node.smtp());
    early.begin("", &["b@r.example"]);
    early.send(b"Subject: early\r\n\r\n");
    let ballast = mount.join("ballast");
    fs::write(&ballast, vec![0; 108 << 20]).expect("the ballast fits");
    until("the node knows", || {
        (node.get("/ready").0 == 503).then_some(())
    });
    let mut late = Client::greeted(node.smtp());
    late.expect("MAIL FROM:<>", "250");
    late.expect("RCPT TO:<b@r.example>", "250");
    late.expect("DATA", "452 4.3.1");
    late.send(b"MAIL FROM:<>\r\nRCPT TO:<b@r.example>\r\nBDAT 5 LAST\r\nx\r\n\r\n");
    for answer in ["250", "250", "452 4.3.1"] {
        late.hear(answer);
    }
    early.send(b"x\r\n.\r\n");
    early.hear("452 4.3.1");
    fs::remove_file(&ballast).expect("the ballast goes");
    until("the node knows", || {
        (node.get("/ready").0 == 200).then_some(())
    });
    for client in [&mut early, &mut late] {
        client.expect("RSET", "250");
        client.begin("", &["b@r.example"]);
        client.send(b"Subject: after\r\n\r\nx\r\n.\r\n");
        queued_as(&client.reply());
    }
    peer.wait(3);
    node.wait_empty();
    assert_eq!(peer.letters().len(), 3);
}

#[test]
fn a_queue_as_long_as_it_may_be_takes_nothing_until_some_have_left() {
    const DOMAINS: usize = 100;
    /// A MiB of entries, and what is beyond it.
    const LETTERS: usize = (1 << 20) / 200 / DOMAINS + 1;
    let own = SocketAddr::from((own_ip(), 2500));
    let node = Setup::to(own)
        .arg("--retry", "1s")
        .file("[spool]\nqueue_max = \"1MiB\"")
        .start();
    let to: Vec<String> = (0..DOMAINS).map(|n| format!("b@r{n}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..LETTERS {
        client.mail("", &to, &letter("queued"));
    }
    until("the node knows", || {
        let (code, why) = node.get("/ready");
        (code == 503).then(|| assert!(why.contains("spool.queue_max"), "{why}"))
    });
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<b@r.example>", "250");
    client.expect("DATA", "452 4.3.1");
    client.expect("RSET", "250");
    let peer = Peer::good_at(own);
    until("some have left", || {
        (node.get("/ready").0 == 200).then_some(())
    });
    client.mail("", &["b@r.example"], &letter("after"));
    node.wait_empty();
    assert!(peer.letters().len() > LETTERS);
}
