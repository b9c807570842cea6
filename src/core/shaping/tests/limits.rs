//! Which limits a message is under, and which bites first.

use super::*;

const FILE: &str = "
[default]
connection_limit = 20
max_message_rate = \"100/s\"
site_connection_limit = 60
additional_message_rate_throttles = { everything = \"1000/s\" }
[provider.p]
match = [{ DomainSuffix = \"x.test\" }]
provider_connection_limit = 8
provider_total_max_message_rate = \"90/s\"
[provider.p.sources.s]
provider_source_selection_rate = \"3/s\"
[source.\"*\"]
connection_limit = 500
[source.s]
max_message_rate = \"70/s\"
[tenant.t]
max_message_rate = \"4,000/m\"
max_deliveries_per_connection = 10
[campaign.c]
connection_limit = 50
[[queue]]
tenant = \"t\"
max_message_rate = \"1/s\"
[[queue]]
tenant = \"t\"
domain = \"X.test\"
max_message_rate = \"65/s\"
[[queue]]
domain = \"x.test\"
connection_limit = 7
";

/// What the limit counts over.
fn counter(limit: &Limit<'_>) -> String {
    format!("{} {}", limit.key.scope.name(), limit.key.name)
}

#[test]
fn every_scope_adds_its_limit_in_a_stable_order() {
    let shaping = shaping(FILE);
    let overrides = Overrides::default();
    let effective = shaping.resolve(&overrides, facts("x.test", &["mx"]), party("s"), NOON);
    let limits: Vec<String> = effective
        .limits()
        .iter()
        .map(|limit| {
            let (limited, line) = (limit.key.limited, limit.place.line);
            format!("{limited:?} {} {} :{line}", counter(limit), limit.amount)
        })
        .collect();
    assert_eq!(
        limits,
        [
            "Connections lane s->mx 20 :3",
            "Connections site mx 60 :5",
            "Connections provider and source s->p 8 :9",
            "Connections source s 500 :14",
            "Connections campaign c 50 :21",
            "Connections queue */*/x.test 7 :31",
            "Selections provider and source s->p 3/s :12",
            "Messages lane s->mx 100/s :4",
            "Messages provider p 90/s :10",
            "Messages source s 70/s :16",
            "Messages tenant t 4000/m :18",
            "Messages queue t/*/x.test 65/s :28",
            "Messages named everything 1000/s :6",
            "MessagesPerConnection lane s->mx local:1024 :8",
            "MessagesPerConnection tenant t local:10 :19",
            "RecipientsPerTransaction lane s->mx local:100 :10",
        ]
    );
}

#[test]
fn the_tightest_is_named() {
    let shaping = shaping(FILE);
    let overrides = Overrides::default();
    let resolve = |domain, tenant| {
        let who = Party {
            source: "s",
            tenant,
            campaign: "c",
        };
        shaping.resolve(&overrides, facts(domain, &["mx"]), who, NOON)
    };
    let tightest = |effective: &Effective<'_>, limited| {
        let limit = effective.tightest(limited).unwrap();
        format!("{} {}", counter(&limit), limit.amount)
    };
    let with = resolve("x.test", "t");
    assert_eq!(tightest(&with, Limited::Messages), "queue t/*/x.test 65/s");
    assert_eq!(tightest(&with, Limited::Connections), "queue */*/x.test 7");
    assert_eq!(
        tightest(&with, Limited::MessagesPerConnection),
        "tenant t local:10"
    );
    let elsewhere = resolve("y.test", "t");
    assert_eq!(tightest(&elsewhere, Limited::Messages), "queue t/*/* 1/s");
    assert_eq!(tightest(&elsewhere, Limited::Connections), "lane s->mx 20");
    let nobody = resolve("y.test", "u");
    assert_eq!(tightest(&nobody, Limited::Messages), "source s 70/s");
}

#[test]
fn a_tenants_overlay_and_override_move_its_limit() {
    let shaping = shaping(
        "[tenant.\"*\"]\nmax_message_rate = \"1/s\"\n[tenant.t]\nbusiness_hours = { timezone = \"UTC\", days = \"mon-sun\", from = \"10:00\", to = \"12:00\", max_message_rate = \"2/s\" }\n",
    );
    let mut overrides = Overrides::default();
    let rate = |overrides: &Overrides, tenant, hours: u64| {
        let who = Party {
            source: "s",
            tenant,
            campaign: "c",
        };
        let now = NOON + core::time::Duration::from_secs(hours * 3_600);
        let effective = shaping.resolve(overrides, facts("x.test", &[]), who, now);
        effective
            .tightest(Limited::Messages)
            .unwrap()
            .amount
            .to_string()
    };
    assert_eq!(rate(&overrides, "t", 0), "2/s");
    assert_eq!(rate(&overrides, "t", 1), "1/s");
    assert_eq!(rate(&overrides, "any", 0), "1/s");
    let (key, value) = Key::read("max_message_rate", "9/s").unwrap();
    let wish = Wish {
        kind: TargetKind::Tenant,
        name: "t".into(),
        source: None,
        key,
        value,
        expires: NOON + core::time::Duration::from_secs(60),
        reason: "test".into(),
        by: "me".into(),
    };
    overrides.set(wish, NOON).unwrap();
    assert_eq!(rate(&overrides, "t", 0), "9/s");
    assert_eq!(rate(&overrides, "t", 1), "1/s");
}
