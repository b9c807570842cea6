//! `posthaste queue`: asks the admin endpoint of a running server, and says why mail waits.

use clap::{Args, Subcommand};
use posthaste_core::words::{Domain, MessageId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::args::{Exit, print, tell};
use super::ask::{Door, Method};
use super::order::{BounceArgs, RequeueArgs, SuspendArgs, Whom, bounce, requeue, resume, suspend};
use super::table::{clock, plain, table};

/// Characters of a server's words about a trouble that a table shows.
const WHY_CHARS_MAX: usize = 160;
/// Recipients of a message that a table names.
const RECIPIENTS_NAMED_MAX: usize = 8;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste queue list --limit 20
  posthaste queue show 06E5M3V9T0000Z8Q4S6T1B2C3D
  posthaste queue list --tenant acme
  posthaste queue flush example.com
  posthaste queue suspend --tenant acme --for 2h --reason 'complaints'
  posthaste queue resume --tenant acme
  posthaste queue suspend --tenant acme --campaign spring --domain example.com
  posthaste queue bounce --campaign spring --reason 'sent by mistake' --yes
  posthaste queue requeue --domain example.com --reset-attempts --yes")]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    action: QueueAction,
    #[command(flatten)]
    door: Door,
}

#[derive(Subcommand)]
enum QueueAction {
    /// What waits, by domain, and why.
    List {
        /// Rows at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Mail of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// Mail of this campaign only.
        #[arg(long)]
        campaign: Option<String>,
        /// Mail to this domain only.
        #[arg(long)]
        domain: Option<String>,
    },
    /// What of one message waits, and why.
    Show { id: MessageId },
    /// Make all messages due at once, or those of one domain.
    Flush { domain: Option<String> },
    /// Let no mail of a tenant, a campaign, to a domain or of all these together leave for a time; it
    /// waits, and expires in time.
    Suspend(SuspendArgs),
    /// End a suspension before its time: name whom it names.
    Resume {
        #[command(flatten)]
        whom: Whom,
    },
    /// End queued mail of these for good.
    Bounce(BounceArgs),
    /// Try queued mail of these at once.
    Requeue(RequeueArgs),
}

pub(super) fn queue(arguments: &QueueArgs) -> Exit {
    let (post, path) = match &arguments.action {
        QueueAction::Suspend(further) => return suspend(further, &arguments.door),
        QueueAction::Resume { whom } => return resume(whom, &arguments.door),
        QueueAction::Bounce(further) => return bounce(further, &arguments.door),
        QueueAction::Requeue(further) => return requeue(further, &arguments.door),
        QueueAction::List { .. } => (false, "queue/v1".into()),
        QueueAction::Show { id } => (false, format!("message/v1/{id}")),
        QueueAction::Flush { domain: None } => (true, "flush/v1".into()),
        QueueAction::Flush { domain: Some(text) } => match Domain::parse(text) {
            // An address literal has brackets, which a query may hold only encoded.
            Ok(domain) => {
                let encoded = domain.as_str().replace('[', "%5B").replace(']', "%5D");
                (true, format!("flush/v1?domain={encoded}"))
            }
            Err(error) => {
                tell(&format!("posthaste: {text}: {error}\n"));
                return Exit::Usage;
            }
        },
    };
    let method = if post { Method::Post } else { Method::Get };
    let shown_max;
    let mut query = Vec::new();
    if let QueueAction::List {
        limit,
        tenant,
        campaign,
        domain,
    } = &arguments.action
    {
        shown_max = limit.to_string();
        query.push(("limit", &*shown_max));
        query.extend(tenant.as_deref().map(|name| ("tenant", name)));
        query.extend(campaign.as_deref().map(|name| ("campaign", name)));
        query.extend(domain.as_deref().map(|name| ("domain", name)));
    }
    match arguments.door.ask(method, &path, &query) {
        Ok(text) => {
            print(&shown(&arguments.action, &text, arguments.door.json));
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

/// A server of another version may answer otherwise: then its answer as it came.
fn shown(action: &QueueAction, text: &str, json: bool) -> String {
    let told = match action {
        _ if json => None,
        QueueAction::List { .. } => parsed(text).map(|answer| list(&answer)),
        QueueAction::Show { .. } => parsed(text).map(|answer| message(&answer)),
        QueueAction::Flush { domain: None } => Some("all queued mail is due\n".into()),
        QueueAction::Flush { domain: Some(name) } => {
            Some(format!("queued mail for {name} is due\n"))
        }
        QueueAction::Suspend(_)
        | QueueAction::Resume { .. }
        | QueueAction::Bounce(_)
        | QueueAction::Requeue(_) => None,
    };
    told.unwrap_or_else(|| format!("{}\n", text.trim_end()))
}

fn parsed<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[derive(Deserialize)]
struct QueueAnswer {
    queued: u64,
    domains: Vec<DomainRow>,
    lanes: Vec<LaneRow>,
    truncated: bool,
    silent_shards: Vec<u16>,
}

#[derive(Deserialize)]
struct DomainRow {
    domain: String,
    site: Option<String>,
    queued: u64,
    #[serde(flatten)]
    trouble: Trouble,
}

#[derive(Deserialize)]
struct LaneRow {
    site: String,
    ready: u64,
    in_flight: u64,
    connections: u64,
}

#[derive(Deserialize)]
struct MessageAnswer {
    id: String,
    received: String,
    work: Vec<WorkRow>,
    silent_shards: Vec<u16>,
}

#[derive(Deserialize)]
struct WorkRow {
    domain: String,
    recipients: Vec<u16>,
    attempts: u64,
    site: Option<String>,
    tenant: Option<String>,
    campaign: Option<String>,
    pool: Option<String>,
    #[serde(default)]
    pool_gone: Option<String>,
    #[serde(flatten)]
    trouble: Trouble,
}

/// A pause that lasts, and the last trouble.
#[derive(Deserialize)]
struct Trouble {
    paused_until: Option<String>,
    paused_seconds: Option<u64>,
    why: String,
    #[serde(default)]
    waits_for: String,
}

impl Trouble {
    /// Why it waits: the pause if there is one, else `otherwise`; then the last trouble.
    fn told(&self, otherwise: String) -> String {
        let mut text = match (&self.paused_until, self.paused_seconds) {
            (Some(until), Some(seconds)) => {
                format!("paused for {} (until {})", span(seconds), clock(until))
            }
            _ if !self.waits_for.is_empty() => format!("waits for {}", self.waits_for),
            _ => otherwise,
        };
        if !self.why.is_empty() {
            text.push_str("; last trouble: ");
            text.push_str(&shortened(&self.why));
        }
        text
    }
}

fn list(answer: &QueueAnswer) -> String {
    let mut out = String::new();
    if answer.domains.is_empty() && answer.queued == 0 {
        out.push_str("nothing is queued\n");
    } else {
        let mut lines = vec![["DOMAIN", "QUEUED", "SITE", "WAITS BECAUSE"].map(String::from)];
        lines.extend(answer.domains.iter().map(|row| {
            let site = row.site.clone().unwrap_or_else(|| "-".into());
            let why = row.trouble.told(progress(row, &answer.lanes));
            [row.domain.clone(), row.queued.to_string(), site, why]
        }));
        out.push_str(&table(&lines, 1));
        out.push_str(&format!("{} queued", answer.queued));
        if answer.truncated {
            out.push_str(&format!(
                "; the {} fullest domains are shown, --limit shows more",
                answer.domains.len()
            ));
        }
        out.push('\n');
    }
    out.push_str(&silence(&answer.silent_shards));
    out
}

/// What goes on where nothing is paused.
fn progress(row: &DomainRow, lanes: &[LaneRow]) -> String {
    let Some(site) = &row.site else {
        return "its route is looked up".into();
    };
    let lanes = || lanes.iter().filter(|lane| lane.site == *site);
    let sum = |of: fn(&LaneRow) -> u64| lanes().map(of).sum::<u64>();
    let (ready, in_flight) = (sum(|lane| lane.ready), sum(|lane| lane.in_flight));
    match (ready, in_flight, sum(|lane| lane.connections)) {
        (0, 0, _) => "the next attempt is not due".into(),
        (_, 0, 0) => "waits for a connection".into(),
        (_, 0, connections) => format!("{} being opened or idle", connections_text(connections)),
        (_, _, connections) => {
            format!(
                "being delivered: {in_flight} in flight on {}",
                connections_text(connections)
            )
        }
    }
}

fn connections_text(number: u64) -> String {
    match number {
        1 => "1 connection".into(),
        _ => format!("{number} connections"),
    }
}

fn message(answer: &MessageAnswer) -> String {
    let mut out = format!("{} received {}\n", answer.id, clock(&answer.received));
    // All work of a message has the same.
    if let Some(row) = answer.work.first() {
        let labels = [
            ("tenant", &row.tenant),
            ("campaign", &row.campaign),
            ("pool", &row.pool),
        ];
        let named = labels.iter().filter_map(|(label, name)| {
            let name = name.as_deref()?;
            Some(format!("{label} {}", plain(name)))
        });
        let mut named = named.collect::<Vec<_>>().join(", ");
        if let Some(gone) = &row.pool_gone {
            named.push_str(&format!(
                " (its label says {}, which there is not)",
                plain(gone)
            ));
        }
        if !named.is_empty() {
            out.push_str(&format!("{named}\n"));
        }
    }
    let header = ["DOMAIN", "ATTEMPTS", "RECIPIENTS", "WAITS BECAUSE"];
    let mut lines = vec![header.map(String::from)];
    lines.extend(answer.work.iter().map(|row| {
        let otherwise = match (&row.site, row.attempts) {
            (None, _) => "its route is looked up",
            (Some(_), 0) => "its first attempt is under way or next in line",
            (Some(_), _) => "the next attempt is not due, or under way",
        };
        let why = row.trouble.told(otherwise.into());
        let recipients = numbers(&row.recipients);
        [
            row.domain.clone(),
            row.attempts.to_string(),
            recipients,
            why,
        ]
    }));
    out.push_str(&table(&lines, 1));
    out.push_str(&silence(&answer.silent_shards));
    out
}

/// Places in the envelope, counted from 1 as people do.
fn numbers(recipients: &[u16]) -> String {
    let named = recipients.iter().take(RECIPIENTS_NAMED_MAX);
    let named: Vec<String> = named.map(|n| format!("#{}", u32::from(*n) + 1)).collect();
    match recipients.len().saturating_sub(RECIPIENTS_NAMED_MAX) {
        0 => named.join(" "),
        more => format!("{} and {more} more", named.join(" ")),
    }
}

fn silence(shards: &[u16]) -> String {
    if shards.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = shards.iter().map(u16::to_string).collect();
    format!(
        "no answer from shard {}: what it holds is missing here\n",
        numbers.join(", ")
    )
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= WHY_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(WHY_CHARS_MAX).chain(['…']).collect()
}

/// The two largest units: `45s`, `4m 10s`, `2h 5m`, `3d 4h`.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: QueueAction = QueueAction::List {
        limit: 100,
        tenant: None,
        campaign: None,
        domain: None,
    };

    #[test]
    fn a_list_says_why_mail_waits() {
        let text = r#"{"queued":1236,"truncated":true,"silent_shards":[2],"domains":[
            {"domain":"example.com","site":"mx.example.com","queued":1200,
             "paused_until":"2026-11-24T09:30:00.000042Z","paused_seconds":250,"why":"421 4.7.0 slow\u001b down"},
            {"domain":"b.example","site":"mx.b","queued":34,"paused_until":null,"paused_seconds":null,"why":""},
            {"domain":"d.example","site":"mx.d","queued":1,"paused_until":null,"paused_seconds":null,"why":"451 later"},
            {"domain":"c.example","site":null,"queued":1,"paused_until":null,"paused_seconds":null,"why":""}],
            "lanes":[{"site":"mx.b","shard":0,"ready":30,"in_flight":4,"connections":2},
                     {"site":"mx.b","shard":1,"ready":0,"in_flight":1,"connections":1}]}"#;
        let table = "\
DOMAIN       QUEUED  SITE            WAITS BECAUSE
example.com    1200  mx.example.com  paused for 4m 10s (until 2026-11-24 09:30:00 UTC); last trouble: 421 4.7.0 slow? down
b.example        34  mx.b            being delivered: 5 in flight on 3 connections
d.example         1  mx.d            the next attempt is not due; last trouble: 451 later
c.example         1  -               its route is looked up
1236 queued; the 4 fullest domains are shown, --limit shows more
no answer from shard 2: what it holds is missing here
";
        assert_eq!(shown(&LIST, text, false), table);
        assert_eq!(shown(&LIST, text, true), format!("{text}\n"));
        let empty = r#"{"queued":0,"truncated":false,"silent_shards":[],"domains":[],"lanes":[]}"#;
        assert_eq!(shown(&LIST, empty, false), "nothing is queued\n");
        assert_eq!(shown(&LIST, "[1]", false), "[1]\n");
    }

    #[test]
    fn a_message_says_what_of_it_waits() {
        let text = r#"{"id":"06E5","received":"2026-11-24T09:30:00.000000Z","silent_shards":[],"work":[
            {"domain":"example.com","recipients":[0,1,2,3,4,5,6,7,8,9],"attempts":3,"shard":1,"site":"mx",
             "paused_until":null,"paused_seconds":null,"why":"connect: refused",
             "tenant":"acme","campaign":null,"pool":"default","pool_gone":"warm"}]}"#;
        let id = MessageId::from_u128(1);
        let table = "\
06E5 received 2026-11-24 09:30:00 UTC
tenant acme, pool default (its label says warm, which there is not)
DOMAIN       ATTEMPTS  RECIPIENTS                          WAITS BECAUSE
example.com         3  #1 #2 #3 #4 #5 #6 #7 #8 and 2 more  the next attempt is not due, or under way; last trouble: connect: refused
";
        assert_eq!(shown(&QueueAction::Show { id }, text, false), table);
    }

    #[test]
    fn spans_and_errors_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (250, "4m 10s"),
            (7500, "2h 5m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(
            shortened(&"ä".repeat(200)).chars().count(),
            WHY_CHARS_MAX + 1
        );
    }
}
