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
    };
    assert_eq!(
        lints(&shaping, known)[1..],
        [
            "a.toml:1:2: there is no source old",
            "a.toml:10:9: there is no source new",
        ]
    );
}
