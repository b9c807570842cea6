//! Keeps the shards' shaping that of the files: at start, on SIGHUP, when a file has changed, and when
//! DNS tells that a domain has moved to another site.

use core::convert::Infallible;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::limit::{LimitId, Loss, Registry, Shards};
use posthaste_core::shaping::{NotSet, Overrides, Shaping, Sites, Wish};
use posthaste_core::words::{Moment, ShardId};

use super::boot::tell;
use super::cluster::with_overrides;
use super::kept::Kept;
use crate::control::Target;
use crate::mesh::{Answer, Ask, Mesh, Note, Question};
use crate::rt::now;
use crate::shaping::{LoadError, Options, Stamps, load, to_ask};
use crate::shard::DiskNote;

/// Files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// DNS is asked for sites so often; answers are cached for as long as they say.
const SITES_EVERY: Duration = Duration::from_secs(300);
/// Limits that nobody uses are forgotten so often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What holds now, and the way by which all shards hear of something else. One per node.
pub(super) struct Hold {
    mesh: Mesh<DiskNote>,
    kept: Kept,
    current: Mutex<Arc<Shapes>>,
    /// Shards whose inbox was full when a limit was freed.
    late: Mutex<Vec<(ShardId, LimitId)>>,
}

impl Hold {
    pub(super) fn new(mesh: Mesh<DiskNote>, kept: Kept, shapes: Shapes) -> Self {
        Self {
            mesh,
            kept,
            current: Mutex::new(Arc::new(shapes)),
            late: Mutex::default(),
        }
    }

    pub(super) fn shapes(&self) -> Arc<Shapes> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Over all files, until it expires.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn set_override(&self, wish: Wish, now: Moment) -> Result<(), NotSet> {
        self.replace(|before| {
            let mut overrides = before.overrides.clone();
            overrides.expire(now);
            overrides.set(wish, now)?;
            self.keep(&overrides);
            Ok(with_overrides(before, overrides))
        })
    }

    /// What cannot be kept holds all the same, until the node ends.
    fn keep(&self, overrides: &Overrides) {
        if let Err(error) = self.kept.write(overrides) {
            tell(&format!(
                "posthaste: overrides will not outlive this process: {error}\n"
            ));
        }
    }

    /// Whether there was one.
    pub(super) fn cancel_override(&self, target: &Target, now: Moment) -> bool {
        let cancelled: Result<(), ()> = self.replace(|before| {
            let mut overrides = before.overrides.clone();
            overrides.expire(now);
            let (kind, source) = (target.kind, target.source.as_deref());
            let found = overrides.cancel(kind, &target.name, source, target.key);
            found.ok_or(())?;
            self.keep(&overrides);
            Ok(with_overrides(before, overrides))
        });
        cancelled.is_ok()
    }

    /// Tells `shards` of a limit with a place again. Never blocks; who cannot be told now is told by
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
        let post = self.mesh.to(shard);
        if post.send(Note::Freed(limit)).is_ok() {
            post.ring();
        } else {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            late.push((shard, limit));
        }
    }

    fn tell_late(&self) {
        let late = core::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, limit) in late {
            self.tell_one(shard, limit);
        }
    }

    /// What `change` makes of what holds now holds from here on.
    ///
    /// # Errors
    /// Those of `change`; nothing is different then.
    pub(super) fn replace<E>(
        &self,
        change: impl FnOnce(&Shapes) -> Result<Shapes, E>,
    ) -> Result<(), E> {
        // Held to the end, so that all shards hear of changes in one order.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(change(&current)?);
        for post in self.mesh.all() {
            post.put_patiently(Note::Shaping(Arc::clone(&current)));
            post.ring();
        }
        Ok(())
    }
}

/// What is in the operator's files and nothing obeys yet, to be said behind something else.
fn without_effect(shaping: &Shaping) -> String {
    match shaping.notes() {
        [] => String::new(),
        [first, ..] => format!(
            ": {} things in the files are without effect, such as `{}` at {}; `posthaste check` names all",
            shaping.notes().len(),
            first.key,
            first.place
        ),
    }
}

/// Those that outlived the last process.
fn overrides_of(kept: &Kept) -> Overrides {
    match kept.read(now()) {
        Ok((overrides, 0)) => overrides,
        Ok((overrides, lost)) => {
            tell(&format!("posthaste: {lost} kept overrides make no sense\n"));
            overrides
        }
        Err(error) => {
            tell(&format!(
                "posthaste: kept overrides cannot be read: {error}\n"
            ));
            Overrides::default()
        }
    }
}

/// One per node, in its main thread.
pub(super) struct Shaper {
    options: Options,
    mesh: Mesh<DiskNote>,
    stamps: Stamps,
    sites: Sites,
    hold: Arc<Hold>,
    asked: Option<Receiver<Sites>>,
    next_look: Instant,
    next_ask: Instant,
    next_sweep: Instant,
}

impl Shaper {
    /// # Errors
    /// When a file cannot be read or something in it is wrong: a node starts with what it was told.
    pub(super) fn start(
        options: Options,
        sharing: Option<Loss>,
        mesh: Mesh<DiskNote>,
        kept: Kept,
    ) -> Result<Self, LoadError> {
        let mut loaded = load(&options)?;
        let remark = without_effect(&loaded.shaping);
        if !remark.is_empty() {
            tell(&format!("posthaste: shaping{remark}\n"));
        }
        let (_, sites) = to_ask(&loaded.shaping);
        loaded.shaping.place_sites(&sites);
        let shapes = Shapes {
            shaping: Arc::new(loaded.shaping),
            overrides: overrides_of(&kept),
            registry: Arc::new(Registry::default()),
            sharing,
        };
        let at = Instant::now();
        Ok(Self {
            options,
            hold: Arc::new(Hold::new(mesh.clone(), kept, shapes)),
            mesh,
            stamps: loaded.stamps,
            sites,
            asked: None,
            next_look: at + LOOK_EVERY,
            next_ask: at,
            next_sweep: at + SWEEP_EVERY,
        })
    }

    pub(super) fn hold(&self) -> Arc<Hold> {
        Arc::clone(&self.hold)
    }

    pub(super) fn shapes(&self) -> Arc<Shapes> {
        self.hold.shapes()
    }

    /// To be called often. What is done is told; `None` mostly.
    pub(super) fn look(&mut self) -> Option<String> {
        let at = Instant::now();
        self.hold.tell_late();
        if at >= self.next_sweep {
            self.next_sweep = at + SWEEP_EVERY;
            self.shapes().registry.sweep(now());
        }
        self.ask_for_sites(at);
        let told = self.hear_of_sites();
        if told.is_some() || at < self.next_look {
            return told;
        }
        self.next_look = at + LOOK_EVERY;
        let stamps = Stamps::take(&self.options.files);
        if stamps == self.stamps {
            return None;
        }
        // What is wrong is told once, not each second.
        self.stamps = stamps;
        Some(self.reload())
    }

    /// Reads all files and applies them, if all of them are good.
    pub(super) fn reload(&mut self) -> String {
        match load(&self.options) {
            Ok(loaded) => {
                let files = loaded.files;
                let without_effect = without_effect(&loaded.shaping);
                self.stamps = loaded.stamps;
                self.apply(loaded.shaping);
                self.next_ask = Instant::now();
                format!("shaping is read anew, {files} files{without_effect}")
            }
            Err(error) => format!("shaping stays as it was: {error}"),
        }
    }

    fn apply(&mut self, mut shaping: Shaping) {
        let (_, declared) = to_ask(&shaping);
        let mut sites = self.sites.clone();
        sites.extend(declared);
        shaping.place_sites(&sites);
        let replaced = self.hold.replace(|before| {
            Ok::<_, Infallible>(Shapes {
                shaping: Arc::new(shaping),
                overrides: before.overrides.clone(),
                registry: Arc::clone(&before.registry),
                sharing: before.sharing,
            })
        });
        match replaced {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    fn ask_for_sites(&mut self, at: Instant) {
        if at < self.next_ask || self.asked.is_some() {
            return;
        }
        self.next_ask = at + SITES_EVERY;
        let (domains, _) = to_ask(&self.shapes().shaping);
        if domains.is_empty() {
            return;
        }
        let (tell, answer) = channel();
        let ask = Ask {
            question: Question::Sites(domains),
            reply: Box::new(move |answer| {
                if let Answer::Sites(sites) = answer {
                    // Nobody listens any more when the node ends.
                    let _ = tell.send(sites);
                }
            }),
        };
        // A shard too busy to be asked is asked later.
        if self.mesh.to(ShardId(0)).send(Note::Ask(ask)).is_ok() {
            self.asked = Some(answer);
        }
    }

    fn hear_of_sites(&mut self) -> Option<String> {
        let sites = match self.asked.as_ref()?.try_recv() {
            Ok(sites) => sites,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                self.asked = None;
                return None;
            }
        };
        self.asked = None;
        if sites
            .iter()
            .all(|(domain, found)| self.sites.get(domain) == Some(found))
        {
            return None;
        }
        self.sites.extend(sites);
        match load(&self.options) {
            Ok(loaded) => {
                self.stamps = loaded.stamps;
                self.apply(loaded.shaping);
                None
            }
            Err(error) => Some(format!("shaping stays as it was: {error}")),
        }
    }
}
