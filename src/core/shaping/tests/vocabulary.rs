//! The whole vocabulary is read, as KumoMTA writes it and as we add to it.

use super::*;

/// Every construct of the vocabulary, written as operators write it.
const EVERYTHING: &str = r##"
["default"]
connection_limit = 10
max_connection_rate = "100/min"
idle_timeout = "60s"
data_timeout = 30
remember_broken_tls = "3 days"
additional_connection_limits = { "all" = 500, "mine" = "local:7" }
refresh_interval = "5s"
dispatcher_wakeup_strategy = "Relaxed"
tls_prefer_openssl = false

["generator.internal"]
mx_rollup = false

["http://127.0.0.1:8008.tsa.kumomta"]
mx_rollup = false
connection_limit = "local:5"

[["default".automation]]
regex = [
    '''Messages from \d+\.\d+\.\d+\.\d+ temporarily deferred''',
    '''weren.t sent''',
]
action = [
    {SetConfig={name="max_message_rate", value="1/minute"}},
    {SetConfig={name="connection_limit", value=1}},
]
duration = "90m"

[provider."big"]
match = [{MXSuffix=".big.test"}, {HostName="mx.other.test"}, {DomainSuffix=".bigger.test"}]
enable_tls = 'Required'
provider_connection_limit = 5
provider_max_message_rate = "7,000/h"
provider_total_connection_limit = 50

[provider."big".sources."ip-1"]
provider_source_selection_rate = "10/s"
ehlo_domain = "out.example"

[[provider."big".automation]]
regex = "\\[TS?S04\\]"
action = ["Suspend", "SuspendTenant", "SuspendCampaign", "Bounce", "BounceTenant", "BounceCampaign"]
trigger = {Threshold="2/hr"}
duration = "2 hours"
match_internal = true

["cable.test"]
connection_limit = 25
business_hours = { timezone = "America/New_York", days = ["mon-fri"], from = "08:00", to = "18:00", max_message_rate = "5/s" }
off_hours = { max_message_rate = "50/s" }
pacing = { mode = "adaptive", min = "1/m", max = "100/s" }

[["cable.test".automation]]
regex = "^(?!.*KumoMTA internal).*RL000010"
trigger = "Immediate"
action = {SetDomainConfig={name="max_connection_rate", value="10000/h"}}
duration = "5 minutes"
mode = "observe"
scope = "dkim-domain"
evidence = "a page"
reviewed = 2026-11-24

["cable.test".sources."my source name"]
connection_limit = 5
"##;

#[test]
fn what_nothing_obeys_yet_is_told_to_who_wrote_it() {
    let text = "[tenant.acme]\nmax_message_rate = \"1/s\"\n\
                [tenant.\"*\"]\nmax_message_rate = \"9/s\"\n\
                [campaign.news]\nmax_message_rate = \"1/s\"\n\
                [source.s1]\nmax_message_rate = \"1/s\"\n\
                [[queue]]\ntenant = \"acme\"\nmax_message_rate = \"1/s\"\n\
                [[queue]]\ndomain = \"x.example\"\nmax_message_rate = \"1/s\"\n\
                [[label]]\nsender_domain = \"a.example\"\ntenant = \"acme\"\n\
                [[default.automation]]\nregex = \"try later\"\naction = \"Suspend\"\nduration = \"1h\"\n\
                [default]\nmax_ready = 9\n";
    let told = |layer| {
        let name = "t.toml";
        let shaping = Shaping::read(&[File { name, text, layer }]).unwrap();
        let keys = |notes: &[Note]| {
            notes
                .iter()
                .map(|note| note.key.clone())
                .collect::<Vec<_>>()
        };
        (keys(shaping.notes()), keys(shaping.shipped_notes()))
    };
    let nothing: Vec<String> = Vec::new();
    let one = vec!["default.max_ready".to_owned()];
    assert_eq!(told(Layer::Operator), (one.clone(), nothing.clone()));
    assert_eq!(
        told(Layer::Shipped),
        (nothing, one),
        "these are counted apart"
    );
}

#[test]
fn every_construct_is_read() {
    let shaping = shaping(EVERYTHING);
    let hosts = ["a.big.test", "mx.other.test"];
    let overrides = Overrides::default();
    let big = shaping.resolve(&overrides, facts("x.test", &hosts), party("ip-1"), NOON);
    for (key, is) in [
        ("connection_limit", "10 @ a.toml:3"),
        ("max_connection_rate", "100/m @ a.toml:4"),
        ("data_timeout", "30s @ a.toml:6"),
        ("remember_broken_tls", "3d @ a.toml:7"),
        ("additional_connection_limits.mine", "local:7 @ a.toml:8"),
        ("enable_tls", "Required @ a.toml:33"),
        ("ehlo_domain", "out.example @ a.toml:40"),
        ("max_recipients_per_batch", "100 @ shaping/default.toml:10"),
        ("pacing", "-"),
    ] {
        assert_eq!(shown(&big, key), is, "{key}");
    }
    assert_eq!(big.providers().collect::<Vec<_>>(), ["big"]);
    let cable = facts("cable.test", &[]);
    let effective = shaping.resolve(&overrides, cable, party("my source name"), NOON);
    assert_eq!(value(&effective, "connection_limit"), "5");
    assert_eq!(
        value(&effective, "max_message_rate"),
        "50/s",
        "06:00 in New York"
    );
    assert_eq!(value(&effective, "pacing"), "adaptive min 1/m max 100/s");
    let notes: Vec<&str> = shaping.notes().iter().map(|note| &*note.key).collect();
    assert_eq!(
        notes,
        [
            "default.refresh_interval",
            "default.dispatcher_wakeup_strategy"
        ]
    );
}

#[test]
fn rules_are_kept_typed_and_in_their_order() {
    let shaping = shaping(EVERYTHING);
    let hosts = ["a.big.test"];
    let rules = shaping.rules(&facts("cable.test", &hosts));
    let lines: Vec<(u32, RuleOf)> = rules.iter().map(|(r, of)| (r.place.line, *of)).collect();
    assert_eq!(
        lines,
        [
            (20, RuleOf::AnySite),
            (42, RuleOf::Provider),
            (55, RuleOf::Site)
        ]
    );
    let (default, provider, cable) = (rules[0].0, rules[1].0, rules[2].0);
    assert_eq!(
        default.to_string(),
        "Messages from \\d+\\.\\d+\\.\\d+\\.\\d+ temporarily deferred | weren.t sent -> \
         SetConfig max_message_rate = 1/m, SetConfig connection_limit = 1 for 90m (Immediate)"
    );
    assert_eq!(
        (provider.actions.len(), provider.trigger.to_string()),
        (6, "2/h".into())
    );
    assert!(provider.matches("421 4.7.0 [TSS04] later", true));
    assert!(
        !default.matches("450 weren't sent", true),
        "ours, and it does not ask for those"
    );
    assert!(cable.matches("421 4.1.0 RL000010", false));
    assert_eq!(
        (cable.mode, cable.blame),
        (Mode::Observe, Some(Blame::DkimDomain))
    );
    assert_eq!(cable.reviewed.unwrap().to_string(), "2026-11-24");
}

/// A value of the kind that is no default of any key.
fn sample(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Flag => ("true", "true"),
        Kind::Count { .. } | Kind::Port | Kind::Cap => ("77", "77"),
        Kind::Rate => ("\"77/m\"", "77/m"),
        Kind::Duration => ("\"77s\"", "77s"),
        Kind::Text => ("\"text\"", "text"),
        Kind::Networks => ("[\"192.0.2.0/24\"]", "[192.0.2.0/24]"),
        Kind::Word(words) => match words[1] {
            "OpportunisticInsecure" => ("\"OpportunisticInsecure\"", "OpportunisticInsecure"),
            "Ipv4Only" => ("\"Ipv4Only\"", "Ipv4Only"),
            "ReconnectSameHost" => ("\"ReconnectSameHost\"", "ReconnectSameHost"),
            "Relaxed" => ("\"Relaxed\"", ""),
            "Epoch" => ("\"Epoch\"", ""),
            _ => ("\"NoShrink\"", ""),
        },
        Kind::Caps => ("{ n = 77 }", "77"),
        Kind::Rates => ("{ n = \"77/m\" }", "77/m"),
        Kind::Pacing => ("{ mode = \"fixed\" }", "fixed"),
        Kind::Foreign => ("\"x\"", ""),
    }
}

#[test]
fn every_key_is_honoured_noted_or_refused_aloud() {
    for row in KEYS {
        let (text, is) = sample(row.kind);
        let home = match row.home() {
            "a provider's block" => "[provider.p]\nmatch = [{ DomainSuffix = \"x.test\" }]",
            "sources of a provider" => {
                "[provider.p]\nmatch = [{ DomainSuffix = \"x.test\" }]\n[provider.p.sources.s]"
            }
            _ => "[default]",
        };
        let file = format!("{home}\n{} = {text}\n", row.name);
        let outcome = read(&[("a.toml", &file)]);
        match row.support {
            Support::Refused(why) => {
                let faults = told(&outcome.unwrap_err());
                assert!(
                    faults[0].contains(why) && faults[0].contains(row.name),
                    "{faults:?}"
                );
            }
            Support::Ignored(why) => assert_eq!(outcome.unwrap().notes()[0].why, why),
            Support::Later { why, .. } => match outcome {
                Ok(shaping) => {
                    let default = row.default == Some(text);
                    let noted = shaping.notes().iter().any(|note| note.why == why);
                    assert!(noted || default, "{}: neither noted nor refused", row.name);
                }
                Err(faults) => {
                    let faults = told(&faults);
                    assert!(faults[0].contains(why), "{faults:?}");
                }
            },
            Support::Honoured | Support::Partly { .. } => {
                let shaping = outcome.unwrap();
                let overrides = Overrides::default();
                let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), NOON);
                let told: Vec<String> = effective
                    .limits()
                    .into_iter()
                    .map(|limit| limit.amount.to_string())
                    .chain(effective.rows().into_iter().map(|row| row.value))
                    .collect();
                assert!(
                    told.iter().any(|value| value == is),
                    "{}: {told:?}",
                    row.name
                );
            }
        }
    }
}

#[test]
fn json_says_the_same_as_toml() {
    let toml = "[default]\nconnection_limit = 3\n[provider.p]\nmatch = [{ MXSuffix = \".m.test\" }]\nmax_message_rate = \"5/s\"\n";
    let json = "{\n \"default\": {\"connection_limit\": 3},\n \"provider\": {\"p\":\n  {\"match\": [{\"MXSuffix\": \".m.test\"}], \"max_message_rate\": \"5/s\"}}\n}\n";
    let overrides = Overrides::default();
    for (name, text) in [("a.toml", toml), ("a.json", json)] {
        let shaping = read(&[(name, text)]).unwrap();
        let effective = shaping.resolve(&overrides, facts("d", &["x.m.test"]), party("s"), NOON);
        assert_eq!(value(&effective, "connection_limit"), "3", "{name}");
        assert_eq!(value(&effective, "max_message_rate"), "5/s", "{name}");
    }
    let faults = read(&[("a.json", "{\"default\":\n {\"conection_limit\": 3}}")]).unwrap_err();
    assert_eq!(
        told(&faults),
        [
            "a.json:2:3: `default.conection_limit` is not a known key; did you mean `connection_limit`?"
        ]
    );
}

#[test]
fn the_typed_path_is_what_the_files_say() {
    let shaping = shaping(
        "[default]\nenable_tls = \"Required\"\nip_lookup_strategy = \"Ipv6Only\"\nsmtp_port = 2525\n\
         reconnect_strategy = \"ReconnectSameHost\"\nconnect_timeout = \"7s\"\nmax_message_rate = \"9/m\"\n\
         skip_hosts = [\"10.0.0.0/8\"]\n[provider.p]\nmatch = [{ DomainSuffix = \"x.test\" }]\n",
    );
    let overrides = Overrides::default();
    let path = shaping
        .resolve(&overrides, facts("x.test", &[]), party("s"), NOON)
        .path();
    assert_eq!((path.enable_tls, path.smtp_port), (Tls::Required, 2_525));
    assert_eq!(path.ip_lookup_strategy, IpLookup::V6Only);
    assert_eq!(path.reconnect_strategy, Reconnect::SameHost);
    assert_eq!(path.waits.connect.as_secs(), 7);
    assert_eq!(path.waits.ehlo.as_secs(), 300);
    assert_eq!(path.max_message_rate.unwrap().to_string(), "9/m");
    assert!(path.skip_hosts[0].contains("10.1.2.3".parse().unwrap()));
    assert_eq!(path.provider_name, Some("p"));
    assert_eq!((path.connection_limit.most, path.max_ready), (32, 1_024));
}
