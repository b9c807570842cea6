//! Promises of the turns in a lane.

use std::collections::BTreeMap;

use super::Fair;

/// Flows with so much to send each, in the order of their numbers.
struct Lane {
    fair: Fair,
    left: BTreeMap<u32, u32>,
}

impl Lane {
    /// Flow, its tenant, the tenant's weight, and how much it has.
    fn new(flows: &[(u32, u32, u16, u32)]) -> Self {
        let mut lane = Self {
            fair: Fair::default(),
            left: BTreeMap::new(),
        };
        for (flow, tenant, weight, count) in flows {
            lane.fair.assign(*flow, *tenant, *weight);
            lane.push(*flow, *count);
        }
        lane
    }

    fn push(&mut self, flow: u32, count: u32) {
        *self.left.entry(flow).or_default() += count;
        self.fair.enter(flow);
    }

    fn send(&mut self) -> Option<u32> {
        let flow = self.fair.head()?;
        self.fair.served();
        let left = self.left.get_mut(&flow).unwrap();
        *left -= 1;
        if *left == 0 {
            self.fair.leave(flow);
        }
        Some(flow)
    }

    fn send_up_to(&mut self, count: usize) -> Vec<u32> {
        core::iter::from_fn(|| self.send()).take(count).collect()
    }
}

fn count(sent: &[u32], of: impl Fn(u32) -> bool) -> usize {
    sent.iter().filter(|flow| of(**flow)).count()
}

#[test]
fn a_big_tenant_does_not_delay_a_small_one() {
    let mut lane = Lane::new(&[(0, 0, 1, 10_000)]);
    assert_eq!(lane.send_up_to(3), [0; 3]);
    lane.fair.assign(1, 1, 1);
    lane.push(1, 1);
    assert!(lane.send_up_to(2).contains(&1));
}

#[test]
fn tenants_are_served_by_weight() {
    let mut lane = Lane::new(&[(0, 0, 1, 6000), (1, 1, 2, 6000), (2, 2, 3, 6000)]);
    let sent = lane.send_up_to(6000);
    for (flow, share) in [(0, 1000), (1, 2000), (2, 3000)] {
        assert_eq!(count(&sent, |f| f == flow), share);
    }
    assert_eq!(lane.send_up_to(usize::MAX).len(), 12_000);
}

#[test]
fn a_tenant_gains_nothing_by_many_flows_and_they_share_its_part() {
    let mut flows: Vec<_> = (1..10).map(|flow| (flow, 0, 1, 1000)).collect();
    flows.push((0, 1, 1, 1000));
    let sent = Lane::new(&flows).send_up_to(1800);
    assert_eq!(count(&sent, |flow| flow == 0), 900);
    for flow in 1..10 {
        assert_eq!(count(&sent, |f| f == flow), 100);
    }
}

#[test]
fn who_left_holds_up_nobody_and_comes_back() {
    let mut lane = Lane::new(&[(0, 0, 1, 10), (1, 0, 1, 10), (2, 1, 1, 10)]);
    lane.fair.leave(0);
    assert_eq!(count(&lane.send_up_to(4), |flow| flow == 0), 0);
    lane.fair.leave(1);
    let sent = lane.send_up_to(100);
    assert_eq!(count(&sent, |flow| flow == 2), sent.len());
    lane.fair.enter(0);
    assert_eq!(lane.send_up_to(100), [0; 10]);
    lane.fair.enter(1);
    assert_eq!(lane.send_up_to(3), [1; 3]);
}

#[test]
fn a_number_may_become_another_tenants() {
    for moved in 0..3 {
        let mut lane = Lane::new(&[(0, 0, 1, 100), (1, 0, 1, 100), (2, 0, 1, 100)]);
        lane.fair.assign(moved, 1, 1);
        let sent = lane.send_up_to(100);
        assert_eq!(count(&sent, |flow| flow == moved), 50, "{moved}");
        assert_eq!(lane.send_up_to(usize::MAX).len(), 200);
    }
}

#[test]
fn a_lane_of_one_flow_costs_few_octets() {
    assert!(size_of::<Fair>() <= 64, "{}", size_of::<Fair>());
    let lane = Lane::new(&[(0, 0, 1, 1)]);
    assert!(lane.fair.octets() <= 40, "{}", lane.fair.octets());
}

/// Whoever may send gets its turn, whatever comes and goes.
#[test]
fn nobody_is_lost_and_nobody_comes_unasked() {
    for seed in 1..200_u64 {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut fair = Fair::default();
        let mut wants: BTreeMap<u32, bool> = BTreeMap::new();
        for _ in 0..2000 {
            let flow = draw(1 + seed % 30) as u32;
            match draw(8) {
                0..=2 => {
                    fair.assign(flow, draw(1 + seed % 7) as u32, draw(4) as u16);
                    wants.entry(flow).or_default();
                }
                3 | 4 if wants.contains_key(&flow) => {
                    fair.enter(flow);
                    wants.insert(flow, true);
                }
                5 => {
                    fair.leave(flow);
                    wants.entry(flow).and_modify(|wants| *wants = false);
                }
                _ => {
                    let head = fair.head();
                    assert_eq!(head.is_some(), wants.values().any(|w| *w), "seed {seed}");
                    assert!(head.is_none_or(|flow| wants[&flow]), "seed {seed}");
                    fair.served();
                }
            }
        }
        // All that are left are met within a round of the widest turns.
        let mut met: BTreeMap<u32, bool> = BTreeMap::new();
        for _ in 0..30 * 4 * 7 {
            met.extend(fair.head().map(|flow| (flow, true)));
            fair.served();
        }
        wants.retain(|_, wants| *wants);
        assert_eq!(met, wants, "seed {seed}");
    }
}
