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
/// Mail of the same is bounced so often at most, however many replies ask for it: each time the whole
/// queue is looked through.
const BOUNCE_EVERY: Duration = Duration::from_secs(10);
/// Whose mail may be bounced within that time; beyond, it is left to wait.
const BOUNCES_MAX: usize = 100;
/// A rule that goes on to match without doing anything is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(3600);

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
    /// Until when that holds, or would; `None`: there was nothing that could be done.
    pub until: Option<Moment>,
    told_until: Moment,
}

/// What is to be done about a firing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub wishes: Vec<Wish>,
    /// What holds already, and is to hold longer: there is time for it.
    pub renewals: Vec<Wish>,
    pub bounces: Vec<(Whose, Box<str>)>,
    /// For the operator.
    pub told: Option<String>,
}

/// One per node.
#[derive(Debug, Default)]
pub struct Automaton {
    /// By the rule as it is written, so that another one at its place begins anew.
    counts: Counts<Of>,
    acts: BTreeMap<Of, Act>,
    /// In words whose mail was bounced lately, and until when it is not again.
    bounced: BTreeMap<Box<str>, Moment>,
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
        let of: Of = (rule.place.to_string().into(), firing.whom(sources).into());
        let (lately, is_enough) = self.count(firing, &of, now);
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
            told_until: now,
        });
        act.mode = rule.mode;
        act.matches += 1;
        act.lately = lately;
        act.last = now;
        act.reply.clone_from(&firing.reply);
        if !is_enough {
            return Step::default();
        }
        let deeds = firing.deeds(shapes, sources, now);
        let told = act.handle_deeds(&deeds, rule.duration, now);
        let mut step = Step {
            told,
            ..Step::default()
        };
        if rule.mode == Mode::Enforce {
            for deed in deeds.into_iter().flatten() {
                self.take(deed, firing, shapes, &mut step, now);
            }
        }
        step
    }

    /// How often it has matched lately, and whether that is enough.
    fn count(&mut self, firing: &Firing, (place, whom): &Of, now: Moment) -> (u64, bool) {
        let Trigger::Threshold(rate) = firing.rule.trigger else {
            return (1, true);
        };
        let often = Often {
            times: rate.count,
            period: rate.period,
        };
        let written = format!("{place} {}", firing.rule).into();
        self.counts.count(&(written, whom.clone()), often, now)
    }

    /// What is not as good as done already.
    fn take(&mut self, deed: Deed, firing: &Firing, shapes: &Shapes, step: &mut Step, now: Moment) {
        match deed {
            Deed::Set(wish) => {
                let before = shapes.overrides.get(&wish);
                let same = before.filter(|set| set.value == wish.value && set.expires > now);
                let Some(same) = same else {
                    step.wishes.push(wish);
                    return;
                };
                if same.expires + renewal(firing.rule.duration) < wish.expires {
                    step.renewals.push(wish);
                }
            }
            Deed::Bounce { whose, reason } => {
                let told = whose.told().into();
                self.bounced.retain(|_, until| *until > now);
                if self.bounced.len() < BOUNCES_MAX && !self.bounced.contains_key(&told) {
                    self.bounced.insert(told, now + BOUNCE_EVERY);
                    step.bounces.push((whose, reason));
                }
            }
        }
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
            let mut last: Vec<(Moment, Of)> = self
                .acts
                .iter()
                .map(|(of, act)| (act.last, of.clone()))
                .collect();
            last.select_nth_unstable(ACTS_MAX / 2);
            for (_, of) in last.into_iter().take(ACTS_MAX / 2) {
                self.acts.remove(&of);
            }
        }
    }
}

impl Act {
    /// Enough matches have come. The line for the operator, if he has not had it: when it begins to do
    /// something, and now and then where there is nothing that it could do.
    fn handle_deeds(
        &mut self,
        deeds: &[Result<Deed, Undone>],
        duration: Duration,
        now: Moment,
    ) -> Option<String> {
        let was_active = self.until.is_some_and(|until| until > now);
        self.done = deeds.iter().map(|deed| in_words(deed).into()).collect();
        let is_active = deeds.iter().any(Result::is_ok);
        self.until = is_active.then_some(now + duration);
        let is_news = match is_active {
            true => !was_active,
            false => now >= self.told_until,
        };
        if !is_news || self.mode == Mode::Observe {
            return None;
        }
        self.told_until = now + TOLD_EVERY;
        let Self {
            rule,
            trigger,
            whom,
            reply,
            ..
        } = self;
        let (mode, done) = (told_mode(self.mode), self.done.join("; "));
        Some(format!(
            "automation: {rule} ({trigger}, {mode}): {whom}: {done}: {reply}"
        ))
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
