//! Sources over HTTP, and complaints about them.

use std::fs;

use posthaste_core::words::MessageId;

use super::tests::bench;

#[test]
fn sources_are_told_with_what_holds_them_up() {
    let bench = bench(1, None);
    let (status, said) = bench.json("GET", "/api/admin/source/v1");
    assert_eq!(status, 200, "{said}");
    let rows = said["sources"].as_array().unwrap();
    let [young, proxied, old] = &rows[..] else {
        panic!("{said}");
    };
    assert_eq!(
        (&young["source"], &young["state"]),
        (&"out1".into(), &"suspended".into())
    );
    assert_eq!(young["why"], "not on this host");
    assert_eq!(young["address"], "192.0.2.1");
    assert_eq!(young["ehlo_name"], "out1.example.com");
    assert_eq!(young["pools"][0]["pool"], "bulk");
    assert_eq!(young["scores"][0]["score"], 870);
    assert_eq!(young["warmups"][0]["day"], 2);
    assert_eq!(
        (&proxied["state"], &proxied["proxy"]),
        (&"in use".into(), &"socks5 10.0.0.6:1080".into())
    );
    assert_eq!(old["state"], "disabled");
    let (_, _, metrics) = bench.ask("GET", "/metrics", &[]);
    for line in [
        "posthaste_source_score{source=\"out1\",provider=\"google\"} 870",
        "posthaste_warmup_day{source=\"out1\",provider=\"others\"} 2",
        "posthaste_warmup_allowance{source=\"out1\",provider=\"others\"} 100",
        "posthaste_warmup_sent{source=\"out1\",provider=\"others\"} 7",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
}

#[test]
fn a_source_that_there_is_not_is_refused_with_those_that_there_are() {
    let bench = bench(1, None);
    let explain = "/api/admin/shaping/explain/v1?domain=example.com&source=";
    assert_eq!(bench.json("GET", &format!("{explain}out2")).0, 200);
    for unknown in ["out3", "old"] {
        let (status, said) = bench.json("GET", &format!("{explain}{unknown}"));
        assert_eq!(status, 400);
        let text = format!("there is no source {unknown}; there are out1, out2");
        assert_eq!(said["error"], text.as_str());
    }
}

#[test]
fn a_complaint_finds_its_source_and_its_provider() {
    let bench = bench(2, None);
    let complain = |query: &str| {
        let (status, said) = bench.json("POST", &format!("/api/admin/complaint/v1?{query}"));
        (status, said.to_string())
    };
    let (status, said) = complain("source=out1&domain=example.com");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("\"provider\":\"others\""), "{said}");
    let id = MessageId::from_u128(7);
    let by_id = format!("id={id}&recipient=B@example.com");
    let (status, said) = complain(&by_id);
    assert!(
        status == 404 && said.contains("knows of no delivery"),
        "{said}"
    );
    let line = format!(
        r#"{{"type":"Delivery","id":"{id}","recipient":"b@example.com","egress_source":"out1"}}"#
    );
    fs::write(bench.log.path().join("delivery.log"), line + "\n").unwrap();
    let (status, said) = complain(&by_id);
    assert!(status == 200 && said.contains("out1"), "{said}");
    // Each search has ended with its answer.
    for _ in 0..5 {
        assert_eq!(complain(&by_id).0, 200);
    }
    for (query, wanted, text) in [
        (
            "source=out9&domain=example.com",
            400,
            "there are out1, out2",
        ),
        ("source=out1&domain=nowhere.example", 404, "has no route"),
        ("source=out1&domain=example.com&id=x", 400, "are wanted"),
        ("id=x&recipient=b@example.com", 400, "x: "),
        ("domain=example.com", 400, "are wanted"),
    ] {
        let (status, said) = complain(query);
        assert!(
            status == wanted && said.contains(text),
            "{query}: {status} {said}"
        );
    }
}
