//! Automation: hears which rules matched on all shards, and does what they ask for, by the same ways as an
//! operator. Its overrides outlive a restart and reach other nodes as an operator's do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::queue::SegQueue;
use posthaste_core::dispatch::{Act, Automaton, Fleet, Order, Whose};
use posthaste_core::shaping::{NotSet, Wish, WishPlace};
use posthaste_core::words::{Moment, ShardId};

use super::console::Console;
use crate::mesh::{Answer, Ask, Firings, Mesh, Note, Question};
use crate::observe::AutomationMeters;
use crate::rt::now;
use crate::shard::DiskNote;

/// Matches looked at in one go: signals are looked at between them.
const LOOKED_AT_MAX: usize = 16_384;
/// What holds already is prolonged so often, much of it at once: each change is a change of shaping for
/// all shards, and is written to the disk.
const RENEW_EVERY: Duration = Duration::from_secs(5);
const RENEWALS_MAX: usize = 10_000;
/// Lines for the operator within a while; how many more there were is told.
const LINES_MAX: usize = 20;
const LINES_EVERY: Duration = Duration::from_secs(10);
/// That something cannot be set is told so often.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// What the main thread remembers.
#[derive(Default)]
struct Pilot {
    automaton: Automaton,
    renewals: BTreeMap<WishPlace, Wish>,
    renew_at: Moment,
    complain_at: Moment,
    /// Lines told since the last while began, and not told.
    lines: usize,
    untold: usize,
    lines_until: Moment,
}

impl Pilot {
    fn complain(&mut self, wish: &Wish, wrong: &NotSet, at: Moment) -> Option<String> {
        if at < self.complain_at {
            return None;
        }
        self.complain_at = at + COMPLAINT_EVERY;
        Some(format!("{}: {wrong}", wish.by))
    }

    /// Those there is room for.
    fn tell(&mut self, lines: Vec<String>, at: Moment) -> Vec<String> {
        let mut told = Vec::new();
        if at >= self.lines_until {
            if self.untold > 0 {
                told.push(format!(
                    "automation: and {} more; `posthaste automation list` shows all",
                    self.untold
                ));
            }
            (self.lines, self.untold, self.lines_until) = (0, 0, at + LINES_EVERY);
        }
        for line in lines {
            if self.lines < LINES_MAX {
                self.lines += 1;
                told.push(line);
            } else {
                self.untold += 1;
            }
        }
        told
    }
}

/// One per node.
pub(super) struct Autopilot {
    firings: Arc<Firings>,
    mesh: Mesh<DiskNote>,
    fleet: Arc<Fleet>,
    meters: AutomationMeters,
    pilot: Mutex<Pilot>,
    /// Recipients whose mail ended, by whose it was.
    bounced: Arc<SegQueue<(String, usize)>>,
}

impl Autopilot {
    pub(super) fn new(mesh: Mesh<DiskNote>, fleet: Arc<Fleet>, meters: AutomationMeters) -> Self {
        Self {
            firings: Arc::default(),
            mesh,
            fleet,
            meters,
            pilot: Mutex::default(),
            bounced: Arc::default(),
        }
    }

    /// Where shards put what matched.
    pub(super) fn firings(&self) -> Arc<Firings> {
        Arc::clone(&self.firings)
    }

    /// What rules have seen and done.
    pub(super) fn acts(&self) -> Vec<Act> {
        self.pilot().automaton.acts().cloned().collect()
    }

    fn pilot(&self) -> MutexGuard<'_, Pilot> {
        self.pilot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called often. What was done is told.
    pub(super) fn look(&self, console: &Console) -> Vec<String> {
        let at = now();
        let mut shapes = console.shapes_now();
        let (mut wishes, mut bounces, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let mut pilot = self.pilot();
        // What comes meanwhile is for the next look.
        for firing in (0..LOOKED_AT_MAX).map_while(|_| self.firings.take()) {
            self.meters.matched(firing.rule.mode);
            let sources = self.fleet.sources();
            let step = pilot.automaton.handle_firing(&firing, &shapes, sources, at);
            for wish in step.renewals {
                pilot.renewals.insert(wish.place(), wish);
            }
            // The next one sees what this one asked for.
            for wish in step.wishes {
                let overrides = &mut Arc::make_mut(&mut shapes).overrides;
                match overrides.set(wish.clone(), at) {
                    Ok(_) => wishes.push(wish),
                    Err(NotSet::TakenBack) => {}
                    Err(wrong) => lines.extend(pilot.complain(&wish, &wrong, at)),
                }
            }
            bounces.extend(step.bounces);
            lines.extend(step.told);
        }
        if at >= pilot.renew_at || pilot.renewals.len() >= RENEWALS_MAX {
            pilot.renew_at = at + RENEW_EVERY;
            let renewals = core::mem::take(&mut pilot.renewals).into_values();
            // What was taken back or changed meanwhile is not what was to be prolonged.
            wishes.extend(renewals.filter(|wish| shapes.overrides.has(wish, at)));
        }
        let lines = pilot.tell(lines, at);
        drop(pilot);
        if !wishes.is_empty() {
            self.meters.overrides.increment(wishes.len() as u64);
            console.set_by_rules(wishes, at);
        }
        for (whose, reason) in bounces {
            self.bounce(&whose, &reason);
        }
        self.meters.lost.increment(self.firings.take_lost());
        lines.into_iter().chain(self.bounced()).collect()
    }

    /// A shard that has no room to be asked is asked with the next reply that asks for it, ten seconds later
    /// at the earliest.
    fn bounce(&self, whose: &Whose, reason: &str) {
        for post in 0..self.mesh.shards() {
            let order = Order::Bounce {
                reason: reason.into(),
                is_told: true,
            };
            let (tell, told) = (Arc::clone(&self.bounced), whose.told());
            let ask = Ask {
                question: Question::Order {
                    whose: whose.clone(),
                    order,
                },
                reply: Box::new(move |answer| {
                    if let Answer::Tally(tally) = answer {
                        tell.push((told, tally.recipients));
                    }
                }),
            };
            let shard = ShardId(u16::try_from(post).unwrap_or(0));
            let _full = self.mesh.to(shard).send(Note::Ask(ask));
        }
    }

    fn bounced(&self) -> Vec<String> {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        while let Some((whose, recipients)) = self.bounced.pop() {
            *counted.entry(whose).or_default() += recipients;
        }
        counted.retain(|_, recipients| *recipients > 0);
        let lines = counted.into_iter().map(|(whose, recipients)| {
            format!("automation: bounced {recipients} recipients of {whose}")
        });
        lines.collect()
    }
}
