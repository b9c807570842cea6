//! The values of a path as types, for those who act on them.

use core::time::Duration;

use super::effective::Effective;
use super::fault::Place;
use super::keys::Key;
use super::rate::{Cap, Rate};
use super::value::{Pacing, Value};
use crate::words::Network;

/// What TLS must be to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Where offered; a certificate that does not fit is an error.
    Opportunistic,
    /// Where offered; any certificate will do.
    OpportunisticInsecure,
    /// Always, with a certificate that fits.
    Required,
    /// Always; any certificate will do.
    RequiredInsecure,
    Disabled,
}

/// Which address families are looked up, and which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpLookup {
    V4AndV6,
    V4Only,
    V6Only,
    V6ThenV4,
    V4ThenV6,
}

/// What follows a 421, an I/O error or a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    TerminateSession,
    SameHost,
    NextHost,
}

/// How long each step of a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    pub connect: Duration,
    pub banner: Duration,
    pub ehlo: Duration,
    pub starttls: Duration,
    pub auth: Duration,
    pub mail_from: Duration,
    pub rcpt_to: Duration,
    pub data: Duration,
    pub data_dot: Duration,
    pub rset: Duration,
    /// An open connection without work.
    pub idle: Duration,
    /// Open transactions at shutdown.
    pub shutdown: Option<Duration>,
    /// A connection without progress.
    pub watchdog: Option<Duration>,
}

/// All values of a path that are no maps. Names are those of the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Path<'a> {
    pub connection_limit: Cap,
    pub max_connection_rate: Option<Rate>,
    pub max_message_rate: Option<Rate>,
    pub source_selection_rate: Option<Rate>,
    /// The path's own; [`Effective::tightest`] asks the other scopes as well.
    pub max_deliveries_per_connection: u32,
    /// The path's own; [`Effective::tightest`] asks the other scopes as well.
    pub max_recipients_per_batch: u32,
    pub pacing: Option<Pacing>,
    pub max_ready: u32,
    pub consecutive_connection_failures_before_delay: u32,
    pub waits: Waits,
    pub enable_tls: Tls,
    pub enable_mta_sts: bool,
    pub enable_dane: bool,
    pub remember_broken_tls: Option<Duration>,
    pub opportunistic_tls_reconnect_on_failed_handshake: bool,
    pub enable_pipelining: bool,
    pub enable_rset: bool,
    pub smtp_port: u16,
    pub prohibited_hosts: &'a [Network],
    pub skip_hosts: &'a [Network],
    pub ip_lookup_strategy: IpLookup,
    pub ehlo_domain: Option<&'a str>,
    pub reconnect_strategy: Reconnect,
    pub try_next_host_on_transport_error: bool,
    pub ignore_8bit_checks: bool,
    /// The last matching provider's name, unless a file gives one.
    pub provider_name: Option<&'a str>,
}

impl<'a> Effective<'a> {
    /// The path's values, typed.
    pub fn path(&self) -> Path<'a> {
        let count = |key| self.number(key);
        Path {
            connection_limit: self.cap(const { Key::of("connection_limit") }),
            max_connection_rate: self.rate(const { Key::of("max_connection_rate") }),
            max_message_rate: self.rate(const { Key::of("max_message_rate") }),
            source_selection_rate: self.rate(const { Key::of("source_selection_rate") }),
            max_deliveries_per_connection: count(
                const { Key::of("max_deliveries_per_connection") },
            ),
            max_recipients_per_batch: count(const { Key::of("max_recipients_per_batch") }),
            pacing: self.pacing(),
            max_ready: count(const { Key::of("max_ready") }),
            consecutive_connection_failures_before_delay: count(
                const { Key::of("consecutive_connection_failures_before_delay") },
            ),
            waits: self.waits(),
            enable_tls: self.tls(),
            enable_mta_sts: self.flag(const { Key::of("enable_mta_sts") }),
            enable_dane: self.flag(const { Key::of("enable_dane") }),
            remember_broken_tls: self.optional(const { Key::of("remember_broken_tls") }),
            opportunistic_tls_reconnect_on_failed_handshake: self
                .flag(const { Key::of("opportunistic_tls_reconnect_on_failed_handshake") }),
            enable_pipelining: self.flag(const { Key::of("enable_pipelining") }),
            enable_rset: self.flag(const { Key::of("enable_rset") }),
            smtp_port: u16::try_from(count(const { Key::of("smtp_port") }))
                .expect("a port was checked"),
            prohibited_hosts: self.networks(const { Key::of("prohibited_hosts") }),
            skip_hosts: self.networks(const { Key::of("skip_hosts") }),
            ip_lookup_strategy: self.ip_lookup(),
            ehlo_domain: self.text(const { Key::of("ehlo_domain") }),
            reconnect_strategy: self.reconnect(),
            try_next_host_on_transport_error: self
                .flag(const { Key::of("try_next_host_on_transport_error") }),
            ignore_8bit_checks: self.flag(const { Key::of("ignore_8bit_checks") }),
            provider_name: self
                .text(const { Key::of("provider_name") })
                .or_else(|| self.providers().last()),
        }
    }

    fn waits(&self) -> Waits {
        Waits {
            connect: self.span(const { Key::of("connect_timeout") }),
            banner: self.span(const { Key::of("banner_timeout") }),
            ehlo: self.span(const { Key::of("ehlo_timeout") }),
            starttls: self.span(const { Key::of("starttls_timeout") }),
            auth: self.span(const { Key::of("auth_timeout") }),
            mail_from: self.span(const { Key::of("mail_from_timeout") }),
            rcpt_to: self.span(const { Key::of("rcpt_to_timeout") }),
            data: self.span(const { Key::of("data_timeout") }),
            data_dot: self.span(const { Key::of("data_dot_timeout") }),
            rset: self.span(const { Key::of("rset_timeout") }),
            idle: self.span(const { Key::of("idle_timeout") }),
            shutdown: self.optional(const { Key::of("system_shutdown_timeout") }),
            watchdog: self.optional(const { Key::of("dispatcher_progress_watchdog_timeout") }),
        }
    }

    fn tls(&self) -> Tls {
        match self.word(const { Key::of("enable_tls") }) {
            "OpportunisticInsecure" => Tls::OpportunisticInsecure,
            "Required" => Tls::Required,
            "RequiredInsecure" => Tls::RequiredInsecure,
            "Disabled" => Tls::Disabled,
            _ => Tls::Opportunistic,
        }
    }

    /// Where TLS is made a condition of sending.
    pub fn requires_tls(&self) -> Option<&'a Place> {
        let setting = self.setting(const { Key::of("enable_tls") })?;
        let is_required = matches!(setting.value, Value::Word("Required" | "RequiredInsecure"));
        is_required.then_some(&setting.place)
    }

    fn ip_lookup(&self) -> IpLookup {
        match self.word(const { Key::of("ip_lookup_strategy") }) {
            "Ipv4Only" => IpLookup::V4Only,
            "Ipv6Only" => IpLookup::V6Only,
            "Ipv6ThenIpv4" => IpLookup::V6ThenV4,
            "Ipv4ThenIpv6" => IpLookup::V4ThenV6,
            _ => IpLookup::V4AndV6,
        }
    }

    fn reconnect(&self) -> Reconnect {
        match self.word(const { Key::of("reconnect_strategy") }) {
            "TerminateSession" => Reconnect::TerminateSession,
            "ReconnectSameHost" => Reconnect::SameHost,
            _ => Reconnect::NextHost,
        }
    }

    fn value(&self, key: Key) -> Option<&'a Value> {
        self.setting(key).map(|setting| &setting.value)
    }

    fn cap(&self, key: Key) -> Cap {
        let Some(Value::Cap(cap)) = self.value(key) else {
            unset(key)
        };
        *cap
    }

    fn number(&self, key: Key) -> u32 {
        let Some(Value::Count(count)) = self.value(key) else {
            unset(key)
        };
        *count
    }

    fn flag(&self, key: Key) -> bool {
        let Some(Value::Flag(flag)) = self.value(key) else {
            unset(key)
        };
        *flag
    }

    fn span(&self, key: Key) -> Duration {
        self.optional(key).unwrap_or_else(|| unset(key))
    }

    fn word(&self, key: Key) -> &'static str {
        let Some(Value::Word(word)) = self.value(key) else {
            unset(key)
        };
        word
    }

    fn networks(&self, key: Key) -> &'a [Network] {
        let Some(Value::Networks(networks)) = self.value(key) else {
            unset(key)
        };
        networks
    }

    fn rate(&self, key: Key) -> Option<Rate> {
        match self.value(key) {
            Some(Value::Rate(rate)) => Some(*rate),
            _ => None,
        }
    }

    fn optional(&self, key: Key) -> Option<Duration> {
        match self.value(key) {
            Some(Value::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    fn text(&self, key: Key) -> Option<&'a str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn pacing(&self) -> Option<Pacing> {
        match self.value(const { Key::of("pacing") }) {
            Some(Value::Pacing(pacing)) => Some(*pacing),
            _ => None,
        }
    }
}

/// `shaping/default.toml` sets every key that has a default, which a test holds.
fn unset(key: Key) -> ! {
    panic!("{key:?} has a built-in default of its kind")
}
