//! The endpoints of shaping: what holds for a domain and why, and overrides with an expiry.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use posthaste_core::dispatch::{Act, By, Explanation, OverrideRow, SourceRow, StrandRow};
use posthaste_core::egress::{Fault, Progress, Standing};
use posthaste_core::shaping::{Key, NotSet, Overrides, TargetKind, Wish};
use posthaste_core::words::{Domain, Moment, Plan, SiteName};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::desk::{ADMIN_PATIENCE, Desk, Failure, bad_query};
use super::egress::warmup_view;
use crate::mesh::{Answer, Question};
use crate::rt::now;
use crate::shaping::{explanation_view, override_view};

/// For a disk that has to take a small file.
const KEPT_PATIENCE: Duration = Duration::from_secs(2);
const KEPT_LOOK: Duration = Duration::from_millis(10);

/// What an override is taken back by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: TargetKind,
    pub name: Box<str>,
    pub source: Option<Box<str>>,
    pub key: Key,
    /// The rule of automation that has set it; `None`: somebody has.
    pub rule: Option<Box<str>>,
}

impl Target {
    /// Takes back all that is set for it; what there was.
    pub fn cancel(&self, overrides: &mut Overrides) -> Vec<Wish> {
        let of = (self.source.as_deref(), self.key);
        let gone = overrides.cancel(self.kind, &self.name, of);
        gone.into_iter().map(|gone| gone.wish).collect()
    }

    /// It is no more, others say. Whether it was there.
    pub fn remove(&self, overrides: &mut Overrides) -> bool {
        let of = (self.source.as_deref(), self.key);
        overrides.remove(self.kind, &self.name, of, self.rule.as_deref())
    }

    /// Others say that somebody has taken it back.
    pub fn take_back(&self, overrides: &mut Overrides, until: Moment) {
        let of = (self.source.as_deref(), self.key);
        if let Some(rule) = &self.rule {
            overrides.take_back(self.kind, &self.name, of, rule, until);
        }
    }

    pub fn of(wish: &Wish) -> Self {
        Self {
            kind: wish.kind,
            name: wish.name.clone(),
            source: wish.source.clone(),
            key: wish.key,
            rule: wish.rule().map(Into::into),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    domain: String,
    source: Option<String>,
    tenant: Option<String>,
    campaign: Option<String>,
}

pub(super) async fn explain(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let domain = domain_of(&query.domain)?;
    if let Some(source) = &query.source {
        desk.source_named(source)?;
    }
    let plan = desk.route_of(&domain).await?;
    let by = By {
        source: query.source.as_deref(),
        tenant: query.tenant.as_deref(),
        campaign: query.campaign.as_deref(),
    };
    let shapes = desk.node.shapes();
    let explanation = shapes.explain(&plan, domain.as_str(), by, now());
    let waiting = desk.waiting_at(&explanation.site).await;
    let mut view = explanation_view(&explanation, &waiting);
    view["sources"] = desk.sources_at(&explanation, by.source).await.into();
    Ok(Json(view).into_response())
}

fn source_view(row: &SourceRow, warmup: Option<&Progress>) -> Value {
    let (standing, until, fault) = match (&row.suspended, row.standing) {
        (Some(_), _) => ("suspended", None, None),
        (None, Standing::Well) => ("well", None, None),
        (None, Standing::Aside { until, fault }) => ("aside", Some(until), Some(fault)),
        (None, Standing::Probing { fault, .. }) => ("probing", None, Some(fault)),
    };
    json!({
        "pool": &*row.pool, "source": &*row.source, "weight": row.weight,
        "weight_off_hours": row.off_hours, "standing": standing,
        "until": until.map(text_of), "fault": fault.map(Fault::name),
        "why": row.suspended.as_deref(), "score": row.score,
        "warmup": warmup.map(warmup_view),
    })
}

fn strand_view(row: &StrandRow) -> Value {
    json!({
        "tenant": row.labels.tenant(), "campaign": row.labels.campaign(), "pool": row.labels.pool(),
        "ready": row.ready, "waits_for": &*row.waits_for,
    })
}

pub(super) fn text_of(moment: Moment) -> String {
    moment.rfc3339().to_string()
}

impl Desk {
    pub(super) async fn route_of(&self, domain: &Domain) -> Result<Arc<Plan>, Failure> {
        let question = Question::Route(domain.clone());
        let answers = self.ask(0..1, &question, ADMIN_PATIENCE).await;
        match answers.said.into_iter().next() {
            Some((_, Answer::Route(Ok(plan)))) => Ok(plan),
            Some((_, Answer::Route(Err(why)))) => {
                let text = format!("mail to {domain} has no route: {why}");
                Err(Failure(StatusCode::NOT_FOUND, text))
            }
            Some(_) | None => {
                let text = format!("the route of {domain} was not found in time");
                Err(Failure(StatusCode::GATEWAY_TIMEOUT, text))
            }
        }
    }

    /// How sources stand there, all or one. Shards tell each other, so any of them knows.
    async fn sources_at(&self, said: &Explanation, only: Option<&str>) -> Vec<Value> {
        let provider: Box<str> = said.provider.as_str().into();
        let question = Question::Standings {
            site: SiteName::new(&said.site),
            provider: provider.clone(),
        };
        let answers = self.ask(0..1, &question, ADMIN_PATIENCE).await;
        let rows = answers
            .said
            .into_iter()
            .find_map(|(_, answer)| match answer {
                Answer::Standings(rows) => Some(rows),
                Answer::Sites(_)
                | Answer::Route(_)
                | Answer::Domains(_)
                | Answer::Lanes(_)
                | Answer::Message(_)
                | Answer::Flushed
                | Answer::Complained
                | Answer::Tally(_)
                | Answer::Counters(_) => None,
            });
        let warmups = self.node.warmups(now());
        let rows = rows.unwrap_or_default().into_iter();
        rows.filter(|row| only.is_none_or(|only| *row.source == *only))
            .map(|row| {
                let is_its = |of: &&Progress| of.source == row.source && *of.provider == *provider;
                source_view(&row, warmups.iter().find(is_its))
            })
            .collect()
    }

    /// Whether a restart forgets nothing of the overrides, which is so in a moment or not at all.
    async fn is_kept_soon(&self) -> bool {
        let until = Instant::now() + KEPT_PATIENCE;
        while !self.node.is_kept() {
            if Instant::now() >= until {
                return false;
            }
            sleep(KEPT_LOOK).await;
        }
        true
    }

    /// Lanes of a site, and what they wait for.
    async fn waiting_at(&self, site: &str) -> Vec<Value> {
        let question = Question::Lanes { limit: usize::MAX };
        let answers = self.ask_all(&question, ADMIN_PATIENCE).await;
        let mut lanes = Vec::new();
        for (shard, answer) in answers.said {
            let Answer::Lanes(rows) = answer else {
                continue;
            };
            lanes.extend(
                rows.iter()
                    .filter(|row| row.site.as_str() == site)
                    .map(|row| {
                        json!({
                            "shard": shard, "pool": row.pool.as_deref(), "source": row.source.as_deref(), "ready": row.ready, "in_flight": row.in_flight,
                            "connections": row.connections, "waits_for": &*row.waits_for,
                            "paused_until": row.paused_until.map(text_of), "why": &*row.why,
                            "strands": row.strands.iter().map(strand_view).collect::<Vec<_>>(),
                        })
                    }),
            );
        }
        lanes
    }
}

/// What rules of automation have seen and done, the last match first.
pub(super) async fn acts(State(desk): State<Arc<Desk>>) -> Response {
    let mut acts = desk.node.acts();
    acts.sort_by_key(|act| core::cmp::Reverse(act.last));
    let rows: Vec<Value> = acts.iter().map(act_view).collect();
    Json(json!({ "automation": rows })).into_response()
}

fn act_view(act: &Act) -> Value {
    let until = act.until.filter(|until| *until > now());
    json!({
        "rule": &*act.rule, "whom": &*act.whom, "mode": act.mode.name(), "trigger": &*act.trigger,
        "matches": act.matches, "lately": act.lately, "last": text_of(act.last), "reply": &*act.reply,
        "done": act.done, "until": until.map(text_of),
    })
}

/// All that hold.
pub(super) async fn list(State(desk): State<Arc<Desk>>) -> Response {
    let (shapes, now) = (desk.node.shapes(), now());
    let live = shapes.overrides.iter().filter(|set| set.wish.expires > now);
    let rows: Vec<Value> = live
        .map(|set| override_view(&OverrideRow::of(set)))
        .collect();
    Json(json!({ "overrides": rows })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetQuery {
    kind: String,
    #[serde(default)]
    name: String,
    source: Option<String>,
    key: String,
    value: String,
    /// Seconds.
    seconds: u64,
    #[serde(default)]
    reason: String,
    by: Option<String>,
}

pub(super) async fn set(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<SetQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let (key, value) = Key::read(&query.key, &query.value).map_err(|wrong| refused(&wrong))?;
    let at = now();
    let expires = at + Duration::from_secs(query.seconds);
    let kind = kind_of(&query.kind)?;
    let wish = Wish {
        kind,
        name: kind.normal(&query.name),
        source: query.source.map(Into::into),
        key,
        value,
        expires,
        reason: query.reason.into(),
        by: query.by.unwrap_or_else(|| "an operator".into()).into(),
    };
    if wish.is_of_rule() {
        let text = format!("`{}` is how rules sign what they set", wish.by);
        return Err(Failure(StatusCode::BAD_REQUEST, text));
    }
    let set = desk.node.set_override(wish, at);
    set.map_err(|wrong| refused(&wrong))?;
    let kept = desk.is_kept_soon().await;
    Ok(Json(json!({ "set": true, "expires": text_of(expires), "kept": kept })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelQuery {
    kind: String,
    #[serde(default)]
    name: String,
    source: Option<String>,
    key: String,
}

pub(super) async fn cancel(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<CancelQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let Some(key) = Key::find(&query.key) else {
        let text = format!("`{}` is not a known key", query.key);
        return Err(Failure(StatusCode::BAD_REQUEST, text));
    };
    let kind = kind_of(&query.kind)?;
    let target = Target {
        kind,
        name: kind.normal(&query.name),
        source: query.source.map(Into::into),
        key,
        rule: None,
    };
    if desk.node.cancel_override(&target, now()) {
        let kept = desk.is_kept_soon().await;
        return Ok(Json(json!({ "cancelled": true, "kept": kept })).into_response());
    }
    let text = "there is no such override".to_owned();
    Err(Failure(StatusCode::NOT_FOUND, text))
}

pub(super) fn domain_of(text: &str) -> Result<Domain, Failure> {
    Domain::parse(text)
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("{text}: {error}")))
}

fn kind_of(name: &str) -> Result<TargetKind, Failure> {
    let mut all = TargetKind::ALL.into_iter();
    all.find(|kind| kind.name() == name).ok_or_else(|| {
        let names = TargetKind::ALL.map(TargetKind::name).join(", ");
        Failure(
            StatusCode::BAD_REQUEST,
            format!("`{name}` is none of {names}"),
        )
    })
}

fn refused(wrong: &NotSet) -> Failure {
    Failure(StatusCode::BAD_REQUEST, wrong.to_string())
}
