//! From a source to a host, directly or through the source's proxy: the connection on which SMTP
//! begins. Whose trouble a failure is, is told apart here; what follows from it is not decided here.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use posthaste_core::egress::proxy::haproxy;
use posthaste_core::egress::proxy::socks5::{Action, Handshake, Refusal, Target, Whose};
use posthaste_core::egress::{Proxy, Source};

use crate::rt::{Exit, TcpStream, Unconnected, connect, now, owns, timeout};

/// Proxies are near: for the connection to one, and for its word whether it serves us.
const PROXY_PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a proxy's answer read at once.
const ANSWER_OCTETS: usize = 64;

/// A connection that stands.
pub(super) struct Way {
    pub(super) stream: TcpStream,
    /// From where the host sees it come, as far as known.
    pub(super) from: Option<SocketAddr>,
}

/// Why there is none, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The source is of no use to anybody: not on this host, or its proxy is dead or refuses us.
    Source(String),
    /// The source does not lead to this host, which need not know of it.
    Way(String),
    /// The host cannot be reached.
    Host(String),
}

/// `patience` is for the host.
pub(super) async fn reach(
    source: &Source,
    host: SocketAddr,
    patience: Duration,
) -> Result<Way, Trouble> {
    let Some(proxy) = &source.proxy else {
        let stream = leave(source, host, patience).await?;
        let from = stream.local().ok();
        return Ok(Way { stream, from });
    };
    let server = proxy.server();
    let mut stream = approach(source, server, patience.min(PROXY_PATIENCE)).await?;
    match proxy {
        Proxy::HaProxy {
            version,
            source: address,
            ..
        } => {
            // The port is for its log: it chooses its own.
            let port = stream.local().map_or(0, |local| local.port());
            let from = SocketAddr::new(*address, port);
            let header = haproxy::header(*version, from, host);
            let header = header.ok_or_else(|| Trouble::Way("of another family".into()))?;
            let written = timeout(PROXY_PATIENCE, stream.write_all(&header)).await;
            match written {
                Ok(Ok(())) => Ok(Way {
                    stream,
                    from: Some(from),
                }),
                Ok(Err(error)) => Err(Trouble::Way(format!("proxy {server}: {error}"))),
                Err(late) => Err(Trouble::Way(format!("proxy {server}: {late}"))),
            }
        }
        Proxy::Socks5 { login, .. } => {
            let handshake = Handshake::new(Target::Address(host), login.clone());
            let shaken = shake(&mut stream, handshake, patience).await;
            let from = shaken.map_err(|refusal| told(refusal, server))?;
            Ok(Way { stream, from })
        }
    }
}

/// Whether a suspended source is of use again.
pub(super) async fn probe(source: &Source) -> Result<(), Trouble> {
    let Some(proxy) = &source.proxy else {
        return have(source);
    };
    let server = proxy.server();
    let mut stream = approach(source, server, PROXY_PATIENCE).await?;
    if let Proxy::Socks5 { login, .. } = proxy {
        let shaken = shake(&mut stream, Handshake::probe(login.clone()), PROXY_PATIENCE).await;
        shaken.map_err(|refusal| told(refusal, server))?;
    }
    Ok(())
}

/// Whether this host has the source's address.
fn have(source: &Source) -> Result<(), Trouble> {
    let Some(address) = source.address else {
        return Ok(());
    };
    owns(address).map_err(|error| Trouble::Source(format!("{address}: {error}")))
}

/// Directly from the source's address.
async fn leave(
    source: &Source,
    host: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, Trouble> {
    let exit = Exit {
        address: source.address,
        ttl: source.ttl,
    };
    connect(host, exit, patience)
        .await
        .map_err(|error| match (error, exit.address) {
            (Unconnected::Exit(error), Some(address))
                if error.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                Trouble::Source(format!("{address}: {error}"))
            }
            (Unconnected::Exit(error), _) => Trouble::Way(error.to_string()),
            (Unconnected::Peer(error), _) => Trouble::Host(error.to_string()),
        })
}

/// To the source's proxy, from the source's address where this host has it: that of another host is
/// for the proxy to use.
async fn approach(
    source: &Source,
    server: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, Trouble> {
    let own = source.address;
    let mut exit = Exit {
        address: own.filter(|address| address.is_ipv4() == server.is_ipv4()),
        ttl: source.ttl,
    };
    let mut connected = connect(server, exit, patience).await;
    if let Err(Unconnected::Exit(_)) = connected {
        exit.address = None;
        connected = connect(server, exit, patience).await;
    }
    connected.map_err(|error| {
        let text = format!("proxy {server}: {error}");
        match error {
            Unconnected::Peer(error) if is_the_peers(&error) => Trouble::Source(text),
            // Files or ports have run out: that is no reason to leave the proxy alone.
            Unconnected::Peer(_) | Unconnected::Exit(_) => Trouble::Way(text),
        }
    })
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}

fn told(refusal: Refusal, server: SocketAddr) -> Trouble {
    let text = format!("proxy {server}: {refusal}");
    match refusal.whose() {
        Whose::Proxy | Whose::Ours => Trouble::Source(text),
        Whose::Way => Trouble::Way(text),
        Whose::Target => Trouble::Host(text),
    }
}

/// The handshake to its end: the address from which the proxy connects, if it tells. Each of its two
/// parts has one deadline, however slowly octets come.
async fn shake(
    stream: &mut TcpStream,
    mut handshake: Handshake,
    patience: Duration,
) -> Result<Option<SocketAddr>, Refusal> {
    let mut buffer = [0; ANSWER_OCTETS];
    let mut deadline = now() + PROXY_PATIENCE;
    let mut is_connecting = false;
    loop {
        while let Some(action) = handshake.poll_action() {
            match action {
                Action::Established(from) => return Ok(from),
                Action::Failed(refusal) => return Err(refusal),
                Action::Send(words) => {
                    match timeout(deadline.since(now()), stream.write_all(&words)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => handshake.handle_closed(),
                        Err(_) => handshake.handle_timeout(),
                    }
                }
            }
        }
        if handshake.is_connecting() && !is_connecting {
            is_connecting = true;
            deadline = now() + patience;
        }
        let room = handshake.wanted().min(ANSWER_OCTETS);
        if room == 0 {
            continue;
        }
        // No octet more than it wants: the rest is the host's.
        match timeout(deadline.since(now()), stream.read(&mut buffer[..room])).await {
            Ok(Ok(octets @ 1..)) => {
                handshake.handle_bytes(&buffer[..octets]);
            }
            Ok(Ok(_) | Err(_)) => handshake.handle_closed(),
            Err(_) => handshake.handle_timeout(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use posthaste_core::egress::proxy::haproxy::Version;

    use super::*;
    use crate::rt::run;

    #[test]
    fn packets_go_as_far_as_the_source_says_to_a_host_and_to_a_proxy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let of = |proxy| Source {
            ttl: Some(7),
            proxy,
            ..Source::new("out1", None)
        };
        let proxy = Proxy::HaProxy {
            version: Version::V2,
            server: host,
            source: "192.0.2.1".parse().unwrap(),
        };
        for source in [of(None), of(Some(proxy))] {
            let ttl = run(async {
                let way = reach(&source, host, PROXY_PATIENCE).await;
                way.map(|way| way.stream.ttl().unwrap())
            });
            assert_eq!(ttl.unwrap(), Ok(7), "{source:?}");
        }
    }
}
