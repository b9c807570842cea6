//! Rules that act: from a reply to what holds because of it.

use super::egress::{bench, count, two};
use super::*;
use crate::dispatch::{Automaton, Deed, Step};
use crate::egress::Source;
use crate::shaping::{Key, TargetKind, Wish};

const SECOND: Duration = Duration::from_secs(1);

/// One rule of the site, with these further keys.
fn rule(further: &str) -> String {
    format!(
        "connection_limit = 4\n[[\"x.example\".automation]]\nregex = \"ZZ01\"\nduration = \"10m\"\n{further}\n"
    )
}

fn deferred(text: &str) -> Outcome {
    Outcome::Deferred(Cause::Reply {
        stage: Stage::Dot,
        reply: Reply::new(421, Some(Enhanced::new(4, 7, 0)), text),
    })
}

/// A node's automation beside its shard.
#[derive(Default)]
struct Pilot {
    automaton: Automaton,
    told: Vec<String>,
    renewals: usize,
    bounces: Vec<(Whose, Box<str>)>,
}

impl Pilot {
    /// Does what the rules that were set off ask for; how many overrides that were.
    fn act(&mut self, bench: &mut Bench) -> usize {
        bench.asked();
        let mut shapes = Shapes::clone(&bench.brain.shapes);
        let fleet = Arc::clone(&bench.brain.config.fleet);
        let mut set = 0;
        for firing in core::mem::take(&mut bench.fired) {
            let step = self
                .automaton
                .handle_firing(&firing, &shapes, fleet.sources(), bench.now);
            let Step {
                wishes,
                renewals,
                bounces,
                told,
            } = step;
            self.renewals += renewals.len();
            for wish in renewals {
                shapes.overrides.set(wish, bench.now).unwrap();
            }
            for wish in wishes {
                shapes.overrides.set(wish, bench.now).unwrap();
                set += 1;
            }
            self.bounces.extend(bounces);
            self.told.extend(told);
        }
        bench.brain.handle_shaping(Arc::new(shapes), bench.now);
        set
    }

    fn done(&self) -> Vec<&str> {
        let acts = self.automaton.acts();
        acts.flat_map(|act| &act.done).map(|done| &**done).collect()
    }
}

fn overrides(bench: &Bench) -> Vec<String> {
    let all = bench.brain.shapes.overrides.iter();
    all.map(|set| {
        let Wish {
            kind,
            name,
            source,
            key,
            value,
            ..
        } = &set.wish;
        let source = source.as_deref().unwrap_or("-");
        format!("{} {name} {source} {} {value}", kind.name(), key.name())
    })
    .collect()
}

/// What one reply to mail of these labels brings about.
fn of_one(rules: &str, labels: &Labels, text: &str) -> (Bench, Pilot) {
    let mut bench = bench(two(), rules);
    bench.commit_of(labels, &["a@x.example"]);
    bench.asked();
    bench.route("x.example");
    bench.carry(|_, _| deferred(text));
    let mut pilot = Pilot::default();
    pilot.act(&mut bench);
    (bench, pilot)
}

fn acme() -> Labels {
    Labels::new(Some("acme"), Some("spring"), None)
}

#[test]
fn a_source_is_suspended_at_the_nth_reply_of_a_period_there_alone_and_until_it_is_over() {
    let rules = rule("action = \"Suspend\"\ntrigger = { Threshold = \"3/m\" }");
    let mut bench = bench(two(), &rules);
    let mut pilot = Pilot::default();
    bench.queue("x.example", 4);
    bench.carry(|source, _| match source {
        "a" => deferred("ZZ01 later"),
        _ => delivered(),
    });
    assert_eq!(pilot.act(&mut bench), 0, "two are not enough");
    bench.now = bench.now + 10 * SECOND;
    bench.queue("x.example", 2);
    bench.carry(|source, _| match source {
        "a" => deferred("ZZ01 later"),
        _ => delivered(),
    });
    assert_eq!(pilot.act(&mut bench), 1);
    assert_eq!(
        overrides(&bench),
        ["site x.example a suspended true"],
        "{:?}",
        pilot.told
    );
    assert_eq!(pilot.told.len(), 1);
    let told = &pilot.told[0];
    assert!(
        told.contains("t.toml:3:1")
            && told.contains("a at x.example")
            && told.contains("ZZ01 later"),
        "{told}"
    );
    bench.queue("x.example", 10);
    bench.queue("y.example", 10);
    let seen = core::cell::RefCell::new(BTreeMap::new());
    bench.carry(|source, site| {
        let place = (site.to_owned(), source.to_owned());
        *seen.borrow_mut().entry(place).or_insert(0) += 1;
        delivered()
    });
    let seen = seen.into_inner();
    let of = |site: &str, source: &str| seen.get(&(site.into(), source.into())).copied();
    assert_eq!(of("x.example", "a"), None, "{seen:?}");
    assert!(of("x.example", "b") >= Some(10), "{seen:?}");
    assert_eq!(
        of("y.example", "a"),
        Some(5),
        "elsewhere it goes on: {seen:?}"
    );
    bench.wait(10 * MINUTE + SECOND);
    bench.queue("x.example", 10);
    let sent = bench.carry(|_, _| delivered());
    assert!(count(&sent, "a") >= 4, "it is over: {sent:?}");
}

#[test]
fn replies_by_the_thousand_set_an_override_once_and_prolong_it_by_and_by() {
    let rules = rule("action = \"Suspend\"");
    let (mut bench, _) = of_one("", &Labels::default(), "nothing");
    bench.reshape(&rules);
    bench.queue("x.example", 1);
    bench.carry(|_, _| deferred("ZZ01"));
    bench.asked();
    let firing = bench.fired.remove(0);
    let mut pilot = Pilot::default();
    let mut set = 0;
    for _ in 0..1000 {
        bench.now = bench.now + SECOND / 5;
        bench.fired.push(firing.clone());
        set += pilot.act(&mut bench);
    }
    // Two hundred seconds, and ten minutes are prolonged by a quarter at a time.
    assert_eq!((set, pilot.renewals), (1, 1));
    assert_eq!(pilot.told.len(), 1, "{:?}", pilot.told);
    let act = pilot.automaton.acts().next().unwrap();
    assert_eq!(act.matches, 1000);
    assert_eq!(act.until, Some(bench.now + 10 * MINUTE));
}

#[test]
fn each_action_is_about_whom_it_says_and_a_verdict_on_the_sender_about_no_source() {
    let set = "{ SetConfig = { name = \"max_message_rate\", value = \"5/m\" } }";
    let of_domain = "{ SetDomainConfig = { name = \"connection_limit\", value = 1 } }";
    for (further, text, holds) in [
        (
            "action = \"Suspend\"",
            "ZZ01",
            "site x.example a suspended true",
        ),
        (
            "action = \"Suspend\"\nscope = \"tenant\"",
            "ZZ01",
            "queue acme/*/x.example - suspended true",
        ),
        (
            "action = \"Suspend\"",
            "ZZ01 spam message",
            "queue acme/*/x.example - suspended true",
        ),
        (
            "action = \"Suspend\"\nscope = \"source\"",
            "ZZ01 spam message",
            "site x.example a suspended true",
        ),
        (
            "action = \"SuspendTenant\"",
            "ZZ01",
            "queue acme/*/x.example - suspended true",
        ),
        (
            "action = \"SuspendCampaign\"",
            "ZZ01",
            "queue acme/spring/x.example - suspended true",
        ),
        (
            &*format!("action = {set}"),
            "ZZ01",
            "site x.example a max_message_rate 5/m",
        ),
        (
            &*format!("action = {set}\nscope = \"dkim-domain\""),
            "ZZ01",
            "queue acme/*/x.example - max_message_rate 5/m",
        ),
        (
            &*format!("action = {of_domain}"),
            "ZZ01",
            "domain x.example a connection_limit 1",
        ),
        (
            "action = { SetConfig = { name = \"connect_timeout\", value = \"9s\" } }\nscope = \"tenant\"",
            "ZZ01",
            "site x.example - connect_timeout 9s",
        ),
    ] {
        let (bench, pilot) = of_one(&rule(further), &acme(), text);
        assert_eq!(overrides(&bench), [holds], "{further}: {:?}", pilot.done());
    }
}

/// What is of the default is nobody else's: without a name it would be everybody's.
#[test]
fn mail_of_nobody_is_nobody_elses() {
    let campaign = Labels::new(None, Some("spring"), None);
    for (action, labels, holds) in [
        (
            "SuspendTenant",
            Labels::default(),
            Err("the mail is of no tenant"),
        ),
        (
            "SuspendCampaign",
            Labels::default(),
            Err("the mail is of no campaign"),
        ),
        (
            "BounceTenant",
            Labels::default(),
            Err("the mail is of no tenant"),
        ),
        (
            "SuspendCampaign",
            campaign.clone(),
            Ok("queue default/spring/x.example - suspended true"),
        ),
        (
            "Suspend\"\nscope = \"tenant",
            Labels::default(),
            Ok("queue default/*/x.example - suspended true"),
        ),
    ] {
        let rules = rule(&format!("action = \"{action}\""));
        let (bench, pilot) = of_one(&rules, &labels, "ZZ01");
        assert!(pilot.bounces.is_empty());
        match holds {
            Ok(holds) => assert_eq!(overrides(&bench), [holds], "{action}"),
            Err(why) => {
                assert!(overrides(&bench).is_empty(), "{action}");
                assert_eq!(pilot.done(), [format!("nothing: {why}")]);
            }
        }
    }
    let (_, pilot) = of_one(&rule("action = \"BounceCampaign\""), &campaign, "ZZ01");
    assert_eq!(pilot.bounces[0].0.tenant.as_deref(), Some("default"));
}

#[test]
fn a_suspended_tenant_waits_and_others_go_on() {
    let rules = rule("action = \"SuspendTenant\"");
    let (mut bench, _) = of_one(&rules, &acme(), "ZZ01");
    let other = Labels::new(Some("other"), None, None);
    for _ in 0..5 {
        bench.commit_of(&acme(), &["b@x.example"]);
        bench.commit_of(&other, &["c@x.example"]);
    }
    bench.asked();
    bench.route("x.example");
    assert_eq!(bench.carry(|_, _| delivered()).len(), 5);
    bench.wait(10 * MINUTE + SECOND);
    assert!(bench.carry(|_, _| delivered()).len() >= 5);
}

#[test]
fn who_only_observes_or_advises_does_nothing() {
    for (mode, told) in [("observe", 0), ("advise", 1)] {
        let rules = rule(&format!("action = \"Suspend\"\nmode = \"{mode}\""));
        let (bench, pilot) = of_one(&rules, &Labels::default(), "ZZ01");
        assert!(overrides(&bench).is_empty());
        assert_eq!(pilot.told.len(), told, "{mode}");
        assert_eq!(pilot.done(), ["suspended = true for site x.example from a"]);
    }
}

#[test]
fn no_trouble_makes_anything_faster_and_no_rule_undoes_an_operator() {
    let set = |key: &str, value: &str| {
        rule(&format!(
            "action = {{ SetConfig = {{ name = \"{key}\", value = {value} }} }}"
        ))
    };
    for (rules, why) in [
        (
            set("connection_limit", "5"),
            "connection_limit is as low already",
        ),
        (
            set("max_message_rate", "\"7/s\""),
            "max_message_rate is as low already",
        ),
        (
            set("max_deliveries_per_connection", "9"),
            "max_deliveries_per_connection is as low already",
        ),
        (
            set("enable_tls", "\"Required\""),
            "enable_tls TLS is required",
        ),
        (set("max_ready", "10"), "max_ready has no effect"),
    ] {
        let rules =
            format!("max_message_rate = \"6/s\"\nmax_deliveries_per_connection = 8\n{rules}");
        let (bench, pilot) = of_one(&rules, &Labels::default(), "ZZ01");
        assert!(overrides(&bench).is_empty(), "{why}");
        assert!(pilot.done()[0].contains(why), "{:?}: {why}", pilot.done());
    }
    let rules = set("connection_limit", "2");
    let mut bench = bench(two(), &rules);
    bench.queue("x.example", 1);
    let (key, value) = Key::read("connection_limit", "3").unwrap();
    let mut by_operator = Shapes::clone(&bench.brain.shapes);
    let wish = Wish {
        kind: TargetKind::Site,
        name: "x.example".into(),
        source: Some("a".into()),
        key,
        value,
        expires: bench.now + HOUR,
        reason: "they asked".into(),
        by: "op".into(),
    };
    by_operator.overrides.set(wish, bench.now).unwrap();
    bench.brain.handle_shaping(Arc::new(by_operator), bench.now);
    bench.carry(|_, _| deferred("ZZ01"));
    let mut pilot = Pilot::default();
    assert_eq!(pilot.act(&mut bench), 0);
    assert_eq!(
        pilot.done(),
        ["nothing: an operator has set connection_limit"]
    );
}

#[test]
fn a_verdict_on_a_network_is_about_all_sources_in_it() {
    let source = |name: &str, address: &str| Source::new(name, Some(address.parse().unwrap()));
    let sources = [
        source("a", "192.0.2.1"),
        source("b", "192.0.2.2"),
        source("c", "198.51.100.1"),
        source("d", "2001:db8::1"),
    ];
    let rules = rule("action = \"Suspend\"\nscope = \"network\"");
    let (mut bench, _) = of_one(&rules, &Labels::default(), "nothing");
    bench
        .brain
        .handle_shaping(shapes(&rules, &Arc::default()), bench.now);
    bench.queue("x.example", 1);
    bench.carry(|_, _| deferred("ZZ01"));
    bench.asked();
    let firing = bench.fired.remove(0);
    let deeds = firing.deeds(&bench.brain.shapes, &sources, bench.now);
    let names: Vec<&str> = deeds
        .iter()
        .map(|deed| match deed {
            Ok(Deed::Set(wish)) => wish.source.as_deref().unwrap_or("all"),
            Ok(Deed::Bounce { .. }) | Err(_) => panic!("{deed:?}"),
        })
        .collect();
    let used = firing.source.as_deref().unwrap();
    assert!(["a", "b"].contains(&used));
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn mail_of_the_same_is_bounced_once_in_ten_seconds_and_only_while_replies_ask_for_it() {
    let rules = rule("action = \"BounceCampaign\"");
    let (mut bench, mut pilot) = of_one(&rules, &acme(), "ZZ01 no more");
    let whose = Whose {
        tenant: Some("acme".into()),
        campaign: Some("spring".into()),
        domain: Some("x.example".into()),
    };
    let reason = "automation rule: 421 4.7.0 ZZ01 no more";
    assert_eq!(pilot.bounces, [(whose, reason.into())]);
    for (after, bounces) in [(SECOND, 1), (8 * SECOND, 1), (SECOND, 2)] {
        bench.now = bench.now + after;
        bench.commit_of(&acme(), &["b@x.example"]);
        bench.asked();
        bench.carry(|_, _| deferred("ZZ01 no more"));
        bench.wait(Duration::ZERO);
        pilot.act(&mut bench);
        assert_eq!(pilot.bounces.len(), bounces);
    }
}

#[test]
fn a_rule_about_a_recipient_moves_no_source() {
    let rules = rule("action = \"Suspend\"\nscope = \"recipient\"");
    let (bench, pilot) = of_one(&rules, &Labels::default(), "ZZ01");
    assert!(overrides(&bench).is_empty());
    assert_eq!(pilot.done(), ["nothing: the reply is about a recipient"]);
    let act = pilot.automaton.acts().next().unwrap();
    assert_eq!(act.until, None, "nothing holds");
}

#[test]
fn what_an_operator_has_taken_back_is_not_set_anew_before_it_would_have_expired() {
    let rules = rule("action = \"Suspend\"");
    let (mut bench, mut pilot) = of_one(&rules, &Labels::default(), "ZZ01");
    assert_eq!(overrides(&bench).len(), 1);
    let mut shapes = Shapes::clone(&bench.brain.shapes);
    let (site, key) = ("x.example", Key::find("suspended").unwrap());
    let source = Some("a");
    let gone = shapes
        .overrides
        .cancel(TargetKind::Site, site, (source, key));
    assert_eq!(gone.len(), 1);
    bench.brain.handle_shaping(Arc::new(shapes), bench.now);
    for (after, set) in [(MINUTE, 0), (10 * MINUTE, 1)] {
        bench.wait(after);
        bench.queue("x.example", 2);
        bench.carry(|_, _| deferred("ZZ01"));
        let fired = bench.fired.len();
        pilot.act(&mut bench);
        let of_a = overrides(&bench);
        let of_a = of_a.iter().filter(|set| set.contains(" a suspended"));
        assert_eq!(of_a.count(), set, "after {after:?}, {fired} fired");
    }
}

#[test]
fn only_rules_that_ask_for_it_read_what_no_peer_said() {
    let with = |internal: bool| {
        format!(
            "[[\"x.example\".automation]]\nregex = \"refused\"\naction = \"Suspend\"\nduration = \"1m\"\n\
             match_internal = {internal}\n"
        )
    };
    for internal in [false, true] {
        let mut bench = Bench::shaped(Config::default(), &with(internal));
        bench.commit(&["a@x.example"]);
        bench.asked();
        bench.route("x.example");
        let c = bench.asked().connects[0];
        bench.connect_fails(c);
        bench.asked();
        assert_eq!(bench.fired.len(), usize::from(internal));
        let Some(firing) = bench.fired.pop() else {
            continue;
        };
        assert_eq!((firing.source, firing.mail), (None, None));
    }
}

#[test]
fn one_reply_to_a_transaction_is_one_match_for_each_domain_in_it() {
    let rules = rule("action = \"SuspendTenant\"").replace(
        "[[\"x.example\".automation]]",
        "[provider.p]\nmatch = [{ MXSuffix = \"x.example\" }]\n[[provider.p.automation]]",
    );
    let mut bench = Bench::shaped(Config::default(), &rules);
    bench.commit_of(&acme(), &["a@p.example", "b@p.example", "c@q.example"]);
    bench.asked();
    bench.route_to("p.example", "x.example");
    bench.route_to("q.example", "x.example");
    bench.carry(|_, _| deferred("ZZ01"));
    bench.asked();
    let domains = bench.fired.iter().map(|firing| {
        let mail = firing.mail.as_ref().unwrap();
        assert_eq!(mail.labels, acme());
        mail.domain.to_string()
    });
    let domains: BTreeSet<String> = domains.collect();
    assert_eq!(domains.len(), bench.fired.len(), "each once");
    assert_eq!(domains.len(), 2);
}

#[test]
fn a_reply_is_kept_as_one_short_line() {
    let long = format!("ZZ01\r\nnext {}", "ü".repeat(1000));
    let rules = rule("action = \"Suspend\"");
    let mut bench = bench(two(), &rules);
    bench.queue("x.example", 1);
    bench.carry(|_, _| deferred(&long));
    bench.asked();
    let reply = &bench.fired[0].reply;
    assert!(
        reply.len() <= 400 && !reply.contains(char::is_control),
        "{reply}"
    );
}
