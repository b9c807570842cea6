//! The table of keys in print: the built-in default file, a JSON Schema, the page of `shaping/`.

use core::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::block::WEIGHT_MAX;
use super::keys::{
    BASE, KEYS, KeyRow, Kind, LABELS, MAIL, PROVIDER, PROVIDER_SOURCES, SOURCES, Support,
};
use super::read::{self, Entry, Source, Tree};
use super::shipped::shipped;

/// `shaping/default.toml`: every key of a path that has a default.
pub fn print_default() -> String {
    let mut out = String::from(
        "# What holds where no file says otherwise: KumoMTA's own defaults.\n\
         # Printed from the table of keys: cargo run -p posthaste-core --example shaping -- default\n\n\
         [\"default\"]\n",
    );
    let set = |row: &&KeyRow| row.may_stand(BASE) && row.is_kept();
    for row in KEYS.iter().filter(set) {
        if let Some(default) = row.default {
            let quote = if row.kind == Kind::Duration { "\"" } else { "" };
            let _ = writeln!(
                out,
                "# {}\n{} = {quote}{default}{quote}",
                row.about, row.name
            );
        }
    }
    out
}

/// `shaping/schema.json`: for editors.
pub fn print_schema() -> String {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Posthaste shaping file",
        "type": "object",
        "properties": {
            "default": block(BASE, &[]),
            "provider": named(&block(BASE | PROVIDER, &["match", "sources"])),
            "source": named(&block(LABELS, &[])),
            "tenant": named(&block(MAIL, &["delivery_window", "weight"])),
            "campaign": named(&block(MAIL, &["delivery_window"])),
            "queue": { "type": "array", "items": block(MAIL, &["tenant", "campaign", "domain"]) },
            "label": { "type": "array", "items": label() },
            "label_defaults": label_defaults(),
        },
        "additionalProperties": block(BASE, &["mx_rollup", "mx_hosts", "sources"]),
        "definitions": definitions(),
    });
    let pretty = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    let mut text = String::with_capacity(pretty.len());
    let mut lines = pretty.lines().peekable();
    while let Some(line) = lines.next() {
        text.push_str(line);
        // A reference on one line: there are hundreds.
        if lines
            .peek()
            .is_some_and(|next| next.trim_start().starts_with("\"$ref\""))
        {
            let inner = lines.next().unwrap_or_default().trim_start();
            let end = lines.next().unwrap_or_default().trim_start();
            let _ = write!(text, " {inner} {end}");
        }
        text.push('\n');
    }
    text
}

fn named(block: &Json) -> Json {
    json!({ "type": "object", "additionalProperties": block })
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/definitions/{name}") })
}

fn one_or_more(item: &Json) -> Json {
    json!({ "oneOf": [item, { "type": "array", "items": item }] })
}

fn keys(places: u8) -> Map<String, Json> {
    let rows = honoured().filter(|row| row.may_stand(places));
    rows.map(|row| (row.name.to_owned(), reference(row.name)))
        .collect()
}

fn honoured() -> impl Iterator<Item = &'static KeyRow> {
    let refused = |row: &&KeyRow| matches!(row.support, Support::Refused(_));
    KEYS.iter().filter(move |row| !refused(row))
}

/// What is used in several places: each key, and the overlays of each kind of block.
fn definitions() -> Map<String, Json> {
    let mut all: Map<String, Json> = Map::new();
    for row in honoured() {
        let mut value = kind(row.kind);
        if let Some(object) = value.as_object_mut() {
            object.insert("description".into(), row.about.into());
        }
        all.insert(row.name.into(), value);
    }
    for places in OVERLAID {
        let name = overlay_name(places);
        all.insert(format!("business_{name}"), overlay(places, &["timezone"]));
        all.insert(format!("off_{name}"), overlay(places, &[]));
    }
    let window = json!({ "type": "object", "properties": window(), "required": ["timezone"], "additionalProperties": false });
    let limit = json!({ "oneOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^(local:)?[0-9_,]+$" }] });
    let rate = json!({ "type": "string", "pattern": "^(local:)?[0-9_,]+/[0-9]*[a-z]+(,max_burst=[0-9_,]+)?$" });
    let duration = json!({ "type": ["string", "number"] });
    let texts = json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    for (name, value) in [
        ("rule", rule()),
        ("window", window),
        ("limit", limit),
        ("rate", rate),
        ("duration", duration),
        ("texts", texts),
    ] {
        all.insert(name.into(), value);
    }
    all
}

/// The kinds of block that have overlays.
const OVERLAID: [u8; 6] = [
    BASE,
    BASE | PROVIDER,
    SOURCES,
    SOURCES | PROVIDER_SOURCES,
    LABELS,
    MAIL,
];

fn overlay_name(places: u8) -> &'static str {
    match places {
        BASE => "base",
        LABELS => "own_source",
        MAIL => "label",
        SOURCES => "source",
        places if places & PROVIDER != 0 => "provider",
        _ => "provider_source",
    }
}

fn kind(kind: Kind) -> Json {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Port => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        Kind::Cap => json!({ "allOf": [reference("limit")] }),
        Kind::Rate => json!({ "allOf": [reference("rate")] }),
        Kind::Duration => json!({ "allOf": [reference("duration")] }),
        Kind::Text => json!({ "type": "string", "maxLength": 1024 }),
        Kind::Networks => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Caps => json!({ "type": "object", "additionalProperties": reference("limit") }),
        Kind::Rates => json!({ "type": "object", "additionalProperties": reference("rate") }),
        Kind::Pacing => json!({
            "type": "object",
            "properties": {
                "mode": { "enum": ["fixed", "adaptive"] },
                "min": reference("rate"),
                "max": reference("rate"),
            },
            "required": ["mode"],
            "additionalProperties": false,
        }),
        Kind::Foreign => json!(false),
    }
}

fn window() -> Map<String, Json> {
    let clock = json!({ "type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$" });
    let pairs = [
        ("timezone", json!({ "type": "string" })),
        ("days", reference("texts")),
        ("from", clock.clone()),
        ("to", clock),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn overlay(places: u8, required: &[&str]) -> Json {
    let mut properties = window();
    properties.extend(keys(places));
    let table = json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    one_or_more(&table)
}

fn overlays(places: u8) -> [(&'static str, Json); 2] {
    let name = overlay_name(places);
    [
        ("business_hours", reference(&format!("business_{name}"))),
        ("off_hours", reference(&format!("off_{name}"))),
    ]
}

fn block(places: u8, words: &[&str]) -> Json {
    let mut properties = keys(places);
    let mut put = |key: &str, value: Json| properties.insert(key.to_owned(), value);
    for (key, value) in overlays(places) {
        put(key, value);
    }
    put("evidence", json!({ "type": "string" }));
    put("reviewed", json!({ "type": "string" }));
    put("replace_base", json!({ "type": "boolean" }));
    if places & BASE != 0 {
        put(
            "automation",
            json!({ "type": "array", "items": reference("rule") }),
        );
    }
    for word in words {
        let value = match *word {
            "mx_rollup" => json!({ "type": "boolean" }),
            "mx_hosts" => reference("texts"),
            "delivery_window" => one_or_more(&reference("window")),
            "weight" => json!({ "type": "integer", "minimum": 1, "maximum": WEIGHT_MAX }),
            "sources" => {
                let inner = if places & PROVIDER == 0 {
                    SOURCES
                } else {
                    SOURCES | PROVIDER_SOURCES
                };
                let mut properties = keys(inner);
                let overlays = overlays(inner).map(|(key, value)| (key.to_owned(), value));
                properties.extend(overlays);
                named(
                    &json!({ "type": "object", "properties": properties, "additionalProperties": false }),
                )
            }
            "match" => json!({
                "type": "array",
                "items": { "oneOf": [one("MXSuffix"), one("DomainSuffix"), one("HostName")] },
            }),
            _ => json!({ "type": "string" }),
        };
        put(word, value);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn one(key: &str) -> Json {
    let mut properties = Map::new();
    properties.insert(key.into(), json!({ "type": "string" }));
    json!({ "type": "object", "properties": properties, "required": [key], "additionalProperties": false })
}

fn rule() -> Json {
    let set = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "value": {} },
        "required": ["name", "value"],
        "additionalProperties": false,
    });
    let wrap = |name: &str| {
        let mut properties = Map::new();
        properties.insert(name.into(), set.clone());
        json!({ "type": "object", "properties": properties, "required": [name], "additionalProperties": false })
    };
    let plain = json!({ "enum": ["Suspend", "SuspendTenant", "SuspendCampaign", "Bounce", "BounceTenant", "BounceCampaign"] });
    let action = json!({ "oneOf": [plain, wrap("SetConfig"), wrap("SetDomainConfig")] });
    let threshold = json!({
        "type": "object",
        "properties": { "Threshold": reference("rate") },
        "required": ["Threshold"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "regex": reference("texts"),
            "action": one_or_more(&action),
            "trigger": { "oneOf": [{ "const": "Immediate" }, threshold] },
            "duration": reference("duration"),
            "match_internal": { "type": "boolean" },
            "mode": { "enum": ["observe", "advise", "enforce"] },
            "scope": { "enum": ["source", "network", "dkim-domain", "tenant", "recipient"] },
            "evidence": { "type": "string" },
            "reviewed": { "type": "string" },
        },
        "required": ["regex", "action", "duration"],
        "additionalProperties": false,
    })
}

fn label() -> Json {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "properties": {
            "listener": reference("texts"),
            "client": reference("texts"),
            "sender_domain": reference("texts"),
            "header": { "type": "object", "additionalProperties": text },
            "tenant": text, "campaign": text, "pool": text,
            "tenant_header": text, "campaign_header": text, "pool_header": text,
            "remove_headers": reference("texts"),
        },
        "additionalProperties": false,
    })
}

fn label_defaults() -> Json {
    let text = json!({ "type": "string" });
    let unknown = json!({ "enum": ["keep", "default"] });
    json!({
        "type": "object",
        "properties": {
            "tenant": text, "campaign": text, "pool": text,
            "unknown_tenant": unknown, "unknown_campaign": unknown,
        },
        "additionalProperties": false,
    })
}

/// `shaping/README.md`.
pub fn print_readme() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str(
        "\n## Providers\n\n| file | recognised by | rules | reviewed |\n|---|---|---|---|\n",
    );
    for file in shipped() {
        let source = Source::new(file.name.into(), file.text);
        let entries = read::tree(&source, &mut |_, _| {});
        for entry in &entries {
            provider_lines(&mut out, file.name, entry);
        }
    }
    out.push_str(
        "\n## Keys\n\n| key | takes | default | may stand in | meaning |\n|---|---|---|---|---|\n",
    );
    for row in KEYS {
        key_line(&mut out, row);
    }
    out
}

fn provider_lines(out: &mut String, file: &str, entry: &Entry<'_>) {
    let Tree::Table(inner) = &entry.node.tree else {
        return;
    };
    let blocks: Vec<&Entry<'_>> = if entry.key == "provider" {
        inner.iter().collect()
    } else {
        vec![entry]
    };
    for block in blocks {
        let Tree::Table(keys) = &block.node.tree else {
            continue;
        };
        let find = |name: &str| {
            keys.iter()
                .find(|key| key.key == name)
                .map(|key| &key.node.tree)
        };
        let rules = find("automation")
            .and_then(Tree::list)
            .map_or(0, <[_]>::len);
        let matches = find("match").and_then(Tree::list).map_or_else(
            || "every site".into(),
            |items| {
                let pairs = items.iter().filter_map(|item| item.tree.table()).flatten();
                let each = pairs.map(|pair| format!("{} {}", pair.key, pair.node.tree));
                each.collect::<Vec<_>>().join(", ")
            },
        );
        let reviewed = find("reviewed").and_then(Tree::text).unwrap_or("each rule");
        let file = file.trim_start_matches("shaping/");
        let _ = writeln!(
            out,
            "| [{file}]({file}) | {matches} | {rules} | {reviewed} |"
        );
    }
}

fn key_line(out: &mut String, row: &KeyRow) {
    let takes = if let Kind::Word(words) = row.kind {
        words.join(", ")
    } else if let Kind::Count { min, max } = row.kind {
        format!("{min} to {max}")
    } else {
        row.kind.expected().to_owned()
    };
    let default = row
        .default
        .map_or_else(|| "—".into(), |text| format!("`{text}`"));
    let mut about = row.about.to_owned();
    match row.support {
        Support::Honoured => {}
        Support::Ignored(why) => about = format!("Accepted without effect: {why}."),
        Support::Refused(why) => about = format!("Refused: {why}."),
        Support::Partly {
            why,
            barring,
            why_barring,
        } => {
            let barring = barring.join(" and ");
            let _ = write!(
                about,
                " Obeyed in part: {why}; under {barring}, {why_barring}."
            );
        }
        Support::Later { why, harmless } => {
            let _ = write!(about, " Not obeyed yet: {why}");
            match harmless {
                ["*"] => {}
                [] => about.push_str("; refused unless it is the default"),
                words => {
                    let _ = write!(about, "; refused unless {}", words.join(", "));
                }
            }
            about.push('.');
        }
    }
    let ours = if row.ours { " (ours)" } else { "" };
    let home = row.home();
    let _ = writeln!(
        out,
        "| `{}`{ours} | {takes} | {default} | {home} | {about} |",
        row.name
    );
}

const INTRODUCTION: &str = include_str!("introduction.md");
