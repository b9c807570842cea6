//! What follows from an outcome: one batch of settles, deferrals, records and reports.

use std::sync::Arc;

use core::net::SocketAddr;

use super::brain::Dispatch;
use super::interface::{Action, ReportKind};
use super::lane::Wake;
use crate::queue::{Entry, EntryId, Recipients};
use crate::words::{
    Cause, Change, Enhanced, EnhancedCode, Host, Message, Moment, Outcome, PeerAddress,
    RecipientState, Record, RecordKind, Response, RouteError,
};

/// What an attempt at an entry brought.
pub(super) struct Attempt<'a> {
    pub(super) outcomes: &'a [(u16, Outcome)],
    /// For recipients that `outcomes` does not name.
    pub(super) fallback: &'a Outcome,
    pub(super) peer: Option<(&'a Host, Option<SocketAddr>)>,
    pub(super) lane: Option<u32>,
}

impl Attempt<'_> {
    fn outcome(&self, index: usize, recipient: u16) -> &Outcome {
        // Outcomes come in the order of the recipients, mostly.
        let at_index = self.outcomes.get(index).filter(|(r, _)| *r == recipient);
        let found = at_index.or_else(|| self.outcomes.iter().find(|(r, _)| *r == recipient));
        found.map_or(self.fallback, |(_, outcome)| outcome)
    }
}

/// A report whose batch is not durable yet.
pub(super) struct PendingReport {
    pub(super) message: Arc<Message>,
    changes: Vec<Change>,
}

impl Dispatch {
    /// The entry must hold its message. It goes back to wait or is gone after this.
    pub(super) fn settle(&mut self, id: EntryId, attempt: &Attempt<'_>, now: Moment) {
        let message = self.entries.get(id).message.clone();
        let message = message.expect("an entry is settled while it holds its message");
        self.release(id);
        let entry = self.entries.get(id).clone();
        let attempts = entry.attempts.saturating_add(1);
        let delay = {
            let random = self.random();
            self.config.schedule.next(attempts, random)
        };
        let expiry = entry.accepted() + self.config.schedule.max_age;
        let due = (now + delay).min(expiry.max(now));
        let recipients = entry.recipients.as_slice();
        let mut changes = Vec::with_capacity(2 * recipients.len());
        let mut deferred = Vec::new();
        let mut refused = Vec::new();
        for (index, recipient) in recipients.iter().copied().enumerate() {
            let outcome = attempt.outcome(index, recipient);
            let record = self.record(&entry, &message, recipient, outcome, attempt, now);
            changes.push(Change::Append(record));
            match outcome {
                Outcome::Deferred(cause) => {
                    let state = RecipientState {
                        attempts,
                        due,
                        last: cause.to_string().into(),
                    };
                    self.note_trouble(&entry, attempt, &state.last);
                    changes.push(Change::Defer {
                        id: message.id,
                        recipient,
                        state,
                    });
                    deferred.push((recipient, outcome.clone()));
                    continue;
                }
                Outcome::Refused(_) => refused.push((recipient, outcome.clone())),
                Outcome::Delivered(_) => {}
            }
            changes.push(Change::Settle {
                id: message.id,
                recipient,
                of: entry.of,
                deferred_before: entry.attempts > 0,
            });
        }
        let warn = self.wants_warning(&entry, now) && !deferred.is_empty();
        self.reschedule(id, attempts, warn, &deferred, due);
        if warn {
            let report = self.report(ReportKind::Delayed, &message, &deferred, now);
            self.commit(report.into_iter(), Vec::new());
        }
        let report = (!refused.is_empty())
            .then(|| self.report(ReportKind::Failed, &message, &refused, now))
            .flatten();
        self.commit(report.into_iter(), changes);
    }

    fn note_trouble(&mut self, entry: &Entry, attempt: &Attempt<'_>, last: &str) {
        let why = match attempt.lane {
            Some(lane) => &mut self.lanes[lane as usize].why,
            None => &mut self.domains[entry.domain as usize].why,
        };
        if **why != *last {
            *why = last.into();
        }
    }

    fn wants_warning(&self, entry: &Entry, now: Moment) -> bool {
        let after = self.config.warn_after;
        !entry.warned && after.is_some_and(|after| entry.age(now) >= after)
    }

    fn reschedule(
        &mut self,
        id: EntryId,
        attempts: u16,
        warned: bool,
        deferred: &[(u16, Outcome)],
        due: Moment,
    ) {
        if deferred.is_empty() {
            self.entries.remove(id);
            return;
        }
        let rest: Vec<u16> = deferred.iter().map(|(recipient, _)| *recipient).collect();
        let entry = self.entries.edit(id);
        entry.attempts = attempts;
        entry.warned |= warned;
        entry.recipients = Recipients::from_slice(&rest);
        self.due.push(due, Wake::Entry(id));
    }

    fn report(
        &mut self,
        kind: ReportKind,
        message: &Arc<Message>,
        outcomes: &[(u16, Outcome)],
        now: Moment,
    ) -> Option<Arc<Message>> {
        let id = self.ids.next(now);
        let report = self.reporter.report(kind, message, outcomes, id, now)?;
        Some(Arc::new(report))
    }

    fn commit(&mut self, report: impl Iterator<Item = Arc<Message>>, mut changes: Vec<Change>) {
        let mut token = None;
        for message in report {
            changes.push(Change::Store(Arc::clone(&message)));
            self.report_next = self.report_next.wrapping_add(1);
            let pending = PendingReport {
                message,
                changes: changes.clone(),
            };
            self.reports.insert(self.report_next, pending);
            token = Some(u64::from(self.report_next));
        }
        if !changes.is_empty() {
            self.actions.push_back(Action::Commit { changes, token });
        }
    }

    /// The batch of a report failed as a whole, so its settles are asked for again too.
    pub(super) fn resubmit_report(&mut self, token: u32) {
        if let Some(report) = self.reports.get(&token) {
            self.actions.push_back(Action::Commit {
                changes: report.changes.clone(),
                token: Some(u64::from(token)),
            });
        }
    }

    fn record(
        &mut self,
        entry: &Entry,
        message: &Message,
        recipient: u16,
        outcome: &Outcome,
        attempt: &Attempt<'_>,
        now: Moment,
    ) -> Box<[u8]> {
        let (kind, response) = match outcome {
            Outcome::Delivered(reply) => (RecordKind::Delivery, Response::from_reply(reply, None)),
            Outcome::Deferred(cause) => (RecordKind::TransientFailure, response(cause, 400)),
            Outcome::Refused(cause @ Cause::Expired { .. }) => {
                (RecordKind::Expiration, response(cause, 551))
            }
            Outcome::Refused(cause) => (RecordKind::Bounce, response(cause, 550)),
        };
        self.counters.count(kind);
        let address = &message.envelope.recipients[usize::from(recipient)].address;
        let sender = message.envelope.sender.as_ref();
        let attempted = !matches!(outcome, Outcome::Refused(Cause::Expired { .. }));
        let record = Record {
            kind,
            id: message.id.to_string(),
            sender: sender.map_or("", |sender| sender.as_str()),
            recipient: address.as_str(),
            queue: address.domain_str(),
            site: attempt
                .lane
                .map_or("", |lane| self.lanes[lane as usize].plan.site.as_str()),
            size: message.size(),
            response,
            peer_address: attempt.peer.map(|(host, _)| PeerAddress {
                name: &host.name,
                addr: host.address.ip(),
            }),
            timestamp: now.as_secs(),
            created: message.reception.at.as_secs(),
            num_attempts: entry.attempts.saturating_add(u16::from(attempted)),
            egress_source: None,
            source_address: attempt.peer.and_then(|(_, source)| source),
            delivery_protocol: attempt.peer.map(|_| "ESMTP"),
            reception_protocol: message.reception.protocol,
            nodeid: &self.config.nodeid,
            session_id: None,
        };
        record.to_json()
    }
}

/// A cause as a reply: the peer's own, or one made of what we know.
fn response(cause: &Cause, code: u16) -> Response {
    let (code, enhanced) = match cause {
        Cause::Reply { stage, reply } => return Response::from_reply(reply, Some(*stage)),
        Cause::Route(RouteError::NullMx) => (556, Some(Enhanced::new(5, 1, 10))),
        Cause::Route(RouteError::NoSuchDomain) => (code, Some(Enhanced::new(5, 1, 2))),
        Cause::Route(RouteError::LoopsToUs) => (code, Some(Enhanced::new(5, 4, 6))),
        Cause::Route(RouteError::Dns(_)) => (code, Some(Enhanced::new(4, 4, 3))),
        Cause::Connect { .. } => (code, Some(Enhanced::new(4, 4, 1))),
        Cause::Lost { .. } => (code, Some(Enhanced::new(4, 4, 2))),
        Cause::Expired { .. } => (code, Some(Enhanced::new(5, 4, 7))),
        Cause::Route(RouteError::Prohibited(_))
        | Cause::Protocol { .. }
        | Cause::NotSupported { .. }
        | Cause::Operator { .. }
        | Cause::Ours { .. } => (code, None),
    };
    Response {
        code,
        enhanced_code: enhanced.map(|e| EnhancedCode {
            class: e.class,
            subject: e.subject,
            detail: e.detail,
        }),
        content: cause.to_string(),
        command: match cause {
            Cause::Lost { stage, .. } | Cause::Protocol { stage, .. } => Some(stage.as_str()),
            Cause::Connect { .. } => Some("CONNECT"),
            Cause::Reply { .. }
            | Cause::Route(_)
            | Cause::NotSupported { .. }
            | Cause::Expired { .. }
            | Cause::Operator { .. }
            | Cause::Ours { .. } => None,
        },
    }
}
