//! A rate that several nodes share. Each lives on leases: permits with an end, which somebody
//! fetches ahead. Taking one asks nobody.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use super::connections::{Shards, Waiting};
use super::gcra::Gcra;
use super::pace::Pace;
use crate::words::{Moment, ShardId};

/// Low bits of a lease: its permits. The rest is its end in milliseconds since 1970.
const PERMITS_BITS: u32 = 22;
/// Permits of one lease.
const PERMITS_MAX: u64 = (1 << PERMITS_BITS) - 1;
/// Who asks for anything asks for what the whole rate gives in this time, at least: a trickle
/// would pay a round trip for each message.
const ASK_MIN: Duration = Duration::from_millis(100);

/// What to do while nobody grants leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Go on at the last known share.
    LastShare,
    /// Send nothing.
    Stop,
}

/// Permits granted to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub permits: u64,
    /// The time they are meant for: it tells the node's share of the rate.
    pub span: Duration,
    /// Worth nothing from then on.
    pub until: Moment,
}

/// What the node has to say to whoever grants leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Permits to be fetched.
    pub wanted: u64,
    /// Permits of leases that run.
    pub left: u64,
    /// Permits whose lease ended before anybody took them: for other nodes to use.
    pub unused: u64,
    /// Permits taken without a lease, while nobody granted any.
    pub alone: u64,
}

impl Ask {
    pub const fn is_empty(&self) -> bool {
        self.wanted == 0 && self.unused == 0 && self.alone == 0
    }
}

/// All shards of a node take from it; one outside thread fills it.
#[derive(Debug)]
pub struct Leased {
    /// No node alone goes faster than all together may.
    pace: Gcra,
    leases: [AtomicU64; 2],
    /// What this node goes on with when leases fail.
    share: Gcra,
    is_lost: AtomicBool,
    loss: Loss,
    used: AtomicU64,
    missed: AtomicU64,
    unused: AtomicU64,
    alone: AtomicU64,
    /// When all that was granted to any node has come back, in microseconds since 1970; 0: not known.
    whole_rests: AtomicU64,
    waiting: Waiting,
}

fn live(lease: u64, now: Moment) -> u64 {
    if now.as_micros() / 1000 < lease >> PERMITS_BITS {
        lease & PERMITS_MAX
    } else {
        0
    }
}

impl Leased {
    /// `pace` is the rate of all nodes together, with what this node used of it; `share` is this
    /// node's until it has had a lease.
    pub fn new(pace: Gcra, share: Pace, loss: Loss) -> Self {
        Self {
            pace,
            leases: [AtomicU64::new(0), AtomicU64::new(0)],
            share: Gcra::new(share),
            is_lost: AtomicBool::new(false),
            loss,
            used: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            unused: AtomicU64::new(0),
            alone: AtomicU64::new(0),
            whole_rests: AtomicU64::new(0),
            waiting: Waiting::default(),
        }
    }

    /// Takes a permit. `Err`: when one falls due; `None`: when the next lease comes.
    pub fn take(&self, now: Moment) -> Result<(), Option<Moment>> {
        self.pace.take(1, now).map_err(Some)?;
        if self.take_leased(now) {
            self.used.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let refusal = if self.lives_on_share() {
            match self.share.take(1, now) {
                Ok(()) => {
                    self.alone.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(due) => Some(due),
            }
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            None
        };
        self.pace.give(1, now, now);
        Err(refusal)
    }

    fn lives_on_share(&self) -> bool {
        self.loss == Loss::LastShare && self.is_lost.load(Ordering::SeqCst)
    }

    /// Of the lease that ends first.
    fn take_leased(&self, now: Moment) -> bool {
        let mut order = [0, 1];
        let end = |index: usize| self.leases[index].load(Ordering::Relaxed) >> PERMITS_BITS;
        order.sort_by_key(|index| end(*index));
        order.into_iter().any(|index| {
            self.leases[index]
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lease| {
                    (live(lease, now) > 0).then(|| lease - 1)
                })
                .is_ok()
        })
    }

    /// A permit taken at `taken` was not used.
    pub fn give(&self, taken: Moment, now: Moment) {
        self.pace.give(1, taken, now);
        if self.lives_on_share() {
            return self.share.give(1, taken, now);
        }
        for lease in &self.leases {
            let given = lease.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lease| {
                let permits = live(lease, now);
                (permits > 0 && permits < PERMITS_MAX).then_some(lease + 1)
            });
            if given.is_ok() {
                return;
            }
        }
        self.unused.fetch_add(1, Ordering::Relaxed);
    }

    /// When a permit is there, as far as known; `None`: when the next lease comes.
    pub fn when(&self, now: Moment) -> Option<Moment> {
        let pace = self.pace.when(1, now);
        if self.left(now) > 0 {
            Some(pace)
        } else if self.lives_on_share() {
            Some(pace.max(self.share.when(1, now)))
        } else {
            None
        }
    }

    /// Tells `shard` when a lease comes. Ask for a permit again after this.
    pub fn wait(&self, shard: ShardId) {
        self.waiting.add(shard);
    }

    /// Permits of leases that have not ended.
    pub fn left(&self, now: Moment) -> u64 {
        let of = |lease: &AtomicU64| live(lease.load(Ordering::SeqCst), now);
        self.leases.iter().map(of).sum()
    }

    /// To be asked at a steady pace. What it says is said once. Wants twice what was used since the
    /// last time, and nothing when nobody came and nobody waits.
    pub fn ask(&self, now: Moment) -> Ask {
        for lease in &self.leases {
            let ended = lease.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lease| {
                (lease & PERMITS_MAX > 0 && live(lease, now) == 0).then_some(0)
            });
            if let Ok(ended) = ended {
                self.unused
                    .fetch_add(ended & PERMITS_MAX, Ordering::Relaxed);
            }
        }
        let left = self.left(now);
        Ask {
            wanted: self.wanted(left),
            left,
            unused: self.unused.swap(0, Ordering::Relaxed),
            alone: self.alone.swap(0, Ordering::Relaxed),
        }
    }

    fn wanted(&self, left: u64) -> u64 {
        let used = self.used.swap(0, Ordering::Relaxed);
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if used + missed == 0 && !self.waiting.is_any() {
            return 0;
        }
        let rate = self.pace.rate();
        let least = u128::from(rate.count()) * ASK_MIN.as_micros() / rate.period().as_micros();
        let least = u64::try_from(least).unwrap_or(u64::MAX).max(1);
        let wanted = (used * 2 + missed).max(least).min(PERMITS_MAX);
        wanted.saturating_sub(left)
    }

    /// Takes back what nobody has taken yet: the node ends.
    pub fn withdraw(&self) -> u64 {
        let of = |lease: &AtomicU64| lease.swap(0, Ordering::SeqCst) & PERMITS_MAX;
        self.leases.iter().map(of).sum()
    }

    /// Adds a lease, for these shards to draw on. Where two run already, it joins the one that ends
    /// first, and ends with it.
    pub fn fill(&self, lease: Lease, now: Moment) -> Shards {
        self.is_lost.store(false, Ordering::SeqCst);
        if let Ok(share) = Pace::smooth(lease.permits, lease.span) {
            self.share.change(share, now);
        }
        let until = lease.until.as_micros() / 1000;
        let permits = lease.permits.min(PERMITS_MAX);
        let order = |index: &usize| {
            let lease = self.leases[*index].load(Ordering::SeqCst);
            (live(lease, now) > 0, lease >> PERMITS_BITS)
        };
        let index = [0, 1].into_iter().min_by_key(order).unwrap_or(0);
        let before =
            self.leases[index].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |before| {
                let left = live(before, now);
                let until = if left > 0 {
                    until.min(before >> PERMITS_BITS)
                } else {
                    until
                };
                Some(until << PERMITS_BITS | (left + permits).min(PERMITS_MAX))
            });
        if let Ok(before) = before
            && live(before, now) == 0
        {
            self.unused
                .fetch_add(before & PERMITS_MAX, Ordering::Relaxed);
        }
        self.waiting.take()
    }

    /// Nobody grants leases. What is left of them stays good until its end.
    pub fn lose(&self) -> Shards {
        self.is_lost.store(true, Ordering::SeqCst);
        self.waiting.take()
    }

    /// Leases are granted again: nothing is taken alone from here on.
    pub fn regain(&self) -> Shards {
        if self.is_lost.swap(false, Ordering::SeqCst) {
            self.waiting.take()
        } else {
            Shards::default()
        }
    }

    /// What this node goes on with when leases fail, until it has the next one.
    pub fn set_share(&self, share: Pace, now: Moment) {
        self.share.change(share, now);
    }

    /// All that is granted to any node has come back after `gone`.
    pub fn hear_of_whole(&self, gone: Duration, now: Moment) {
        let rests = (now + gone).as_micros();
        self.whole_rests.store(rests, Ordering::Relaxed);
    }

    /// Permits of the burst that are gone at all nodes together, as far as this one has heard; what is
    /// granted and not taken yet among them.
    pub fn consumed(&self, now: Moment) -> u64 {
        let rate = self.pace.rate();
        let rests = Moment::from_micros(self.whole_rests.load(Ordering::Relaxed));
        let period = rate.period().as_micros().max(1);
        let whole = rests.since(now).as_micros() * u128::from(rate.count());
        let whole = u64::try_from(whole.div_ceil(period)).unwrap_or(u64::MAX);
        whole.max(self.pace.consumed(now))
    }

    /// When nothing is gone of the whole rate, as far as this node took of it.
    pub fn rests_at(&self) -> Moment {
        self.pace.rests_at()
    }

    /// The rate of all nodes together.
    pub fn rate(&self) -> Pace {
        self.pace.rate()
    }

    pub fn change(&self, rate: Pace, now: Moment) {
        self.pace.change(rate, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_second(count: u64) -> Pace {
        Pace::new(count, Duration::from_secs(1), count).unwrap()
    }

    fn leased(loss: Loss) -> Leased {
        Leased::new(Gcra::new(per_second(1000)), per_second(7), loss)
    }

    fn lease(permits: u64, until: Moment) -> Lease {
        let span = Duration::from_secs(1);
        Lease {
            permits,
            span,
            until,
        }
    }

    fn take_all(leased: &Leased, now: Moment) -> usize {
        core::iter::repeat_with(|| leased.take(now))
            .take_while(Result::is_ok)
            .count()
    }

    #[test]
    fn a_lease_gives_its_permits_and_none_after_its_end() {
        let now = Moment::from_secs(1000);
        let leased = leased(Loss::Stop);
        assert_eq!(leased.take(now), Err(None));
        leased.wait(ShardId(2));
        let told = leased.fill(lease(5, now + Duration::from_secs(1)), now);
        assert!(told.contains(ShardId(2)));
        assert_eq!(take_all(&leased, now), 5);
        let _ = leased.fill(lease(5, now + Duration::from_secs(1)), now);
        assert_eq!(leased.take(now + Duration::from_secs(1)), Err(None));
    }

    #[test]
    fn two_leases_are_used_in_the_order_of_their_ends() {
        let now = Moment::from_secs(1000);
        let leased = leased(Loss::Stop);
        let _ = leased.fill(lease(3, now + Duration::from_secs(9)), now);
        let _ = leased.fill(lease(4, now + Duration::from_secs(2)), now);
        assert_eq!(leased.take(now), Ok(()));
        assert_eq!(take_all(&leased, now + Duration::from_secs(2)), 3);
    }

    #[test]
    fn no_node_goes_faster_than_all_together_may() {
        let now = Moment::from_secs(1000);
        let leased = leased(Loss::Stop);
        let _ = leased.fill(lease(5000, now + Duration::from_secs(9)), now);
        assert_eq!(take_all(&leased, now), 1000);
        assert!(matches!(leased.take(now), Err(Some(due)) if due > now));
        assert_eq!(leased.left(now), 4000, "a refusal uses up nothing");
    }

    #[test]
    fn when_leases_fail_a_node_stops_or_keeps_its_last_share() {
        let now = Moment::from_secs(1000);
        let stops = leased(Loss::Stop);
        let _ = stops.lose();
        assert_eq!(stops.take(now), Err(None));
        let goes_on = leased(Loss::LastShare);
        let _ = goes_on.fill(lease(100, now + Duration::from_secs(1)), now);
        goes_on.wait(ShardId(0));
        assert!(!goes_on.lose().is_empty(), "who waits hears of the loss");
        let (mut taken, mut time) = (0, now + Duration::from_secs(1));
        for _ in 0..1000 {
            taken += take_all(&goes_on, time);
            time = time + Duration::from_millis(10);
        }
        assert!(
            (990..=1010).contains(&taken),
            "100 a second for 10 s: {taken}"
        );
    }

    #[test]
    fn what_is_gone_of_the_whole_is_told_by_who_grants_and_comes_back() {
        let now = Moment::from_secs(1000);
        let leased = leased(Loss::Stop);
        let _ = leased.fill(lease(5, now + Duration::from_secs(9)), now);
        assert_eq!(take_all(&leased, now), 5);
        assert_eq!(leased.consumed(now), 5, "of its own it knows");
        leased.hear_of_whole(Duration::from_millis(300), now);
        assert_eq!(leased.consumed(now), 300, "of 1000 a second");
        assert_eq!(leased.consumed(now + Duration::from_millis(200)), 100);
        assert_eq!(leased.consumed(now + Duration::from_secs(1)), 0);
    }

    #[test]
    fn it_asks_for_what_is_used_and_not_when_idle() {
        let now = Moment::from_secs(1000);
        let leased = leased(Loss::Stop);
        assert!(leased.ask(now).is_empty());
        assert_eq!(leased.take(now), Err(None));
        assert_eq!(
            leased.ask(now).wanted,
            100,
            "a tenth of a second of the rate"
        );
        let _ = leased.fill(lease(300, now + Duration::from_secs(1)), now);
        assert_eq!(take_all(&leased, now), 300);
        assert!(leased.ask(now).wanted >= 600);
        assert!(leased.ask(now).is_empty());
    }

    #[test]
    fn permits_nobody_took_are_told_once_and_so_are_those_taken_alone() {
        let now = Moment::from_secs(1000);
        let end = now + Duration::from_secs(1);
        let leased = leased(Loss::LastShare);
        let _ = leased.fill(lease(5, end), now);
        assert_eq!(leased.take(now), Ok(()));
        assert_eq!(leased.ask(now).left, 4);
        assert_eq!(leased.ask(end).unused, 4);
        assert!(leased.ask(end).is_empty());
        let _ = leased.fill(lease(3, end), now);
        let _ = leased.fill(lease(2, end + Duration::from_secs(1)), end);
        let _ = leased.fill(lease(2, end + Duration::from_secs(1)), end);
        assert_eq!(leased.ask(end).unused, 3, "a new lease hides no old one");
        assert_eq!(leased.withdraw(), 4);
        let _ = leased.lose();
        assert_eq!(leased.take(end), Ok(()));
        assert_eq!(leased.ask(end).alone, 1);
        let _ = leased.regain();
        assert_eq!(leased.take(end + Duration::from_secs(1)), Err(None));
    }
}
