//! Lanes under limits.

use super::*;
use crate::dispatch::lane::ConnectionState;
use crate::queue::LabelId;
use crate::shaping::limit::Limit;
use crate::shaping::{Key, TargetKind, Wish};

const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    /// Opens what is asked for, carries all that may go, until `end`. When each message went, since
    /// the start of this, and by which connection.
    pub(super) fn run(&mut self, time: Duration) -> Vec<(Duration, ConnectionId)> {
        let mut sent = Vec::new();
        self.run_told(time, |at, c, _| sent.push((at, c)));
        sent
    }

    /// The same, told of each message. How often the brain was woken by its timer.
    pub(super) fn run_told(
        &mut self,
        time: Duration,
        mut told: impl FnMut(Duration, ConnectionId, &Message),
    ) -> usize {
        let (start, end) = (self.now, self.now + time);
        let mut wakes = 0;
        let mut awake: Vec<ConnectionId> = self.brain.connections.keys().copied().collect();
        loop {
            while !awake.is_empty() {
                for c in core::mem::take(&mut awake) {
                    while let Some((message, recipients, seq)) = self.try_pull(c) {
                        let outcomes: Vec<_> =
                            recipients.iter().map(|r| (*r, delivered())).collect();
                        self.settle(c, seq, &outcomes);
                        told(self.now.since(start), c, &message);
                    }
                    let connection = self.brain.connections.get(&c);
                    if connection.is_some_and(|c| c.state == ConnectionState::Quitting) {
                        self.brain.handle_closed(c, None, self.now);
                    }
                }
                awake = self.look();
            }
            match self.brain.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.brain.handle_timeout(self.now);
                    wakes += 1;
                    awake = self.look();
                }
                Some(_) | None => break,
            }
        }
        self.now = end;
        wakes
    }

    /// Connections that are to pull, after those that are to quit have.
    fn look(&mut self) -> Vec<ConnectionId> {
        let asked = self.answer_loads();
        for c in asked.quits {
            self.brain.handle_closed(c, None, self.now);
        }
        [asked.connects, asked.wakes].concat()
    }

    pub(super) fn reshape(&mut self, rules: &str) {
        let registry = Arc::clone(&self.brain.shapes.registry);
        self.brain
            .handle_shaping(shapes(rules, &registry), self.now);
    }

    /// Of places that the other shard has given back. The connections opened by it.
    fn hear_of_places(&mut self, other: &mut Self) -> Vec<ConnectionId> {
        let freed = other.freed();
        assert!(!freed.is_empty());
        self.now = self.now.max(other.now);
        for limit in freed {
            self.brain.handle_freed(limit, self.now);
        }
        self.brain.handle_timeout(self.now);
        self.answer_loads().connects
    }

    fn lane_limits(&self) -> Vec<Arc<Limit>> {
        let lanes = self.brain.lanes.iter();
        let sets = lanes.flat_map(|lane| [&lane.terms.connections, &lane.terms.messages]);
        sets.flat_map(|set| set.limits().to_vec()).collect()
    }
}

/// A brain with so many messages for each of these domains, each a site of its own.
fn loaded(rules: &str, domains: &[&str], count: usize) -> Bench {
    let mut bench = Bench::shaped(Config::default(), rules);
    for domain in domains {
        for _ in 0..count {
            bench.commit(&[&format!("a@{domain}")]);
        }
        bench.asked();
        bench.route(domain);
    }
    bench
}

/// Two shards, each with a hundred messages for one site, which may have so many connections: the
/// first has opened all of them.
fn two_shards(connections: usize) -> ([Bench; 2], Vec<ConnectionId>) {
    let config = |shard| Config {
        shards: 2,
        shard: ShardId(shard),
        ..Config::default()
    };
    let mut one = Bench::shaped(config(0), &format!("connection_limit = {connections}"));
    let mut other = Bench::shaped(config(1), "");
    other.brain.shapes = Arc::clone(&one.brain.shapes);
    let mut open = Vec::new();
    for bench in [&mut one, &mut other] {
        for _ in 0..100 {
            bench.commit(&["a@x.example"]);
        }
        bench.asked();
        bench.route("x.example");
        open.push(bench.asked().connects);
    }
    assert_eq!(open[0].len(), connections, "all were taken by the first");
    assert!(open[1].is_empty());
    ([one, other], open.swap_remove(0))
}

fn seconds(sent: &[(Duration, ConnectionId)]) -> Vec<u64> {
    sent.iter().map(|(at, _)| at.as_secs()).collect()
}

#[test]
fn where_a_node_has_no_place_left_the_idle_make_room_and_nobody_is_charged() {
    const DOMAINS: usize = 40;
    let mut bench = Bench::shaped(Config::default(), "");
    bench.brain.shapes.registry.bound(4);
    for n in 0..DOMAINS {
        bench.commit(&[&format!("a@d{n}.example")]);
        bench.asked();
        bench.route(&format!("d{n}.example"));
    }
    assert_eq!(bench.brain.connections.len(), 4);
    let rows = bench.brain.lanes(DOMAINS, bench.now);
    let waiting = rows
        .iter()
        .filter(|row| &*row.waits_for == "connections of node (open files)");
    assert_eq!(waiting.count(), DOMAINS - 4);
    let sent = bench.run(SECOND * 4);
    assert_eq!(sent.len(), DOMAINS, "{sent:?}");
    assert_eq!(bench.brain.counters().queued, 0, "none is put off");
}

#[test]
fn a_message_rate_is_kept_to_the_message_and_nothing_is_wasted() {
    let mut bench = loaded("max_message_rate = \"2/s\"", &["x.example"], 21);
    let sent = bench.run(30 * SECOND);
    assert_eq!(sent.len(), 21);
    for (n, (at, _)) in sent.iter().enumerate() {
        let due = Duration::from_millis(500) * u32::try_from(n).unwrap();
        assert!(
            *at >= due && *at <= due + Duration::from_millis(1),
            "{n}: {at:?}"
        );
    }
    let one = sent[1].1;
    assert!(sent[1..].iter().all(|(_, c)| *c == one), "{sent:?}");
    assert_eq!(
        bench.brain.connections.len(),
        0,
        "the others have quit, it too"
    );
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn a_rate_of_a_provider_is_shared_by_its_sites_in_turns() {
    let rules = "[provider.\"p\"]\nmatch = [{ MXSuffix = \".example\" }]\n\
                 provider_total_max_message_rate = \"1/s,max_burst=1\"";
    let mut bench = loaded(rules, &["x.example", "y.example"], 10);
    let sent = bench.run(9 * SECOND + SECOND / 2);
    assert_eq!(seconds(&sent), (0..10).collect::<Vec<_>>());
    let turns = sent[1..].windows(2);
    assert!(
        turns.into_iter().all(|two| two[0].1 != two[1].1),
        "{sent:?}"
    );
}

#[test]
fn a_lane_that_cannot_use_its_turn_leaves_it_to_the_next() {
    let rules = "[provider.\"p\"]\nmatch = [{ MXSuffix = \".example\" }]\n\
                 provider_total_max_message_rate = \"1/s,max_burst=1\"";
    let mut bench = loaded(rules, &["x.example", "y.example"], 4);
    assert_eq!(seconds(&bench.run(SECOND / 2)), [0]);
    // One site is gone with its connections; its turn in line comes, and the other has it.
    let gone = bench.brain.lanes.numbers()[0];
    let connections: Vec<ConnectionId> = bench.brain.connections.keys().copied().collect();
    for c in connections {
        if bench.brain.connections[&c].lane == gone {
            bench.brain.handle_closed(c, Some(lost()), bench.now);
        }
    }
    bench.brain.lanes[gone].paused_until = bench.now + HOUR;
    let sent = bench.run(4 * SECOND);
    assert_eq!(
        sent.len(),
        4,
        "a permit a second, and all are used: {sent:?}"
    );
}

#[test]
fn connections_of_a_provider_are_shared_and_a_place_that_is_free_is_taken() {
    let rules = "[provider.\"p\"]\nmatch = [{ MXSuffix = \".example\" }]\n\
                 provider_total_connection_limit = 1";
    let mut bench = loaded(rules, &["x.example", "y.example"], 1);
    let first: Vec<ConnectionId> = bench.brain.connections.keys().copied().collect();
    assert_eq!(first.len(), 1, "one place");
    bench.asked();
    bench.brain.handle_connected(first[0], bench.now);
    bench.transact(first[0], &delivered());
    assert!(bench.asked().connects.is_empty());
    bench.brain.handle_closed(first[0], None, bench.now);
    bench.brain.handle_timeout(bench.now);
    let second = bench.asked().connects;
    assert_eq!(second.len(), 1);
    bench.brain.handle_connected(second[0], bench.now);
    bench.transact(second[0], &delivered());
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn new_connections_come_no_faster_than_they_may() {
    let rules = "max_connection_rate = \"1/s,max_burst=1\"\nmax_deliveries_per_connection = 1";
    let mut bench = loaded(rules, &["x.example"], 5);
    let sent = bench.run(10 * SECOND);
    assert_eq!(seconds(&sent), [0, 1, 2, 3, 4]);
}

#[test]
fn a_domain_with_rules_of_its_own_has_a_lane_of_its_own() {
    let rules = "[\"y.example\"]\nmx_rollup = false\nmax_message_rate = \"1/h,max_burst=1\"";
    let mut bench = Bench::shaped(Config::default(), rules);
    for domain in ["x.example", "y.example"] {
        for _ in 0..3 {
            bench.commit(&[&format!("a@{domain}")]);
        }
        bench.asked();
        bench.route_to(domain, "site");
    }
    assert_eq!(bench.run(MINUTE).len(), 4);
    assert_eq!(bench.brain.counters().queued, 2);
}

#[test]
fn other_shaping_holds_at_once_and_remembers_what_was_sent() {
    let mut bench = loaded(
        "max_message_rate = \"1/h,max_burst=2\"",
        &["x.example"],
        100,
    );
    assert_eq!(bench.run(MINUTE).len(), 2);
    bench.reshape("max_message_rate = \"60/h,max_burst=2\"");
    let sent = bench.run(10 * MINUTE);
    assert!(
        (9..=11).contains(&sent.len()),
        "no second burst: {}",
        sent.len()
    );
    bench.reshape("");
    assert_eq!(
        bench.run(SECOND).len(),
        98 - sent.len(),
        "no limit, no line"
    );
}

#[test]
fn a_domain_moves_when_it_gets_rules_of_its_own() {
    let mut bench = loaded("max_message_rate = \"1/h,max_burst=1\"", &["x.example"], 20);
    assert_eq!(bench.run(SECOND).len(), 1);
    bench.reshape(
        "max_message_rate = \"1/h,max_burst=1\"\n[\"x.example\"]\nmx_rollup = false\n\
         max_message_rate = \"1/s,max_burst=1\"",
    );
    assert_eq!(bench.run(5 * SECOND + SECOND / 2).len(), 6);
}

#[test]
fn an_override_holds_until_it_expires() {
    let mut bench = loaded("", &["x.example"], 1);
    bench.run(SECOND);
    let (key, value) = Key::read("max_message_rate", "1/s,max_burst=1").unwrap();
    let wish = Wish {
        kind: TargetKind::Site,
        name: "x.example".into(),
        source: None,
        key,
        value,
        expires: bench.now + 10 * SECOND,
        reason: "they asked for it".into(),
        by: "test".into(),
    };
    let mut overrides = Overrides::default();
    overrides.set(wish, bench.now).unwrap();
    let shapes = Arc::new(Shapes {
        shaping: Arc::new(Shaping::read(&[]).unwrap()),
        overrides,
        registry: Arc::clone(&bench.brain.shapes.registry),
        sharing: None,
    });
    bench.brain.handle_shaping(shapes, bench.now);
    for _ in 0..100 {
        bench.commit(&["a@x.example"]);
    }
    assert_eq!(bench.run(9 * SECOND + SECOND / 2).len(), 10);
    assert_eq!(bench.run(SECOND).len(), 90);
}

#[test]
fn shards_share_their_limits_and_tell_each_other_of_places() {
    let ([mut one, mut other], open) = two_shards(2);
    one.brain.handle_connected(open[0], one.now);
    one.brain.handle_closed(open[0], None, one.now);
    // The first would take it again for itself: its lane is full of work.
    let connects = other.hear_of_places(&mut one).len() + one.brain.connections.len();
    assert_eq!(connects, 2, "each place is used, by one of them");
}

#[test]
fn a_shard_with_more_than_its_part_gives_way_to_one_that_waits() {
    let ([mut one, mut other], open) = two_shards(4);
    for c in &open {
        one.brain.handle_connected(*c, one.now);
    }
    let ended: Vec<_> = open
        .iter()
        .filter(|c| one.try_pull(**c).is_none())
        .collect();
    assert_eq!(ended.len(), 2, "more than half of the places");
    for c in ended {
        one.brain.handle_closed(*c, None, one.now);
    }
    let taken = other.hear_of_places(&mut one);
    assert_eq!(taken.len(), 2);
    assert_eq!(
        one.brain.connections.len(),
        2,
        "it does not take them itself"
    );
    // Both have work and wait for more; neither gives anything up.
    for (bench, kept) in [(&mut one, &open[2..]), (&mut other, &taken[..])] {
        for c in kept {
            bench.brain.handle_connected(*c, bench.now);
        }
        bench.wait(2 * SECOND);
        assert!(bench.run(Duration::ZERO).len() >= 90, "all its work");
        assert_eq!(bench.brain.connections.len(), 2);
    }
}

#[test]
fn an_idle_connection_soon_leaves_its_place_to_who_waits_for_it() {
    let ([mut one, mut other], open) = two_shards(2);
    assert_eq!(open.len(), 2);
    let sent = one.run(SECOND / 10);
    assert_eq!(sent.len(), 100, "by the connection that it may keep");
    let taken = other.hear_of_places(&mut one);
    assert_eq!(taken.len(), 1);
    other.brain.handle_connected(taken[0], other.now);
    one.run(SECOND / 10);
    assert_eq!(one.brain.connections.len(), 1);
    one.run(SECOND / 2);
    assert!(
        one.brain.connections.is_empty(),
        "long before its time of 5 s"
    );
    assert_eq!(other.hear_of_places(&mut one).len(), 1);
    // Nobody waits any more.
    other.run(SECOND);
    assert_eq!(other.brain.counters().queued, 0);
    assert_eq!(other.brain.connections.len(), 2, "they keep their time");
}

/// So many messages for a lane that these rules hold up. How many expired on the second, and the
/// trouble that is named.
fn expired_under(rules: &str, count: usize, held_octets_max: usize) -> (u64, String) {
    let config = Config {
        held_octets_max,
        schedule: Schedule {
            max_age: 6 * HOUR,
            ..Schedule::default()
        },
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, rules);
    for _ in 0..count {
        bench.commit_with(&["a@x.example"], |m| m.envelope.sender = None);
    }
    bench.asked();
    bench.route("x.example");
    let sent = bench.run(6 * HOUR - SECOND).len();
    assert_eq!(bench.brain.counters().expired, 0);
    assert_eq!(bench.brain.counters().queued, count - sent);
    let last = bench
        .brain
        .lanes
        .iter()
        .next()
        .unwrap()
        .trouble(LabelId::DEFAULT);
    bench.run(SECOND + SECOND / 10);
    assert_eq!(bench.brain.counters().queued, 0, "all is over in time");
    assert_eq!(bench.brain.counters().held_octets, 0);
    (bench.brain.counters().expired, last.into())
}

#[test]
fn mail_that_waits_for_a_limit_expires_in_time() {
    let connections =
        "max_connection_rate = \"1/h,max_burst=1\"\nmax_deliveries_per_connection = 2";
    for (rules, count, wanted) in [
        ("max_message_rate = \"1/h,max_burst=1\"", 100, 94),
        ("max_message_rate = \"1/d,max_burst=1\"", 3, 2),
        (connections, 100, 88),
        ("connection_limit = 0", 100, 100),
    ] {
        // Held from the start, or loaded ahead.
        for held_octets_max in [1_000_000, 0] {
            let (expired, last) = expired_under(rules, count, held_octets_max);
            assert_eq!(expired, wanted, "{rules}");
            assert!(last.contains("waiting for"), "{rules}: {last}");
        }
    }
}

#[test]
fn no_place_is_kept_by_connections_that_are_gone() {
    let mut bench = loaded("connection_limit = 3", &["x.example"], 50);
    bench.run(SECOND);
    bench.run(MINUTE);
    assert!(bench.brain.connections.is_empty(), "idle ones have quit");
    for _ in 0..50 {
        bench.commit(&["a@x.example"]);
    }
    for c in bench.asked().connects {
        bench.connect_fails(c);
    }
    for limit in bench.lane_limits() {
        assert_eq!(limit.when(bench.now), Some(bench.now), "{}", limit.name);
    }
}
