//! Sources and pools, as lanes obey them.

use super::*;
use crate::dispatch::{Fleet, LadderPlan, PoolPlan, Suspension};
use crate::egress::{
    Days, HealthRules, Hours, Ladder, Member, Selection, Source, SourceId, Standing, WarmupState,
};
use crate::shaping::Zone;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const BLOCKED: &str = "5.7.1 client host blocked using zen.spamhaus.org";

/// Sources with these weights, each of its address, in one pool.
fn fleet(sources: &[(&str, &str, u32)]) -> Fleet {
    fleet_with(sources, Vec::new(), Vec::new())
}

fn fleet_with(
    sources: &[(&str, &str, u32)],
    ladders: Vec<LadderPlan>,
    before: Vec<WarmupState>,
) -> Fleet {
    let source =
        |(name, address, _): &(&str, &str, u32)| Source::new(name, Some(address.parse().unwrap()));
    let member = |(id, (name, _, weight)): (u32, &(&str, &str, u32))| Member {
        source: SourceId(id),
        name: (*name).into(),
        weight: *weight,
        off_hours: None,
    };
    let pool = PoolPlan {
        name: "default".into(),
        members: (0..).zip(sources).map(member).collect(),
        hours: None,
        selection: Selection::Weighted,
        rules: HealthRules::default(),
    };
    let sources = sources.iter().map(source).collect();
    Fleet::new(sources, vec![pool], ladders, before)
}

pub(super) fn two() -> Fleet {
    fleet(&[("a", "192.0.2.1", 1), ("b", "192.0.2.2", 1)])
}

pub(super) fn bench(fleet: Fleet, rules: &str) -> Bench {
    let config = Config {
        fleet: Arc::new(fleet),
        ..Config::default()
    };
    Bench::shaped(config, rules)
}

impl Bench {
    pub(super) fn queue(&mut self, domain: &str, count: usize) {
        for _ in 0..count {
            self.commit(&[&format!("a@{domain}")]);
        }
        if !self.asked().resolves.is_empty() {
            self.route(domain);
        }
    }

    fn source_of(&self, c: ConnectionId) -> String {
        let connection = &self.brain.connections[&c];
        connection.egress.as_deref().unwrap_or("none").into()
    }

    /// Opens and serves what is asked for until nothing is, every message with what `outcome` says
    /// of its source and its site. Sources of the messages, in their order.
    pub(super) fn carry(&mut self, outcome: impl Fn(&str, &str) -> Outcome) -> Vec<String> {
        let mut sent = Vec::new();
        let mut open: Vec<ConnectionId> = self.brain.connections.keys().copied().collect();
        loop {
            let asked = self.answer_loads();
            let sent_on = asked.forwards.into_iter().map(|(_, work)| work);
            self.sent_on.extend(sent_on);
            open.extend(&asked.connects);
            let before = sent.len();
            for c in open.clone() {
                let source = self.source_of(c);
                let lane = self.brain.connections[&c].lane;
                let site = self.brain.lanes[lane].key.site.clone();
                while let Some((_, recipients, seq)) = self.try_pull(c) {
                    let outcome = outcome(&source, site.as_str());
                    let outcomes: Vec<_> =
                        recipients.iter().map(|r| (*r, outcome.clone())).collect();
                    self.settle(c, seq, &outcomes);
                    sent.push(source.clone());
                }
            }
            self.brain.handle_timeout(self.now);
            if sent.len() == before && asked.connects.is_empty() {
                return sent;
            }
        }
    }

    pub(super) fn suspend(&mut self, source: u32) {
        let suspension = Suspension {
            until: self.now + MINUTE,
            why: "the proxy is dead".into(),
        };
        self.brain
            .handle_source_suspended(SourceId(source), suspension, self.now);
        self.brain.handle_timeout(self.now);
    }

    pub(super) fn standing(&self, site: &str, source: &str) -> Standing {
        let rows = self
            .brain
            .source_rows(&SiteName::new(site), "others", self.now);
        rows.iter()
            .find(|row| *row.source == *source)
            .unwrap()
            .standing
    }

    fn attempts(&self) -> Vec<u16> {
        self.brain.entries.iter().map(|e| e.attempts).collect()
    }
}

pub(super) fn count(sent: &[String], source: &str) -> usize {
    sent.iter().filter(|sent| *sent == source).count()
}

/// Of a source that was used at `x.example`.
pub(super) fn score(bench: &Bench, source: &str, provider: &str) -> u16 {
    let site = SiteName::new("x.example");
    let rows = bench.brain.source_rows(&site, provider, bench.now);
    let row = rows.iter().find(|row| *row.source == *source);
    row.unwrap().score
}

pub(super) fn blocked() -> Outcome {
    let (enhanced, text) = Enhanced::parse_prefix(BLOCKED).unwrap();
    let reply = Reply::new(450, Some(enhanced), text);
    Outcome::Deferred(Cause::Reply {
        stage: Stage::Mail,
        reply,
    })
}

#[test]
fn work_goes_by_the_weights_of_the_pool_and_records_name_the_source() {
    let mut bench = bench(fleet(&[("a", "192.0.2.1", 3), ("b", "192.0.2.2", 1)]), "");
    bench.queue("x.example", 40);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (30, 10));
    bench.commit(&["a@x.example"]);
    let c = bench.asked().wakes[0];
    let source = bench.source_of(c);
    bench.transact(c, &delivered());
    let record = &bench.asked().batches[0].records[0];
    assert_eq!(record["egress_source"], source.as_str());
}

#[test]
fn a_source_blocked_at_one_site_steps_aside_there_alone_and_its_work_moves() {
    let mut bench = bench(two(), "connection_limit = 4");
    bench.queue("x.example", 20);
    bench.queue("y.example", 20);
    let sent = bench.carry(|source, site| match (source, site) {
        ("a", "x.example") => blocked(),
        _ => delivered(),
    });
    // The first one at x was a's; y goes on by both.
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (11, 29));
    assert!(matches!(
        bench.standing("x.example", "a"),
        Standing::Aside { .. }
    ));
    assert_eq!(bench.standing("y.example", "a"), Standing::Well);
    assert_eq!(bench.attempts(), [1], "only what was refused was attempted");
}

#[test]
fn a_source_returns_by_one_message_that_is_taken() {
    let mut bench = bench(two(), "");
    bench.queue("x.example", 2);
    bench.carry(|source, _| {
        if source == "a" {
            blocked()
        } else {
            delivered()
        }
    });
    let Standing::Aside { until, .. } = bench.standing("x.example", "a") else {
        panic!("a is aside");
    };
    bench.brain.handle_flush(None, bench.now);
    assert_eq!(
        bench.carry(|_, _| delivered()),
        ["b"],
        "not before its time"
    );
    bench.wait(until.since(bench.now));
    bench.queue("x.example", 10);
    let asked = bench.answer_loads();
    let lane = |c: &&ConnectionId| bench.source_of(**c) == "a";
    let probe = *asked.connects.iter().find(lane).unwrap();
    let lane = bench.brain.connections[&probe].lane;
    assert_eq!(bench.brain.lanes[lane].demand(), 1, "one message tries it");
    bench.brain.handle_connected(probe, bench.now);
    bench.transact(probe, &delivered());
    assert_eq!(bench.standing("x.example", "a"), Standing::Well);
    bench.carry(|_, _| delivered());
    bench.queue("x.example", 10);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(count(&sent, "a"), 5);
}

#[test]
fn no_other_source_is_tried_for_a_verdict_on_content_or_domain() {
    for text in [
        "5.7.1 message content looks like spam, see our block list",
        "5.7.26 fails to pass authentication checks, ip reputation",
        "5.1.1 no such user",
    ] {
        let mut bench = bench(two(), "connection_limit = 4");
        bench.queue("x.example", 20);
        let (enhanced, text) = Enhanced::parse_prefix(text).unwrap();
        let reply = Reply::new(550, Some(enhanced), text);
        let stage = Stage::Dot;
        let sent = bench.carry(|_, _| {
            let reply = reply.clone();
            Outcome::Refused(Cause::Reply { stage, reply })
        });
        assert_eq!((count(&sent, "a"), count(&sent, "b")), (10, 10), "{text}");
        assert_eq!(bench.standing("x.example", "a"), Standing::Well);
        assert_eq!(bench.standing("x.example", "b"), Standing::Well);
    }
}

#[test]
fn work_of_a_suspended_source_moves_without_an_attempt() {
    let mut bench = bench(two(), "");
    bench.queue("x.example", 20);
    let first = bench.answer_loads().connects;
    bench.suspend(0);
    for c in first
        .iter()
        .copied()
        .filter(|c| bench.source_of(*c) == "a")
        .collect::<Vec<_>>()
    {
        let why = Cause::Ours {
            detail: "the proxy is dead".into(),
        };
        let until = bench.now + MINUTE;
        bench.brain.handle_no_source(c, why, until, bench.now);
    }
    let asked = bench.answer_loads();
    assert!(asked.batches.is_empty(), "{:?}", asked.batches);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (0, 20));
}

#[test]
fn where_no_source_is_of_use_work_waits_with_the_reason_until_one_is_back() {
    let mut bench = bench(two(), "");
    bench.suspend(0);
    bench.suspend(1);
    bench.queue("x.example", 5);
    assert!(bench.answer_loads().connects.is_empty());
    let rows = bench.brain.list(9, &Whose::default(), bench.now);
    assert!(
        rows[0].why.contains("a (the proxy is dead), b"),
        "{}",
        rows[0].why
    );
    assert!(rows[0].paused_until.is_some());
    bench.brain.handle_source_resumed(SourceId(1), bench.now);
    bench.brain.handle_timeout(bench.now);
    assert_eq!(bench.carry(|_, _| delivered()), ["b"; 5]);
    assert!(bench.attempts().is_empty());
}

#[test]
fn what_waits_for_a_source_expires_in_time_and_says_for_what() {
    let mut bench = bench(two(), "");
    bench.suspend(0);
    bench.suspend(1);
    bench.queue("x.example", 1);
    bench.asked();
    let max_age = bench.brain.config.schedule.max_age;
    let mut records = Vec::new();
    while bench.brain.counters().queued == 1 && bench.now < T0 + max_age + HOUR {
        bench.wait_for_timer();
        for _ in 0..3 {
            let batches = bench.answer_loads().batches;
            records.extend(batches.into_iter().flat_map(|batch| batch.records));
        }
    }
    let said = records[0]["response"]["content"].as_str().unwrap();
    assert!(said.contains("a (the proxy is dead), b"), "{said}");
    assert!(bench.now.since(T0) <= max_age + MINUTE);
    assert_eq!(bench.brain.counters().expired, 1);
}

#[test]
fn limits_are_those_of_the_source() {
    let rules = "[\"x.example\"]\nmx_rollup = false\n\
                 [\"x.example\".sources.\"a\"]\nconnection_limit = 2\n\
                 [source.\"b\"]\nconnection_limit = 3";
    let mut bench = bench(two(), rules);
    bench.queue("x.example", 400);
    let open = bench.answer_loads().connects;
    let of = |source| {
        open.iter()
            .filter(|c| bench.source_of(**c) == source)
            .count()
    };
    assert_eq!((of("a"), of("b")), (2, 3));
}

#[test]
fn what_a_rate_leaves_no_room_for_goes_by_another_source() {
    let rules = "[source.\"a\"]\nmax_message_rate = \"1/s,max_burst=1\"\n\
                 [source.\"b\"]\nmax_message_rate = \"10/s,max_burst=1\"";
    let mut bench = bench(two(), rules);
    bench.queue("x.example", 220);
    let sent = bench.run(18 * SECOND);
    // 11 permits a second, and each is used while there is work.
    assert!((198..=202).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn a_selection_rate_bounds_how_often_a_source_is_picked() {
    let rules = "[source.\"a\"]\nsource_selection_rate = \"6/min,max_burst=1\"";
    let mut bench = bench(two(), rules);
    bench.queue("x.example", 20);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (1, 19));
    let mut bench = self::bench(fleet(&[("a", "192.0.2.1", 1)]), rules);
    bench.queue("x.example", 6);
    let sent = bench.run(MINUTE);
    let at: Vec<u64> = sent.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at, [0, 10, 20, 30, 40, 50], "others wait for the next");
}

fn ladder(source: u32, caps: &[u32]) -> LadderPlan {
    LadderPlan {
        source: SourceId(source),
        providers: Vec::new(),
        ladder: Arc::new(Ladder::new(caps).unwrap()),
    }
}

#[test]
fn a_young_source_sends_its_day_and_the_rest_goes_by_warm_ones() {
    let sources = [("a", "192.0.2.1", 1), ("b", "192.0.2.2", 1)];
    let mut bench = bench(
        fleet_with(&sources, vec![ladder(0, &[5, 8])], Vec::new()),
        "",
    );
    bench.queue("x.example", 30);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (5, 25));
    bench.wait(DAY);
    bench.queue("x.example", 30);
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(count(&sent, "a"), 8, "the day went well");
    // After a restart the day is as it was.
    let before = bench.brain.config.fleet.snapshot();
    let mut later = self::bench(fleet_with(&sources, vec![ladder(0, &[5, 8])], before), "");
    later.now = bench.now;
    later.queue("x.example", 10);
    assert_eq!(count(&later.carry(|_, _| delivered()), "a"), 0);
}

#[test]
fn where_all_sources_are_young_the_rest_waits_for_the_next_day() {
    let sources = [("a", "192.0.2.1", 1)];
    let mut bench = bench(
        fleet_with(&sources, vec![ladder(0, &[5, 8])], Vec::new()),
        "",
    );
    bench.queue("x.example", 12);
    assert_eq!(bench.carry(|_, _| delivered()).len(), 5);
    let rows = bench.brain.list(9, &Whose::default(), bench.now);
    assert!(
        rows[0].why.contains("has sent its 5 of today"),
        "{}",
        rows[0].why
    );
    let sent = bench.run(DAY);
    assert_eq!(sent.len(), 7);
    assert!(sent[0].0 >= 12 * HOUR, "T0 is in the morning: {sent:?}");
}

#[test]
fn messages_that_move_are_not_counted_against_the_day() {
    let sources = [("a", "192.0.2.1", 1), ("b", "192.0.2.2", 1)];
    let mut bench = bench(fleet_with(&sources, vec![ladder(0, &[50])], Vec::new()), "");
    bench.queue("x.example", 20);
    let sent = |bench: &Bench| bench.brain.config.fleet.warmups()[0].today(bench.now).sent;
    assert_eq!(sent(&bench), 10);
    bench.suspend(0);
    bench.answer_loads();
    assert_eq!(sent(&bench), 0);
}

#[test]
fn only_a_source_of_the_hosts_family_is_chosen() {
    let mut bench = bench(fleet(&[("a", "2001:db8::1", 9), ("b", "192.0.2.2", 1)]), "");
    bench.queue("x.example", 10);
    assert_eq!(bench.carry(|_, _| delivered()), ["b"; 10]);
    let mut bench = self::bench(fleet(&[("a", "2001:db8::1", 1)]), "");
    bench.queue("x.example", 1);
    assert!(bench.answer_loads().connects.is_empty());
    let rows = bench.brain.list(9, &Whose::default(), bench.now);
    assert!(
        rows[0].why.contains("reaches no address"),
        "{}",
        rows[0].why
    );
    assert_eq!(bench.attempts(), [0]);
}

#[test]
fn a_dead_site_is_tried_by_one_message_at_a_time() {
    let mut bench = bench(two(), "");
    bench.queue("x.example", 500);
    let mut tried = 0;
    let end = bench.now + HOUR;
    while bench.now < end {
        let asked = bench.answer_loads();
        tried += asked.connects.len();
        for c in asked.connects {
            bench.connect_fails(c);
        }
        bench.answer_loads();
        if bench.brain.poll_timeout().is_none() {
            break;
        }
        bench.wait_for_timer();
    }
    assert!((4..80).contains(&tried), "{tried} connections in an hour");
    let attempts: usize = bench.attempts().into_iter().map(usize::from).sum();
    assert!(
        attempts <= tried,
        "{attempts} attempts by {tried} connections"
    );
    // Once it answers, all goes.
    bench.brain.handle_flush(None, bench.now);
    bench.wait(HOUR);
    let mut delivered_all = 0;
    while bench.brain.counters().queued > 0 {
        delivered_all += bench.carry(|_, _| delivered()).len();
        if bench.brain.poll_timeout().is_none() {
            break;
        }
        bench.wait_for_timer();
    }
    assert_eq!(delivered_all, 500);
}

#[test]
fn weights_follow_the_hours_of_the_pools_zone() {
    let member = |id, name: &str, weight, off_hours| Member {
        source: SourceId(id),
        name: name.into(),
        weight,
        off_hours: Some(off_hours),
    };
    let hours = Hours {
        days: Days::WORKING,
        from: 9 * 60,
        to: 17 * 60,
        offset: 0,
    };
    let pool = PoolPlan {
        name: "default".into(),
        members: vec![member(0, "day", 1, 0), member(1, "night", 0, 1)],
        hours: Some((hours, Zone::find("Europe/Berlin").unwrap())),
        selection: Selection::Weighted,
        rules: HealthRules::default(),
    };
    let sources = vec![Source::new("day", None), Source::new("night", None)];
    let mut bench = bench(Fleet::new(sources, vec![pool], Vec::new(), Vec::new()), "");
    // T0 is a Friday in January, 08:00 UTC.
    for (wait, source) in [(0, "day"), (8, "night"), (16 + 48, "day")] {
        bench.wait(wait * HOUR);
        bench.queue("x.example", 3);
        assert_eq!(bench.carry(|_, _| delivered()), [source; 3]);
    }
    // In July the same hours begin at 07:00 UTC.
    bench.now = Moment::from_secs(1_815_000_000 / 86_400 * 86_400 + 7 * 3600);
    bench.wait(MINUTE);
    bench.queue("x.example", 3);
    assert_eq!(bench.carry(|_, _| delivered()), ["day"; 3]);
}

#[test]
fn domains_of_one_site_go_together_by_one_source() {
    let mut bench = bench(two(), "");
    for domain in ["x.example", "y.example", "z.example"] {
        bench.commit(&[&format!("a@{domain}")]);
        bench.asked();
        bench.route_to(domain, "site");
    }
    bench.carry(|_, _| delivered());
    for _ in 0..4 {
        bench.commit(&["a@x.example", "b@y.example", "c@z.example"]);
    }
    let sent = bench.carry(|_, _| delivered());
    assert_eq!(
        (count(&sent, "a"), count(&sent, "b")),
        (2, 2),
        "one transaction each"
    );
    assert_eq!(bench.brain.counters().queued, 0);
}

#[test]
fn another_shard_that_is_told_lets_the_source_be_too() {
    let mut one = bench(two(), "connection_limit = 1");
    one.queue("x.example", 10);
    one.carry(|source, _| {
        if source == "a" {
            blocked()
        } else {
            delivered()
        }
    });
    let mut other = bench(two(), "connection_limit = 1");
    other.queue("x.example", 10);
    assert!(!one.news.is_empty());
    for news in &one.news {
        other.brain.handle_news(news, other.now);
    }
    let sent = other.carry(|_, _| delivered());
    assert_eq!((count(&sent, "a"), count(&sent, "b")), (0, 10));
    assert!(matches!(
        other.standing("x.example", "a"),
        Standing::Aside { .. }
    ));
}

#[test]
fn lanes_and_gates_end_with_their_domains() {
    let mut bench = bench(two(), "idle_timeout = \"1s\"");
    bench.queue("x.example", 10);
    bench.carry(|_, _| delivered());
    while bench.brain.poll_timeout().is_some() {
        bench.wait_for_timer();
        for c in bench.asked().quits {
            bench.brain.handle_closed(c, None, bench.now);
        }
    }
    assert_eq!(bench.brain.known(), (0, 0));
}

#[test]
fn without_a_source_that_is_enabled_work_waits() {
    let pool = PoolPlan {
        name: "default".into(),
        members: Vec::new(),
        hours: None,
        selection: Selection::Weighted,
        rules: HealthRules::default(),
    };
    let mut bench = bench(
        Fleet::new(Vec::new(), vec![pool], Vec::new(), Vec::new()),
        "",
    );
    bench.queue("x.example", 1);
    assert!(bench.answer_loads().connects.is_empty());
    let rows = bench.brain.list(9, &Whose::default(), bench.now);
    assert_eq!(&*rows[0].why, "no source is enabled");
}

#[test]
fn complaints_cost_a_source_its_score_there_and_its_day() {
    let sources = [("a", "192.0.2.1", 1), ("b", "192.0.2.2", 1)];
    let mut bench = bench(
        fleet_with(&sources, vec![ladder(0, &[50, 80])], Vec::new()),
        "",
    );
    bench.queue("x.example", 40);
    bench.carry(|_, _| delivered());
    assert_eq!(score(&bench, "a", "others"), 1000);
    bench
        .brain
        .handle_complaint(SourceId(0), "others", bench.now);
    assert!(score(&bench, "a", "others") < 150, "one in twenty is many");
    assert_eq!(score(&bench, "a", "google"), 1000);
    assert_eq!(score(&bench, "b", "others"), 1000);
    bench.wait(Duration::from_secs(10));
    bench.asked();
    let counted = bench.news.iter().find_map(|news| match &**news {
        News::Counted(states) => states.iter().find(|state| state.complained > 0.5).cloned(),
        News::Standing { .. } | News::Suspended { .. } => None,
    });
    assert_eq!(&*counted.expect("others are told").source, "a");
    bench.wait(DAY);
    bench.queue("x.example", 1);
    let day = bench.brain.config.fleet.warmups()[0].today(bench.now).day;
    assert_eq!(day, 1, "a day with complaints did not go well");
}

#[test]
fn tenants_that_wait_for_a_source_take_turns_by_their_weight() {
    let rules = "connection_limit = 1\nmax_message_rate = \"60/min,max_burst=1\"\n[tenant.heavy]\nweight = 3\n";
    // With all messages at hand, with none, and with those of the first to come only.
    for held_octets_max in [1 << 20, 0, 80_000] {
        let config = Config {
            fleet: Arc::new(two()),
            held_octets_max,
            ..Config::default()
        };
        let mut bench = Bench::shaped(config, rules);
        for tenant in ["light", "heavy"] {
            let labels = Labels::new(Some(tenant), None, None);
            for _ in 0..200 {
                bench.commit_of(&labels, &["a@x.example"]);
            }
        }
        bench.asked();
        bench.route("x.example");
        let mut sent = Vec::new();
        bench.brain.handle_timeout(bench.now);
        bench.run_told(60 * SECOND, |_, _, message| {
            sent.push(message.labels.clone())
        });
        // What was let through before the other came goes first.
        let contended = &sent[20..];
        let is_heavy = |labels: &&Labels| labels.tenant() == Some("heavy");
        let heavy = contended.iter().filter(is_heavy).count();
        let fair = contended.len() * 3 / 4;
        assert!(contended.len() > 80, "{}", sent.len());
        assert!(
            heavy.abs_diff(fair) <= fair / 20,
            "{heavy} of {}",
            contended.len()
        );
    }
}
