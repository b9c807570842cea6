//! Promises of pools, reputation and warm-up.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::proxy::haproxy::Version;
use super::*;
use crate::words::{Cause, Moment, Outcome, Reply, ShardId, SiteName, Stage};

/// Tuesday, 24 November 2026, midnight UTC.
pub(super) const TUESDAY: Moment = Moment::from_secs(1_795_478_400);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) struct Free;

impl Advice for Free {
    fn score(&mut self, _source: SourceId) -> Score {
        Score::SPOTLESS
    }

    fn take(&mut self, _source: SourceId) -> Result<(), Moment> {
        Ok(())
    }
}

pub(super) fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(id, weight): (u32, &u32)| Member {
        source: SourceId(id),
        name: format!("s{id}").into(),
        weight: *weight,
        off_hours: None,
    };
    (0..).zip(weights).map(member).collect()
}

pub(super) fn pool(weights: &[u32], selection: Selection, shard: u16) -> Pool {
    let rules = HealthRules::default();
    Pool::new(members(weights), None, selection, rules, ShardId(shard)).unwrap()
}

fn site(name: &str) -> SiteName {
    SiteName::new(name)
}

fn choose(pool: &mut Pool, site: &SiteName, now: Moment) -> Option<u32> {
    let query = Query { site, key: 0, now };
    match pool.select(&query, &mut Free) {
        Choice::Source { source, .. } => Some(source.0),
        Choice::Nobody { .. } => None,
    }
}

fn shares(pool: &mut Pool, site: &SiteName, now: Moment, count: usize) -> BTreeMap<u32, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(choose(pool, site, now).unwrap()).or_default() += 1;
    }
    shares
}

pub(super) fn reply(stage: Stage, code: u16, text: &str) -> Outcome {
    let reply = Reply::new(code, None, text);
    match code {
        200..400 => Outcome::Delivered(reply),
        400..500 => Outcome::Deferred(Cause::Reply { stage, reply }),
        _ => Outcome::Refused(Cause::Reply { stage, reply }),
    }
}

pub(super) fn tell(
    pool: &mut Pool,
    site: &SiteName,
    source: u32,
    outcome: &Outcome,
    now: Moment,
) -> Option<SteppedAside> {
    let blame = Blame::of(outcome);
    pool.handle_outcome(site, SourceId(source), outcome, blame, 0, now)
}

fn delivered() -> Outcome {
    reply(Stage::Dot, 250, "ok")
}

fn blocked() -> Outcome {
    reply(
        Stage::Mail,
        421,
        "very low reputation of the sending ip address",
    )
}

fn unreachable() -> Outcome {
    let detail = "connection refused".into();
    Outcome::Deferred(Cause::Connect { detail })
}

#[test]
fn sources_have_their_shares_over_all_shards_together() {
    let site = site("a");
    let mut first = Vec::new();
    let mut total: BTreeMap<u32, usize> = BTreeMap::new();
    for shard in 0..4 {
        let mut pool = pool(&[3, 2, 1], Selection::Weighted, shard);
        first.extend(choose(&mut pool, &site, TUESDAY));
        for (source, count) in shares(&mut pool, &site, TUESDAY, 599) {
            *total.entry(source).or_default() += count;
        }
    }
    first.sort_unstable();
    first.dedup();
    assert!(first.len() > 1, "not all begin with the same");
    for (source, share) in [(0, 1200), (1, 800), (2, 400)] {
        let count = total[&source];
        assert!(count.abs_diff(share) <= 8, "{source}: {count} of {share}");
    }
}

#[test]
fn a_refused_source_steps_aside_there_and_only_there() {
    let (here, there) = (site("here"), site("there"));
    let mut pool = pool(&[1, 1], Selection::Weighted, 0);
    let aside = tell(&mut pool, &here, 0, &blocked(), TUESDAY).unwrap();
    assert_eq!(aside.fault, Fault::Reputation);
    assert_eq!(shares(&mut pool, &here, TUESDAY, 10), [(1, 10)].into());
    assert_eq!(
        shares(&mut pool, &there, TUESDAY, 10),
        [(0, 5), (1, 5)].into()
    );
}

#[test]
fn a_verdict_on_content_or_domain_rotates_nothing() {
    let site = site("a");
    let mut pool = pool(&[1, 1], Selection::Weighted, 0);
    let verdicts = [
        "message content rejected as spam",
        "not accepted due to domain's DMARC policy",
        "very low reputation of the sending domain",
    ];
    for text in verdicts {
        for _ in 0..100 {
            let outcome = reply(Stage::Dot, 550, text);
            assert_eq!(tell(&mut pool, &site, 0, &outcome, TUESDAY), None, "{text}");
        }
    }
    assert_eq!(
        shares(&mut pool, &site, TUESDAY, 10),
        [(0, 5), (1, 5)].into()
    );
    assert!(pool.poll_told().is_none());
}

#[test]
fn a_source_aside_is_tried_with_one_message_and_returns_if_it_is_taken() {
    let site = site("a");
    let mut pool = pool(&[1, 1], Selection::Weighted, 0);
    let aside = tell(&mut pool, &site, 0, &blocked(), TUESDAY).unwrap();
    assert_eq!(aside.until, TUESDAY + 15 * MINUTE);
    let late = tell(&mut pool, &site, 0, &delivered(), TUESDAY + MINUTE);
    assert_eq!(late, None);
    assert_eq!(
        shares(&mut pool, &site, TUESDAY + MINUTE, 10),
        [(1, 10)].into()
    );
    let probing = shares(&mut pool, &site, aside.until, 10);
    assert_eq!(probing, [(0, 1), (1, 9)].into(), "one message");
    tell(&mut pool, &site, 0, &delivered(), aside.until);
    assert_eq!(
        shares(&mut pool, &site, aside.until, 10),
        [(0, 5), (1, 5)].into()
    );
}

#[test]
fn a_failed_probe_doubles_the_time_aside_up_to_its_bound() {
    let site = site("a");
    let mut pool = pool(&[1], Selection::Weighted, 0);
    let mut now = TUESDAY;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let aside = tell(&mut pool, &site, 0, &blocked(), now).unwrap();
        waits.push(aside.until.since(now).as_secs() / 60);
        assert_eq!(choose(&mut pool, &site, aside.until - MINUTE), None);
        now = aside.until;
        assert_eq!(choose(&mut pool, &site, now), Some(0));
    }
    assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960, 1440, 1440]);
}

#[test]
fn a_lost_probe_is_followed_by_another_and_an_unclear_one_proves_nothing() {
    let site = site("a");
    let mut pool = pool(&[1], Selection::Weighted, 0);
    let aside = tell(&mut pool, &site, 0, &blocked(), TUESDAY).unwrap();
    assert_eq!(choose(&mut pool, &site, aside.until), Some(0));
    assert_eq!(choose(&mut pool, &site, aside.until + 4 * MINUTE), None);
    let second = aside.until + 5 * MINUTE;
    assert_eq!(choose(&mut pool, &site, second), Some(0));
    tell(
        &mut pool,
        &site,
        0,
        &reply(Stage::Rcpt, 550, "no such user"),
        second,
    );
    assert_eq!(choose(&mut pool, &site, second), None);
    assert_eq!(choose(&mut pool, &site, second + 5 * MINUTE), Some(0));
}

#[test]
fn connections_have_to_fail_in_a_row_and_cost_less() {
    let site = site("a");
    let mut pool = pool(&[1, 1], Selection::Weighted, 0);
    for _ in 0..10 {
        assert_eq!(tell(&mut pool, &site, 0, &unreachable(), TUESDAY), None);
        assert_eq!(tell(&mut pool, &site, 0, &unreachable(), TUESDAY), None);
        tell(
            &mut pool,
            &site,
            0,
            &reply(Stage::Rcpt, 450, "later"),
            TUESDAY,
        );
    }
    for _ in 0..2 {
        tell(&mut pool, &site, 0, &unreachable(), TUESDAY);
    }
    let aside = tell(&mut pool, &site, 0, &unreachable(), TUESDAY).unwrap();
    assert_eq!(
        (aside.fault, aside.until),
        (Fault::Connection, TUESDAY + MINUTE)
    );
}

#[test]
fn when_all_are_aside_it_says_until_when() {
    let site = site("a");
    let mut pool = pool(&[1, 1], Selection::Weighted, 0);
    tell(&mut pool, &site, 0, &blocked(), TUESDAY);
    tell(&mut pool, &site, 1, &blocked(), TUESDAY + MINUTE);
    let now = TUESDAY + 2 * MINUTE;
    let query = Query {
        site: &site,
        key: 0,
        now,
    };
    let until = TUESDAY + 15 * MINUTE;
    assert_eq!(pool.select(&query, &mut Free), Choice::Nobody { until });
}

#[test]
fn shards_and_the_next_start_know_who_stepped_aside() {
    let site = site("a");
    let mut here = pool(&[1, 1], Selection::Weighted, 0);
    let mut there = pool(&[1, 1], Selection::Weighted, 1);
    tell(&mut here, &site, 0, &blocked(), TUESDAY);
    let told = here.poll_told().unwrap();
    let text = serde_json::to_string(&told).unwrap();
    there.handle_told(&serde_json::from_str(&text).unwrap(), TUESDAY);
    assert_eq!(shares(&mut there, &site, TUESDAY, 10), [(1, 10)].into());
    let mut restarted = pool(&[1, 1], Selection::Weighted, 0);
    for state in here.snapshot() {
        restarted.handle_told(&state, TUESDAY + MINUTE);
    }
    let after = TUESDAY + MINUTE;
    assert_eq!(shares(&mut restarted, &site, after, 10), [(1, 10)].into());
    let at = TUESDAY + 15 * MINUTE;
    assert_eq!(shares(&mut there, &site, at, 10)[&0], 1);
    here.handle_told(&there.poll_told().unwrap(), at);
    assert_eq!(
        shares(&mut here, &site, at, 10),
        [(1, 10)].into(),
        "one probe"
    );
}

#[test]
fn another_set_of_members_keeps_the_health_of_those_that_stay() {
    let site = site("a");
    let mut pool = pool(&[1, 1, 1], Selection::Weighted, 0);
    tell(&mut pool, &site, 1, &blocked(), TUESDAY);
    let kept = members(&[1, 1, 1]).split_off(1);
    pool.change(kept, None, Selection::Weighted).unwrap();
    assert_eq!(shares(&mut pool, &site, TUESDAY, 4), [(2, 4)].into());
    let none = pool.change(Vec::new(), None, Selection::Weighted);
    assert_eq!(none, Err(PoolError::Empty));
    let twice = [members(&[1]), members(&[1])].concat();
    assert_eq!(
        pool.change(twice, None, Selection::Weighted),
        Err(PoolError::Twice)
    );
}

#[test]
fn weights_differ_between_business_and_off_hours() {
    let site = site("a");
    let mut both = members(&[3, 1]);
    both[0].off_hours = Some(0);
    let hours = Hours {
        days: Days::WORKING,
        from: 9 * 60,
        to: 17 * 60,
        offset: 0,
    };
    let rules = HealthRules::default();
    let mut pool = Pool::new(both, Some(hours), Selection::Weighted, rules, ShardId(0)).unwrap();
    let noon = TUESDAY + 12 * 60 * MINUTE;
    assert_eq!(shares(&mut pool, &site, noon, 8), [(0, 6), (1, 2)].into());
    assert_eq!(shares(&mut pool, &site, TUESDAY, 8), [(1, 8)].into());
}

#[test]
fn a_key_sticks_to_its_source_and_moves_only_if_that_one_goes() {
    let site = site("a");
    let mut pool = pool(&[1, 2, 1], Selection::Sticky, 0);
    let place = |pool: &mut Pool, key| {
        let query = Query {
            site: &site,
            key,
            now: TUESDAY,
        };
        match pool.select(&query, &mut Free) {
            Choice::Source { source, .. } => source.0,
            Choice::Nobody { .. } => panic!("nobody"),
        }
    };
    let before: Vec<_> = (0..4000).map(|key| place(&mut pool, key)).collect();
    let again: Vec<_> = (0..4000).map(|key| place(&mut pool, key)).collect();
    assert_eq!(before, again);
    let count = before.iter().filter(|source| **source == 1).count();
    assert!((1850..2150).contains(&count), "by weight: {count}");
    tell(&mut pool, &site, 2, &blocked(), TUESDAY);
    for (key, before) in (0..).zip(before) {
        let after = place(&mut pool, key);
        assert!(if before == 2 {
            after != 2
        } else {
            after == before
        });
    }
}

struct Scored<'a>(&'a Reputation, Moment);

impl Advice for Scored<'_> {
    fn score(&mut self, source: SourceId) -> Score {
        self.0.score(&format!("s{}", source.0), "big", self.1)
    }

    fn take(&mut self, _source: SourceId) -> Result<(), Moment> {
        Ok(())
    }
}

#[test]
fn a_source_in_disrepute_is_used_less_until_that_is_forgotten() {
    let big: Arc<str> = "big".into();
    let mut reputation = Reputation::new(ReputationRules::default());
    for n in 0..1000 {
        for source in ["s0".into(), "s1".into()] {
            reputation.handle(&source, &big, Event::Delivered, TUESDAY);
            if *source == *"s1" && n % 10 == 0 {
                reputation.handle(&source, &big, Event::Blocked, TUESDAY);
            }
        }
    }
    let score = |r: &Reputation, name, now| r.score(name, "big", now).permille();
    assert_eq!(score(&reputation, "s0", TUESDAY), 1000);
    assert_eq!(
        score(&reputation, "s1", TUESDAY) / 10,
        35,
        "a tenth blocked"
    );
    assert_eq!(reputation.score("s1", "small", TUESDAY), Score::SPOTLESS);
    let mut pool = pool(&[1, 1], Selection::Reputation, 0);
    let query = Query {
        site: &site("mx.big"),
        key: 0,
        now: TUESDAY,
    };
    let mut used = [0; 2];
    for _ in 0..1000 {
        match pool.select(&query, &mut Scored(&reputation, TUESDAY)) {
            Choice::Source { source, .. } => used[source.0 as usize] += 1,
            Choice::Nobody { .. } => panic!("nobody"),
        }
    }
    assert!((250..280).contains(&used[1]), "{used:?}");
    assert!(score(&reputation, "s1", TUESDAY + 14 * DAY) > 990);
    reputation.sweep(TUESDAY + 60 * DAY);
    assert!(reputation.snapshot().is_empty());
}

#[test]
fn complaints_weigh_as_providers_weigh_them() {
    let (source, big): (Arc<str>, Arc<str>) = ("s".into(), "big".into());
    let mut reputation = Reputation::new(ReputationRules::default());
    for _ in 0..1000 {
        reputation.handle(&source, &big, Event::Delivered, TUESDAY);
    }
    for _ in 0..3 {
        reputation.handle(&source, &big, Event::Complained, TUESDAY);
    }
    let score = reputation.score("s", "big", TUESDAY).permille();
    assert!((500..600).contains(&score), "three in a thousand: {score}");
}

#[test]
fn shards_add_up_what_they_saw_in_any_order() {
    let (source, big): (Arc<str>, Arc<str>) = ("s".into(), "big".into());
    let rules = ReputationRules::default();
    let mut shards = [Reputation::new(rules), Reputation::new(rules)];
    let mut alone = Reputation::new(rules);
    for n in 0..100 {
        let now = TUESDAY + n * MINUTE;
        let event = [Event::Delivered, Event::Deferred, Event::Blocked][n as usize % 3];
        shards[n as usize % 2].handle(&source, &big, event, now);
        alone.handle(&source, &big, event, now);
    }
    let end = TUESDAY + 200 * MINUTE;
    let [a, b] = &mut shards;
    let (from_a, from_b) = (a.take_news(), b.take_news());
    from_a.iter().for_each(|state| b.handle_news(state, end));
    from_b.iter().for_each(|state| a.handle_news(state, end));
    let score = alone.score("s", "big", end);
    assert_eq!(
        [a.score("s", "big", end), b.score("s", "big", end)],
        [score; 2]
    );
    assert!(score < Score::SPOTLESS);
    assert!(a.take_news().is_empty(), "what others told is no news");
}

fn warmup(caps: &[u32]) -> Warmup {
    let ladder = Arc::new(Ladder::new(caps).unwrap());
    Warmup::new("young".into(), "big".into(), ladder)
}

fn send_day(warmup: &Warmup, now: Moment, event: Event) -> u32 {
    let sent = (0..).take_while(|_| warmup.admit(now).is_ok()).count();
    (0..sent).for_each(|_| warmup.handle(event));
    u32::try_from(sent).unwrap()
}

#[test]
fn a_good_day_leads_up_a_bad_one_does_not_and_a_dreadful_one_leads_down() {
    let warmup = warmup(&[10, 20, 40]);
    let mut day = TUESDAY;
    let events = [
        (Event::Delivered, 10),
        (Event::Deferred, 20),
        (Event::Blocked, 20),
        (Event::Delivered, 10),
        (Event::Delivered, 20),
        (Event::Delivered, 40),
    ];
    for (event, sent) in events {
        assert!(!warmup.is_warm());
        assert_eq!(send_day(&warmup, day, event), sent);
        assert_eq!(warmup.admit(day), Err(day + DAY), "full until the next day");
        day = day + DAY;
    }
    assert_eq!(warmup.admit(day), Ok(()));
    assert!(warmup.is_warm());
}

#[test]
fn days_without_mail_do_not_count() {
    let warmup = warmup(&[10, 20]);
    assert_eq!(send_day(&warmup, TUESDAY, Event::Delivered), 10);
    assert_eq!(send_day(&warmup, TUESDAY + 5 * DAY, Event::Deferred), 20);
    let later = TUESDAY + 9 * DAY;
    warmup.admit(later).unwrap();
    warmup.give(later);
    let next = later + DAY;
    assert_eq!(
        send_day(&warmup, next, Event::Delivered),
        20,
        "nothing was sent"
    );
}

#[test]
fn a_warm_up_goes_on_after_a_restart() {
    let ladder = Arc::new(Ladder::new(&[10, 20]).unwrap());
    let before = warmup(&[10, 20]);
    for _ in 0..7 {
        before.admit(TUESDAY).unwrap();
        before.handle(Event::Delivered);
    }
    let text = serde_json::to_string(&before.snapshot()).unwrap();
    let state: WarmupState = serde_json::from_str(&text).unwrap();
    let after = Warmup::restore(ladder, &state);
    assert_eq!(send_day(&after, TUESDAY, Event::Delivered), 3);
    assert_eq!(send_day(&after, TUESDAY + DAY, Event::Delivered), 20);
    assert_eq!(after.snapshot().rung, 1);
}

#[test]
fn a_ladder_is_checked() {
    assert_eq!(Ladder::new(&[]), Err(LadderError::Length));
    assert_eq!(Ladder::new(&[0]), Err(LadderError::Zero));
    assert_eq!(Ladder::new(&[2, 1]), Err(LadderError::Falls));
    assert!(Ladder::default().days() > 14);
}

#[test]
fn a_source_reaches_its_own_family() {
    let (four, six) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let source = Source::new("s", Some(four));
    assert!(source.reaches(&four) && !source.reaches(&six));
    assert_eq!((source.own(), source.seen()), (Some(four), Some(four)));
    let server = "192.0.2.9:1080".parse().unwrap();
    let mut proxied = source;
    proxied.proxy = Some(Proxy::HaProxy {
        version: Version::V1,
        server,
        source: six,
    });
    assert!(!proxied.reaches(&four) && proxied.reaches(&six));
    assert_eq!((proxied.own(), proxied.seen()), (None, Some(six)));
    let login = None;
    proxied.proxy = Some(Proxy::Socks5 { server, login });
    assert!(proxied.reaches(&four) && proxied.reaches(&six));
    assert_eq!((proxied.own(), proxied.seen()), (None, None));
}

#[test]
fn no_crash_gives_a_day_more_than_its_number() {
    let ladder = || Arc::new(Ladder::new(&[12, 40, 100, 1000]).unwrap());
    let young = || Warmup::new("a".into(), "p".into(), ladder());
    let mut random = 0x9E37_79B9_u64;
    let mut draw = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    for _ in 0..200 {
        let (mut warmup, mut file) = (young().kept(None), None::<WarmupState>);
        let (mut sent_of_day, mut cap_of_day) = (0, 0);
        let (mut day, mut crashes) = (20_000_u64, 0);
        for _ in 0..400 {
            let now = Moment::from_secs(day * 86_400 + 1000);
            match draw(40) {
                0..=24 if warmup.admit(now).is_ok() => {
                    sent_of_day += 1;
                    warmup.handle(Event::Delivered);
                }
                25..=29 if warmup.wants_writing() => {
                    let state = warmup.snapshot_ahead();
                    // The crash may come before it is there, and after.
                    if draw(4) > 0 {
                        file = Some(state.clone());
                        warmup.handle_written(&state);
                    }
                }
                30 => {
                    crashes += 1;
                    let before = file.as_ref();
                    let restored = before.map_or_else(young, |f| Warmup::restore(ladder(), f));
                    warmup = restored.kept(Some(now));
                }
                31 => {
                    day += 1;
                    (sent_of_day, cap_of_day) = (0, 0);
                }
                _ => {}
            }
            let now = Moment::from_secs(day * 86_400 + 1000);
            // What a day's outcomes were worth may be forgotten, and the rung they led to.
            cap_of_day = cap_of_day.max(warmup.today(now).cap.unwrap_or(u32::MAX));
            let what = format!("{sent_of_day} of {cap_of_day} after {crashes}");
            assert!(sent_of_day <= cap_of_day, "{what}");
        }
    }
}

#[test]
fn what_is_written_ahead_holds_up_nobody_who_writes_in_time() {
    let ladder = Arc::new(Ladder::new(&[1000]).unwrap());
    let warmup = Warmup::new("a".into(), "p".into(), ladder).kept(None);
    let now = Moment::from_secs(20_000 * 86_400);
    let mut writes = 0;
    for sent in 0..1000 {
        warmup
            .admit(now)
            .unwrap_or_else(|_| panic!("{sent} after {writes} writes"));
        if warmup.wants_writing() {
            warmup.handle_written(&warmup.snapshot_ahead());
            writes += 1;
        }
    }
    assert!((2..=50).contains(&writes), "{writes}");
    warmup.admit(now).unwrap_err();
    // An orderly end loses nothing; one without a word, what was written ahead.
    let state = warmup.snapshot();
    assert_eq!((state.sent, warmup.snapshot_ahead().sent), (1000, 1000));
}

#[test]
fn who_may_not_write_sends_no_more_than_is_assumed_after_a_crash() {
    let ladder = || Arc::new(Ladder::new(&[100]).unwrap());
    let warmup = Warmup::new("a".into(), "p".into(), ladder()).kept(None);
    let now = Moment::from_secs(20_000 * 86_400);
    let sent = (0..100).filter(|_| warmup.admit(now).is_ok()).count();
    assert_eq!(sent, 10);
    assert!(warmup.awaits_writing(now));
    let later = Warmup::new("a".into(), "p".into(), ladder()).kept(Some(now));
    assert_eq!(later.today(now).sent, 10);
    later.admit(now).unwrap_err();
    later.handle_written(&later.snapshot_ahead());
    later.admit(now).unwrap();
    // A day on which nothing was sent may have been begun, too.
    let next = Moment::from_secs(20_001 * 86_400);
    let restored = Warmup::restore(ladder(), &warmup.snapshot_ahead()).kept(Some(next));
    assert_eq!(restored.today(next).sent, 10);
    let after_an_end = Warmup::restore(ladder(), &warmup.snapshot_ahead()).kept(None);
    assert_eq!(after_an_end.today(next).sent, 0);
}
