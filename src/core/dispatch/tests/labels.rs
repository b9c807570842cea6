//! Mail of several tenants and campaigns in one lane.

use super::*;
use crate::dispatch::By;
use crate::shaping::{Key, TargetKind, Wish};

const SECOND: Duration = Duration::from_secs(1);

fn of(tenant: &str) -> Labels {
    Labels::new(Some(tenant), None, None)
}

impl Bench {
    pub(super) fn commit_of(&mut self, labels: &Labels, recipients: &[&str]) -> Arc<Message> {
        self.commit_with(recipients, |message| message.labels = labels.clone())
    }

    /// So many messages of each of these for one domain, in turn.
    fn labelled(rules: &str, all: &[Labels], count: usize) -> Self {
        let mut bench = Self::shaped(Config::default(), rules);
        for _ in 0..count {
            for labels in all {
                bench.commit_of(labels, &["a@x.example"]);
            }
        }
        bench.asked();
        bench.route("x.example");
        bench
    }

    fn sent(&mut self, time: Duration) -> Vec<(Duration, Labels)> {
        let mut sent = Vec::new();
        self.run_told(time, |at, _, message| {
            sent.push((at, message.labels.clone()))
        });
        sent
    }

    fn waits_for(&self) -> String {
        let rows = self.brain.lanes(10, self.now);
        rows[0].waits_for.to_string()
    }

    pub(super) fn set(
        &mut self,
        kind: TargetKind,
        name: &str,
        (key, value): (&str, &str),
        time: Duration,
    ) {
        let (key, value) = Key::read(key, value).unwrap();
        let before = Arc::clone(&self.brain.shapes);
        let mut overrides = before.overrides.clone();
        let wish = Wish {
            kind,
            name: name.into(),
            source: None,
            key,
            value,
            expires: self.now + time,
            reason: "they asked".into(),
            by: "op".into(),
        };
        overrides.set(wish, self.now).unwrap();
        let shapes = Shapes {
            shaping: Arc::clone(&before.shaping),
            overrides,
            registry: Arc::clone(&before.registry),
            sharing: None,
        };
        self.brain.handle_shaping(Arc::new(shapes), self.now);
    }
}

fn count(sent: &[(Duration, Labels)], labels: &Labels) -> usize {
    sent.iter().filter(|(_, of)| of == labels).count()
}

fn seconds(sent: &[(Duration, Labels)]) -> Vec<u64> {
    sent.iter().map(|(at, _)| at.as_secs()).collect()
}

#[test]
fn a_tenant_whose_limit_is_used_up_holds_up_nobody() {
    let rules = "[tenant.slow]\nmax_message_rate = \"1/s,max_burst=1\"";
    let (slow, free) = (of("slow"), Labels::default());
    let mut bench = Bench::labelled(rules, &[slow.clone(), free.clone()], 20);
    let sent = bench.sent(SECOND / 2);
    assert_eq!((count(&sent, &slow), count(&sent, &free)), (1, 20));
    assert_eq!(bench.waits_for(), "message rate of tenant slow");
    let sent = bench.sent(20 * SECOND);
    assert_eq!(seconds(&sent), (0..19).collect::<Vec<_>>());
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn campaigns_and_queues_have_limits_of_their_own_and_all_must_give_a_permit() {
    let rules = "[tenant.t]\nmax_message_rate = \"4/s,max_burst=1\"\n\
                 [campaign.\"*\"]\nmax_message_rate = \"2/s,max_burst=1\"\n\
                 [[queue]]\ncampaign = \"c\"\ndomain = \"x.example\"\nmax_message_rate = \"1/s,max_burst=1\"";
    let campaign = |name| Labels::new(Some("t"), Some(name), None);
    let all = ["c", "d", "e"].map(campaign);
    let mut bench = Bench::labelled(rules, &all, 100);
    let sent = bench.sent(20 * SECOND);
    let [queue, campaign, rest] = all.map(|labels| count(&sent, &labels));
    // Who needs several permits that are wanted waits for the one after the other.
    assert!((10..=21).contains(&queue), "{queue}");
    assert!((25..=41).contains(&campaign), "{campaign}");
    let all = queue + campaign + rest;
    assert!((79..=81).contains(&all), "the tenant's rate is used: {all}");
    let waits = bench.waits_for();
    assert!(
        waits.contains("of tenant t") || waits.contains("of campaign"),
        "{waits}"
    );
}

#[test]
fn tenants_share_a_lane_by_their_weights() {
    let rules = "max_message_rate = \"10/s\"\n[tenant.b]\nweight = 3";
    let (a, b) = (of("a"), of("b"));
    let mut bench = Bench::labelled(rules, &[a.clone(), b.clone()], 400);
    let sent = bench.sent(40 * SECOND);
    let (a, b) = (count(&sent, &a), count(&sent, &b));
    assert!((399..=401).contains(&(a + b)), "{a} + {b}");
    assert!((98..=102).contains(&a), "{a} of {b}");
    // Who remains has all.
    bench.sent(41 * SECOND);
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn tenants_share_a_lane_whose_mail_is_read_back_from_the_spool() {
    let rules = "max_message_rate = \"10/s\"\n[tenant.b]\nweight = 3";
    let config = Config {
        held_octets_max: 20_000,
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, rules);
    let (a, b) = (of("a"), of("b"));
    for _ in 0..400 {
        bench.commit_of(&a, &["a@x.example"]);
    }
    for _ in 0..400 {
        bench.commit_of(&b, &["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let sent = bench.sent(40 * SECOND);
    let (a, b) = (count(&sent, &a), count(&sent, &b));
    assert!((399..=401).contains(&(a + b)), "{a} + {b}");
    // What was in memory from the start goes first.
    assert!((95..=125).contains(&a), "{a} of {b}");
}

#[test]
fn a_tenant_gains_nothing_by_many_campaigns() {
    let rules = "max_message_rate = \"10/s\"";
    let other = of("other");
    let mut all: Vec<Labels> = (0..9)
        .map(|n| Labels::new(Some("t"), Some(&format!("c{n}")), None))
        .collect();
    all.push(other.clone());
    let mut bench = Bench::labelled(rules, &all, 100);
    let sent = bench.sent(18 * SECOND);
    let count = count(&sent, &other);
    assert!((88..=92).contains(&count), "{count} of {}", sent.len());
}

#[test]
fn a_thousand_lanes_behind_one_tenants_limit_cost_one_step_a_permit() {
    let rules = "[tenant.t]\nmax_message_rate = \"1/s,max_burst=1\"";
    let mut bench = Bench::shaped(Config::default(), rules);
    for n in 0..1000 {
        let domain = format!("d{n}.example");
        for _ in 0..2 {
            bench.commit_of(&of("t"), &[&format!("a@{domain}")]);
        }
        bench.asked();
        bench.route(&domain);
    }
    let mut sent = 0;
    bench.run_told(60 * SECOND, |_, _, _| sent += 1);
    assert_eq!(sent, 61);
    let wakes = bench.run_told(60 * SECOND, |_, _, _| sent += 1);
    assert_eq!(sent, 121);
    // A permit is a wake, and its lane's connection is looked at as it idles and ends.
    assert!(wakes <= 60 * 6, "{wakes}");
}

#[test]
fn places_of_a_tenant_are_transactions_at_once() {
    let rules = "connection_limit = 3\n[tenant.t]\nconnection_limit = 1";
    let mut bench = Bench::labelled(rules, &[of("t"), Labels::default()], 20);
    let open = bench.asked().connects;
    assert_eq!(open.len(), 3);
    let tenants: Vec<_> = open
        .iter()
        .map(|c| {
            let (message, recipients, seq) = bench.pull(*c);
            (*c, message.labels.clone(), recipients, seq)
        })
        .collect();
    let busy: Vec<_> = tenants
        .iter()
        .filter(|(_, of, ..)| *of != Labels::default())
        .collect();
    assert_eq!(busy.len(), 1, "{tenants:?}");
    assert_eq!(bench.waits_for(), "connections of tenant t");
    let (c, _, recipients, seq) = busy[0];
    let outcomes: Vec<_> = recipients.iter().map(|r| (*r, delivered())).collect();
    bench.settle(*c, *seq, &outcomes);
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.waits_for(), "");
    // The place of one whose connection is gone is free as well.
    for (c, ..) in &tenants {
        bench.brain.handle_closed(*c, Some(lost()), bench.now);
    }
    assert!(bench.brain.places.is_empty());
}

#[test]
fn a_transaction_and_a_connection_carry_no_more_than_labels_allow() {
    let rules = "[tenant.t]\nmax_recipients_per_batch = 2\nmax_deliveries_per_connection = 3";
    let mut bench = Bench::shaped(Config::default(), rules);
    for labels in [Labels::default(), of("t")] {
        bench.commit_of(&labels, &["a@x.example", "b@x.example", "c@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    let mut carried = Vec::new();
    let mut by: BTreeMap<ConnectionId, usize> = BTreeMap::new();
    for _ in 0..10 {
        bench.commit_of(&of("t"), &["d@x.example"]);
    }
    bench.run_told(SECOND, |_, c, message| {
        carried.push(message.labels.clone());
        *by.entry(c).or_default() += 1;
    });
    assert_eq!(carried.len(), 1 + 2 + 10);
    assert!(by.values().all(|count| *count <= 3), "{by:?}");
}

#[test]
fn mail_waits_for_its_tenants_window_and_the_queue_names_it() {
    // T0 is 08:00 UTC.
    let rules = "[tenant.t]\ndelivery_window = { timezone = \"Europe/Berlin\", from = \"10:00\", to = \"10:01\" }";
    let (t, free) = (of("t"), Labels::default());
    let mut bench = Bench::labelled(rules, &[t.clone(), free.clone()], 5);
    let sent = bench.sent(SECOND);
    assert_eq!((count(&sent, &t), count(&sent, &free)), (0, 5));
    let waits = bench.waits_for();
    assert_eq!(
        waits,
        "the delivery window of tenant t, which opens 2027-01-15T09:00:00.000000Z"
    );
    let sent = bench.sent(HOUR + 30 * SECOND);
    assert_eq!(seconds(&sent), [3599; 5]);
    bench.wait(MINUTE);
    bench.commit_of(&t, &["a@x.example"]);
    assert_eq!(bench.sent(MINUTE).len(), 0, "it is closed again");
}

#[test]
fn mail_behind_a_closed_window_expires_in_time() {
    let rules =
        "[tenant.t]\ndelivery_window = { timezone = \"UTC\", from = \"20:00\", to = \"21:00\" }";
    let config = Config {
        schedule: Schedule::exponential(MINUTE, MINUTE, HOUR),
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, rules);
    bench.commit_of(&of("t"), &["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    while bench
        .brain
        .poll_timeout()
        .is_some_and(|due| due <= T0 + HOUR + MINUTE)
    {
        bench.wait_for_timer();
        let asked = bench.answer_loads();
        if let Some(batch) = asked.batches.first() {
            assert!(bench.now <= T0 + HOUR + SECOND, "{:?}", bench.now);
            let said = batch.records[0]["response"]["content"].as_str().unwrap();
            assert!(said.contains("the delivery window of tenant t"), "{said}");
            assert_eq!(batch.records[0]["type"], "Expiration");
            return;
        }
    }
    panic!("it never expired");
}

#[test]
fn who_is_suspended_waits_until_it_is_over() {
    let (t, free) = (of("t"), Labels::default());
    let mut bench = Bench::labelled("", &[t.clone(), free.clone()], 5);
    bench.set(TargetKind::Tenant, "t", ("suspended", "true"), MINUTE);
    bench.brain.handle_timeout(bench.now);
    let sent = bench.sent(SECOND);
    assert_eq!((count(&sent, &t), count(&sent, &free)), (0, 5));
    let waits = bench.waits_for();
    assert!(
        waits.starts_with("the end of the suspension of tenant t ("),
        "{waits}"
    );
    assert!(waits.contains("they asked"), "{waits}");
    let sent = bench.sent(2 * MINUTE);
    assert_eq!(seconds(&sent), [59; 5]);
    // All mail of a domain, its connections included.
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    bench.set(
        TargetKind::Domain,
        "x.example",
        ("suspended", "true"),
        MINUTE,
    );
    bench.brain.handle_timeout(bench.now);
    bench.commit(&["a@x.example"]);
    assert_eq!(bench.sent(MINUTE / 2).len(), 0);
    assert_eq!(bench.sent(MINUTE).len(), 2);
}

/// Who may send while the queue of that name is suspended, of two tenants with two campaigns each to two
/// domains of one site.
fn who_goes_without(name: &str) -> Vec<String> {
    let mut bench = Bench::shaped(Config::default(), "");
    for tenant in ["a", "b"] {
        for campaign in ["c", "d"] {
            for domain in ["x.example", "y.example"] {
                let labels = Labels::new(Some(tenant), Some(campaign), None);
                bench.commit_of(&labels, &[&format!("m@{domain}")]);
            }
        }
    }
    bench.asked();
    bench.route_to("x.example", "site");
    bench.route_to("y.example", "site");
    bench.set(TargetKind::Queue, name, ("suspended", "true"), MINUTE);
    bench.brain.handle_timeout(bench.now);
    let mut went = Vec::new();
    bench.run_told(SECOND, |_, _, message| {
        let domain = message.envelope.recipients[0].address.domain_str();
        went.push(message.labels.queue(domain).into_owned());
    });
    went.sort();
    let rest: usize = bench
        .brain
        .list(10, &Whose::default(), bench.now)
        .iter()
        .map(|row| {
            let told = "the end of the suspension of ";
            assert!(row.waits_for.starts_with(told), "{}", row.waits_for);
            row.queued
        })
        .sum();
    assert_eq!(went.len() + rest, 8);
    let after = bench.sent(2 * MINUTE);
    assert_eq!(after.len(), rest, "when it is over the rest goes");
    went
}

#[test]
fn a_combination_that_is_suspended_holds_up_nobody_beside_it() {
    let all = || {
        ["c:a", "c:b", "d:a", "d:b"]
            .into_iter()
            .flat_map(|of| ["x", "y"].map(|domain| format!("{of}@{domain}.example")))
    };
    for (name, held) in [
        ("a/c/x.example", &["c:a@x.example"][..]),
        ("a/*/x.example", &["c:a@x.example", "d:a@x.example"]),
        ("*/c/y.example", &["c:a@y.example", "c:b@y.example"]),
        ("b/d/*", &["d:b@x.example", "d:b@y.example"]),
    ] {
        let free: Vec<String> = all().filter(|queue| !held.contains(&&**queue)).collect();
        assert_eq!(who_goes_without(name), free, "{name}");
    }
}

#[test]
fn labels_go_to_another_shard_and_are_told_in_records() {
    let config = Config {
        shards: 2,
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, "connection_limit = 1");
    let labels = Labels::new(Some("t"), Some("c"), Some("p"));
    let site = (0..).map(|n| format!("site{n}")).find(|site| {
        let site = SiteName::new(site);
        crate::dispatch::lane::home(&site, "", 2) == ShardId(1)
    });
    bench.commit_of(&labels, &["a@x.example"]);
    bench.asked();
    bench.route_to("x.example", &site.unwrap());
    let (to, work) = bench.asked().forwards.remove(0);
    assert_eq!((to, &work.labels), (ShardId(1), &labels));
    assert!(bench.brain.labels.is_empty(), "nobody holds the number");

    let mut other = Bench::shaped(Config::default(), "");
    other.brain.handle_forwarded(work, other.now);
    let found: Vec<Labels> = other
        .brain
        .entries
        .iter()
        .map(|e| other.brain.labels.get(e.labels).clone())
        .collect();
    assert_eq!(found, std::slice::from_ref(&labels));
    let c = other.asked().connects[0];
    other.transact(c, &deferred());
    let asked = other.asked();
    let record = &asked.batch().records[0];
    assert_eq!(record["queue"], "c:t@x.example");
    assert_eq!(record["egress_pool"], "p");
    assert_eq!(record["meta"]["tenant"], "t");
}

#[test]
fn recovered_mail_has_its_labels_before_it_is_loaded() {
    let rules = "[tenant.slow]\nmax_message_rate = \"1/s,max_burst=1\"";
    let mut bench = Bench::shaped(Config::default(), rules);
    for labels in [of("slow"), of("slow"), Labels::default()] {
        let message = bench.message(&["a@x.example"], |m| m.labels = labels.clone());
        let recovered = Recovered {
            id: message.id,
            received: bench.now,
            of: 1,
            labels: labels.clone(),
            unsettled: vec![RecoveredRecipient {
                recipient: 0,
                domain: Domain::parse("x.example").unwrap(),
                attempts: 0,
                due: bench.now,
                last: "".into(),
            }],
        };
        bench.brain.handle_recovered(recovered, bench.now);
    }
    bench.asked();
    bench.route("x.example");
    let sent = bench.sent(SECOND / 2);
    assert_eq!(
        (count(&sent, &of("slow")), count(&sent, &Labels::default())),
        (1, 1)
    );
    assert_eq!(bench.sent(SECOND).len(), 1);
}

#[test]
fn a_report_is_of_no_tenant() {
    let rules =
        "[tenant.t]\ndelivery_window = { timezone = \"UTC\", from = \"07:00\", to = \"08:01\" }";
    let mut bench = Bench::labelled(rules, &[of("t")], 1);
    let c = bench.asked().connects[0];
    bench.transact(c, &refused());
    let asked = bench.asked();
    let batch = asked.batch();
    assert!(batch.stored[0].labels.is_default());
    bench
        .brain
        .handle_stored(batch.token.unwrap(), true, bench.now);
    bench.wait(2 * MINUTE);
    bench.asked();
    bench.route("origin.example");
    assert_eq!(
        bench.sent(SECOND).len(),
        1,
        "the window is closed for the tenant alone"
    );
}

/// Many labels come and go, and their numbers are used again.
#[test]
fn campaigns_without_end_leave_nothing_behind() {
    let rules =
        "max_message_rate = \"1000/s\"\n[campaign.\"*\"]\nmax_message_rate = \"1/s,max_burst=2\"";
    let mut bench = Bench::shaped(Config::default(), rules);
    bench.commit(&["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let mut sent = 0;
    for round in 0..300 {
        for n in 0..10 {
            let labels = Labels::new(None, Some(&format!("c{}", round * 7 + n)), None);
            bench.commit_of(&labels, &["a@x.example"]);
        }
        bench.run_told(SECOND / 10, |_, _, _| sent += 1);
    }
    bench.run_told(MINUTE, |_, _, _| sent += 1);
    assert_eq!(sent, 3001);
    assert_eq!(bench.brain.counters().queued, 0);
    assert!(bench.brain.labels.is_empty());
    let lane = bench.brain.lanes.iter().next();
    let strands = lane.map_or(0, |lane| lane.strands.iter().count());
    assert!(strands <= 8, "{strands}");
}

/// Ten sites, each with a rate that three tenants want all of; one of them has a rate of its own that is
/// less than its share, for all sites together.
#[test]
fn tenants_keep_their_shares_at_every_site_under_contention() {
    let rules = "max_message_rate = \"10/s\"\n[tenant.b]\nweight = 2\n\
                 [tenant.curbed]\nmax_message_rate = \"5/s\"";
    let mut bench = Bench::shaped(Config::default(), rules);
    let all = [of("a"), of("b"), of("curbed")];
    for site in 0..10 {
        let to = format!("x@s{site}.example");
        for labels in &all {
            for _ in 0..500 {
                bench.commit_of(labels, &[&to]);
            }
        }
        bench.asked();
        bench.route(&format!("s{site}.example"));
    }
    let mut sent: BTreeMap<(String, Labels), f64> = BTreeMap::new();
    bench.run_told(60 * SECOND, |_, _, message| {
        let domain = message.envelope.recipients[0]
            .address
            .domain_str()
            .to_owned();
        *sent.entry((domain, message.labels.clone())).or_default() += 1.0;
    });
    let mut curbed = 0.0;
    for site in 0..10 {
        let of_site = |labels: &Labels| {
            let key = (format!("s{site}.example"), labels.clone());
            sent.get(&key).copied().unwrap_or_default()
        };
        let [a, b, rest] = [&all[0], &all[1], &all[2]].map(of_site);
        curbed += rest;
        let total = a + b + rest;
        assert!(
            (600.0..=611.0).contains(&total),
            "no permit is wasted: {total}"
        );
        let fair = (total - rest) / 3.0;
        assert!((a - fair).abs() / fair < 0.05, "site {site}: {a} of {fair}");
        assert!(
            (b / 2.0 - fair).abs() / fair < 0.05,
            "site {site}: {b} of {fair}"
        );
    }
    assert!((295.0..=306.0).contains(&curbed), "{curbed}");
}

/// The age of what had left was taken for that of what came: it was looked for every 10 ms.
#[test]
fn a_strand_that_waits_is_not_looked_at_for_the_age_of_what_has_left_it() {
    let rules = "[tenant.t]\nmax_message_rate = \"1/d,max_burst=1\"";
    let config = Config {
        schedule: Schedule::exponential(MINUTE, MINUTE, HOUR),
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, rules);
    for _ in 0..2 {
        bench.commit_of(&of("t"), &["a@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    assert_eq!(bench.sent(HOUR + MINUTE).len(), 1, "the other has expired");
    bench.commit_of(&of("t"), &["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    let wakes = bench.run_told(10 * MINUTE, |_, _, _| {});
    assert!(wakes < 50, "{wakes}");
}

/// The first entry of a message went to another shard, and its labels' number was free before the
/// second was made.
#[test]
fn all_entries_of_a_message_have_its_labels_wherever_they_go() {
    let config = Config {
        shards: 2,
        ..Config::default()
    };
    let mut bench = Bench::shaped(config, "connection_limit = 1");
    let site = (0..).map(|n| format!("site{n}")).find(|site| {
        let site = SiteName::new(site);
        crate::dispatch::lane::home(&site, "", 2) == ShardId(1)
    });
    let site = site.unwrap();
    let to = ["a@x.example", "b@y.example"];
    for recipient in to {
        bench.commit(&[recipient]);
    }
    bench.asked();
    for domain in ["x.example", "y.example"] {
        bench.route_to(domain, &site);
    }
    bench.asked();
    let labels = Labels::new(Some("t"), Some("c"), None);
    bench.commit_of(&labels, &to);
    let forwards = bench.asked().forwards;
    let told: Vec<&Labels> = forwards.iter().map(|(_, work)| &work.labels).collect();
    assert_eq!(told, [&labels, &labels]);
    assert!(bench.brain.labels.is_empty());
}

/// Messages of tenant `t` that each of two campaigns sends to each of two domains of one site within ten
/// seconds, by queue, and how the limit on them is told and used.
fn sent_by_queue(rules: &str, live: Option<&str>) -> (BTreeMap<String, usize>, String) {
    let mut bench = Bench::shaped(Config::default(), rules);
    for _ in 0..50 {
        for campaign in ["c", "d"] {
            for domain in ["x.example", "y.example"] {
                let labels = Labels::new(Some("t"), Some(campaign), None);
                bench.commit_of(&labels, &[&format!("m@{domain}")]);
            }
        }
    }
    bench.asked();
    bench.route_to("x.example", "site");
    bench.route_to("y.example", "site");
    if let Some(name) = live {
        let rate = ("max_message_rate", "1/s,max_burst=1");
        bench.set(TargetKind::Queue, name, rate, HOUR);
    }
    bench.brain.handle_timeout(bench.now);
    let mut sent = BTreeMap::new();
    bench.run_told(10 * SECOND - SECOND / 2, |_, _, message| {
        let domain = message.envelope.recipients[0].address.domain_str();
        let queue = message.labels.queue(domain).into_owned();
        *sent.entry(queue).or_default() += 1;
    });
    let by = By {
        source: None,
        tenant: Some("t"),
        campaign: Some("c"),
    };
    let shapes = &bench.brain.shapes;
    let told = shapes.explain(&plan("site"), "x.example", by, bench.now);
    let mut limits = told.limits.iter();
    let limit = limits.find(|limit| limit.name.contains("queue"));
    let limit =
        limit.map(|limit| format!("{}: {}", limit.name, limit.used.as_deref().unwrap_or("-")));
    (sent, limit.unwrap_or_default())
}

#[test]
fn what_a_queue_leaves_out_counts_together_however_it_is_said() {
    let block = |fields: &str| {
        format!("connection_limit = 5\n[[queue]]\n{fields}\nmax_message_rate = \"1/s,max_burst=1\"")
    };
    let all = [
        "c:t@x.example",
        "c:t@y.example",
        "d:t@x.example",
        "d:t@y.example",
    ];
    for (name, fields, together) in [
        ("t/*/*", "tenant = \"t\"", &all[..]),
        ("t/c/*", "tenant = \"t\"\ncampaign = \"c\"", &all[..2]),
        (
            "t/*/x.example",
            "tenant = \"t\"\ndomain = \"x.example\"",
            &[all[0], all[2]],
        ),
        ("*/*/x.example", "domain = \"x.example\"", &[all[0], all[2]]),
        (
            "t/c/x.example",
            "tenant = \"t\"\ncampaign = \"c\"\ndomain = \"x.example\"",
            &all[..1],
        ),
    ] {
        let by_file = sent_by_queue(&block(fields), None);
        let live = sent_by_queue("connection_limit = 5", Some(name));
        for (sent, told) in [by_file, live] {
            let of = |queue: &str| sent.get(queue).copied().unwrap_or_default();
            let sum: usize = together.iter().map(|queue| of(queue)).sum();
            assert_eq!(sum, 10, "{name}: {sent:?}");
            for free in all.iter().filter(|queue| !together.contains(queue)) {
                assert_eq!(of(free), 50, "{name}: {sent:?}");
            }
            assert_eq!(told, format!("message rate of queue {name}: 1 of 1"));
        }
    }
}
