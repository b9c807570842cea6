//! What a provider sends back by mail: complaints and late bounces, when they fall due and what they cost. Writes no message.

use super::brain::{Brain, SessionId};
use super::key::key;
use super::profile::Span;
use posthaste_core::words::Moment;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

/// Complaints and bounces that wait to be sent.
const EVENTS_MAX: usize = 100_000;
/// Octets of a message's header kept for a report.
const HEADER_OCTETS_MAX: usize = 16 << 10;

/// What comes back by mail, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Complaint,
    Bounce,
}

/// A complaint or an asynchronous bounce of a message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub ip: IpAddr,
    pub sender: Box<str>,
    pub recipient: Box<str>,
    /// The message's header block as it came, cut at 16 KiB.
    pub header: Box<[u8]>,
    pub accepted: Moment,
    domain: u64,
}

#[derive(Debug)]
pub(super) struct Due {
    at: Moment,
    serial: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

impl Brain {
    pub(super) fn schedule(
        &mut self,
        id: SessionId,
        kind: EventKind,
        after: Span,
        recipient: &str,
        header: &[u8],
        now: Moment,
    ) {
        let at = now + self.random.between(after.0, after.1);
        self.serial += 1;
        let session = self.sessions[id.0 as usize]
            .as_ref()
            .expect("a session lives until its close");
        let event = Event {
            kind,
            ip: self.sources[session.source as usize].ip,
            sender: session.sender.clone(),
            recipient: recipient.into(),
            header: header[..header.len().min(HEADER_OCTETS_MAX)].into(),
            accepted: now,
            domain: session.domain,
        };
        // Where there is no room it happens all the same, and no mail tells of it.
        if self.due.len() >= EVENTS_MAX {
            self.happen(&event, now);
            return;
        }
        let serial = self.serial;
        self.due.push(Reverse(Due { at, serial, event }));
    }

    /// What is to be sent back and due; a complaint costs reputation when it is made.
    pub fn poll_event(&mut self, now: Moment) -> Option<Event> {
        if self.due.peek().is_none_or(|due| due.0.at > now) {
            return None;
        }
        let event = self.due.pop()?.0.event;
        self.happen(&event, now);
        Some(event)
    }

    fn happen(&mut self, event: &Event, now: Moment) {
        match event.kind {
            EventKind::Bounce => self.counts.bounces += 1,
            EventKind::Complaint => {
                self.counts.complaints += 1;
                let profile = Arc::clone(&self.profile);
                let escalation = profile.escalation.as_ref();
                let bound = escalation.and_then(|it| it.complaints.as_ref());
                let (loss, floor) = (profile.reputation.complaint, profile.reputation.floor);
                for index in 0..profile.capacities.len() {
                    let scope = profile.capacities[index].limit.scope;
                    let key = key(scope, event.ip, event.domain, &event.recipient);
                    let standing = self.standing(&profile, index, key, now);
                    standing.lose(loss, floor);
                    let leads_to_block = standing.count_complaint(bound, now);
                    self.counts.blocks += u64::from(leads_to_block);
                }
            }
        }
    }

    /// When [`Self::poll_event`] has something next.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.due.peek().map(|due| due.0.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::bench::Bench;

    #[test]
    fn complaints_beyond_the_room_count_all_the_same() {
        const RECIPIENTS: usize = 1000;
        let mut bench = Bench::new(
            "[[capacity]]\ncold = \"1000/h\"\n[complaint]\nshare = 1.0\nafter = \"1h\"\n[reputation]\ncomplaint = 0.0001\n",
        );
        let id = bench.ready();
        let messages = EVENTS_MAX / RECIPIENTS;
        for number in 0..=messages {
            bench.brain.handle_mail(id, "a@sender.test", bench.now);
            for _ in 0..RECIPIENTS {
                bench.brain.handle_rcpt(id, "b@x.test", bench.now);
            }
            let counted = bench.brain.truth(bench.now).complaints;
            assert_eq!(counted, 0, "{number}");
            bench.brain.handle_end_of_data(id, b"", bench.now);
        }
        let truth = bench.brain.truth(bench.now);
        assert_eq!(truth.complaints, RECIPIENTS as u64);
        assert!(truth.reputation.unwrap() < 0.91, "each costs reputation");
        bench.pass(3600);
        let mut told = 0;
        while bench.brain.poll_event(bench.now).is_some() {
            told += 1;
        }
        assert_eq!(told, EVENTS_MAX);
        let made = ((messages + 1) * RECIPIENTS) as u64;
        assert_eq!(bench.brain.truth(bench.now).complaints, made);
    }
}
