//! The delivery record of one recipient's outcome.

use super::brain::Dispatch;
use super::lane::Via;
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
            Outcome::Deferred(cause) => {
                (RecordKind::TransientFailure, response(outcome, cause, 400))
            }
            Outcome::Refused(cause @ Cause::Expired { .. }) => {
                (RecordKind::Expiration, response(outcome, cause, 551))
            }
            Outcome::Refused(cause @ Cause::Operator { .. }) => {
                (RecordKind::AdminBounce, response(outcome, cause, 550))
            }
            Outcome::Refused(cause) => (RecordKind::Bounce, response(outcome, cause, 550)),
        };
        let address = &message.envelope.recipients[usize::from(recipient)].address;
        let sender = message.envelope.sender.as_ref();
        let attempted = !matches!(
            outcome,
            Outcome::Refused(Cause::Expired { .. } | Cause::Operator { .. })
        );
        let via = attempt.lane.map(|lane| self.lanes[lane].key.via);
        let via = via.filter(|via| matches!(via, Via::Source(..)));
        let via = via.unwrap_or_else(|| self.via_of_labels(&message.labels));
        self.count(kind, via);
        let pool = self.config.fleet.pool_behind(via);
        let record = Record {
            kind,
            id: Some(message.id),
            sender: sender.map_or("", |sender| sender.as_str()),
            recipient: address.as_str(),
            queue: message.labels.queue(address.domain_str()),
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
            egress_pool: pool
                .map(|pool| &*pool.name)
                .or_else(|| message.labels.pool()),
            egress_source: attempt.egress.as_deref(),
            source_address: attempt.peer.and_then(|(_, source)| source),
            delivery_protocol: attempt
                .peer
                .map(|_| if attempt.esmtp { "ESMTP" } else { "SMTP" }),
            reception_protocol: message.reception.protocol,
            nodeid: &self.config.nodeid,
            session_id: attempt.session,
            provider_name: attempt
                .lane
                .and_then(|lane| self.lanes[lane].terms.provider_name()),
            headers: self.config.noted.of(&message.data),
            labels: message.labels.clone(),
        };
        record.to_json()
    }
}

/// The cause of `outcome` as a reply: the peer's own, or one made of what we know.
fn response(outcome: &Outcome, cause: &Cause, code: u16) -> Response {
    let code = match cause {
        Cause::Reply { stage, reply } => return Response::from_reply(reply, Some(*stage)),
        Cause::Route(RouteError::NullMx) => 556,
        Cause::Route(_)
        | Cause::Connect { .. }
        | Cause::Lost { .. }
        | Cause::Protocol { .. }
        | Cause::NotSupported { .. }
        | Cause::Expired { .. }
        | Cause::Operator { .. }
        | Cause::Ours { .. } => code,
    };
    let Enhanced {
        subject, detail, ..
    } = outcome.enhanced();
    Response {
        code,
        // RFC 2034 §4: its class is that of the reply, also where a report lets a failure be of class 4.
        enhanced_code: Some(EnhancedCode {
            class: u8::try_from(code / 100).unwrap_or(5),
            subject,
            detail,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Reply, Stage};

    fn code_of(outcome: &Outcome, cause: &Cause, code: u16) -> (u16, Option<(u8, u16, u16)>) {
        let response = response(outcome, cause, code);
        let enhanced = response.enhanced_code;
        (
            response.code,
            enhanced.map(|e| (e.class, e.subject, e.detail)),
        )
    }

    #[test]
    fn records_give_the_codes_of_reports_for_each_cause() {
        let (stage, detail) = (Stage::Mail, || "x".into());
        let nowhere = RouteError::Prohibited([10, 0, 0, 1].into());
        for (cause, is_final) in [
            (Cause::Connect { detail: detail() }, false),
            (
                Cause::Lost {
                    stage,
                    detail: detail(),
                },
                false,
            ),
            (
                Cause::Protocol {
                    stage,
                    detail: detail(),
                },
                false,
            ),
            (Cause::Route(RouteError::NoSuchDomain), true),
            (Cause::Route(RouteError::NullMx), true),
            (Cause::Route(RouteError::LoopsToUs), true),
            (Cause::Route(nowhere), true),
            (Cause::Route(RouteError::Dns("x")), false),
            (
                Cause::NotSupported {
                    extension: "SMTPUTF8",
                },
                true,
            ),
            (
                Cause::NotSupported {
                    extension: "8BITMIME",
                },
                true,
            ),
            (Cause::Operator { reason: detail() }, true),
            (Cause::Operator { reason: detail() }, false),
            (Cause::Ours { detail: detail() }, true),
            (Cause::Ours { detail: detail() }, false),
        ] {
            let (outcome, code) = if is_final {
                (Outcome::Refused(cause.clone()), 550)
            } else {
                (Outcome::Deferred(cause.clone()), 400)
            };
            let is_null_mx = matches!(cause, Cause::Route(RouteError::NullMx));
            let wanted = outcome.enhanced();
            assert_eq!(
                code_of(&outcome, &cause, code),
                (
                    if is_null_mx { 556 } else { code },
                    Some((wanted.class, wanted.subject, wanted.detail))
                ),
                "{cause:?}"
            );
        }
    }

    #[test]
    fn an_expiration_is_of_the_class_of_its_reply() {
        let cause = Cause::Expired { last: "x".into() };
        let outcome = Outcome::Refused(cause.clone());
        assert_eq!(code_of(&outcome, &cause, 551), (551, Some((5, 4, 7))));
    }

    #[test]
    fn a_peers_reply_is_given_as_it_came() {
        let reply = Reply::new(550, None, "no");
        let cause = Cause::Reply {
            stage: Stage::Rcpt,
            reply,
        };
        let outcome = Outcome::Refused(cause.clone());
        assert_eq!(code_of(&outcome, &cause, 400), (550, None));
    }
}
