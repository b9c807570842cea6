//! What must outlast a restart of what is known of sources: how they stand at sites, what providers
//! seem to think of them, how far their warm-up is. A small file, written anew as a whole each time.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge};
use posthaste_core::dispatch::{Fleet, News};
use posthaste_core::egress::{
    HealthState, Progress, Reputation, ReputationRules, Score, TallyState, WarmupState,
};
use posthaste_core::words::Moment;
use serde::{Deserialize, Serialize};

/// Counts are written so often; a source that steps aside or returns, and a ladder that has used what
/// is written of its day, at once.
const COUNTS_EVERY: Duration = Duration::from_secs(10);
/// Lines kept for whoever tells them.
const NEWS_MAX: usize = 1000;
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Nothing was sent after this was written.
    #[serde(default)]
    has_ended: bool,
    standings: Vec<KeptStanding>,
    counted: Vec<TallyState>,
    warmups: Vec<WarmupState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptStanding {
    pool: Box<str>,
    #[serde(flatten)]
    state: HealthState,
}

/// What was known before the start.
#[derive(Debug, Default)]
pub struct Memory {
    pub news: Vec<News>,
    pub warmups: Vec<WarmupState>,
    /// The last run ended without a word: more may have been sent than is known.
    pub was_cut: bool,
}

impl Memory {
    /// A file that is not there is an empty one.
    ///
    /// # Errors
    /// When it is there and cannot be read. It is set aside, and all begins anew.
    pub fn read(path: &Path) -> Result<Self, io::Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let kept: Kept = match serde_json::from_slice(&text) {
            Ok(kept) => kept,
            Err(error) => {
                // Should this fail too, the next write replaces it.
                let _ = fs::rename(path, path.with_extension("broken"));
                return Err(error.into());
            }
        };
        let standing = |of: KeptStanding| News::Standing {
            pool: Arc::from(&*of.pool),
            state: of.state,
            why: "as before the restart".into(),
        };
        let mut news: Vec<News> = kept.standings.into_iter().map(standing).collect();
        news.push(News::Counted(kept.counted));
        Ok(Self {
            news,
            warmups: kept.warmups,
            was_cut: !kept.has_ended,
        })
    }

    /// Of a run of which nothing can be read.
    pub fn lost() -> Self {
        Self {
            was_cut: true,
            ..Self::default()
        }
    }
}

/// Meters of one source.
#[derive(Clone, Debug)]
pub struct AsideMeters {
    pub source: Arc<str>,
    /// Sites at which it is aside.
    pub sites: Gauge,
    /// Times it stepped aside.
    pub steps: Counter,
}

/// Pool, site, source.
type Place = (Arc<str>, Box<str>, Box<str>);

struct Inner {
    standings: BTreeMap<Place, HealthState>,
    reputation: Reputation,
    lines: VecDeque<String>,
    /// A standing is another one than the file has.
    is_changed: bool,
    written: Moment,
    /// The last write failed, and that was told.
    has_failed: bool,
}

/// One per node.
pub struct Keeper {
    path: PathBuf,
    fleet: Arc<Fleet>,
    meters: Vec<AsideMeters>,
    inner: Mutex<Inner>,
}

impl Keeper {
    pub fn new(
        path: PathBuf,
        fleet: Arc<Fleet>,
        meters: Vec<AsideMeters>,
        memory: &Memory,
        now: Moment,
    ) -> Self {
        let keeper = Self {
            path,
            fleet,
            meters,
            inner: Mutex::new(Inner {
                standings: BTreeMap::new(),
                reputation: Reputation::new(ReputationRules::default()),
                lines: VecDeque::new(),
                is_changed: false,
                written: now,
                has_failed: false,
            }),
        };
        for news in &memory.news {
            keeper.hear(news, now);
        }
        let mut inner = keeper.inner();
        inner.lines.clear();
        inner.is_changed = false;
        drop(inner);
        keeper
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far young sources are.
    pub fn warmups(&self, now: Moment) -> Vec<Progress> {
        let warmups = self.fleet.warmups();
        warmups.iter().map(|warmup| warmup.today(now)).collect()
    }

    /// What providers seem to think of the source.
    pub(super) fn scores(&self, source: &str, now: Moment) -> Vec<(Arc<str>, Score)> {
        self.inner().reputation.scores(source, now)
    }

    /// What a shard has found out. Once, not by each shard that is told.
    pub fn hear(&self, news: &News, now: Moment) {
        let mut inner = self.inner();
        match news {
            News::Standing { pool, state, why } => {
                self.hear_standing(&mut inner, pool, state, why);
            }
            News::Counted(counted) => {
                for state in counted {
                    inner.reputation.handle_news(state, now);
                }
            }
            // What is of no use now may be after a restart.
            News::Suspended { .. } => {}
        }
    }

    fn hear_standing(&self, inner: &mut Inner, pool: &Arc<str>, state: &HealthState, why: &str) {
        let place = (Arc::clone(pool), state.site.clone(), state.source.clone());
        let (source, site) = (&state.source, &state.site);
        let is_aside = state.aside.is_some();
        let before = if state.aside.is_none() && state.times == 0 {
            inner.standings.remove(&place)
        } else {
            inner.standings.insert(place, state.clone())
        };
        let was_aside = before.is_some_and(|before| before.aside.is_some());
        inner.is_changed = true;
        let line = match &state.aside {
            Some(aside) => format!(
                "source {source} of pool {pool} is aside at {site} until {} for {}: {}",
                Moment::from_micros(aside.until).rfc3339(),
                posthaste_core::egress::Fault::from(aside.fault).name(),
                why.replace(char::is_control, " "),
            ),
            None if was_aside => format!("source {source} of pool {pool} is back at {site}"),
            None => return,
        };
        if inner.lines.len() < NEWS_MAX {
            inner.lines.push_back(line);
        }
        if is_aside == was_aside {
            return;
        }
        for meters in self.meters.iter().filter(|m| *m.source == **source) {
            if is_aside {
                meters.sites.increment(1.0);
                meters.steps.increment(1);
            } else {
                meters.sites.decrement(1.0);
            }
        }
    }

    /// Who stepped aside or is back since the last call, a line each.
    pub fn lines(&self) -> VecDeque<String> {
        core::mem::take(&mut self.inner().lines)
    }

    /// Writes what is worth it by now. To be called often.
    ///
    /// # Errors
    /// When the file could not be written, once until it can be.
    pub fn look(&self, now: Moment) -> io::Result<()> {
        let mut inner = self.inner();
        let is_due = now.since(inner.written) >= COUNTS_EVERY;
        let is_wanted = inner.is_changed || self.fleet.wants_writing();
        if !is_due && (!is_wanted || inner.has_failed) {
            return Ok(());
        }
        inner.written = now;
        let kept = self.kept(&inner, false);
        inner.is_changed = false;
        drop(inner);
        let written = self.write(&kept);
        if written.is_ok() {
            self.fleet.handle_written(&kept.warmups);
        }
        let had_failed = core::mem::replace(&mut self.inner().has_failed, written.is_err());
        if had_failed { Ok(()) } else { written }
    }

    /// Before anything is sent: a run that ends without a word is seen as one.
    ///
    /// # Errors
    /// When the file could not be written.
    pub fn begin(&self) -> io::Result<()> {
        let kept = self.kept(&self.inner(), false);
        self.write(&kept)?;
        self.fleet.handle_written(&kept.warmups);
        Ok(())
    }

    /// At the end, when nothing is sent any more.
    ///
    /// # Errors
    /// When the file could not be written.
    pub fn close(&self) -> io::Result<()> {
        let kept = self.kept(&self.inner(), true);
        self.write(&kept)
    }

    fn kept(&self, inner: &Inner, has_ended: bool) -> Kept {
        let standing = |((pool, ..), state): (&Place, &HealthState)| KeptStanding {
            pool: (**pool).into(),
            state: state.clone(),
        };
        Kept {
            version: VERSION,
            has_ended,
            standings: inner.standings.iter().map(standing).collect(),
            counted: inner.reputation.snapshot(),
            warmups: if has_ended {
                self.fleet.snapshot()
            } else {
                self.fleet.snapshot_ahead()
            },
        }
    }

    /// Whoever reads it finds the old one or the new one, whole.
    fn write(&self, kept: &Kept) -> io::Result<()> {
        if self.fleet.sources().is_empty() {
            return Ok(());
        }
        let text = serde_json::to_vec(kept)?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use posthaste_core::egress::{AsideState, FaultName};

    use super::*;

    fn aside(source: &str) -> News {
        News::Standing {
            pool: "default".into(),
            state: HealthState {
                site: "mx.example".into(),
                source: source.into(),
                aside: Some(AsideState {
                    until: 5_000_000,
                    fault: FaultName::Address,
                }),
                times: 1,
            },
            why: "blocked\nby zen".into(),
        }
    }

    fn fleet() -> Arc<Fleet> {
        use posthaste_core::dispatch::PoolPlan;
        use posthaste_core::egress::{HealthRules, Selection, Source};
        let pool = PoolPlan {
            name: "default".into(),
            members: Vec::new(),
            hours: None,
            selection: Selection::Weighted,
            rules: HealthRules::default(),
        };
        let sources = vec![Source::new("a", None)];
        Arc::new(Fleet::new(sources, vec![pool], Vec::new(), Vec::new()))
    }

    #[test]
    fn what_was_heard_outlasts_a_restart_and_a_broken_file_does_not_stop_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("egress.json");
        let open = |memory: &Memory, at| Keeper::new(path.clone(), fleet(), Vec::new(), memory, at);
        let start = Moment::from_secs(1);
        let keeper = open(&Memory::read(&path).unwrap(), start);
        keeper.hear(&aside("a"), start);
        let lines = keeper.lines();
        assert!(
            lines[0].contains("a of pool default is aside at mx.example"),
            "{lines:?}"
        );
        assert!(
            lines[0].ends_with("for address: blocked by zen"),
            "{lines:?}"
        );
        keeper.look(start).unwrap();
        let memory = Memory::read(&path).unwrap();
        let states = memory.news.iter().filter_map(|news| match news {
            News::Standing { state, .. } => Some(state.clone()),
            News::Counted(_) | News::Suspended { .. } => None,
        });
        let News::Standing { state, .. } = aside("a") else {
            unreachable!("it is one");
        };
        assert_eq!(states.collect::<Vec<_>>(), [state]);
        let later = open(&memory, start);
        assert!(later.lines().is_empty(), "old news are no news");
        fs::write(&path, b"{").unwrap();
        Memory::read(&path).unwrap_err();
        assert!(path.with_extension("broken").exists());
        assert!(Memory::read(&path).unwrap().news.is_empty());
    }
}
