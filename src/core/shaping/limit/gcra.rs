//! A rate that all shards of a node share: the generic cell rate algorithm in one atomic word.

use core::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use super::connections::{Shards, Waiting};
use super::pace::{Pace, Terms};
use crate::words::{Moment, ShardId};

/// Low bits of the word: which rate its ticks are counted in.
const GENERATION_BITS: u32 = 4;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// The word holds the theoretical arrival time in ticks of the rate, and the generation of that
/// rate. Changing the rate writes the other slot first and then moves the word over, so that who
/// takes meanwhile finds its exchange refused and begins again: no lock on the way of a permit.
#[derive(Debug)]
#[repr(align(64))]
pub struct Gcra {
    word: AtomicU64,
    slots: [Slot; 2],
    /// The word of a reservation that was cancelled while later ones stand; zero for none.
    spare: AtomicU64,
    /// Shards that hold reservations, roughly.
    waiting: Waiting,
    /// Reservations that are neither used nor cancelled.
    dated: AtomicU64,
    /// For those who change the rate or ask for it, never for those who take.
    rate: Mutex<Pace>,
}

#[derive(Debug)]
struct Slot {
    per_micro: AtomicU64,
    cost: AtomicU64,
    room: AtomicU64,
}

impl Slot {
    fn new(terms: Terms) -> Self {
        Self {
            per_micro: AtomicU64::new(terms.per_micro),
            cost: AtomicU64::new(terms.cost),
            room: AtomicU64::new(terms.room),
        }
    }

    fn load(&self) -> Terms {
        Terms {
            per_micro: self.per_micro.load(Ordering::Relaxed),
            cost: self.cost.load(Ordering::Relaxed),
            room: self.room.load(Ordering::Relaxed),
        }
    }

    fn store(&self, terms: Terms) {
        self.per_micro.store(terms.per_micro, Ordering::Relaxed);
        self.cost.store(terms.cost, Ordering::Relaxed);
        self.room.store(terms.room, Ordering::Relaxed);
    }
}

/// A permit that is dated ahead. Use it from `due` on, or cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Reservation {
    /// Not to be used before.
    pub due: Moment,
    word: u64,
    cost: u64,
}

const fn ticks(word: u64) -> u64 {
    word >> GENERATION_BITS
}

const fn with_ticks(word: u64, ticks: u64) -> u64 {
    ticks << GENERATION_BITS | word & GENERATION_MASK
}

impl Gcra {
    /// At rest: a full burst is there.
    pub fn new(rate: Pace) -> Self {
        let terms = Terms::of(&rate);
        Self {
            word: AtomicU64::new(0),
            slots: [Slot::new(terms), Slot::new(terms)],
            spare: AtomicU64::new(0),
            waiting: Waiting::default(),
            dated: AtomicU64::new(0),
            rate: Mutex::new(rate),
        }
    }

    /// As it was when its whole burst was to be there again at `rests`, for what outlives a restart.
    pub fn resting_at(rate: Pace, rests: Moment, now: Moment) -> Self {
        let gcra = Self::new(rate);
        let terms = Terms::of(&rate);
        let latest = terms.clock(now) + terms.empty();
        let word = with_ticks(0, terms.clock(rests).min(latest));
        gcra.word.store(word, Ordering::Release);
        gcra
    }

    pub fn rate(&self) -> Pace {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terms(&self, word: u64) -> Terms {
        self.slots[(word & 1) as usize].load()
    }

    /// The word and the terms it is counted in, which belong together.
    fn read(&self) -> (u64, Terms) {
        loop {
            let word = self.word.load(Ordering::Acquire);
            let terms = self.terms(word);
            fence(Ordering::Acquire);
            let after = self.word.load(Ordering::Relaxed);
            if word & GENERATION_MASK == after & GENERATION_MASK {
                return (word, terms);
            }
        }
    }

    /// Exchanges the word if it is still `before`.
    fn exchange(&self, before: u64, after: u64) -> bool {
        self.word
            .compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes `n` permits, all or none. `Err`: the moment at which they fall due, if nobody takes
    /// any before; never, when `n` is more than the burst.
    pub fn take(&self, n: u32, now: Moment) -> Result<(), Moment> {
        loop {
            let (word, terms) = self.read();
            let asked = u64::from(n).saturating_mul(terms.cost);
            if asked > terms.room {
                return Err(Moment::NEVER);
            }
            let clock = terms.clock(now);
            let after = ticks(word).max(clock) + asked;
            if after - clock > terms.room {
                return Err(terms.moment(after - terms.room));
            }
            if self.exchange(word, with_ticks(word, after)) {
                return Ok(());
            }
        }
    }

    /// A reservation is used at `now`.
    pub fn use_up(&self, reservation: &Reservation, now: Moment) {
        self.count_down();
        if now > reservation.due {
            self.use_late(now);
        }
    }

    fn count_down(&self) {
        let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        // Below zero it would be wrong for ever; so it is right again when nobody has any.
        let _ = self
            .dated
            .fetch_update(order, failed, |count| count.checked_sub(1));
    }

    /// One is used later than its date: the next permit keeps its distance from here, unless it was
    /// dated by somebody else already.
    fn use_late(&self, now: Moment) {
        loop {
            let (word, terms) = self.read();
            let after = terms.clock(now) + terms.cost;
            if ticks(word) >= after || self.exchange(word, with_ticks(word, after)) {
                return;
            }
        }
    }

    /// When `n` permits are there, if nobody takes any before; `now`, if they are there.
    pub fn when(&self, n: u32, now: Moment) -> Moment {
        let (word, terms) = self.read();
        let asked = u64::from(n).saturating_mul(terms.cost);
        if asked > terms.room {
            return Moment::NEVER;
        }
        let after = ticks(word).max(terms.clock(now)) + asked;
        terms.moment(after.saturating_sub(terms.room)).max(now)
    }

    /// Takes the next permit there will be. Shards that wait for one limiter stand in line by this,
    /// and none of them tries in vain. Used later than its due time, it is used late: the next one
    /// does not move.
    pub fn reserve(&self, shard: ShardId, now: Moment) -> Reservation {
        self.waiting.add(shard);
        self.dated.fetch_add(1, Ordering::Relaxed);
        loop {
            let (word, terms) = self.read();
            let after = ticks(word).max(terms.clock(now)) + terms.cost;
            let reserved = with_ticks(word, after);
            if self.exchange(word, reserved) {
                return Reservation {
                    due: terms.moment(after.saturating_sub(terms.room)).max(now),
                    word: reserved,
                    cost: terms.cost,
                };
            }
        }
    }

    /// The reservation is not used. If others have later ones, it is to spare: these shards may take
    /// it instead of their own.
    pub fn cancel(&self, reservation: Reservation) -> Shards {
        self.count_down();
        let before = reservation.word;
        let after = with_ticks(before, ticks(before) - reservation.cost);
        let (order, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        let is_last = self.word.compare_exchange(before, after, order, failed);
        if is_last.is_ok() {
            return Shards::default();
        }
        self.spare.store(before, Ordering::SeqCst);
        let shards = self.waiting.take();
        if shards.is_empty() {
            self.spare.store(0, Ordering::SeqCst);
        }
        shards
    }

    /// The reservation that somebody cancelled, if it is due before `own`, which is then to be
    /// cancelled: so holes move to the end of the line, where they close. One that is late by more
    /// than an interval is nobody's.
    pub fn take_spare(
        &self,
        own: &Reservation,
        shard: ShardId,
        now: Moment,
    ) -> Option<Reservation> {
        self.waiting.add(shard);
        let spare = self.spare.load(Ordering::SeqCst);
        let (word, terms) = self.read();
        if spare == 0 || (spare ^ word) & GENERATION_MASK != 0 {
            return None;
        }
        let due_ticks = ticks(spare).saturating_sub(terms.room);
        let due = terms.moment(due_ticks).max(now);
        if due >= own.due || terms.clock(now) > due_ticks + terms.cost {
            return None;
        }
        let (order, failed) = (Ordering::SeqCst, Ordering::Relaxed);
        let taken = self.spare.compare_exchange(spare, 0, order, failed);
        taken.ok()?;
        self.dated.fetch_add(1, Ordering::Relaxed);
        Some(Reservation {
            due,
            word: spare,
            cost: terms.cost,
        })
    }

    /// `n` permits taken at `taken` were not used. What has come back by itself since then is not
    /// given twice.
    pub fn give(&self, n: u32, taken: Moment, now: Moment) {
        loop {
            let (word, terms) = self.read();
            let passed = terms.clock(now).saturating_sub(terms.clock(taken));
            let refund = u64::from(n).saturating_mul(terms.cost);
            let refund = refund.saturating_sub(passed).min(ticks(word));
            let after = with_ticks(word, ticks(word) - refund);
            if refund == 0 || self.exchange(word, after) {
                return;
            }
        }
    }

    /// Permits of the burst that are gone, rounded up.
    pub fn consumed(&self, now: Moment) -> u64 {
        let (word, terms) = self.read();
        let level = ticks(word).saturating_sub(terms.clock(now));
        level.div_ceil(terms.cost)
    }

    /// When the whole burst is there again, if nobody takes any before. Reservations that are not used
    /// yet do not count.
    pub fn rests_at(&self) -> Moment {
        let (word, terms) = self.read();
        let dated = self.dated.load(Ordering::Relaxed);
        terms.moment(ticks(word).saturating_sub(dated.saturating_mul(terms.cost)))
    }

    /// Another rate from `now` on. Permits consumed stay consumed, up to the new burst: what was
    /// consumed beyond it is forgotten.
    pub fn change(&self, rate: Pace, now: Moment) {
        let mut current = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == rate {
            return;
        }
        let new = Terms::of(&rate);
        let generation = self.word.load(Ordering::Acquire).wrapping_add(1) & GENERATION_MASK;
        // Whoever sees a number of the new slot then also sees that the word has left the rate that
        // was in it before.
        fence(Ordering::Release);
        self.slots[(generation & 1) as usize].store(new);
        loop {
            let word = self.word.load(Ordering::Acquire);
            let old = self.terms(word);
            let level = u128::from(ticks(word).saturating_sub(old.clock(now)));
            // Rounded up: many changes shall not add up to a permit.
            let level = (level * u128::from(new.cost)).div_ceil(u128::from(old.cost));
            let level = u64::try_from(level).unwrap_or(u64::MAX).min(new.empty());
            let after = (new.clock(now) + level) << GENERATION_BITS | generation;
            if self.exchange(word, after) {
                break;
            }
        }
        *current = rate;
    }
}
