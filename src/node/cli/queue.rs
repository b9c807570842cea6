//! `posthaste queue`: asks the admin endpoint of a running server.

use std::time::Duration;

use clap::{Args, Subcommand};
use posthaste_core::words::{Domain, MessageId};
use serde_json::Value;

use super::args::{Exit, print, tell};

const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of an answer that are read.
const ANSWER_MAX: u64 = 64 << 20;

#[derive(Args)]
#[command(after_help = "Examples:
  posthaste queue list --limit 20
  posthaste queue show 06E5M3V9T0000Z8Q4S6T1B2C3D
  posthaste queue flush example.com")]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    action: QueueAction,
    /// Where the server answers HTTP.
    #[arg(
        long,
        global = true,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8000"
    )]
    http: String,
    /// Token of the admin endpoint.
    #[arg(
        long,
        global = true,
        env = "POSTHASTE_HTTP_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum QueueAction {
    /// What waits, by site and domain.
    List {
        /// Rows at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One message and the state of each recipient.
    Show { id: MessageId },
    /// Make all messages due at once, or those of one domain.
    Flush { domain: Option<String> },
}

pub(super) fn queue(arguments: &QueueArgs) -> Exit {
    let (post, path) = match &arguments.action {
        QueueAction::List { limit } => (false, format!("queue/v1?limit={limit}")),
        QueueAction::Show { id } => (false, format!("message/v1/{id}")),
        QueueAction::Flush { domain: None } => (true, "flush/v1".into()),
        QueueAction::Flush { domain: Some(text) } => match Domain::parse(text) {
            Ok(domain) => (true, format!("flush/v1?domain={domain}")),
            Err(error) => {
                tell(&format!("posthaste: {text}: {error}\n"));
                return Exit::Usage;
            }
        },
    };
    let url = format!("http://{}/api/admin/{path}", arguments.http);
    match ask(&url, post, arguments.token.as_deref()) {
        Ok((200..=299, text)) => {
            print(&shown(&text, arguments.json));
            Exit::Ok
        }
        Ok((status, text)) => {
            tell(&format!(
                "posthaste: {url}: status {status}: {}\n",
                text.trim()
            ));
            match status {
                401 | 403 => Exit::NoPermission,
                404 => Exit::DataError,
                _ => Exit::Unavailable,
            }
        }
        Err(error) => {
            tell(&format!("posthaste: {url}: {error}\n"));
            Exit::Unavailable
        }
    }
}

fn ask(url: &str, post: bool, token: Option<&str>) -> Result<(u16, String), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut answer = if post {
        let request = agent.post(url);
        match &bearer {
            Some(bearer) => request.header("Authorization", bearer).send_empty()?,
            None => request.send_empty()?,
        }
    } else {
        let request = agent.get(url);
        match &bearer {
            Some(bearer) => request.header("Authorization", bearer).call()?,
            None => request.call()?,
        }
    };
    let status = answer.status().as_u16();
    let text = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_MAX)
        .read_to_string()?;
    Ok((status, text))
}

/// Rows as a table, an object as one field a line, anything else as it came.
fn shown(text: &str, json: bool) -> String {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return format!("{}\n", text.trim_end());
    };
    if json {
        return format!("{value}\n");
    }
    let rows = value.get("rows").unwrap_or(&value);
    match rows {
        Value::Array(rows) => table(rows),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name:<16} {}\n", cell(Some(value))))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{}\n", cell(Some(rows)))
        }
    }
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        return "nothing is queued\n".into();
    };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut lines = vec![names.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(
        rows.iter()
            .map(|row| names.iter().map(|name| cell(row.get(name))).collect()),
    );
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text:<width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table() {
        let text =
            r#"{"rows":[{"domain":"example.com","ready":12},{"domain":"b.example","ready":null}]}"#;
        assert_eq!(
            shown(text, false),
            "domain       ready\nexample.com  12\nb.example    -\n"
        );
        assert_eq!(shown("{\"rows\":[]}", false), "nothing is queued\n");
        assert_eq!(shown("[1]", true), "[1]\n");
    }
}
