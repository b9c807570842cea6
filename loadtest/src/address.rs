//! Which targets may be loaded: loopback and private ranges, others only by the caller's own statement.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

/// Resolves `HOST:PORT` and refuses what is neither loopback nor private, unless `owned`.
pub(crate) fn target(text: &str, owned: bool) -> io::Result<SocketAddr> {
    let wrap = |error: io::Error| io::Error::new(error.kind(), format!("--to {text}: {error}"));
    let mut found = text.to_socket_addrs().map_err(wrap)?;
    let address = found
        .next()
        .ok_or_else(|| io::Error::other(format!("--to {text}: no address found")))?;
    if owned || is_near(address.ip()) {
        return Ok(address);
    }
    Err(io::Error::other(format!(
        "{address} is neither loopback nor private; --i-own-this-target states that loading it is your right"
    )))
}

fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_targets_need_the_statement() {
        assert!(target("198.51.100.7:25", false).is_err());
        assert!(target("[2001:db8::1]:25", false).is_err());
        assert!(target("198.51.100.7:25", true).is_ok());
    }

    #[test]
    fn loopback_and_private_targets_pass() {
        for text in [
            "127.0.0.2:25",
            "10.1.2.3:25",
            "192.168.0.1:25",
            "[::1]:25",
            "[fd00::1]:25",
        ] {
            assert!(target(text, false).is_ok(), "{text}");
        }
        assert!(target("[::ffff:127.0.0.1]:25", false).is_ok());
    }
}
