//! IPv6 in and out, and clients counted by their network, whichever shard they come to.

use std::net::SocketAddr;

use super::client::{Client, letter, mail};
use super::namespace::alone;
use super::node::Setup;
use super::peer::Peer;
use crate::disk::skip;

/// A listener that holds few connections of one client network.
fn listener(address: SocketAddr, most: usize) -> String {
    format!("[[listener]]\naddress = \"{address}\"\nconnections_per_client_max = {most}")
}

#[test]
fn a_client_network_is_counted_over_all_shards() {
    const MOST: usize = 8;
    let setup = Setup::new().arg("--shards", "2");
    let listener = listener(setup.smtp(), MOST);
    let node = setup.file(&listener).listeners_in_file().start();
    // The kernel spreads them over the shards by their ports.
    let held: Vec<Client> = (0..MOST).map(|_| Client::connect(node.smtp())).collect();
    for _ in 0..3 * MOST {
        let mut more = Client::dial(node.smtp());
        more.hear("421 4.7.0");
        more.hear_end();
    }
    let mut other = Client::dial_from([127, 0, 0, 66].into(), node.smtp());
    other.hear("220");
    drop(held);
}

#[test]
fn an_ipv6_client_is_counted_by_its_64_bits() {
    let addresses = [
        "2001:db8:0:1::1/64",
        "2001:db8:0:1::2/64",
        "2001:db8:0:2::1/64",
    ];
    let done = alone(&addresses, || {
        let address: SocketAddr = "[2001:db8:0:1::1]:2525".parse().expect("an address");
        let node = Setup::new()
            .file(&listener(address, 2))
            .listeners_in_file()
            .arg("--trust", "2001:db8::/32")
            .start();
        let from = |ip: &str| Client::dial_from(ip.parse().expect("an address"), address);
        let mut clients = ["2001:db8:0:1::1", "2001:db8:0:1::2"].map(from);
        for client in &mut clients {
            client.hear("220");
        }
        for ip in ["2001:db8:0:1::1", "2001:db8:0:1::2"] {
            let mut third = from(ip);
            third.hear("421 4.7.0");
            third.hear_end();
        }
        let mut neighbour = from("2001:db8:0:2::1");
        neighbour.hear("220");
        assert_eq!(node.metric("posthaste_sessions_open"), 3.0);
    });
    if done.is_none() {
        skip("a network of its own cannot be had here");
    }
}

#[test]
fn mail_comes_and_goes_by_ipv6() {
    let done = alone(&[], || {
        let address: SocketAddr = "[::1]:2525".parse().expect("an address");
        let peer = Peer::good_at("[::1]:2526".parse().expect("an address"));
        let node = Setup::to(peer.address())
            .arg("--listen", "[::1]:2525")
            .start();
        let id = mail(address, "a@s.example", &["b@r.example"], &letter("six"));
        let arrived = peer.wait(1).remove(0);
        assert_eq!(arrived.from.ip(), address.ip());
        let (trace, rest) = arrived.parts();
        assert!(trace.contains("[IPv6:::1]"), "{trace}");
        assert_eq!(rest, letter("six"));
        node.wait_for("Delivery", 1);
        let records = node.records_of(&id);
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!(record["peer_address"]["addr"], "::1", "{record}");
        }
    });
    if done.is_none() {
        skip("a network of its own cannot be had here");
    }
}
