//! Keys of a load that are flags of `source`, under the same names. They are written as its command line, and its own parser says what
//! is wrong with them.

use crate::document::{Section, Wrong};
use crate::source;
use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use std::path::Path;

/// A list, or one text; names may have weights as on the command line.
const LISTS: [&str; 5] = ["domains", "sender", "tenant", "campaign", "source_address"];
const TEXTS: [&str; 7] = [
    "tenant_header",
    "campaign_header",
    "bdat_chunk",
    "auth",
    "auth_mechanism",
    "tls_name",
    "http_path",
];
/// Looked for beside the scenario.
const FILES: [&str; 2] = ["tls_ca", "http_body"];
const SWITCHES: [&str; 6] = [
    "no_pipelining",
    "bdat",
    "starttls",
    "tls",
    "tls_insecure",
    "http",
];
/// Given once for each element of its list.
const REPEATED: &str = "http_header";
const THREADS_MAX: u64 = 256;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    source: source::Options,
}

/// What a load says of its source.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) line: Vec<String>,
    pub(super) has_domains: bool,
    pub(super) is_http: bool,
}

impl Flags {
    /// Faults of theirs are put to the section.
    pub(super) fn read(section: &Section<'_>, folder: &Path) -> Self {
        let mut line = Vec::new();
        let mut say = |key: &str, value: &str| line.push(format!("{}={value}", flag(key)));
        let threads = section.count("threads", 1, 1..=THREADS_MAX);
        say("threads", &threads.to_string());
        for key in LISTS {
            let parts = section.texts(key);
            if !parts.is_empty() {
                say(key, &parts.join(","));
            }
        }
        for key in TEXTS {
            if let Some(text) = section.text(key) {
                say(key, &text);
            }
        }
        for key in FILES {
            if let Some(name) = section.text(key) {
                say(key, &folder.join(name).display().to_string());
            }
        }
        for text in section.texts(REPEATED) {
            say(REPEATED, &text);
        }
        for key in SWITCHES {
            if section.flag(key, false) {
                line.push(flag(key));
            }
        }
        let words = std::iter::once("source").chain(line.iter().map(String::as_str));
        match Line::try_parse_from(words) {
            Ok(made) => Self {
                has_domains: !section.texts("domains").is_empty(),
                is_http: made.source.http.http,
                line,
            },
            Err(error) => {
                section.refuse(key_of(&error), Wrong::Refused(text_of(&error)));
                Self::default()
            }
        }
    }
}

fn flag(key: &str) -> String {
    match key {
        "domains" => "--domain".to_owned(),
        _ => format!("--{}", key.replace('_', "-")),
    }
}

/// The key whose flag the parser complains of; where it names none, the load as a whole has its first one.
fn key_of(error: &clap::Error) -> &'static str {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(named)) => named,
        Some(ContextValue::Strings(named)) => named.first().map_or("", String::as_str),
        _ => "",
    };
    let named = named.split_whitespace().next().unwrap_or_default();
    let keys = LISTS.iter().chain(&TEXTS).chain(&FILES).chain(&SWITCHES);
    keys.chain([&REPEATED])
        .find(|key| flag(key) == named)
        .copied()
        .unwrap_or("messages")
}

/// Its first paragraph, on one line.
fn text_of(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
