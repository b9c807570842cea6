//! What `[delivery]` says of all sites, in the words of a shaping file, below all such files.

use std::collections::BTreeSet;
use std::time::Duration;

use super::POOL_DEFAULT;
use super::types::{Config, Delivery, EightBit};
use crate::shaping::Options;

impl Config {
    /// What shaping is read from.
    pub fn shaping_options(&self) -> Options {
        Options {
            base: base(&self.delivery),
            is_shipped_used: self.shaping.providers,
            files: self.shaping.files.clone(),
            pools: Some(self.pool_names()),
        }
    }

    /// The default one is there whether it has a table or not.
    pub fn pool_names(&self) -> BTreeSet<Box<str>> {
        let names = self.pools.iter().map(|pool| Box::from(&*pool.name));
        names.chain([POOL_DEFAULT.into()]).collect()
    }
}

fn base(delivery: &Delivery) -> String {
    let timeouts = &delivery.timeouts;
    let numbers = [
        ("connection_limit", delivery.connections_max),
        (
            "max_deliveries_per_connection",
            delivery.messages_per_connection_max,
        ),
        (
            "max_recipients_per_batch",
            delivery.recipients_per_transaction_max,
        ),
    ];
    let spans = [
        ("connect_timeout", timeouts.connect),
        ("banner_timeout", timeouts.banner),
        ("ehlo_timeout", timeouts.ehlo),
        ("mail_from_timeout", timeouts.mail),
        ("rcpt_to_timeout", timeouts.rcpt),
        ("data_timeout", timeouts.data),
        ("data_dot_timeout", timeouts.dot),
        ("idle_timeout", delivery.idle),
    ];
    let is_sent = delivery.eight_bit == EightBit::Send;
    let flags = [
        ("enable_pipelining", delivery.pipelining),
        ("ignore_8bit_checks", is_sent),
    ];
    let millis = |time: Duration| format!("\"{}ms\"", time.as_millis());
    let mut lines = vec!["[\"default\"]".to_owned()];
    lines.extend(numbers.map(|(key, number)| format!("{key} = {number}")));
    lines.extend(spans.map(|(key, time)| format!("{key} = {}", millis(time))));
    lines.extend(flags.map(|(key, flag)| format!("{key} = {flag}")));
    lines.join("\n")
}
