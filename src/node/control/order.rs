//! The endpoints by which an operator ends queued mail of some, or has it tried at once. Nothing is done
//! but counting, unless `yes` is said.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use posthaste_core::dispatch::{Order, Tally};
use serde::Deserialize;
use serde_json::json;

use super::desk::{ADMIN_PATIENCE, Desk, Failure, bad_query, unanswered, whose_of};
use crate::mesh::{Answer, Question};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderQuery {
    tenant: Option<Box<str>>,
    campaign: Option<Box<str>>,
    domain: Option<Box<str>>,
    /// Of a bounce.
    #[serde(default)]
    reason: String,
    /// Of a bounce: whether senders hear of it.
    report: Option<bool>,
    /// Of a requeue: whether attempts are forgotten.
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    yes: bool,
}

pub(super) async fn bounce(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<OrderQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    if query.yes && query.reason.trim().is_empty() {
        let text = "a bounce has a reason: records and reports tell it".to_owned();
        return Err(Failure(StatusCode::BAD_REQUEST, text));
    }
    let order = Order::Bounce {
        reason: one_line(&query.reason).into(),
        is_told: query.report.unwrap_or(true),
    };
    desk.order(query, order).await
}

pub(super) async fn requeue(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<OrderQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(bad_query)?;
    let is_fresh = query.fresh;
    desk.order(query, Order::Requeue { is_fresh }).await
}

/// As a reply is, which reports quote.
fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(clean).collect()
}

impl Desk {
    async fn order(&self, query: OrderQuery, order: Order) -> Result<Response, Failure> {
        let is_done = query.yes;
        let whose = whose_of(query.tenant, query.campaign, query.domain.as_deref())?;
        if whose.is_anybody() {
            let text = "of whose mail? say tenant, campaign or domain".to_owned();
            return Err(Failure(StatusCode::BAD_REQUEST, text));
        }
        let order = if is_done { order } else { Order::Count };
        // What was on its way from one shard to another the first time has come by the second.
        let is_twice = matches!(order, Order::Bounce { .. });
        let mut all = Tally::default();
        for _ in 0..=usize::from(is_twice) {
            let (whose, order) = (whose.clone(), order.clone());
            let question = Question::Order { whose, order };
            let answers = self.ask_all(&question, ADMIN_PATIENCE).await;
            for (_, answer) in &answers.said {
                if let Answer::Tally(tally) = answer {
                    all.entries += tally.entries;
                    all.recipients += tally.recipients;
                }
            }
            if !answers.silent.is_empty() {
                return Err(unanswered(&answers.silent, "the others did as asked"));
            }
        }
        let (entries, recipients) = (all.entries, all.recipients);
        Ok(
            Json(json!({ "done": is_done, "entries": entries, "recipients": recipients }))
                .into_response(),
        )
    }
}
