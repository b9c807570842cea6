//! Keeps the shards' shaping that of the files: at start, on SIGHUP, when a file has changed, and when
//! DNS tells that a domain has moved to another site.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::limit::{Loss, Registry};
use posthaste_core::shaping::{Shaping, Sites};
use posthaste_core::words::ShardId;

use super::boot::tell;
use super::hold::Hold;
use super::kept::{Before, Kept};
use crate::mesh::{Answer, Ask, Mesh, Note, Question};
use crate::rt::now;
use crate::shaping::{Atlas, LoadError, Options, Stamps, load, to_ask, without_effect};
use crate::shard::DiskNote;

/// Files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// DNS is asked for sites so often; answers are cached for as long as they say.
const SITES_EVERY: Duration = Duration::from_secs(300);
/// While DNS leaves some question unanswered.
const DOUBTFUL_SITES_EVERY: Duration = Duration::from_secs(10);
/// Limits that nobody uses are forgotten so often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Lines for which mail waits that are told one by one.
const BARRING_TOLD_MAX: usize = 20;

/// What nothing obeys yet, to be said behind something else, and a line for each place of the operator's
/// for which mail waits.
fn remarks(shaping: &Shaping) -> String {
    let mut told = without_effect(shaping)
        .map(|keys| format!(": {keys}; `posthaste check` names each place of yours"))
        .unwrap_or_default();
    let barring = shaping.notes().iter().filter(|note| note.is_barring);
    let barring: Vec<_> = barring.collect();
    for note in barring.iter().take(BARRING_TOLD_MAX) {
        told.push_str(&format!(
            "\nposthaste: shaping: warning: {}: `{}`: {}",
            note.place, note.key, note.why
        ));
    }
    if barring.len() > BARRING_TOLD_MAX {
        told.push_str(&format!(
            "\nposthaste: shaping: warning: and {} more such lines; `posthaste check` names all",
            barring.len() - BARRING_TOLD_MAX
        ));
    }
    told
}

/// One per node, in its main thread.
pub(super) struct Shaper {
    options: Options,
    mesh: Mesh<DiskNote>,
    stamps: Stamps,
    atlas: Atlas,
    hold: Arc<Hold>,
    kept: Kept,
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
        folder: &Path,
    ) -> Result<(Self, Before), LoadError> {
        let (kept, mut before) = Kept::open(folder, now());
        for remark in &before.remarks {
            let path = kept.path().display();
            tell(&format!("posthaste: {path}: left alone: {remark}\n"));
        }
        let mut loaded = load(&options)?;
        let remark = remarks(&loaded.shaping);
        if !remark.is_empty() {
            tell(&format!("posthaste: shaping{remark}\n"));
        }
        let atlas = Atlas::default();
        atlas.place(&mut loaded.shaping);
        let shapes = Shapes {
            shaping: Arc::new(loaded.shaping),
            overrides: core::mem::take(&mut before.overrides),
            registry: Arc::new(Registry::default()),
            sharing,
        };
        shapes.registry.remember(core::mem::take(&mut before.rates));
        let at = Instant::now();
        let hold = Hold::new(mesh.clone(), shapes, &before);
        let shaper = Self {
            options,
            mesh,
            stamps: loaded.stamps,
            atlas,
            hold: Arc::new(hold),
            kept,
            asked: None,
            next_look: at + LOOK_EVERY,
            next_ask: at,
            next_sweep: at + SWEEP_EVERY,
        };
        Ok((shaper, before))
    }

    /// At the end, when nothing is sent any more.
    pub(super) fn end(mut self) -> Option<String> {
        self.kept.keep_last(&self.hold, now())
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
        let told = self.hold.tell_late();
        let told = told.or_else(|| self.kept.keep(&self.hold, now()));
        if told.is_some() {
            return told;
        }
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
                let remarks = remarks(&loaded.shaping);
                self.stamps = loaded.stamps;
                self.apply(loaded.shaping);
                self.next_ask = Instant::now();
                format!("shaping is read anew, {files} files{remarks}")
            }
            Err(error) => format!("shaping stays as it was: {error}"),
        }
    }

    fn apply(&self, mut shaping: Shaping) {
        self.atlas.place(&mut shaping);
        self.hold.set_shaping(shaping);
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
        let learned = self.atlas.learn(sites);
        if self.atlas.is_doubtful() {
            self.next_ask = Instant::now() + DOUBTFUL_SITES_EVERY;
        }
        if learned.is_news {
            self.apply(Shaping::clone(&self.shapes().shaping));
        }
        learned.remark.map(|remark| format!("shaping: {remark}"))
    }
}
