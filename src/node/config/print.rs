//! The table of knobs in print: a commented file that runs, and a reference page.

use std::fmt::Write as _;

use super::knobs::{KNOBS, Kind, Knob};
use super::value::{duration_text, size_text};

const WIDTH: usize = 96;

impl Kind {
    /// What a value of this kind is, with its unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Text => "text",
            Self::Path => "path",
            Self::Domain => "domain",
            Self::Mailbox => "user@domain",
            Self::Count { .. } => "number",
            Self::Share { .. } => "share",
            Self::Size { .. } => "size: B, KiB, MiB, GiB, TiB",
            Self::Duration { .. } => "duration: ms, s, m, h, d",
            Self::Choice(_) => "word",
            Self::Endpoint => "address:port",
            Self::Address => "address",
            Self::Shards => "\"all\", number or list of CPUs",
            Self::Addresses => "list of addresses",
            Self::Resolvers => "list of addresses, with or without port",
            Self::Networks => "list of networks (CIDR)",
            Self::NextHops => "list of host:port",
            Self::Paths => "list of paths",
            Self::RedisUrls => "list of URLs",
            Self::Delays { .. } => "list of durations: ms, s, m, h, d",
            Self::Names => "list of names",
            Self::Counts { .. } => "list of numbers",
            Self::Weekdays => "list of days",
        }
    }

    /// Smallest and largest value, or the words allowed.
    pub fn bound(&self) -> String {
        match self {
            Self::Count { min, max } | Self::Counts { min, max } => format!("{min} to {max}"),
            Self::Weekdays => "mon, tue, wed, thu, fri, sat, sun".into(),
            Self::Share { min, max } => format!("{min} to {max}"),
            Self::Size { min, max } => format!("{} to {}", size_text(*min), size_text(*max)),
            Self::Duration { min, max } | Self::Delays { min, max } => {
                let text = |seconds: u64| duration_text(seconds * 1000);
                format!("{} to {}", text(*min), text(*max))
            }
            Self::Choice(words) => words.join(", "),
            Self::Networks => "no /0".into(),
            Self::Shards => "1 to 1024".into(),
            Self::Bool
            | Self::Text
            | Self::Path
            | Self::Domain
            | Self::Mailbox
            | Self::Endpoint
            | Self::Address
            | Self::Addresses
            | Self::Resolvers
            | Self::NextHops
            | Self::Paths
            | Self::Names
            | Self::RedisUrls => "—".into(),
        }
    }
}

/// A configuration file with every knob at its default; repeated sections are commented out.
pub fn print_defaults() -> String {
    let mut out = String::from(
        "# Posthaste. Every knob stands here at its default, with its unit and its bound.\n\
         # `posthaste check FILE` says what is wrong with a file; flags override it.\n",
    );
    let mut section = "";
    for knob in KNOBS {
        let (head, name) = split(knob);
        let mark = if head.contains("[]") { "# " } else { "" };
        if head != section {
            section = head;
            let _ = write!(out, "\n{mark}{}\n", header(head));
        }
        for line in wrapped(&about(knob)) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(
            out,
            "{mark}{name} = {}",
            knob.default.map_or_else(|| sample(&knob.kind), Into::into)
        );
    }
    out
}

/// The reference page, in Markdown.
pub fn print_reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Written by `posthaste check --print-reference`. Without a file all defaults hold; flags\n\
         override the file, and the environment overrides it for secrets. Unknown keys are refused.\n",
    );
    let mut section = "";
    for knob in KNOBS {
        let (head, name) = split(knob);
        if head != section {
            section = head;
            let _ = write!(
                out,
                "\n## `{}`\n\n| Key | Unit | Default | Bound | Meaning |\n|---|---|---|---|---|\n",
                header(head)
            );
        }
        let default = knob
            .default
            .map_or_else(|| "must be given".into(), |d| format!("`{d}`"));
        let environment = knob
            .environment
            .map_or_else(String::new, |name| format!(" Environment: `{name}`."));
        let _ = writeln!(
            out,
            "| `{name}` | {} | {default} | {} | {}{environment} |",
            knob.kind.unit(),
            knob.kind.bound(),
            knob.doc
        );
    }
    out
}

fn split(knob: &Knob) -> (&'static str, &'static str) {
    knob.key.rsplit_once('.').expect("each knob has a section")
}

fn about(knob: &Knob) -> String {
    let mut text = format!("{} ({}", knob.doc, knob.kind.unit());
    let bound = knob.kind.bound();
    if bound != "—" {
        let _ = write!(text, "; {bound}");
    }
    text.push(')');
    if let Some(variable) = knob.environment {
        let _ = write!(text, " Environment: {variable}");
    }
    text
}

/// As the file has it: a table within a repeated one is of the last of these.
fn header(section: &str) -> String {
    match section.strip_suffix("[]") {
        Some(plain) => format!("[[{}]]", plain.replace("[]", "")),
        None => format!("[{}]", section.replace("[]", "")),
    }
}

fn sample(kind: &Kind) -> String {
    if let Kind::Choice(words) = kind {
        return format!("\"{}\"", words.last().copied().unwrap_or(""));
    }
    let sample = match *kind == Kind::NextHops {
        true => "[\"relay.example:25\"]",
        false if *kind == Kind::Text => "\"out1\"",
        false => "\"127.0.0.1:2525\"",
    };
    sample.into()
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(word.into());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
