//! Whose message it is.

use super::*;

const FILE: &str = "
[[label]]
client = [\"10.1.0.0/16\", \"2001:db8::/32\"]
listener = \"submission\"
tenant = \"acme\"
campaign_header = \"X-Campaign\"
remove_headers = [\"X-Campaign\", \"X-Acme\"]
[[label]]
sender_domain = [\"shop.test\", \".news.test\"]
tenant = \"shop\"
pool = \"shared\"
[[label]]
header = { \"X-Stream\" = \"promo\", \"X-Any\" = \"*\" }
campaign = \"promo\"
[[label]]
client = \"192.0.2.0/24\"
tenant_header = \"X-Tenant\"
pool_header = \"X-Pool\"
remove_headers = [\"X-TENANT\", \"x-campaign\"]
[tenant.known]
[campaign.\"*\"]
";

fn classify(
    shaping: &Shaping,
    client: &str,
    sender: Option<&str>,
    headers: &[(&str, &str)],
) -> String {
    let submission = Submission {
        listener: "submission",
        client: client.parse().unwrap(),
        sender_domain: sender,
        headers,
    };
    let labels = shaping.labels().classify(&submission);
    let line = |label: &Label<'_>| label.by.map_or(0, |place| place.line);
    format!(
        "{}:{} {}:{} {}:{} -{}",
        labels.tenant.name,
        line(&labels.tenant),
        labels.campaign.name,
        line(&labels.campaign),
        labels.pool.name,
        line(&labels.pool),
        labels.remove.join(",")
    )
}

#[test]
fn the_first_rule_that_gives_a_label_decides_it() {
    let shaping = shaping(FILE);
    for (client, sender, headers, is) in [
        (
            "198.51.100.1",
            None,
            &[][..],
            "default:0 none:0 default:0 -",
        ),
        (
            "::ffff:10.1.2.3",
            Some("SHOP.test"),
            &[("x-campaign", " spring "), ("X-Campaign", "second")],
            "acme:2 spring:2 shared:8 -X-Campaign,X-Acme",
        ),
        (
            "10.1.2.3",
            Some("shop.test.evil"),
            &[],
            "acme:2 none:0 default:0 -X-Campaign,X-Acme",
        ),
        (
            "10.2.0.1",
            Some("a.news.test"),
            &[],
            "shop:8 none:0 shared:8 -",
        ),
        (
            "10.2.0.1",
            Some("badnews.test"),
            &[],
            "default:0 none:0 default:0 -",
        ),
        (
            "10.2.0.1",
            None,
            &[("X-STREAM", "promo"), ("x-any", "")],
            "default:0 promo:12 default:0 -",
        ),
        (
            "10.2.0.1",
            None,
            &[("X-Stream", "promo")],
            "default:0 none:0 default:0 -",
        ),
        (
            "192.0.2.9",
            None,
            &[("X-Tenant", "known"), ("X-Pool", "p1")],
            "known:15 none:0 p1:15 -X-TENANT,x-campaign",
        ),
        (
            "192.0.2.9",
            None,
            &[("X-Tenant", "stranger"), ("X-Pool", "a b")],
            "default:15 none:0 default:15 -X-TENANT,x-campaign",
        ),
    ] {
        assert_eq!(
            classify(&shaping, client, sender, headers),
            is,
            "{client} {sender:?} {headers:?}"
        );
    }
}

#[test]
fn defaults_and_strangers_are_as_stated() {
    let mut shaping = shaping(
        "[[label]]\ntenant_header = \"T\"\ncampaign_header = \"C\"\npool_header = \"P\"\n\
         [label_defaults]\ntenant = \"house\"\ncampaign = \"misc\"\npool = \"main\"\nunknown_tenant = \"keep\"\nunknown_campaign = \"default\"\n\
         [campaign.spring]\n",
    );
    let pools = ["main".into(), "p2".into()].into();
    shaping.know_pools(&pools).unwrap();
    let long = "x".repeat(65);
    let told = |t, c, p| {
        let headers = [("T", t), ("C", c), ("P", p)];
        classify(&shaping, "::1", None, &headers)
    };
    assert_eq!(told("new", "spring", "p2"), "new:1 spring:1 p2:1 -");
    assert_eq!(told(&long, "autumn", "p3"), "house:1 misc:1 main:1 -");
    assert_eq!(
        classify(&shaping, "::1", None, &[]),
        "house:0 misc:0 main:0 -"
    );
}

#[test]
fn a_pool_that_there_is_not_is_a_fault_where_it_is_named() {
    let mut shaping = shaping(
        "[[label]]\npool = \"p1\"\n[[label]]\nclient = \"::1\"\npool = \"p2\"\n\
         [[label]]\npool_header = \"P\"\n[label_defaults]\npool = \"p3\"\n",
    );
    let faults = shaping.know_pools(&["p1".into(), "default".into()].into());
    let told: Vec<String> = faults
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "a.toml:3:1: `label.pool` names the pool p2, which there is not; there are default, p1",
            "a.toml:9:8: `label_defaults.pool` names the pool p3, which there is not; there are default, p1",
        ]
    );
    let all = ["default".into(), "p1".into(), "p2".into(), "p3".into()];
    shaping.know_pools(&all.into()).unwrap();
}
