//! The table of knobs: everything that can be set, with unit, default, bound and meaning. Reading,
//! the reference page and the commented example file all come from here.

use std::collections::BTreeSet;

/// What a knob holds, with its bounds. Durations are in seconds, sizes in octets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Text,
    Path,
    Domain,
    Mailbox,
    Count { min: u64, max: u64 },
    Share { min: f64, max: f64 },
    Size { min: u64, max: u64 },
    Duration { min: u64, max: u64 },
    Choice(&'static [&'static str]),
    Endpoint,
    Address,
    Shards,
    Addresses,
    Resolvers,
    Networks,
    NextHops,
    RedisUrls,
    Delays { min: u64, max: u64 },
    Paths,
    Names,
    Counts { min: u64, max: u64 },
    Weekdays,
}

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// `section.name`; of a repeated section, `section[].name`.
    pub key: &'static str,
    pub kind: Kind,
    /// As TOML; None: must be given where its section is.
    pub default: Option<&'static str>,
    pub doc: &'static str,
    /// The environment variable that sets it: secrets only.
    pub environment: Option<&'static str>,
}

const fn knob(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Knob {
    Knob {
        key,
        kind,
        default: Some(default),
        doc,
        environment: None,
    }
}

const fn required(key: &'static str, kind: Kind, doc: &'static str) -> Knob {
    Knob {
        key,
        kind,
        default: None,
        doc,
        environment: None,
    }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn duration(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// All of them, in the order they are printed; the knobs of a section stand together.
pub const KNOBS: &[Knob] = &[
    knob(
        "node.hostname",
        Kind::Domain,
        "\"\"",
        "Name of this host in the greeting, in EHLO and in Received fields. Empty: the system's name when it has a dot, else localhost.localdomain.",
    ),
    knob(
        "node.nodeid",
        Kind::Text,
        "\"\"",
        "Name of this node in delivery records. Empty: the hostname.",
    ),
    knob(
        "node.shards",
        Kind::Shards,
        "\"all\"",
        "Executors, each pinned to a CPU: \"all\" CPUs this process may use, a number of them, or a list of CPU numbers.",
    ),
    required(
        "listener[].address",
        Kind::Endpoint,
        "Address and port that take SMTP. Without any [[listener]]: 127.0.0.1:2525.",
    ),
    knob(
        "listener[].connections_max",
        count(1, 1_000_000),
        "20000",
        "Connections held at one time; the next is answered 421. All listeners together hold three quarters of the open files that this process may have beyond 1536, in even shares, whatever they say here.",
    ),
    knob(
        "listener[].connections_per_client_max",
        count(1, 1_000_000),
        "5000",
        "Of these, from one client network (IPv4 /32, IPv6 /64).",
    ),
    knob(
        "smtp.command_octets_max",
        size(512, 64 * KIB),
        "\"2KiB\"",
        "Longest command line with its CRLF.",
    ),
    knob(
        "smtp.recipients_max",
        count(100, 100_000),
        "1000",
        "Recipients of one transaction; the next is answered 452 (RFC 5321 §4.5.3.1.8 wants 100 at least).",
    ),
    knob(
        "smtp.message_octets_max",
        size(64 * KIB, GIB),
        "\"50MiB\"",
        "Largest message, offered as SIZE.",
    ),
    knob(
        "smtp.commands_max",
        count(100, 1_000_000_000),
        "100000",
        "Commands of one session; then 421.",
    ),
    knob(
        "smtp.errors_max",
        count(1, 1000),
        "20",
        "Refused commands since the last accepted message; then 421.",
    ),
    knob(
        "smtp.messages_max",
        count(0, 1_000_000_000),
        "0",
        "Messages of one session; then 421. 0: no bound.",
    ),
    knob(
        "smtp.idle",
        duration(1, HOUR),
        "\"5m\"",
        "Silence after which a session is closed (RFC 5321 §4.5.3.2.7 wants 5m at least).",
    ),
    knob(
        "smtp.session",
        duration(10, 7 * DAY),
        "\"1h\"",
        "Longest session.",
    ),
    knob(
        "smtp.line_ends",
        Kind::Choice(&["reject", "normalise"]),
        "\"reject\"",
        "What is done about a bare CR or LF in a message: refuse it, or make it CRLF. Either way only CRLF.CRLF ends a message.",
    ),
    knob(
        "smtp.postmaster",
        Kind::Mailbox,
        "\"\"",
        "Who gets what any client sends to <postmaster>, or to postmaster at the hostname (RFC 5321 §4.5.1). Empty: it goes to the host of that name, from clients that may relay only.",
    ),
    knob(
        "trust.networks",
        Kind::Networks,
        "[\"127.0.0.0/8\", \"::1/128\"]",
        "Clients that may relay.",
    ),
    knob(
        "http.address",
        Kind::Endpoint,
        "\"127.0.0.1:8000\"",
        "Address and port of health, metrics and admin.",
    ),
    Knob {
        key: "http.token",
        kind: Kind::Text,
        default: Some("\"\""),
        doc: "Token that admin requests must bear. Empty: admin answers loopback clients only.",
        environment: Some("POSTHASTE_HTTP_TOKEN"),
    },
    knob(
        "spool.path",
        Kind::Path,
        "\"./posthaste-spool\"",
        "Directory of the spool; made when it is not there.",
    ),
    knob(
        "spool.durability",
        Kind::Choice(&["commit", "relaxed"]),
        "\"commit\"",
        "What 250 means: the message survives a power cut (commit), or only the death of the process (relaxed).",
    ),
    knob(
        "spool.free_min",
        size(0, 100 * TIB),
        "\"1GiB\"",
        "Free disk below which messages are answered 452. Delivery goes on.",
    ),
    knob(
        "spool.memtables_max",
        size(16 * MIB, 64 * GIB),
        "\"256MiB\"",
        "Memory for what is written and not yet flushed. Several times rate × lifetime keeps short-lived messages off the tables on disk.",
    ),
    knob(
        "spool.flush_per_second_max",
        size(16 * MIB, 64 * GIB),
        "\"200MiB\"",
        "What the tables on disk are written with each second, so that the log's syncs need not wait behind it. About what \
         the disk writes for good; mail that stays and comes faster waits for it.",
    ),
    knob(
        "spool.bodies_max",
        size(MIB, TIB),
        "\"256MiB\"",
        "Message data held in memory for delivery, all shards together; beyond it bodies are read back from the spool.",
    ),
    knob(
        "spool.queue_max",
        size(MIB, TIB),
        "\"2GiB\"",
        "Memory for the queue itself, 200 octets for a message's recipients of one domain; beyond it messages are answered 452 until some have left.",
    ),
    knob(
        "shaping.files",
        Kind::Paths,
        "[]",
        "Shaping files, laid over each other in this order, and folders of which all .toml and .json files are read. \
         What [delivery] says of all sites is below them.",
    ),
    knob(
        "shaping.providers",
        Kind::Bool,
        "true",
        "Know the mailbox providers that come with the program, see shaping/README.md.",
    ),
    knob(
        "delivery.ehlo_name",
        Kind::Domain,
        "\"\"",
        "Name given in EHLO. Empty: the hostname.",
    ),
    knob(
        "delivery.sources",
        Kind::Addresses,
        "[]",
        "Egress addresses of this host, IPv4 and IPv6: sources that have nothing but an address, and its text as name. Without any, and without [[source]], the kernel chooses.",
    ),
    knob("delivery.port", count(1, 65_535), "25", "Port of MX hosts."),
    knob(
        "delivery.connections_max",
        count(1, 65_535),
        "32",
        "Connections to one site, all shards together; shaping may say otherwise.",
    ),
    knob(
        "delivery.messages_per_connection_max",
        count(1, 1_000_000),
        "1000",
        "Messages after which a connection is closed; shaping may say otherwise.",
    ),
    knob(
        "delivery.recipients_per_transaction_max",
        count(1, 1_000),
        "100",
        "Recipients of one message given in one transaction; shaping may say otherwise.",
    ),
    knob(
        "delivery.unsynced_max",
        count(1, 1_000_000),
        "128",
        "Outcomes on their way to the disk, all shards together, beyond which no delivery begins: so many, \
         and what each connection had begun before, may come twice after a crash.",
    ),
    knob(
        "delivery.idle",
        duration(0, HOUR),
        "\"5s\"",
        "How long an unused connection is kept.",
    ),
    knob(
        "delivery.pipelining",
        Kind::Bool,
        "true",
        "Use PIPELINING (RFC 2920) where it is offered.",
    ),
    knob(
        "delivery.eight_bit",
        Kind::Choice(&["send", "refuse"]),
        "\"send\"",
        "8-bit content for a next hop without 8BITMIME: send it as it is, or refuse the message.",
    ),
    knob(
        "delivery.allow_private_targets",
        Kind::Bool,
        "false",
        "Deliver to private and loopback addresses that DNS names.",
    ),
    knob(
        "delivery.retry",
        Kind::Delays {
            min: 1,
            max: 30 * DAY,
        },
        "[\"5m\", \"10m\", \"20m\", \"40m\", \"80m\", \"160m\", \"4h\"]",
        "Delays before the second, third, … attempt; the last repeats.",
    ),
    knob(
        "delivery.jitter",
        Kind::Share { min: 0.0, max: 1.0 },
        "0.1",
        "Share by which each delay is lengthened at most, at random, so that retries spread.",
    ),
    knob(
        "delivery.max_age",
        duration(1, 30 * DAY),
        "\"5d\"",
        "Age at which a message expires (RFC 5321 §4.5.4.1 wants 4d at least).",
    ),
    knob(
        "delivery.warn_after",
        duration(0, 30 * DAY),
        "\"0s\"",
        "Age at which the sender is told of a delay. 0s: never.",
    ),
    knob(
        "delivery.timeout.connect",
        duration(1, HOUR),
        "\"30s\"",
        "To one host.",
    ),
    knob(
        "delivery.timeout.banner",
        duration(1, HOUR),
        "\"1m\"",
        "For the greeting.",
    ),
    knob(
        "delivery.timeout.ehlo",
        duration(1, HOUR),
        "\"5m\"",
        "For the reply to EHLO.",
    ),
    knob(
        "delivery.timeout.mail",
        duration(1, HOUR),
        "\"5m\"",
        "For the reply to MAIL.",
    ),
    knob(
        "delivery.timeout.rcpt",
        duration(1, HOUR),
        "\"5m\"",
        "For the reply to RCPT.",
    ),
    knob(
        "delivery.timeout.data",
        duration(1, HOUR),
        "\"5m\"",
        "For the reply to DATA, and for each block written.",
    ),
    knob(
        "delivery.timeout.dot",
        duration(1, HOUR),
        "\"10m\"",
        "For the reply to the final dot.",
    ),
    knob(
        "delivery.timeout.quit",
        duration(1, HOUR),
        "\"5s\"",
        "For the reply to QUIT.",
    ),
    required(
        "source[].name",
        Kind::Text,
        "Name of this egress source in delivery records, pools, shaping and metrics.",
    ),
    knob(
        "source[].address",
        Kind::Address,
        "\"\"",
        "Address to connect from. With a HAProxy the one that it is to connect from; on the way to a proxy it is bound only where this host has it. Empty: the kernel chooses.",
    ),
    knob(
        "source[].ehlo_name",
        Kind::Domain,
        "\"\"",
        "Name given in EHLO. Empty: that of [delivery].",
    ),
    knob(
        "source[].ttl",
        count(0, 255),
        "0",
        "IP TTL or hop limit of what is sent; with a proxy, on the way to it. 0: the system's.",
    ),
    knob(
        "source[].enabled",
        Kind::Bool,
        "true",
        "Whether mail leaves from it.",
    ),
    required(
        "source[].proxy.kind",
        Kind::Choice(&["haproxy-v1", "haproxy-v2", "socks5"]),
        "Proxy that connects for this source: a HAProxy that is told by a PROXY header, version 1 or 2, from where and whither, or a SOCKS5 proxy. Without [source.proxy] there is none.",
    ),
    required(
        "source[].proxy.server",
        Kind::Endpoint,
        "Address and port of the proxy.",
    ),
    knob(
        "source[].proxy.user",
        Kind::Text,
        "\"\"",
        "User at the SOCKS5 proxy (RFC 1929), 255 octets at most. Empty: none.",
    ),
    Knob {
        key: "source[].proxy.password",
        kind: Kind::Text,
        default: Some("\"\""),
        doc: "Password of that user. The variable sets that of all sources that have a user.",
        environment: Some("POSTHASTE_PROXY_PASSWORD"),
    },
    required(
        "pool[].name",
        Kind::Text,
        "Name of a pool of sources. Mail of which no label says otherwise leaves by the pool \"default\"; where no table has that name, it is all enabled sources with one weight.",
    ),
    knob(
        "pool[].selection",
        Kind::Choice(&["weighted", "reputation", "sticky"]),
        "\"weighted\"",
        "How the next source is found: by weight in turn, by weight times its score at the provider, or the same one for the same recipient domain as long as it may send.",
    ),
    knob(
        "pool[].hours.zone",
        Kind::Text,
        "\"\"",
        "Time zone (IANA) of the business hours, outside of which weight_off_hours holds. Empty: there are none.",
    ),
    knob(
        "pool[].hours.days",
        Kind::Weekdays,
        "[\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]",
        "Days on which business hours begin.",
    ),
    knob(
        "pool[].hours.from",
        Kind::Text,
        "\"09:00\"",
        "Time of day at which they begin.",
    ),
    knob(
        "pool[].hours.to",
        Kind::Text,
        "\"17:00\"",
        "Time of day at which they end; one before the beginning is on the next day.",
    ),
    required(
        "pool[].member[].source",
        Kind::Text,
        "Name of a source of the pool.",
    ),
    knob(
        "pool[].member[].weight",
        count(0, 1_000_000),
        "1",
        "Its share of the pool's mail, beside those of the others. 0: none.",
    ),
    knob(
        "pool[].member[].weight_off_hours",
        Kind::Text,
        "\"\"",
        "The same outside of the pool's business hours, as a number. Empty: no other one.",
    ),
    required(
        "warmup[].source",
        Kind::Text,
        "Name of a young source: what it sends to each provider in a day is bounded, and the rest leaves by other sources of the pool.",
    ),
    knob(
        "warmup[].providers",
        Kind::Names,
        "[]",
        "Providers, as shaping names them, for which this table is; \"others\" is all sites without one. Empty: all. The first table that fits counts.",
    ),
    knob(
        "warmup[].days",
        Kind::Counts {
            min: 1,
            max: 4_000_000_000,
        },
        "[50, 100, 250, 500, 1000, 2500, 5000, 10000, 20000, 40000, 70000, 100000, 150000, 200000, 300000, 400000, 600000, 800000, 1000000, 1500000, 2000000]",
        "Messages of the first, second, … day (UTC) on which mail is sent, to each provider; a day counts if it went well. After the last one the source is warm.",
    ),
    knob(
        "dns.resolvers",
        Kind::Resolvers,
        "[]",
        "Name servers, with port when it is not 53. Empty: those of /etc/resolv.conf.",
    ),
    knob(
        "dns.timeout",
        duration(0, 60),
        "\"0s\"",
        "For the answer of one server in the first round; twice as long in the second, four times in later ones. 0s: as /etc/resolv.conf says where its servers are used, else 2s. Any other is 1s or more.",
    ),
    knob(
        "dns.attempts_max",
        count(0, 20),
        "0",
        "Rounds over all name servers before a question fails; in each, every server is asked once. 0: as /etc/resolv.conf says where its servers are used, else 4.",
    ),
    knob(
        "dns.cache_entries_max",
        count(16, 100_000_000),
        "100000",
        "Answers kept per shard.",
    ),
    knob(
        "dns.ttl_max",
        duration(1, 7 * DAY),
        "\"1d\"",
        "Longest an answer is kept, whatever its TTL.",
    ),
    knob(
        "dns.negative_ttl_max",
        duration(1, DAY),
        "\"15m\"",
        "Longest a negative answer is kept.",
    ),
    knob(
        "route[].domain",
        Kind::Text,
        "\"*\"",
        "Domain this static route is for; \"*\": every domain no other route names.",
    ),
    required(
        "route[].next_hop",
        Kind::NextHops,
        "Hosts to try in this order, with port when it is not 25. Names are looked up as A and AAAA; loopback and private addresses are allowed here.",
    ),
    knob(
        "redis.urls",
        Kind::RedisUrls,
        "[]",
        "Redis through which nodes share limits: redis://host:port/db, or rediss:// for TLS. One server, some sentinels, or some nodes of a cluster. Empty: this node shares nothing.",
    ),
    knob(
        "redis.kind",
        Kind::Choice(&["single", "sentinel", "cluster"]),
        "\"single\"",
        "What answers at these URLs.",
    ),
    knob(
        "redis.sentinel_master",
        Kind::Text,
        "\"\"",
        "Name by which sentinels know the server.",
    ),
    knob(
        "redis.user",
        Kind::Text,
        "\"\"",
        "Name to log in with. Empty: the default user.",
    ),
    Knob {
        key: "redis.password",
        kind: Kind::Text,
        default: Some("\"\""),
        doc: "Password to log in with. Empty: none.",
        environment: Some("POSTHASTE_REDIS_PASSWORD"),
    },
    knob(
        "redis.tls_ca",
        Kind::Text,
        "\"\"",
        "PEM file of the authorities that are trusted for rediss://. Empty: those of the system.",
    ),
    knob(
        "redis.prefix",
        Kind::Text,
        "\"posthaste:\"",
        "Begins each key, so that several installations may use one Redis.",
    ),
    knob(
        "redis.on_redis_loss",
        Kind::Choice(&["last-share", "stop"]),
        "\"last-share\"",
        "While Redis is away, a shared limit goes on at this node's last share of it, or lets nothing through.",
    ),
    knob(
        "redis.timeout",
        duration(1, 60),
        "\"1s\"",
        "For a connection to Redis, and for each of its answers.",
    ),
    knob(
        "log.dir",
        Kind::Path,
        "\"./posthaste-log\"",
        "Directory of the delivery log; made when it is not there.",
    ),
    knob(
        "log.rotate_size",
        size(64 * KIB, TIB),
        "\"256MiB\"",
        "Size at which a log file is rotated.",
    ),
    knob(
        "log.keep",
        count(1, 100_000),
        "16",
        "Rotated log files kept.",
    ),
    knob(
        "log.headers",
        Kind::Names,
        "[]",
        "Header fields of the message that records tell of, as `headers`: 16 names at most, and 512 octets of each. Not what `remove_headers` of shaping takes out.",
    ),
];

/// The knob that `key` names; indices of repeated sections do not matter.
pub(super) fn find(key: &str) -> Option<&'static Knob> {
    let plain = without_index(key);
    KNOBS.iter().find(|knob| knob.key == plain)
}

/// The keys under which `knob` can stand where these are given: one in each table of its section.
pub(super) fn keys_in<'a>(knob: &Knob, given: impl Iterator<Item = &'a String>) -> Vec<String> {
    let (section, name) = knob.key.rsplit_once('.').unwrap_or(("", knob.key));
    if !section.contains("[]") {
        return vec![knob.key.into()];
    }
    let tables = given.filter_map(|key| Some(key.rsplit_once('.')?.0));
    let tables: BTreeSet<&str> = tables.filter(|t| without_index(t) == section).collect();
    tables.iter().map(|t| format!("{t}.{name}")).collect()
}

/// `route[3].domain` as the table has it: `route[].domain`.
pub(super) fn without_index(key: &str) -> String {
    let mut plain = String::with_capacity(key.len());
    let mut rest = key;
    while let Some((head, tail)) = rest.split_once('[')
        && let Some((_, tail)) = tail.split_once(']')
    {
        plain.push_str(head);
        plain.push_str("[]");
        rest = tail;
    }
    plain.push_str(rest);
    plain
}
