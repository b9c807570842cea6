//! Static routes, as whoever looks up a domain wants them.

use posthaste_core::route::{self, HopHost, Routes};

use super::types::{Config, NextHop, Route};

impl Config {
    pub fn static_routes(&self) -> Routes {
        routes(&self.routes)
    }
}

/// The first route whose domain fits counts.
fn routes(wanted: &[Route]) -> Routes {
    let mut routes = Routes::default();
    // A later insertion replaces an earlier one, so the last is put in first.
    for route in wanted.iter().rev() {
        let hops = route.next_hops.iter().map(next_hop).collect();
        match &route.domain {
            Some(domain) => routes.insert(domain.clone(), hops),
            None => routes.set_rest(hops),
        }
    }
    routes
}

fn next_hop(hop: &NextHop) -> route::NextHop {
    match hop {
        NextHop::Address(address) => route::NextHop {
            host: HopHost::Address(address.ip()),
            port: address.port(),
        },
        NextHop::Name(name, port) => route::NextHop {
            host: HopHost::Name(name.clone()),
            port: *port,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use posthaste_core::words::Domain;

    use super::*;

    #[test]
    fn the_first_fitting_route_counts() {
        let hop = |port| NextHop::Address(SocketAddr::from(([192, 0, 2, 1], port)));
        let route = |domain: Option<&str>, port| Route {
            domain: domain.map(|d| Domain::parse(d).unwrap()),
            next_hops: vec![hop(port)],
        };
        let table = routes(&[
            route(Some("a.test"), 1),
            route(None, 2),
            route(Some("a.test"), 3),
            route(None, 4),
        ]);
        let port = |domain: &str| {
            let domain = Domain::parse(domain).unwrap();
            table.find(&domain).unwrap()[0].port
        };
        assert_eq!((port("a.test"), port("b.test")), (1, 2));
    }
}
