//! What is remembered of each shared limit from round to round: what was not said yet, and how much
//! of the rate has been this node's. It talks to nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::shaping::limit::{Ask, Lease, Limit, LimitId, Pace, Places};
use posthaste_core::words::Moment;

use super::scripts::{Absence, LEASE};

/// Over this time a share is averaged.
const SHARE_OVER: f64 = 1.0;
/// A share that is older says nothing.
const SHARE_AGE_MAX: Duration = Duration::from_secs(5);
/// Places that change nothing are told of again after this time, well within a node's word.
const PLACES_AGAIN: Duration = Duration::from_secs(1);

/// How long after a return other nodes may still be without Redis: their back-off, and some more.
const SETTLE: Duration = Duration::from_secs(3);
/// No more than the share of this time is wanted at once then.
const CURB_SPAN: Duration = Duration::from_millis(200);

/// The last loss of Redis; number 0: there was none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) number: u64,
    /// The last answer before it.
    pub(super) since: Moment,
}

/// One per shared limit.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) key: Arc<str>,
    unused: u64,
    alone: u64,
    /// Permits a second.
    share: f64,
    answered: Option<Moment>,
    nodes: u64,
    told: Option<(Places, Moment)>,
    /// Losses of Redis that its answers are later than.
    losses: u64,
    /// Until then it is just back.
    settled: Moment,
    curbed: Moment,
    /// Permits of the share that were not asked for.
    spare: f64,
}

impl Account {
    fn new(prefix: &str, limit: &Limit) -> Self {
        let name = &limit.name;
        let (limited, scope) = (name.limited.name(), name.scope.name());
        Self {
            key: format!("{prefix}limit:{limited}/{scope}/{}", name.name).into(),
            unused: 0,
            alone: 0,
            share: 0.0,
            answered: None,
            nodes: 1,
            told: None,
            losses: 0,
            settled: Moment::default(),
            curbed: Moment::default(),
            spare: 0.0,
        }
    }

    /// `ask` with what could not be said before; `None` when there is nothing to say.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<Ask> {
        let ask = Ask {
            unused: ask.unused + core::mem::take(&mut self.unused),
            alone: ask.alone + core::mem::take(&mut self.alone),
            ..ask
        };
        (!ask.is_empty()).then_some(ask)
    }

    /// Nobody may have heard it. What is lost on the way back is granted to nobody.
    pub(super) fn take_back(&mut self, ask: Ask) {
        self.unused = ask.unused;
        self.alone = ask.alone;
        self.told = None;
    }

    /// Whether these places are to be told of.
    pub(super) fn is_news(&self, places: Places, now: Moment) -> bool {
        let is_idle = places.open == 0 && places.wanted == 0 && places.part == 0;
        self.told.is_none_or(|(told, at)| {
            let is_old = !is_idle && now.since(at) >= PLACES_AGAIN;
            is_old || places.is_short || told != places
        }) && !(is_idle && self.told.is_none())
    }

    pub(super) fn told(&mut self, places: Places, now: Moment) {
        self.told = Some((places, now));
        self.answered = Some(now);
    }

    /// How this limit was without Redis since it had its last answer.
    pub(super) fn absence(&self, loss: Loss, now: Moment) -> Absence {
        let gone = if self.losses < loss.number {
            now.since(loss.since)
        } else {
            Duration::ZERO
        };
        Absence {
            gone,
            peers: self.nodes,
        }
    }

    /// Redis knows of the absence. What it answers next says nothing of the share.
    pub(super) fn heard(&mut self, loss: Loss, now: Moment) {
        if self.losses < loss.number {
            self.losses = loss.number;
            self.answered = self.answered.map(|_| now);
            self.settled = now + SETTLE;
        }
    }

    /// Just back, no more than the share is wanted: the other nodes may still go on alone.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a few rounds is a small number"
    )]
    pub(super) fn curb(&mut self, wanted: u64, loss: Loss, now: Moment) -> u64 {
        let passed = now.since(core::mem::replace(&mut self.curbed, now));
        let is_settled = self.losses == loss.number && now >= self.settled;
        if is_settled || self.answered.is_none() {
            return wanted;
        }
        let passed = passed.min(CURB_SPAN).as_secs_f64();
        self.spare = (self.spare + self.share * passed).min((self.share * passed * 4.0).max(1.0));
        let curbed = wanted.min(self.spare as u64);
        self.spare -= curbed as f64;
        curbed
    }

    /// The lease that `granted` permits make, asked for at `now`, of a rate that `nodes` share.
    #[expect(clippy::cast_precision_loss, reason = "a share is rough anyway")]
    pub(super) fn grant(&mut self, granted: u64, nodes: u64, rate: Pace, now: Moment) -> Lease {
        let passed = self.answered.map(|at| now.since(at));
        match passed.filter(|passed| *passed < SHARE_AGE_MAX) {
            Some(passed) if !passed.is_zero() => {
                let passed = passed.as_secs_f64();
                let weight = (-passed / SHARE_OVER).exp();
                self.share = self.share * weight + (1.0 - weight) * granted as f64 / passed;
            }
            Some(_) => {}
            None => {
                let all = rate.count() as f64 / rate.period().as_secs_f64();
                self.share = all / nodes.max(1) as f64;
            }
        }
        self.answered = Some(now);
        self.nodes = nodes.max(1);
        let span = granted as f64 / self.share.max(1e-9);
        Lease {
            permits: granted,
            span: Duration::try_from_secs_f64(span).unwrap_or(Duration::MAX),
            until: now + LEASE,
        }
    }

    /// What to go on with alone, where the last lease says nothing of it: a part by heads.
    pub(super) fn share_by_heads(&self, rate: Pace, now: Moment) -> Option<Pace> {
        let answered = self.answered?;
        let nodes = u32::try_from(self.nodes).unwrap_or(u32::MAX);
        let is_stale = now.since(answered) >= SHARE_AGE_MAX;
        let period = rate.period().saturating_mul(nodes);
        is_stale.then(|| Pace::smooth(rate.count(), period).ok())?
    }
}

/// One per node.
#[derive(Debug)]
pub(super) struct Accounts {
    prefix: String,
    accounts: BTreeMap<LimitId, Account>,
}

impl Accounts {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            accounts: BTreeMap::new(),
        }
    }

    pub(super) fn of(&mut self, limit: &Limit) -> &mut Account {
        let prefix = &self.prefix;
        self.accounts
            .entry(limit.id)
            .or_insert_with(|| Account::new(prefix, limit))
    }

    /// Forgets limits that are no more.
    pub(super) fn sweep(&mut self, listed: &[Arc<Limit>]) {
        if self.accounts.len() > listed.len() {
            let ids: std::collections::BTreeSet<_> = listed.iter().map(|limit| limit.id).collect();
            self.accounts.retain(|id, _| ids.contains(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_core::shaping::limit::{self, Meter, Registry};
    use posthaste_core::shaping::{LimitKey, Limited, Scope};

    fn account() -> Account {
        let name = LimitKey {
            limited: Limited::Messages,
            scope: Scope::Site,
            name: "(mx).example".into(),
        };
        let (limit, _) = Registry::default().leased_connections(&name, 1, 1, limit::Loss::Stop);
        assert!(matches!(limit.meter, Meter::Connections(_)));
        Account::new("ph:", &limit)
    }

    #[test]
    fn what_nobody_heard_is_said_again() {
        let mut account = account();
        assert_eq!(&*account.key, "ph:limit:message rate/site/(mx).example");
        assert_eq!(account.ask(Ask::default()), None);
        let ask = Ask {
            wanted: 5,
            unused: 2,
            alone: 3,
            left: 0,
        };
        account.take_back(ask);
        let again = account.ask(Ask::default()).unwrap();
        assert_eq!((again.wanted, again.unused, again.alone), (0, 2, 3));
        assert_eq!(account.ask(Ask::default()), None);
    }

    #[test]
    fn a_share_follows_what_was_granted_and_goes_stale() {
        let mut account = account();
        let rate = Pace::smooth(500, Duration::from_secs(1)).unwrap();
        let mut now = Moment::from_secs(1000);
        let mut lease = account.grant(25, 2, rate, now);
        for _ in 0..200 {
            now = now + Duration::from_millis(50);
            lease = account.grant(5, 4, rate, now);
        }
        let share = lease.permits as f64 / lease.span.as_secs_f64();
        assert!((99.0..101.0).contains(&share), "5 in 50 ms: {share}");
        assert_eq!(account.share_by_heads(rate, now), None);
        let stale = account.share_by_heads(rate, now + SHARE_AGE_MAX).unwrap();
        assert_eq!(stale.period(), Duration::from_secs(4));
    }

    #[test]
    fn a_loss_counts_until_the_next_answer() {
        let mut account = account();
        let now = Moment::from_secs(1000);
        let loss = |number| Loss { number, since: now };
        let later = now + Duration::from_secs(3);
        let gone = |account: &Account, number| account.absence(loss(number), later).gone;
        assert_eq!(gone(&account, 0), Duration::ZERO);
        assert_eq!(gone(&account, 1), Duration::from_secs(3));
        account.heard(loss(1), later);
        assert_eq!(gone(&account, 1), Duration::ZERO);
        assert_eq!(gone(&account, 2), Duration::from_secs(3));
    }

    #[test]
    fn just_back_a_node_wants_its_share_and_no_more() {
        let mut account = account();
        let rate = Pace::smooth(500, Duration::from_secs(1)).unwrap();
        let start = Moment::from_secs(1000);
        let loss = |number| Loss {
            number,
            since: start,
        };
        let _ = account.grant(25, 2, rate, start);
        assert_eq!(account.curb(900, loss(0), start), 900);
        let back = start + Duration::from_secs(4);
        let (mut wanted, mut now) = (0, back);
        for round in 0..40 {
            wanted += account.curb(900, loss(1), now);
            if round == 0 {
                account.heard(loss(1), now);
                let _ = account.grant(0, 1, rate, now);
            }
            now = now + Duration::from_millis(50);
        }
        assert!(
            (480..=560).contains(&wanted),
            "250 a second for 2 s: {wanted}"
        );
        assert_eq!(account.curb(900, loss(1), back + SETTLE), 900);
    }
}
