//! Writes real reports.

use std::sync::Arc;

use posthaste_core::dispatch::{ReportKind, Reporter};
use posthaste_core::mail::{self, Kind, Told};
use posthaste_core::words::{Domain, Message, MessageId, Moment, Outcome};

/// Of the host of that name.
pub(crate) struct Postmaster(pub(crate) Domain);

impl Reporter for Postmaster {
    fn report(
        &self,
        kind: ReportKind,
        original: &Arc<Message>,
        outcomes: &[(u16, Outcome)],
        peer: Option<&str>,
        id: MessageId,
        now: Moment,
    ) -> Option<Message> {
        let told: Vec<Told<'_>> = outcomes
            .iter()
            .map(|(recipient, outcome)| Told {
                recipient: *recipient,
                outcome,
                peer,
                last_attempt: Some(now),
            })
            .collect();
        let kind = match kind {
            ReportKind::Failed => Kind::Failed,
            ReportKind::Delayed => Kind::Delayed { until: now },
            ReportKind::Relayed => Kind::Relayed,
        };
        let by = mail::Reporter {
            hostname: &self.0,
            id,
            now,
            full_octets_max: 0,
        };
        mail::report(kind, original, &told, &by)
    }
}
