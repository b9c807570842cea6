//! The resolver's options, from the configuration and the system.

use std::time::Duration;

use super::types::{Config, Dns};
use crate::dns;

/// Where neither the configuration nor the system says anything.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;

impl Config {
    /// Without resolvers of its own: those of `/etc/resolv.conf`.
    pub fn dns_options(&self) -> dns::Options {
        let read = || std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        options(&self.dns, read)
    }
}

/// `resolv_conf` gives the text of that file, whose options are about its own servers.
fn options(wanted: &Dns, resolv_conf: impl FnOnce() -> String) -> dns::Options {
    let system = if wanted.resolvers.is_empty() {
        dns::parse_resolv_conf(&resolv_conf())
    } else {
        dns::ResolvConf {
            resolvers: wanted.resolvers.clone(),
            ..dns::ResolvConf::default()
        }
    };
    dns::Options {
        resolvers: system.resolvers,
        timeout: wanted.timeout.or(system.timeout).unwrap_or(TIMEOUT),
        attempts: wanted.attempts_max.or(system.attempts).unwrap_or(ATTEMPTS),
        ttl_max: wanted.ttl_max,
        negative_ttl_max: wanted.negative_ttl_max,
        entries_max: wanted.cache_entries_max,
        ..dns::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, check};

    const SYSTEM: &str = "nameserver 192.0.2.1\noptions timeout:7 attempts:3\n";

    /// First resolver, seconds, rounds.
    fn under(file: &str, resolv_conf: &str) -> (String, u64, u32) {
        let settings = Settings {
            file: Some(("x".into(), format!("[dns]\n{file}\n"))),
            ..Settings::default()
        };
        let config = check(&settings).unwrap();
        let options = options(&config.dns, || resolv_conf.into());
        let first = options.resolvers[0].to_string();
        (first, options.timeout.as_secs(), options.attempts)
    }

    #[test]
    fn a_timeout_is_left_to_others_or_a_second_at_least() {
        let told = |timeout: &str| {
            let settings = Settings {
                file: Some(("x".into(), format!("[dns]\ntimeout = \"{timeout}\"\n"))),
                ..Settings::default()
            };
            check(&settings).err().map(|faults| faults[0].to_string())
        };
        assert!(told("999ms").is_some_and(|fault| fault.contains("0s, or 1s and more")));
        assert_eq!([told("0s"), told("1s")], [None, None]);
        assert!(told("61s").is_some());
    }

    #[test]
    fn the_system_speaks_where_the_configuration_is_silent() {
        let own = "resolvers = [\"192.0.2.9\"]";
        for (file, system, (resolver, timeout, attempts)) in [
            ("", SYSTEM, ("192.0.2.1:53", 7, 3)),
            ("timeout = \"2s\"", SYSTEM, ("192.0.2.1:53", 2, 3)),
            ("attempts_max = 4", SYSTEM, ("192.0.2.1:53", 7, 4)),
            ("", "nameserver 192.0.2.1", ("192.0.2.1:53", 2, 4)),
            ("", "", ("127.0.0.1:53", 2, 4)),
            (own, SYSTEM, ("192.0.2.9:53", 2, 4)),
        ] {
            let expected = (resolver.to_owned(), timeout, attempts);
            assert_eq!(under(file, system), expected, "{file} under {system}");
        }
    }
}
