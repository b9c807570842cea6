//! Records of refused commands. They are no events of the spool: a flood of them must not reach its
//! disk, and a crash may lose the last.

use core::cell::Cell;
use core::net::SocketAddr;

use metrics::Counter;
use posthaste_core::smtp::server;
use posthaste_core::words::{
    Address, Headers, Labels, Moment, PeerAddress, Record, RecordKind, Response, SessionId,
};

use crate::observe::Aside;

/// Records of one shard in one second; what is beyond is only counted.
const PER_SECOND_MAX: u32 = 200;

/// One per shard.
#[derive(Debug)]
pub struct Rejections {
    aside: Aside,
    unlogged: Counter,
    /// A second, and how many records it has had.
    second: Cell<(u64, u32)>,
}

/// Whose command it was.
pub(super) struct Client<'a> {
    pub(super) peer: SocketAddr,
    pub(super) helo: &'a str,
    pub(super) protocol: &'a str,
    pub(super) nodeid: &'a str,
    pub(super) session: SessionId,
}

impl Rejections {
    /// `unlogged` counts those without a record.
    pub const fn new(aside: Aside, unlogged: Counter) -> Self {
        Self {
            aside,
            unlogged,
            second: Cell::new((0, 0)),
        }
    }

    pub(super) fn tell(&self, rejections: &server::Rejections, client: &Client<'_>, at: Moment) {
        self.unlogged.increment(rejections.lost.into());
        for rejection in &rejections.kept {
            if !self.is_within_rate(at) || !self.aside.offer(record(rejection, client, at)) {
                self.unlogged.increment(1);
            }
        }
    }

    fn is_within_rate(&self, at: Moment) -> bool {
        let (second, count) = self.second.get();
        let count = if second == at.as_secs() { count } else { 0 };
        self.second.set((at.as_secs(), count.saturating_add(1)));
        count < PER_SECOND_MAX
    }
}

fn record(rejection: &server::Rejection, client: &Client<'_>, at: Moment) -> Box<[u8]> {
    let recipient = rejection.recipient.as_ref();
    Record {
        kind: RecordKind::Rejection,
        id: None,
        sender: rejection.sender.as_ref().map_or("", Address::as_str),
        recipient: recipient.map_or("", Address::as_str),
        queue: recipient.map_or("", Address::domain_str).into(),
        site: "",
        size: 0,
        response: Response {
            command: Some(rejection.command),
            ..Response::from_reply(&rejection.reply, None)
        },
        peer_address: Some(PeerAddress {
            name: client.helo,
            addr: client.peer.ip(),
        }),
        timestamp: at.as_secs(),
        created: at.as_secs(),
        num_attempts: 0,
        egress_source: None,
        egress_pool: None,
        source_address: None,
        delivery_protocol: None,
        reception_protocol: client.protocol,
        nodeid: client.nodeid,
        session_id: Some(client.session),
        provider_name: None,
        headers: Headers::default(),
        // Labels are given to whole messages.
        labels: Labels::default(),
    }
    .to_json()
}

#[cfg(test)]
mod tests {
    use posthaste_core::words::{IdSequence, Reply, ShardId};

    use super::*;
    use crate::observe::{Mode, aside, meters};

    #[test]
    fn a_second_has_so_many_records_and_the_next_as_many_again() {
        let (meters, shown) = meters(Mode::Commit);
        let (aside, _end) = aside();
        let rejections = Rejections::new(aside, meters.rejections_unlogged.clone());
        let client = Client {
            peer: SocketAddr::from(([192, 0, 2, 1], 9)),
            helo: "c.test",
            protocol: "ESMTP",
            nodeid: "n",
            session: IdSequence::new(ShardId(0), 1).next_session(Moment::default()),
        };
        let one = server::Rejection {
            command: "RCPT",
            sender: None,
            recipient: None,
            reply: Reply::new(550, None, "no"),
        };
        let told = server::Rejections {
            kept: vec![one; 50],
            lost: 7,
        };
        let mut unlogged = 0;
        for second in [5, 6] {
            for _ in 0..5 {
                rejections.tell(&told, &client, Moment::from_secs(second));
            }
            unlogged += 50 + 5 * 7;
            let line = format!("posthaste_rejections_unlogged_total {unlogged}\n");
            assert!(shown.render().contains(&line), "{line}");
        }
    }
}
