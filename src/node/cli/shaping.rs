//! `posthaste override`: what is laid over all shaping files of a running server.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::{Exit, print};
use super::ask::{Door, Method};
use super::table::{clock, plain, table};
use crate::config::parse_duration;

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
            OverrideAction::Set { .. } => {
                let until = time_of(&said["expires"]);
                format!("set until {until}{}\n", remark(said))
            }
            OverrideAction::Cancel { .. } => format!("cancelled{}\n", remark(said)),
        }
    })
}

fn remark(said: &Value) -> &'static str {
    if said["kept"] == false {
        ", but a restart would not know: the server's log says why"
    } else {
        ""
    }
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

pub(super) fn time_of(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".into(), clock)
}

pub(super) fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn list(said: &Value) -> String {
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
