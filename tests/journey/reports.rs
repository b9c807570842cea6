//! What senders are told, by whom and when (RFC 3461, RFC 3464).

use super::client::{Client, letter, mail};
use super::node::{Node, Setup};
use super::peer::{Answer, Letter, Peer, Stage, always, at_first, say};

const NO: &str = "550 5.7.77 policy says no";

/// Mail for `s.example`, where our senders live, goes to the second peer; all else to the first.
fn start(peer: &Peer, senders: &Peer) -> Node {
    Setup::to(peer.address())
        .route("s.example", &[senders.address()])
        .start()
}

#[track_caller]
fn has(report: &Letter, parts: &[&str]) {
    let text = report.text();
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_permanent_refusal_at_any_stage_is_reported_to_the_sender() {
    let stages = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
    let peers = stages.map(|stage| Peer::new(always(stage, say(NO))));
    let senders = Peer::good();
    let mut setup = Setup::to(senders.address());
    for (number, peer) in peers.iter().enumerate() {
        setup = setup.route(&format!("d{number}.example"), &[peer.address()]);
    }
    let node = setup.start();
    for number in 0..peers.len() {
        let to = format!("b@d{number}.example");
        mail(node.smtp(), "me@s.example", &[&to], &letter("refused"));
    }
    let reports = senders.wait(peers.len());
    node.wait_empty();
    assert_eq!(senders.letters().len(), peers.len());
    for (number, peer) in peers.iter().enumerate() {
        let final_recipient = format!("Final-Recipient: rfc822; b@d{number}.example\r\n");
        let report = reports
            .iter()
            .find(|report| report.text().contains(&final_recipient))
            .unwrap_or_else(|| panic!("no report on d{number}.example"));
        assert_eq!(report.mail, "<>");
        assert_eq!(report.rcpts, ["<me@s.example>"]);
        let spoken_to = peer.address().ip();
        has(
            report,
            &[&format!("\r\nRemote-MTA: dns; [{spoken_to}]\r\n")],
        );
        has(
            report,
            &[
                "From: Mail Delivery System <MAILER-DAEMON@mta.example.test>\r\n",
                "To: <me@s.example>\r\n",
                "Content-Type: multipart/report; report-type=delivery-status;",
                "Content-Type: message/delivery-status\r\n",
                "Reporting-MTA: dns; mta.example.test\r\n",
                "Action: failed\r\n",
                "Status: 5.7.77\r\n",
                "Diagnostic-Code: smtp; 550 5.7.77 policy says no\r\n",
                "Subject: refused\r\n",
                "Body of refused.\r\n",
            ],
        );
    }
    let bounces = node.wait_for("Bounce", peers.len());
    for (number, command) in ["MAIL", "RCPT", "DATA", "."].iter().enumerate() {
        let of = format!("d{number}.example");
        let record = bounces.iter().find(|record| record["queue"] == of.as_str());
        let record = record.expect("each domain has a bounce");
        assert_eq!(record["response"]["command"], *command, "{record}");
        assert_eq!(
            record["response"]["enhanced_code"]["detail"], 77,
            "{record}"
        );
    }
}

#[test]
fn nobody_is_told_who_did_not_want_to_be() {
    let peer = Peer::new(always(Stage::Rcpt, say(NO)));
    let senders = Peer::good();
    let node = start(&peer, &senders);
    let mut client = Client::greeted(node.smtp());
    client.mail("", &["null@r.example"], &letter("null sender"));
    client.expect("MAIL FROM:<me@s.example>", "250");
    for notify in ["NEVER", "SUCCESS", "DELAY", "SUCCESS,DELAY"] {
        client.expect(&format!("RCPT TO:<x@r.example> NOTIFY={notify}"), "250");
    }
    client.expect("DATA", "354");
    client.end(&letter("never"));
    node.wait_for("Bounce", 5);
    node.wait_empty();
    assert_eq!(senders.letters().len(), 0);
}

#[test]
fn a_report_that_is_refused_makes_no_report() {
    let peer = Peer::new(always(Stage::Rcpt, say(NO)));
    let node = Setup::to(peer.address()).start();
    mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("loop"),
    );
    let bounces = node.wait_for("Bounce", 2);
    node.wait_empty();
    assert_eq!(bounces[1]["sender"], "", "{bounces:?}");
    assert_eq!(bounces[1]["recipient"], "me@s.example");
    assert_eq!(node.wait_for("Bounce", 2).len(), 2);
}

#[test]
fn success_is_reported_for_a_peer_that_does_not_report_itself() {
    let plain = Peer::with(&["PIPELINING"], |_| Answer::Yes);
    let senders = Peer::good();
    let node = start(&plain, &senders);
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<me@s.example> RET=HDRS ENVID=QQ+2B1", "250");
    client.expect(
        "RCPT TO:<b@r.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bname@r.example",
        "250",
    );
    client.expect("RCPT TO:<quiet@r.example> NOTIFY=FAILURE", "250");
    client.expect("DATA", "354");
    client.end(&letter("success"));
    let report = senders.wait(1).remove(0);
    assert_eq!(
        (report.mail.as_str(), report.rcpts[0].as_str()),
        ("<>", "<me@s.example>")
    );
    has(
        &report,
        &[
            "Original-Envelope-Id: QQ+1\r\n",
            "Original-Recipient: rfc822; old+name@r.example\r\n",
            "Final-Recipient: rfc822; b@r.example\r\n",
            "Action: relayed\r\n",
            "Status: 2.",
            "Subject: success\r\n",
        ],
    );
    let text = report.text();
    assert!(!text.contains("Body of success"), "RET=HDRS: {text}");
    assert!(!text.contains("quiet@"), "{text}");
    assert_eq!(
        plain.letters()[0].rcpts,
        ["<b@r.example>", "<quiet@r.example>"]
    );
    node.wait_empty();
    assert_eq!(senders.letters().len(), 1);
}

#[test]
fn a_peer_that_reports_itself_is_left_to_it() {
    let peer = Peer::good();
    let senders = Peer::good();
    let node = start(&peer, &senders);
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<me@s.example> RET=FULL ENVID=QQ1", "250");
    client.expect(
        "RCPT TO:<b@r.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@r.example",
        "250",
    );
    client.expect("DATA", "354");
    client.end(&letter("passed on"));
    let arrived = peer.wait(1).remove(0);
    assert!(arrived.mail.contains(" RET=FULL"), "{}", arrived.mail);
    assert!(arrived.mail.contains(" ENVID=QQ1"), "{}", arrived.mail);
    assert_eq!(
        arrived.rcpts,
        ["<b@r.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@r.example"]
    );
    node.wait_for("Delivery", 1);
    node.wait_empty();
    assert_eq!(senders.letters().len(), 0);
}

#[test]
fn mail_that_grows_too_old_is_reported() {
    let peer = Peer::new(always(Stage::Dot, say("452 4.2.2 mailbox full")));
    let senders = Peer::good();
    let node = Setup::to(peer.address())
        .route("s.example", &[senders.address()])
        .arg("--max-age", "2s")
        .start();
    let id = mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("old"),
    );
    let report = senders.wait(1).remove(0);
    has(
        &report,
        &["Action: failed\r\n", "Status: 4.4.7\r\n", "mailbox full"],
    );
    node.wait_empty();
    let kinds: Vec<String> = node
        .records_of(&id)
        .iter()
        .map(|record| record["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    let (first, rest) = kinds.split_first().expect("there are records");
    let (last, tries) = rest.split_last().expect("there are records");
    assert_eq!((first.as_str(), last.as_str()), ("Reception", "Expiration"));
    assert!(!tries.is_empty() && tries.iter().all(|kind| kind == "TransientFailure"));
    assert_eq!(peer.letters().len(), 0);
}

#[test]
fn a_delay_is_told_once_to_those_who_want_it() {
    let peer = Peer::new(at_first(6, Stage::Rcpt, say("450 4.2.0 not yet")));
    let senders = Peer::good();
    let node = Setup::to(peer.address())
        .route("s.example", &[senders.address()])
        .file("[delivery]\nwarn_after = \"1s\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<me@s.example>", "250");
    client.expect("RCPT TO:<told@r.example>", "250");
    client.expect("RCPT TO:<untold@r.example> NOTIFY=FAILURE", "250");
    client.expect("DATA", "354");
    client.end(&letter("delay"));
    let report = senders.wait(1).remove(0);
    has(
        &report,
        &[
            "Action: delayed\r\n",
            "Final-Recipient: rfc822; told@r.example\r\n",
            "Status: 4.2.0\r\n",
            "Will-Retry-Until: ",
        ],
    );
    assert!(!report.text().contains("untold@"));
    node.wait_for("Delivery", 3);
    node.wait_empty();
    assert_eq!(senders.letters().len(), 1);
}

#[test]
fn content_a_peer_cannot_take_is_returned_and_not_harmed() {
    let peer = Peer::with(&["PIPELINING"], |_| Answer::Yes);
    let senders = Peer::good();
    let node = Setup::to(peer.address())
        .route("s.example", &[senders.address()])
        .file("[delivery]\neight_bit = \"refuse\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    client.expect("MAIL FROM:<me@s.example> BODY=8BITMIME", "250");
    client.expect("RCPT TO:<eight@r.example>", "250");
    client.expect("DATA", "354");
    client.end(b"Subject: x\r\n\r\n\xC3\xA4\r\n");
    client.expect("MAIL FROM:<me@s.example> SMTPUTF8", "250");
    client.expect("RCPT TO:<j\u{f6}rg@r.example>", "250");
    client.expect("DATA", "354");
    client.end(b"Subject: x\r\n\r\nplain\r\n");
    client.mail("me@s.example", &["plain@r.example"], &letter("plain"));
    peer.wait(1);
    let reports = senders.wait(2);
    node.wait_for("Bounce", 2);
    node.wait_empty();
    for (of, why) in [("eight@", "8BITMIME"), ("j\u{f6}rg@", "SMTPUTF8")] {
        let told = reports.iter().any(|report| {
            let text = report.text();
            text.contains(of) && text.contains(why)
        });
        assert!(told, "{of}: {reports:?}");
    }
    assert_eq!(peer.letters().len(), 1);
}

#[test]
fn a_large_original_comes_back_whole_only_when_asked_for() {
    let peer = Peer::new(always(Stage::Dot, say(NO)));
    let senders = Peer::good();
    let node = start(&peer, &senders);
    let line = "0123456789 of a large message\r\n";
    let content = [letter("large"), line.repeat(4000).into_bytes()].concat();
    let mut client = Client::greeted(node.smtp());
    for (ret, is_whole) in [("", false), (" RET=HDRS", false), (" RET=FULL", true)] {
        let sender = format!("me{}@s.example", ret.len() + usize::from(is_whole));
        client.expect(&format!("MAIL FROM:<{sender}>{ret}"), "250");
        client.expect("RCPT TO:<b@r.example>", "250");
        client.expect("DATA", "354");
        client.end(&content);
        let of_sender = |letter: &Letter| letter.rcpts[0] == format!("<{sender}>");
        let report = super::wait::until("the report is there", || {
            senders.letters().into_iter().find(of_sender)
        });
        assert!(report.text().contains("Subject: large\r\n"));
        assert_eq!(
            report.text().matches(line).count(),
            if is_whole { 4000 } else { 0 }
        );
    }
}

#[test]
fn a_message_larger_than_the_peer_takes_is_returned_unsent() {
    let peer = Peer::with(&["PIPELINING", "SIZE 1000"], |_| Answer::Yes);
    let senders = Peer::good();
    let node = start(&peer, &senders);
    let content = [letter("size"), vec![b'x'; 2000], b"\r\n".to_vec()].concat();
    mail(node.smtp(), "me@s.example", &["b@r.example"], &content);
    has(
        &senders.wait(1)[0],
        &["Action: failed\r\n", "Status: 5.3.4\r\n"],
    );
    mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("small"),
    );
    assert!(
        peer.wait(1)[0].mail.contains(" SIZE="),
        "{:?}",
        peer.letters()
    );
    node.wait_empty();
    assert_eq!(peer.steps_at(Stage::Mail).len(), 1);
}

#[test]
fn a_report_waits_for_a_sender_whose_site_is_down() {
    let peer = Peer::new(always(Stage::Rcpt, say(NO)));
    let down = super::node::closed();
    let mut node = Setup::to(peer.address())
        .route("s.example", &[down])
        .start();
    mail(
        node.smtp(),
        "me@s.example",
        &["b@r.example"],
        &letter("down"),
    );
    node.wait_for("TransientFailure", 1);
    node.kill();
    let senders = Peer::good_at(down);
    node.start_again();
    has(&senders.wait(1)[0], &["Action: failed\r\n"]);
    node.wait_empty();
    assert_eq!(senders.letters().len(), 1);
}
