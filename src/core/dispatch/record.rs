//! The delivery record of one recipient's outcome.

use super::brain::Dispatch;
use super::settle::Attempt;
use crate::queue::Entry;
use crate::words::{
    Cause, Enhanced, EnhancedCode, Message, Moment, Outcome, PeerAddress, Record, RecordKind,
    Response, RouteError,
};

impl Dispatch {
    pub(super) fn record(
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
                .map_or("", |lane| self.lanes[lane].plan.site.as_str()),
            size: message.size(),
            response,
            peer_address: attempt.peer.map(|(host, _)| PeerAddress {
                name: &host.name,
                addr: host.address.ip(),
            }),
            timestamp: now.as_secs(),
            created: message.reception.at.as_secs(),
            num_attempts: entry.attempts.saturating_add(u16::from(attempted)),
            egress_source: attempt.egress.as_deref(),
            source_address: attempt.peer.and_then(|(_, source)| source),
            delivery_protocol: attempt
                .peer
                .map(|_| if attempt.esmtp { "ESMTP" } else { "SMTP" }),
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
