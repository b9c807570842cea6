//! Automation: counts how often each rule matched, and says what is to be done once it is enough.

use core::time::Duration;
use std::collections::BTreeMap;

use super::firing::{Deed, Firing, Undone, renewal};
use super::overview::Whose;
use super::terms::Shapes;
use crate::automation::{Counts, Often};
use crate::egress::Source;
use crate::shaping::{Mode, Trigger, Wish};
use crate::words::Moment;

/// Acts an operator can look at; beyond, those whose rule matched longest ago go first.
const ACTS_MAX: usize = 10_000;
/// An act of which nothing is left and whose rule has not matched for so long is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(86_400);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A bounce that lasts looks for mail anew so often.
const BOUNCE_EVERY: Duration = Duration::from_secs(10);

/// A rule, and whom it was about.
type Of = (Box<str>, Box<str>);

/// What a rule has seen and done about somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// `google.toml:12:1`.
    pub rule: Box<str>,
    /// `a at mx.example`.
    pub whom: Box<str>,
    pub mode: Mode,
    /// `3/10m`, `Immediate`.
    pub trigger: Box<str>,
    /// Matches since this was begun to be kept.
    pub matches: u64,
    /// Of these, within the trigger's period, when the last one came.
    pub lately: u64,
    pub last: Moment,
    pub reply: Box<str>,
    /// What was done at the last match that was enough, or would have been; empty: there was none yet.
    pub done: Vec<Box<str>>,
    /// Until when that holds.
    pub until: Option<Moment>,
}

/// What is to be done about a firing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub wishes: Vec<Wish>,
    pub bounces: Vec<(Whose, Box<str>)>,
    /// For the operator.
    pub told: Option<String>,
    pub is_enforced: bool,
}

#[derive(Debug)]
struct Bounce {
    whose: Whose,
    reason: Box<str>,
    until: Moment,
    next: Moment,
}

/// One per node.
#[derive(Debug, Default)]
pub struct Automaton {
    counts: Counts<Of>,
    acts: BTreeMap<Of, Act>,
    bounces: Vec<Bounce>,
    swept: Moment,
}

impl Automaton {
    /// A rule matched. `shapes` is what holds now, with what is asked for here as soon as it is done.
    pub fn handle_firing(
        &mut self,
        firing: &Firing,
        shapes: &Shapes,
        sources: &[Source],
        now: Moment,
    ) -> Step {
        self.sweep(now);
        let rule = &firing.rule;
        let of: Of = (rule.place.to_string().into(), firing.whom().into());
        let (lately, is_enough) = match rule.trigger {
            Trigger::Immediate => (1, true),
            Trigger::Threshold(rate) => {
                let often = Often {
                    times: rate.count,
                    period: rate.period,
                };
                self.counts.count(&of, often, now)
            }
        };
        let act = self.acts.entry(of).or_insert_with_key(|(place, whom)| Act {
            rule: place.clone(),
            whom: whom.clone(),
            mode: rule.mode,
            trigger: rule.trigger.to_string().into(),
            matches: 0,
            lately: 0,
            last: now,
            reply: "".into(),
            done: Vec::new(),
            until: None,
        });
        act.mode = rule.mode;
        act.matches += 1;
        act.lately = lately;
        act.last = now;
        act.reply.clone_from(&firing.reply);
        if !is_enough {
            return Step::default();
        }
        let was_told = act.until.is_some_and(|until| until > now);
        let deeds = firing.deeds(shapes, sources, now);
        act.done = deeds.iter().map(|deed| in_words(deed).into()).collect();
        act.until = Some(now + rule.duration);
        let told = format!(
            "automation: {} ({}, {}): {}: {}: {}",
            act.rule,
            act.trigger,
            told_mode(rule.mode),
            act.whom,
            act.done.join("; "),
            act.reply
        );
        let mut step = Step {
            told: (!was_told && rule.mode != Mode::Observe).then_some(told),
            is_enforced: rule.mode == Mode::Enforce,
            ..Step::default()
        };
        if rule.mode == Mode::Enforce {
            for deed in deeds.into_iter().flatten() {
                self.take(deed, firing, shapes, &mut step, now);
            }
        }
        step
    }

    /// What is not as good as done already.
    fn take(&mut self, deed: Deed, firing: &Firing, shapes: &Shapes, step: &mut Step, now: Moment) {
        match deed {
            Deed::Set(wish) => {
                let before = shapes.overrides.get(&wish);
                let lasts = before
                    .filter(|set| set.value == wish.value && set.expires > now)
                    .is_some_and(|set| set.expires + renewal(firing.rule.duration) >= wish.expires);
                if !lasts {
                    step.wishes.push(wish);
                }
            }
            Deed::Bounce {
                whose,
                reason,
                until,
            } => {
                let known = self.bounces.iter_mut().find(|known| known.whose == whose);
                if let Some(known) = known {
                    known.until = known.until.max(until);
                } else {
                    step.bounces.push((whose.clone(), reason.clone()));
                    self.bounces.push(Bounce {
                        whose,
                        reason,
                        until,
                        next: now + BOUNCE_EVERY,
                    });
                }
            }
        }
    }

    /// Bounces that look for mail anew. To be called often.
    pub fn bounces_due(&mut self, now: Moment) -> Vec<(Whose, Box<str>)> {
        self.bounces.retain(|bounce| bounce.until > now);
        let due = self.bounces.iter_mut().filter(|bounce| bounce.next <= now);
        due.map(|bounce| {
            bounce.next = now + BOUNCE_EVERY;
            (bounce.whose.clone(), bounce.reason.clone())
        })
        .collect()
    }

    /// What rules have seen and done, by rule and whom.
    pub fn acts(&self) -> impl Iterator<Item = &Act> {
        self.acts.values()
    }

    fn sweep(&mut self, now: Moment) {
        if now.since(self.swept) < SWEEP_EVERY && self.acts.len() < ACTS_MAX {
            return;
        }
        self.swept = now;
        self.counts.sweep(now);
        self.acts.retain(|_, act| {
            act.until.is_some_and(|until| until > now) || now.since(act.last) < KEPT_FOR
        });
        if self.acts.len() >= ACTS_MAX {
            let mut last: Vec<Moment> = self.acts.values().map(|act| act.last).collect();
            let (_, median, _) = last.select_nth_unstable(ACTS_MAX / 2);
            let median = *median;
            self.acts.retain(|_, act| act.last > median);
        }
    }
}

fn in_words(deed: &Result<Deed, Undone>) -> String {
    match deed {
        Ok(Deed::Set(wish)) => {
            let from = wish.source.as_ref().map(|source| format!(" from {source}"));
            format!(
                "{} = {} for {} {}{}",
                wish.key.name(),
                wish.value,
                wish.kind.name(),
                wish.name,
                from.unwrap_or_default()
            )
        }
        Ok(Deed::Bounce { whose, .. }) => format!("bounce {}", whose.told()),
        Err(undone) => format!("nothing: {undone}"),
    }
}

const fn told_mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observed only",
        Mode::Advise => "advice, nothing was done",
        Mode::Enforce => "done",
    }
}
