//! `/etc/resolv.conf`, the part that matters to a mail server: search lists do not.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

const DNS_PORT: u16 = 53;
/// As resolv.conf(5) caps them.
const TIMEOUT_SECS_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// What the file says; what it does not say is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub resolvers: Vec<SocketAddr>,
    pub timeout: Option<Duration>,
    pub attempts: Option<u32>,
}

/// Reads the text of a resolv.conf(5); lines it does not know are passed over. Without a
/// `nameserver` line the resolver is the one on this host.
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone index (`fe80::1%eth0`) has no place in an address we can use.
                if let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) {
                    conf.resolvers.push(SocketAddr::new(address, DNS_PORT));
                }
            }
            Some("options") => words.for_each(|word| take_option(&mut conf, word)),
            _ => {}
        }
    }
    if conf.resolvers.is_empty() {
        let here = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);
        conf.resolvers.push(SocketAddr::new(here, DNS_PORT));
    }
    conf
}

fn take_option(conf: &mut ResolvConf, word: &str) {
    match word.split_once(':') {
        Some(("timeout", secs)) => {
            let secs = secs.parse::<u64>().ok();
            conf.timeout = secs.map(|s| Duration::from_secs(s.clamp(1, TIMEOUT_SECS_MAX)));
        }
        Some(("attempts", count)) => {
            conf.attempts = count.parse::<u32>().ok().map(|n| n.clamp(1, ATTEMPTS_MAX));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_options_are_read_and_the_rest_is_passed_over() {
        let conf = parse_resolv_conf(
            "# c\nsearch a b\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\n\
             nameserver x\noptions ndots:2 timeout:3 attempts:99 rotate\n",
        );
        let resolvers: Vec<String> = conf.resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(conf.timeout, Some(Duration::from_secs(3)));
        assert_eq!(conf.attempts, Some(5));
    }

    #[test]
    fn an_empty_file_means_the_local_resolver() {
        let conf = parse_resolv_conf("");
        assert_eq!(conf.resolvers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
