//! `posthaste queue suspend|resume|bounce|requeue`: what an operator orders for mail of some.

use std::time::Duration;

use clap::Args;
use posthaste_core::shaping::QueueName;
use serde_json::Value;

use super::args::{Exit, print};
use super::ask::{Door, Method};
use super::shaping::time;

/// Of whom: all that is said must fit.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct Whom {
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long)]
    campaign: Option<String>,
    #[arg(long)]
    domain: Option<String>,
}

#[derive(Args)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    whom: Whom,
    /// How long: 90s, 2h, 1d.
    #[arg(long = "for", value_name = "2h", value_parser = time, default_value = "1h")]
    time: Duration,
    /// For those who wonder later.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Args)]
pub(super) struct BounceArgs {
    #[command(flatten)]
    whom: Whom,
    /// For records, and for senders.
    #[arg(long)]
    reason: String,
    /// Tell no sender. Else each hears of it, as far as NOTIFY wants that.
    #[arg(long)]
    no_report: bool,
    /// Do it. Else it is only told how much mail there is.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct RequeueArgs {
    #[command(flatten)]
    whom: Whom,
    /// Forget how often it was tried: delays between attempts begin anew.
    #[arg(long)]
    reset_attempts: bool,
    /// Do it. Else it is only told how much mail there is.
    #[arg(long)]
    yes: bool,
}

impl Whom {
    fn named(&self) -> QueueName {
        QueueName {
            tenant: self.tenant.as_deref().map(Into::into),
            campaign: self.campaign.as_deref().map(Into::into),
            domain: self.domain.as_deref().map(Into::into),
        }
    }

    /// Kind and name of the target of an override.
    fn target(&self) -> (&'static str, String) {
        let fields = [
            ("tenant", &self.tenant),
            ("campaign", &self.campaign),
            ("domain", &self.domain),
        ];
        let mut said = fields.iter().filter_map(|(kind, name)| {
            let name = name.as_deref()?;
            Some((*kind, name.to_owned()))
        });
        match (said.next(), said.next()) {
            (Some(one), None) => one,
            (_, _) => ("queue", self.named().to_string()),
        }
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("tenant", &self.tenant),
            ("campaign", &self.campaign),
            ("domain", &self.domain),
        ];
        let said = fields.into_iter();
        said.filter_map(|(key, name)| Some((key, name.as_deref()?)))
            .collect()
    }
}

/// A suspension is an override of one key.
pub(super) fn suspend(arguments: &SuspendArgs, door: &Door) -> Exit {
    let seconds = arguments.time.as_secs().to_string();
    let further = [
        ("value", "true"),
        ("seconds", &*seconds),
        ("reason", &*arguments.reason),
    ];
    hold(&arguments.whom, (Method::Post, "suspended"), &further, door)
}

pub(super) fn resume(whom: &Whom, door: &Door) -> Exit {
    hold(whom, (Method::Delete, "resumed"), &[], door)
}

fn hold(
    whom: &Whom,
    (method, done): (Method, &str),
    further: &[(&str, &str)],
    door: &Door,
) -> Exit {
    let (kind, name) = whom.target();
    let mut query = vec![("kind", kind), ("name", &*name), ("key", "suspended")];
    query.extend(further);
    said(
        door.ask(method, "shaping/override/v1", &query),
        door,
        |_| {
            let whose = match kind {
                "queue" => whom.named().told(),
                _ => format!("{kind} {name}"),
            };
            format!("{whose} is {done}\n")
        },
    )
}

pub(super) fn bounce(arguments: &BounceArgs, door: &Door) -> Exit {
    let mut query = arguments.whom.query();
    query.push(("reason", &*arguments.reason));
    if arguments.no_report {
        query.push(("report", "false"));
    }
    order("queue/bounce/v1", query, arguments.yes, door, |entries| {
        format!(
            "{entries} end, which takes a moment; what is on a connection ends with its attempt\n"
        )
    })
}

pub(super) fn requeue(arguments: &RequeueArgs, door: &Door) -> Exit {
    let mut query = arguments.whom.query();
    if arguments.reset_attempts {
        query.push(("fresh", "true"));
    }
    order("queue/requeue/v1", query, arguments.yes, door, |entries| {
        format!("{entries} are due\n")
    })
}

fn order(
    path: &str,
    mut query: Vec<(&str, &str)>,
    yes: bool,
    door: &Door,
    told: impl Fn(&str) -> String,
) -> Exit {
    if yes {
        query.push(("yes", "true"));
    }
    said(door.ask(Method::Post, path, &query), door, |answer| {
        let count = |key: &str| answer[key].as_u64().unwrap_or(0);
        let entries = format!(
            "{} entries with {} recipients",
            count("entries"),
            count("recipients")
        );
        if answer["done"] == true {
            told(&entries)
        } else {
            format!("{entries}; nothing is done without --yes\n")
        }
    })
}

fn said(answer: Result<String, Exit>, door: &Door, told: impl Fn(&Value) -> String) -> Exit {
    match answer {
        Ok(text) => {
            print(&match serde_json::from_str(&text) {
                Ok(answer) if !door.json => told(&answer),
                // As it came, also from a server that answers otherwise.
                Ok(_) | Err(_) => format!("{}\n", text.trim_end()),
            });
            Exit::Ok
        }
        Err(exit) => exit,
    }
}
