//! Delivery records: what happened to a message, in the field names pipelines already read.

use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;

use super::json::{Line, key};
use super::{Labels, MessageId, Moment, Reply, SessionId, Stage};

/// Kinds of record, as written in the `type` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    Reception,
    Delivery,
    TransientFailure,
    Bounce,
    Expiration,
    AdminBounce,
    Rejection,
}

impl RecordKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reception => "Reception",
            Self::Delivery => "Delivery",
            Self::TransientFailure => "TransientFailure",
            Self::Bounce => "Bounce",
            Self::Expiration => "Expiration",
            Self::AdminBounce => "AdminBounce",
            Self::Rejection => "Rejection",
        }
    }
}

/// `response` of a record.
#[derive(Clone, Debug)]
pub struct Response {
    pub code: u16,
    pub enhanced_code: Option<EnhancedCode>,
    pub content: String,
    pub command: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct EnhancedCode {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

#[derive(Clone, Debug)]
pub struct PeerAddress<'a> {
    pub name: &'a str,
    pub addr: IpAddr,
}

/// Header fields of the message: the names that were asked for, each with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a>(Vec<(&'a str, Vec<Box<str>>)>);

impl<'a> Headers<'a> {
    /// One value more under `name`, whose values have so many octets together at most: it is cut there,
    /// and one that nothing is left of is not added.
    pub fn add(&mut self, name: &'a str, value: &str, octets_max: usize) {
        let value = value.trim();
        let Some((_, values)) = self.0.iter_mut().find(|(known, _)| *known == name) else {
            let value = &value[..value.floor_char_boundary(octets_max)];
            return self.0.push((name, vec![value.into()]));
        };
        let so_far: usize = values.iter().map(|value| value.len()).sum();
        let value = &value[..value.floor_char_boundary(octets_max.saturating_sub(so_far))];
        if !value.is_empty() {
            values.push(value.into());
        }
    }
}

impl Headers<'_> {
    /// As a reader of the record finds them.
    #[cfg(test)]
    pub(crate) fn read_back(&self) -> serde_json::Value {
        let mut line = Line::with_capacity(0);
        line.object(key!("headers"), |line| self.write(line));
        let mut record: serde_json::Value = serde_json::from_slice(&line.into_object()).unwrap();
        record["headers"].take()
    }

    /// One value is a text, several are a list, as pipelines read them.
    fn write(&self, line: &mut Line) {
        for (name, values) in &self.0 {
            line.raw(",");
            line.string(name);
            line.raw(":");
            if let [one] = values.as_slice() {
                line.string(one);
                continue;
            }
            for (at, value) in values.iter().enumerate() {
                line.raw(if at == 0 { "[" } else { "," });
                line.string(value);
            }
            line.raw("]");
        }
    }
}

/// One line of the delivery log. Fields that do not apply are `None` and written as null.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// `type`.
    pub kind: RecordKind,
    /// `None`, an empty text, where no message came into being.
    pub id: Option<MessageId>,
    /// Empty for the null sender.
    pub sender: &'a str,
    pub recipient: &'a str,
    /// The operator's view, as [`Labels::queue`] names it.
    pub queue: Cow<'a, str>,
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
    pub egress_pool: Option<&'a str>,
    pub source_address: Option<SocketAddr>,
    pub delivery_protocol: Option<&'static str>,
    pub reception_protocol: &'a str,
    pub nodeid: &'a str,
    /// The session in which this happened; null where there was none.
    pub session_id: Option<SessionId>,
    /// Of the site, as shaping knows it.
    pub provider_name: Option<&'a str>,
    pub headers: Headers<'a>,
    /// Told as `meta`, but for the pool.
    pub labels: Labels,
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

/// Room for most lines without growing.
const LINE_OCTETS: usize = 768;
/// Fields of the record form that have nothing to say: answers are not classified, and no connection has
/// TLS. Readers find each key on each line.
const UNFILLED: &str =
    ",\"bounce_classification\":null,\"tls_cipher\":null,\"tls_protocol_version\":null";

impl Response {
    fn write(&self, line: &mut Line) {
        line.number(key!("code"), self.code.into());
        match &self.enhanced_code {
            Some(enhanced) => line.object(key!("enhanced_code"), |line| {
                line.number(key!("class"), enhanced.class.into());
                line.number(key!("subject"), enhanced.subject.into());
                line.number(key!("detail"), enhanced.detail.into());
            }),
            None => line.null(key!("enhanced_code")),
        }
        line.text(key!("content"), &self.content);
        line.maybe_text(key!("command"), self.command);
    }
}

impl Record<'_> {
    /// Whole seconds, as the records give time.
    pub const fn seconds(moment: Moment) -> u64 {
        moment.as_secs()
    }

    /// One JSON object on one line, without the line end.
    pub fn to_json(&self) -> Box<[u8]> {
        let mut line = Line::with_capacity(LINE_OCTETS);
        line.text(key!("type"), self.kind.as_str());
        match self.id {
            Some(id) => line.plain(key!("id"), id),
            None => line.text(key!("id"), ""),
        }
        line.text(key!("sender"), self.sender);
        line.text(key!("recipient"), self.recipient);
        line.text(key!("queue"), &self.queue);
        line.text(key!("site"), self.site);
        line.number(key!("size"), self.size as u64);
        line.object(key!("response"), |line| self.response.write(line));
        self.write_path(&mut line);
        line.object(key!("headers"), |line| self.headers.write(line));
        line.maybe_text(key!("egress_pool"), self.egress_pool);
        line.object(key!("meta"), |line| {
            if let Some(tenant) = self.labels.tenant() {
                line.text(key!("tenant"), tenant);
            }
            if let Some(campaign) = self.labels.campaign() {
                line.text(key!("campaign"), campaign);
            }
        });
        line.raw(UNFILLED);
        line.into_object()
    }

    fn write_path(&self, line: &mut Line) {
        match &self.peer_address {
            Some(peer) => line.object(key!("peer_address"), |line| {
                line.text(key!("name"), peer.name);
                line.ip(key!("addr"), peer.addr);
            }),
            None => line.null(key!("peer_address")),
        }
        line.number(key!("timestamp"), self.timestamp);
        line.number(key!("created"), self.created);
        line.number(key!("num_attempts"), self.num_attempts.into());
        line.maybe_text(key!("egress_source"), self.egress_source);
        match self.source_address {
            Some(address) => line.socket(key!("source_address"), address),
            None => line.null(key!("source_address")),
        }
        line.maybe_text(key!("delivery_protocol"), self.delivery_protocol);
        line.text(key!("reception_protocol"), self.reception_protocol);
        line.text(key!("nodeid"), self.nodeid);
        match self.session_id {
            Some(session) => line.plain(key!("session_id"), session),
            None => line.null(key!("session_id")),
        }
        line.maybe_text(key!("provider_name"), self.provider_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &Labels) -> Record<'_> {
        Record {
            kind: RecordKind::Bounce,
            id: Some(MessageId::from_u128(1)),
            sender: "",
            recipient: "a@b.test",
            queue: labels.queue("b.test"),
            site: "mx.b.test",
            size: 3,
            response: Response::from_reply(
                &Reply::new(550, None, "no\nsuch \"user\""),
                Some(Stage::Rcpt),
            ),
            peer_address: None,
            timestamp: 2,
            created: 1,
            num_attempts: 1,
            egress_source: None,
            egress_pool: labels.pool(),
            source_address: None,
            delivery_protocol: Some("ESMTP"),
            reception_protocol: "ESMTP",
            nodeid: "n",
            session_id: None,
            provider_name: None,
            headers: Headers::default(),
            labels: labels.clone(),
        }
    }

    #[test]
    fn a_line_is_one_object_with_every_key_of_the_form() {
        let line = record(&Labels::default()).to_json();
        assert!(!line.contains(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let unfilled = value.as_object().unwrap().len() - 20;
        assert_eq!(unfilled, 5, "{value}");
        assert!(value["meta"].is_object() && value["tls_cipher"].is_null());
        assert_eq!(value["response"]["command"], "RCPT");
    }

    #[test]
    fn labels_are_told_as_pipelines_read_them() {
        let told = |labels: &Labels| -> serde_json::Value {
            serde_json::from_slice(&record(labels).to_json()).unwrap()
        };
        let plain = told(&Labels::default());
        assert_eq!(plain["queue"], "b.test");
        let labelled = told(&Labels::new(Some("t"), Some("c"), Some("p")));
        assert_eq!(labelled["queue"], "c:t@b.test");
        assert_eq!(labelled["egress_pool"], "p");
        let meta = serde_json::json!({ "tenant": "t", "campaign": "c" });
        assert_eq!(labelled["meta"], meta);
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&labelled), keys(&plain));
        let tenant_only = told(&Labels::new(Some("t"), None, None));
        assert_eq!(tenant_only["meta"], serde_json::json!({ "tenant": "t" }));
        assert!(tenant_only["egress_pool"].is_null());
        let none = Labels::default();
        let mut by_default = record(&none);
        by_default.egress_pool = Some("default");
        let by_default: serde_json::Value = serde_json::from_slice(&by_default.to_json()).unwrap();
        assert_eq!(by_default["egress_pool"], "default");
        assert_eq!(keys(&by_default), keys(&plain));
    }
}
