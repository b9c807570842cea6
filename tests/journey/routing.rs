//! Where mail goes: by MX through a real name server, and from which address of ours.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;

use serde_json::Value;

use super::client::{Client, letter, mail};
use super::namespace::alone;
use super::node::{Node, Setup, closed, own_ip};
use super::nsd::NameServer;
use super::peer::{Answer, Peer, Stage, always, say};
use super::wait::until;
use crate::disk::{Mount, skip};

const ALLOWED: &str = "[delivery]\nport = 2526\nallow_private_targets = true";

fn asking(resolver: SocketAddr) -> Setup {
    Setup::new()
        .arg("--hostname", "mta.test")
        .file(&format!("[dns]\nresolvers = [\"{resolver}\"]"))
}

/// The one record of this kind for a recipient's domain.
#[track_caller]
fn record_of(node: &Node, kind: &str, queue: &str) -> Value {
    until(&format!("{kind} of {queue} is logged"), || {
        node.records()
            .into_iter()
            .find(|record| record["type"] == kind && record["queue"] == queue)
    })
}

#[test]
fn mx_records_lead_mail_where_they_say() {
    let (first, second, senders) = (Peer::good(), Peer::good(), Peer::good());
    let records = format!(
        "mx-a A {}\nmx-b A {}\nmx-s A {}\nmx-down A {}\n\
         pref MX 20 mx-b\npref MX 10 mx-a\n\
         down MX 10 mx-down\ndown MX 20 mx-b\n\
         missing MX 10 no-such-host\nmissing MX 20 mx-b\n\
         implicit A {}\nalias CNAME pref\n\
         behind MX 10 mx-a\nbehind MX 20 mta\nbehind MX 30 mx-b\n\
         mta A {}\nloop MX 10 mta\nloop MX 20 mx-b\n\
         null MX 0 .\nsenders MX 10 mx-s\n",
        first.address().ip(),
        second.address().ip(),
        senders.address().ip(),
        own_ip(),
        first.address().ip(),
        own_ip(),
    );
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = asking(names.address()).file(ALLOWED).start();
    let to = |domain: &str| {
        let to = format!("b@{domain}");
        mail(node.smtp(), "me@senders.test", &[&to], &letter(domain));
    };
    for (domain, peer) in [
        ("pref.test", &first),
        ("down.test", &second),
        ("missing.test", &second),
        ("implicit.test", &first),
        ("alias.test", &first),
        ("behind.test", &first),
    ] {
        to(domain);
        let record = record_of(&node, "Delivery", domain);
        let ip = peer.address().ip().to_string();
        assert_eq!(record["peer_address"]["addr"], ip.as_str(), "{record}");
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
    assert_eq!(
        record_of(&node, "Delivery", "pref.test")["peer_address"]["name"],
        "mx-a.test"
    );
    for (domain, code, (subject, detail), text) in [
        ("loop.test", 550, (4, 6), "loops back"),
        ("null.test", 556, (1, 10), "null MX"),
        ("gone.test", 550, (1, 2), "does not exist"),
    ] {
        to(domain);
        let response = &record_of(&node, "Bounce", domain)["response"];
        assert_eq!(response["code"], code, "{response}");
        assert_eq!(response["enhanced_code"]["subject"], subject, "{response}");
        assert_eq!(response["enhanced_code"]["detail"], detail, "{response}");
        assert!(
            response["content"].as_str().expect("text").contains(text),
            "{response}"
        );
    }
    let reports = senders.wait(3);
    for domain in ["loop.test", "null.test", "gone.test"] {
        let final_recipient = format!("Final-Recipient: rfc822; b@{domain}\r\n");
        let told = reports
            .iter()
            .any(|report| report.text().contains(&final_recipient));
        assert!(told, "{domain}");
    }
    node.wait_empty();
    assert_eq!((first.letters().len(), second.letters().len()), (4, 2));
}

#[test]
fn an_internationalised_domain_is_asked_for_and_delivered_to_in_ascii() {
    // No SMTPUTF8: an address whose domain alone was written in another script needs none.
    let peer = Peer::with(&["8BITMIME"], |_| Answer::Yes);
    let records = format!("mx A {}\nxn--bcher-kva MX 10 mx\n", peer.address().ip());
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = asking(names.address()).file(ALLOWED).start();
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<> SMTPUTF8", "250");
    client.expect("RCPT TO:<b@B\u{dc}cher.test>", "250");
    client.expect("DATA", "354");
    client.end(&letter("idn"));
    client.mail("", &["b@xn--bcher-kva.test"], &letter("ascii"));
    for letter in peer.wait(2) {
        assert_eq!(letter.rcpts, ["<b@xn--bcher-kva.test>"]);
    }
    for record in node.wait_for("Delivery", 2) {
        assert_eq!(record["peer_address"]["name"], "mx.test", "{record}");
        assert_eq!(record["recipient"], "b@xn--bcher-kva.test", "{record}");
    }
}

/// Says that there is no such name, whatever it is asked.
fn deny_all(socket: &UdpSocket) {
    let mut query = [0; 1500];
    while let Ok((octets, from)) = socket.recv_from(&mut query) {
        let mut answer = query[..octets].to_vec();
        (answer[2], answer[3]) = (0x81, 0x83);
        let _ = socket.send_to(&answer, from);
    }
}

#[test]
fn the_name_servers_of_the_system_are_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("resolv.conf");
    // Nobody is at the first.
    let text =
        "search nowhere.test\nnameserver 127.0.0.76\nnameserver 127.0.0.77\noptions timeout:1\n";
    fs::write(&file, text).expect("a file is written");
    let done = alone(&[], || {
        Mount::over_in_own_namespace(&file, Path::new("/etc/resolv.conf"));
        let socket = UdpSocket::bind("127.0.0.77:53").expect("ports are free here");
        thread::spawn(move || deny_all(&socket));
        let node = Setup::new().start();
        mail(node.smtp(), "", &["b@gone.test"], &letter("gone"));
        let record = record_of(&node, "Bounce", "gone.test");
        let content = &record["response"]["content"];
        assert!(
            content
                .as_str()
                .is_some_and(|c| c.contains("does not exist")),
            "{record}"
        );
    });
    if done.is_none() {
        skip("a network of its own cannot be had here");
    }
}

#[test]
fn domains_that_share_their_mx_share_a_transaction() {
    let peer = Peer::new(|step| match step.line.as_str() {
        line if line.starts_with("RCPT TO:<later@two") && step.nth < 5 => say("450 4.2.1 busy"),
        line if line.starts_with("RCPT TO:<never@") => say("550 5.1.1 no such user"),
        _ => Answer::Yes,
    });
    let records = format!("mx A {}\none MX 10 mx\ntwo MX 10 mx\n", peer.address().ip());
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = asking(names.address()).file(ALLOWED).start();
    // Both routes are known when the message comes.
    for domain in ["one", "two"] {
        let to = format!("first@{domain}.test");
        mail(node.smtp(), "", &[&to], &letter("first"));
    }
    node.wait_for("Delivery", 2);
    let to = ["now@one.test", "later@two.test", "never@one.test"];
    let id = mail(node.smtp(), "", &to, &letter("both"));
    let letters = peer.wait(4);
    let asked: Vec<String> = peer
        .steps_at(Stage::Rcpt)
        .into_iter()
        .map(|step| step.line.replace("RCPT TO:", ""))
        .collect();
    assert_eq!(
        asked[2..],
        [
            "<now@one.test>",
            "<never@one.test>",
            "<later@two.test>",
            "<later@two.test>"
        ],
        "three in one transaction, one again"
    );
    assert_eq!(letters[2].rcpts, ["<now@one.test>"]);
    assert_eq!(letters[3].rcpts, ["<later@two.test>"]);
    node.wait_empty();
    until("all is logged", || {
        let records = node.records_of(&id);
        let ends = records
            .iter()
            .skip(3)
            .map(|r| (&r["type"], &r["recipient"], &r["num_attempts"]));
        let mut ends: Vec<String> = ends.map(|end| format!("{end:?}")).collect();
        ends.sort_unstable();
        (ends.len() == 4).then_some(ends)
    });
    let of = |recipient: &str, kind: &str| {
        let records = node.records_of(&id);
        let mut of = records
            .into_iter()
            .filter(|r| r["recipient"] == recipient && r["type"] == kind);
        of.next().expect("it is logged")["num_attempts"].clone()
    };
    assert_eq!(of("now@one.test", "Delivery"), 1);
    assert_eq!(of("never@one.test", "Bounce"), 1);
    assert_eq!(of("later@two.test", "TransientFailure"), 1);
    assert_eq!(of("later@two.test", "Delivery"), 2);
}

#[test]
fn a_first_host_that_greets_and_fails_is_passed_over_the_next_time() {
    let closing = Answer::SayAndClose("421 4.3.2 closing".into());
    let sick = [closing, Answer::Close, Answer::Silence].map(|a| Peer::new(always(Stage::Mail, a)));
    let good = Peer::good();
    let mut records = format!("good A {}\n", good.address().ip());
    for (number, peer) in sick.iter().enumerate() {
        records += &format!("sick{number} A {}\n", peer.address().ip());
        records += &format!("d{number} MX 10 sick{number}\nd{number} MX 20 good\n");
    }
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = asking(names.address())
        .file(ALLOWED)
        .file("[delivery.timeout]\nmail = \"1s\"")
        .start();
    // The second connection to each site need not ask the sick host either.
    for (round, attempts) in [(1, 2), (2, 1)] {
        for number in 0..sick.len() {
            let to = format!("b{round}@d{number}.test");
            mail(node.smtp(), "", &[&to], &letter("round"));
        }
        good.wait(round * sick.len());
        for record in node.wait_for("Delivery", round * sick.len()) {
            let recipient = record["recipient"].as_str().expect("text");
            if recipient.starts_with(&format!("b{round}@")) {
                assert_eq!(record["num_attempts"], attempts, "{record}");
            }
        }
        until("connections have ended", || {
            (node.metric("posthaste_outbound_connections") == 0.0).then_some(())
        });
    }
    for peer in &sick {
        assert_eq!(peer.steps_at(Stage::Mail).len(), 1, "asked once");
    }
}

#[test]
fn equal_preferences_share_the_load() {
    let (one, other) = (Peer::good(), Peer::good());
    let records = format!(
        "one A {}\nother A {}\nequal MX 10 one\nequal MX 10 other\n",
        one.address().ip(),
        other.address().ip()
    );
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    // One answer, which is kept, is enough: connections take turns with what it names.
    let node = asking(names.address())
        .file(ALLOWED)
        .file("idle = \"0s\"\nmessages_per_connection_max = 1")
        .start();
    until("both have mail", || {
        mail(node.smtp(), "", &["b@equal.test"], &letter("equal"));
        (!one.letters().is_empty() && !other.letters().is_empty()).then_some(())
    });
}

#[test]
fn our_own_address_is_a_loop_by_whatever_name() {
    let node = Setup::new();
    let own = node.smtp();
    let records = format!(
        "other A {}\nself MX 10 other\nbare A {}\n",
        own.ip(),
        own.ip()
    );
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = node
        .file(&format!("[dns]\nresolvers = [\"{}\"]", names.address()))
        .file("[delivery]\nport = 2525\nallow_private_targets = true")
        .start();
    for domain in ["self.test", "bare.test"] {
        mail(node.smtp(), "", &[&format!("b@{domain}")], &letter("loop"));
        let response = &record_of(&node, "Bounce", domain)["response"];
        assert_eq!(response["enhanced_code"]["detail"], 6, "{response}");
    }
    let literal = format!("b@[{}]", own.ip());
    mail(node.smtp(), "", &[&literal], &letter("loop"));
    node.wait_for("Bounce", 3);
    node.wait_empty();
    assert_eq!(node.metric("posthaste_messages_accepted_total"), 3.0);
}

#[test]
fn dns_may_not_lead_mail_into_private_networks() {
    let inside = Peer::good();
    let records = format!("host A {}\ninside MX 10 host\n", inside.address().ip());
    let Some(names) = NameServer::start(&records) else {
        return;
    };
    let node = asking(names.address())
        .file("[delivery]\nport = 2526")
        .start();
    let literal = format!("[{}]", inside.address().ip());
    for domain in [
        "inside.test",
        &literal,
        "[127.0.0.1]",
        "[10.0.0.1]",
        "[IPv6:::1]",
    ] {
        mail(
            node.smtp(),
            "",
            &[&format!("b@{domain}")],
            &letter("private"),
        );
    }
    for record in node.wait_for("Bounce", 5) {
        let text = record["response"]["content"].as_str().expect("text");
        assert!(text.contains("prohibited"), "{record}");
    }
    node.wait_empty();
    assert_eq!(inside.steps().len(), 0);
}

#[test]
fn names_that_cannot_be_asked_for_leave_mail_queued() {
    let garbler = UdpSocket::bind((own_ip(), 5300)).expect("the address is ours");
    let address = garbler.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((octets, from)) = garbler.recv_from(&mut query) {
            let mut answer = query[..octets].to_vec();
            answer[2] |= 0x80;
            // Answers are promised, and are a name that points at itself for ever.
            answer[7] = 5;
            answer.extend([0xC0, 0x0C].repeat(100));
            let _ = garbler.send_to(&answer, from);
        }
    });
    let good = Peer::good();
    for resolver in [closed(), address] {
        let mut node = asking(resolver)
            .file("timeout = \"1s\"\nattempts_max = 2")
            .route("static.example", &[good.address()])
            .start();
        mail(node.smtp(), "", &["b@lost.test"], &letter("lost"));
        let record = record_of(&node, "TransientFailure", "lost.test");
        let response = &record["response"];
        assert!(
            response["content"].as_str().expect("text").contains("DNS"),
            "{response}"
        );
        assert_eq!(response["enhanced_code"]["detail"], 3, "{response}");
        mail(node.smtp(), "", &["b@static.example"], &letter("static"));
        record_of(&node, "Delivery", "static.example");
        assert!(node.is_alive());
        assert_eq!(node.metric("posthaste_queue_entries"), 1.0);
    }
}

/// Each over a connection of its own.
fn four_letters_from(sources: [&str; 2]) -> (Peer, Node) {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file(&format!(
            "[delivery]\nsources = {sources:?}\nmessages_per_connection_max = 1"
        ))
        .start();
    for _ in 0..4 {
        mail(node.smtp(), "", &["b@r.example"], &letter("egress"));
    }
    (peer, node)
}

#[test]
fn mail_leaves_from_the_addresses_given_in_turn() {
    let (peer, node) = four_letters_from(["127.0.0.3", "127.0.0.4"]);
    let mut from: Vec<IpAddr> = peer.wait(4).iter().map(|letter| letter.from.ip()).collect();
    from.sort();
    from.dedup();
    let awaited: Vec<IpAddr> = vec![[127, 0, 0, 3].into(), [127, 0, 0, 4].into()];
    assert_eq!(from, awaited);
    for record in node.wait_for("Delivery", 4) {
        let source = record["source_address"].as_str().expect("an address");
        assert!(
            source.starts_with("127.0.0.3:") || source.starts_with("127.0.0.4:"),
            "{record}"
        );
    }
}

#[test]
fn an_egress_address_that_is_not_ours_keeps_mail_and_says_so() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .file("[delivery]\nsources = [\"192.0.2.77\"]")
        .start();
    mail(node.smtp(), "", &["b@r.example"], &letter("egress"));
    let text = until("the queue says why", || {
        let output = node.queue(&["list"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("192.0.2.77").then_some(text)
    });
    assert!(text.contains("Cannot assign requested address"), "{text}");
    assert!(text.contains("paused"), "{text}");
    let told = "source 192.0.2.77 is suspended for 10 s";
    until("it is told", || node.told().contains(told).then_some(()));
    assert_eq!(peer.steps().len(), 0);
    assert_eq!(node.metric("posthaste_queue_entries"), 1.0);
    assert_eq!(
        node.metric("posthaste_recipients_total{outcome=\"deferred\"}"),
        0.0,
        "no attempt was made"
    );
}

#[test]
fn an_egress_address_that_is_not_ours_leaves_the_mail_to_the_others() {
    let (peer, node) = four_letters_from(["192.0.2.77", "127.0.0.3"]);
    for letter in peer.wait(4) {
        assert_eq!(letter.from.ip(), IpAddr::from([127, 0, 0, 3]));
    }
    for record in node.wait_for("Delivery", 4) {
        assert_eq!(record["egress_source"], "127.0.0.3", "{record}");
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
    let gauge = |source: &str| {
        node.metric(&format!(
            "posthaste_source_suspended{{source=\"{source}\"}}"
        ))
    };
    assert_eq!((gauge("192.0.2.77"), gauge("127.0.0.3")), (1.0, 0.0));
}
