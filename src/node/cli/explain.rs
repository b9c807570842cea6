//! `posthaste explain`: what shaping holds for a domain and who set it, asked of a running server or
//! read from files alone.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use posthaste_core::dispatch::{By, Shapes};
use posthaste_core::route::{Policy, site_name};
use posthaste_core::words::{Domain, Plan, RouteError};
use serde_json::{Value, json};

use super::args::{Exit, settings, tell};
use super::ask::{Door, Method};
use super::shaping::{list, rows, show, text_of, time_of};
use super::table::{clock, plain, table};
use crate::config::{self, Config};
use crate::dns::Resolver;
use crate::rt;
use crate::shaping::{LoadError, explanation_view, load, to_ask};

#[derive(Args)]
#[command(
    after_help = "Without --config, --shaping and --mx a running server is asked, which knows what is used and what waits. With one of them
no server is needed. Examples:
  posthaste explain example.com
  posthaste explain example.com --source mta1 --json
  posthaste explain example.com --tenant acme --campaign spring
  posthaste explain example.com --config /etc/posthaste/posthaste.toml
  posthaste explain example.com --shaping limits.toml --mx mx1.example.com --mx mx2.example.com"
)]
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
    files: FileArgs,
    #[command(flatten)]
    door: Door,
}

/// What stands in place of a running server.
#[derive(Args)]
struct FileArgs {
    /// By this configuration and the shaping files it names.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// By this file or folder too, laid over those of the configuration; may be repeated.
    #[arg(long, value_name = "FILE")]
    shaping: Vec<PathBuf>,
    /// An MX host of the domain, in place of DNS and routes; may be repeated.
    #[arg(long, value_name = "HOST")]
    mx: Vec<String>,
}

impl FileArgs {
    fn is_any(&self) -> bool {
        self.config.is_some() || !self.shaping.is_empty() || !self.mx.is_empty()
    }
}

pub(super) fn explain(arguments: &ExplainArgs) -> Exit {
    let answer = if arguments.files.is_any() {
        by_files(arguments).map(|said| said.to_string())
    } else {
        by_server(arguments)
    };
    show(answer, arguments.door.json, |said| {
        explanation(said, arguments.all)
    })
}

fn by_server(arguments: &ExplainArgs) -> Result<String, Exit> {
    let mut query = vec![("domain", &*arguments.domain)];
    query.extend(arguments.source.as_deref().map(|source| ("source", source)));
    query.extend(arguments.tenant.as_deref().map(|tenant| ("tenant", tenant)));
    query.extend(arguments.campaign.as_deref().map(|name| ("campaign", name)));
    arguments
        .door
        .ask(Method::Get, "shaping/explain/v1", &query)
}

/// The answer that a server with these files would give before it has sent anything.
fn by_files(arguments: &ExplainArgs) -> Result<Value, Exit> {
    let fail = |exit: Exit, why: &str| {
        tell(&format!("posthaste: {why}\n"));
        exit
    };
    let checked = settings(arguments.files.config.as_ref(), Vec::new())
        .and_then(|settings| config::check(&settings));
    let config = checked.map_err(|faults| {
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        fail(Exit::Config, &texts.join("\nposthaste: "))
    })?;
    let domain = Domain::parse(&arguments.domain)
        .map_err(|error| fail(Exit::Usage, &format!("{}: {error}", arguments.domain)))?;
    let sources: Vec<&str> = config.sources_enabled().map(|of| &*of.name).collect();
    if let Some(source) = &arguments.source
        && !sources.is_empty()
        && !sources.contains(&&**source)
    {
        let why = format!(
            "there is no source {source}; there are {}",
            sources.join(", ")
        );
        return Err(fail(Exit::Usage, &why));
    }
    let shapes = shapes(&config, &arguments.files)
        .map_err(|error| fail(Exit::Config, &error.to_string()))?;
    let plan = plan(&config, &domain, &arguments.files.mx).map_err(|error| {
        let why = format!("mail to {domain} has no route: {error}; --mx HOST tells one");
        fail(Exit::DataError, &why)
    })?;
    let by = By {
        source: arguments.source.as_deref(),
        tenant: arguments.tenant.as_deref(),
        campaign: arguments.campaign.as_deref(),
    };
    let said = shapes.explain(&plan, domain.as_str(), by, rt::now());
    let mut view = explanation_view(&said, &[]);
    view["offline"] = json!(true);
    view["sources"] = json!(sources);
    Ok(view)
}

/// With the sites of rules where `mx_hosts` or DNS tell them.
fn shapes(config: &Config, files: &FileArgs) -> Result<Shapes, LoadError> {
    let mut options = config.shaping_options();
    options.files.extend_from_slice(&files.shaping);
    if files.config.is_none() {
        options.pools = None;
    }
    let mut shaping = load(&options)?.shaping;
    let (asked, mut sites) = to_ask(&shaping);
    if !asked.is_empty() {
        sites.extend(super::check::look_up(Some(config), asked));
    }
    shaping.place_sites(&sites);
    Ok(Shapes {
        shaping: Arc::new(shaping),
        ..Shapes::default()
    })
}

fn plan(config: &Config, domain: &Domain, mx: &[String]) -> Result<Arc<Plan>, RouteError> {
    if !mx.is_empty() {
        return Ok(Arc::new(declared(mx)));
    }
    let policy = Policy {
        hostnames: vec![config.node.hostname.clone()],
        allow_private: config.delivery.allow_private_targets,
        port: config.delivery.port,
        routes: config.static_routes(),
        ..Policy::default()
    };
    let (options, domain) = (config.dns_options(), domain.clone());
    let looking = async move {
        let dns = Rc::new(Resolver::new(options, Arc::new(policy)));
        dns.resolve(&domain, rt::now()).await.0
    };
    // Without io_uring nothing can be asked; `posthaste doctor` tells of that.
    rt::run(looking).unwrap_or(Err(RouteError::Dns("this host gives no io_uring")))
}

/// As if DNS had said that these are the domain's hosts.
fn declared(mx: &[String]) -> Plan {
    let mut hosts: Vec<Box<str>> = mx
        .iter()
        .map(|host| host.trim_end_matches('.').to_ascii_lowercase().into())
        .collect();
    hosts.sort();
    hosts.dedup();
    Plan {
        site: site_name(hosts.iter().map(|host| &**host)),
        names: hosts.join(" ").into(),
        mx_hosts: hosts,
        hosts: Vec::new(),
    }
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
        "{}\n  site       {}\n  MX hosts   {}\n  providers  {}\n  source     {}\n  tenant     {}\n  campaign   {}\n  pool       {}, of mail whose label names none, or one that there is not\n",
        text_of(&said["domain"]),
        text_of(&said["site"]),
        names(&said["mx_hosts"]),
        names(&said["providers"]),
        text_of(&said["source"]),
        text_of(&said["tenant"]),
        text_of(&said["campaign"]),
        text_of(&said["default_pool"]),
    );
    if said["own_lane"] == true {
        out.push_str(
            "  its rules are not all of its site's, so that its mail has a lane of its own\n",
        );
    }
    out.push_str(&gates(said));
    if said["offline"] == true && rows(&said["sources"]).next().is_some() {
        let known = names(&said["sources"]);
        out.push_str(&format!(
            "  of the sources {known}, --source shows what one has of its own\n"
        ));
    }
    out.push('\n');
    if said["offline"] == true {
        out.push_str("by the files alone, no server was asked\n\n");
    } else {
        out.push_str(&lanes(said));
        out.push_str(&sources(said));
    }
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
    if let Some(why) = said["barred"].as_str() {
        out.push_str(&format!("  waits      {}\n", plain(why)));
    }
    for row in rows(&said["hours"]) {
        let state = if row["holds"] == true {
            "holds"
        } else {
            "does not hold"
        };
        let until = row["until"]
            .as_str()
            .map(|until| format!(" until {}", clock(until)));
        out.push_str(&format!(
            "  hours      {} {state}{}, by {}\n",
            text_of(&row["overlay"]),
            until.unwrap_or_default(),
            text_of(&row["place"]),
        ));
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
        let gone = match (row["pool"].as_str(), lane["pool"].as_str()) {
            (Some(own), Some(pool)) if own != pool => {
                format!(", of the pool {}, which there is not", plain(own))
            }
            _ => String::new(),
        };
        out.push_str(&format!(
            "  tenant {}, campaign {}{gone}: {} ready{waits}\n",
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
        let from = match (lane["pool"].as_str(), lane["source"].as_str()) {
            (Some(pool), Some(source)) => format!(", pool {}, {}", plain(pool), plain(source)),
            (Some(pool), None) => format!(", pool {}", plain(pool)),
            (None, _) => String::new(),
        };
        out.push_str(&format!(
            "shard {}{}: {} ready, {} in flight on {} connections; {waits}\n",
            number("shard"),
            from,
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
