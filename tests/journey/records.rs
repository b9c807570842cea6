//! The delivery log: one JSON line an event, in order, in the field names pipelines read.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::{Client, letter, mail};
use super::node::Setup;
use super::peer::{Answer, Peer, Stage, at_first, say};
use super::shaping::rules_file;

const FIELDS: [&str; 25] = [
    "type",
    "id",
    "sender",
    "recipient",
    "queue",
    "site",
    "size",
    "response",
    "peer_address",
    "timestamp",
    "created",
    "num_attempts",
    "egress_source",
    "source_address",
    "delivery_protocol",
    "reception_protocol",
    "nodeid",
    "session_id",
    "bounce_classification",
    "egress_pool",
    "meta",
    "headers",
    "tls_cipher",
    "tls_protocol_version",
    "provider_name",
];

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|record| record["type"].as_str())
        .collect()
}

/// What is the same in every record of a message.
fn check_common(record: &Value, id: &str, begun: u64) {
    let object = record.as_object().expect("one object a line");
    let fields: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(FIELDS));
    assert_eq!(record["id"], id);
    assert_eq!(record["sender"], "me@s.example");
    // A local part is its owner's; a domain is one however it is written.
    assert_eq!(record["recipient"], "You@r.example");
    assert_eq!(record["queue"], "r.example");
    assert_eq!(record["nodeid"], "node-7");
    assert_eq!(record["reception_protocol"], "ESMTP");
    for field in ["timestamp", "created"] {
        let at = record[field].as_u64().expect("seconds");
        assert!((begun..=seconds()).contains(&at), "{field}: {record}");
    }
    assert!(record["timestamp"].as_u64() >= record["created"].as_u64());
}

#[test]
fn each_event_is_a_line_in_the_order_of_events() {
    let peer = Peer::new(|step| match step.stage {
        Stage::Rcpt if step.nth == 0 => say("451 4.7.1 greylisted, come back"),
        Stage::Dot => say("250 2.6.0 kept as 42"),
        Stage::Banner | Stage::Hello | Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Other => {
            Answer::Yes
        }
    });
    let begun = seconds();
    let node = Setup::to(peer.address())
        .file("[node]\nnodeid = \"node-7\"")
        .start();
    let id = mail(
        node.smtp(),
        "me@s.example",
        &["You@R.example"],
        &letter("log"),
    );
    let size = peer.wait(1)[0].data.len();
    node.wait_for("Delivery", 1);
    let records = node.records_of(&id);
    assert_eq!(
        kinds(&records),
        ["Reception", "TransientFailure", "Delivery"]
    );
    for record in &records {
        check_common(record, &id, begun);
        assert_eq!(record["size"], size, "{record}");
    }
    check_reception(&records[0]);
    check_attempts(&records[1], &records[2], &peer);
}

fn check_reception(reception: &Value) {
    assert_eq!(reception["num_attempts"], 0);
    assert_eq!(
        reception["peer_address"],
        json!({"name": "client.example", "addr": "127.0.0.1"})
    );
    assert_eq!(reception["response"]["code"], 250);
    assert_eq!(reception["delivery_protocol"], Value::Null);
}

fn check_attempts(failure: &Value, delivery: &Value, peer: &Peer) {
    let ip = peer.address().ip().to_string();
    for record in [failure, delivery] {
        assert_eq!(record["peer_address"]["addr"], ip.as_str(), "{record}");
        assert_eq!(record["delivery_protocol"], "ESMTP", "{record}");
        assert!(
            record["source_address"]
                .as_str()
                .is_some_and(|a| a.starts_with("127.0.0.1:"))
        );
        assert!(
            record["site"]
                .as_str()
                .is_some_and(|site| site.contains(&ip)),
            "{record}"
        );
    }
    assert_eq!(failure["num_attempts"], 1);
    assert_eq!(
        failure["response"],
        json!({
            "code": 451,
            "enhanced_code": {"class": 4, "subject": 7, "detail": 1},
            "content": "greylisted, come back",
            "command": "RCPT",
        })
    );
    assert_eq!(delivery["num_attempts"], 2);
    assert_eq!(
        delivery["response"],
        json!({
            "code": 250,
            "enhanced_code": {"class": 2, "subject": 6, "detail": 0},
            "content": "kept as 42",
            "command": null,
        })
    );
}

#[test]
fn each_recipient_has_lines_of_its_own() {
    let peer = Peer::new(|step| match step.line.as_str() {
        line if line.contains("<two@") => say("550 5.1.1 unknown"),
        _ => Answer::Yes,
    });
    let node = Setup::to(peer.address()).start();
    let to = ["one@r.example", "two@r.example", "three@q.example"];
    let id = mail(node.smtp(), "", &to, &letter("lines"));
    node.wait_for("Delivery", 2);
    node.wait_for("Bounce", 1);
    node.wait_empty();
    let records = node.records_of(&id);
    assert_eq!(records.len(), 6, "{records:?}");
    for (recipient, end) in [
        ("one@r.example", "Delivery"),
        ("two@r.example", "Bounce"),
        ("three@q.example", "Delivery"),
    ] {
        let of: Vec<&str> = records
            .iter()
            .filter(|record| record["recipient"] == recipient)
            .filter_map(|record| record["type"].as_str())
            .collect();
        assert_eq!(of, ["Reception", end], "{recipient}");
    }
}

#[test]
fn how_mail_came_in_is_told() {
    let peer = Peer::good();
    let node = Setup::to(peer.address()).start();
    let mut old = Client::connect(node.smtp());
    old.expect("HELO old.example", "250");
    let plain = old.mail("a@s.example", &["b@r.example"], &letter("helo"));
    let mut new = Client::greeted(node.smtp());
    new.expect("MAIL FROM:<a@s.example> SMTPUTF8", "250");
    new.expect("RCPT TO:<\u{fc}@r.example>", "250");
    new.expect("DATA", "354");
    let utf8 = new.end("Subject: \u{fc}\r\n\r\nx\r\n".as_bytes());
    let letters = peer.wait(2);
    node.wait_for("Delivery", 2);
    assert_eq!(node.records_of(&plain)[0]["reception_protocol"], "SMTP");
    assert_eq!(node.records_of(&utf8)[0]["reception_protocol"], "UTF8SMTP");
    let texts: Vec<String> = letters.iter().map(|letter| letter.parts().0).collect();
    assert!(
        texts.iter().any(|text| text.contains("with SMTP ")),
        "{texts:?}"
    );
    assert!(
        texts.iter().any(|text| text.contains("with UTF8SMTP ")),
        "{texts:?}"
    );
}

#[test]
fn lines_of_one_session_name_it() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .start();
    let to = ["b@r.example"];
    let mut client = Client::greeted(node.smtp());
    let mut ids = vec![
        client.mail("", &to, &letter("one")),
        client.mail("", &to, &letter("two")),
    ];
    client.expect("MAIL FROM:<a@s.example> SIZE=99999999999", "552");
    ids.push(mail(node.smtp(), "", &to, &letter("another session")));
    node.wait_for("Delivery", 3);
    let mut names: Vec<Vec<Value>> = ids
        .iter()
        .map(|id| {
            let records = node.records_of(id).into_iter();
            records.map(|record| record["session_id"].clone()).collect()
        })
        .collect();
    let rejection = node.wait_for("Rejection", 1).remove(0);
    names.push(vec![rejection["session_id"].clone()]);
    for name in names.iter().flatten() {
        assert_eq!(name.as_str().map(str::len), Some(26), "{names:?}");
    }
    assert_eq!(names[0][0], names[1][0], "one client");
    assert_eq!(names[0][0], names[3][0], "its refusal");
    assert_ne!(names[0][0], names[2][0], "another client");
    assert_ne!(names[0][0], names[0][1], "its delivery");
}

#[test]
fn the_provider_is_told_and_the_headers_that_were_asked_for() {
    let rules = "[provider.\"big mail\"]\nmatch = [{ DomainSuffix = \"r.example\" }]\n\
                 [[label]]\nremove_headers = [\"X-Secret\"]\n";
    let (_folder, rules) = rules_file(rules);
    let peer = Peer::new(at_first(1, Stage::Rcpt, say("451 later")));
    let node = Setup::to(peer.address())
        .file(&format!("[shaping]\nfiles = [{rules:?}]"))
        .file("[log]\nheaders = [\"X-Campaign\", \"subject\", \"X-Tag\", \"X-Secret\"]")
        .start();
    let content = b"X-Campaign: spring\r\n sale\r\nX-Tag: a\r\nX-Secret: s\r\nx-tag: b\r\n\
                    Subject: \xff\r\nX-Other: x\r\n\r\nX-Tag: body\r\n";
    let to = |domain| format!("b@{domain}.example");
    let known = mail(node.smtp(), "", &[&to("r")], content);
    let other = mail(node.smtp(), "", &[&to("q")], b"\r\nno header\r\n");
    node.wait_for("Delivery", 2);
    let headers = json!({
        "X-Campaign": "spring sale", "subject": "\u{fffd}", "X-Tag": ["a", "b"],
    });
    for (id, provider, headers) in [
        (known, json!("big mail"), headers),
        (other, Value::Null, json!({})),
    ] {
        for record in node.records_of(&id) {
            assert_eq!(record["headers"], headers, "{record}");
            // A site has its provider, and mail that comes in has no site yet.
            let is_sent = record["type"] != "Reception";
            let provider = if is_sent { &provider } else { &Value::Null };
            assert_eq!(record["provider_name"], *provider, "{record}");
        }
    }
}

#[test]
fn each_refused_command_has_a_line() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .file("[node]\nnodeid = \"node-7\"")
        .start();
    let mut stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    stranger.hear("220 ");
    stranger.expect("EHLO stranger.example", "250");
    stranger.expect("MAIL FROM:<a@s.example> SIZE=99999999999", "552");
    stranger.expect("MAIL FROM:<a@s.example>", "250");
    stranger.expect("RCPT TO:<B@R.example>", "550 5.7.1");
    stranger.expect("DATA", "554");
    let mut friend = Client::greeted(node.smtp());
    friend.begin("c@s.example", &["d@r.example"]);
    friend.send(b"Subject: nul\r\n\r\n\0\r\n.\r\n");
    friend.hear("554 5.6.0");
    friend.mail("c@s.example", &["d@r.example"], &letter("good"));
    node.wait_for("Delivery", 1);
    let rejections = node.wait_for("Rejection", 4);
    assert_eq!(rejections.len(), 4, "{rejections:?}");
    let told: Vec<[&str; 3]> = rejections
        .iter()
        .map(|r| [&r["response"]["command"], &r["sender"], &r["recipient"]])
        .map(|texts| texts.map(|text| text.as_str().expect("a text")))
        .collect();
    assert_eq!(
        told,
        [
            ["MAIL", "a@s.example", ""],
            ["RCPT", "a@s.example", "B@r.example"],
            ["DATA", "a@s.example", ""],
            ["DATA", "c@s.example", ""],
        ]
    );
    let denied = &rejections[1];
    let fields: BTreeSet<&str> = denied
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, BTreeSet::from(FIELDS));
    assert_eq!(denied["response"]["code"], 550);
    assert_eq!(denied["response"]["content"], "Relaying denied");
    assert_eq!(denied["queue"], "r.example");
    assert_eq!(denied["nodeid"], "node-7");
    assert_eq!(denied["reception_protocol"], "ESMTP");
    assert_eq!(
        denied["peer_address"],
        json!({"name": "stranger.example", "addr": "127.0.0.66"})
    );
}

#[test]
fn a_flood_of_refusals_is_counted_and_not_all_written() {
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .arg("--trust", "127.0.0.1/32")
        .file("[smtp]\nerrors_max = 1000")
        .start();
    for _ in 0..3 {
        let mut stranger = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
        stranger.hear("220 ");
        stranger.expect("EHLO stranger.example", "250");
        stranger.expect("MAIL FROM:<a@s.example>", "250");
        stranger.send(&b"RCPT TO:<b@r.example>\r\n".repeat(900));
        for _ in 0..900 {
            stranger.hear("550 5.7.1");
        }
    }
    let unlogged = node.metric("posthaste_rejections_unlogged_total");
    assert!(unlogged > 0.0, "{unlogged}");
    let logged = 2700 - unlogged as usize;
    assert!((32..2000).contains(&logged), "{logged}");
    assert_eq!(node.wait_for("Rejection", logged).len(), logged);
}
