//! The table of keys: what each is called, takes, means, where it may stand, and whether it is
//! honoured. Everything that reads, prints or checks a key asks this table.

pub use super::key::Key;
pub(super) use super::key::{KEY_COUNT, MAPS};
use super::read::literal;
use super::value::{PacingMode, Value};

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flag,
    Count {
        min: u32,
        max: u32,
    },
    Port,
    Cap,
    Rate,
    Duration,
    Text,
    Networks,
    Word(&'static [&'static str]),
    /// Name to cap; such maps of several blocks are merged.
    Caps,
    /// Name to rate; such maps of several blocks are merged.
    Rates,
    Pacing,
    /// The key is refused whatever it says.
    Foreign,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Honoured,
    /// Accepted without effect, with a note that says why.
    Ignored(&'static str),
    /// A fault that says why, unless the key only says its default.
    Refused(&'static str),
    /// Kept and shown, and obeyed by nothing yet, with a note that says why. In an operator's file
    /// that is a fault, but for the default and values that do no harm so (`*` is any).
    Later {
        why: &'static str,
        harmless: &'static [&'static str],
    },
    /// Obeyed as far as it can be: mail waits where one of the words `barring` holds, which a note in an
    /// operator's file says aloud; of all other values one says `why`.
    Partly {
        why: &'static str,
        barring: &'static [&'static str],
        why_barring: &'static str,
    },
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct KeyRow {
    pub name: &'static str,
    pub kind: Kind,
    /// As TOML writes it; `None` is "not set".
    pub default: Option<&'static str>,
    pub about: &'static str,
    pub support: Support,
    /// Not of KumoMTA's vocabulary.
    pub ours: bool,
    /// Union of [`BASE`], [`SOURCES`], [`PROVIDER`], [`PROVIDER_SOURCES`], [`LABELS`], [`MAIL`].
    places: u8,
}

/// In `["default"]`, a domain's or a provider's block, and in an overlay of one.
pub(super) const BASE: u8 = 1;
/// In `sources` of a domain or a provider.
pub(super) const SOURCES: u8 = 2;
/// In a provider's block alone.
pub(super) const PROVIDER: u8 = 4;
/// In `sources` of a provider alone.
pub(super) const PROVIDER_SOURCES: u8 = 8;
/// In a block of a source.
pub(super) const LABELS: u8 = 16;
/// In a block of a tenant, campaign or queue: what holds for some of the mail that a lane carries.
pub(super) const MAIL: u8 = 32;

const TLS: &[&str] = &[
    "Opportunistic",
    "OpportunisticInsecure",
    "Required",
    "RequiredInsecure",
    "Disabled",
];
const LOOKUP: &[&str] = &[
    "Ipv4AndIpv6",
    "Ipv4Only",
    "Ipv6Only",
    "Ipv6ThenIpv4",
    "Ipv4ThenIpv6",
];
const RECONNECT: &[&str] = &["TerminateSession", "ReconnectSameHost", "ConnectNextHost"];
const MEMORY: &[&str] = &["ShrinkDataAndMeta", "ShrinkData", "NoShrink"];

const fn theirs(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    places: u8,
    about: &'static str,
) -> KeyRow {
    KeyRow {
        name,
        kind,
        default,
        about,
        support: Support::Honoured,
        ours: false,
        places,
    }
}

const fn ours(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    places: u8,
    about: &'static str,
) -> KeyRow {
    KeyRow {
        ours: true,
        ..theirs(name, kind, default, places, about)
    }
}

const fn later(why: &'static str, harmless: &'static [&'static str]) -> Support {
    Support::Later { why, harmless }
}

impl KeyRow {
    const fn with(self, support: Support) -> Self {
        Self { support, ..self }
    }

    /// Whether its values are kept.
    pub(super) const fn is_kept(&self) -> bool {
        match self.support {
            Support::Honoured | Support::Later { .. } | Support::Partly { .. } => true,
            Support::Ignored(_) | Support::Refused(_) => false,
        }
    }

    /// Why mail waits where the key says this, if it does.
    pub(crate) fn bars(&self, value: &Value) -> Option<&'static str> {
        let Support::Partly {
            barring,
            why_barring,
            ..
        } = self.support
        else {
            return None;
        };
        matches!(value, Value::Word(word) if barring.contains(word)).then_some(why_barring)
    }

    /// Whether a lower count is a tighter bound.
    pub(crate) const fn is_bound(&self) -> bool {
        matches!(self.kind, Kind::Count { .. }) && self.places & MAIL != 0
    }

    /// Whether the key says something that only waits to be obeyed.
    pub(super) fn is_harmless(&self, value: &Value) -> bool {
        let Support::Later { harmless, .. } = self.support else {
            return true;
        };
        if let Value::Pacing(pacing) = value {
            return pacing.mode == PacingMode::Fixed;
        }
        let text = value.to_string();
        let is = |word: &&str| *word == "*" || *word == text.trim_matches('"');
        let default = self.default.map(|text| self.kind.check(&literal(text)));
        harmless.iter().any(is) || default.is_some_and(|d| d.as_ref() == Ok(value))
    }

    pub(crate) const fn may_stand(&self, places: u8) -> bool {
        self.places & places != 0
    }

    /// Where the key may stand, in words.
    pub const fn home(&self) -> &'static str {
        match self.places {
            PROVIDER => "a provider's block",
            PROVIDER_SOURCES => "sources of a provider",
            BASE => "the block of the default, a domain or a provider",
            places if places == BASE | MAIL => "any block but those of sources",
            places if places & MAIL != 0 => "any block",
            places if places & LABELS != 0 => {
                "any block but those of tenants, campaigns and queues, whose mail shares connections"
            }
            _ => "the block of the default, a domain or a provider, or their sources",
        }
    }
}

/// All keys of a path, in the order they are printed.
pub const KEYS: &[KeyRow] = &[
    theirs(
        "connection_limit",
        Kind::Cap,
        Some("32"),
        BASE | SOURCES | LABELS | MAIL,
        "Connections at once: of a source to a site, or of what the block names; of a tenant, campaign or queue, transactions at once.",
    ),
    theirs(
        "max_connection_rate",
        Kind::Rate,
        None,
        BASE | SOURCES | LABELS,
        "New connections.",
    ),
    theirs(
        "max_message_rate",
        Kind::Rate,
        None,
        BASE | SOURCES | LABELS | MAIL,
        "Messages sent.",
    ),
    theirs(
        "source_selection_rate",
        Kind::Rate,
        None,
        BASE | SOURCES | LABELS,
        "How often a pool may pick the source for the site.",
    ),
    theirs(
        "max_deliveries_per_connection",
        Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        Some("1024"),
        BASE | SOURCES | LABELS | MAIL,
        "Messages on one connection before QUIT.",
    ),
    theirs(
        "max_recipients_per_batch",
        Kind::Count {
            min: 1,
            max: 100_000,
        },
        Some("100"),
        BASE | SOURCES | LABELS | MAIL,
        "Recipients in one transaction.",
    ),
    theirs(
        "additional_connection_limits",
        Kind::Caps,
        None,
        BASE | SOURCES,
        "Further limits by name, shared by all that name them.",
    ),
    theirs(
        "additional_message_rate_throttles",
        Kind::Rates,
        None,
        BASE | SOURCES,
        "Further message rates by name.",
    ),
    theirs(
        "additional_source_selection_rates",
        Kind::Rates,
        None,
        BASE | SOURCES,
        "Further selection rates by name.",
    ),
    ours(
        "suspended",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES | MAIL,
        "No mail leaves; what waits expires in time.",
    ),
    ours(
        "site_connection_limit",
        Kind::Cap,
        None,
        BASE,
        "Connections to the site from all sources together.",
    ),
    ours(
        "site_max_connection_rate",
        Kind::Rate,
        None,
        BASE,
        "New connections to the site from all sources together.",
    ),
    ours(
        "site_max_message_rate",
        Kind::Rate,
        None,
        BASE,
        "Messages to the site from all sources together.",
    ),
    ours(
        "site_source_selection_rate",
        Kind::Rate,
        None,
        BASE,
        "Selections of any source for the site.",
    ),
    theirs(
        "provider_connection_limit",
        Kind::Cap,
        None,
        PROVIDER,
        "Connections of one source to all sites of the provider.",
    ),
    theirs(
        "provider_max_message_rate",
        Kind::Rate,
        None,
        PROVIDER,
        "Messages of one source to all sites of the provider.",
    ),
    ours(
        "provider_max_connection_rate",
        Kind::Rate,
        None,
        PROVIDER,
        "New connections of one source to all sites of the provider.",
    ),
    theirs(
        "provider_source_selection_rate",
        Kind::Rate,
        None,
        PROVIDER_SOURCES,
        "Selections of this source for all sites of the provider.",
    ),
    ours(
        "provider_total_connection_limit",
        Kind::Cap,
        None,
        PROVIDER,
        "Connections of all sources together to the provider.",
    ),
    ours(
        "provider_total_max_connection_rate",
        Kind::Rate,
        None,
        PROVIDER,
        "New connections of all sources together to the provider.",
    ),
    ours(
        "provider_total_max_message_rate",
        Kind::Rate,
        None,
        PROVIDER,
        "Messages of all sources together to the provider.",
    ),
    ours(
        "provider_total_source_selection_rate",
        Kind::Rate,
        None,
        PROVIDER,
        "Selections of any source for the provider.",
    ),
    ours(
        "pacing",
        Kind::Pacing,
        None,
        BASE | SOURCES,
        "How the message rate moves: { mode = \"fixed\" or \"adaptive\", min, max }.",
    )
    .with(later("nothing moves the rate yet", &[])),
    theirs(
        "max_ready",
        Kind::Count {
            min: 1,
            max: 10_000_000,
        },
        Some("1024"),
        BASE | SOURCES,
        "Messages ready in memory for one source and site.",
    )
    .with(later("memory for what is ready is bounded by spool.bodies_max", &["*"])),
    theirs(
        "consecutive_connection_failures_before_delay",
        Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        Some("100"),
        BASE | SOURCES,
        "Failed connections in a row before all waiting messages are deferred.",
    )
    .with(later("a site that fails is tried by one connection, after growing pauses", &["*"])),
    theirs(
        "connect_timeout",
        Kind::Duration,
        Some("60s"),
        BASE | SOURCES,
        "TCP connect.",
    ),
    theirs(
        "banner_timeout",
        Kind::Duration,
        Some("60s"),
        BASE | SOURCES,
        "The 220 greeting.",
    ),
    theirs(
        "ehlo_timeout",
        Kind::Duration,
        Some("300s"),
        BASE | SOURCES,
        "The reply to EHLO.",
    ),
    theirs(
        "starttls_timeout",
        Kind::Duration,
        Some("5s"),
        BASE | SOURCES,
        "STARTTLS and its handshake.",
    )
    .with(later("no TLS is spoken yet: mail leaves in clear", &["*"])),
    theirs(
        "auth_timeout",
        Kind::Duration,
        Some("60s"),
        BASE | SOURCES,
        "The reply to AUTH.",
    )
    .with(later("the client does not log in", &["*"])),
    theirs(
        "mail_from_timeout",
        Kind::Duration,
        Some("300s"),
        BASE | SOURCES,
        "The reply to MAIL.",
    ),
    theirs(
        "rcpt_to_timeout",
        Kind::Duration,
        Some("300s"),
        BASE | SOURCES,
        "The reply to RCPT.",
    ),
    theirs(
        "data_timeout",
        Kind::Duration,
        Some("300s"),
        BASE | SOURCES,
        "The reply to DATA.",
    ),
    theirs(
        "data_dot_timeout",
        Kind::Duration,
        Some("300s"),
        BASE | SOURCES,
        "The reply to the final dot.",
    ),
    theirs(
        "rset_timeout",
        Kind::Duration,
        Some("5s"),
        BASE | SOURCES,
        "The reply to RSET.",
    ),
    theirs(
        "idle_timeout",
        Kind::Duration,
        Some("5s"),
        BASE | SOURCES,
        "An open connection without work.",
    ),
    theirs(
        "system_shutdown_timeout",
        Kind::Duration,
        None,
        BASE | SOURCES,
        "How long open transactions may last at shutdown.",
    )
    .with(later("transactions have 25 s to come to their final dot, and its answer is awaited", &["*"])),
    theirs(
        "dispatcher_progress_watchdog_timeout",
        Kind::Duration,
        None,
        BASE | SOURCES,
        "A connection without progress is dropped after it; derived from the timeouts when not set.",
    )
    .with(later("each step has a timeout of its own", &["*"])),
    theirs(
        "enable_tls",
        Kind::Word(TLS),
        Some("\"Opportunistic\""),
        BASE | SOURCES,
        "What TLS must be to send.",
    )
    .with(Support::Partly {
        why: "no TLS is spoken yet: mail leaves in clear",
        barring: &["Required", "RequiredInsecure"],
        why_barring: "TLS is required and this build does not speak it: mail waits",
    }),
    theirs(
        "enable_mta_sts",
        Kind::Flag,
        Some("true"),
        BASE | SOURCES,
        "Obey MTA-STS (RFC 8461).",
    )
    .with(later("no TLS is spoken yet: mail leaves in clear", &["*"])),
    theirs(
        "enable_dane",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Obey DANE (RFC 7672).",
    )
    .with(later("no TLS is spoken yet: mail leaves in clear", &[])),
    theirs(
        "remember_broken_tls",
        Kind::Duration,
        None,
        BASE | SOURCES,
        "How long a host whose TLS failed is spoken to in clear, where TLS is opportunistic.",
    )
    .with(later("no TLS is spoken yet: mail leaves in clear", &["*"])),
    theirs(
        "opportunistic_tls_reconnect_on_failed_handshake",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Reconnect in clear after a failed handshake, where TLS is opportunistic.",
    )
    .with(later("no TLS is spoken yet: mail leaves in clear", &["*"])),
    theirs(
        "tls_certificate",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "Client certificate.",
    )
    .with(Support::Refused("no client certificate is sent")),
    theirs(
        "tls_private_key",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "Key of the client certificate.",
    )
    .with(Support::Refused("no client certificate is sent")),
    theirs(
        "tls_prefer_openssl",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Use OpenSSL.",
    )
    .with(Support::Refused(
        "TLS is rustls, and nothing else is built in",
    )),
    theirs(
        "openssl_cipher_list",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "OpenSSL's settings.",
    )
    .with(Support::Refused(
        "TLS is rustls, and nothing else is built in",
    )),
    theirs(
        "openssl_cipher_suites",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "OpenSSL's settings.",
    )
    .with(Support::Refused(
        "TLS is rustls, and nothing else is built in",
    )),
    theirs(
        "openssl_options",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "OpenSSL's settings.",
    )
    .with(Support::Refused(
        "TLS is rustls, and nothing else is built in",
    )),
    theirs(
        "rustls_cipher_suites",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "Cipher suites.",
    )
    .with(Support::Refused("the suites are rustls' own choice")),
    theirs(
        "enable_pipelining",
        Kind::Flag,
        Some("true"),
        BASE | SOURCES,
        "Use PIPELINING where offered.",
    ),
    theirs(
        "enable_rset",
        Kind::Flag,
        Some("true"),
        BASE | SOURCES,
        "RSET between messages of a connection.",
    )
    .with(later("RSET is sent only where a transaction is given up", &["*"])),
    theirs(
        "smtp_port",
        Kind::Port,
        Some("25"),
        BASE | SOURCES,
        "Port of the site's hosts.",
    )
    .with(later("delivery.port is the port of all sites", &[])),
    theirs(
        "smtp_auth_plain_username",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "Login at the next hop.",
    )
    .with(Support::Refused("the client does not log in")),
    theirs(
        "smtp_auth_plain_password",
        Kind::Foreign,
        None,
        BASE | SOURCES,
        "Password at the next hop.",
    )
    .with(Support::Refused("the client does not log in")),
    theirs(
        "allow_smtp_auth_plain_without_tls",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Log in even so.",
    )
    .with(Support::Refused("the client does not log in")),
    theirs(
        "allow_smtp_auth_plain_without_valid_certificate",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Log in even so.",
    )
    .with(Support::Refused("the client does not log in")),
    theirs(
        "prohibited_hosts",
        Kind::Networks,
        Some("[\"127.0.0.0/8\", \"0.0.0.0\", \"::1\", \"::\"]"),
        BASE | SOURCES,
        "A site with such an address gets no mail; of the built-in ones delivery.allow_private_targets decides.",
    ),
    theirs(
        "skip_hosts",
        Kind::Networks,
        Some("[]"),
        BASE | SOURCES,
        "Such addresses of a site are passed over.",
    ),
    theirs(
        "ip_lookup_strategy",
        Kind::Word(LOOKUP),
        Some("\"Ipv4AndIpv6\""),
        BASE | SOURCES,
        "Which address families, and in which order.",
    ),
    theirs(
        "ehlo_domain",
        Kind::Text,
        None,
        BASE | SOURCES,
        "Name in EHLO; the source's, else the host name, when not set.",
    ),
    theirs(
        "reconnect_strategy",
        Kind::Word(RECONNECT),
        Some("\"ConnectNextHost\""),
        BASE | SOURCES,
        "What follows a 421, an I/O error or a timeout.",
    )
    .with(later("the next host is tried when nothing could be sent", &[])),
    theirs(
        "try_next_host_on_transport_error",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Retry the message on the next host at once.",
    )
    .with(later("the next host is tried when nothing could be sent", &[])),
    theirs(
        "ignore_8bit_checks",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Send 8-bit content whatever the peer offers.",
    ),
    theirs(
        "use_lmtp",
        Kind::Flag,
        Some("false"),
        BASE | SOURCES,
        "Speak LMTP.",
    )
    .with(Support::Refused("LMTP is not spoken")),
    theirs(
        "provider_name",
        Kind::Text,
        None,
        BASE | SOURCES,
        "Name of the provider in metrics and logs; the matching provider's, when not set.",
    ),
    theirs(
        "refresh_interval",
        Kind::Duration,
        Some("60s"),
        BASE | SOURCES,
        "How old a read of this file may be.",
    )
    .with(Support::Ignored("a reload takes effect at once")),
    theirs(
        "refresh_strategy",
        Kind::Word(&["Ttl", "Epoch"]),
        Some("\"Ttl\""),
        BASE | SOURCES,
        "How reads are renewed.",
    )
    .with(Support::Ignored("a reload takes effect at once")),
    theirs(
        "dispatcher_wakeup_strategy",
        Kind::Word(&["Aggressive", "Relaxed"]),
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
    theirs(
        "maintainer_wakeup_strategy",
        Kind::Word(&["Aggressive", "Relaxed"]),
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
    theirs(
        "low_memory_reduction_policy",
        Kind::Word(MEMORY),
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
    theirs(
        "no_memory_reduction_policy",
        Kind::Word(MEMORY),
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
    theirs(
        "readyq_pool_name",
        Kind::Text,
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
    theirs(
        "aggressive_connection_opening",
        Kind::Flag,
        None,
        BASE | SOURCES,
        "Engine.",
    )
    .with(Support::Ignored("an inner matter of another engine")),
];
