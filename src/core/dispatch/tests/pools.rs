//! Several pools at one site: each message leaves by its own.

use super::egress::{blocked, count};
use super::*;
use crate::dispatch::{Fleet, PoolPlan};
use crate::egress::{HealthRules, Member, Selection, Source, SourceId, Standing};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Pools of sources by their places in [`NAMES`].
fn fleet(pools: &[(&str, &[u32])]) -> Fleet {
    let member = |place: &u32| Member {
        source: SourceId(*place),
        name: NAMES[*place as usize].into(),
        weight: 1,
        off_hours: None,
    };
    let plan = |(name, members): &(&str, &[u32])| PoolPlan {
        name: (*name).into(),
        members: members.iter().map(member).collect(),
        hours: None,
        selection: Selection::Weighted,
        rules: HealthRules::default(),
    };
    let sources = NAMES.map(|name| Source::new(name, None)).to_vec();
    let pools = pools.iter().map(plan).collect();
    Fleet::new(sources, pools, Vec::new(), Vec::new())
}

/// `default` has a and b, `bulk` has a and c, `warm` has d.
pub(super) fn three() -> Fleet {
    fleet(&[("default", &[0, 1]), ("bulk", &[0, 2]), ("warm", &[3])])
}

pub(super) fn bench(fleet: Fleet, rules: &str) -> Bench {
    let config = Config {
        fleet: Arc::new(fleet),
        ..Config::default()
    };
    Bench::shaped(config, rules)
}

fn by(pool: &str) -> Labels {
    Labels::new(None, None, Some(pool))
}

impl Bench {
    fn queue_by(&mut self, pool: &str, domain: &str, count: usize) {
        for _ in 0..count {
            self.commit_with(&[&format!("a@{domain}")], |message| {
                message.labels = by(pool);
            });
        }
        let asked = self.asked();
        self.sent_on
            .extend(asked.forwards.into_iter().map(|(_, work)| work));
        if !asked.resolves.is_empty() {
            self.route(domain);
        }
    }

    fn standing_in(&self, pool: &str, site: &str, source: &str) -> Standing {
        let site = SiteName::new(site);
        let rows = self.brain.source_rows(&site, "others", self.now);
        let mut rows = rows.iter().filter(|row| *row.pool == *pool);
        rows.find(|row| *row.source == *source).unwrap().standing
    }

    fn recover_by(&mut self, pool: &str) {
        let message = self.message(&["a@x.example"], |message| message.labels = by(pool));
        let recovered = Recovered {
            id: message.id,
            received: self.now,
            of: 1,
            labels: by(pool),
            unsettled: vec![RecoveredRecipient {
                recipient: 0,
                domain: Domain::parse("x.example").unwrap(),
                attempts: 1,
                due: self.now,
                last: "".into(),
            }],
        };
        self.brain.handle_recovered(recovered, self.now);
        if !self.answer_loads().resolves.is_empty() {
            self.route("x.example");
        }
    }

    /// The pools that lanes with work or connections are of.
    fn pools_in_use(&self) -> Vec<String> {
        let rows = self.brain.lanes(99, self.now);
        let mut pools: Vec<String> = rows
            .iter()
            .filter_map(|row| Some(row.pool.as_ref()?.to_string()))
            .collect();
        pools.sort();
        pools.dedup();
        pools
    }
}

#[test]
fn each_message_leaves_by_the_sources_of_its_pool_and_its_record_names_it() {
    let mut bench = bench(three(), "");
    bench.queue_by("default", "x.example", 10);
    bench.queue_by("bulk", "x.example", 10);
    bench.queue_by("warm", "x.example", 10);
    bench.commit(&["a@x.example"]);
    assert_eq!(bench.pools_in_use(), ["bulk", "default", "warm"]);
    let found = bench.brain.find(bench.message_ids()[15]);
    assert_eq!(found[0].pool.as_deref(), Some("bulk"));
    let sent = bench.carry(|_, _| delivered());
    // The default pool's wheel has turned 11 times, the others' ten.
    let counts = NAMES.map(|name| count(&sent, name));
    assert_eq!((counts[0] + counts[1], counts[2], counts[3]), (16, 5, 10));
    assert_eq!(counts[1], 5);
    for (pool, domain, source) in [("warm", "y.example", "d"), ("default", "z.example", "a")] {
        bench.queue_by(pool, domain, 1);
        let c = bench.answer_loads().connects[0];
        bench.brain.handle_connected(c, bench.now);
        bench.transact(c, &delivered());
        let record = &bench.asked().batches[0].records[0];
        assert_eq!(record["egress_pool"], pool);
        assert_eq!(record["egress_source"], source);
    }
}

#[test]
fn what_a_site_has_against_a_source_counts_in_the_pool_it_was_told_to() {
    let mut bench = bench(three(), "");
    bench.queue_by("bulk", "x.example", 10);
    let sent = bench.carry(|source, _| match source {
        "a" => blocked(),
        _ => delivered(),
    });
    assert_eq!((count(&sent, "a"), count(&sent, "c")), (1, 9));
    assert!(matches!(
        bench.standing_in("bulk", "x.example", "a"),
        Standing::Aside { .. }
    ));
    assert_eq!(
        bench.standing_in("default", "x.example", "a"),
        Standing::Well
    );
    bench.queue_by("default", "x.example", 10);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (5, 5));
}

#[test]
fn work_of_a_pool_moves_within_it_and_waits_rather_than_leave_by_another() {
    let mut bench = bench(three(), "");
    bench.queue_by("bulk", "x.example", 10);
    bench.queue_by("default", "x.example", 4);
    bench.suspend(0);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(NAMES.map(|name| count(&sent, name)), [0, 4, 10, 0]);
    bench.queue_by("bulk", "x.example", 3);
    bench.suspend(2);
    bench.queue_by("default", "x.example", 2);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(NAMES.map(|name| count(&sent, name)), [0, 2, 0, 0]);
    let rows = bench.brain.list(9, &Whose::default(), bench.now);
    assert!(
        rows[0].why.contains("a (the proxy is dead), c (the"),
        "{rows:?}"
    );
    bench.brain.handle_source_resumed(SourceId(2), bench.now);
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.carry(|_, _| delivered()), ["c"; 3]);
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn what_expires_at_the_gate_of_its_pool_says_for_what_it_waited() {
    let mut bench = bench(three(), "");
    bench.suspend(3);
    bench.queue_by("warm", "x.example", 1);
    bench.queue_by("bulk", "x.example", 1);
    assert_eq!(bench.carry(|_, _| delivered()).len(), 1);
    let max_age = bench.brain.config.schedule.max_age;
    let mut records = Vec::new();
    while records.is_empty() && bench.now < T0 + max_age + HOUR {
        bench.wait_for_timer();
        for _ in 0..3 {
            let batches = bench.answer_loads().batches;
            records.extend(batches.into_iter().flat_map(|batch| batch.records));
        }
    }
    assert_eq!(records[0]["type"], "Expiration");
    assert_eq!(records[0]["egress_pool"], "warm");
    let said = records[0]["response"]["content"].as_str().unwrap();
    assert!(said.contains("d (the proxy is dead)"), "{said}");
}

#[test]
fn a_restart_keeps_the_pool_and_a_pool_that_is_gone_is_the_default_one() {
    let mut bench = bench(three(), "");
    bench.recover_by("warm");
    bench.recover_by("gone");
    let ids = bench.message_ids();
    let found = |id| bench.brain.find(id)[0].pool.clone().unwrap();
    assert_eq!((&*found(ids[0]), &*found(ids[1])), ("warm", "default"));
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(count(&sent, "d"), 1);
    assert_eq!(count(&sent, "a") + count(&sent, "b"), 1);
    // Under whatever name the default goes.
    let rules = "[label_defaults]\npool = \"warm\"";
    let mut bench = self::bench(three(), rules);
    bench.recover_by("gone");
    bench.commit(&["a@x.example"]);
    assert_eq!(bench.carry(|_, _| delivered()), ["d", "d"]);
}

#[test]
fn mail_that_waits_follows_its_domain_to_another_site() {
    let mut bench = bench(three(), "");
    bench.suspend(3);
    bench.queue_by("warm", "x.example", 5000);
    bench.route_to("x.example", "elsewhere");
    bench.brain.handle_source_resumed(SourceId(3), bench.now);
    for _ in 0..3 {
        bench.brain.handle_timeout(bench.now);
    }
    let mut sites = Vec::new();
    let sent = bench.carry(|_, site| {
        assert_eq!(site, "elsewhere");
        delivered()
    });
    sites.extend(sent);
    assert_eq!(sites.len(), 5000);
}

#[test]
fn one_domain_of_a_site_may_leave_while_another_keeps_its_gate() {
    let mut bench = bench(three(), "");
    bench.suspend(3);
    for domain in ["x.example", "y.example"] {
        for _ in 0..20 {
            bench.commit_with(&[&format!("a@{domain}")], |message| {
                message.labels = by("warm");
            });
        }
        bench.asked();
        bench.route_to(domain, "site");
    }
    bench.route_to("x.example", "elsewhere");
    bench.brain.handle_timeout(bench.now);
    bench.brain.handle_source_resumed(SourceId(3), bench.now);
    bench.brain.handle_timeout(bench.now);
    let sites = core::cell::RefCell::new(Vec::new());
    bench.carry(|_, site| {
        sites.borrow_mut().push(site.to_owned());
        delivered()
    });
    let at = |site: &str| sites.borrow().iter().filter(|at| **at == *site).count();
    assert_eq!((at("site"), at("elsewhere")), (20, 20));
}

#[test]
fn the_gates_of_all_pools_end_with_their_domain() {
    let mut bench = bench(three(), "idle_timeout = \"1s\"");
    for pool in ["bulk", "warm", "default"] {
        bench.queue_by(pool, "x.example", 5);
    }
    bench.carry(|_, _| delivered());
    // One that is made and never used by anybody.
    bench.suspend(3);
    bench.queue_by("warm", "x.example", 1);
    let max_age = bench.brain.config.schedule.max_age;
    let end = bench.now + max_age + HOUR;
    while bench.brain.poll_timeout().is_some() && bench.now < end {
        bench.wait_for_timer();
        for c in bench.answer_loads().quits {
            bench.brain.handle_closed(c, None, bench.now);
        }
    }
    assert_eq!(bench.brain.counters().queued, 0);
    assert_eq!(bench.brain.known(), (0, 0));
}

#[test]
fn another_shard_takes_the_work_in_by_the_same_pool() {
    let shard = |number| {
        let config = Config {
            fleet: Arc::new(three()),
            shard: ShardId(number),
            shards: 2,
            ..Config::default()
        };
        Bench::shaped(config, "connection_limit = 1")
    };
    let (mut one, mut other) = (shard(0), shard(1));
    // As many sites as it takes for some lane to live elsewhere.
    for number in 0..8 {
        one.queue_by("warm", &format!("x{number}.example"), 1);
    }
    let here = one.carry(|_, _| delivered());
    let forwards = one.forwarded();
    assert!(!forwards.is_empty() && !here.is_empty());
    for work in forwards {
        assert_eq!(work.labels, by("warm"));
        other.brain.handle_forwarded(work, other.now);
    }
    let there = other.carry(|_, _| delivered());
    assert_eq!(here.len() + there.len(), 8);
    assert!(there.iter().all(|source| source == "d"), "{there:?}");
}

#[test]
fn mail_of_no_label_that_waits_leaves_by_another_default_once_there_is_one() {
    let mut bench = bench(three(), "");
    bench.suspend(0);
    bench.suspend(1);
    bench.queue_by("default", "x.example", 1);
    for _ in 0..3 {
        bench.commit(&["a@x.example"]);
    }
    assert!(bench.carry(|_, _| delivered()).is_empty());
    let rules = "[label_defaults]\npool = \"warm\"";
    let registry = Arc::clone(&bench.brain.shapes.registry);
    bench
        .brain
        .handle_shaping(shapes(rules, &registry), bench.now);
    bench.brain.handle_timeout(bench.now);
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.carry(|_, _| delivered()), ["d"; 3]);
    assert_eq!(bench.brain.counters().queued, 1, "it says which it wants");
}

#[test]
fn a_limit_of_a_source_counts_over_the_pools_it_is_in() {
    let rules = "[source.\"a\"]\nmax_message_rate = \"1/s,max_burst=1\"";
    let pools: &[(&str, &[u32])] = &[("default", &[0]), ("bulk", &[0])];
    let mut bench = bench(fleet(pools), rules);
    for _ in 0..5 {
        bench.queue_by("default", "x.example", 1);
        bench.queue_by("bulk", "x.example", 1);
    }
    let sent = bench.run(Duration::from_secs(20));
    let at: Vec<u64> = sent.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_thousand_gates_behind_one_selection_rate_cost_nothing_until_a_permit_falls_due() {
    const SITES: usize = 1000;
    let rules = "[source.\"a\"]\nsource_selection_rate = \"1/s,max_burst=1\"";
    let mut bench = bench(fleet(&[("default", &[0])]), rules);
    for site in 0..SITES {
        bench.queue_by("default", &format!("x{site}.example"), 2);
    }
    assert_eq!(bench.run(Duration::from_millis(500)).len(), 1);
    let (looked, timers) = (bench.brain.selections, bench.brain.timers());
    let waits = bench.brain.lanes(SITES * 2, bench.now);
    assert!(waits.iter().any(|row| row.why.contains("a (waiting for ")));
    let sent = bench.run(Duration::from_secs(200));
    assert_eq!(sent.len(), 200, "a permit a second, and none is wasted");
    let looked = bench.brain.selections - looked;
    assert!(looked <= 3 * 200, "{looked} looks for 200 messages");
    assert!(
        bench.brain.timers() <= timers + 600,
        "no timer for each gate"
    );
    // In turns: each site has had one message before any has two.
    let lanes: BTreeSet<u64> = sent.iter().map(|(_, c)| c.0).collect();
    assert_eq!(lanes.len(), 200);
}

#[test]
fn a_gate_in_line_for_one_source_goes_by_another_that_is_free_and_passes_its_turn_on() {
    let rules = "[source.\"a\"]\nsource_selection_rate = \"1/s,max_burst=1\"\n\
                 [source.\"b\"]\nsource_selection_rate = \"10/s,max_burst=1\"";
    let mut bench = bench(three(), rules);
    for domain in ["x.example", "y.example"] {
        bench.queue_by("default", domain, 110);
    }
    let sent = bench.run(Duration::from_secs(20) - Duration::from_millis(1));
    // 11 permits a second; each is used by one of the two.
    assert!((217..=220).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn a_turn_that_comes_when_the_work_has_gone_is_the_next_gates() {
    let rules = "[source.\"a\"]\nsource_selection_rate = \"1/s,max_burst=1\"";
    let mut bench = bench(three(), rules);
    bench.suspend(1);
    for domain in ["x.example", "y.example"] {
        bench.queue_by("default", domain, 3);
    }
    assert_eq!(bench.run(Duration::from_millis(1)).len(), 1);
    // One domain has no mailbox any more: its work leaves the gate.
    bench.no_route("x.example", RouteError::NullMx);
    bench.brain.handle_timeout(bench.now);
    let sent = bench.run(Duration::from_secs(4));
    let at: Vec<u64> = sent
        .iter()
        .map(|(at, _)| at.as_millis() as u64 / 900)
        .collect();
    assert!(
        (2..=3).contains(&sent.len()) && at.len() == sent.len(),
        "{sent:?}"
    );
    assert!(
        bench.brain.parking.is_empty(),
        "nobody waits for what is done"
    );
}

#[test]
fn what_waits_in_line_to_be_picked_expires_in_time() {
    let rules = "[source.\"d\"]\nsource_selection_rate = \"1/10d,max_burst=1\"";
    let mut bench = bench(three(), rules);
    bench.queue_by("warm", "x.example", 3);
    assert_eq!(bench.run(Duration::from_secs(1)).len(), 1);
    let max_age = bench.brain.config.schedule.max_age;
    bench.run(max_age + MINUTE);
    assert_eq!(bench.brain.counters().expired, 2);
}
