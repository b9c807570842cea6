//! The endpoints of egress sources: how they stand, how far young ones are, and complaints about what
//! was sent by them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use posthaste_core::dispatch::By;
use posthaste_core::egress::{Progress, Proxy, Source, SourceId};
use posthaste_core::words::{Address, MessageId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::desk::{ADMIN_PATIENCE, Desk, Failure, bad_query};
use super::shaping::{domain_of, text_of};
use crate::delivery::SourceState;
use crate::mesh::{Answer, Question};
use crate::observe::{Delivered, SourceFigures, find_delivery};
use crate::rt::now;

/// For the files of the delivery log, below what the door has for an answer.
const SEARCH_PATIENCE: Duration = Duration::from_secs(10);
/// Searches at once: each reads as fast as the disk can.
pub(super) const SEARCHES_MAX: usize = 2;

pub(super) async fn warmups(State(desk): State<Arc<Desk>>) -> Response {
    let rows: Vec<Value> = desk.node.warmups(now()).iter().map(warmup_view).collect();
    Json(json!({ "warmups": rows })).into_response()
}

pub(super) fn warmup_view(of: &Progress) -> Value {
    json!({
        "source": &*of.source, "provider": &*of.provider, "day": of.day, "days": of.days,
        "sent_today": of.sent, "cap_today": of.cap, "warm": of.cap.is_none(),
    })
}

pub(super) async fn sources(State(desk): State<Arc<Desk>>) -> Response {
    let states = desk.node.sources(now());
    let rows: Vec<Value> = states.iter().map(state_view).collect();
    Json(json!({ "sources": rows })).into_response()
}

fn state_view(of: &SourceState) -> Value {
    let source = &of.source;
    let state = match (&of.suspension, of.id) {
        (_, None) => "disabled",
        (Some(_), _) => "suspended",
        (None, Some(_)) => "in use",
    };
    let pools = of.seats.iter().map(
        |seat| json!({ "pool": &*seat.pool, "weight": seat.weight, "weight_off_hours": seat.off_hours }),
    );
    let scores = of
        .scores
        .iter()
        .map(|(provider, score)| json!({ "provider": &**provider, "score": score.permille() }));
    json!({
        "source": &*source.name, "address": source.address, "ehlo_name": source.ehlo.as_ref().map(ToString::to_string),
        "proxy": source.proxy.as_ref().map(proxy_text), "ttl": source.ttl, "state": state,
        "why": of.suspension.as_ref().map(|s| &*s.why),
        "probed": of.suspension.as_ref().map(|s| text_of(s.until)),
        "pools": pools.collect::<Vec<_>>(), "scores": scores.collect::<Vec<_>>(),
        "warmups": of.warmups.iter().map(warmup_view).collect::<Vec<_>>(),
    })
}

/// Whoever asks needs no password.
fn proxy_text(proxy: &Proxy) -> String {
    match proxy {
        Proxy::HaProxy { server, source, .. } => format!("haproxy {server} as {source}"),
        Proxy::Socks5 { server, .. } => format!("socks5 {server}"),
    }
}

/// For metrics: of each provider of which something is known.
pub(super) fn figures(of: &SourceState) -> Vec<SourceFigures<'_>> {
    let source = &*of.source.name;
    let scores = of.scores.iter().map(|(provider, score)| SourceFigures {
        source,
        provider,
        score: Some(score.permille()),
        warmup: None,
    });
    let warmups = of.warmups.iter().map(|progress| SourceFigures {
        source,
        provider: &progress.provider,
        score: None,
        warmup: Some((progress.day, progress.cap, progress.sent)),
    });
    scores.chain(warmups).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComplaintQuery {
    source: Option<String>,
    domain: Option<String>,
    id: Option<String>,
    recipient: Option<String>,
}

/// A recipient called it spam: by source and the recipient's domain, or by message and recipient.
pub(super) async fn complain(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<ComplaintQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let (source, domain) = match (query.source, query.domain, query.id, query.recipient) {
        (Some(source), Some(domain), None, None) => (source, domain_of(&domain)?),
        (None, None, Some(id), Some(recipient)) => desk.left_by(&id, &recipient).await?,
        _ => {
            let text = "either `source` and `domain`, or `id` and `recipient` are wanted";
            return Err(Failure(StatusCode::BAD_REQUEST, text.into()));
        }
    };
    let Some(id) = desk.source_named(&source)? else {
        let text = "this node has no sources to complain about".into();
        return Err(Failure(StatusCode::NOT_FOUND, text));
    };
    let plan = desk.route_of(&domain).await?;
    let shapes = desk.node.shapes();
    let said = shapes.explain(&plan, domain.as_str(), By::default(), now());
    let question = Question::Complaint {
        source: id,
        provider: said.provider.as_str().into(),
    };
    let answers = desk.ask(0..1, &question, ADMIN_PATIENCE).await;
    if !matches!(answers.said[..], [(_, Answer::Complained)]) {
        let text = "no answer from shard 0".to_owned();
        return Err(Failure(StatusCode::GATEWAY_TIMEOUT, text));
    }
    let answer = json!({ "counted": true, "source": source, "provider": said.provider });
    Ok(Json(answer).into_response())
}

impl Desk {
    /// `None` where there are no sources, and any name will do.
    pub(super) fn source_named(&self, name: &str) -> Result<Option<SourceId>, Failure> {
        let states = self.node.sources(now());
        let enabled = || states.iter().filter_map(|of| Some((&of.source, of.id?)));
        let is_it = |(source, _): &(&Source, SourceId)| *source.name == *name;
        if let Some((_, id)) = enabled().find(is_it) {
            return Ok(Some(id));
        }
        let names: Vec<&str> = enabled().map(|(source, _)| &*source.name).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let text = format!("there is no source {name}; there are {}", names.join(", "));
        Err(Failure(StatusCode::BAD_REQUEST, text))
    }

    /// By what source a message left for a recipient, and the recipient's domain.
    async fn left_by(
        &self,
        id: &str,
        recipient: &str,
    ) -> Result<(String, posthaste_core::words::Domain), Failure> {
        let bad = |text: String| Failure(StatusCode::BAD_REQUEST, text);
        let message: MessageId = id.parse().map_err(|error| bad(format!("{id}: {error}")))?;
        let address =
            Address::parse(recipient).map_err(|error| bad(format!("{recipient}: {error}")))?;
        let (dir, id, of) = (
            self.options.log.clone(),
            message.to_string(),
            address.as_str().to_owned(),
        );
        let Ok(place) = Arc::clone(&self.searches).try_acquire_owned() else {
            let text = "as many searches of the delivery log are under way as may be: ask again";
            return Err(Failure(StatusCode::SERVICE_UNAVAILABLE, text.into()));
        };
        let until = Instant::now() + SEARCH_PATIENCE;
        let looking = spawn_blocking(move || {
            let found = find_delivery(&dir, &id, &of, until);
            // Also where nobody waits for the answer any more.
            drop(place);
            found
        });
        let found = looking.await.map_err(|error| {
            let text = format!("the search ended: {error}");
            Failure(StatusCode::INTERNAL_SERVER_ERROR, text)
        })?;
        match found {
            Ok(Some(Delivered {
                source: Some(source),
                ..
            })) => Ok((source, domain_of(address.domain_str())?)),
            Ok(Some(Delivered { source: None, .. })) => {
                let text = "it left by no source that has a name".into();
                Err(Failure(StatusCode::NOT_FOUND, text))
            }
            Ok(None) => {
                let text = format!(
                    "the delivery log knows of no delivery of {message} to {recipient}: `source` and `domain` tell it too"
                );
                Err(Failure(StatusCode::NOT_FOUND, text))
            }
            Err(error) => {
                let text = format!("{error}: `source` and `domain` tell it too");
                Err(Failure(StatusCode::SERVICE_UNAVAILABLE, text))
            }
        }
    }
}
