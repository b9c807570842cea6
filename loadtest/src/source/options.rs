//! The command line of `source`, and its summary for a report. One per process.

use super::arrivals::Plan;
use super::mix::{self, Sizes};
use super::smtp::Mechanism;
use crate::quantity;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Messages of a run that nothing else bounds.
pub(crate) const MESSAGES: u64 = 50_000;

/// Send mail over many sessions and measure the answers
///
/// Closed loop by default: each session sends its next message as soon as the last one is answered. With --arrivals the start of each
/// message is fixed beforehand and latency counts from then, so that a slow server cannot hide its queue.
/// With PIPELINING offered, a message's body, its dot and the next envelope leave in one write. Messages carry `X-Load-Id` and
/// `X-Load-Time` for `posthaste-load sink`. A target outside loopback and private ranges is refused unless --i-own-this-target.
/// Ctrl-C ends early with a valid report. Exit code: 0 all accepted, 1 something was not, 2 could not run.
///
/// Examples:
///   posthaste-load source --to 127.0.0.1:2525 --messages 50000 --sessions 100 --per-connection 20 --size 10k
///   posthaste-load source --arrivals poisson:500/s --duration 30s --domain gmail.test=6,yahoo.test=4 --json > run1.jsonl
///   posthaste-load source --http --to 127.0.0.1:8000 --arrivals ramp:100..2000/s:60s --html run.html
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Server to load
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "HOST:PORT")]
    pub(crate) to: String,
    /// Messages to send in all [default: 50000, where neither --duration nor a plan with an end bounds the run]
    #[arg(long, value_name = "N")]
    pub(crate) messages: Option<u64>,
    /// Plan no message after so long; in a closed loop, start none
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    pub(crate) duration: Option<Duration>,
    /// Open loop: constant:500/s, poisson:500/s, ramp:100..2000/s:60s, step:100/s,10s;500/s,20s, burst:1000/10s or replay:FILE
    /// (one timestamp a line, or JSON lines with `timestamp`)
    #[arg(long, value_name = "PLAN", value_parser = Plan::parse)]
    pub(crate) arrivals: Option<Plan>,
    /// Short for --arrivals constant:N/s
    #[arg(long, value_name = "N/s", value_parser = Plan::constant, conflicts_with = "arrivals")]
    pub(crate) rate: Option<Plan>,
    /// Sessions held at once, over all threads
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) sessions: u32,
    /// Messages per connection before it is closed and opened anew; 0 for no limit
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) per_connection: u64,
    /// Size of a message, header and body: 10k, 1k..100k (even between), or a mix with weights such as 2k=7,20k..60k=3
    #[arg(long, default_value = "10k", value_name = "SIZES", value_parser = Sizes::parse)]
    pub(crate) size: Sizes,
    /// Recipients of each message: load0@DOMAIN, load1@DOMAIN, …
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) recipients: u32,
    /// Recipient domains; without weights, taken in turn from message to message
    #[arg(long, default_value = "sink.test", value_name = "NAME[=WEIGHT],…", value_delimiter = ',', value_parser = mix::name)]
    pub(crate) domain: Vec<(String, f64)>,
    /// Envelope senders, also in From
    #[arg(long, default_value = "source@load.test", value_name = "ADDRESS[=WEIGHT],…", value_delimiter = ',', value_parser = mix::name)]
    pub(crate) sender: Vec<(String, f64)>,
    /// Tenants, as a header field
    #[arg(long, value_name = "NAME[=WEIGHT],…", value_delimiter = ',', value_parser = mix::name)]
    pub(crate) tenant: Vec<(String, f64)>,
    /// Campaigns, as a header field
    #[arg(long, value_name = "NAME[=WEIGHT],…", value_delimiter = ',', value_parser = mix::name)]
    pub(crate) campaign: Vec<(String, f64)>,
    /// Name of the tenant's field
    #[arg(long, default_value = "X-Tenant", value_name = "FIELD", value_parser = field_name)]
    pub(crate) tenant_header: String,
    /// Name of the campaign's field
    #[arg(long, default_value = "X-Campaign", value_name = "FIELD", value_parser = field_name)]
    pub(crate) campaign_header: String,
    /// Threads, each with its share of the sessions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Addresses to connect from, in turn
    #[arg(long, value_name = "IP,…", value_delimiter = ',')]
    pub(crate) source_address: Vec<IpAddr>,
    /// Longest wait for a connect or any one answer; also how long after --duration a planned message may still start
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = quantity::duration)]
    pub(crate) timeout: Duration,
    /// Connections that may fail in a row before a session gives up
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) retries: u32,
    /// Print JSON lines in place of the table: the start, each interval, and at last the whole run
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the JSON lines to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write an HTML report of the run to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Length of the intervals that reports are made of
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Seed of the filler, the mixes and the arrivals
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// State that you may load a target outside loopback and private ranges
    #[arg(long)]
    pub(crate) i_own_this_target: bool,
    #[command(flatten)]
    pub(crate) smtp: SmtpOptions,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
    #[command(flatten)]
    pub(crate) http: HttpOptions,
}

/// How SMTP is spoken.
#[derive(clap::Args)]
#[command(next_help_heading = "SMTP")]
pub(crate) struct SmtpOptions {
    /// One command at a time, even where PIPELINING is offered
    #[arg(long)]
    pub(crate) no_pipelining: bool,
    /// BDAT in place of DATA (CHUNKING, RFC 3030)
    #[arg(long)]
    pub(crate) bdat: bool,
    /// Largest chunk; without it a message is one
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, requires = "bdat")]
    pub(crate) bdat_chunk: Option<usize>,
    /// Log in
    #[arg(long, value_name = "USER:PASSWORD", value_parser = quantity::credentials)]
    pub(crate) auth: Option<(String, String)>,
    /// How to log in
    #[arg(long, value_enum, default_value = "plain", value_name = "HOW")]
    pub(crate) auth_mechanism: Mechanism,
}

/// How TLS is met.
#[derive(clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// STARTTLS before anything else; a server that does not offer it fails
    #[arg(long, conflicts_with_all = ["tls", "http"])]
    pub(crate) starttls: bool,
    /// TLS from the first octet on (also HTTPS)
    #[arg(long)]
    pub(crate) tls: bool,
    /// Trust any certificate
    #[arg(long, conflicts_with = "tls_ca")]
    pub(crate) tls_insecure: bool,
    /// Trust what these certificates (PEM) sign, not the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Name the certificate must have [default: the host of --to]
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
}

/// How HTTP is spoken.
#[derive(clap::Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpOptions {
    /// Inject over HTTP in place of SMTP: POST with KumoMTA's body, 200 with `success_count` is success
    #[arg(long)]
    pub(crate) http: bool,
    /// Path to post to
    #[arg(long, default_value = "/api/inject/v1", value_name = "PATH", value_parser = line)]
    pub(crate) http_path: String,
    /// Body for another API, with {message} (escaped for a JSON string), {from}, {to}, {recipients}, {id}; any 2xx is success
    #[arg(long, value_name = "FILE", requires = "http")]
    pub(crate) http_body: Option<PathBuf>,
    /// Further field of the request, such as "Authorization: Bearer x"
    #[arg(long, value_name = "FIELD", value_parser = line, requires = "http")]
    pub(crate) http_header: Vec<String>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = quantity::duration(text)?;
    if (Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("an interval is between 50ms and 1h".to_owned())
    }
}

fn field_name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet == b'-' || octet.is_ascii_alphanumeric());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no field name; try X-Tenant"))
    }
}

fn line(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        Err("one line, please".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

impl Options {
    /// The plan of an open loop, however it was given.
    pub(crate) const fn plan(&self) -> Option<&Plan> {
        match &self.arrivals {
            Some(plan) => Some(plan),
            None => self.rate.as_ref(),
        }
    }

    /// What a reader of the report wants to know of how it was made; no secrets.
    pub(crate) fn summary(&self) -> Value {
        let names = |parts: &[(String, f64)]| -> Value {
            let weights: Vec<_> = parts
                .iter()
                .map(|(name, weight)| format!("{name}={weight}"))
                .collect();
            weights.join(",").into()
        };
        let transport = match (self.tls.starttls, self.tls.tls) {
            (true, _) => "STARTTLS",
            (_, true) => "TLS",
            _ => "plain",
        };
        json!({
            "to": self.to,
            "protocol": if self.http.http { "HTTP" } else { "SMTP" },
            "transport": transport,
            "arrivals": self.plan().map_or("closed loop", |plan| &plan.text),
            "messages": self.messages,
            "duration_s": self.duration.map(|duration| duration.as_secs_f64()),
            "sessions": self.sessions,
            "threads": self.threads,
            "per_connection": self.per_connection,
            "size": self.size.text(),
            "recipients": self.recipients,
            "domain": names(&self.domain),
            "sender": names(&self.sender),
            "tenant": names(&self.tenant),
            "campaign": names(&self.campaign),
            "pipelining": !self.smtp.no_pipelining,
            "bdat": self.smtp.bdat.then(|| self.smtp.bdat_chunk.map_or_else(|| "whole".to_owned(), |size| size.to_string())),
            "auth": self.smtp.auth.as_ref().map(|_| format!("{:?}", self.smtp.auth_mechanism).to_uppercase()),
            "source_address": self.source_address,
            "timeout_s": self.timeout.as_secs_f64(),
            "seed": self.seed,
        })
    }
}
