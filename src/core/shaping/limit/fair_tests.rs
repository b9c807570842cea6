//! Promises of the queue of a lane.

use std::collections::{BTreeMap, VecDeque};

use super::{Class, Fair, FreshShare, Label};

fn label(tenant: u32) -> Label {
    Label { tenant, queue: 0 }
}

fn tenants(fair: &mut Fair<u32>, count: usize) -> Vec<u32> {
    core::iter::from_fn(|| fair.pop().map(|(label, _, _)| label.tenant))
        .take(count)
        .collect()
}

#[test]
fn one_tenant_is_a_plain_queue() {
    let mut fair = Fair::default();
    for item in 0..100 {
        fair.push(label(7), 1, Class::Fresh, item);
    }
    assert_eq!(fair.peek(), Some((label(7), Class::Fresh, 0)));
    let order: Vec<u32> = core::iter::from_fn(|| fair.pop().map(|(_, _, item)| item)).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    assert!(fair.is_empty() && fair.peek().is_none());
}

#[test]
fn a_big_tenant_does_not_delay_a_small_one() {
    let mut fair = Fair::default();
    for item in 0..10_000 {
        fair.push(label(1), 1, Class::Fresh, item);
    }
    fair.push(label(2), 1, Class::Fresh, 0);
    assert!(tenants(&mut fair, 2).contains(&2));
}

#[test]
fn tenants_are_served_by_weight() {
    let mut fair = Fair::default();
    for item in 0..6000 {
        for (tenant, weight) in [(1, 1), (2, 2), (3, 3)] {
            fair.push(label(tenant), weight, Class::Fresh, item);
        }
    }
    let order = tenants(&mut fair, 6000);
    for (tenant, share) in [(1, 1000), (2, 2000), (3, 3000)] {
        assert_eq!(order.iter().filter(|t| **t == tenant).count(), share);
    }
}

#[test]
fn a_tenant_gains_nothing_by_many_queues() {
    let mut fair = Fair::default();
    for item in 0..1000 {
        for queue in 0..9 {
            fair.push(Label { tenant: 1, queue }, 1, Class::Fresh, item);
        }
        fair.push(label(2), 1, Class::Fresh, item);
    }
    let order = tenants(&mut fair, 2000);
    assert_eq!(order.iter().filter(|t| **t == 2).count(), 1000);
}

#[test]
fn fresh_mail_has_its_share_whatever_the_retries() {
    let mut fair = Fair::new(FreshShare::new(3, 4).unwrap());
    for item in 0..1000 {
        fair.push(label(1), 1, Class::Retry, item);
        fair.push(label(1), 1, Class::Fresh, item);
    }
    let classes: Vec<_> = (0..400).map(|_| fair.pop().unwrap().1).collect();
    let fresh = classes.iter().filter(|c| **c == Class::Fresh).count();
    assert_eq!((classes[0], fresh), (Class::Fresh, 300));
    assert!(classes.windows(4).all(|four| four.contains(&Class::Retry)));
    let rest = core::iter::from_fn(|| fair.pop()).count();
    assert_eq!(
        rest, 1600,
        "a turn nobody of one kind wants is for the other"
    );
}

#[test]
fn what_is_parked_holds_up_nobody_and_comes_back() {
    let mut fair = Fair::default();
    let (slow, other) = (
        Label {
            tenant: 1,
            queue: 4,
        },
        Label {
            tenant: 1,
            queue: 5,
        },
    );
    for item in 0..10 {
        fair.push(slow, 1, Class::Fresh, item);
        fair.push(other, 1, Class::Fresh, item);
        fair.push(label(2), 1, Class::Fresh, item);
    }
    fair.park_queue(slow);
    assert_eq!(fair.peek().map(|(label, _, _)| label), Some(other));
    fair.park_tenant(1);
    fair.push(slow, 1, Class::Fresh, 10);
    assert_eq!(tenants(&mut fair, 100), [2; 10]);
    assert_eq!((fair.peek(), fair.len()), (None, 21));
    fair.resume_tenant(1);
    let labels: Vec<_> = core::iter::from_fn(|| fair.pop().map(|p| p.0)).collect();
    assert_eq!(labels, [other; 10]);
    fair.resume_queue(slow);
    assert_eq!(tenants(&mut fair, 100), [1; 11]);
}

#[test]
fn returned_work_is_first_again() {
    let mut fair = Fair::default();
    fair.push(label(1), 1, Class::Fresh, 1);
    fair.push(label(1), 1, Class::Fresh, 2);
    let (label, class, item) = fair.pop().unwrap();
    fair.push_front(label, 1, class, item);
    assert_eq!(fair.pop().map(|p| p.2), Some(1));
    assert_eq!(fair.pop().map(|p| p.2), Some(2));
    fair.push_front(label, 1, class, 3);
    fair.push(label, 1, class, 4);
    assert_eq!(fair.pop().map(|p| p.2), Some(3));
    assert_eq!(fair.pop().map(|p| p.2), Some(4));
}

#[test]
fn heads_that_expired_are_found_in_every_line() {
    let mut fair = Fair::default();
    for item in 0..5 {
        fair.push(label(1), 1, Class::Fresh, item);
        fair.push(label(2), 1, Class::Retry, item);
    }
    fair.park_tenant(2);
    let mut expired = fair.take_heads_where(|item| item < 2, 100);
    expired.sort_unstable();
    assert_eq!(expired, [0, 0, 1, 1]);
    assert_eq!(fair.take_heads_where(|_| true, 3).len(), 3);
    assert_eq!(fair.take_all().len(), 3);
    assert!(fair.is_empty() && fair.pop().is_none());
}

#[test]
fn a_queued_message_costs_few_octets() {
    let mut fair: Fair<u32> = Fair::default();
    fair.push(label(1), 1, Class::Fresh, 0);
    assert!(size_of::<Fair<u32>>() <= 256, "{}", size_of::<Fair<u32>>());
    assert!(fair.octets() <= 256, "a lane of one: {}", fair.octets());
    for item in 1..100_000 {
        fair.push(label(1), 1, Class::Fresh, item);
    }
    assert!(fair.octets() <= 100_000 * 16, "{}", fair.octets());
    for tenant in 2..10_002 {
        fair.push(label(tenant), 1, Class::Fresh, 0);
    }
    let worst = (fair.octets() - 100_000 * 16) / 10_000;
    assert!(worst <= 200, "a tenant of one message: {worst}");
    while fair.pop().is_some() {}
    assert!(fair.labels().count() == 0 && fair.line_count() <= 16);
}

/// The same, said slowly.
#[derive(Default)]
struct Model {
    queues: BTreeMap<Label, [VecDeque<u32>; 2]>,
    parked: BTreeMap<Label, bool>,
    parked_tenants: BTreeMap<u32, bool>,
}

impl Model {
    fn take(&mut self, label: Label, class: Class, item: u32) {
        let queue = &mut self.queues.get_mut(&label).unwrap()[class as usize];
        assert_eq!(queue.pop_front(), Some(item), "each list keeps its order");
    }

    fn may_go(&self, label: Label) -> bool {
        let is = |flag: Option<&bool>| flag.copied().unwrap_or(false);
        !is(self.parked.get(&label)) && !is(self.parked_tenants.get(&label.tenant))
    }

    fn count(&self, only_free: bool) -> usize {
        let queues = self.queues.iter();
        queues
            .filter(|(label, _)| !only_free || self.may_go(**label))
            .map(|(_, lists)| lists[0].len() + lists[1].len())
            .sum()
    }
}

#[test]
fn nothing_is_lost_or_doubled_whatever_comes() {
    for seed in 1..200_u64 {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut fair = Fair::default();
        let mut model = Model::default();
        for item in 0..2000 {
            let tenant = draw(1 + seed % 30) as u32;
            let queue = draw(1 + seed % 3) as u32;
            let label = Label { tenant, queue };
            let class = [Class::Fresh, Class::Retry][draw(2) as usize];
            match draw(16) {
                0..=5 => {
                    fair.push(label, draw(4) as u16, class, item);
                    let lists = model.queues.entry(label).or_default();
                    lists[class as usize].push_back(item);
                }
                6 => {
                    fair.push_front(label, 1, class, item);
                    let lists = model.queues.entry(label).or_default();
                    lists[class as usize].push_front(item);
                }
                7 => {
                    // What has no work cannot be parked.
                    if fair.labels().any(|l| l == label) {
                        fair.park_queue(label);
                        model.parked.insert(label, true);
                    }
                }
                8 => {
                    if fair.labels().any(|l| l.tenant == tenant) {
                        fair.park_tenant(tenant);
                        model.parked_tenants.insert(tenant, true);
                    }
                }
                9 => {
                    fair.resume_queue(label);
                    model.parked.insert(label, false);
                    fair.resume_tenant(tenant);
                    model.parked_tenants.insert(tenant, false);
                }
                10 if item % 50 == 0 => {
                    for (class, item) in fair.take_queue(label) {
                        model.take(label, class, item);
                    }
                }
                _ => {
                    let peeked = fair.peek();
                    let popped = fair.pop();
                    assert_eq!(peeked, popped);
                    assert_eq!(popped.is_some(), model.count(true) > 0, "seed {seed}");
                    if let Some((label, class, item)) = popped {
                        assert!(model.may_go(label), "seed {seed}");
                        model.take(label, class, item);
                    }
                }
            }
            assert_eq!(fair.len(), model.count(false), "seed {seed}");
        }
    }
}
