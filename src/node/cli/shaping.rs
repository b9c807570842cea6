//! `posthaste explain` and `posthaste override`: what a running server's shaping says, and why.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::{Exit, print};
use super::ask::{Door, Method};
use super::table::{clock, plain, table};
use crate::config::parse_duration;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste explain example.com
  posthaste explain example.com --tenant acme --campaign spring
  posthaste explain example.com --source mta1 --json")]
pub(super) struct ExplainArgs {
    domain: String,
    /// From this egress source.
    #[arg(long)]
    source: Option<String>,
    /// For this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// For this campaign.
    #[arg(long)]
    campaign: Option<String>,
    /// Show every value, not only those that a file of yours or an override set.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    door: Door,
}

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste override set site mx.example.com max_message_rate 10/s --for 2h --reason 'they asked'
  posthaste override set default '' connection_limit 5 --for 1d
  posthaste override cancel site mx.example.com max_message_rate
  posthaste override list")]
pub(super) struct OverrideArgs {
    #[command(subcommand)]
    action: OverrideAction,
    #[command(flatten)]
    door: Door,
}

#[derive(Subcommand)]
enum OverrideAction {
    /// What holds, until when and why.
    List,
    /// Set one over all files, until it expires.
    Set {
        #[command(flatten)]
        target: TargetArgs,
        value: String,
        /// How long it holds: 90s, 2h, 1d.
        #[arg(long = "for", value_name = "2h", value_parser = time)]
        time: Duration,
        /// For those who wonder later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take one back.
    Cancel {
        #[command(flatten)]
        target: TargetArgs,
    },
}

/// What an override is about.
#[derive(Args)]
struct TargetArgs {
    /// default, provider, site, domain, source, tenant or campaign.
    kind: String,
    /// Its name; empty for the default.
    name: String,
    /// As a shaping file names it.
    key: String,
    /// From this egress source only.
    #[arg(long)]
    source: Option<String>,
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time such as 90s, 2h or 1d is wanted".into())
}

pub(super) fn explain(arguments: &ExplainArgs) -> Exit {
    let mut query = vec![("domain", &*arguments.domain)];
    query.extend(arguments.source.as_deref().map(|source| ("source", source)));
    query.extend(arguments.tenant.as_deref().map(|tenant| ("tenant", tenant)));
    query.extend(arguments.campaign.as_deref().map(|name| ("campaign", name)));
    let answer = arguments
        .door
        .ask(Method::Get, "shaping/explain/v1", &query);
    show(answer, arguments.door.json, |said| {
        explanation(said, arguments.all)
    })
}

pub(super) fn overrides(arguments: &OverrideArgs) -> Exit {
    let seconds;
    let mut query = Vec::new();
    let method = match &arguments.action {
        OverrideAction::List => Method::Get,
        OverrideAction::Set {
            target,
            value,
            time,
            reason,
        } => {
            seconds = time.as_secs().to_string();
            target.tell(&mut query);
            query.extend([
                ("value", &**value),
                ("seconds", &*seconds),
                ("reason", &**reason),
            ]);
            Method::Post
        }
        OverrideAction::Cancel { target } => {
            target.tell(&mut query);
            Method::Delete
        }
    };
    let answer = arguments.door.ask(method, "shaping/override/v1", &query);
    show(answer, arguments.door.json, |said| {
        match &arguments.action {
            OverrideAction::List => list(said),
            OverrideAction::Set { .. } => format!("set until {}\n", time_of(&said["expires"])),
            OverrideAction::Cancel { .. } => "cancelled\n".into(),
        }
    })
}

impl TargetArgs {
    fn tell<'a>(&'a self, query: &mut Vec<(&'static str, &'a str)>) {
        query.extend([
            ("kind", &*self.kind),
            ("name", &*self.name),
            ("key", &*self.key),
        ]);
        query.extend(self.source.as_deref().map(|source| ("source", source)));
    }
}

pub(super) fn show(
    answer: Result<String, Exit>,
    json: bool,
    told: impl FnOnce(&Value) -> String,
) -> Exit {
    let text = match answer {
        Ok(text) => text,
        Err(exit) => return exit,
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(said) if !json => print(&told(&said)),
        Ok(_) | Err(_) => print(&format!("{}\n", text.trim_end())),
    }
    Exit::Ok
}

pub(super) fn text_of(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

fn time_of(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".into(), clock)
}

pub(super) fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn names(value: &Value) -> String {
    let names: Vec<String> = rows(value).map(text_of).collect();
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}

/// Head, what waits, limits, overrides, values.
fn explanation(said: &Value, all: bool) -> String {
    let mut out = format!(
        "{}\n  site       {}\n  MX hosts   {}\n  providers  {}\n  source     {}\n  tenant     {}\n  campaign   {}\n",
        text_of(&said["domain"]),
        text_of(&said["site"]),
        names(&said["mx_hosts"]),
        names(&said["providers"]),
        text_of(&said["source"]),
        text_of(&said["tenant"]),
        text_of(&said["campaign"]),
    );
    if said["own_lane"] == true {
        out.push_str(
            "  its rules are not all of its site's, so that its mail has a lane of its own\n",
        );
    }
    out.push_str(&gates(said));
    out.push('\n');
    out.push_str(&lanes(said));
    out.push_str(&sources(said));
    let header = ["LIMIT", "AMOUNT", "USED", "NEXT PERMIT", "SET BY"];
    let mut lines = vec![header.map(String::from)];
    lines.extend(rows(&said["limits"]).map(|row| {
        [
            text_of(&row["limit"]),
            text_of(&row["amount"]),
            text_of(&row["used"]),
            row["next_permit"]
                .as_str()
                .map_or_else(|| "now".into(), clock),
            text_of(&row["place"]),
        ]
    }));
    out.push_str(&table(&lines, 1));
    if rows(&said["overrides"]).next().is_some() {
        out.push('\n');
        out.push_str(&list(said));
    }
    out.push('\n');
    out.push_str(&values(said, all));
    out
}

/// What lets mail of the tenant or the campaign go at all.
fn gates(said: &Value) -> String {
    let mut out = String::new();
    for held in rows(&said["suspended"]) {
        out.push_str(&format!("  suspended  {}\n", text_of(held)));
    }
    for row in rows(&said["windows"]) {
        let state = if row["open"] == true {
            "open until"
        } else {
            "closed until"
        };
        out.push_str(&format!(
            "  window     of {}: {state} {}, by {}\n",
            text_of(&row["window"]),
            time_of(&row["until"]),
            text_of(&row["place"]),
        ));
    }
    out
}

/// Of a lane's work, that of each tenant and campaign.
fn strands(lane: &Value) -> String {
    let name = |value: &Value| value.as_str().map_or_else(|| "default".into(), plain);
    let mut out = String::new();
    for row in rows(&lane["strands"]) {
        let waits = match row["waits_for"].as_str() {
            Some(limits) if !limits.is_empty() => format!("; waits for {}", plain(limits)),
            _ => String::new(),
        };
        out.push_str(&format!(
            "  tenant {}, campaign {}: {} ready{waits}\n",
            name(&row["tenant"]),
            name(&row["campaign"]),
            row["ready"].as_u64().unwrap_or(0),
        ));
    }
    out
}

fn lanes(said: &Value) -> String {
    let mut out = String::new();
    for lane in rows(&said["lanes"]) {
        let number = |key: &str| lane[key].as_u64().unwrap_or(0);
        let waits = match (lane["paused_until"].as_str(), lane["waits_for"].as_str()) {
            (Some(until), _) => format!("paused until {}: {}", clock(until), text_of(&lane["why"])),
            (None, Some(limits)) if !limits.is_empty() => format!("waits for {}", plain(limits)),
            _ => "waits for nothing".into(),
        };
        let from = lane["source"]
            .as_str()
            .map(|source| format!(", {}", plain(source)));
        out.push_str(&format!(
            "shard {}{}: {} ready, {} in flight on {} connections; {waits}\n",
            number("shard"),
            from.unwrap_or_default(),
            number("ready"),
            number("in_flight"),
            number("connections"),
        ));
        out.push_str(&strands(lane));
    }
    if out.is_empty() {
        out.push_str("nothing of this site is under way or ready\n");
    }
    out.push('\n');
    out
}

/// How the sources of the pools stand there.
fn sources(said: &Value) -> String {
    let header = ["POOL", "SOURCE", "WEIGHT", "STANDS", "SCORE", "WARM-UP"];
    let mut lines = vec![header.map(String::from)];
    lines.extend(rows(&said["sources"]).map(|row| {
        let number = |value: &Value| value.as_u64().map_or_else(|| "-".into(), |n| n.to_string());
        let standing = match (row["until"].as_str(), row["fault"].as_str()) {
            (Some(until), Some(fault)) => format!("aside until {} for {fault}", clock(until)),
            (None, Some(fault)) => format!("tried again after {fault}"),
            _ => match row["why"].as_str() {
                Some(why) => format!("suspended: {}", plain(why)),
                None => text_of(&row["standing"]),
            },
        };
        let warmup = &row["warmup"];
        let warmup = match (&warmup["cap_today"], &warmup["day"]) {
            (Value::Number(cap), day) => {
                format!(
                    "day {}: {} of {cap}",
                    number(day),
                    number(&warmup["sent_today"])
                )
            }
            _ => "warm".into(),
        };
        let weight = match row["weight_off_hours"].as_u64() {
            Some(off) => format!("{}, off hours {off}", number(&row["weight"])),
            None => number(&row["weight"]),
        };
        [
            text_of(&row["pool"]),
            text_of(&row["source"]),
            weight,
            standing,
            number(&row["score"]),
            warmup,
        ]
    }));
    if lines.len() == 1 {
        return String::new();
    }
    let mut out = table(&lines, 2);
    out.push('\n');
    out
}

fn values(said: &Value, all: bool) -> String {
    let mut lines = vec![["VALUE", "IS", "SET BY"].map(String::from)];
    let is_shown = |row: &&Value| all || row["layer"] != "built-in";
    lines.extend(rows(&said["values"]).filter(is_shown).map(|row| {
        [
            text_of(&row["key"]),
            text_of(&row["value"]),
            text_of(&row["place"]),
        ]
    }));
    if lines.len() == 1 {
        return "all values are the built-in ones; --all shows them\n".into();
    }
    table(&lines, 1)
}

fn list(said: &Value) -> String {
    let header = ["OVERRIDE", "KEY", "VALUE", "UNTIL", "BY", "REASON"];
    let mut lines = vec![header.map(String::from)];
    lines.extend(rows(&said["overrides"]).map(|row| {
        [
            text_of(&row["target"]),
            text_of(&row["key"]),
            text_of(&row["value"]),
            time_of(&row["expires"]),
            text_of(&row["by"]),
            text_of(&row["reason"]),
        ]
    }));
    if lines.len() == 1 {
        return "no override holds\n".into();
    }
    table(&lines, 2)
}
