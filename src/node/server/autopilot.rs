//! Automation: hears which rules matched on all shards, and does what they ask for, by the same ways as an
//! operator. Its overrides outlive a restart and reach other nodes as an operator's do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::SegQueue;
use posthaste_core::dispatch::{Act, Automaton, Fleet, Order, Whose};
use posthaste_core::shaping::Wish;
use posthaste_core::words::ShardId;

use super::console::Console;
use crate::mesh::{Answer, Ask, Firings, Mesh, Note, Question};
use crate::observe::AutomationMeters;
use crate::rt::now;
use crate::shard::DiskNote;

/// Lines for the operator in one look; how many more there were is told.
const LINES_MAX: usize = 20;

/// One per node.
pub(super) struct Autopilot {
    firings: Arc<Firings>,
    mesh: Mesh<DiskNote>,
    fleet: Arc<Fleet>,
    meters: AutomationMeters,
    automaton: Mutex<Automaton>,
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
            automaton: Mutex::default(),
            bounced: Arc::default(),
        }
    }

    /// Where shards put what matched.
    pub(super) fn firings(&self) -> Arc<Firings> {
        Arc::clone(&self.firings)
    }

    /// What rules have seen and done.
    pub(super) fn acts(&self) -> Vec<Act> {
        self.automaton().acts().cloned().collect()
    }

    fn automaton(&self) -> MutexGuard<'_, Automaton> {
        self.automaton
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called often. What was done is told.
    pub(super) fn look(&self, console: &Console) -> Vec<String> {
        let at = now();
        let mut shapes = console.shapes_now();
        let (mut wishes, mut bounces, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let mut automaton = self.automaton();
        while let Some(firing) = self.firings.take() {
            self.meters.matched(firing.rule.mode);
            let step = automaton.handle_firing(&firing, &shapes, self.fleet.sources(), at);
            for wish in step.wishes {
                // The next one sees what this one asked for.
                let overrides = &mut Arc::make_mut(&mut shapes).overrides;
                match overrides.set(wish.clone(), at) {
                    Ok(_) => wishes.push(wish),
                    Err(wrong) => lines.push(format!("automation: {}: {wrong}", wish.by)),
                }
            }
            bounces.extend(step.bounces);
            lines.extend(step.told);
        }
        bounces.extend(automaton.bounces_due(at));
        drop(automaton);
        self.set(console, wishes, &mut lines);
        for (whose, reason) in bounces {
            self.bounce(&whose, &reason);
        }
        lines.extend(self.bounced());
        let lost = self.firings.take_lost();
        self.meters.lost.increment(lost);
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!(
                "automation: and {more} more; `posthaste automation list` shows all"
            ));
        }
        lines
    }

    fn set(&self, console: &Console, wishes: Vec<Wish>, lines: &mut Vec<String>) {
        if wishes.is_empty() {
            return;
        }
        self.meters.overrides.increment(wishes.len() as u64);
        for wrong in console.set_overrides(wishes, now()) {
            lines.push(format!("automation: {wrong}"));
        }
    }

    /// A shard that has no room to be asked is asked with the next look at the same mail, which comes in
    /// ten seconds while the rule's duration lasts.
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
