//! Injection over HTTP, against servers of the test's own.

use super::peer;
use crate::{source, words};
use serde_json::Value;

fn with_length(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn accepted(_: usize) -> String {
    with_length(
        "200 OK",
        r#"{"success_count":2,"fail_count":0,"failed_recipients":[],"errors":[]}"#,
    )
}

#[test]
fn injections_are_kumomtas_and_keep_their_connection() {
    let (address, requests) = peer::answer(accepted);
    let arguments = words(
        "--http --messages 50 --sessions 2 --per-connection 10 --size 5k --recipients 2 --tenant t1 --http-header Authorization:Basic-x",
    );
    let (is_clean, sent) = source(&address, &arguments);
    assert!(is_clean, "{sent}");
    assert_eq!(
        (&sent["accepted"], &sent["recipients_accepted"]),
        (&50.into(), &100.into())
    );
    let requests: Vec<_> = requests.try_iter().collect();
    assert_eq!(requests.len(), 50);
    assert_eq!(
        sent["connections"],
        requests
            .iter()
            .filter(|request| request.number == 0)
            .count()
    );
    assert!(requests.iter().all(|request| request.number < 10));
    for request in &requests {
        assert!(
            request.head.starts_with("POST /api/inject/v1 HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        assert!(request.head.contains("\r\nAuthorization:Basic-x\r\n"));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["envelope_sender"], "source@load.test");
        assert_eq!(body["recipients"][1]["email"], "load1@sink.test");
        let content = body["content"].as_str().unwrap();
        assert!(content.starts_with("X-Load-Id: ") && content.contains("\r\nX-Tenant: t1\r\n"));
        assert!((5000..=5140).contains(&content.len()), "{}", content.len());
        assert!(
            content
                .split("\r\n")
                .all(|line| line.len() <= 200 && !line.contains(['\r', '\n']))
        );
    }
}

#[test]
fn failures_are_told_by_status_and_count() {
    fn fails(number: usize) -> String {
        match number % 4 {
            0 => with_length("200 OK", r#"{"success_count":0,"fail_count":1,"failed_recipients":["a"],"errors":["queue is full"]}"#),
            1 => with_length("503 Busy", "later"),
            2 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"success_count\"\r\n3\r\n:1}\r\n0\r\n\r\n".to_owned(),
            _ => with_length("200 OK", "no JSON"),
        }
    }
    let (address, _requests) = peer::answer(fails);
    let arguments = words("--http --messages 40 --sessions 1 --per-connection 0");
    let (is_clean, sent) = source(&address, &arguments);
    assert!(!is_clean);
    assert_eq!(
        (&sent["accepted"], &sent["failed"]),
        (&10.into(), &30.into()),
        "{sent}"
    );
    let errors = &sent["errors"];
    assert_eq!(errors["HTTP 200: queue is full"], 10, "{sent}");
    assert_eq!(errors["HTTP 503: later"], 10, "{sent}");
    assert_eq!(errors["HTTP 200: no JSON"], 10, "{sent}");
}

#[test]
fn other_bodies_load_other_servers() {
    fn created(_: usize) -> String {
        "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
    }
    let path = std::env::temp_dir().join(format!("posthaste-load-body-{}", std::process::id()));
    std::fs::write(
        &path,
        r#"{"a":"{from}","b":"{to}","raw":"{message}","id":"{id}"}"#,
    )
    .unwrap();
    let (address, requests) = peer::answer(created);
    let arguments = format!(
        "--http --http-path /v3/mail --http-body {} --messages 6 --sessions 2 --arrivals constant:100/s",
        path.display()
    );
    let arguments = words(&arguments);
    let (is_clean, sent) = source(&address, &arguments);
    assert!(is_clean, "{sent}");
    let requests: Vec<_> = requests.try_iter().collect();
    assert_eq!(requests.len(), 6);
    for request in requests {
        assert!(request.head.starts_with("POST /v3/mail "));
        assert_eq!(request.number, 0, "its connection was to be closed");
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(
            (&body["a"], &body["b"]),
            (&"source@load.test".into(), &"load0@sink.test".into())
        );
        let id = body["id"].as_str().unwrap();
        assert!(
            body["raw"]
                .as_str()
                .unwrap()
                .starts_with(&format!("X-Load-Id: {id}\r\n"))
        );
    }
}

#[test]
fn what_is_no_http_is_counted() {
    let (address, _mails) = peer::record();
    let arguments = words("--http --messages 4 --sessions 1 --retries 1 --timeout 500ms");
    let (is_clean, sent) = source(&address, &arguments);
    assert!(!is_clean);
    assert_eq!(
        sent["errors"],
        serde_json::json!({"not an HTTP answer: ### hello": 2}),
        "{sent}"
    );
    assert_eq!(sent["accepted"], 0);
}
