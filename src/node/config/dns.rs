//! The resolver's options, from the configuration and the system.

use super::types::Config;
use crate::dns;

impl Config {
    /// Without resolvers of its own: those of `/etc/resolv.conf`.
    pub fn dns_options(&self) -> dns::Options {
        let wanted = &self.dns;
        let resolvers = if wanted.resolvers.is_empty() {
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            dns::parse_resolv_conf(&text).resolvers
        } else {
            wanted.resolvers.clone()
        };
        dns::Options {
            resolvers,
            timeout: wanted.timeout,
            attempts: wanted.attempts_max,
            ttl_max: wanted.ttl_max,
            negative_ttl_max: wanted.negative_ttl_max,
            entries_max: wanted.cache_entries_max,
            ..dns::Options::default()
        }
    }
}
