//! An hour of traffic on one clock: 1,000 domains at 50 sites, 20 sources in a pool that 4 shards
//! choose from, while providers take offence at some of them.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::tests::{TUESDAY, pool, reply, tell};
use super::*;
use crate::words::{Moment, SiteName, Stage};

const DOMAINS: u64 = 1000;
const SITES: u64 = 50;
const SOURCES: u32 = 20;
const SHARDS: u64 = 4;
const SECONDS: u64 = 3600;
const PER_SECOND: u64 = 150;
/// Of each site this many a minute are taken from a source.
const LIMIT: u64 = 40;
/// In warm-up at all sites, which are one provider's.
const YOUNG: u32 = 19;
const YOUNG_CAP: u32 = 500;

/// What limits and warm-up say.
struct Rules {
    now: Moment,
    site: u64,
    used: BTreeMap<(u64, u32, u64), u64>,
    warmup: Warmup,
    young: u32,
}

impl Rules {
    fn minute(&self) -> u64 {
        self.now.as_secs() / 60
    }

    fn has_room(&self, source: u32) -> bool {
        let key = (self.site, source, self.minute());
        let is_full = source == YOUNG && self.young >= YOUNG_CAP;
        self.used.get(&key).is_none_or(|used| *used < LIMIT) && !is_full
    }
}

impl Advice for Rules {
    fn score(&mut self, _source: SourceId) -> Score {
        Score::SPOTLESS
    }

    fn take(&mut self, SourceId(source): SourceId) -> Result<(), Moment> {
        if !self.has_room(source) && source != YOUNG {
            return Err(Moment::from_secs((self.minute() + 1) * 60));
        }
        if source == YOUNG {
            self.warmup.admit(self.now)?;
            self.young += 1;
        }
        *self
            .used
            .entry((self.site, source, self.minute()))
            .or_default() += 1;
        Ok(())
    }
}

fn weight(source: u32) -> u32 {
    1 + source % 3
}

/// Sites below 10 block source 3 from the 10th to the 20th minute; site 12 calls everything spam.
fn is_blocked(site: u64, source: u32, now: Moment) -> bool {
    let minute = now.since(TUESDAY).as_secs() / 60;
    site < 10 && source == 3 && (10..20).contains(&minute)
}

#[derive(Default)]
struct Seen {
    sent: BTreeMap<(u64, u32), u64>,
    blocked: u64,
    after: BTreeMap<(u64, u32), u64>,
}

fn run() -> (Seen, Rules) {
    let weights: Vec<_> = (0..SOURCES).map(weight).collect();
    let new = |shard| pool(&weights, Selection::Weighted, shard as u16);
    let mut pools: Vec<_> = (0..SHARDS).map(new).collect();
    let names: Vec<_> = (0..SITES)
        .map(|n| SiteName::new(&format!("mx{n}")))
        .collect();
    let ladder = Arc::new(Ladder::new(&[YOUNG_CAP, 1000]).unwrap());
    let mut rules = Rules {
        now: TUESDAY,
        site: 0,
        used: BTreeMap::new(),
        warmup: Warmup::new("s19".into(), "all".into(), ladder),
        young: 0,
    };
    let mut seen = Seen::default();
    let mut random = 7_u64;
    for n in 0..SECONDS * PER_SECOND {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let domain = (random >> 33) % DOMAINS;
        let shard = (random >> 53) % SHARDS;
        rules.now = TUESDAY + Duration::from_micros(n * 1_000_000 / PER_SECOND);
        rules.site = domain % SITES;
        let site = &names[rules.site as usize];
        let query = Query {
            site,
            key: domain,
            now: rules.now,
        };
        let pool = &mut pools[shard as usize];
        let Choice::Source {
            source: SourceId(source),
            ..
        } = pool.select(&query, &mut rules)
        else {
            let well = |(m, s): (&Member, Standing)| (s == Standing::Well).then_some(m.source.0);
            let free = pool
                .standings(site)
                .filter_map(well)
                .find(|s| rules.has_room(*s));
            panic!("nobody, but source {free:?} had room");
        };
        *seen.sent.entry((rules.site, source)).or_default() += 1;
        if rules.now >= TUESDAY + Duration::from_secs(2700) {
            *seen.after.entry((rules.site, source)).or_default() += 1;
        }
        let outcome = if is_blocked(rules.site, source, rules.now) {
            seen.blocked += 1;
            reply(Stage::Mail, 550, "blocked using zen.spamhaus.org")
        } else if rules.site == 12 {
            reply(Stage::Dot, 550, "message content looks like spam")
        } else {
            reply(Stage::Dot, 250, "ok")
        };
        tell(pool, site, source, &outcome, rules.now);
        while let Some(state) = pools.iter_mut().find_map(Pool::poll_told) {
            for pool in &mut pools {
                pool.handle_told(&state, rules.now);
            }
        }
    }
    (seen, rules)
}

#[test]
fn in_an_hour_shares_hold_the_offended_are_spared_and_the_young_stay_small() {
    let (seen, rules) = run();
    assert!(rules.used.values().all(|used| *used <= LIMIT));
    assert_eq!(rules.young, YOUNG_CAP, "all of the day's cap and no more");
    // Ten sites, a first offence and a probe or two each; shards learn of it at once.
    assert!((10..=40).contains(&seen.blocked), "{}", seen.blocked);
    let total: u32 = (0..SOURCES).filter(|s| *s != YOUNG).map(weight).sum();
    for site in 0..SITES {
        let sent = |map: &BTreeMap<(u64, u32), u64>, source| {
            map.get(&(site, source)).copied().unwrap_or(0) as f64
        };
        let of = |map: &BTreeMap<(u64, u32), u64>, source| {
            let all: f64 = (0..YOUNG).map(|source| sent(map, source)).sum();
            sent(map, source) / (all * f64::from(weight(source)) / f64::from(total))
        };
        for source in 0..YOUNG {
            if site >= 10 {
                let share = of(&seen.sent, source);
                assert!(
                    (0.95..1.05).contains(&share),
                    "site {site} source {source}: {share}"
                );
            }
        }
        let back = of(&seen.after, 3);
        assert!(
            (0.9..1.1).contains(&back),
            "site {site}: it returned: {back}"
        );
    }
    let spared = (0..10).map(|site| seen.sent[&(site, 3)]).sum::<u64>();
    let usual = (20..30).map(|site| seen.sent[&(site, 3)]).sum::<u64>();
    assert!(spared * 10 < usual * 8, "{spared} of {usual}");
}
