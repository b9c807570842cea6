//! Files as operators of KumoMTA have them, TOML and JSON, one over the other.

use super::*;

const BASE: (&str, &str) = ("base.toml", include_str!("kumo/base.toml"));
const SITES: (&str, &str) = ("sites.toml", include_str!("kumo/sites.toml"));
const FURTHER: (&str, &str) = ("further.json", include_str!("kumo/further.json"));

fn files(files: &[(&str, &str)]) -> Shaping {
    read(files).unwrap_or_else(|faults| panic!("{:#?}", told(&faults)))
}

fn is(shaping: &Shaping, facts: SiteFacts<'_>, source: &str, wanted: &[(&str, &str)]) {
    let overrides = Overrides::default();
    let effective = shaping.resolve(&overrides, facts, party(source), NOON);
    for (key, value) in wanted {
        assert_eq!(shown(&effective, key), *value, "{}: {key}", facts.domain);
    }
}

#[test]
fn a_file_of_kumomta_is_read_unchanged_and_means_the_same() {
    let shaping = files(&[BASE]);
    let big = ["mx1.big.example", "mx.little.example"];
    is(
        &shaping,
        facts("x.example", &big),
        "ip-1",
        &[
            ("connection_limit", "10 @ base.toml:3"),
            ("max_message_rate", "5/s @ base.toml:74"),
            ("max_deliveries_per_connection", "20 @ base.toml:64"),
            ("rcpt_to_timeout", "5m @ base.toml:15"),
            ("skip_hosts", "[10.0.0.0/8, 192.168.0.0/16] @ base.toml:30"),
            (
                "additional_connection_limits.of-node",
                "local:100 @ base.toml:45",
            ),
        ],
    );
    is(
        &shaping,
        facts("example.com", &["mx.elsewhere.example", "mx1.big.example"]),
        "ip-1",
        &[
            ("connection_limit", "1 @ base.toml:82"),
            ("max_connection_rate", "5/m @ base.toml:78"),
            ("max_deliveries_per_connection", "100 @ base.toml:6"),
        ],
    );
    let rules = shaping.rules(&facts("x.example", &big));
    assert_eq!(rules.len(), 2);
    assert!(rules[1].0.matches("421 4.7.0 [TS02] later", false));
}

#[test]
fn what_a_file_of_kumomta_says_of_sites_and_providers_means_the_same() {
    let mut shaping = files(&[BASE, SITES]);
    shaping.place_sites(&found(&[("cable.example", "mx.cable.example")]));
    let cable = ["mx.cable.example"];
    is(
        &shaping,
        facts("of-cable.example", &cable),
        "ip-2",
        &[
            ("connection_limit", "5 @ sites.toml:45"),
            ("max_deliveries_per_connection", "1000 @ sites.toml:27"),
            ("max_ready", "10000 @ sites.toml:28"),
            ("enable_tls", "Required @ sites.toml:30"),
            ("remember_broken_tls", "3d @ sites.toml:5"),
            ("max_connection_rate", "100/m @ base.toml:4"),
        ],
    );
    for host in [
        "a.hosted.example",
        "b.hosted.co.example",
        "c.hosted-abroad.example",
    ] {
        is(
            &shaping,
            facts("x.example", &[host]),
            "ip-1",
            &[
                ("connection_limit", "10 @ sites.toml:16"),
                ("enable_tls", "Required @ sites.toml:19"),
            ],
        );
    }
    is(
        &shaping,
        facts("bounces.example.internal", &["mx.hosted-no.example"]),
        "ip-1",
        &[
            ("connection_limit", "local:5 @ sites.toml:9"),
            ("max_deliveries_per_connection", "8192 @ sites.toml:10"),
            ("system_shutdown_timeout", "30s @ sites.toml:12"),
        ],
    );
    let overrides = Overrides::default();
    let narrow = ["mx.narrow.example"];
    let narrow = facts("x.example", &narrow);
    let narrow = shaping.resolve(&overrides, narrow, party("s"), NOON);
    let tightest = narrow.tightest(Limited::Connections).unwrap();
    assert_eq!(
        tightest.key.to_string(),
        "connections of provider and source s->Narrow"
    );
    let rules = shaping.rules(&facts("of-cable.example", &cable));
    let told: Vec<String> = rules[1..]
        .iter()
        .map(|(rule, _)| rule.to_string())
        .collect();
    assert_eq!(
        told,
        [
            "SL0000 -> SetConfig max_connection_rate = 10000/h for 2h (2/h)",
            "^(?!.*KumoMTA internal).*SL000010 -> SuspendTenant for 5m (Immediate)",
        ]
    );
    let fire = |reply| {
        rules
            .iter()
            .filter(|(rule, _)| rule.matches(reply, false))
            .count()
    };
    assert_eq!(fire("421 4.1.0 SL000010 slow down"), 2);
    assert_eq!(fire("421 4.1.0 KumoMTA internal: SL000010"), 1);
}

#[test]
fn what_has_no_effect_in_it_is_named() {
    let shaping = files(&[BASE]);
    let noted: Vec<&str> = shaping.notes().iter().map(|note| &*note.key).collect();
    for key in [
        "default.refresh_interval",
        "default.readyq_pool_name",
        "default.max_ready",
        "default.remember_broken_tls",
    ] {
        assert!(noted.contains(&key), "{key}: {noted:#?}");
    }
    for key in [
        "default.connection_limit",
        "default.skip_hosts",
        "default.automation",
    ] {
        assert!(!noted.contains(&key), "{key} is obeyed: {noted:#?}");
    }
}

#[test]
fn a_further_file_in_json_lies_over_the_first_as_kumomta_lays_them() {
    let shaping = files(&[BASE, FURTHER]);
    let big = ["mx1.big.example"];
    is(
        &shaping,
        facts("x.example", &big),
        "ip-2",
        &[
            ("idle_timeout", "10s @ further.json:2"),
            ("connection_limit", "local:7 @ further.json:6"),
            ("max_deliveries_per_connection", "20 @ base.toml:64"),
            (
                "additional_message_rate_throttles.all-mail",
                "1000/s @ base.toml:46",
            ),
            (
                "additional_message_rate_throttles.second",
                "10/h @ further.json:2",
            ),
        ],
    );
    is(
        &shaping,
        facts("shop.vanity.example", &["mx.elsewhere.example"]),
        "ip-2",
        &[("connection_limit", "local:7 @ further.json:6")],
    );
    is(
        &shaping,
        facts("example.com", &["mx.example.com"]),
        "ip-1",
        &[
            ("max_message_rate", "2/s @ further.json:12"),
            ("connection_limit", "10 @ base.toml:3"),
            ("max_connection_rate", "100/m @ base.toml:4"),
        ],
    );
    let limits = shaping.rules(&facts("x.example", &big));
    assert_eq!(limits.len(), 3, "rules of both files hold");
}

#[test]
fn each_line_that_requires_tls_is_read_and_told_to_bar_mail() {
    let text = "[default]\nenable_tls = \"Opportunistic\"\n[provider.p]\nmatch = [{MXSuffix=\".p.test\"}]\n\
                enable_tls = 'Required'\n[\"b.test\"]\nmx_rollup = false\nenable_tls = \"RequiredInsecure\"\n\
                [\"b.test\".sources.s]\nenable_tls = \"Disabled\"\n";
    let shaping = read(&[("a.toml", text)]).unwrap();
    let barring = shaping.notes().iter().filter(|note| note.is_barring);
    let told: Vec<String> = barring
        .map(|note| format!("{} {} {}", note.place, note.key, note.why))
        .collect();
    let why = "TLS is required and this build does not speak it: mail waits";
    assert_eq!(
        told,
        [
            format!("a.toml:5:1 provider.p.enable_tls {why}"),
            format!("a.toml:8:1 b.test.enable_tls {why}"),
        ]
    );
    let overrides = Overrides::default();
    for (domain, source, required) in [
        ("x.test", "s", None),
        ("p.test", "s", Some("a.toml:5:14")),
        ("b.test", "t", Some("a.toml:8:14")),
        ("b.test", "s", None),
    ] {
        let hosts: &[&str] = if domain == "p.test" {
            &["mx.p.test"]
        } else {
            &[]
        };
        let effective = shaping.resolve(&overrides, facts(domain, hosts), party(source), NOON);
        let found = effective.requires_tls().map(ToString::to_string);
        assert_eq!(found.as_deref(), required, "{domain} from {source}");
    }
}

#[test]
fn what_is_not_honoured_is_refused_with_its_place() {
    for (line, why) in [
        ("enable_dane = true", "TLS"),
        ("use_lmtp = true", "LMTP"),
        ("tls_prefer_openssl = true", "rustls"),
        ("openssl_cipher_list = \"HIGH\"", "rustls"),
        ("rustls_cipher_suites = [\"x\"]", "rustls"),
        ("tls_certificate = \"/etc/a.pem\"", "certificate"),
        ("smtp_auth_plain_username = \"me\"", "log in"),
        ("smtp_auth_plain_password = { key_data = \"x\" }", "log in"),
        ("smtp_port = 587", "delivery.port"),
        ("reconnect_strategy = \"TerminateSession\"", "next host"),
        ("try_next_host_on_transport_error = true", "next host"),
    ] {
        let file = format!("[\"default\"]\nconnection_limit = 1\n{line}\n");
        let faults = told(&read(&[("a.toml", &file)]).unwrap_err());
        let key = line.split(' ').next().unwrap_or_default();
        let at = format!("a.toml:3:1: `default.{key}` is known, but not honoured: ");
        assert!(
            faults[0].starts_with(&at) && faults[0].contains(why),
            "{line}: {faults:?}"
        );
    }
}
