//! What follows from an outcome: batches of settles, deferrals, records and reports.

use std::sync::Arc;

use core::net::SocketAddr;

use super::brain::{Dispatch, OWN_TROUBLE_PAUSE};
use super::interface::{Action, ReportKind};
use super::lane::Wake;
use crate::queue::{Entry, EntryId, Recipients};
use crate::words::{
    Change, Host, Labels, Message, MessageId, Moment, Outcome, RecipientState, SessionId,
};

/// What an attempt at an entry brought.
pub(super) struct Attempt<'a> {
    pub(super) outcomes: &'a [(u16, Outcome)],
    /// Where those of the entry begin, mostly.
    pub(super) at: usize,
    /// For recipients that `outcomes` does not name.
    pub(super) fallback: &'a Outcome,
    pub(super) peer: Option<(&'a Host, Option<SocketAddr>)>,
    /// As which source.
    pub(super) egress: Option<Arc<str>>,
    pub(super) session: Option<SessionId>,
    pub(super) lane: Option<u32>,
    /// The peer has taken over the reports of successes.
    pub(super) offers_dsn: bool,
    /// The peer, if there was one, answered EHLO.
    pub(super) esmtp: bool,
    /// Senders hear of refusals, as far as they want to.
    pub(super) is_told: bool,
}

impl Attempt<'_> {
    fn outcome(&self, index: usize, recipient: u16) -> &Outcome {
        // Outcomes come in the order of the recipients, mostly.
        let at_index = self
            .outcomes
            .get(self.at + index)
            .filter(|(r, _)| *r == recipient);
        let found = at_index.or_else(|| self.outcomes.iter().find(|(r, _)| *r == recipient));
        found.map_or(self.fallback, |(_, outcome)| outcome)
    }
}

/// Recipients of one attempt that fared alike: the changes they need, and what their report tells.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    told: Vec<(u16, Outcome)>,
}

#[derive(Default)]
struct Groups {
    delivered: Group,
    deferred: Group,
    refused: Group,
    /// Recipients to be tried again.
    rest: Vec<u16>,
}

/// A report whose batch is not durable yet.
pub(super) struct PendingReport {
    pub(super) message: Arc<Message>,
    kind: ReportKind,
    /// The rest of its batch.
    changes: Vec<Change>,
    /// The entry it warns of, its message and its attempts then.
    warns_of: Option<(EntryId, MessageId, u16)>,
    /// What it tells of as work, should it have to be work again.
    work: Entry,
    domain: Box<str>,
    labels: Labels,
    /// Submitted, and not answered.
    is_asked: bool,
}

/// Reports kept for another try while there is no room for them. Beyond, what they tell of happens
/// again instead.
const REPORTS_WAITING_MAX: usize = 1000;

impl Dispatch {
    /// The entry must hold its message. It goes back to wait or is gone after this.
    pub(super) fn settle(&mut self, id: EntryId, attempt: &Attempt<'_>, now: Moment) {
        let message = self.entries.get(id).message.clone();
        let message = message.expect("an entry is settled while it holds its message");
        self.release(id);
        let entry = self.entries.get(id).clone();
        let attempts = entry.attempts.saturating_add(1);
        let due = self.next_due(&entry, attempts, now);
        let warns = self.wants_warning(&entry, now);
        let mut groups = self.group(&entry, &message, attempt, due, now);
        let warns = warns && !groups.rest.is_empty();
        self.reschedule(id, attempts, warns, &groups.rest, due, now);
        if !warns {
            groups.deferred.told.clear();
        }
        let kinds = [
            (ReportKind::Relayed, groups.delivered, None),
            (
                ReportKind::Delayed,
                groups.deferred,
                Some((id, message.id, attempts)),
            ),
            (ReportKind::Failed, groups.refused, None),
        ];
        // What has a report waits until there is room for the report; the others do not wait.
        let mut plain = Vec::new();
        let mut reports = Vec::new();
        for (kind, mut group, warns_of) in kinds {
            let report = if group.told.is_empty() {
                None
            } else {
                let report_id = self.ids.next(now);
                let peer = attempt.peer.map(|(host, _)| &*host.name);
                self.reporter
                    .report(kind, &message, &group.told, peer, report_id, now)
            };
            match report {
                Some(report) => reports.push(PendingReport {
                    message: Arc::new(report),
                    kind,
                    changes: group.changes,
                    warns_of,
                    work: entry_of(&entry, &group.told),
                    domain: domain_of(&message, &group.told),
                    labels: message.labels.clone(),
                    is_asked: false,
                }),
                None => plain.append(&mut group.changes),
            }
        }
        if !plain.is_empty() {
            self.ask_to_settle(plain);
        }
        for report in reports {
            self.report_next = self.report_next.wrapping_add(1);
            self.reports.insert(self.report_next, report);
            self.resubmit_report(self.report_next);
        }
    }

    fn next_due(&mut self, entry: &Entry, attempts: u16, now: Moment) -> Moment {
        let random = self.random();
        let schedule = &self.config.schedule;
        let expiry = entry.accepted() + schedule.max_age;
        (now + schedule.next(attempts, random)).min(expiry.max(now))
    }

    fn group(
        &mut self,
        entry: &Entry,
        message: &Message,
        attempt: &Attempt<'_>,
        due: Moment,
        now: Moment,
    ) -> Groups {
        let mut groups = Groups::default();
        for (index, recipient) in entry.recipients.as_slice().iter().copied().enumerate() {
            let outcome = attempt.outcome(index, recipient);
            let record = self.record(entry, message, recipient, outcome, attempt, now);
            let settle = Change::Settle {
                id: message.id,
                recipient,
                of: entry.of,
                deferred_before: entry.attempts > 0,
            };
            let notify = message.envelope.recipients[usize::from(recipient)].notify;
            let (group, change, is_told) = match outcome {
                Outcome::Delivered(_) => {
                    let is_told = notify.success && !attempt.offers_dsn;
                    (&mut groups.delivered, settle, is_told)
                }
                Outcome::Refused(_) => (&mut groups.refused, settle, attempt.is_told),
                Outcome::Deferred(cause) => {
                    let state = RecipientState {
                        attempts: entry.attempts.saturating_add(1),
                        due,
                        last: cause.to_string().into(),
                    };
                    self.note_trouble(entry, attempt, &state.last);
                    groups.rest.push(recipient);
                    let defer = Change::Defer {
                        id: message.id,
                        recipient,
                        state,
                    };
                    (&mut groups.deferred, defer, true)
                }
            };
            group.changes.push(Change::Append(record));
            group.changes.push(change);
            if is_told {
                group.told.push((recipient, outcome.clone()));
            }
        }
        groups
    }

    fn note_trouble(&mut self, entry: &Entry, attempt: &Attempt<'_>, last: &str) {
        let why = match attempt.lane {
            Some(lane) => &mut self.lanes[lane].why,
            None => &mut self.domains[entry.domain].why,
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
        rest: &[u16],
        due: Moment,
        now: Moment,
    ) {
        if rest.is_empty() {
            self.drop_entry(id, now);
            return;
        }
        let entry = self.entries.edit(id);
        entry.attempts = attempts;
        entry.warned |= warned;
        entry.counted = 0;
        entry.recipients = Recipients::from_slice(rest);
        let due = if self.sentences.has(id) { now } else { due };
        self.due.push(due, Wake::Entry(id));
    }

    /// Asks for the batch of a report, for the first time or again. It failed as a whole, so what
    /// settles its recipients is asked for again too.
    pub(super) fn resubmit_report(&mut self, token: u32) {
        let Some(report) = self.reports.get_mut(&token) else {
            return;
        };
        report.is_asked = true;
        self.reports_asked += 1;
        let mut changes = report.changes.clone();
        changes.push(Change::Store(Arc::clone(&report.message)));
        self.actions.push_back(Action::Store { changes, token });
    }

    fn ask_to_settle(&mut self, changes: Vec<Change>) {
        self.unsynced += 1;
        self.actions.push_back(Action::Settle(changes));
    }

    /// Whether an answer for this report was waited for.
    pub(super) fn take_asked(&mut self, token: u32) -> bool {
        let Some(report) = self.reports.get_mut(&token) else {
            return false;
        };
        let was_asked = core::mem::take(&mut report.is_asked);
        self.reports_asked -= usize::from(was_asked);
        was_asked
    }

    /// There was no room for the report.
    pub(super) fn keep_report(&mut self, token: u32, now: Moment) {
        self.relieve_report(token);
        if self.reports.len() - self.reports_asked <= REPORTS_WAITING_MAX {
            self.due.push(now + OWN_TROUBLE_PAUSE, Wake::Report(token));
            return;
        }
        let Some(report) = self.reports.remove(&token) else {
            return;
        };
        // A warning or the news of a success may be missed; a refusal comes to pass again.
        if report.kind == ReportKind::Failed {
            let mut work = report.work;
            work.domain = self.domain_id_of(&report.domain);
            work.labels = self.labels.number(&report.labels);
            let id = self.add_entry(work);
            self.due.push(now + OWN_TROUBLE_PAUSE, Wake::Entry(id));
        }
    }

    /// A refusal may wait for its report: after a crash the peer refuses again. A delivery may not,
    /// or it would be made twice; and a deferral would come too late over newer states.
    fn relieve_report(&mut self, token: u32) {
        let Some(report) = self.reports.get_mut(&token) else {
            return;
        };
        if report.kind == ReportKind::Failed {
            return;
        }
        let mut changes = core::mem::take(&mut report.changes);
        let is_current = report.warns_of.is_none_or(|(entry, id, attempts)| {
            let entry = self.entries.peek(entry);
            entry.is_some_and(|entry| entry.id() == id && entry.attempts == attempts)
        });
        if !is_current {
            changes.retain(|change| !matches!(change, Change::Defer { .. }));
        }
        if !changes.is_empty() {
            self.ask_to_settle(changes);
        }
    }
}

fn entry_of(entry: &Entry, told: &[(u16, Outcome)]) -> Entry {
    let recipients: Vec<u16> = told.iter().map(|(recipient, _)| *recipient).collect();
    let mut entry = entry.clone();
    entry.recipients = Recipients::from_slice(&recipients);
    entry
}

fn domain_of(message: &Message, told: &[(u16, Outcome)]) -> Box<str> {
    let recipient = told.first().map_or(0, |(recipient, _)| *recipient);
    let recipient = &message.envelope.recipients[usize::from(recipient)];
    recipient.address.domain_str().into()
}
