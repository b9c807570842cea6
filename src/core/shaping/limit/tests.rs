//! Promises of rates, sets and parking.

use core::time::Duration;
use std::sync::Arc;

use super::*;
use crate::shaping::{LimitKey, Limited, Scope};
use crate::words::{Moment, ShardId};

pub(super) const START: Moment = Moment::from_secs(1_795_512_600);

pub(super) fn rate(count: u64, secs: u64, burst: u64) -> Pace {
    Pace::new(count, Duration::from_secs(secs), burst).unwrap()
}

fn name(scope: Scope, of: &str) -> LimitKey {
    LimitKey {
        limited: Limited::Messages,
        scope,
        name: of.into(),
    }
}

fn limit_of(id: u64, meter: Meter) -> Arc<Limit> {
    let id = LimitId(id);
    let name = name(Scope::Site, &id.0.to_string());
    Arc::new(Limit { id, name, meter })
}

pub(super) fn rate_limit(id: u64, rate: Pace) -> Arc<Limit> {
    limit_of(id, Meter::Rate(Gcra::new(rate)))
}

fn gcra(limit: &Limit) -> &Gcra {
    match &limit.meter {
        Meter::Rate(gcra) => gcra,
        Meter::Connections(_) | Meter::Leased(_) => panic!("not a rate"),
    }
}

fn take_all(gcra: &Gcra, now: Moment) -> u64 {
    (0..).take_while(|_| gcra.take(1, now).is_ok()).count() as u64
}

#[test]
fn a_burst_goes_at_once_and_then_one_each_interval() {
    let gcra = Gcra::new(rate(10, 1, 3));
    assert_eq!(take_all(&gcra, START), 3);
    assert_eq!(gcra.take(1, START), Err(START + Duration::from_millis(100)));
    let early = START + Duration::from_micros(99_999);
    assert!(gcra.take(1, early).is_err());
    assert_eq!(take_all(&gcra, START + Duration::from_millis(100)), 1);
    assert_eq!(take_all(&gcra, START + Duration::from_secs(9)), 3);
}

#[test]
fn several_permits_are_taken_together_or_not_at_all() {
    let gcra = Gcra::new(rate(10, 1, 5));
    assert_eq!(gcra.take(4, START), Ok(()));
    let due = START + Duration::from_millis(200);
    assert_eq!(gcra.take(3, START), Err(due));
    assert_eq!(gcra.when(3, START), due);
    assert_eq!(gcra.when(1, START), START);
    assert_eq!(
        gcra.take(1, START),
        Ok(()),
        "the refused three took nothing"
    );
    assert_eq!(gcra.take(6, START), Err(Moment::NEVER));
}

#[test]
fn no_rate_drifts_from_one_a_day_to_a_million_a_second() {
    let cases = [
        (1, 86_400, 86_400 * 5000),
        (7, 60, 86_400),
        (3, 1, 86_400),
        (999_983, 86_400, 86_400),
        (700_001, 1, 1),
        (1_000_000, 1, 1),
    ];
    for (count, secs, span) in cases {
        let gcra = Gcra::new(rate(count, secs, 1));
        let end = START + Duration::from_secs(span);
        let (mut now, mut taken) = (START, 0);
        while now <= end {
            match gcra.take(1, now) {
                Ok(()) => taken += 1,
                Err(due) => {
                    assert!(due > now, "a refusal names a later moment");
                    now = due;
                }
            }
        }
        assert_eq!(taken, 1 + count * span / secs, "{}", gcra.rate());
    }
}

#[test]
fn a_changed_rate_keeps_the_consumed_budget() {
    let gcra = Gcra::new(rate(100, 3600, 100));
    gcra.take(60, START).unwrap();
    gcra.change(rate(200, 3600, 200), START);
    assert_eq!(gcra.consumed(START), 60);
    assert_eq!(take_all(&gcra, START), 140);
    gcra.change(rate(10, 3600, 10), START);
    assert_eq!(gcra.consumed(START), 10, "no deeper than an empty burst");
    let due = START + Duration::from_secs(360);
    assert_eq!(gcra.when(1, START), due);
    gcra.change(rate(10, 3600, 10), due);
    assert_eq!(
        take_all(&gcra, due),
        1,
        "the same rate again changes nothing"
    );
}

#[test]
fn many_changes_do_not_refill() {
    let gcra = Gcra::new(rate(1000, 1, 100));
    assert_eq!(take_all(&gcra, START), 100);
    for round in 0..100 {
        gcra.change(rate(1000 + round % 3, 1, 100), START);
        assert_eq!(take_all(&gcra, START), 0, "round {round}");
    }
}

#[test]
fn what_is_given_back_can_be_taken_once() {
    let gcra = Gcra::new(rate(10, 1, 2));
    assert_eq!(take_all(&gcra, START), 2);
    gcra.give(1, START, START);
    assert_eq!(take_all(&gcra, START), 1);
    let later = START + Duration::from_millis(150);
    gcra.give(1, START, later);
    assert_eq!(take_all(&gcra, later), 1, "it had come back by itself");
}

#[test]
fn a_budget_outlives_a_restart_to_the_microsecond_whatever_is_reserved() {
    let before = Gcra::new(rate(50, 86_400, 50));
    before.take(40, START).unwrap();
    let interval = Duration::from_secs(1728);
    let half = START + interval / 2;
    let reserved = before.reserve(ShardId(0), half);
    assert_eq!(before.rests_at(), START + interval * 40, "one is not used");
    assert_eq!(before.consumed(half), 40);
    let after = Gcra::resting_at(before.rate(), before.rests_at(), half);
    assert_eq!(take_all(&after, half), 10);
    assert_eq!(
        after.when(1, half),
        START + interval,
        "not a moment is lost"
    );
    before.use_up(&reserved, half);
    assert_eq!(before.rests_at(), START + interval * 41);
    let far = START + interval * 5000;
    let sane = Gcra::resting_at(before.rate(), far, half);
    assert_eq!(
        sane.when(1, half),
        half + interval,
        "no more than all is gone"
    );
}

#[test]
fn a_registry_remembers_slow_rates_over_a_restart_and_a_second_one() {
    let minute = Duration::from_secs(60);
    let of = |text: &str| name(Scope::Site, text);
    let registry = Registry::default();
    let daily = registry.rate(&of("daily"), rate(10, 86_400, 10), START);
    let quick = registry.rate(&of("quick"), rate(10, 1, 10), START);
    for _ in 0..4 {
        daily.take(START).unwrap();
        quick.take(START).unwrap();
    }
    let told = registry.consumed(minute, START);
    assert_eq!(
        told.len(),
        1,
        "a second is over before anybody starts: {told:?}"
    );
    let unasked = Registry::default();
    unasked.remember(told.clone());
    assert_eq!(unasked.consumed(minute, START), told, "nobody asked for it");
    let again = Registry::default();
    again.remember(told.clone());
    let wider = again.rate(&of("daily"), rate(20, 86_400, 20), START);
    assert_eq!(take_all(gcra(&wider), START), 16, "four are gone of twenty");
    assert!(unasked.consumed(minute, told[0].until).is_empty());
}

#[test]
fn a_permit_used_late_keeps_the_next_at_its_distance_and_moves_no_date_of_others() {
    let gcra = Gcra::new(rate(1, 1, 1));
    let after = |secs| START + Duration::from_secs(secs);
    gcra.take(1, START).unwrap();
    let first = gcra.reserve(ShardId(0), START);
    assert_eq!(first.due, after(1));
    gcra.use_up(&first, after(4));
    assert_eq!(gcra.when(1, after(4)), after(5));
    let second = gcra.reserve(ShardId(0), after(4));
    let third = gcra.reserve(ShardId(1), after(4));
    assert_eq!([second.due, third.due], [5, 6].map(after));
    gcra.use_up(&second, after(5) + Duration::from_millis(500));
    assert_eq!(gcra.when(1, after(5)), after(7), "the third keeps its date");
}

#[test]
fn reservations_stand_in_line_and_a_hole_in_it_closes() {
    let gcra = Gcra::new(rate(10, 1, 1));
    let [a, b, c] = [0, 1, 2].map(ShardId);
    let (first, second) = (gcra.reserve(a, START), gcra.reserve(b, START));
    let third = gcra.reserve(c, START);
    let after = |n: u64| START + Duration::from_millis(100 * n);
    assert_eq!([first.due, second.due, third.due], [0, 1, 2].map(after));
    assert_eq!(gcra.take(1, START), Err(after(3)), "nobody jumps the line");
    let told = gcra.cancel(first);
    assert!(told.contains(b) && told.contains(c));
    let moved = gcra.take_spare(&third, c, START).unwrap();
    assert_eq!(moved.due, START);
    assert_eq!(gcra.take_spare(&second, b, START), None, "it is spare once");
    assert!(gcra.cancel(third).is_empty(), "it was the last");
    assert_eq!(gcra.when(1, START), after(2));
}

#[test]
fn a_set_takes_all_or_none_and_names_the_tightest() {
    let (site, source) = (rate_limit(1, rate(10, 1, 1)), rate_limit(2, rate(1, 1, 2)));
    let lane = rate_limit(3, rate(100, 1, 2));
    let set = Set::new([&lane, &source, &site, &site].map(Arc::clone));
    assert_eq!(set.take(None, START).map_err(|t| t.limit.id), Ok(()));
    let tight = set.take(None, START).unwrap_err();
    assert_eq!(tight.limit.id, site.id);
    assert_eq!(tight.due, Some(START + Duration::from_millis(100)));
    assert_eq!(
        gcra(&lane).consumed(START),
        1,
        "what others gave is given back"
    );
    let second = START + Duration::from_millis(100);
    set.take(None, second).unwrap();
    let tight = set.take(None, second).unwrap_err();
    assert_eq!(
        tight.limit.id, source.id,
        "both refuse, and this one longer"
    );
    assert_eq!(tight.due, Some(START + Duration::from_secs(1)));
    assert_eq!(set.tightest(second).unwrap().0.id, source.id);
}

#[test]
fn connections_are_the_tightest_and_a_failed_take_frees_their_places() {
    let rates = rate_limit(2, rate(1, 60, 1));
    let wide = limit_of(3, Meter::Connections(Connections::new(5)));
    let narrow = limit_of(4, Meter::Connections(Connections::new(1)));
    let set = Set::new([&wide, &narrow, &rates].map(Arc::clone));
    set.take(None, START).unwrap();
    let later = START + Duration::from_secs(60);
    wide.wait(ShardId(1));
    let tight = set.take(None, later).unwrap_err();
    assert_eq!((tight.limit.id, tight.due), (narrow.id, None));
    let freed: Vec<_> = tight.freed.iter().collect();
    assert_eq!(freed.len(), 1, "who waited for the place hears of it");
    assert!(freed[0].0 == wide.id && freed[0].1.contains(ShardId(1)));
    let _ = set.release();
    set.take(None, later).unwrap();
    let Meter::Connections(wide) = &wide.meter else {
        unreachable!()
    };
    assert_eq!(wide.open(), 1);
}

#[test]
fn a_thousand_lanes_on_one_limiter_cost_nothing_until_a_permit_falls_due() {
    let limit = rate_limit(1, rate(1, 10, 1));
    gcra(&limit).take(1, START).unwrap();
    let mut parking = Parking::new(ShardId(0), 10_000);
    for lane in 0..1000 {
        parking.park(&limit, lane, START).unwrap();
    }
    assert_eq!(parking.steps, 1, "one timer for all");
    assert_eq!(gcra(&limit).consumed(START), 1, "nobody has used more");
    let after = START + Duration::from_secs(20);
    assert_eq!(limit.when(START), Some(after), "one permit is dated ahead");
    let due = parking.poll_timeout().unwrap();
    assert_eq!(due, START + Duration::from_secs(10));
    for second in 0..10 {
        assert!(parking.poll(START + Duration::from_secs(second)).is_none());
    }
    assert_eq!(parking.steps, 1);
    for lane in 0..1000 {
        let now = parking.poll_timeout().unwrap();
        let woken = parking.poll(now).unwrap();
        assert_eq!(woken.waiter, lane, "in order");
        assert!(parking.poll(now).is_none(), "one for each permit");
    }
    assert!(parking.steps <= 1 + 2 * 1000, "{}", parking.steps);
    assert!(parking.is_empty() && parking.poll_timeout().is_none());
    let end = START + Duration::from_secs(10_000);
    assert_eq!(take_all(gcra(&limit), end), 0, "each second was used");
}

#[test]
fn a_late_timer_wakes_as_many_as_permits_fell_due() {
    let limit = rate_limit(1, rate(1000, 1, 50));
    assert_eq!(take_all(gcra(&limit), START), 50);
    let mut parking = Parking::new(ShardId(0), 1000);
    for lane in 0..100 {
        parking.park(&limit, lane, START).unwrap();
    }
    let late = START + Duration::from_millis(30);
    assert_eq!(core::iter::from_fn(|| parking.poll(late)).count(), 30);
}

#[test]
fn a_permit_passed_on_goes_to_the_next_in_line_and_then_back() {
    let limit = rate_limit(1, rate(1, 1, 1));
    gcra(&limit).take(1, START).unwrap();
    let mut parking = Parking::new(ShardId(0), 2);
    parking.park(&limit, "a", START).unwrap();
    parking.park(&limit, "b", START).unwrap();
    assert_eq!(parking.park(&limit, "c", START), Err(Full));
    let due = parking.poll_timeout().unwrap();
    let woken = parking.poll(due).unwrap();
    assert_eq!(woken.waiter, "a");
    parking.pass(woken.held, due);
    let woken = parking.poll(due).unwrap();
    assert_eq!(woken.waiter, "b", "at the same moment");
    assert!(parking.is_empty());
    parking.pass(woken.held, due);
    assert_eq!(take_all(gcra(&limit), due), 1, "not wasted");
}

#[test]
fn a_held_permit_is_used_once_with_the_others_of_its_set() {
    let (slow, fast) = (rate_limit(1, rate(1, 1, 1)), rate_limit(2, rate(5, 1, 1)));
    let set = Set::new([&slow, &fast].map(Arc::clone));
    set.take(None, START).unwrap();
    let tight = set.take(None, START).unwrap_err();
    let mut parking = Parking::new(ShardId(0), 9);
    parking.park(&tight.limit, (), START).unwrap();
    let due = parking.poll_timeout().unwrap();
    let woken = parking.poll(due).unwrap();
    assert!(set.take(None, due).is_err(), "the permit is in hand");
    set.take(Some(&woken.held), due).unwrap();
    assert_eq!(gcra(&slow).when(1, due), due + Duration::from_secs(1));
}

#[test]
fn waiters_of_a_slow_rate_hear_of_a_fast_one() {
    let limit = rate_limit(1, rate(1, 86_400, 1));
    gcra(&limit).take(1, START).unwrap();
    let mut parking = Parking::new(ShardId(0), 9);
    parking.park(&limit, (), START).unwrap();
    gcra(&limit).change(rate(10, 1, 1), START);
    parking.handle_changed(limit.id, START);
    let soon = START + Duration::from_millis(200);
    assert!(parking.poll(soon).is_some());
}

#[test]
fn shards_share_a_saturated_limiter_evenly() {
    let limit = rate_limit(1, rate(100, 1, 1));
    let mut shards: Vec<_> = (0..4).map(|n| Parking::new(ShardId(n), 9)).collect();
    for shard in &mut shards {
        shard.park(&limit, (), START).unwrap();
    }
    let mut woken = [0; 4];
    for micros in (0..10_000_000).step_by(100) {
        let now = START + Duration::from_micros(micros);
        // The first always looks first.
        for (shard, count) in shards.iter_mut().zip(&mut woken) {
            while let Some(turn) = shard.poll(now) {
                *count += 1;
                drop(turn);
                shard.park(&limit, (), now).unwrap();
            }
        }
    }
    assert!(
        woken.iter().all(|count| (249..=251).contains(count)),
        "{woken:?}"
    );
}

#[test]
fn who_waits_for_a_connection_is_woken_when_one_closes() {
    let limit = limit_of(1, Meter::Connections(Connections::new(1)));
    limit.take(START).unwrap();
    let mut parking = Parking::new(ShardId(5), 9);
    parking.park(&limit, "a", START).unwrap();
    parking.park(&limit, "b", START).unwrap();
    assert!(parking.poll(START).is_none() && parking.poll_timeout().is_none());
    assert!(limit.give(START, START).contains(ShardId(5)));
    parking.handle_freed(limit.id, START);
    let woken = parking.poll(START).unwrap();
    assert_eq!(woken.waiter, "a");
    assert!(limit.take(START).is_err(), "the place is in hand");
    assert!(parking.poll(START).is_none());
    parking.pass(woken.held, START);
    let woken = parking.poll(START).unwrap();
    assert_eq!(woken.waiter, "b");
    limit.wait(ShardId(7));
    parking.pass(woken.held, START);
    let (freed, shards) = parking.poll_freed().unwrap();
    assert!(freed == limit.id && shards.contains(ShardId(7)));
}

#[test]
fn who_waits_for_a_lease_is_woken_when_it_comes() {
    let leased = Leased::new(Gcra::new(rate(100, 1, 100)), rate(1, 1, 1), Loss::Stop);
    let limit = limit_of(1, Meter::Leased(Box::new(leased)));
    let mut parking = Parking::new(ShardId(0), 9);
    for lane in 0..3 {
        parking.park(&limit, lane, START).unwrap();
    }
    assert!(parking.poll_timeout().is_none());
    let Meter::Leased(leased) = &limit.meter else {
        unreachable!()
    };
    let lease = Lease {
        permits: 2,
        span: Duration::from_secs(1),
        until: START + Duration::from_secs(5),
    };
    assert!(leased.fill(lease, START).contains(ShardId(0)));
    parking.handle_freed(limit.id, START);
    let lanes: Vec<_> = core::iter::from_fn(|| parking.poll(START).map(|w| w.waiter)).collect();
    assert_eq!(lanes, [0, 1]);
}

/// Messages that one lane sends in ten seconds, at 40 a second of all nodes, where another node leaves
/// this one `part` of them; asked for every 50 ms.
fn sent_on_leases(burst: u64, part: u64) -> u64 {
    let leased = Leased::new(Gcra::new(rate(40, 1, burst)), rate(1, 1, 1), Loss::Stop);
    let limit = limit_of(1, Meter::Leased(Box::new(leased)));
    let Meter::Leased(leased) = &limit.meter else {
        unreachable!()
    };
    let set = Set::new([Arc::clone(&limit)]);
    let mut parking = Parking::new(ShardId(0), 9);
    let (mut granted, mut sent, mut is_parked) = (0, 0, false);
    for millis in 0..10_000 {
        let now = START + Duration::from_millis(millis);
        if millis % 50 == 0 {
            let due = part * millis / 1000 + 1;
            let permits = leased.ask(now).wanted.min(due - granted);
            granted += permits;
            if permits > 0 {
                let lease = Lease {
                    permits,
                    span: Duration::from_millis(50),
                    until: now + Duration::from_millis(500),
                };
                if !leased.fill(lease, now).is_empty() {
                    parking.handle_freed(limit.id, now);
                }
            }
        }
        // A message is under way for a millisecond.
        let held = parking.poll(now).map(|woken| woken.held);
        if held.is_some() || !is_parked {
            is_parked = set.take(held.as_ref(), now).is_err();
            sent += u64::from(!is_parked);
        }
        if is_parked && parking.is_empty() {
            parking.park(&limit, (), now).unwrap();
        }
    }
    sent
}

#[test]
fn a_lane_that_waits_for_leases_is_asked_for() {
    for (burst, part) in [(1, 40), (1, 20), (1, 7), (40, 40), (40, 7)] {
        let sent = sent_on_leases(burst, part);
        let most = part * 10 + 1;
        assert!(
            sent >= most - most / 50 - 1 && sent <= most,
            "{part}/s, burst {burst}: {sent} of {most}"
        );
    }
}

#[test]
fn an_operator_takes_waiters_out_and_their_permit_is_free() {
    let limit = rate_limit(1, rate(1, 1, 1));
    let mut parking = Parking::new(ShardId(0), 9);
    for lane in 0..4 {
        parking.park(&limit, lane, START).unwrap();
    }
    assert_eq!(parking.take_where(|lane| lane % 2 == 0, START), [0, 2]);
    assert_eq!(parking.lines().map(|(_, n)| n).collect::<Vec<_>>(), [2]);
    assert_eq!(parking.take_where(|_| true, START), [1, 3]);
    assert!(parking.is_empty());
    assert_eq!(take_all(gcra(&limit), START), 1);
}

#[test]
fn a_registry_gives_one_limit_by_name_and_forgets_what_is_at_rest() {
    let registry = Registry::default();
    let google = name(Scope::Provider, "google");
    let first = registry.rate(&google, rate(1, 1, 1), START);
    first.take(START).unwrap();
    let again = registry.rate(&google, rate(2, 1, 1), START);
    assert_eq!(first.id, again.id);
    assert!(again.take(START).is_err(), "the consumed budget is kept");
    drop((first, again));
    registry.sweep(START);
    assert_eq!(registry.list().len(), 1, "it has something to remember");
    registry.sweep(START + Duration::from_secs(1));
    assert!(registry.list().is_empty());
}

fn caps(of: &str) -> LimitKey {
    LimitKey {
        limited: Limited::Connections,
        ..name(Scope::Site, of)
    }
}

fn places(limit: &Limit) -> &Connections {
    match &limit.meter {
        Meter::Connections(places) => places,
        Meter::Rate(_) | Meter::Leased(_) => panic!("not connections"),
    }
}

#[test]
fn connections_that_come_to_be_shared_and_back_keep_their_places() {
    let (registry, key) = (Registry::default(), caps("x"));
    let (own, _) = registry.connections(&key, 32);
    assert!((0..20).all(|_| own.take(START).is_ok()));
    let (shared, _) = registry.leased_connections(&key, 10, 0, Loss::Stop);
    assert_eq!(
        shared.id, own.id,
        "who has a place gives it back to this one"
    );
    let asked = places(&shared).ask().unwrap();
    assert_eq!((asked.open, asked.total), (20, 10), "Redis is told of all");
    assert!(shared.take(START).is_err(), "no more than ten of all nodes");
    assert_eq!((0..20).filter(|_| places(&shared).cede()).count(), 10);
    let _ = places(&shared).fill(4);
    let (own, _) = registry.connections(&key, 25);
    assert!(places(&own).ask().is_none() && !places(&own).cede());
    let _ = places(&own).fill(1);
    assert_eq!((places(&own).open(), places(&own).max()), (20, 25));
    assert_eq!((0..9).filter(|_| own.take(START).is_ok()).count(), 5);
}

#[test]
fn what_comes_to_be_shared_has_the_places_it_uses_until_it_is_granted_others() {
    let (registry, key) = (Registry::default(), caps("x"));
    let (limit, _) = registry.connections(&key, 32);
    assert!((0..3).all(|_| limit.take(START).is_ok()));
    let _ = registry.leased_connections(&key, 10, 0, Loss::Stop);
    assert!(!places(&limit).cede(), "three of ten are not too many");
    assert!(limit.take(START).is_err(), "nobody granted more yet");
    let _ = places(&limit).fill(5);
    assert!(limit.take(START).is_ok());
}

#[test]
fn a_rate_that_comes_to_be_shared_and_back_begins_with_no_new_burst() {
    let (registry, key) = (Registry::default(), name(Scope::Site, "x"));
    let own = registry.rate(&key, rate(10, 1, 10), START);
    assert_eq!(take_all(gcra(&own), START), 10);
    let share = rate(1, 1, 1);
    let shared = registry.leased(&key, rate(10, 1, 10), share, Loss::Stop, START);
    let Meter::Leased(leased) = &shared.meter else {
        unreachable!()
    };
    let lease = Lease {
        permits: 100,
        span: Duration::from_secs(1),
        until: START + Duration::from_secs(60),
    };
    let _ = leased.fill(lease, START);
    let later = START + Duration::from_millis(500);
    let takes = |now| (0..).take_while(|_| shared.take(now).is_ok()).count();
    assert_eq!(takes(START), 0, "its burst is gone");
    assert_eq!(takes(later), 5);
    let own = registry.rate(&key, rate(20, 1, 10), later);
    assert_eq!(
        take_all(gcra(&own), later),
        0,
        "nor has it one on its way back"
    );
    let late = later + Duration::from_millis(200);
    assert_eq!(take_all(gcra(&own), late), 4, "at its new rate");
}
