//! `posthaste automation`: what rules have seen and done on a running server.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::Exit;
use super::ask::{Door, Method};
use super::shaping::{rows, show, text_of};
use super::table::table;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste automation list
  posthaste automation list --json
  posthaste override list                           what holds by rules and operators, and how to end it")]
pub(super) struct AutomationArgs {
    #[command(subcommand)]
    action: AutomationAction,
    #[command(flatten)]
    door: Door,
}

#[derive(Subcommand)]
enum AutomationAction {
    /// By rule and whom: how often it matched, what it did or would have done, and until when that holds.
    List,
}

pub(super) fn automation(arguments: &AutomationArgs) -> Exit {
    let AutomationAction::List = arguments.action;
    let answer = arguments.door.ask(Method::Get, "automation/v1", &[]);
    show(answer, arguments.door.json, list)
}

fn list(said: &Value) -> String {
    let mut text = String::new();
    let mut summary =
        vec![["MODE", "WHOM", "MATCHES", "LATELY", "LAST", "UNTIL"].map(String::from)];
    for row in rows(&said["automation"]) {
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        let lately = format!("{} of {}", number("lately"), text_of(&row["trigger"]));
        summary.push([
            text_of(&row["mode"]),
            text_of(&row["whom"]),
            number("matches").to_string(),
            lately,
            text_of(&row["last"]),
            text_of(&row["until"]),
        ]);
    }
    if summary.len() == 1 {
        return "no rule has matched anything lately\n".into();
    }
    for (line, row) in table(&summary, 2)
        .lines()
        .zip(core::iter::once(&Value::Null).chain(rows(&said["automation"])))
    {
        text.push_str(line);
        text.push('\n');
        if row.is_null() {
            continue;
        }
        let was_done = match row["mode"].as_str() {
            Some("enforce") => "did",
            _ => "would",
        };
        for done in rows(&row["done"]) {
            text.push_str(&format!("    {was_done}: {}\n", text_of(done)));
        }
        text.push_str(&format!("    rule: {}\n", text_of(&row["rule"])));
        text.push_str(&format!("    reply: {}\n", text_of(&row["reply"])));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_what_was_done_by_which_rule_and_why() {
        let said = json!({ "automation": [{
            "rule": "google.toml:12:1", "whom": "a at mx.example", "mode": "enforce", "trigger": "3/10m",
            "matches": 7, "lately": 3, "last": "2026-11-29T07:00:00Z", "reply": "421 4.7.28 slow down",
            "done": ["suspended = true for site mx.example from a"], "until": null,
        }] });
        let text = list(&said);
        for part in [
            "a at mx.example",
            "3 of 3/10m",
            "did: suspended = true",
            "rule: google.toml:12:1",
            "reply: 421 4.7.28 slow down",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(list(&json!({})), "no rule has matched anything lately\n");
        let advice = said.to_string().replace("enforce", "advise");
        let advice: Value = serde_json::from_str(&advice).unwrap();
        assert!(list(&advice).contains("would: suspended"));
    }
}
