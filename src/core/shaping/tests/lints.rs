//! What is allowed and hardly meant.

use std::collections::BTreeSet;

use super::*;

fn lints(shaping: &Shaping, known: Known<'_>) -> Vec<String> {
    shaping
        .lints(known, NOON)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn two_blocks_for_one_site_are_told_and_so_is_dns_out_of_reach() {
    let mut shaping = shaping(
        "[\"a.test\"]\n[\"b.test\"]\n[\"c.test\"]\n[\"d.test\"]\n[\"e.test\"]\nmx_rollup = false\n[com]\n",
    );
    let mut sites = found(&[("a.test", "mx.test"), ("b.test", "mx.test")]);
    sites.insert("c.test".into(), Found::NullMx);
    sites.insert("d.test".into(), Found::Unknown("timed out".into()));
    shaping.place_sites(&sites);
    assert_eq!(
        lints(&shaping, Known::default()),
        [
            "a.toml:2:2: several blocks for the site mx.test: a.test (a.toml:1:2), b.test (a.toml:2:2)",
            "a.toml:3:2: c.test takes no mail (null MX); with mx_rollup = false its block holds for it",
            "a.toml:4:2: the site of d.test is not known (timed out): its block holds for the domain alone",
            "a.toml:7:2: com is no mail domain: quote names with dots, [\"com.com\"]",
        ]
    );
}

#[test]
fn what_is_never_reached_is_told() {
    let shaping = shaping(
        "[[provider.gmail.automation]]\nregex = \"a\"\naction = \"Suspend\"\nduration = 1\n\
         [provider.x]\nmatch = [{ MXSuffix = \".m.test\" }]\n[provider.y]\nmatch = [{ MXSuffix = \".M.test\" }]\n\
         [[label]]\nclient = \"10.0.0.0/8\"\ntenant = \"a\"\n\
         [[label]]\nclient = \"10.0.0.0/8\"\nlistener = \"l\"\ntenant = \"b\"\n\
         [[label]]\nclient = \"10.0.0.0/8\"\ntenant = \"b\"\npool = \"p\"\n\
         [[label]]\ntenant = \"c\"\n",
    );
    assert_eq!(
        lints(&shaping, Known::default()),
        [
            "a.toml:1:12: provider gmail has no match in any file: nothing of it is reached",
            "a.toml:7:11: several providers match MXSuffix .m.test: x (a.toml:5:11), y (a.toml:7:11)",
            "a.toml:12:1: is never reached: a.toml:9:1 takes all its messages",
        ]
    );
}

#[test]
fn old_reviews_and_unknown_names_are_told() {
    let shaping = shaping(
        "[\"a.test\"]\nmx_rollup = false\nreviewed = 2025-11-23\n[[\"a.test\".automation]]\nregex = \"a\"\naction = \"Suspend\"\nduration = 1\nreviewed = \"2025-11-24\"\n\
         [\"a.test\".sources.old]\n[source.new]\n[source.\"*\"]\n",
    );
    assert_eq!(
        lints(&shaping, Known::default()),
        ["a.toml:1:2: was reviewed on 2025-11-23, 366 days ago"]
    );
    let none: BTreeSet<Box<str>> = BTreeSet::new();
    let known = Known {
        sources: Some(&none),
        listeners: None,
    };
    assert_eq!(
        lints(&shaping, known)[1..],
        [
            "a.toml:1:2: there is no source old",
            "a.toml:10:9: there is no source new",
        ]
    );
}

#[test]
fn blocks_of_labels_that_no_mail_can_get_are_told() {
    let blocks = "[tenant.a]\nweight = 2\n[tenant.x]\nweight = 2\n[tenant.default]\nweight = 2\n[tenant.\"*\"]\nweight = 2\n\
         [campaign.c]\nsuspended = true\n[[queue]]\ntenant = \"y\"\nsuspended = true\n\
         [[queue]]\ntenant = \"a\"\ncampaign = \"d\"\nsuspended = true\n[[queue]]\ndomain = \"x.test\"\nsuspended = true\n";
    let with = |rules: &str| lints(&shaping(&format!("{blocks}{rules}")), Known::default());
    let never = |line: u32, column: u32, whose: &str| {
        format!(
            "a.toml:{line}:{column}: is never reached: no label rule and no header gives {whose}"
        )
    };
    let by_name = "[[label]]\ntenant = \"a\"\n";
    assert_eq!(
        with(by_name),
        [
            never(3, 9, "tenant x"),
            never(9, 11, "campaign c"),
            never(11, 1, "tenant y"),
            never(14, 1, "campaign d"),
        ]
    );
    let by_header = "[[label]]\ntenant_header = \"X-T\"\ncampaign_header = \"X-C\"\n";
    assert_eq!(with(by_header), [never(11, 1, "tenant y")]);
    let kept = format!("{by_header}[label_defaults]\nunknown_tenant = \"keep\"\n");
    assert!(with(&kept).is_empty());
    assert_eq!(
        with("").len(),
        5,
        "where there are no rules all mail has the default"
    );
}

#[test]
fn label_rules_behind_wider_ones_are_told() {
    let behind = |first: &str, second: &str| {
        let rules =
            format!("[[label]]\n{first}\ntenant = \"a\"\n[[label]]\n{second}\ntenant = \"b\"\n");
        let told = lints(&shaping(&rules), Known::default());
        assert!(told.len() < 2, "{told:?}");
        !told.is_empty()
    };
    for (wide, narrow) in [
        ("client = \"10.0.0.0/8\"", "client = \"10.1.0.0/16\""),
        (
            "client = [\"10.0.0.0/8\", \"192.0.2.0/24\"]",
            "client = [\"192.0.2.7\", \"10.1.1.1\"]",
        ),
        ("client = \"2001:db8::/32\"", "client = \"2001:db8:1::/48\""),
        (
            "sender_domain = \".example.com\"",
            "sender_domain = \"a.example.com\"",
        ),
        (
            "sender_domain = \".example.com\"",
            "sender_domain = \"Example.com\"",
        ),
        (
            "sender_domain = \".example.com\"",
            "sender_domain = \".a.example.com\"",
        ),
        (
            "sender_domain = \".com\"",
            "sender_domain = [\"a.example.com\", \"b.com\"]",
        ),
        (
            "header = { \"X-Stream\" = \"*\" }",
            "header = { \"x-stream\" = \"promo\" }",
        ),
        ("", "listener = \"l\"\nclient = \"10.0.0.1\""),
        (
            "listener = [\"k\", \"l\"]",
            "listener = \"l\"\nheader = { \"X-Stream\" = \"promo\" }",
        ),
    ] {
        assert!(behind(wide, narrow), "{wide} before {narrow}");
        assert!(!behind(narrow, wide), "{narrow} before {wide}");
    }
    for (one, other) in [
        ("client = \"10.0.0.0/8\"", "client = \"11.0.0.0/8\""),
        (
            "sender_domain = \".example.com\"",
            "sender_domain = \"anexample.com\"",
        ),
        (
            "sender_domain = \"example.com\"",
            "sender_domain = \"a.example.com\"",
        ),
        (
            "sender_domain = \".example.com\"",
            "client = \"10.0.0.0/8\"",
        ),
        (
            "header = { \"X-Stream\" = \"a\" }",
            "header = { \"X-Stream\" = \"b\" }",
        ),
    ] {
        assert!(!behind(one, other) && !behind(other, one), "{one} {other}");
    }
}

#[test]
fn a_listener_that_there_is_not_is_told() {
    let shaping = shaping("[[label]]\nlistener = [\"0.0.0.0:25\", \"0.0.0.0:26\"]\npool = \"p\"\n");
    let listeners: BTreeSet<Box<str>> = ["0.0.0.0:25".into()].into();
    let known = Known {
        sources: None,
        listeners: Some(&listeners),
    };
    assert_eq!(
        lints(&shaping, known),
        ["a.toml:1:1: there is no listener 0.0.0.0:26"]
    );
    assert!(lints(&shaping, Known::default()).is_empty());
}
