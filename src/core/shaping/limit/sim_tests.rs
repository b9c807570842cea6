//! An hour of traffic on one clock: 1,000 domains at 50 sites from 20 sources, over 4 shards.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::tests::{START, rate, rate_limit};
use super::{Fair, Held, Limit, LimitId, Meter, Parking, Set};
use crate::words::{Moment, ShardId};

const DOMAINS: u64 = 1000;
const SITES: u64 = 50;
const SOURCES: u64 = 20;
const TENANTS: u32 = 5;
const SHARDS: u16 = 4;
const HOUR: Duration = Duration::from_secs(3600);
/// Sites below this number have more work than they may have.
const FLOODED: u64 = 25;
/// The tenant that has a rate of its own, below its fair share.
const CURBED: u32 = TENANTS - 1;

/// A lane, or one tenant of it.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    lane: usize,
    tenant: Option<u32>,
}

struct Lane {
    site: u64,
    shard: usize,
    limits: Set,
    fair: Fair,
    /// By tenant, which is its own flow.
    queued: [u32; TENANTS as usize],
    /// The curbed tenant waits.
    curbed: bool,
    parked: bool,
}

/// A limit's own rules, kept by somebody else: a bucket that leaks.
struct Judge {
    per_micro: f64,
    burst: f64,
    level: f64,
    at: Moment,
    count: u64,
}

impl Judge {
    fn level(&self, now: Moment) -> f64 {
        let micros = now.since(self.at).as_micros() as f64;
        (self.level - micros * self.per_micro).max(0.0)
    }

    /// A microsecond's worth is the precision of a moment.
    fn has_room(&self, now: Moment, slack: f64) -> bool {
        self.level(now) + 1.0 <= self.burst + slack * self.per_micro + 1e-6
    }

    fn count(&mut self, now: Moment, limit: &Limit) {
        assert!(self.has_room(now, 1.0), "{} exceeded", limit.name);
        self.level = self.level(now) + 1.0;
        self.at = now;
        self.count += 1;
    }
}

struct World {
    now: Moment,
    lanes: Vec<Lane>,
    curb: Arc<Limit>,
    parkings: Vec<Parking<Waiter>>,
    judges: BTreeMap<LimitId, Judge>,
    /// By site and tenant.
    sent: BTreeMap<(u64, u32), u64>,
    refusals: u64,
}

fn weight(tenant: u32) -> u16 {
    if tenant == 0 { 2 } else { 1 }
}

impl World {
    fn new() -> Self {
        let site = |n| rate_limit(n, rate(2 + n % 7, 1, 1 + n % 3));
        let source = |n| rate_limit(100 + n, rate(40 + n, 1, 2));
        let sites: Vec<_> = (0..SITES).map(site).collect();
        let sources: Vec<_> = (0..SOURCES).map(source).collect();
        let curb = rate_limit(1000, rate(5, 1, 10));
        let mut lanes = Vec::new();
        for (s, site) in (0..).zip(&sites) {
            for (n, source) in (0..).zip(&sources) {
                let lane = rate_limit(2000 + s * SOURCES + n, rate(60, 60, 1));
                lanes.push(Lane {
                    site: s,
                    shard: ((s * 7 + n) % u64::from(SHARDS)) as usize,
                    limits: Set::new([&lane, site, source].map(Arc::clone)),
                    fair: Fair::default(),
                    queued: [0; TENANTS as usize],
                    curbed: false,
                    parked: false,
                });
            }
        }
        let all = lanes.iter().flat_map(|lane| lane.limits.limits());
        let judges = all.chain([&curb]).map(|limit| {
            let Meter::Rate(gcra) = &limit.meter else {
                unreachable!("all limits here are rates")
            };
            let rate = gcra.rate();
            let judge = Judge {
                per_micro: rate.count() as f64 / rate.period().as_micros() as f64,
                burst: rate.burst() as f64,
                level: 0.0,
                at: START,
                count: 0,
            };
            (limit.id, judge)
        });
        let judges = judges.collect();
        Self {
            now: START,
            lanes,
            curb,
            parkings: (0..SHARDS)
                .map(|n| Parking::new(ShardId(n), 100_000))
                .collect(),
            judges,
            sent: BTreeMap::new(),
            refusals: 0,
        }
    }

    fn arrive(&mut self, domain: u64, tenant: u32, random: u64) {
        let site = domain % SITES;
        let index = (site * SOURCES + random % SOURCES) as usize;
        let lane = &mut self.lanes[index];
        lane.queued[tenant as usize] += 1;
        lane.fair.assign(tenant, tenant, weight(tenant));
        if tenant != CURBED || !lane.curbed {
            lane.fair.enter(tenant);
        }
        if !lane.parked {
            self.serve(index, None);
        }
    }

    fn limits_of(&self, lane: usize, tenant: u32) -> Set {
        let limits = self.lanes[lane].limits.limits().iter().cloned();
        Set::new(limits.chain((tenant == CURBED).then(|| Arc::clone(&self.curb))))
    }

    /// What a lane does with its turn: all it may send, then it waits for the tightest limit.
    fn serve(&mut self, index: usize, mut held: Option<Held>) {
        let shard = self.lanes[index].shard;
        while let Some(sender) = self.lanes[index].fair.head() {
            let set = self.limits_of(index, sender);
            match set.take(held.as_ref(), self.now) {
                Ok(()) => {
                    if let Some(held) = held.take() {
                        let is_used = set.limits().iter().any(|l| l.id == held.limit().id);
                        if !is_used {
                            self.parkings[shard].pass(held, self.now);
                        }
                    }
                    for limit in set.limits() {
                        let judge = self.judges.get_mut(&limit.id).unwrap();
                        judge.count(self.now, limit);
                    }
                    let lane = &mut self.lanes[index];
                    lane.fair.served();
                    lane.queued[sender as usize] -= 1;
                    if lane.queued[sender as usize] == 0 {
                        lane.fair.leave(sender);
                    }
                    *self.sent.entry((lane.site, sender)).or_default() += 1;
                }
                Err(tight) => {
                    self.refusals += 1;
                    let lane = &mut self.lanes[index];
                    let of_tenant = tight.limit.id == self.curb.id;
                    let tenant = of_tenant.then_some(sender);
                    if of_tenant {
                        lane.fair.leave(sender);
                        lane.curbed = true;
                    } else {
                        lane.parked = true;
                    }
                    let waiter = Waiter {
                        lane: index,
                        tenant,
                    };
                    let parking = &mut self.parkings[shard];
                    parking.park(&tight.limit, waiter, self.now).unwrap();
                    if !of_tenant {
                        break;
                    }
                }
            }
        }
        if let Some(held) = held {
            self.parkings[shard].pass(held, self.now);
        }
    }

    /// Wakes all whose turn is until `end`.
    fn run_until(&mut self, end: Moment) {
        loop {
            let due = self.parkings.iter().filter_map(Parking::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for shard in 0..self.parkings.len() {
                while let Some(woken) = self.parkings[shard].poll(self.now) {
                    let Waiter { lane, tenant } = woken.waiter;
                    match tenant {
                        Some(tenant) => {
                            self.lanes[lane].curbed = false;
                            if self.lanes[lane].queued[tenant as usize] > 0 {
                                self.lanes[lane].fair.enter(tenant);
                            }
                        }
                        None => self.lanes[lane].parked = false,
                    }
                    if self.lanes[lane].parked {
                        self.parkings[shard].pass(woken.held, self.now);
                    } else {
                        self.serve(lane, Some(woken.held));
                    }
                }
            }
            self.tell();
        }
        self.now = end;
    }

    /// Carries notes from shard to shard.
    fn tell(&mut self) {
        while let Some((limit, told)) = self.parkings.iter_mut().find_map(Parking::poll_freed) {
            for (shard, parking) in (0..SHARDS).map(ShardId).zip(&mut self.parkings) {
                if told.contains(shard) {
                    parking.handle_freed(limit, self.now);
                }
            }
        }
    }

    /// Lanes with work that may go, and that no limit holds back.
    fn idle_lanes(&self) -> usize {
        let may_go = |lane: &&Lane| {
            let free = &lane.queued[..CURBED as usize];
            let has_work = free.iter().any(|queued| *queued > 0);
            let mut limits = lane.limits.limits().iter();
            // A permit that falls due in this microsecond may be a timer away.
            has_work && limits.all(|limit| self.judges[&limit.id].has_room(self.now, -1.0))
        };
        self.lanes.iter().filter(may_go).count()
    }

    fn sent(&self, site: u64, tenant: u32) -> u64 {
        self.sent.get(&(site, tenant)).copied().unwrap_or(0)
    }
}

fn run() -> (World, usize) {
    let mut world = World::new();
    let mut random = 42_u64;
    let mut draw = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 33
    };
    let mut wasted = 0;
    let steps = HOUR.as_millis() as u64 / 50;
    for step in 0..steps {
        world.run_until(START + Duration::from_millis(step * 50));
        if step % 200 == 0 {
            wasted += world.idle_lanes();
        }
        // Floods come in waves of all tenants; the other sites get a trickle from time to time.
        if step % 1000 == 0 {
            for flooded in 0..FLOODED * 1600 {
                let domain = flooded % FLOODED + SITES * (draw() % (DOMAINS / SITES));
                let tenant = (flooded / FLOODED % u64::from(TENANTS)) as u32;
                world.arrive(domain, tenant, draw());
            }
        }
        let site = FLOODED + draw() % (SITES - FLOODED);
        let domain = site + SITES * (draw() % (DOMAINS / SITES));
        world.arrive(domain, draw() as u32 % CURBED, draw());
    }
    world.run_until(START + HOUR);
    (world, wasted)
}

/// That no limit is exceeded is asserted at each message, by a judge who knows nothing of ours.
#[test]
fn in_an_hour_no_limit_is_exceeded_no_permit_wasted_and_tenants_share_fairly() {
    let (world, wasted) = run();
    assert_eq!(wasted, 0, "lanes had work, permits and no turn");
    let hour = HOUR.as_secs();
    for site in 0..FLOODED {
        let limit = &world.lanes[(site * SOURCES) as usize].limits.limits()[0];
        assert_eq!(limit.id, LimitId(site));
        let all = (2 + site % 7) * hour;
        let count = world.judges[&limit.id].count;
        assert!(count * 1000 >= all * 999, "site {site}: {count} of {all}");
        let curbed = world.sent(site, CURBED);
        let fair = (count - curbed) as f64 / 5.0;
        for tenant in 0..CURBED {
            let share = world.sent(site, tenant) as f64 / f64::from(weight(tenant));
            let off = (share - fair).abs() / fair;
            assert!(
                off < 0.05,
                "site {site}, tenant {tenant}: {share} of {fair}"
            );
        }
    }
    let curbed = world.judges[&world.curb.id].count;
    assert!(curbed * 100 >= 5 * hour * 99, "the curbed tenant: {curbed}");
    for site in FLOODED..SITES {
        let lanes = world.lanes.iter().filter(|lane| lane.site == site);
        let left: u32 = lanes.map(|lane| lane.queued.iter().sum::<u32>()).sum();
        assert!(left <= 20, "site {site} is not flooded: {left}");
    }
    let sent: u64 = world.sent.values().sum();
    let per_message = world.refusals as f64 / sent as f64;
    assert!(
        per_message < 1.6,
        "{per_message} refusals for each of {sent}"
    );
}
