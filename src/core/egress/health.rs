//! How one source stands at one site: well, aside for a while, or on probation.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::blame::{Blame, Fault};
use crate::words::{Moment, Outcome, Stage};

/// When a source steps aside, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// Connections that fail in a row until the source steps aside.
    pub failures_max: u16,
    /// The first time aside for reputation or address; it doubles up to `verdict_max`.
    pub verdict: Duration,
    pub verdict_max: Duration,
    /// The same where connections failed: mostly the site's own trouble, and soon over.
    pub connection: Duration,
    pub connection_max: Duration,
    /// A probe of which nothing is heard is followed by another one after this.
    pub probe: Duration,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            failures_max: 3,
            verdict: Duration::from_secs(15 * 60),
            verdict_max: Duration::from_secs(86_400),
            connection: Duration::from_secs(60),
            connection_max: Duration::from_secs(1800),
            probe: Duration::from_secs(300),
        }
    }
}

/// Where a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Well,
    /// Not used before `until`; then one message tries whether it may return.
    Aside {
        until: Moment,
        fault: Fault,
    },
    /// That message is under way.
    Probing {
        since: Moment,
        fault: Fault,
    },
}

/// As told to other shards, and kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthState {
    pub site: Box<str>,
    /// The source's name.
    pub source: Box<str>,
    /// `None`: well.
    pub aside: Option<AsideState>,
    /// Times in a row, which the next time aside is reckoned from.
    pub times: u16,
}

/// Microseconds since 1970 in `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideState {
    pub until: u64,
    pub fault: FaultName,
}

/// [`Fault`] as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    Reputation,
    Connection,
    Address,
}

impl From<Fault> for FaultName {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Reputation => Self::Reputation,
            Fault::Connection => Self::Connection,
            Fault::Address => Self::Address,
        }
    }
}

impl From<FaultName> for Fault {
    fn from(name: FaultName) -> Self {
        match name {
            FaultName::Reputation => Self::Reputation,
            FaultName::Connection => Self::Connection,
            FaultName::Address => Self::Address,
        }
    }
}

/// What an outcome says of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Mail was taken.
    Good,
    /// The peer talks to it, and has nothing against it that we know of.
    Heard,
    Bad(Fault),
    /// Nothing.
    Silent,
}

impl Verdict {
    fn of(outcome: &Outcome, blame: Blame) -> Self {
        use crate::words::Cause;
        match (outcome, blame) {
            (Outcome::Delivered(_), _) => Self::Good,
            (_, Blame::Source(fault)) => Self::Bad(fault),
            (
                Outcome::Deferred(Cause::Reply { stage, .. })
                | Outcome::Refused(Cause::Reply { stage, .. }),
                Blame::Content | Blame::Domain | Blame::Recipient | Blame::Other,
            ) if !matches!(stage, Stage::Banner | Stage::Ehlo) => Self::Heard,
            (Outcome::Deferred(_) | Outcome::Refused(_), _) => Self::Silent,
        }
    }
}

/// Whether a source may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Yes,
    /// With one message.
    Probe,
    NotBefore(Moment),
}

/// One per source and site that the source was chosen for.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    standing: Standing,
    /// Connections that failed in a row.
    failures: u16,
    /// Times it stepped aside without a long good while between.
    times: u16,
    /// Of the last time aside.
    returned: Moment,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            standing: Standing::Well,
            failures: 0,
            times: 0,
            returned: Moment::default(),
        }
    }
}

impl Health {
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Nothing is worth remembering.
    pub(super) fn is_blank(&self) -> bool {
        self.standing == Standing::Well && self.times == 0
    }

    pub(super) fn turn(&self, rules: &HealthRules, now: Moment) -> Turn {
        match self.standing {
            Standing::Well => Turn::Yes,
            Standing::Aside { until, .. } if now < until => Turn::NotBefore(until),
            Standing::Probing { since, .. } if now < since + rules.probe => {
                Turn::NotBefore(since + rules.probe)
            }
            Standing::Aside { .. } | Standing::Probing { .. } => Turn::Probe,
        }
    }

    /// It was chosen for a probe.
    pub(super) fn probe(&mut self, now: Moment) {
        if let Standing::Aside { fault, .. } | Standing::Probing { fault, .. } = self.standing {
            self.standing = Standing::Probing { since: now, fault };
        }
    }

    /// Whether its standing is another one now. `random` is any number: who stepped aside together
    /// shall not return together.
    pub(super) fn handle_outcome(
        &mut self,
        outcome: &Outcome,
        blame: Blame,
        rules: &HealthRules,
        random: u32,
        now: Moment,
    ) -> bool {
        match (Verdict::of(outcome, blame), self.standing) {
            (Verdict::Silent, _) => false,
            (Verdict::Heard | Verdict::Good, Standing::Well) => {
                self.failures = 0;
                if self.times > 0 && now.since(self.returned) >= rules.verdict_max {
                    self.times = 0;
                    return true;
                }
                false
            }
            // What was under way when it stepped aside proves nothing.
            (Verdict::Heard | Verdict::Good, Standing::Aside { .. }) => false,
            (Verdict::Heard, Standing::Probing { fault, .. }) if fault != Fault::Connection => {
                let until = now + rules.probe;
                self.standing = Standing::Aside { until, fault };
                true
            }
            (Verdict::Heard | Verdict::Good, Standing::Probing { .. }) => {
                self.standing = Standing::Well;
                self.failures = 0;
                self.returned = now;
                true
            }
            (Verdict::Bad(_), Standing::Aside { .. }) => false,
            (Verdict::Bad(Fault::Connection), Standing::Well)
                if self.failures + 1 < rules.failures_max =>
            {
                self.failures += 1;
                false
            }
            (Verdict::Bad(fault), Standing::Well | Standing::Probing { .. }) => {
                self.step_aside(fault, rules, random, now);
                true
            }
        }
    }

    fn step_aside(&mut self, fault: Fault, rules: &HealthRules, random: u32, now: Moment) {
        let (first, max) = match fault {
            Fault::Connection => (rules.connection, rules.connection_max),
            Fault::Reputation | Fault::Address => (rules.verdict, rules.verdict_max),
        };
        let doubled = first.saturating_mul(1 << self.times.min(20));
        let base = doubled.min(max);
        let jitter = base / 10 / 1000 * (random % 1001);
        self.times = self.times.saturating_add(1);
        self.failures = 0;
        let until = now + base + jitter;
        self.standing = Standing::Aside { until, fault };
    }

    pub(super) fn state(&self, site: &str, source: &str, rules: &HealthRules) -> HealthState {
        let aside = |until: Moment, fault: Fault| AsideState {
            until: until.as_micros(),
            fault: fault.into(),
        };
        HealthState {
            site: site.into(),
            source: source.into(),
            aside: match self.standing {
                Standing::Well => None,
                Standing::Aside { until, fault } => Some(aside(until, fault)),
                Standing::Probing { since, fault } => Some(aside(since + rules.probe, fault)),
            },
            times: self.times,
        }
    }

    /// What another shard, or the one before a restart, found out.
    pub(super) fn set(&mut self, state: &HealthState, now: Moment) {
        self.failures = 0;
        self.times = state.times;
        self.returned = now;
        self.standing = match &state.aside {
            None => Standing::Well,
            Some(aside) => Standing::Aside {
                until: Moment::from_micros(aside.until),
                fault: aside.fault.into(),
            },
        };
    }
}
