//! The admin endpoint of a running server, asked from the command line.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::args::{Exit, tell};
use super::table::plain;

/// The endpoint waits for shards half as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of an answer that are read.
const ANSWER_MAX: u64 = 64 << 20;

/// Where to ask, and how the answer is shown.
#[derive(Args)]
pub(super) struct Door {
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
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

impl Door {
    /// The text of a good answer to `path`; of any other, what was told is told and the status is
    /// given.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<String, Exit> {
        let host = self.http.strip_prefix("http://").unwrap_or(&self.http);
        let url = format!("http://{}/api/admin/{path}", host.trim_end_matches('/'));
        match self.request(method, &url, query) {
            Ok((200..=299, text)) => Ok(text),
            Ok((status, text)) => {
                let error = error_of(&text);
                tell(&format!("posthaste: {url}: status {status}: {error}\n"));
                Err(match status {
                    400 => Exit::Usage,
                    401 | 403 => Exit::NoPermission,
                    404 => Exit::DataError,
                    _ => Exit::Unavailable,
                })
            }
            Err(error) => {
                tell(&format!("posthaste: {url}: {error}\n"));
                Err(Exit::Unavailable)
            }
        }
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        query: &[(&str, &str)],
    ) -> Result<(u16, String), ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers = bearer.as_deref();
        let mut answer = match method {
            Method::Get => with(agent.get(url), headers, query).call()?,
            Method::Delete => with(agent.delete(url), headers, query).call()?,
            Method::Post => with(agent.post(url), headers, query).send_empty()?,
        };
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_string()?;
        Ok((status, text))
    }
}

fn with<B>(
    request: ureq::RequestBuilder<B>,
    bearer: Option<&str>,
    query: &[(&str, &str)],
) -> ureq::RequestBuilder<B> {
    let request = request.query_pairs(query.iter().copied());
    match bearer {
        Some(bearer) => request.header("Authorization", bearer),
        None => request,
    }
}

fn error_of(text: &str) -> String {
    let value = serde_json::from_str::<Value>(text).ok();
    let error = value.as_ref().and_then(|value| value["error"].as_str());
    plain(error.unwrap_or_else(|| text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_an_error_is_told_and_anything_else_as_it_came() {
        assert_eq!(error_of(r#"{"error":"no such"}"#), "no such");
        assert_eq!(error_of("<html>\n"), "<html>");
    }
}
