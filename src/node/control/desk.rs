//! The endpoints, and how shards are asked: all at once, each with the same patience.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use posthaste_core::dispatch::{Counters, DomainRow, Whose};
use posthaste_core::words::{Domain, MessageId, ShardId};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::door::Peer;
use super::guard::{Barred, admit};
use super::serve::{Node, Options};
use super::{egress, order, shaping, view};
use crate::mesh::{Answer, Ask, Question};
use crate::observe::Exposition;
use crate::rt::now;

/// For the shards' numbers: scrapers have little patience themselves.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(1);
/// For a shard that has to look through its whole queue.
pub(super) const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// Octets of a request's body. No endpoint here wants one.
const BODY_OCTETS_MAX: usize = 64 * 1024;
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Rows asked of each shard whatever the limit, so that the fullest are found.
const ROWS_ASKED: usize = 10_000;
/// Rows of one shard searched for what a message waits for.
const ROWS_SEARCHED: usize = 1_000_000;

/// What the handlers share. One per node.
pub(super) struct Desk {
    pub(super) options: Options,
    pub(super) node: Arc<dyn Node>,
    exposition: Exposition,
    /// The last answer of each shard: one that is silent must not make counters go back.
    counters: Mutex<Vec<Counters>>,
    /// Places for searches of the delivery log.
    pub(super) searches: Arc<Semaphore>,
}

/// What shards said to one question.
pub(super) struct Answers {
    pub(super) said: Vec<(u16, Answer)>,
    pub(super) silent: BTreeSet<u16>,
}

impl Answers {
    fn rows<T>(self, of: impl Fn(Answer) -> Option<Vec<T>>) -> (Vec<(u16, Vec<T>)>, BTreeSet<u16>) {
        let said = self.said.into_iter();
        let rows = said.filter_map(|(shard, answer)| Some((shard, of(answer)?)));
        (rows.collect(), self.silent)
    }
}

impl Desk {
    pub(super) fn new(options: Options, node: Arc<dyn Node>, exposition: Exposition) -> Self {
        let counters = vec![Counters::default(); usize::from(options.shards)];
        Self {
            options,
            node,
            exposition,
            counters: Mutex::new(counters),
            searches: Arc::new(Semaphore::new(egress::SEARCHES_MAX)),
        }
    }

    pub(super) fn upkeep(&self) {
        self.exposition.upkeep();
    }

    pub(super) async fn ask_all(&self, question: &Question, patience: Duration) -> Answers {
        let all = 0..self.options.shards;
        self.ask(all, question, patience).await
    }

    pub(super) async fn ask(
        &self,
        shards: impl Iterator<Item = u16>,
        question: &Question,
        patience: Duration,
    ) -> Answers {
        let until = Instant::now() + patience;
        let asked: Vec<_> = shards
            .map(|shard| {
                let (reply, answer) = oneshot::channel();
                let ask = Ask {
                    question: question.clone(),
                    // Nobody waits any more when the patience is over.
                    reply: Box::new(move |answer| drop(reply.send(answer))),
                };
                // One that is given back drops its reply, which reads as silence.
                drop(self.node.ask(ShardId(shard), ask));
                (shard, answer)
            })
            .collect();
        let mut answers = Answers {
            said: Vec::with_capacity(asked.len()),
            silent: BTreeSet::new(),
        };
        for (shard, answer) in asked {
            match timeout_at(until, answer).await {
                Ok(Ok(answer)) => answers.said.push((shard, answer)),
                Ok(Err(_)) | Err(_) => {
                    answers.silent.insert(shard);
                }
            }
        }
        answers
    }

    fn tell_sources(&self) {
        for of in self.node.sources(now()) {
            for figures in egress::figures(&of) {
                self.exposition.tell_source(&figures);
            }
        }
    }

    async fn count(&self) {
        let answers = self.ask_all(&Question::Counters, SCRAPE_PATIENCE).await;
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, answer) in answers.said {
            if let Answer::Counters(said) = answer {
                counters[usize::from(shard)] = said;
            }
        }
        self.exposition.tell_shards(&view::sum(&counters));
        self.exposition.tell_silent(answers.silent.len());
    }
}

/// An answer that is no success: its status and `{"error": …}`.
pub(super) struct Failure(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Barred> for Failure {
    fn from(barred: Barred) -> Self {
        Self(barred.status(), barred.to_string())
    }
}

pub(super) fn routes(desk: Arc<Desk>) -> Router {
    let guarded = from_fn_with_state(Arc::clone(&desk), guard);
    let admin = Router::new()
        .route("/api/admin/queue/v1", get(queue))
        .route("/api/admin/message/v1/{id}", get(message))
        .route("/api/admin/flush/v1", post(flush))
        .route("/api/admin/queue/bounce/v1", post(order::bounce))
        .route("/api/admin/queue/requeue/v1", post(order::requeue))
        .route("/api/admin/shaping/explain/v1", get(shaping::explain))
        .route("/api/admin/automation/v1", get(shaping::acts))
        .route("/api/admin/warmup/v1", get(egress::warmups))
        .route("/api/admin/source/v1", get(egress::sources))
        .route("/api/admin/complaint/v1", post(egress::complain))
        .route(
            "/api/admin/shaping/override/v1",
            get(shaping::list)
                .post(shaping::set)
                .delete(shaping::cancel),
        )
        .method_not_allowed_fallback(wrong_method)
        .route_layer(guarded);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_method)
        .merge(admin)
        .fallback(nothing_here)
        .layer(from_fn(finish))
        .with_state(desk)
}

/// What holds for every answer: it is of this moment, and of the type it says.
async fn finish(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn guard(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(barred) = admit(&parts, peer, desk.options.token.as_ref()) {
        let mut response = Failure::from(barred).into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"posthaste\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        return response;
    }
    // Read to its end, or the rest of it would be taken for the next request's trouble.
    if to_bytes(body, BODY_OCTETS_MAX).await.is_err() {
        let text = format!("the body is broken or longer than {BODY_OCTETS_MAX} octets");
        return Failure(StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
    }
    next.run(Request::from_parts(parts, Body::empty())).await
}

async fn nothing_here(uri: Uri) -> Failure {
    Failure(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
    )
}

async fn wrong_method(uri: Uri) -> Failure {
    let text = format!("this method is not for {}", uri.path());
    Failure(StatusCode::METHOD_NOT_ALLOWED, text)
}

async fn health() -> Response {
    Json(json!({ "status": "alive", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    if desk.node.is_ready() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    Failure(StatusCode::SERVICE_UNAVAILABLE, desk.node.why_not_ready()).into_response()
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    desk.count().await;
    desk.node.refresh();
    desk.tell_sources();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], desk.exposition.render()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueQuery {
    limit: Option<usize>,
    tenant: Option<Box<str>>,
    campaign: Option<Box<str>>,
    domain: Option<Box<str>>,
}

async fn queue(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let bounds = view::Bounds {
        asked: ROWS_ASKED,
        shown: limit,
    };
    let whose = whose_of(query.tenant, query.campaign, query.domain.as_deref())?;
    let is_all = whose.is_anybody();
    let limit = ROWS_ASKED;
    let domains = Question::Domains { limit, whose };
    let lanes = Question::Lanes { limit: ROWS_ASKED };
    let (domains, lanes, counters) = tokio::join!(
        desk.ask_all(&domains, ADMIN_PATIENCE),
        desk.ask_all(&lanes, ADMIN_PATIENCE),
        desk.ask_all(&Question::Counters, ADMIN_PATIENCE)
    );
    let queued = counters.said.iter().map(|(_, answer)| {
        if let Answer::Counters(counters) = answer {
            counters.queued
        } else {
            0
        }
    });
    let all: usize = queued.sum();
    let (domains, mut silent) = domains.rows(domain_rows);
    let rows = domains.iter().flat_map(|(_, rows)| rows);
    let queued = if is_all {
        all
    } else {
        rows.map(|row| row.queued).sum()
    };
    let (lanes, silent_too) = lanes.rows(|answer| {
        if let Answer::Lanes(rows) = answer {
            Some(rows)
        } else {
            None
        }
    });
    silent.extend(silent_too);
    let view = view::queue(queued, domains, lanes, silent, bounds, now());
    Ok(Json(view).into_response())
}

fn domain_rows(answer: Answer) -> Option<Vec<DomainRow>> {
    if let Answer::Domains(rows) = answer {
        Some(rows)
    } else {
        None
    }
}

async fn message(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id: MessageId = id
        .parse()
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("{id}: {error}")))?;
    let found = desk.ask_all(&Question::Message(id), ADMIN_PATIENCE).await;
    let (mut found, silent) = found.rows(|answer| {
        if let Answer::Message(found) = answer {
            Some(found)
        } else {
            None
        }
    });
    found.retain(|(_, found)| !found.is_empty());
    if found.is_empty() {
        return Err(if silent.is_empty() {
            let text =
                format!("no work of message {id} is queued: it is settled or was never here");
            Failure(StatusCode::NOT_FOUND, text)
        } else {
            unanswered(&silent, "nothing was found elsewhere")
        });
    }
    let shards = found.iter().map(|(shard, _)| *shard);
    let question = Question::Domains {
        limit: ROWS_SEARCHED,
        whose: Whose::default(),
    };
    let domains = desk.ask(shards, &question, ADMIN_PATIENCE).await;
    let (domains, _) = domains.rows(domain_rows);
    let view = view::message(id, found, &domains, silent, now());
    Ok(Json(view).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlushQuery {
    domain: Option<String>,
}

async fn flush(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<FlushQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let domain = query.domain.as_deref();
    let domain = domain.map(shaping::domain_of).transpose()?;
    let name = domain.as_ref().map(Domain::to_string);
    let answers = desk.ask_all(&Question::Flush(domain), ADMIN_PATIENCE).await;
    if !answers.silent.is_empty() {
        return Err(unanswered(&answers.silent, "the others did as asked"));
    }
    Ok(
        Json(json!({ "flushed": true, "domain": name, "shards": answers.said.len() }))
            .into_response(),
    )
}

/// The domain in any of its ways of writing.
pub(super) fn whose_of(
    tenant: Option<Box<str>>,
    campaign: Option<Box<str>>,
    domain: Option<&str>,
) -> Result<Whose, Failure> {
    let domain = domain.map(shaping::domain_of).transpose()?;
    let domain = domain.map(|domain| domain.as_str().into());
    Ok(Whose {
        tenant,
        campaign,
        domain,
    })
}

pub(super) fn bad_query(rejection: QueryRejection) -> Failure {
    Failure(StatusCode::BAD_REQUEST, rejection.body_text())
}

pub(super) fn unanswered(silent: &BTreeSet<u16>, rest: &str) -> Failure {
    let numbers: Vec<String> = silent.iter().map(u16::to_string).collect();
    let text = format!("no answer from shard {}; {rest}", numbers.join(", "));
    Failure(StatusCode::GATEWAY_TIMEOUT, text)
}
