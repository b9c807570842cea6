//! What shaping holds now, and the way by which all shards hear of something else. No call blocks:
//! a shard whose inbox is full hears later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::limit::{LimitId, Shards};
use posthaste_core::shaping::{NotSet, Overrides, Shaping, Wish};
use posthaste_core::words::{Moment, ShardId};

use super::kept::Before;
use super::notes::{self, About, BACK_TEXT, back_key, note_key};
use crate::control::Target;
use crate::mesh::{Mesh, Note};
use crate::shard::DiskNote;
use crate::throttle::Noted;

/// One per node.
pub(super) struct Hold {
    mesh: Mesh<DiskNote>,
    held: Mutex<Held>,
    /// Limits that have a place again, by shards whose inbox was full.
    late: Mutex<BTreeSet<(ShardId, LimitId)>>,
}

struct Held {
    shapes: Arc<Shapes>,
    /// Shards that have not heard of `shapes`.
    behind: BTreeSet<ShardId>,
    is_behind_told: bool,
    /// Of the overrides: how often they were changed, and which of these changes outlives a restart.
    changes: u64,
    kept: u64,
    /// What Redis is known to know, by the names of notes.
    shared: BTreeSet<String>,
    /// The name of Redis's memory.
    epoch: Option<String>,
}

/// The overrides of a moment, for what outlives a restart.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub change: u64,
    pub overrides: Overrides,
    pub shared: BTreeSet<String>,
    pub epoch: Option<String>,
}

impl Hold {
    pub(super) fn new(mesh: Mesh<DiskNote>, shapes: Shapes, before: &Before) -> Self {
        Self {
            mesh,
            held: Mutex::new(Held {
                shapes: Arc::new(shapes),
                behind: BTreeSet::new(),
                is_behind_told: false,
                changes: 0,
                kept: 0,
                shared: before.shared.clone(),
                epoch: before.epoch.clone(),
            }),
            late: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shapes(&self) -> Arc<Shapes> {
        Arc::clone(&self.held().shapes)
    }

    /// Over all files, until it expires.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn set_override(&self, wish: Wish, now: Moment) -> Result<(), NotSet> {
        self.change_overrides(now, |overrides| overrides.set(wish, now).map(|_| ()))
    }

    /// Many at once, of which shards hear once. Those that hold now are returned.
    pub(super) fn set_overrides(&self, wishes: Vec<Wish>, now: Moment) -> Vec<Wish> {
        let mut set = Vec::new();
        let _unchanged = self.change_overrides(now, |overrides| {
            let done = |wish: &Wish| overrides.set(wish.clone(), now).is_ok();
            set = wishes.into_iter().filter(done).collect();
            (!set.is_empty()).then_some(()).ok_or(())
        });
        set
    }

    /// Those that there were.
    pub(super) fn cancel_override(&self, target: &Target, now: Moment) -> Vec<Wish> {
        let mut gone = Vec::new();
        let _unchanged = self.change_overrides(now, |overrides| {
            gone = target.cancel(overrides);
            (!gone.is_empty()).then_some(()).ok_or(())
        });
        gone
    }

    fn change_overrides<E>(
        &self,
        now: Moment,
        change: impl FnOnce(&mut Overrides) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut held = self.held();
        let mut overrides = held.shapes.overrides.clone();
        overrides.expire(now);
        change(&mut overrides)?;
        let shapes = Shapes {
            overrides,
            ..Shapes::clone(&held.shapes)
        };
        held.changes += 1;
        self.hold(&mut held, shapes);
        Ok(())
    }

    /// What nodes said, by way of Redis. However much it is, shards hear of it once.
    pub(super) fn hear(&self, all: &[Noted], now: Moment) {
        // Notes of another kind are for another release.
        let ours = all
            .iter()
            .filter_map(|noted| Some((noted, notes::about(&noted.key)?)));
        let ours: Vec<(&Noted, About)> = ours.collect();
        let mut held = self.held();
        for (noted, _) in &ours {
            if noted.text.is_some() {
                held.shared.insert(noted.key.clone());
            } else {
                held.shared.remove(&noted.key);
            }
        }
        drop(held);
        let _unchanged = self.change_overrides(now, |overrides| {
            let mut is_changed = false;
            for (noted, about) in ours {
                is_changed |= hear_one(overrides, noted, &about, now);
            }
            is_changed.then_some(()).ok_or(())
        });
    }

    /// Redis's memory has this name.
    pub(super) fn set_epoch(&self, epoch: &str) {
        let mut held = self.held();
        if held.epoch.as_deref() != Some(epoch) {
            held.epoch = Some(epoch.into());
            held.changes += 1;
        }
    }

    /// How often the overrides were changed.
    pub(super) fn changes(&self) -> u64 {
        self.held().changes
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let held = self.held();
        let overrides = held.shapes.overrides.clone();
        let there: BTreeSet<String> = notes_of(&overrides).into_keys().collect();
        Snapshot {
            change: held.changes,
            overrides,
            shared: held.shared.intersection(&there).cloned().collect(),
            epoch: held.epoch.clone(),
        }
    }

    pub(super) fn set_kept(&self, change: u64) {
        self.held().kept = change;
    }

    /// Whether a restart would forget nothing of the overrides.
    pub(super) fn is_kept(&self) -> bool {
        let held = self.held();
        held.kept >= held.changes
    }

    /// Other files hold from here on, under the same overrides.
    pub(super) fn set_shaping(&self, shaping: Shaping) {
        let mut held = self.held();
        let shapes = Shapes {
            shaping: Arc::new(shaping),
            ..Shapes::clone(&held.shapes)
        };
        self.hold(&mut held, shapes);
    }

    /// The lock is held, so that all shards hear of changes in one order.
    fn hold(&self, held: &mut Held, shapes: Shapes) {
        held.shapes = Arc::new(shapes);
        let all = u16::try_from(self.mesh.shards()).unwrap_or(u16::MAX);
        held.behind = (0..all).map(ShardId).collect();
        self.catch_up(held);
    }

    fn catch_up(&self, held: &mut Held) {
        let shapes = Arc::clone(&held.shapes);
        held.behind.retain(|shard| {
            let note = Note::Shaping(Arc::clone(&shapes));
            self.mesh.to(*shard).send(note).is_err()
        });
    }

    /// Tells `shards` of a limit with a place again; who cannot be told now is told by
    /// [`Hold::tell_late`].
    pub(super) fn tell_freed(&self, limit: LimitId, shards: Shards) {
        let all = u16::try_from(self.mesh.shards()).unwrap_or(u16::MAX);
        for shard in (0..all)
            .map(ShardId)
            .filter(|shard| shards.contains(*shard))
        {
            self.tell_one(shard, limit);
        }
    }

    fn tell_one(&self, shard: ShardId, limit: LimitId) {
        if self.mesh.to(shard).send(Note::Freed(limit)).is_err() {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            late.insert((shard, limit));
        }
    }

    /// Tries again whom it could not tell. To be called often; what an operator is to know is
    /// returned, once when shards fall behind and once when none is.
    pub(super) fn tell_late(&self) -> Option<String> {
        let late = core::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, limit) in late {
            self.tell_one(shard, limit);
        }
        let mut held = self.held();
        self.catch_up(&mut held);
        let is_behind = !held.behind.is_empty();
        match (
            core::mem::replace(&mut held.is_behind_told, is_behind),
            is_behind,
        ) {
            (false, true) => {
                let shards: Vec<String> = held.behind.iter().map(|s| s.0.to_string()).collect();
                Some(format!(
                    "shaping: shard {} has no room to hear of a change, and obeys what held before",
                    shards.join(", ")
                ))
            }
            (true, false) => Some("shaping: all shards have heard of the change".into()),
            (false, false) | (true, true) => None,
        }
    }
}

/// Whether it changes anything.
fn hear_one(overrides: &mut Overrides, noted: &Noted, about: &About, now: Moment) -> bool {
    match (about, noted.text.as_deref()) {
        (About::Override(target), Some(text)) => {
            let wish = notes::wish_of(target, text, noted.until);
            // One that has expired on its way is none.
            wish.is_some_and(|wish| overrides.set(wish, now).is_ok())
        }
        (About::Override(target), None) => target.remove(overrides),
        (About::TakenBack(target), Some(_)) if noted.until > now => {
            target.take_back(overrides, noted.until);
            true
        }
        (About::TakenBack(_), _) => false,
    }
}

/// Notes by their names, with text and end.
pub(super) fn notes_of(overrides: &Overrides) -> BTreeMap<String, (String, Moment)> {
    let sets = overrides.iter().map(|set| {
        let text = notes::note_text(&set.wish);
        (note_key(&Target::of(&set.wish)), (text, set.wish.expires))
    });
    let taken_back = overrides.taken_back().map(|(taken, until)| {
        let (kind, name, source, key, rule) = taken.clone();
        let target = Target {
            kind,
            name,
            source,
            key,
            rule: Some(rule),
        };
        (back_key(&target), (BACK_TEXT.to_owned(), until))
    });
    sets.chain(taken_back).collect()
}

#[cfg(test)]
mod tests {
    use posthaste_core::shaping::{Key, TargetKind};

    use super::*;
    use crate::mesh::mesh;

    fn wish(value: &str) -> Wish {
        let (key, value) = Key::read("connection_limit", value).unwrap();
        Wish {
            kind: TargetKind::Default,
            name: "".into(),
            source: None,
            key,
            value,
            expires: Moment::from_secs(2_000_000_000),
            reason: "r".into(),
            by: "b".into(),
        }
    }

    fn limit_in(note: Option<Note<DiskNote>>) -> String {
        let Some(Note::Shaping(shapes)) = note else {
            panic!("{note:?}")
        };
        let set = shapes.overrides.iter().next().expect("one is set");
        set.wish.value.to_string()
    }

    #[test]
    fn a_shard_without_room_blocks_nobody_and_hears_of_the_newest_later() {
        let (mesh, inboxes) = mesh::<DiskNote>(2);
        let hold = Hold::new(mesh.clone(), Shapes::default(), &Before::default());
        while mesh.to(ShardId(0)).send(Note::Open).is_ok() {}
        let now = Moment::from_secs(1_900_000_000);
        hold.set_override(wish("3"), now).unwrap();
        assert_eq!(limit_in(inboxes[1].try_take()), "3");
        let told = hold.tell_late().unwrap();
        assert!(told.contains("shard 0 has no room"), "{told}");
        hold.set_override(wish("4"), now).unwrap();
        assert_eq!(hold.tell_late(), None, "it is told once");
        while let Some(note) = inboxes[0].try_take() {
            assert!(matches!(note, Note::Open));
        }
        let told = hold.tell_late().unwrap();
        assert!(told.contains("all shards have heard"), "{told}");
        assert_eq!(limit_in(inboxes[0].try_take()), "4");
        assert!(inboxes[0].try_take().is_none(), "and of nothing twice");
    }

    #[test]
    fn however_many_notes_come_at_once_shards_hear_of_them_once() {
        let (mesh, inboxes) = mesh::<DiskNote>(1);
        let hold = Hold::new(mesh, Shapes::default(), &Before::default());
        let now = Moment::from_secs(1_900_000_000);
        let noted = |number: u32, is_there: bool| {
            let wish = Wish {
                kind: TargetKind::Site,
                name: format!("mx{number}.example").into(),
                ..wish("3")
            };
            Noted {
                key: note_key(&Target::of(&wish)),
                text: is_there.then(|| notes::note_text(&wish)),
                until: wish.expires,
            }
        };
        let all: Vec<Noted> = (0..5000).map(|number| noted(number, true)).collect();
        hold.hear(&all, now);
        let Some(Note::Shaping(shapes)) = inboxes[0].try_take() else {
            panic!("it hears")
        };
        assert_eq!(shapes.overrides.iter().count(), 5000);
        assert!(inboxes[0].try_take().is_none(), "once");
        assert_eq!(hold.changes(), 1);
        let gone: Vec<Noted> = (0..4000).map(|number| noted(number, false)).collect();
        hold.hear(&gone, now);
        assert_eq!(hold.shapes().overrides.iter().count(), 1000);
        hold.hear(&gone, now);
        assert_eq!(hold.changes(), 2, "what is known changes nothing");
    }

    #[test]
    fn a_redis_that_forgets_takes_nothing_back_and_somebody_elsewhere_does() {
        let (mesh, _inboxes) = mesh::<DiskNote>(1);
        let hold = Hold::new(mesh, Shapes::default(), &Before::default());
        let now = Moment::from_secs(1_900_000_000);
        let of_rule = Wish {
            by: "automation, p.toml:3:1".into(),
            ..wish("3")
        };
        let target = Target::of(&of_rule);
        let note = |key: String, text: Option<String>| Noted {
            key,
            text,
            until: of_rule.expires,
        };
        hold.set_overrides(vec![of_rule.clone(), wish("5")], now);
        // Of an operator's word there is no word of the rule's.
        hold.hear(&[note(note_key(&Target::of(&wish("5"))), None)], now);
        assert_eq!(hold.shapes().overrides.iter().count(), 1);
        hold.hear(&[note(note_key(&target), None)], now);
        assert_eq!(hold.shapes().overrides.iter().count(), 0);
        assert_eq!(hold.set_overrides(vec![of_rule.clone()], now).len(), 1);
        let back = note(back_key(&target), Some(BACK_TEXT.into()));
        hold.hear(&[back], now);
        assert_eq!(hold.shapes().overrides.iter().count(), 0);
        assert!(hold.set_overrides(vec![of_rule.clone()], now).is_empty());
    }

    #[test]
    fn a_limit_freed_for_a_shard_without_room_is_told_later_and_once() {
        let (mesh, inboxes) = mesh::<DiskNote>(1);
        let hold = Hold::new(mesh.clone(), Shapes::default(), &Before::default());
        while mesh.to(ShardId(0)).send(Note::Open).is_ok() {}
        for _ in 0..3 {
            hold.tell_one(ShardId(0), LimitId(7));
        }
        while inboxes[0].try_take().is_some() {}
        assert_eq!(hold.tell_late(), None);
        assert!(matches!(
            inboxes[0].try_take(),
            Some(Note::Freed(LimitId(7)))
        ));
        assert!(inboxes[0].try_take().is_none());
    }
}
