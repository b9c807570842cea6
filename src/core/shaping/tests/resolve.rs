//! Which blocks hold for a path, and when.

use core::time::Duration;

use super::*;

fn at(text: &str) -> Moment {
    let stamp: jiff::Timestamp = text.parse().unwrap();
    Moment::from_micros(u64::try_from(stamp.as_microsecond()).unwrap())
}

#[test]
fn a_provider_is_known_by_its_domain_or_by_all_its_hosts() {
    let shaping = shaping(
        "[provider.a]\nmatch = [{ MXSuffix = \".A.test.\" }, { HostName = \"mx.b.test\" }]\n\
         [provider.d]\nmatch = [{ DomainSuffix = \"d.test\" }]\n\
         [provider.e]\nmatch = [{ DomainSuffix = \"d.test\" }, { MXSuffix = \".c.test\" }]\n\
         [provider.none]\n",
    );
    let overrides = Overrides::default();
    let providers = |domain, hosts: &[&str]| {
        let effective = shaping.resolve(&overrides, facts(domain, hosts), party("s"), NOON);
        effective
            .providers()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (domain, hosts, is) in [
        ("x.test", &["1.a.test", "mx.b.test"][..], "a"),
        ("x.test", &["1.a.test", "2.b.test"], ""),
        ("x.test", &["mx.b.test"], "a"),
        ("x.test", &["x.mx.b.test"], ""),
        ("x.test", &["a.test"], ""),
        ("sub.d.test", &["1.a.test"], "a d e"),
        // Plain text, not labels: as in KumoMTA.
        ("bad.test", &["1.a.test"], "a d e"),
        ("b.test", &["1.a.test"], "a"),
        ("foo.test", &[], ""),
        ("d.test", &["1.c.test", "2.x.test"], "d e"),
        ("y.test", &["1.c.test", "2.c.test"], "e"),
    ] {
        assert_eq!(providers(domain, hosts), is, "{domain} {hosts:?}");
    }
}

#[test]
fn a_domains_block_holds_for_its_site_once_that_is_known() {
    let mut shaping = shaping(
        "[\"one.test\"]\nmax_ready = 5\n[\"two.test\"]\nmx_rollup = false\nmax_recipients_per_batch = 6\n\
         [\"three.test\"]\nmx_hosts = [\"MX.three.test.\"]\n",
    );
    let overrides = Overrides::default();
    let to_find: Vec<(&str, Option<&str>)> = shaping
        .domains_to_find()
        .map(|one| (one.domain, one.mx_hosts.map(|hosts| &*hosts[0])))
        .collect();
    assert_eq!(
        to_find,
        [("one.test", None), ("three.test", Some("mx.three.test"))]
    );
    let ready = |shaping: &Shaping, domain, host| {
        let hosts = [host];
        let effective = shaping.resolve(&overrides, facts(domain, &hosts), party("s"), NOON);
        (
            value(&effective, "max_ready"),
            value(&effective, "max_recipients_per_batch"),
        )
    };
    assert_eq!(
        ready(&shaping, "one.test", "mx.test").0,
        "5",
        "for itself at least"
    );
    assert_eq!(ready(&shaping, "other.test", "mx.test").0, "1024");
    shaping.place_sites(&found(&[("one.test", "mx.test")]));
    assert_eq!(ready(&shaping, "one.test", "mx.test").0, "5");
    assert_eq!(ready(&shaping, "other.test", "mx.test").0, "5");
    assert_eq!(
        ready(&shaping, "two.test", "mx.test"),
        ("5".into(), "6".into())
    );
    assert_eq!(
        ready(&shaping, "one.test", "moved.test").0,
        "5",
        "its block goes where it goes"
    );
    assert_eq!(ready(&shaping, "other.test", "moved.test").0, "1024");
}

#[test]
fn overlays_hold_by_the_hour_and_say_when_they_change() {
    let shaping = shaping(
        "[provider.p]\nmatch = [{ DomainSuffix = \".test\" }]\nmax_message_rate = \"1/s\"\n\
         business_hours = { timezone = \"Europe/Berlin\", from = \"08:00\", to = \"18:00\", max_message_rate = \"2/s\" }\n\
         off_hours = { max_message_rate = \"3/s\" }\n\
         [provider.p.sources.s]\n\
         business_hours = { timezone = \"Asia/Tokyo\", days = \"sat\", from = \"10:00\", to = \"11:00\", max_message_rate = \"4/s\" }\n",
    );
    let overrides = Overrides::default();
    let look = |now: &str, source| {
        let effective = shaping.resolve(&overrides, facts("x.test", &[]), party(source), at(now));
        let until = effective.until().rfc3339().to_string();
        (
            value(&effective, "max_message_rate"),
            until[..16].to_owned(),
        )
    };
    let is = |rate: &str, until: &str| (rate.to_owned(), until.to_owned());
    assert_eq!(
        look("2026-11-24T08:00:00Z", "other"),
        is("2/s", "2026-11-24T17:00")
    );
    assert_eq!(
        look("2026-11-24T18:00:00Z", "other"),
        is("3/s", "2026-11-25T07:00")
    );
    assert_eq!(
        look("2026-11-27T18:00:00Z", "other"),
        is("3/s", "2026-11-30T07:00")
    );
    assert_eq!(
        look("2026-11-27T18:00:00Z", "s"),
        is("3/s", "2026-11-28T01:00")
    );
    assert_eq!(
        look("2026-11-28T01:30:00Z", "s"),
        is("4/s", "2026-11-28T02:00")
    );
}

#[test]
fn mail_of_a_tenant_waits_for_its_window() {
    let shaping = shaping(
        "[tenant.t]\ndelivery_window = { timezone = \"UTC\", from = \"08:00\", to = \"20:00\" }\n\
         [campaign.\"*\"]\ndelivery_window = [{ timezone = \"UTC\", days = [\"mon\", \"wed\"] }, { timezone = \"UTC\", days = \"tue\", from = \"00:00\", to = \"12:00\" }]\n",
    );
    let overrides = Overrides::default();
    let look = |now: &str, tenant| {
        let who = Party {
            source: "s",
            tenant,
            campaign: "c",
        };
        let effective = shaping.resolve(&overrides, facts("x.test", &[]), who, at(now));
        let mut windows = effective.windows().iter();
        (
            windows.all(|window| window.state.holds),
            effective.until().rfc3339().to_string()[..16].to_owned(),
        )
    };
    assert_eq!(
        look("2026-11-24T09:00:00Z", "t"),
        (true, "2026-11-24T12:00".into())
    );
    assert_eq!(
        look("2026-11-24T13:00:00Z", "t"),
        (false, "2026-11-24T20:00".into())
    );
    assert_eq!(
        look("2026-11-24T07:00:00Z", "t"),
        (false, "2026-11-24T08:00".into())
    );
    assert_eq!(
        look("2026-11-23T23:00:00Z", "u"),
        (true, "2026-11-24T12:00".into())
    );
}

#[test]
fn a_live_override_lies_over_all_files_until_it_expires() {
    let mut shaping = shaping(
        "[\"x.test\"]\nmx_rollup = false\nmax_message_rate = \"1/s\"\n[\"x.test\".sources.s]\nmax_message_rate = \"2/s\"\n",
    );
    shaping.place_sites(&Sites::new());
    let mut overrides = Overrides::default();
    let mut set = |kind, name: &str, source: Option<&str>, rate: &str, secs| {
        let (key, value) = Key::read("max_message_rate", rate).unwrap();
        let wish = Wish {
            kind,
            name: name.into(),
            source: source.map(Into::into),
            key,
            value,
            expires: NOON + Duration::from_secs(secs),
            reason: "ticket 7".into(),
            by: "ann".into(),
        };
        overrides.set(wish, NOON).unwrap();
    };
    set(TargetKind::Domain, "x.test", Some("s"), "5/s", 10);
    set(TargetKind::Domain, "x.test", None, "4/s", 30);
    set(TargetKind::Default, "", None, "3/s", 20);
    let look = |source, secs| {
        let now = NOON + Duration::from_secs(secs);
        let effective = shaping.resolve(&overrides, facts("x.test", &[]), party(source), now);
        let until = effective.until();
        (
            value(&effective, "max_message_rate"),
            until.since(NOON).as_secs(),
        )
    };
    assert_eq!(
        look("s", 0),
        ("5/s".into(), 10),
        "the source's own is over the general one"
    );
    assert_eq!(look("other", 0), ("4/s".into(), 20));
    assert_eq!(look("s", 10), ("4/s".into(), 20));
    assert_eq!(look("s", 25), ("4/s".into(), 30));
    assert_eq!(look("s", 30).0, "2/s");
    let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), NOON);
    let rows = effective.rows();
    let row = rows
        .iter()
        .find(|row| row.key == "max_message_rate")
        .unwrap();
    let place = row.place.to_string();
    assert!(
        place.starts_with("live override by ann until 2026-11-24T11:00:10"),
        "{place}"
    );
    assert!(place.ends_with("ticket 7") && row.layer == Layer::Live);
    assert_eq!(effective.overrides().len(), 3);
}

/// A block's rate, and another from eight to six by the clock of a zone.
fn by_day(zone: &str, rate: &str) -> String {
    format!(
        "max_message_rate = \"1/s\"\nbusiness_hours = {{ timezone = \"{zone}\", days = \"mon-sun\", \
         from = \"08:00\", to = \"18:00\", max_message_rate = \"{rate}\" }}\n"
    )
}

/// When, the rates of a provider, a source, a tenant and a campaign, whose overlays hold (`o` is the
/// campaign's off hours), and until when that is so.
const HOURS: &[(&str, &str, &str, &str)] = &[
    // Berlin is an hour from UTC until 2026-03-29, then two; New York changed on the 8th.
    (
        "2026-03-28T07:00",
        "2/s 1/s 1/s 5/s",
        "pc",
        "2026-03-28T12:00",
    ),
    (
        "2026-03-28T12:00",
        "2/s 3/s 1/s 5/s",
        "psc",
        "2026-03-28T12:30",
    ),
    (
        "2026-03-29T05:59",
        "1/s 1/s 4/s 5/s",
        "tc",
        "2026-03-29T06:00",
    ),
    (
        "2026-03-29T06:00",
        "2/s 1/s 4/s 5/s",
        "ptc",
        "2026-03-29T07:00",
    ),
    // Lord Howe goes back by half an hour on 2026-04-05: from 11:00 to 10:30 hours east.
    (
        "2026-04-04T21:00",
        "1/s 3/s 1/s 9/s",
        "so",
        "2026-04-04T21:30",
    ),
    (
        "2026-04-04T21:30",
        "1/s 3/s 4/s 9/s",
        "sto",
        "2026-04-04T22:00",
    ),
    // New York goes back on 2026-11-01, a week after Berlin.
    (
        "2026-10-31T12:00",
        "2/s 3/s 1/s 5/s",
        "psc",
        "2026-10-31T12:30",
    ),
    (
        "2026-11-01T12:59",
        "2/s 1/s 1/s 9/s",
        "po",
        "2026-11-01T13:00",
    ),
    (
        "2026-11-01T13:00",
        "2/s 3/s 1/s 9/s",
        "pso",
        "2026-11-01T17:00",
    ),
];

#[test]
fn overlays_of_all_kinds_follow_their_zones_over_a_change_of_clocks() {
    let text = format!(
        "[provider.p]\nmatch = [{{ DomainSuffix = \"x.test\" }}]\n{}[source.s]\n{}[tenant.t]\n{}[campaign.c]\n{}\
         off_hours = {{ max_message_rate = \"9/s\" }}\n",
        by_day("Europe/Berlin", "2/s"),
        by_day("America/New_York", "3/s"),
        by_day("Australia/Lord_Howe", "4/s"),
        by_day("Asia/Kolkata", "5/s"),
    );
    let shaping = shaping(&text);
    let overrides = Overrides::default();
    for (now, rates, holding, next) in HOURS {
        let moment = at(&format!("{now}:00Z"));
        let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), moment);
        let limits = effective.limits();
        let rate = |scope| {
            let mut of_scope = limits
                .iter()
                .filter(|l| l.key.limited == Limited::Messages && l.key.scope == scope);
            of_scope.next().map(|limit| limit.amount.to_string())
        };
        let scopes = [Scope::Lane, Scope::Source, Scope::Tenant, Scope::Campaign];
        let found: Vec<String> = scopes.into_iter().filter_map(rate).collect();
        assert_eq!(found.join(" "), *rates, "{now}");
        let hours = effective.hours();
        assert!(hours.iter().all(|o| o.state.until >= effective.until()));
        let held = hours.iter().filter(|overlay| overlay.state.holds);
        let held: String = held
            .filter_map(|overlay| {
                let is_off = overlay.path.ends_with("off_hours");
                if is_off {
                    Some('o')
                } else {
                    overlay.path.chars().next()
                }
            })
            .collect();
        assert_eq!(held, *holding, "{now}");
        assert_eq!(
            effective.until().rfc3339().to_string()[..16],
            **next,
            "{now}"
        );
    }
}
