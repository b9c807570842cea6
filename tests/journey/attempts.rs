//! Peers that refuse, hang up or fall silent at each stage: mail is tried again and arrives once.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, letter, mail};
use super::node::{Node, Setup, closed};
use super::peer::{Answer, Peer, Stage, always, at_first, say};
use super::wait::{never, until};

const STAGES: [Stage; 6] = [
    Stage::Banner,
    Stage::Hello,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Dot,
];

/// One node, each peer with a domain of its own: `d0.example`, `d1.example` and so on.
fn between(peers: &[Peer], mut setup: Setup) -> Node {
    for (number, peer) in peers.iter().enumerate() {
        setup = setup.route(&format!("d{number}.example"), &[peer.address()]);
    }
    setup.start()
}

fn mail_each(node: &Node, peers: &[Peer]) {
    let mut client = Client::greeted(node.smtp());
    for number in 0..peers.len() {
        let to = format!("to@d{number}.example");
        client.mail("a@s.example", &[&to], &letter("again"));
    }
}

/// Every peer gets its message, and gets it once; each record kind is as often in the log.
fn each_arrives_once(peers: &[Peer], setup: Setup) -> Vec<Value> {
    let node = between(peers, setup);
    mail_each(&node, peers);
    for peer in peers {
        peer.wait(1);
    }
    node.wait_empty();
    node.wait_for("Delivery", peers.len());
    for (number, peer) in peers.iter().enumerate() {
        assert_eq!(peer.letters().len(), 1, "d{number}.example");
    }
    let failures = node.wait_for("TransientFailure", peers.len());
    for number in 0..peers.len() {
        let queue = format!("d{number}.example");
        let told = failures
            .iter()
            .any(|record| record["queue"] == queue.as_str());
        assert!(told, "{queue} has no TransientFailure");
    }
    failures
}

#[test]
fn a_temporary_refusal_at_any_stage_is_tried_again_and_delivered_once() {
    let refused =
        STAGES.map(|stage| Peer::new(at_first(1, stage, say("451 4.3.0 come back later"))));
    let failures = each_arrives_once(&refused, Setup::new());
    for (number, command) in ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "."]
        .iter()
        .enumerate()
    {
        let queue = format!("d{number}.example");
        let of = |record: &&Value| record["queue"] == queue.as_str();
        let record = failures.iter().find(of).expect("checked above");
        assert_eq!(record["response"]["code"], 451, "{record}");
        assert_eq!(record["response"]["command"], *command, "{record}");
        assert_eq!(record["response"]["content"], "come back later", "{record}");
    }
}

#[test]
fn a_421_at_any_stage_is_tried_again_and_delivered_once() {
    let answer = Answer::SayAndClose("421 4.3.2 closing".into());
    let closing = STAGES.map(|stage| Peer::new(at_first(1, stage, answer.clone())));
    each_arrives_once(&closing, Setup::new());
}

#[test]
fn a_connection_closed_at_any_stage_is_tried_again_and_delivered_once() {
    let closing = STAGES.map(|stage| Peer::new(at_first(1, stage, Answer::Close)));
    each_arrives_once(&closing, Setup::new());
}

#[test]
fn silence_at_any_stage_is_waited_for_and_tried_again() {
    let silent = STAGES.map(|stage| Peer::new(at_first(1, stage, Answer::Silence)));
    let limits = "[delivery.timeout]\nbanner = \"1s\"\nehlo = \"1s\"\nmail = \"1s\"\nrcpt = \"1s\"\n\
                  data = \"1s\"\ndot = \"1s\"\nquit = \"1s\"";
    each_arrives_once(&silent, Setup::new().file(limits));
}

#[test]
fn a_peer_that_reads_no_further_in_the_midst_of_data_is_given_up_and_tried_again() {
    let deaf = Answer::Deaf("354 go on".into());
    let peer = Peer::new(at_first(1, Stage::Data, deaf));
    let node = Setup::to(peer.address())
        .file("[smtp]\nmessage_octets_max = \"64MiB\"\n[delivery.timeout]\ndata = \"2s\"")
        .start();
    let files = node.files();
    // More than the buffers of both ends hold.
    let line = [&b"y".repeat(70)[..], b"\r\n"].concat();
    let content = [b"Subject: large\r\n\r\n", &line.repeat(600_000)[..]].concat();
    mail(node.smtp(), "", &["b@r.example"], &content);
    let failure = node.wait_for("TransientFailure", 1).remove(0);
    let response = &failure["response"];
    // What is awaited while content is written is the answer to its end.
    assert_eq!(response["command"], ".", "{failure}");
    let told = response["content"].as_str().expect("text");
    assert!(told.contains("timed out"), "{failure}");
    let letters = peer.wait(1);
    assert!(letters[0].parts().1 == content, "it arrives whole");
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
    until("the deaf connection is let go", || {
        (node.files() <= files + 1).then_some(())
    });
}

#[test]
fn replies_that_are_no_smtp_are_tried_again() {
    let wrong = [
        (Stage::Banner, say("HTTP/1.1 400 Bad Request")),
        (Stage::Banner, say("\u{0}\u{1}\u{7f}")),
        (Stage::Hello, say("999 what")),
        (Stage::Hello, say("250-first\r\n251 second")),
        (Stage::Mail, say("354 too early")),
        (Stage::Rcpt, say("354 too early")),
        (Stage::Data, say("250 no content wanted")),
        (Stage::Dot, say("354 more")),
        (
            Stage::Mail,
            say("250 one\r\n250 two\r\n250 three\r\n250 four\r\n250 five"),
        ),
        (Stage::Dot, say("")),
    ];
    let wrong = wrong.map(|(stage, answer)| Peer::new(at_first(1, stage, answer)));
    let failures = each_arrives_once(&wrong, Setup::new());
    let no_code = "reply without a code from 200 to 599";
    for (number, command, what) in [
        (0, "BANNER", no_code),
        (1, "BANNER", no_code),
        (2, "EHLO", no_code),
        (3, "EHLO", "lines of one reply differ in their code"),
        (4, "MAIL", "unexpected reply 354 too early"),
        (5, "RCPT", "unexpected reply 354 too early"),
        (6, "DATA", "unexpected reply 250 no content wanted"),
        (7, ".", "unexpected reply 354 more"),
        (8, "DATA", "unexpected reply 250 three"),
        (9, ".", no_code),
    ] {
        is_told(&failures, number, command, what);
    }
}

/// A record says that the peer of this number broke the protocol there, and how.
#[track_caller]
fn is_told(failures: &[Value], number: usize, command: &str, what: &str) {
    let queue = format!("d{number}.example");
    let mut records = failures
        .iter()
        .filter(|record| record["queue"] == queue.as_str());
    let record = records.next().expect("it failed");
    let response = &record["response"];
    assert_eq!(response["code"], 400, "{record}");
    let code = serde_json::json!({"class": 4, "subject": 5, "detail": 0});
    assert_eq!(response["enhanced_code"], code, "{record}");
    assert_eq!(response["command"], command, "{record}");
    let content = format!("protocol error at {command}: {what}");
    assert_eq!(response["content"], content.as_str(), "{record}");
}

#[test]
fn what_a_peer_says_breaks_no_record_and_no_report() {
    let rude = "550-5.1.1 \"quoted\", back\\slash, {brace}\r\n550-5.1.1 \u{1b}[31mred\u{7} \u{0}nul\ttab\r\n\
                550 5.1.1 \u{2028}{\"type\":\"Delivery\"} bare\rcr \u{fc}";
    let peer = Peer::new(always(Stage::Rcpt, say(rude)));
    let reports = Peer::good();
    let node = Setup::to(peer.address())
        .route("s.example", &[reports.address()])
        .start();
    let id = mail(
        node.smtp(),
        "a@s.example",
        &["b@r.example"],
        &letter("rude"),
    );
    let record = node.wait_for("Bounce", 1).remove(0);
    let lines = [
        "\"quoted\", back\\slash, {brace}",
        "?[31mred? ?nul tab",
        "?{\"type\":\"Delivery\"} bare?cr \u{fc}",
    ];
    assert_eq!(
        record["response"]["content"],
        lines.join(" ").as_str(),
        "{record}"
    );
    assert_eq!(node.records_of(&id).len(), 2, "{:?}", node.records_of(&id));
    let report = reports.wait(1).remove(0);
    let is_fine = |octet: &u8| !octet.is_ascii_control() || b"\r\n\t".contains(octet);
    assert!(report.data.iter().all(is_fine), "{}", report.text());
    let is_bare = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
    assert!(!report.data.windows(2).any(is_bare), "{}", report.text());
}

#[test]
fn replies_octet_by_octet_are_understood() {
    let peer = Peer::new(|step| match step.stage {
        Stage::Banner => Answer::ByteByByte("220-slow\r\n220 peer".into()),
        Stage::Hello => Answer::ByteByByte("250-peer\r\n250-PIPELINING\r\n250 8BITMIME".into()),
        Stage::Mail | Stage::Rcpt => Answer::ByteByByte("250 2.0.0 ok".into()),
        Stage::Data => Answer::ByteByByte("354 go".into()),
        Stage::Dot => Answer::ByteByByte("250 2.0.0 taken".into()),
        Stage::Other => Answer::Yes,
    });
    let node = Setup::to(peer.address()).start();
    let id = mail(
        node.smtp(),
        "a@s.example",
        &["b@r.example"],
        &letter("slow"),
    );
    peer.wait(1);
    node.wait_for("Delivery", 1);
    assert_eq!(node.records_of(&id).len(), 2, "{:?}", node.records_of(&id));
}

#[test]
fn a_peer_without_extensions_is_spoken_to_plainly() {
    let peer = Peer::with(&[], |_| Answer::Yes);
    let node = Setup::to(peer.address()).start();
    let mut client = Client::greeted(node.smtp());
    client.expect(
        "MAIL FROM:<a@s.example> BODY=8BITMIME SIZE=100 RET=HDRS ENVID=x",
        "250",
    );
    client.expect(
        "RCPT TO:<b@r.example> NOTIFY=FAILURE ORCPT=rfc822;b@r.example",
        "250",
    );
    client.expect("DATA", "354");
    client.end(b"Subject: a\r\n\r\n\xC3\xA4\r\n.\r\n");
    let arrived = peer.wait(1).remove(0);
    assert_eq!(arrived.mail, "<a@s.example>");
    assert_eq!(arrived.rcpts, ["<b@r.example>"]);
    assert_eq!(arrived.parts().1, b"Subject: a\r\n\r\n\xC3\xA4\r\n.\r\n");
}

#[test]
fn eight_bit_content_is_refused_to_a_peer_without_it_where_told_so() {
    let peer = Peer::with(&["PIPELINING"], |_| Answer::Yes);
    let node = Setup::to(peer.address())
        .file("[delivery]\neight_bit = \"refuse\"")
        .start();
    mail(
        node.smtp(),
        "",
        &["b@r.example"],
        b"Subject: a\r\n\r\n\xC3\xA4\r\n",
    );
    mail(node.smtp(), "", &["b@r.example"], &letter("seven"));
    peer.wait(1);
    let bounce = node.wait_for("Bounce", 1).remove(0);
    let enhanced = json!({"class": 5, "subject": 6, "detail": 3});
    assert_eq!(bounce["response"]["enhanced_code"], enhanced, "{bounce}");
    node.wait_empty();
    assert_eq!(peer.letters().len(), 1);
}

#[test]
fn a_refused_transaction_does_not_spoil_the_next() {
    for extensions in [&[][..], &["PIPELINING", "8BITMIME"]] {
        let peer = Peer::with(extensions, |step| match step.line.as_str() {
            line if line.starts_with("RCPT TO:<bad@") => say("550 5.1.1 no such user"),
            line if line.starts_with("MAIL FROM:<bad@") => say("550 5.1.8 not from you"),
            _ => Answer::Yes,
        });
        let node = Setup::to(peer.address())
            .file("[delivery]\nconnections_max = 1")
            .start();
        let mut client = Client::greeted(node.smtp());
        for _ in 0..5 {
            client.mail("a@s.example", &["good@r.example"], &letter("good"));
            client.expect("MAIL FROM:<a@s.example>", "250");
            client.expect("RCPT TO:<bad@r.example> NOTIFY=NEVER", "250");
            client.expect("DATA", "354");
            client.end(&letter("bad rcpt"));
            client.expect("MAIL FROM:<bad@s.example>", "250");
            client.expect("RCPT TO:<good@r.example> NOTIFY=NEVER", "250");
            client.expect("DATA", "354");
            client.end(&letter("bad sender"));
        }
        let letters = peer.wait(5);
        assert_eq!(node.wait_for("Bounce", 10).len(), 10);
        node.wait_empty();
        assert_eq!(peer.letters().len(), 5);
        for letter in letters {
            assert_eq!(letter.parts().1, super::client::letter("good"));
        }
    }
}

#[test]
fn each_recipient_has_the_fate_its_peer_chose() {
    let peer = Peer::new(|step| match (step.stage, step.line.as_str()) {
        (Stage::Rcpt, line) if line.contains("<never@") => say("550 5.1.1 no such user"),
        (Stage::Rcpt, line) if line.contains("<later@") && step.nth < 3 => {
            say("450 4.2.1 busy mailbox")
        }
        _ => Answer::Yes,
    });
    let reports = Peer::good();
    let node = Setup::to(peer.address())
        .route("s.example", &[reports.address()])
        .start();
    let to = ["now@r.example", "later@r.example", "never@r.example"];
    mail(node.smtp(), "a@s.example", &to, &letter("parts"));
    let letters = peer.wait(2);
    assert_eq!(letters[0].rcpts, ["<now@r.example>"]);
    assert_eq!(letters[1].rcpts, ["<later@r.example>"]);
    let report = reports.wait(1).remove(0).text();
    assert!(
        report.contains("Final-Recipient: rfc822; never@r.example"),
        "{report}"
    );
    assert!(!report.contains("rfc822; later@"), "{report}");
    node.wait_empty();
    assert_eq!((peer.letters().len(), reports.letters().len()), (2, 1));
}

#[test]
fn a_message_whose_250_arrived_is_never_sent_again() {
    let mut peer = Peer::new(always(
        Stage::Dot,
        Answer::SayAndClose("250 2.0.0 taken".into()),
    ));
    let node = Setup::to(peer.address()).start();
    mail(
        node.smtp(),
        "a@s.example",
        &["b@r.example"],
        &letter("once"),
    );
    peer.wait(1);
    assert_eq!(peer.crash().len(), 1);
    node.wait_for("Delivery", 1);
    node.wait_empty();
    let peer = Peer::good_at(peer.address());
    never("it was sent again", Duration::from_millis(1500), || {
        peer.steps()
            .into_iter()
            .find(|step| step.stage != Stage::Banner)
    });
}

#[test]
fn the_next_host_takes_what_the_first_does_not() {
    let busy = Peer::new(always(Stage::Banner, say("421 4.3.2 too busy")));
    let unwilling = Peer::new(always(Stage::Banner, say("554 5.7.1 not you")));
    let rude = Peer::new(always(Stage::Hello, Answer::Close));
    let good = Peer::good();
    let firsts = [
        closed(),
        busy.address(),
        unwilling.address(),
        rude.address(),
    ];
    let mut setup = Setup::new();
    for (number, first) in firsts.iter().enumerate() {
        setup = setup.route(&format!("d{number}.example"), &[*first, good.address()]);
    }
    let node = setup.start();
    for number in 0..firsts.len() {
        let to = format!("b@d{number}.example");
        mail(node.smtp(), "a@s.example", &[&to], &letter("next"));
    }
    good.wait(firsts.len());
    for record in node.wait_for("Delivery", firsts.len()) {
        let ip = good.address().ip().to_string();
        assert_eq!(record["peer_address"]["addr"], ip.as_str(), "{record}");
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
    let failed = node
        .records()
        .into_iter()
        .find(|record| record["type"] == "TransientFailure");
    assert_eq!(failed, None, "the site was reached");
}

#[test]
fn a_site_that_never_takes_mail_is_a_permanent_failure_and_other_greetings_are_not() {
    let good = Peer::good();
    let none = [Stage::Banner, Stage::Hello]
        .map(|stage| Peer::new(always(stage, say("521 5.3.2 no mail here"))));
    let listed = Peer::new(at_first(1, Stage::Banner, say("554 5.7.1 you are listed")));
    let (banner, hello) = (none[0].address(), none[1].address());
    let node = Setup::new()
        .route("banner.example", &[banner])
        .route("hello.example", &[hello])
        .route("both.example", &[banner, hello])
        .route("next.example", &[banner, good.address()])
        .route("later.example", &[banner, listed.address()])
        .start();
    for domain in ["banner", "hello", "both", "next", "later"] {
        let to = format!("b@{domain}.example");
        mail(node.smtp(), "", &[&to], &letter("521"));
    }
    let delivered = node.wait_for("Delivery", 2);
    for (domain, attempts) in [("next.example", 1), ("later.example", 2)] {
        let record = delivered.iter().find(|record| record["queue"] == domain);
        let record = record.expect("it is delivered");
        assert_eq!(record["num_attempts"], attempts, "{record}");
    }
    for record in node.wait_for("Bounce", 3) {
        assert_eq!(record["response"]["code"], 521, "{record}");
        assert_eq!(record["num_attempts"], 1, "{record}");
        let command = if record["queue"] == "banner.example" {
            "BANNER"
        } else {
            "EHLO"
        };
        assert_eq!(record["response"]["command"], command, "{record}");
    }
    node.wait_empty();
    let hello = none[1].steps().into_iter().map(|step| step.line);
    assert!(!hello.into_iter().any(|line| line.starts_with("HELO")));
    assert_eq!(
        node.records()
            .iter()
            .filter(|r| r["type"] == "TransientFailure")
            .count(),
        1
    );
}

#[test]
fn a_server_that_knows_no_ehlo_is_greeted_with_helo() {
    let peer = Peer::with(&[], |step| match step.line.as_str() {
        line if line.starts_with("EHLO") => say("502 what is that"),
        _ => Answer::Yes,
    });
    let node = Setup::to(peer.address()).start();
    mail(node.smtp(), "a@s.example", &["b@r.example"], &letter("old"));
    peer.wait(1);
    let lines: Vec<String> = peer.steps().into_iter().map(|step| step.line).collect();
    assert_eq!(
        lines[1..3],
        ["EHLO mta.example.test", "HELO mta.example.test"]
    );
    let delivery = node.wait_for("Delivery", 1).remove(0);
    assert_eq!(delivery["delivery_protocol"], "SMTP", "{delivery}");
}

#[test]
fn a_sick_site_does_not_keep_others_waiting() {
    let sick = [
        Peer::new(always(Stage::Banner, Answer::Endless(b"220-and more\r\n"))),
        Peer::new(always(Stage::Banner, Answer::Endless(b"220-"))),
        Peer::new(always(
            Stage::Hello,
            say(&format!("250-{}\r\n250 ok", "x".repeat(1 << 20))),
        )),
        Peer::new(always(
            Stage::Mail,
            say(&format!("250 {}", "y".repeat(1 << 20))),
        )),
        Peer::new(always(Stage::Dot, say(&"250-z\r\n".repeat(1 << 18)))),
        Peer::new(always(Stage::Dot, Answer::Endless(b"\xFF\x00"))),
        Peer::new(always(Stage::Rcpt, Answer::Silence)),
    ];
    let good = Peer::good();
    let reports = Peer::good();
    let setup = Setup::to(good.address())
        .arg("--max-age", "3s")
        .file("[delivery.timeout]\nrcpt = \"1s\"")
        .route("s.example", &[reports.address()]);
    let mut node = between(&sick, setup);
    let before = node.resident();
    for _ in 0..5 {
        mail_each(&node, &sick);
    }
    for number in 0..100 {
        let to = format!("b@good{}.example", number % 10);
        mail(node.smtp(), "", &[&to], &letter("healthy"));
    }
    good.wait(100);
    node.wait_for("Expiration", 5 * sick.len());
    let failures = node.wait_for("TransientFailure", sick.len());
    for (number, command, what) in [
        (0, "BANNER", "reply too long"),
        (1, "BANNER", "reply line too long"),
        (2, "EHLO", "reply line too long"),
        (3, "MAIL", "reply line too long"),
        (4, ".", "reply too long"),
        (5, ".", "reply line too long"),
    ] {
        is_told(&failures, number, command, what);
    }
    reports.wait(5 * sick.len());
    node.wait_empty();
    assert!(node.is_alive());
    let grown = node.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets more");
    until("connections are given back", || {
        (node.metric("posthaste_outbound_connections") == 0.0).then_some(())
    });
}

#[test]
fn a_reply_in_drops_is_waited_for_no_longer_than_silence() {
    let lines = "220-and more\r\n".repeat(1000);
    let peers = [
        // A quarter of a minute, if it is let.
        (Stage::Banner, format!("{lines}220 peer")),
        (Stage::Mail, format!("250 {}", "x".repeat(4000)).repeat(4)),
    ];
    let peers =
        peers.map(|(stage, reply)| Peer::new(at_first(1, stage, Answer::ByteByByte(reply))));
    let limits = "[delivery.timeout]\nbanner = \"1s\"\nmail = \"1s\"";
    let failures = each_arrives_once(&peers, Setup::new().file(limits));
    for record in failures {
        let text = record["response"]["content"].as_str().expect("text");
        assert!(text.ends_with("timed out"), "{record}");
    }
}

#[test]
fn an_endless_farewell_is_listened_to_by_nobody() {
    let endless: [&[u8]; 2] = [b"221-bye and\r\n", b"221-bye and bye"];
    let peers = endless.map(|octets| Peer::new(always(Stage::Other, Answer::Endless(octets))));
    let setup = Setup::new().file("[delivery]\nidle = \"0s\"");
    let node = between(&peers, setup);
    let before = node.resident();
    mail_each(&node, &peers);
    for peer in &peers {
        peer.wait(1);
        until("the end is said", || {
            (!peer.steps_at(Stage::Other).is_empty()).then_some(())
        });
    }
    until("connections are given back", || {
        (node.metric("posthaste_outbound_connections") == 0.0).then_some(())
    });
    let grown = node.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} octets more");
    node.wait_for("Delivery", peers.len());
    let failed = node.metric("posthaste_recipients_total{outcome=\"deferred\"}");
    assert_eq!(failed, 0.0, "what was taken is taken");
}

#[test]
fn a_peer_of_all_moods_gets_each_message_once() {
    // Each step draws its answer from a hash of its number, so a run is as the last one.
    let moody = Peer::new(|step| {
        let drawn = (step.nth as u32 + 1).wrapping_mul(2_654_435_761) >> 16 & 63;
        match (step.stage, drawn) {
            (Stage::Other, _) => Answer::Yes,
            (_, 0 | 1) => Answer::Close,
            (_, 2 | 3) => Answer::SayAndClose("421 4.3.2 enough".into()),
            (Stage::Data, 4 | 5) => say("451 4.3.0 not this one"),
            (Stage::Banner | Stage::Hello | Stage::Mail | Stage::Rcpt | Stage::Dot, 4 | 5) => {
                say("450 4.2.0 not this one")
            }
            _ => Answer::Yes,
        }
    });
    let node = Setup::to(moody.address()).arg("--shards", "2").start();
    let mut client = Client::greeted(node.smtp());
    let count = 200;
    for number in 0..count {
        let to = format!("b@d{}.example", number % 5);
        client.mail("a@s.example", &[&to], &letter(&format!("mood {number}")));
    }
    until("all have arrived", || {
        node.queue(&["flush"]);
        (node.metric("posthaste_queue_entries") == 0.0).then_some(())
    });
    let letters = moody.letters();
    let mut bodies: Vec<&[u8]> = letters.iter().map(|letter| letter.parts().1).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!((letters.len(), bodies.len()), (count, count));
    assert_eq!(node.wait_for("Delivery", count).len(), count);
}

#[test]
fn a_site_is_not_given_more_connections_than_allowed() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--shards", "2")
        .file("[delivery]\nconnections_max = 3\nmessages_per_connection_max = 10\nidle = \"1s\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    for number in 0..200 {
        let to = format!("b@d{}.example", number % 3);
        client.mail("", &[&to], &letter("bounds"));
    }
    peer.wait(200);
    node.wait_empty();
    let (most, longest) = peer.uses();
    assert!(most <= 3, "{most} connections at once");
    assert!(longest <= 10, "{longest} messages on one connection");
}

#[test]
fn a_peer_that_closes_after_each_message_costs_no_attempt() {
    for extensions in [&[][..], &["PIPELINING"]] {
        let answer = Answer::SayAndClose("250 2.0.0 taken, bye".into());
        let peer = Peer::with(extensions, always(Stage::Dot, answer));
        let node = Setup::to(peer.address()).start();
        let mut client = Client::greeted(node.smtp());
        for number in 0..50 {
            client.mail("", &["b@r.example"], &letter(&format!("close {number}")));
        }
        peer.wait(50);
        node.wait_empty();
        assert_eq!(peer.letters().len(), 50);
        node.wait_for("Delivery", 50);
        let failed = node.metric("posthaste_recipients_total{outcome=\"deferred\"}");
        assert_eq!(failed, 0.0);
    }
}

#[test]
fn retries_come_at_the_times_given() {
    let peer = Peer::new(at_first(3, Stage::Rcpt, say("450 4.2.0 later")));
    let node = Setup::to(peer.address())
        .arg("--retry", "1s,2s,1s")
        .file("[delivery]\njitter = 0.0")
        .start();
    mail(node.smtp(), "", &["b@r.example"], &letter("times"));
    peer.wait(1);
    let at: Vec<_> = peer
        .steps_at(Stage::Rcpt)
        .iter()
        .map(|step| step.at)
        .collect();
    let waited: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (waited, delay) in waited.iter().zip([1000, 2000, 1000]) {
        // The first moment is taken when the peer was asked, a little before its answer.
        assert!(
            *waited >= Duration::from_millis(delay - 5),
            "{waited:?} of {delay} ms"
        );
        assert!(
            *waited < Duration::from_millis(delay + 5000),
            "{waited:?} of {delay} ms"
        );
    }
}
