//! Delivery status notifications for `core/dispatch`, written by `core/mail`. One per shard.

use core::time::Duration;
use std::sync::Arc;

use posthaste_core::dispatch::{ReportKind, Reporter};
use posthaste_core::mail::{self, Kind, Told};
use posthaste_core::words::{Domain, Message, MessageId, Moment, Outcome};

/// Signs reports with this host's name.
#[derive(Clone, Debug)]
pub struct Desk {
    pub hostname: Domain,
    /// When a delayed message is given up, counted from its reception.
    pub max_age: Duration,
}

impl Reporter for Desk {
    fn report(
        &self,
        kind: ReportKind,
        original: &Arc<Message>,
        outcomes: &[(u16, Outcome)],
        peer: Option<&str>,
        id: MessageId,
        now: Moment,
    ) -> Option<Message> {
        let kind = match kind {
            ReportKind::Failed => Kind::Failed,
            ReportKind::Relayed => Kind::Relayed,
            ReportKind::Delayed => Kind::Delayed {
                until: original.reception.at + self.max_age,
            },
        };
        let told: Vec<Told<'_>> = outcomes
            .iter()
            .map(|(recipient, outcome)| Told {
                recipient: *recipient,
                outcome,
                peer,
                last_attempt: Some(now),
            })
            .collect();
        let by = mail::Reporter {
            hostname: &self.hostname,
            id,
            now,
            full_octets_max: mail::Reporter::FULL_OCTETS_MAX,
        };
        mail::report(kind, original, &told, &by)
    }
}
