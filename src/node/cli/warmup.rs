//! `posthaste warmup`: how far the young sources of a running server are.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::Exit;
use super::ask::{Door, Method};
use super::shaping::{rows, show, text_of};
use super::table::table;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste warmup status
  posthaste warmup status --json")]
pub(super) struct WarmupArgs {
    #[command(subcommand)]
    action: WarmupAction,
    #[command(flatten)]
    door: Door,
}

#[derive(Subcommand)]
enum WarmupAction {
    /// By source and provider: the day, and what of it is sent.
    Status,
}

pub(super) fn warmup(arguments: &WarmupArgs) -> Exit {
    let WarmupAction::Status = arguments.action;
    let answer = arguments.door.ask(Method::Get, "warmup/v1", &[]);
    show(answer, arguments.door.json, status)
}

fn status(said: &Value) -> String {
    let header = ["SOURCE", "PROVIDER", "DAY", "SENT TODAY", "OF"];
    let mut lines = vec![header.map(String::from)];
    lines.extend(rows(&said["warmups"]).map(|row| {
        let number = |key: &str| row[key].as_u64().map(|number| number.to_string());
        let day = match (number("day"), number("days")) {
            (Some(day), Some(days)) if row["warm"] == false => format!("{day} of {days}"),
            _ => "warm".into(),
        };
        [
            text_of(&row["source"]),
            text_of(&row["provider"]),
            day,
            number("sent_today").unwrap_or_else(|| "-".into()),
            number("cap_today").unwrap_or_else(|| "no bound".into()),
        ]
    }));
    if lines.len() == 1 {
        return "no young source has sent anything\n".into();
    }
    table(&lines, 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_warm_source_has_no_bound() {
        let row = |source: &str, cap: Value| {
            json!({
                "source": source, "provider": "google", "day": 3, "days": 20, "sent_today": 7,
                "cap_today": cap, "warm": cap.is_null(),
            })
        };
        let text = status(&json!({ "warmups": [row("a", json!(250)), row("b", Value::Null)] }));
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["a", "google", "3", "of", "20", "7", "250"]);
        assert_eq!(lines[2], ["b", "google", "warm", "7", "no", "bound"]);
        assert_eq!(status(&json!({})), "no young source has sent anything\n");
    }
}
