//! Delivery records: what happened to a message, in the field names pipelines already read.

use core::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Moment, Reply, Stage};

/// Kinds of record, as written in the `type` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RecordKind {
    Reception,
    Delivery,
    TransientFailure,
    Bounce,
    Expiration,
    AdminBounce,
    Rejection,
    Delayed,
}

/// `response` of a record.
#[derive(Clone, Debug, Serialize)]
pub struct Response {
    pub code: u16,
    pub enhanced_code: Option<EnhancedCode>,
    pub content: String,
    pub command: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct EnhancedCode {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

#[derive(Clone, Debug, Serialize)]
pub struct PeerAddress<'a> {
    pub name: &'a str,
    pub addr: IpAddr,
}

/// One line of the delivery log. Fields that do not apply are `None` and written as null.
#[derive(Clone, Debug, Serialize)]
pub struct Record<'a> {
    #[serde(rename = "type")]
    pub kind: RecordKind,
    pub id: String,
    /// Empty for the null sender.
    pub sender: &'a str,
    pub recipient: &'a str,
    /// The operator's view: the recipient's domain until tenants and campaigns are known.
    pub queue: &'a str,
    pub site: &'a str,
    /// Octets.
    pub size: usize,
    pub response: Response,
    pub peer_address: Option<PeerAddress<'a>>,
    /// Seconds since the epoch: when this happened.
    pub timestamp: u64,
    /// Seconds since the epoch: when the message was received.
    pub created: u64,
    pub num_attempts: u16,
    pub egress_source: Option<&'a str>,
    pub source_address: Option<SocketAddr>,
    pub delivery_protocol: Option<&'static str>,
    pub reception_protocol: &'a str,
    pub nodeid: &'a str,
    pub session_id: Option<String>,
}

impl Response {
    /// `stage` names the command that was answered.
    pub fn from_reply(reply: &Reply, stage: Option<Stage>) -> Self {
        Self {
            code: reply.code,
            enhanced_code: reply.enhanced.map(|e| EnhancedCode {
                class: e.class,
                subject: e.subject,
                detail: e.detail,
            }),
            content: reply.text.replace('\n', " "),
            command: stage.map(Stage::as_str),
        }
    }
}

impl Record<'_> {
    /// Whole seconds, as the records give time.
    pub const fn seconds(moment: Moment) -> u64 {
        moment.as_secs()
    }

    /// One JSON object on one line, without the line end.
    pub fn to_json(&self) -> Box<[u8]> {
        serde_json::to_vec(self)
            .expect("a record has string keys only and writes to memory")
            .into_boxed_slice()
    }
}
