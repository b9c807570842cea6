//! Egress sources: the `[[source]]` tables and the proxies in them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use posthaste_core::egress::proxy::haproxy::Version;
use posthaste_core::egress::proxy::socks5::Login;
use posthaste_core::egress::{Proxy, Source};

use super::check::{Reader, as_text, boolean, endpoint, host_address, word};
use super::fault::{Place, Wrong};
use super::source::{Given, form};

/// Octets of a source's name, which stands in each record and metric.
const NAME_OCTETS_MAX: usize = 64;

impl Reader {
    /// Those of `delivery.sources`, whose names are their addresses, and those of the tables.
    pub(super) fn sources(&mut self) -> Vec<Source> {
        let mut seen = BTreeSet::new();
        let mut sources = Vec::new();
        for address in self.list("delivery.sources", |given, _| host_address(given)) {
            let name = address.to_string();
            if seen.insert(name.as_str().into()) {
                sources.push(Source::new(&name, Some(address)));
            } else {
                self.fault("delivery.sources", Wrong::Twice(name));
            }
        }
        for index in self.indices("source") {
            let source = self.source(&format!("source[{index}]"));
            if !source.name.is_empty() && !seen.insert(source.name.clone()) {
                let key = format!("source[{index}].name");
                self.fault(&key, Wrong::Twice(source.name.to_string()));
            }
            sources.push(source);
        }
        sources
    }

    fn source(&mut self, table: &str) -> Source {
        let address = self.one(&format!("{table}.address"), |given, _| {
            if *given == Given::Text(String::new()) {
                return Ok(None);
            }
            host_address(given).map(Some)
        });
        let ttl = self.count(&format!("{table}.ttl"));
        Source {
            name: self.required(
                &format!("{table}.name"),
                |given, _| name(given),
                Arc::default(),
            ),
            address,
            ehlo: self.domain(&format!("{table}.ehlo_name")),
            proxy: self.proxy(table, address),
            ttl: u8::try_from(ttl).ok().filter(|ttl| *ttl != 0),
            enabled: self.one(&format!("{table}.enabled"), boolean),
        }
    }

    fn proxy(&mut self, table: &str, address: Option<IpAddr>) -> Option<Proxy> {
        let proxy = format!("{table}.proxy");
        let head = format!("{proxy}.");
        if !self.items.keys().any(|key| key.starts_with(&head)) {
            return None;
        }
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let kind = self.required(&format!("{proxy}.kind"), word, String::new());
        let server = self.required(&format!("{proxy}.server"), endpoint, unset);
        let version = match kind.as_str() {
            "haproxy-v1" => Version::V1,
            "haproxy-v2" => Version::V2,
            "socks5" => {
                let login = self.login(&proxy);
                return Some(Proxy::Socks5 { server, login });
            }
            // Told above.
            _ => return None,
        };
        for name in ["user", "password"] {
            let key = format!("{proxy}.{name}");
            if self.is_written(&key) {
                self.fault(&key, Wrong::Needless("a HAProxy asks for none"));
            }
        }
        let Some(source) = address else {
            // From where it is to connect is what a HAProxy is there for.
            self.fault(&format!("{table}.address"), Wrong::Missing);
            return None;
        };
        Some(Proxy::HaProxy {
            version,
            server,
            source,
        })
    }

    fn login(&mut self, proxy: &str) -> Option<Login> {
        let keys = ["user", "password"].map(|name| format!("{proxy}.{name}"));
        let [user, password] = [self.text(&keys[0]), self.text(&keys[1])];
        // The environment's password is for all that have a user.
        if user.is_empty() && (password.is_empty() || !self.is_written(&keys[1])) {
            return None;
        }
        let login = Login::new(&user, &password);
        if login.is_none() {
            for (key, text) in keys.iter().zip([user, password]) {
                if text.is_empty() {
                    self.fault(key, Wrong::Missing);
                } else if text.len() > 255 {
                    let found = format!("a text of {} octets", text.len());
                    let bound = "1 to 255 octets".into();
                    self.fault(key, Wrong::Bounds { found, bound });
                }
            }
        }
        login
    }

    /// In the file, not in the environment.
    fn is_written(&self, key: &str) -> bool {
        let item = self.items.get(key);
        item.is_some_and(|item| !matches!(item.place, Place::Environment(_)))
    }
}

pub(super) fn name(given: &Given) -> Result<Arc<str>, Wrong> {
    const EXPECTED: &str = "a name of 1 to 64 octets without control characters";
    let text = as_text(given, EXPECTED)?;
    let is_fit = (1..=NAME_OCTETS_MAX).contains(&text.len()) && !text.contains(char::is_control);
    is_fit
        .then(|| text.into())
        .ok_or_else(|| form(EXPECTED, given))
}
