//! SIGTERM: nobody is cut off in the midst, nothing accepted is lost, and it ends with 0.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, letter, queued_as};
use super::node::{Setup, closed};
use super::peer::{Answer, Peer, Stage, always, at_first, say};
use super::wait::until;
use crate::disk::{Image, skip};

#[test]
fn sigterm_lets_a_client_end_its_message_and_sends_the_others_away() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    let mut idle = Client::greeted(node.smtp());
    let mut midway = Client::greeted(node.smtp());
    midway.begin("a@s.example", &["b@r.example"]);
    midway.send(b"Subject: midway\r\n\r\nfirst half\r\n");
    let mut envelope = Client::greeted(node.smtp());
    envelope.expect("MAIL FROM:<a@s.example>", "250");
    envelope.expect("RCPT TO:<b@r.example>", "250");
    node.terminate();
    idle.hear("421 4.3.2");
    idle.hear_end();
    envelope.hear("421 4.3.2");
    envelope.hear_end();
    // One session still holds the node up; a newcomer is sent away.
    let mut late = Client::dial(node.smtp());
    late.hear("421 4.3.2");
    late.hear_end();
    midway.send(b"second half\r\n.\r\n");
    queued_as(&midway.reply());
    midway.hear("421 4.3.2");
    midway.hear_end();
    assert_eq!(node.wait().code(), Some(0), "{}", node.told());
    node.start_again();
    let arrived = peer.wait(1).remove(0);
    assert!(arrived.text().ends_with("first half\r\nsecond half\r\n"));
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
}

/// Longer than the node waits for clients that have not sent their dot.
const STALL: Duration = Duration::from_secs(35);

#[test]
fn sigterm_waits_for_a_stalled_disk_to_say_what_became_of_a_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(image) = Image::new(folder.path(), 512 << 20) else {
        return skip("mkfs.ext4 does not run here");
    };
    let Some(mounted) = image.mount() else {
        return skip("an ext4 image cannot be mounted here");
    };
    let (peer, is_willing) = Peer::unwilling();
    let mut node = Setup::to(peer.address())
        .arg("--spool", &image.path().join("spool").display().to_string())
        .file("[spool]\nfree_min = \"1MiB\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    client.mail(
        "a@s.example",
        &["b@r.example"],
        &letter("tried each second"),
    );
    node.wait_for("TransientFailure", 1);
    client.begin("a@s.example", &["b@r.example"]);
    let Some(frozen) = mounted.freeze() else {
        return skip("fsfreeze does not run here");
    };
    client.send(b"Subject: stalled\r\n\r\nbody\r\n.\r\n");
    node.terminate();
    until("it ends", || {
        node.told().contains("finishing").then_some(())
    });
    let begun = peer.steps_at(Stage::Mail).len();
    let early = client.heard_within(STALL).expect("it is not cut off");
    assert_eq!(early, None, "nothing is known before the disk answers");
    // One transaction may have been under way.
    let more = peer.steps_at(Stage::Mail).len() - begun;
    assert!(more <= 1, "{more} deliveries began after SIGTERM");
    drop(frozen);
    queued_as(&client.reply());
    client.hear("421 4.3.2");
    client.hear_end();
    assert_eq!(node.wait().code(), Some(0), "{}", node.told());
    assert!(!node.told().contains("does not answer"), "{}", node.told());
    is_willing.store(true, Ordering::Release);
    node.start_again();
    peer.wait(2);
    node.wait_empty();
    assert_eq!(peer.letters().len(), 2);
    node.kill();
    drop(mounted);
}

#[test]
fn sigterm_ends_a_chunked_message_where_it_may() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).start();
    let mut chunks = Client::greeted(node.smtp());
    chunks.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nBDAT 8\r\nhalf");
    chunks.hear("250");
    chunks.hear("250");
    node.terminate();
    until("it ends", || {
        node.told().contains("finishing").then_some(())
    });
    chunks.send(b"full");
    // The chunk is taken, the message is not: the client keeps it.
    let reply = chunks.reply();
    assert!(
        reply.starts_with("250") || reply.starts_with("421"),
        "{reply}"
    );
    if reply.starts_with("250") {
        chunks.hear("421");
    }
    chunks.hear_end();
    assert_eq!(node.wait().code(), Some(0));
    assert_eq!(peer.letters().len(), 0);
}

#[test]
fn sigterm_waits_for_the_peer_to_answer_the_dot() {
    let peer = Peer::new(always(
        Stage::Dot,
        Answer::ByteByByte(format!("250 2.0.0 {}", "taken ".repeat(50))),
    ));
    let mut node = Setup::to(peer.address()).start();
    let mut client = Client::greeted(node.smtp());
    client.mail("a@s.example", &["b@r.example"], &letter("dot"));
    drop(client);
    until("the dot is under way", || {
        (!peer.steps_at(Stage::Dot).is_empty()).then_some(())
    });
    assert_eq!(node.stop().code(), Some(0), "{}", node.told());
    node.start_again();
    node.wait_for("Delivery", 1);
    assert_eq!(node.metric("posthaste_queue_entries"), 0.0);
    assert_eq!(peer.steps_at(Stage::Dot).len(), 1);
}

/// Longer than transactions are given to come to their dot.
#[test]
fn a_peer_that_takes_its_time_for_the_dot_is_waited_for_and_one_before_it_is_not() {
    const DELIVERIES_GRACE: Duration = Duration::from_secs(25);
    let late = Answer::Late(
        DELIVERIES_GRACE + Duration::from_secs(3),
        "250 2.0.0 taken".into(),
    );
    let peer = Peer::new(always(Stage::Dot, late));
    let silent = Peer::new(at_first(1, Stage::Rcpt, Answer::Silence));
    let mut node = Setup::to(peer.address())
        .route("silent.example", &[silent.address()])
        .start();
    let mut client = Client::greeted(node.smtp());
    client.mail("a@s.example", &["b@r.example"], &letter("late"));
    client.mail("a@s.example", &["b@silent.example"], &letter("silent"));
    drop(client);
    until("both are under way", || {
        let is_at = |peer: &Peer, stage| !peer.steps_at(stage).is_empty();
        (is_at(&peer, Stage::Dot) && is_at(&silent, Stage::Rcpt)).then_some(())
    });
    assert_eq!(node.stop().code(), Some(0), "{}", node.told());
    node.start_again();
    node.wait_for("Delivery", 2);
    node.wait_empty();
    assert_eq!(peer.steps_at(Stage::Dot).len(), 1);
    let tries = |record: &Value| record["num_attempts"].as_u64();
    let silent = node
        .records()
        .into_iter()
        .filter(|r| r["recipient"] == "b@silent.example");
    let tries: Vec<_> = silent
        .filter(|r| r["type"] == "Delivery")
        .map(|r| tries(&r))
        .collect();
    assert_eq!(tries, [Some(1)], "what was cut off was not tried");
}

#[test]
fn sigterm_under_load_loses_and_doubles_nothing() {
    let peer = Peer::good();
    let mut node = Setup::to(peer.address()).arg("--shards", "2").start();
    let address = node.smtp();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::greeted(address);
                let mut ids = Vec::new();
                loop {
                    let subject = format!("load {number} {}", ids.len());
                    let wire = format!(
                        "MAIL FROM:<a@s.example>\r\nRCPT TO:<b@d{number}.example>\r\nDATA\r\n"
                    );
                    if client.try_send(wire.as_bytes()).is_err() {
                        return ids;
                    }
                    let told = (0..3).all(|_| {
                        client
                            .try_reply()
                            .is_ok_and(|reply| reply.starts_with(['2', '3']))
                    });
                    let mut content = letter(&subject);
                    content.extend(b".\r\n");
                    if !told || client.try_send(&content).is_err() {
                        return ids;
                    }
                    match client.try_reply() {
                        Ok(reply) if reply.starts_with("250") => ids.push(queued_as(&reply)),
                        _ => return ids,
                    }
                }
            })
        })
        .collect();
    peer.wait(100);
    assert_eq!(node.stop().code(), Some(0), "{}", node.told());
    let mut ids: Vec<String> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("a client ends"))
        .collect();
    node.start_again();
    node.wait_for("Delivery", ids.len());
    node.wait_empty();
    let mut arrived: Vec<String> = peer
        .letters()
        .iter()
        .map(|letter| {
            let (trace, _) = letter.parts();
            let (_, rest) = trace.split_once(" id ").expect("a trace has an id");
            rest.split(['\r', ';'])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    ids.sort();
    arrived.sort();
    assert_eq!(arrived, ids);
}

#[test]
fn sigterm_does_not_wait_for_mail_that_cannot_go() {
    let refusing = Peer::new(always(Stage::Mail, say("451 4.3.0 later")));
    let mut node = Setup::to(refusing.address())
        .route("down.example", &[closed()])
        .start();
    let mut client = Client::greeted(node.smtp());
    for _ in 0..20 {
        client.mail(
            "a@s.example",
            &["b@r.example", "b@down.example"],
            &letter("stuck"),
        );
    }
    node.wait_for("TransientFailure", 2);
    let begun = std::time::Instant::now();
    assert_eq!(node.stop().code(), Some(0), "{}", node.told());
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    client.hear("421");
    node.start_again();
    assert_eq!(node.metric("posthaste_queue_entries"), 40.0);
}
