//! Which host of a site a connection tries first, what a lane remembers of hosts that would not have
//! us, and what follows when none of them takes mail at all.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use super::brain::Dispatch;
use super::lane::{Connection, Lane, Verdict, Wake};
use crate::words::{Cause, ConnectionId, Host, Moment, Outcome, Plan, Stage};

/// How long the other hosts of a site go before one that failed. Each trial of a host that greets us
/// and then hangs up costs a message an attempt; a host that is well again should soon have its part.
const SET_BACK: Duration = Duration::from_secs(120);
/// Hosts that one lane remembers.
const SET_BACK_MAX: usize = 32;
/// Mail for a site that takes none is refused so long without asking the site again.
const SHUT_MAX: Duration = Duration::from_secs(300);
/// Entries that are refused in one go; the next go follows soon.
const REFUSED_PER_WAKE: usize = 4096;

/// Hosts of a lane that go last, because they failed; who failed first goes before the others.
#[derive(Debug, Default)]
pub(super) struct SetBack(Vec<(SocketAddr, Moment)>);

impl SetBack {
    fn add(&mut self, host: SocketAddr, now: Moment) {
        self.forget(host);
        if self.0.len() >= SET_BACK_MAX {
            self.0.remove(0);
        }
        self.0.push((host, now + SET_BACK));
    }

    /// It took or refused mail.
    pub(super) fn forget(&mut self, host: SocketAddr) {
        self.0.retain(|(other, _)| *other != host);
    }

    /// Moves them behind the others, whatever their preference: RFC 5321 §5.1 has the next host tried
    /// when one fails.
    pub(super) fn arrange(&self, order: &mut [usize], plan: &Plan, now: Moment) {
        let place = |index: &usize| {
            let address = plan.hosts[*index].address;
            let failed = |(host, until): &(SocketAddr, Moment)| *host == address && now < *until;
            self.0.iter().position(failed).map_or(0, |place| place + 1)
        };
        if !self.0.is_empty() {
            order.sort_by_key(place);
        }
    }
}

/// What the hosts said that a connection tried in vain before it stood.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    hosts: u16,
    /// Of these, how many never take mail.
    closed: u16,
}

impl Tried {
    /// Nobody was left who might take it.
    pub(super) const fn is_shut_out(self) -> bool {
        self.hosts > 0 && self.hosts == self.closed
    }
}

/// RFC 7504 §3: the host takes no mail, from nobody and never, and another one is to be tried. Other
/// replies of 5xx to a newcomer (554 of RFC 5321 §3.1) are mostly about who asks: a listed address, a
/// full house. Mail waits for these to pass, as it does with Postfix and Exim.
fn is_closed(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Reply { stage: Stage::Banner | Stage::Ehlo, reply } if reply.code == 521
    )
}

impl Lane {
    /// What becomes of its work while its site takes none.
    pub(super) fn refusal(&self, now: Moment) -> Option<Arc<Outcome>> {
        let refusal = self.refusal.as_ref().filter(|_| self.is_paused(now));
        refusal.map(Arc::clone)
    }
}

impl Dispatch {
    /// A host was of no use to a connection that goes on to the next one, if there is one.
    pub fn handle_unusable(&mut self, c: ConnectionId, host: &Host, cause: &Cause, now: Moment) {
        let Some(connection) = self.connections.get_mut(&c) else {
            return;
        };
        let tried = &mut connection.tried;
        tried.hosts = tried.hosts.saturating_add(1);
        tried.closed = tried.closed.saturating_add(u16::from(is_closed(cause)));
        if cause.blames_site() {
            self.lanes[connection.lane].set_back.add(host.address, now);
        }
    }

    /// A host greeted the connection, and failed it before it had an answer to anything.
    pub(super) fn set_back(&mut self, connection: &Connection, cause: &Cause, now: Moment) {
        let peer = connection.peer.as_ref().filter(|_| cause.blames_site());
        if let Some(peer) = peer {
            let lane = &mut self.lanes[connection.lane];
            lane.set_back.add(peer.host.address, now);
        }
    }

    /// The site takes no mail: for some time everything for it is refused.
    pub(super) fn shut(&mut self, lane: u32, cause: &Cause, now: Moment) {
        let state = &mut self.lanes[lane];
        state.refusal = Some(Arc::new(Outcome::Refused(cause.clone())));
        let until = now + SHUT_MAX;
        if until < state.paused_until {
            state.paused_until = until;
            self.due.push(until, Wake::Lane(lane));
        }
        self.refuse_ready(lane, now);
    }

    /// Refuses what the lane has, a part at a time; whether it is to be refused.
    pub(super) fn refuse_ready(&mut self, lane: u32, now: Moment) -> bool {
        let Some(refusal) = self.lanes[lane].refusal(now) else {
            return false;
        };
        for _ in 0..REFUSED_PER_WAKE {
            let entries = &self.entries;
            let is_held = |id| entries.get(id).message.is_some();
            let Some(id) = self.lanes[lane].strands.take_head(is_held) else {
                return true;
            };
            if self.is_stray(id, lane) {
                self.send_on(id, now);
            } else {
                self.load(id, Verdict::Settle(Arc::clone(&refusal)), now);
            }
        }
        self.due.push(now, Wake::Lane(lane));
        true
    }
}
