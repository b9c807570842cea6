//! The node as its HTTP endpoint sees it.

use core::sync::atomic::{AtomicU8, Ordering};

use std::sync::Arc;

use posthaste_core::dispatch::{Act, Shapes};
use posthaste_core::egress::Progress;
use posthaste_core::shaping::{NotSet, Wish};
use posthaste_core::words::{Moment, ShardId};

use super::autopilot::Autopilot;
use super::hold::Hold;
use super::notes::{BACK_TEXT, back_key, is_told, note_key, note_text};
use crate::control::{Node, Target};
use crate::delivery::{Roster, SourceState};
use crate::intake::Backlog;
use crate::mesh::{Ask, Mesh, Note};
use crate::observe::Meters;
use crate::rt::now;
use crate::shard::DiskNote;
use crate::spool::{Health, Spool};
use crate::throttle::{SharedNotes, Throttle, Vitals};

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Recovering = 0,
    Serving = 1,
    Ending = 2,
}

/// One per node.
pub(super) struct Console {
    mesh: Mesh<DiskNote>,
    spool: Spool,
    backlog: Arc<Backlog>,
    meters: Meters,
    shaping: Arc<Hold>,
    roster: Roster,
    autopilot: Autopilot,
    /// To other nodes, and how it goes with them.
    sharing: Option<(SharedNotes, Vitals)>,
    phase: AtomicU8,
}

impl Console {
    pub(super) fn new(
        mesh: Mesh<DiskNote>,
        spool: Spool,
        backlog: Arc<Backlog>,
        meters: Meters,
        shaping: Arc<Hold>,
        roster: Roster,
        throttle: Option<&Throttle>,
    ) -> Self {
        let fleet = Arc::clone(&roster.fleet);
        let autopilot = Autopilot::new(mesh.clone(), fleet, meters.automation.clone());
        Self {
            mesh,
            spool,
            backlog,
            meters,
            shaping,
            roster,
            autopilot,
            sharing: throttle.map(|throttle| (throttle.notes(), throttle.vitals())),
            phase: AtomicU8::new(Phase::Recovering as u8),
        }
    }

    pub(super) const fn autopilot(&self) -> &Autopilot {
        &self.autopilot
    }

    pub(super) const fn spool(&self) -> &Spool {
        &self.spool
    }

    /// What holds now.
    pub(super) fn shapes_now(&self) -> Arc<Shapes> {
        self.shaping.shapes()
    }

    /// What rules ask for. Other nodes hear of it while there is room for an operator's word beside.
    pub(super) fn set_by_rules(&self, wishes: Vec<Wish>, now: Moment) {
        for wish in self.shaping.set_overrides(wishes, now) {
            let is_roomy = self
                .sharing
                .as_ref()
                .is_some_and(|(notes, _)| notes.is_roomy());
            if is_roomy && is_told(&Target::of(&wish)) {
                self.publish(&wish, now);
            }
        }
    }

    fn publish(&self, wish: &Wish, now: Moment) {
        if let Some((notes, _)) = &self.sharing {
            let (key, text) = (note_key(&Target::of(wish)), note_text(wish));
            // Other nodes hear of it later, or not at all, when Redis is that far behind.
            let _ = notes.publish(&key, &text, wish.expires.since(now));
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Recovering,
            1 => Phase::Serving,
            _ => Phase::Ending,
        }
    }
}

impl Node for Console {
    fn ask(&self, shard: ShardId, ask: Ask) -> Result<(), Ask> {
        self.mesh.to(shard).send(Note::Ask(ask)).map_err(|note| {
            let Note::Ask(ask) = note else {
                unreachable!("a full inbox gives back what it was given");
            };
            ask
        })
    }

    fn shapes(&self) -> Arc<Shapes> {
        self.shaping.shapes()
    }

    fn set_override(&self, wish: Wish, now: Moment) -> Result<(), NotSet> {
        self.shaping.set_override(wish.clone(), now)?;
        self.publish(&wish, now);
        Ok(())
    }

    fn cancel_override(&self, target: &Target, now: Moment) -> bool {
        cancel(&self.shaping, target, now, |gone| {
            if let Some((notes, _)) = &self.sharing {
                for (target, until) in gone.iter().filter(|(target, _)| is_told(target)) {
                    let _ = notes.withdraw(&note_key(target));
                    if target.rule.is_some() {
                        let _ = notes.publish(&back_key(target), BACK_TEXT, until.since(now));
                    }
                }
            }
        })
    }

    fn acts(&self) -> Vec<Act> {
        self.autopilot.acts()
    }

    fn warmups(&self, now: Moment) -> Vec<Progress> {
        self.roster.keeper.warmups(now)
    }

    fn sources(&self, now: Moment) -> Vec<SourceState> {
        self.roster.states(now)
    }

    fn is_kept(&self) -> bool {
        self.shaping.is_kept()
    }

    fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
            && self.spool.health() == Health::Good
            && !self.backlog.is_full()
    }

    fn why_not_ready(&self) -> String {
        match (self.phase(), self.spool.health()) {
            (Phase::Recovering, _) => "reading what the spool holds".into(),
            (Phase::Ending, _) => "shutting down".into(),
            (Phase::Serving, Health::Full) => "the spool's disk or quota is full".into(),
            (Phase::Serving, Health::Poisoned) => format!(
                "the spool's disk failed: {}",
                self.spool.fault().unwrap_or("no detail")
            ),
            (Phase::Serving, Health::Good) if self.backlog.is_full() => {
                "as much is queued as spool.queue_max allows".into()
            }
            (Phase::Serving, Health::Good) => "ready".into(),
        }
    }

    fn refresh(&self) {
        let is_healthy = self.spool.health() != Health::Poisoned;
        let figures = self.spool.figures();
        let spool = &self.meters.spool;
        spool.commits.absolute(figures.commits);
        spool.events_waiting.set(figures.events_waiting as f64);
        spool.held_octets.set(figures.held_octets as f64);
        if let Some(free) = figures.free_octets {
            spool.free_octets.set(free as f64);
        }
        self.meters
            .spool
            .healthy
            .set(f64::from(u8::from(is_healthy)));
        if let (Some(meters), Some((_, vitals))) = (&self.meters.redis, &self.sharing) {
            let pulse = vitals.pulse(now());
            meters.up.set(f64::from(u8::from(pulse.lag.is_some())));
            // While it is lost the last one that was is shown.
            if let Some(lag) = pulse.lag {
                meters.lag_seconds.set(lag.as_secs_f64());
            }
            meters.silence_seconds.set(pulse.silence.as_secs_f64());
            meters.lease_age_seconds.set(pulse.lease_age.as_secs_f64());
            meters.questions.set(pulse.questions as f64);
        }
    }
}

/// Whether there was one here; other nodes hear of it anyhow. First here: our own word comes back to us
/// as theirs does, and would find it before we do.
fn cancel(
    hold: &Hold,
    target: &Target,
    now: Moment,
    tell_others: impl FnOnce(&[(Target, Moment)]),
) -> bool {
    let gone = hold.cancel_override(target, now);
    let was_here = !gone.is_empty();
    let told = gone.iter().map(|wish| (Target::of(wish), wish.expires));
    let mut told: Vec<(Target, Moment)> = told.collect();
    // Of somebody's word that is not here others may know.
    if !told.iter().any(|(of, _)| of == target) {
        told.push((target.clone(), now));
    }
    tell_others(&told);
    was_here
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use posthaste_core::shaping::{Key, TargetKind};

    use super::super::kept::Before;
    use super::*;
    use crate::mesh::mesh;

    #[test]
    fn who_cancels_an_override_is_not_overtaken_by_his_own_word() {
        let (mesh, _inboxes) = mesh(1);
        let hold = Hold::new(mesh, Shapes::default(), &Before::default());
        let (key, value) = Key::read("connection_limit", "3").unwrap();
        let now = Moment::from_secs(1_800_000_000);
        let wish = Wish {
            kind: TargetKind::Site,
            name: "mx.example".into(),
            source: None,
            key,
            value,
            expires: now + Duration::from_secs(60),
            reason: "r".into(),
            by: "b".into(),
        };
        let target = Target::of(&wish);
        hold.set_override(wish, now).unwrap();
        // As fast as can be: the word is out, and is heard by all nodes, this one included.
        let hear = |gone: &[(Target, Moment)]| {
            assert_eq!((gone.len(), &gone[0].0), (1, &target));
            hold.cancel_override(&target, now);
        };
        assert!(cancel(&hold, &target, now, hear));
        assert!(!cancel(&hold, &target, now, |_| {}), "it is gone");
    }
}
