//! Whose a message is, told by the rules of shaping as it comes in.

use core::net::IpAddr;

use super::terms::Shapes;
use crate::mail::{fields, remove_fields};
use crate::shaping::{Label, Submission};
use crate::words::{Address, Labels};

/// Fields at the top of a message that are our own.
const OUR_FIELDS: usize = 1;

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// As the configuration has it.
    pub listener: &'a str,
    pub client: IpAddr,
    /// `None` is the null reverse-path.
    pub sender: Option<&'a Address>,
}

impl Shapes {
    /// The labels of a message that begins with our `Received:`. Header fields that must not leave are
    /// taken out of it.
    pub fn label(&self, arrival: &Arrival<'_>, data: &mut Vec<u8>) -> Labels {
        let rules = self.shaping.labels();
        if rules.is_empty() {
            return Labels::default();
        }
        let named = named_fields(data, |name| rules.names_header(name));
        let headers: Vec<(&str, &str)> = named
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let told = rules.classify(&Submission {
            listener: arrival.listener,
            client: arrival.client,
            sender_domain: arrival.sender.map(Address::domain_str),
            headers: &headers,
        });
        let labels = Labels::new(
            set(&told.tenant, rules.default_tenant()),
            set(&told.campaign, rules.default_campaign()),
            set(&told.pool, rules.default_pool()),
        );
        if !told.remove.is_empty() {
            remove_fields(data, OUR_FIELDS, |field| {
                told.remove.iter().any(|name| field.is(name))
            });
        }
        labels
    }
}

/// `None` where it is the default.
fn set<'a>(label: &'a Label<'_>, default: &str) -> Option<&'a str> {
    (label.name != default).then_some(&*label.name)
}

/// Names and unfolded values of the client's fields that matter. What is no UTF-8 in one matches nothing
/// and is no label.
fn named_fields(data: &[u8], matters: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let fields = fields(data).skip(OUR_FIELDS);
    let named = fields.filter_map(|field| {
        let name = core::str::from_utf8(field.name).ok()?;
        matters(name).then(|| (name.to_owned(), field.unfolded().into_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shaping::{File, Layer, Shaping};

    const RULES: &str = "
[[label]]
header = { \"X-Kind\" = \"bulk mail\" }
tenant = \"acme\"
campaign_header = \"X-Campaign\"
remove_headers = [\"X-Campaign\", \"x-kind\"]
[[label]]
listener = \"127.0.0.1:587\"
client = \"10.0.0.0/8\"
sender_domain = \"shop.test\"
pool = \"warm\"
";

    fn shapes(text: &str) -> Shapes {
        let file = File {
            name: "t.toml",
            text,
            layer: Layer::Operator,
        };
        Shapes {
            shaping: Arc::new(Shaping::read(&[file]).unwrap()),
            ..Shapes::default()
        }
    }

    fn told(rules: &str, client: &str, data: &str) -> (Labels, String) {
        let sender = Address::parse("news@shop.test").unwrap();
        let arrival = Arrival {
            listener: "127.0.0.1:587",
            client: client.parse().unwrap(),
            sender: Some(&sender),
        };
        let mut data = data.as_bytes().to_vec();
        let labels = shapes(rules).label(&arrival, &mut data);
        (labels, String::from_utf8(data).unwrap())
    }

    #[test]
    fn rules_give_labels_and_headers_that_must_not_leave_are_gone() {
        let data = "Received: us\r\n\tX-Kind: ours\r\nX-KIND: bulk\r\n mail\r\nFrom: a\r\n\
                    X-Campaign:\r\n spring\r\nX-Campaigns: kept\r\n\r\nX-Kind: body\r\n";
        let (labels, left) = told(RULES, "10.1.1.1", data);
        assert_eq!(
            labels,
            Labels::new(Some("acme"), Some("spring"), Some("warm"))
        );
        assert_eq!(
            left,
            "Received: us\r\n\tX-Kind: ours\r\nFrom: a\r\nX-Campaigns: kept\r\n\r\nX-Kind: body\r\n"
        );
    }

    #[test]
    fn mail_that_no_rule_speaks_of_is_as_it_came() {
        let data = "Received: us\r\nX-Kind: other\r\nX-Campaign: spring\r\n\r\nbody\r\n";
        for rules in [RULES, ""] {
            let (labels, left) = told(rules, "192.0.2.1", data);
            assert!(labels.is_default(), "{labels:?}");
            assert_eq!(left, data);
        }
    }

    #[test]
    fn the_default_by_name_is_the_default() {
        let rules = "[[label]]\ntenant = \"house\"\n[label_defaults]\ntenant = \"house\"\n";
        assert!(told(rules, "::1", "Received: us\r\n\r\n").0.is_default());
    }

    #[test]
    fn our_own_field_is_neither_read_nor_removed() {
        let rules = "[[label]]\nheader = { Received = \"us\" }\ntenant = \"t\"\n\
                     [[label]]\nremove_headers = [\"Received\"]\n";
        let (labels, left) = told(
            rules,
            "::1",
            "Received: us\r\nReceived: them\r\n\r\nbody\r\n",
        );
        assert!(labels.is_default());
        assert_eq!(left, "Received: us\r\n\r\nbody\r\n");
    }
}
