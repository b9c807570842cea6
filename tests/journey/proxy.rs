//! Mail that leaves through a proxy: the peer sees the proxy's address, and a proxy that dies takes
//! its own source with it, nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::client::{letter, mail};
use super::node::{Node, Setup, closed, own_ip};
use super::peer::{Peer, Stage};
use super::proxies::{PASSWORD, Proxy, USER, can_run_danted, can_run_haproxy};
use super::wait::{until, within};

/// One message a connection, so that sources take turns.
const ONE_EACH: &str = "[delivery]\nmessages_per_connection_max = 1\nidle = \"0s\"";
/// Ten seconds of suspension, one of the lane's, and what a busy machine takes.
const RETURN_MAX: Duration = Duration::from_secs(45);

fn source(name: &str, address: Option<Ipv4Addr>, proxy: Option<(&str, SocketAddr)>) -> String {
    let mut text = format!("[[source]]\nname = \"{name}\"\nehlo_name = \"{name}.example\"\n");
    if let Some(address) = address {
        text += &format!("address = \"{address}\"\n");
    }
    if let Some((kind, server)) = proxy {
        text += &format!("[source.proxy]\nkind = \"{kind}\"\nserver = \"{server}\"\n");
    }
    text
}

fn started(can_run: bool, proxy: fn() -> Proxy) -> Option<Proxy> {
    can_run.then(|| {
        let mut proxy = proxy();
        proxy.start();
        proxy
    })
}

fn haproxy() -> Option<Proxy> {
    started(can_run_haproxy(), Proxy::haproxy)
}

fn dante() -> Option<Proxy> {
    started(can_run_danted(), Proxy::dante)
}

fn dante_with_password() -> Option<Proxy> {
    started(can_run_danted(), Proxy::dante_with_password)
}

/// Mail to `peer` leaves through `proxy` alone, with that password.
fn through(proxy: &Proxy, password: &str, peer: &Peer) -> Setup {
    Setup::to(peer.address())
        .file(&source("out", None, Some(("socks5", proxy.address()))))
        .file(&format!("user = \"{USER}\"\npassword = \"{password}\""))
}

fn post(node: &Node, count: usize) {
    for number in 0..count {
        let to = format!("b{number}@r.example");
        mail(node.smtp(), "a@s.example", &[&to], &letter("egress"));
    }
}

fn seen(peer: &Peer, count: usize) -> Vec<IpAddr> {
    let letters = peer.wait(count);
    let mut from: Vec<IpAddr> = letters.iter().map(|letter| letter.from.ip()).collect();
    from.sort();
    from.dedup();
    from
}

fn said_hello(peer: &Peer) -> Vec<String> {
    let steps = peer.steps_at(Stage::Hello);
    let mut lines: Vec<String> = steps.into_iter().map(|step| step.line).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn suspended(node: &Node, source: &str) -> bool {
    node.metric(&format!(
        "posthaste_source_suspended{{source=\"{source}\"}}"
    )) > 0.0
}

fn listed(node: &Node) -> String {
    String::from_utf8_lossy(&node.queue(&["list"]).stdout).into_owned()
}

#[test]
fn haproxy_connects_from_the_address_it_is_told() {
    let Some(proxy) = haproxy() else {
        return;
    };
    let peer = Peer::good();
    let (one, two) = (own_ip(), own_ip());
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source(
            "v1",
            Some(one),
            Some(("haproxy-v1", proxy.address())),
        ))
        .file(&source(
            "v2",
            Some(two),
            Some(("haproxy-v2", proxy.address())),
        ))
        .start();
    post(&node, 4);
    assert_eq!(seen(&peer, 4), [IpAddr::V4(one), IpAddr::V4(two)]);
    assert_eq!(said_hello(&peer), ["EHLO v1.example", "EHLO v2.example"]);
    for record in node.wait_for("Delivery", 4) {
        let address = match record["egress_source"].as_str() {
            Some("v1") => one,
            Some("v2") => two,
            _ => panic!("{record}"),
        };
        let from = record["source_address"].as_str().expect("an address");
        assert!(from.starts_with(&format!("{address}:")), "{record}");
    }
    // Those addresses are this host's too: that the proxy was on the way, only it can say.
    for address in [one, two] {
        until("haproxy tells of both", || {
            proxy.told().contains(&format!("{address}:")).then_some(())
        });
    }
}

#[test]
fn the_peer_sees_the_proxys_own_address_too() {
    let Some(proxy) = haproxy() else {
        return;
    };
    let peer = Peer::good();
    let told = Some(("haproxy-v2", proxy.plain_address()));
    let node = Setup::to(peer.address())
        .file(&source("out", Some(own_ip()), told))
        .start();
    post(&node, 1);
    assert_eq!(seen(&peer, 1), [IpAddr::V4(proxy.outer)]);
}

#[test]
fn dante_is_given_the_password_and_connects_from_its_address() {
    let Some(proxy) = dante_with_password() else {
        return;
    };
    let peer = Peer::good();
    let node = through(&proxy, PASSWORD, &peer).start();
    post(&node, 1);
    let letters = peer.wait(1);
    assert_eq!(letters[0].from.ip(), IpAddr::V4(proxy.outer));
    assert_eq!(said_hello(&peer), ["EHLO out.example"]);
    let records = node.wait_for("Delivery", 1);
    assert_eq!(records[0]["egress_source"], "out");
    let from = letters[0].from.to_string();
    assert_eq!(
        records[0]["source_address"],
        from.as_str(),
        "as the peer sees it"
    );
}

#[test]
fn dante_is_given_the_password_of_the_environment_and_nobody_else_is() {
    let Some(proxy) = dante_with_password() else {
        return;
    };
    let peer = Peer::good();
    let node = through(&proxy, "of-the-file", &peer)
        .env("POSTHASTE_PROXY_PASSWORD", PASSWORD)
        .start();
    post(&node, 1);
    assert_eq!(seen(&peer, 1), [IpAddr::V4(proxy.outer)]);
    let told = node.told();
    assert!(
        !told.contains(PASSWORD) && !told.contains("of-the-file"),
        "{told}"
    );
}

#[test]
fn a_proxy_that_refuses_us_suspends_its_source_and_costs_no_attempt() {
    let Some(proxy) = dante_with_password() else {
        return;
    };
    let peer = Peer::good();
    let node = through(&proxy, "wrong", &peer).start();
    post(&node, 1);
    until("it is suspended", || suspended(&node, "out").then_some(()));
    let text = until("the queue says why", || {
        Some(listed(&node)).filter(|text| text.contains("out ("))
    });
    assert!(text.contains("user or password refused"), "{text}");
    assert!(text.contains("paused for"), "{text}");
    assert_eq!(
        node.metric("posthaste_recipients_total{outcome=\"deferred\"}"),
        0.0
    );
    assert_eq!(peer.steps().len(), 0);
}

#[test]
fn a_target_that_the_proxy_cannot_reach_is_not_the_proxys_fault() {
    let Some(proxy) = dante() else {
        return;
    };
    let peer = Peer::good();
    let node = Setup::to(peer.address())
        .route("closed.example", &[closed()])
        .file(&source("out", None, Some(("socks5", proxy.address()))))
        .start();
    mail(node.smtp(), "", &["b@closed.example"], &letter("lost"));
    let records = node.wait_for("TransientFailure", 1);
    let text = records[0]["response"]["content"].as_str().expect("text");
    assert!(text.contains("connection refused"), "{text}");
    assert!(text.contains("from out"), "{text}");
    assert!(!suspended(&node, "out"));
    post(&node, 1);
    assert_eq!(seen(&peer, 1), [IpAddr::V4(proxy.outer)]);
}

#[test]
fn a_dead_proxy_suspends_its_source_and_the_other_delivers_everything() {
    let Some(mut proxy) = dante() else {
        return;
    };
    let peer = Peer::good();
    let own = own_ip();
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&source("direct", Some(own), None))
        .file(&source("socks", None, Some(("socks5", proxy.address()))))
        .start();
    post(&node, 10);
    let mut both = vec![IpAddr::V4(own), IpAddr::V4(proxy.outer)];
    both.sort();
    assert_eq!(seen(&peer, 10), both);
    node.wait_for("Delivery", 10);

    proxy.kill();
    post(&node, 20);
    let letters = peer.wait(30);
    let later = letters[10..].iter().map(|letter| letter.from.ip());
    assert!(
        later.clone().all(|ip| ip == IpAddr::V4(own)),
        "all by the other"
    );
    for record in node.wait_for("Delivery", 30) {
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
    assert!(suspended(&node, "socks") && !suspended(&node, "direct"));
    let told = format!(
        "source socks is suspended for 10 s: proxy {}: ",
        proxy.address()
    );
    until("it is told", || node.told().contains(&told).then_some(()));

    proxy.start();
    let back = "source socks is back";
    let returned = within(RETURN_MAX, || node.told().contains(back).then_some(()));
    assert!(returned.is_some(), "it stays away: {}", node.told());
    assert!(!suspended(&node, "socks"));
    post(&node, 10);
    let letters = peer.wait(40);
    let mut later = letters[30..].iter().map(|letter| letter.from.ip());
    assert!(
        later.any(|ip| ip == IpAddr::V4(proxy.outer)),
        "it is used again"
    );
    assert_eq!(
        node.told().matches("is suspended").count(),
        1,
        "{}",
        node.told()
    );
    node.wait_empty();
    assert_eq!(peer.letters().len(), 40);
}

#[test]
fn mail_waits_for_the_only_proxy_and_is_delivered_at_the_first_attempt() {
    if !can_run_haproxy() {
        return;
    }
    let mut proxy = Proxy::haproxy();
    let peer = Peer::good();
    let out = own_ip();
    let node = Setup::to(peer.address())
        .file(&source(
            "out",
            Some(out),
            Some(("haproxy-v2", proxy.address())),
        ))
        .start();
    post(&node, 3);
    let text = until("the queue says why", || {
        Some(listed(&node)).filter(|text| text.contains("out ("))
    });
    assert!(text.contains("Connection refused"), "{text}");
    proxy.start();
    let arrived = within(RETURN_MAX, || (peer.letters().len() == 3).then_some(()));
    assert!(arrived.is_some(), "{}", listed(&node));
    assert_eq!(seen(&peer, 3), [IpAddr::V4(out)]);
    for record in node.wait_for("Delivery", 3) {
        assert_eq!(record["num_attempts"], 1, "{record}");
    }
}

#[test]
fn a_disabled_source_is_not_used() {
    let peer = Peer::good();
    let (on, off) = (own_ip(), own_ip());
    let node = Setup::to(peer.address())
        .file(ONE_EACH)
        .file(&format!(
            "{}enabled = false",
            source("off", Some(off), None)
        ))
        .file(&source("on", Some(on), None))
        .start();
    post(&node, 4);
    assert_eq!(seen(&peer, 4), [IpAddr::V4(on)]);

    let node = Setup::to(peer.address())
        .file(&format!(
            "{}enabled = false",
            source("off", Some(off), None)
        ))
        .start();
    post(&node, 1);
    until("the queue says why", || {
        listed(&node).contains("no source is enabled").then_some(())
    });
}
