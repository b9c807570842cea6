//! The metrics, registered once and passed down as handles. Labels are bounded by enums here;
//! never a recipient's domain. No recorder of the process is installed, so nodes may be many.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use posthaste_core::dispatch::Counters;

use super::automation::AutomationMeters;

/// Upper bounds of latencies: a commit takes from 100 µs (idle, fast disk) to seconds (a disk in
/// trouble).
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const METADATA: Metadata<'static> = Metadata::new("posthaste", Level::INFO, None);

type Labels<'a> = &'a [(&'static str, &'static str)];

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// The listener's bound.
    Full,
    /// The bound of one client network.
    Client,
    /// The node is on its way down, or not yet up.
    Closed,
}

impl ConnectionRefusal {
    const ALL: [Self; 3] = [Self::Full, Self::Client, Self::Closed];

    const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Client => "client",
            Self::Closed => "closed",
        }
    }
}

/// Why a message or a recipient of it was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRefusal {
    /// The disk is full or nearly so.
    Full,
    /// Too much is held in memory.
    Memory,
    /// A bound on size, recipients or messages.
    Limit,
    /// This client may not relay.
    Relay,
    /// The message itself: bare line ends, syntax.
    Content,
    /// The spool failed.
    Spool,
    /// The connection ended in the midst of it.
    Unfinished,
}

impl MessageRefusal {
    const ALL: [Self; 7] = [
        Self::Full,
        Self::Memory,
        Self::Limit,
        Self::Relay,
        Self::Content,
        Self::Spool,
        Self::Unfinished,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Memory => "memory",
            Self::Limit => "limit",
            Self::Relay => "relay",
            Self::Content => "content",
            Self::Spool => "spool",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What a 250 means, for the metric that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Commit,
    Relaxed,
}

/// Handles for the hot path: each counter is one atomic add. Clones share their numbers.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Inbound sessions at this moment.
    pub sessions_open: Gauge,
    pub connections_accepted: Counter,
    pub messages_accepted: Counter,
    pub octets_accepted: Counter,
    pub spool: SpoolMeters,
    pub log: LogMeters,
    /// `None`: no limit is shared through Redis.
    pub redis: Option<RedisMeters>,
    pub automation: AutomationMeters,
    /// 1 while a source is suspended; in the order in which the sources were named.
    pub sources_suspended: Arc<[Gauge]>,
    /// Sites at which a source is aside, and how often it stepped aside; in the same order.
    pub sources_aside: Arc<[(Gauge, Counter)]>,
    connections_refused: [Counter; ConnectionRefusal::ALL.len()],
    messages_refused: [Counter; MessageRefusal::ALL.len()],
    /// Refused commands that have no record.
    pub rejections_unlogged: Counter,
}

impl Meters {
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        self.connections_refused[reason as usize].increment(1);
    }

    pub fn message_refused(&self, reason: MessageRefusal) {
        self.messages_refused(reason, 1);
    }

    pub fn messages_refused(&self, reason: MessageRefusal, count: u32) {
        self.messages_refused[reason as usize].increment(count.into());
    }
}

/// For the spool's committer.
#[derive(Clone, Debug)]
pub struct SpoolMeters {
    /// Seconds from a batch's submission to its sync.
    pub commit_seconds: Histogram,
    /// Batches written.
    pub commits: Counter,
    /// 1, or 0 after a failed sync.
    pub healthy: Gauge,
    /// Free octets of its disk.
    pub free_octets: Gauge,
    /// Rows of events that some reader has not passed.
    pub events_waiting: Gauge,
    /// Memory of the store itself.
    pub held_octets: Gauge,
}

/// For the log thread.
#[derive(Clone, Debug)]
pub struct LogMeters {
    pub lines: Counter,
    pub octets: Counter,
    pub rotations: Counter,
    /// Tries that failed.
    pub errors: Counter,
    /// 1, or 0 while writing fails.
    pub writable: Gauge,
    /// Age of the oldest line taken and not known to be on disk.
    pub lag_seconds: Gauge,
}

/// For the exchange with Redis; set before each scrape.
#[derive(Clone, Debug)]
pub struct RedisMeters {
    /// 1, or 0 while Redis is lost.
    pub up: Gauge,
    /// How long the last answer took.
    pub lag_seconds: Gauge,
    /// Since that was asked which was answered last.
    pub silence_seconds: Gauge,
    /// Age of the oldest lease that is to be renewed.
    pub lease_age_seconds: Gauge,
    /// Questions without an answer so far.
    pub questions: Gauge,
}

/// The rendering side. One per node, with the sidecar.
pub struct Exposition {
    /// For meters whose labels are not known at start.
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// What is counted, and where it is shown.
    tallies: Vec<(Arc<AtomicU64>, Counter)>,
    shards: ShardMeters,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

/// A source at a provider.
#[derive(Clone, Copy, Debug)]
pub struct SourceFigures<'a> {
    pub source: &'a str,
    pub provider: &'a str,
    /// Of 1,000; `None`: nothing is known.
    pub score: Option<u16>,
    /// Day, what may be sent on it, what is; `None`: it climbs no ladder.
    pub warmup: Option<(usize, Option<u32>, u32)>,
}

/// Recipients by what became of them.
struct FateMeters([Counter; FATES.len()]);

const FATES: [&str; 4] = ["delivered", "deferred", "refused", "expired"];

impl FateMeters {
    /// In the order of [`FATES`].
    fn tell(&self, counts: [u64; FATES.len()]) {
        for (meter, count) in self.0.iter().zip(counts) {
            meter.absolute(count);
        }
    }
}

struct PoolMeters {
    fates: FateMeters,
    waiting: Gauge,
}

/// Filled from what the shards answer.
struct ShardMeters {
    fates: FateMeters,
    pools: Vec<PoolMeters>,
    forwarded: Counter,
    unreadable: Counter,
    queued: Gauge,
    held_octets: Gauge,
    connections: Gauge,
    tls_barred: Gauge,
    silent: Counter,
}

impl Exposition {
    /// The sum over all shards.
    pub fn tell_shards(&self, sum: &Counters) {
        let shards = &self.shards;
        shards
            .fates
            .tell([sum.delivered, sum.deferred, sum.refused, sum.expired]);
        for (meters, pool) in shards.pools.iter().zip(&sum.pools) {
            let fates = [pool.delivered, pool.deferred, pool.refused, pool.expired];
            meters.fates.tell(fates);
            meters.waiting.set(pool.waiting as f64);
        }
        shards.forwarded.absolute(sum.forwarded);
        shards.unreadable.absolute(sum.unreadable);
        shards.queued.set(sum.queued as f64);
        shards.held_octets.set(sum.held_octets as f64);
        shards.connections.set(sum.connections as f64);
        shards.tls_barred.set(sum.tls_barred as f64);
    }

    /// How a source stands with a provider. There are as many as sources and blocks of providers.
    pub fn tell_source(&self, of: &SourceFigures<'_>) {
        let gauge = |metric: &'static str, help: &'static str| {
            let labels = vec![
                Label::new("source", of.source.to_owned()),
                Label::new("provider", of.provider.to_owned()),
            ];
            gauge_of(&self.recorder, metric, help, labels)
        };
        let help = "What the provider seems to think of the source, of 1,000.";
        if let Some(score) = of.score {
            gauge("posthaste_source_score", help).set(f64::from(score));
        }
        let Some((day, allowance, sent)) = of.warmup else {
            return;
        };
        let help = "The day of its ladder a young source is at; above all of them it is warm.";
        gauge("posthaste_warmup_day", help).set(day as f64);
        let help = "What a young source may send to the provider today; +Inf when it is warm.";
        let allowance = allowance.map_or(f64::INFINITY, f64::from);
        gauge("posthaste_warmup_allowance", help).set(allowance);
        let help = "What a young source was given for the provider today.";
        gauge("posthaste_warmup_sent", help).set(f64::from(sent));
    }

    /// So many shards did not answer a scrape.
    pub fn tell_silent(&self, shards: usize) {
        self.shards.silent.increment(shards as u64);
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        for (counted, shown) in &self.tallies {
            shown.absolute(counted.load(Ordering::Relaxed));
        }
        self.handle.render()
    }

    /// Folds samples of histograms into their buckets. Wanted every few seconds: samples take
    /// memory until then.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// All metrics of a node whose egress sources have no name.
///
/// # Panics
/// Never: the buckets are not empty.
pub fn meters(mode: Mode) -> (Meters, Exposition) {
    meters_with(mode, Named::default(), false)
}

/// What an operator named, so that there are few of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    pub sources: &'a [&'a str],
    /// In the order of the fleet's.
    pub pools: &'a [&'a str],
}

/// All metrics of a node with these, which shares limits through Redis or does not.
///
/// # Panics
/// Never: the buckets are not empty.
pub fn meters_with(mode: Mode, named: Named<'_>, is_sharing: bool) -> (Meters, Exposition) {
    let sources = named.sources;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .expect("there are buckets")
        .build_recorder();
    let mut register = Register {
        recorder,
        tallies: Vec::new(),
    };
    register.info(mode);
    let meters = Meters {
        sessions_open: register.gauge(
            "posthaste_sessions_open",
            "Inbound SMTP sessions at this moment.",
        ),
        connections_accepted: register.tally(
            "posthaste_connections_accepted_total",
            "Inbound SMTP connections that were given a session.",
            &[],
        ),
        messages_accepted: register.tally(
            "posthaste_messages_accepted_total",
            "Messages taken: the spool has them and the client has its 250.",
            &[],
        ),
        octets_accepted: register.tally(
            "posthaste_accepted_bytes_total",
            "Octets of the messages taken.",
            &[],
        ),
        connections_refused: ConnectionRefusal::ALL.map(|reason| {
            register.tally(
                "posthaste_connections_refused_total",
                "Inbound SMTP connections turned away, by reason.",
                &[("reason", reason.label())],
            )
        }),
        messages_refused: MessageRefusal::ALL.map(|reason| {
            register.tally(
                "posthaste_messages_refused_total",
                "Messages or recipients not taken, by reason.",
                &[("reason", reason.label())],
            )
        }),
        rejections_unlogged: register.tally(
            "posthaste_rejections_unlogged_total",
            "Refused commands without a record in the delivery log: there were too many at once.",
            &[],
        ),
        spool: register.spool(),
        log: register.log(),
        redis: is_sharing.then(|| register.redis()),
        automation: register.automation(),
        sources_suspended: sources.iter().map(|name| register.source(name)).collect(),
        sources_aside: sources.iter().map(|name| register.aside(name)).collect(),
    };
    let shards = register.shards(named.pools);
    let exposition = Exposition {
        handle: register.recorder.handle(),
        recorder: register.recorder,
        tallies: register.tallies,
        shards,
    };
    (meters, exposition)
}

pub(super) struct Register {
    recorder: PrometheusRecorder,
    tallies: Vec<(Arc<AtomicU64>, Counter)>,
}

impl Register {
    /// A counter of the exporter's own, which costs two atomic adds: for what is seldom told.
    fn counter(&self, name: &'static str, help: &'static str, labels: Labels<'_>) -> Counter {
        self.recorder
            .describe_counter(name.into(), None, help.into());
        self.recorder
            .register_counter(&key(name, labels), &METADATA)
    }

    /// A counter that is copied to the exporter's when it is shown: one atomic add.
    pub(super) fn tally(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
    ) -> Counter {
        let shown = self.counter(name, help, labels);
        let counted = Arc::new(AtomicU64::new(0));
        self.tallies.push((Arc::clone(&counted), shown));
        Counter::from_arc(counted)
    }

    fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.recorder.register_gauge(&key(name, &[]), &METADATA)
    }

    fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.recorder
            .describe_histogram(name.into(), None, help.into());
        self.recorder.register_histogram(&key(name, &[]), &METADATA)
    }

    fn source(&self, name: &str) -> Gauge {
        let help =
            "1 while the egress source is suspended: not on this host, or without its proxy.";
        self.gauge_of_source("posthaste_source_suspended", help, name)
    }

    fn aside(&self, name: &str) -> (Gauge, Counter) {
        let help =
            "Sites at which the egress source is aside: it was refused there for its own sake.";
        let gauge = self.gauge_of_source("posthaste_source_aside_sites", help, name);
        let metric = "posthaste_source_asides_total";
        let help = "Times the egress source stepped aside at a site.";
        self.recorder
            .describe_counter(metric.into(), None, help.into());
        let labels = vec![Label::new("source", name.to_owned())];
        let key = Key::from_parts(metric, labels);
        let counter = self.recorder.register_counter(&key, &METADATA);
        counter.absolute(0);
        (gauge, counter)
    }

    fn gauge_of_source(&self, metric: &'static str, help: &'static str, name: &str) -> Gauge {
        let labels = vec![Label::new("source", name.to_owned())];
        self.gauge_of(metric, help, labels)
    }

    fn gauge_of(&self, metric: &'static str, help: &'static str, labels: Vec<Label>) -> Gauge {
        let gauge = gauge_of(&self.recorder, metric, help, labels);
        gauge.set(0.0);
        gauge
    }

    fn pool(&self, name: &str) -> PoolMeters {
        let label = || Label::new("pool", name.to_owned());
        let metric = "posthaste_pool_recipients_total";
        let help = "The same as posthaste_recipients_total, by the pool that they left by.";
        self.recorder
            .describe_counter(metric.into(), None, help.into());
        let fate = |outcome| {
            let labels = vec![label(), Label::new("outcome", outcome)];
            let key = Key::from_parts(metric, labels);
            self.recorder.register_counter(&key, &METADATA)
        };
        PoolMeters {
            fates: FateMeters(FATES.map(fate)),
            waiting: self.gauge_of(
                "posthaste_pool_waiting",
                "Entries that wait for a source of the pool.",
                vec![label()],
            ),
        }
    }

    fn info(&self, mode: Mode) {
        let mode = match mode {
            Mode::Commit => "commit",
            Mode::Relaxed => "relaxed",
        };
        let infos = [
            (
                "posthaste_build_info",
                "1, labelled with the version that runs.",
                ("version", env!("CARGO_PKG_VERSION")),
            ),
            (
                "posthaste_durability_info",
                "1, labelled with what a 250 means: commit (past a power cut) or relaxed (past the process only).",
                ("mode", mode),
            ),
        ];
        for (name, help, label) in infos {
            self.recorder.describe_gauge(name.into(), None, help.into());
            let gauge = self
                .recorder
                .register_gauge(&key(name, &[label]), &METADATA);
            gauge.set(1.0);
        }
    }

    fn spool(&mut self) -> SpoolMeters {
        let spool = SpoolMeters {
            commit_seconds: self.histogram(
                "posthaste_spool_commit_seconds",
                "Time from the submission of a change to its being durable.",
            ),
            commits: self.tally(
                "posthaste_spool_commits_total",
                "Batches the spool has written.",
                &[],
            ),
            healthy: self.gauge(
                "posthaste_spool_healthy",
                "1 while the spool takes messages, 0 after a failed sync.",
            ),
            free_octets: self.gauge(
                "posthaste_spool_free_bytes",
                "Free octets of the spool's disk.",
            ),
            events_waiting: self.gauge(
                "posthaste_spool_events_waiting",
                "Delivery records in the spool that the log has not passed.",
            ),
            held_octets: self.gauge(
                "posthaste_spool_memory_bytes",
                "Octets of memory that the store holds: rows in no file yet, cached blocks, indices.",
            ),
        };
        spool.healthy.set(1.0);
        spool
    }

    fn log(&mut self) -> LogMeters {
        let log = LogMeters {
            lines: self.tally(
                "posthaste_log_lines_total",
                "Delivery records taken by the log.",
                &[],
            ),
            octets: self.tally(
                "posthaste_log_bytes_total",
                "Octets of the delivery records taken by the log.",
                &[],
            ),
            rotations: self.tally(
                "posthaste_log_rotations_total",
                "Log files rotated.",
                &[],
            ),
            errors: self.tally(
                "posthaste_log_errors_total",
                "Tries to write or sync the log that failed; each is made again.",
                &[],
            ),
            writable: self.gauge(
                "posthaste_log_writable",
                "1, or 0 while the log cannot be written.",
            ),
            lag_seconds: self.gauge(
                "posthaste_log_lag_seconds",
                "Age of the oldest delivery record taken by the log that is not known to be on disk.",
            ),
        };
        log.writable.set(1.0);
        log
    }

    fn redis(&self) -> RedisMeters {
        RedisMeters {
            up: self.gauge(
                "posthaste_redis_up",
                "1, or 0 while Redis is lost and shared limits go on without it.",
            ),
            lag_seconds: self.gauge(
                "posthaste_redis_lag_seconds",
                "How long the last answer of Redis took.",
            ),
            silence_seconds: self.gauge(
                "posthaste_redis_silence_seconds",
                "Time since that was asked of Redis which was answered last.",
            ),
            lease_age_seconds: self.gauge(
                "posthaste_redis_lease_age_seconds",
                "Age of the oldest lease of a shared limit that is to be renewed.",
            ),
            questions: self.gauge(
                "posthaste_redis_questions",
                "Questions to Redis without an answer so far.",
            ),
        }
    }

    fn shards(&self, pools: &[&str]) -> ShardMeters {
        let attempts = |outcome| {
            self.counter(
                "posthaste_recipients_total",
                "What became of attempts, a recipient each, by outcome.",
                &[("outcome", outcome)],
            )
        };
        ShardMeters {
            fates: FateMeters(FATES.map(attempts)),
            pools: pools.iter().map(|name| self.pool(name)).collect(),
            forwarded: self.counter(
                "posthaste_forwarded_total",
                "Work handed from one shard to another.",
                &[],
            ),
            unreadable: self.counter(
                "posthaste_unreadable_total",
                "Messages that could not be read from the spool; each is tried again.",
                &[],
            ),
            queued: self.gauge(
                "posthaste_queue_entries",
                "Entries queued: one message with its recipients of one domain each.",
            ),
            held_octets: self.gauge(
                "posthaste_held_bytes",
                "Octets of messages held in memory for delivery.",
            ),
            connections: self.gauge(
                "posthaste_outbound_connections",
                "Outbound SMTP connections at this moment.",
            ),
            tls_barred: self.gauge(
                "posthaste_tls_required_entries",
                "Entries that wait because shaping requires TLS for them, which this build does not speak.",
            ),
            silent: self.counter(
                "posthaste_silent_shards_total",
                "Shards that did not answer a scrape in time; their last numbers were shown.",
                &[],
            ),
        }
    }
}

fn gauge_of(
    recorder: &PrometheusRecorder,
    metric: &'static str,
    help: &'static str,
    labels: Vec<Label>,
) -> Gauge {
    recorder.describe_gauge(metric.into(), None, help.into());
    recorder.register_gauge(&Key::from_parts(metric, labels), &METADATA)
}

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let labels = labels.iter().map(|(name, value)| Label::new(*name, *value));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use posthaste_core::dispatch::PoolCounters;

    use super::*;

    #[test]
    fn two_nodes_of_a_process_count_apart() {
        let (one, shown_one) = meters(Mode::Commit);
        let (other, shown_other) = meters(Mode::Relaxed);
        one.messages_accepted.increment(3);
        other.clone().messages_accepted.increment(4);
        one.message_refused(MessageRefusal::Spool);
        one.connection_refused(ConnectionRefusal::Client);
        let text = shown_one.render();
        assert!(
            text.contains("\nposthaste_messages_accepted_total 3\n"),
            "{text}"
        );
        assert!(text.contains("posthaste_messages_refused_total{reason=\"spool\"} 1\n"));
        assert!(text.contains("posthaste_connections_refused_total{reason=\"client\"} 1\n"));
        assert!(text.contains("posthaste_durability_info{mode=\"commit\"} 1\n"));
        let text = shown_other.render();
        assert!(text.contains("\nposthaste_messages_accepted_total 4\n"));
        assert!(text.contains("posthaste_durability_info{mode=\"relaxed\"} 1\n"));
    }

    #[test]
    fn latencies_fall_into_buckets() {
        let (meters, shown) = meters(Mode::Commit);
        meters.spool.commit_seconds.record(0.0002);
        meters.spool.commit_seconds.record(3.0);
        shown.upkeep();
        let text = shown.render();
        for line in [
            "posthaste_spool_commit_seconds_bucket{le=\"0.0001\"} 0\n",
            "posthaste_spool_commit_seconds_bucket{le=\"0.00025\"} 1\n",
            "posthaste_spool_commit_seconds_bucket{le=\"10\"} 2\n",
            "posthaste_spool_commit_seconds_count 2\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn each_metric_has_a_help_and_a_place_in_the_reference() {
        let reference = include_str!("../../../docs/observe.md");
        let named = Named {
            sources: &["a\"b"],
            pools: &["bulk"],
        };
        let (_meters, shown) = meters_with(Mode::Commit, named, true);
        let pools = vec![PoolCounters {
            waiting: 3,
            ..PoolCounters::default()
        }];
        shown.tell_shards(&Counters {
            pools,
            ..Counters::default()
        });
        shown.tell_source(&SourceFigures {
            source: "a",
            provider: "google",
            score: Some(990),
            warmup: Some((3, None, 7)),
        });
        let text = shown.render();
        let label = r#"posthaste_source_suspended{source="a\"b"} 0"#;
        assert!(text.contains(label), "{text}");
        let labels = r#"{source="a",provider="google"}"#;
        assert!(text.contains(&format!("posthaste_source_score{labels} 990\n")));
        assert!(
            text.contains(&format!("posthaste_warmup_allowance{labels} inf\n")),
            "{text}"
        );
        let waiting = "posthaste_pool_waiting{pool=\"bulk\"} 3\n";
        assert!(text.contains(waiting), "{text}");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut seen = 0;
        for name in names.filter_map(|rest| rest.split(' ').next()) {
            assert!(
                text.contains(&format!("# HELP {name} ")),
                "{name} has no help"
            );
            assert!(
                reference.contains(&format!("| `{name}` |")),
                "{name} is not in docs/observe.md"
            );
            seen += 1;
        }
        assert!(seen > 20, "{text}");
    }

    #[test]
    fn what_the_shards_count_never_goes_back() {
        let (_meters, shown) = meters(Mode::Commit);
        for (delivered, queued) in [(7, 5), (6, 4)] {
            shown.tell_shards(&Counters {
                delivered,
                queued,
                ..Counters::default()
            });
        }
        let text = shown.render();
        assert!(
            text.contains("posthaste_recipients_total{outcome=\"delivered\"} 7\n"),
            "{text}"
        );
        assert!(text.contains("posthaste_queue_entries 4\n"));
    }
}
