//! `posthaste source`: the egress sources of a running server, and how they stand.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::Exit;
use super::ask::{Door, Method};
use super::shaping::{rows, show, text_of};
use super::table::table;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste source list
  posthaste source list --json")]
pub(super) struct SourceArgs {
    #[command(subcommand)]
    action: SourceAction,
    #[command(flatten)]
    door: Door,
}

#[derive(Subcommand)]
enum SourceAction {
    /// As whom mail leaves: address, EHLO name, proxy, state, pools, scores and warm-up by provider.
    List,
}

pub(super) fn source(arguments: &SourceArgs) -> Exit {
    let SourceAction::List = arguments.action;
    let answer = arguments.door.ask(Method::Get, "source/v1", &[]);
    show(answer, arguments.door.json, list)
}

/// No column is set to the right.
const NO_NUMBERS: usize = usize::MAX;

fn list(said: &Value) -> String {
    let header = [
        "SOURCE", "ADDRESS", "EHLO", "PROXY", "STATE", "POOLS", "SCORES", "WARM-UP",
    ];
    let mut lines = vec![header.map(String::from)];
    lines.extend(rows(&said["sources"]).map(|row| {
        let state = match row["why"].as_str() {
            Some(_) => format!("{}: {}", text_of(&row["state"]), text_of(&row["why"])),
            None => text_of(&row["state"]),
        };
        [
            text_of(&row["source"]),
            text_of(&row["address"]),
            text_of(&row["ehlo_name"]),
            text_of(&row["proxy"]),
            state,
            joined(&row["pools"], |seat| {
                format!("{} {}", text_of(&seat["pool"]), number(&seat["weight"]))
            }),
            joined(&row["scores"], |of| {
                format!("{} {}", text_of(&of["provider"]), number(&of["score"]))
            }),
            joined(&row["warmups"], |of| {
                let day = match of["warm"] == true {
                    true => "warm".into(),
                    false => format!("day {}", number(&of["day"])),
                };
                format!("{} {day}", text_of(&of["provider"]))
            }),
        ]
    }));
    if lines.len() == 1 {
        return "no source is configured: the kernel chooses the address\n".into();
    }
    table(&lines, NO_NUMBERS)
}

fn joined(list: &Value, told: impl Fn(&Value) -> String) -> String {
    let texts: Vec<String> = rows(list).map(told).collect();
    if texts.is_empty() {
        return "-".into();
    }
    texts.join(", ")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_all_of_a_source() {
        let said = json!({ "sources": [
            { "source": "out1", "address": "192.0.2.1", "ehlo_name": "out1.example.com", "proxy": null,
              "state": "suspended", "why": "not on this host",
              "pools": [{ "pool": "default", "weight": 3 }, { "pool": "bulk", "weight": 1 }],
              "scores": [{ "provider": "google", "score": 870 }],
              "warmups": [{ "provider": "google", "day": 2, "warm": false },
                          { "provider": "others", "day": 20, "warm": true }] },
            { "source": "out2", "state": "in use", "pools": [] },
        ] });
        let text = list(&said);
        let line = text.lines().nth(1).unwrap();
        for part in [
            "out1.example.com",
            "suspended: not on this host",
            "default 3, bulk 1",
            "google 870",
            "google day 2, others warm",
        ] {
            assert!(line.contains(part), "{part}: {text}");
        }
        assert!(text.lines().nth(2).unwrap().contains("in use"), "{text}");
        assert!(list(&json!({})).starts_with("no source is configured"));
    }
}
