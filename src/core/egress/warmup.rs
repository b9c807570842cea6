//! Warm-up: what a young source may send to one provider in a day, more from good day to good day.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reputation::Event;
use crate::words::Moment;

const DAY_SECS: u64 = 86_400;
const RUNGS_MAX: usize = 200;
/// Of a day's number, what may be used before it is written down: this part, …
const AHEAD_PART: u32 = 16;
/// … but so many at least, if there are as many.
const AHEAD_MIN: u32 = 10;
/// Until more is written down.
const WRITE_WAIT: Duration = Duration::from_millis(100);

/// Messages a day, from the first day on; after the last one the source is warm. Days are those of
/// UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    caps: Box<[u32]>,
    /// A day went well if this many of a thousand outcomes were deliveries, …
    pub delivered_permille_min: u32,
    /// … at most this many were blocks, …
    pub blocked_permille_max: u32,
    /// … and at most this many of a thousand deliveries came back as complaints.
    pub complained_permille_max: u32,
    /// A day with more blocks than this leads one rung down.
    pub fall_permille: u32,
}

/// What is wrong with a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    #[error("a warm-up has between 1 and 200 days")]
    Length,
    #[error("a day of a warm-up allows at least one message")]
    Zero,
    #[error("a day of a warm-up allows no fewer messages than the day before")]
    Falls,
}

impl Ladder {
    pub fn new(caps: &[u32]) -> Result<Self, LadderError> {
        if caps.is_empty() || caps.len() > RUNGS_MAX {
            return Err(LadderError::Length);
        }
        if caps.contains(&0) {
            return Err(LadderError::Zero);
        }
        if !caps.is_sorted() {
            return Err(LadderError::Falls);
        }
        Ok(Self {
            caps: caps.into(),
            delivered_permille_min: 950,
            blocked_permille_max: 10,
            complained_permille_max: 1,
            fall_permille: 100,
        })
    }

    fn cap(&self, rung: usize) -> Option<u32> {
        self.caps.get(rung).copied()
    }

    /// Days until a source is warm, if all go well.
    pub fn days(&self) -> usize {
        self.caps.len()
    }

    /// The rung of the next day on which mail is sent.
    fn after(&self, rung: usize, day: &Counts) -> usize {
        let all = u64::from(day.delivered) + u64::from(day.deferred) + u64::from(day.blocked);
        let within =
            |part: u32, of: u64, permille: u32| u64::from(part) * 1000 <= of * u64::from(permille);
        if all > 0 && !within(day.blocked, all, self.fall_permille) {
            return rung.saturating_sub(1);
        }
        let went_well = day.delivered > 0
            && u64::from(day.delivered) * 1000 >= all * u64::from(self.delivered_permille_min)
            && within(day.blocked, all, self.blocked_permille_max)
            && within(
                day.complained,
                u64::from(day.delivered),
                self.complained_permille_max,
            );
        rung + usize::from(went_well)
    }
}

impl Default for Ladder {
    /// From 50 to 2 million a day in some weeks, by the steps providers advise.
    fn default() -> Self {
        let caps = [
            50, 100, 250, 500, 1000, 2500, 5000, 10_000, 20_000, 40_000, 70_000, 100_000, 150_000,
            200_000, 300_000, 400_000, 600_000, 800_000, 1_000_000, 1_500_000, 2_000_000,
        ];
        Self::new(&caps).expect("a rising ladder")
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    delivered: u32,
    deferred: u32,
    blocked: u32,
    complained: u32,
}

/// As kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmupState {
    pub source: Box<str>,
    pub provider: Box<str>,
    /// Days since 1970: the last one on which mail was admitted.
    pub day: u32,
    /// Counts from 0; as long as the ladder is high, the source is warm.
    pub rung: u32,
    pub sent: u32,
    pub delivered: u32,
    pub deferred: u32,
    pub blocked: u32,
    pub complained: u32,
}

/// One per source and provider, shared by the shards of a node without a lock: what they admit
/// together stays below the day's cap.
#[derive(Debug)]
pub struct Warmup {
    source: Arc<str>,
    provider: Arc<str>,
    ladder: Arc<Ladder>,
    /// Day, rung and messages admitted on that day change together.
    word: AtomicU64,
    delivered: AtomicU32,
    deferred: AtomicU32,
    blocked: AtomicU32,
    complained: AtomicU32,
    /// Day, and messages of it that whoever keeps the state has written down; `None`: nobody does.
    written: Option<AtomicU64>,
}

/// How far a source is, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub source: Arc<str>,
    pub provider: Arc<str>,
    /// Counts from 1, days on which mail was sent and that went well.
    pub day: usize,
    pub days: usize,
    /// Messages admitted today.
    pub sent: u32,
    /// `None`: it is warm.
    pub cap: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Today {
    day: u32,
    rung: u8,
    sent: u32,
}

impl Today {
    const fn pack(self) -> u64 {
        (self.day as u64) << 40 | (self.rung as u64) << 32 | self.sent as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            day: (word >> 40) as u32,
            rung: (word >> 32) as u8,
            sent: word as u32,
        }
    }
}

/// What is on disk of a day.
#[derive(Clone, Copy, Debug)]
struct Written {
    day: u32,
    sent: u32,
}

impl Written {
    const fn of(today: Today) -> Self {
        Self {
            day: today.day,
            sent: today.sent,
        }
    }

    const fn pack(self) -> u64 {
        (self.day as u64) << 32 | self.sent as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            day: (word >> 32) as u32,
            sent: word as u32,
        }
    }
}

/// Of a day's number, what may be used that is not written down.
fn ahead(cap: u32) -> u32 {
    (cap / AHEAD_PART).max(AHEAD_MIN).min(cap)
}

fn day_of(now: Moment) -> u32 {
    u32::try_from(now.as_secs() / DAY_SECS).unwrap_or(u32::MAX) & 0x00FF_FFFF
}

impl Warmup {
    pub fn new(source: Arc<str>, provider: Arc<str>, ladder: Arc<Ladder>) -> Self {
        Self {
            source,
            provider,
            ladder,
            word: AtomicU64::new(0),
            delivered: AtomicU32::new(0),
            deferred: AtomicU32::new(0),
            blocked: AtomicU32::new(0),
            complained: AtomicU32::new(0),
            written: None,
        }
    }

    /// As it was before a restart. A ladder that became shorter has made the source warm.
    pub fn restore(ladder: Arc<Ladder>, state: &WarmupState) -> Self {
        let warmup = Self::new(
            Arc::from(&*state.source),
            Arc::from(&*state.provider),
            ladder,
        );
        let rung = state
            .rung
            .min(u32::try_from(warmup.ladder.days()).unwrap_or(0));
        let today = Today {
            day: state.day & 0x00FF_FFFF,
            rung: u8::try_from(rung).unwrap_or(u8::MAX),
            sent: state.sent,
        };
        let set = |count: &AtomicU32, value| count.store(value, Ordering::Relaxed);
        set(&warmup.delivered, state.delivered);
        set(&warmup.deferred, state.deferred);
        set(&warmup.blocked, state.blocked);
        set(&warmup.complained, state.complained);
        warmup.word.store(today.pack(), Ordering::Release);
        warmup
    }

    /// Somebody writes down what is used, ahead of its use, so that no crash gives a day more than its
    /// number. `cut`: the last run ended without a word, and this is the moment of the start: as much
    /// of this day as is used before it is first written down may be used.
    pub fn kept(mut self, cut: Option<Moment>) -> Self {
        let before = Today::unpack(self.word.load(Ordering::Acquire));
        self.written = Some(AtomicU64::new(Written::of(before).pack()));
        if let Some(now) = cut.filter(|now| day_of(*now) > before.day) {
            let today = self.begin_day(now);
            if let Some(cap) = self.ladder.cap(usize::from(today.rung)) {
                let sent = ahead(cap);
                self.word
                    .store(Today { sent, ..today }.pack(), Ordering::Release);
            }
        }
        self
    }

    /// Of a day's number, what may be admitted by what is written.
    fn bound(&self, today: Today, cap: u32) -> u32 {
        let Some(written) = &self.written else {
            return cap;
        };
        let written = Written::unpack(written.load(Ordering::Acquire));
        if written.day == today.day {
            written.sent.min(cap)
        } else {
            ahead(cap)
        }
    }

    /// Whether it is about to wait for more to be written down.
    pub fn wants_writing(&self) -> bool {
        let today = Today::unpack(self.word.load(Ordering::Acquire));
        let (Some(cap), Some(written)) = (self.ladder.cap(usize::from(today.rung)), &self.written)
        else {
            return false;
        };
        let written = Written::unpack(written.load(Ordering::Acquire));
        let is_short = written.sent < cap && today.sent + ahead(cap) / 2 >= written.sent;
        today.sent > 0 && (written.day != today.day || is_short)
    }

    /// Whether it does wait for that.
    pub fn awaits_writing(&self, now: Moment) -> bool {
        let today = self.begin_day(now);
        let cap = self.ladder.cap(usize::from(today.rung));
        cap.is_some_and(|cap| today.sent < cap && today.sent >= self.bound(today, cap))
    }

    /// One message more on this day. `Err`: the day is full, and this is when the next one begins, or
    /// what is used is yet to be written down; mail goes to the pool's other sources until then.
    pub fn admit(&self, now: Moment) -> Result<(), Moment> {
        loop {
            let today = self.begin_day(now);
            let Some(cap) = self.ladder.cap(usize::from(today.rung)) else {
                return Ok(());
            };
            if today.sent >= cap {
                return Err(Moment::from_secs((u64::from(today.day) + 1) * DAY_SECS));
            }
            if today.sent >= self.bound(today, cap) {
                return Err(now + WRITE_WAIT);
            }
            let sent = today.sent + 1;
            if self.exchange(today, Today { sent, ..today }) {
                return Ok(());
            }
        }
    }

    fn exchange(&self, before: Today, after: Today) -> bool {
        let (order, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.word
            .compare_exchange(before.pack(), after.pack(), order, failed)
            .is_ok()
    }

    /// The day at hand. Who comes first on a new day judges the last one on which mail was sent.
    fn begin_day(&self, now: Moment) -> Today {
        loop {
            let last = Today::unpack(self.word.load(Ordering::Acquire));
            let is_warm = usize::from(last.rung) >= self.ladder.days();
            let day = day_of(now);
            if is_warm || day <= last.day {
                return last;
            }
            let counts = self.counts();
            let rung = if last.sent > 0 {
                let rung = self.ladder.after(usize::from(last.rung), &counts);
                u8::try_from(rung).unwrap_or(u8::MAX)
            } else {
                last.rung
            };
            let today = Today { day, rung, sent: 0 };
            if self.exchange(last, today) {
                self.forget(&counts);
                return today;
            }
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered.load(Ordering::Relaxed),
            deferred: self.deferred.load(Ordering::Relaxed),
            blocked: self.blocked.load(Ordering::Relaxed),
            complained: self.complained.load(Ordering::Relaxed),
        }
    }

    /// What came in while the day was judged counts for the next one.
    fn forget(&self, counts: &Counts) {
        self.delivered
            .fetch_sub(counts.delivered, Ordering::Relaxed);
        self.deferred.fetch_sub(counts.deferred, Ordering::Relaxed);
        self.blocked.fetch_sub(counts.blocked, Ordering::Relaxed);
        self.complained
            .fetch_sub(counts.complained, Ordering::Relaxed);
    }

    /// What was admitted was not sent after all.
    pub fn give(&self, taken: Moment) {
        // A day that is over keeps its count; nothing then is to be done.
        let _ = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                let today = Today::unpack(word);
                let is_today = today.day == day_of(taken) && today.sent > 0;
                is_today.then(|| word - 1)
            });
    }

    pub fn handle(&self, event: Event) {
        if self.is_warm() {
            return;
        }
        let count = match event {
            Event::Delivered => &self.delivered,
            Event::Deferred => &self.deferred,
            Event::Blocked => &self.blocked,
            Event::Complained => &self.complained,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// It may send as much as its weight says.
    pub fn is_warm(&self) -> bool {
        let today = Today::unpack(self.word.load(Ordering::Acquire));
        usize::from(today.rung) >= self.ladder.days()
    }

    /// How far it is, with what it has admitted on the day of `now`.
    pub fn today(&self, now: Moment) -> Progress {
        let today = self.begin_day(now);
        let rung = usize::from(today.rung);
        Progress {
            source: Arc::clone(&self.source),
            provider: Arc::clone(&self.provider),
            day: rung + 1,
            days: self.ladder.days(),
            sent: today.sent,
            cap: self.ladder.cap(rung),
        }
    }

    /// To be kept while more is sent: what will have been used by the next time. To be told to
    /// [`Self::handle_written`] once it is.
    pub fn snapshot_ahead(&self) -> WarmupState {
        let mut state = self.snapshot();
        if let Some(cap) = self
            .ladder
            .cap(state.rung as usize)
            .filter(|_| state.sent > 0)
        {
            state.sent = state.sent.saturating_add(ahead(cap)).min(cap);
        }
        state
    }

    /// That is on disk.
    pub fn handle_written(&self, state: &WarmupState) {
        if let Some(written) = &self.written {
            let (day, sent) = (state.day, state.sent);
            written.store(Written { day, sent }.pack(), Ordering::Release);
        }
    }

    pub fn is_of(&self, source: &str, provider: &str) -> bool {
        *self.source == *source && *self.provider == *provider
    }

    /// To be kept at the end, when nothing is sent any more.
    pub fn snapshot(&self) -> WarmupState {
        let today = Today::unpack(self.word.load(Ordering::Acquire));
        let counts = self.counts();
        WarmupState {
            source: (*self.source).into(),
            provider: (*self.provider).into(),
            day: today.day,
            rung: u32::from(today.rung),
            sent: today.sent,
            delivered: counts.delivered,
            deferred: counts.deferred,
            blocked: counts.blocked,
            complained: counts.complained,
        }
    }
}
