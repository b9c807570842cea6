//! Delivery records: what happened to a message, in the field names pipelines already read.

use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::{Labels, Moment, Reply, SessionId, Stage};

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

impl Serialize for Headers<'_> {
    /// One value is a text, several are a list, as pipelines read them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Told<'a> {
            One(&'a str),
            Several(&'a [Box<str>]),
        }
        serializer.collect_map(self.0.iter().map(|(name, values)| match values.as_slice() {
            [one] => (name, Told::One(one)),
            several => (name, Told::Several(several)),
        }))
    }
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
    /// Told where `meta` is.
    #[serde(skip)]
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
    #[serde(skip)]
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
const UNFILLED: &[u8] =
    b",\"bounce_classification\":null,\"tls_cipher\":null,\"tls_protocol_version\":null}";
/// What labels of defaults alone say.
const UNLABELLED: &[u8] = b",\"egress_pool\":null,\"meta\":{}";

/// Labels as the record form has them: the pool by itself, the others as the message's meta data.
#[derive(Serialize)]
struct Labelled<'a> {
    egress_pool: Option<&'a str>,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<&'a str>,
}

impl Record<'_> {
    /// Whole seconds, as the records give time.
    pub const fn seconds(moment: Moment) -> u64 {
        moment.as_secs()
    }

    /// One JSON object on one line, without the line end.
    pub fn to_json(&self) -> Box<[u8]> {
        let mut line = Vec::with_capacity(LINE_OCTETS);
        serde_json::to_writer(&mut line, self)
            .expect("a record has string keys only and writes to memory");
        line.pop();
        self.push_labels(&mut line);
        line.extend_from_slice(UNFILLED);
        line.into_boxed_slice()
    }

    fn push_labels(&self, line: &mut Vec<u8>) {
        if self.labels.is_default() && self.egress_pool.is_none() {
            return line.extend_from_slice(UNLABELLED);
        }
        let labelled = Labelled {
            egress_pool: self.egress_pool,
            meta: Meta {
                tenant: self.labels.tenant(),
                campaign: self.labels.campaign(),
            },
        };
        let begin = line.len();
        serde_json::to_writer(&mut *line, &labelled)
            .expect("a record has string keys only and writes to memory");
        line[begin] = b',';
        line.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &Labels) -> Record<'_> {
        Record {
            kind: RecordKind::Bounce,
            id: "1".into(),
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
