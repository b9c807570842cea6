//! What is wrong is told with file, line, column, key and the nearest known one.

use super::*;

#[track_caller]
fn fault(text: &str) -> String {
    let faults = told(&read(&[("a.toml", text)]).unwrap_err());
    assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
    faults[0].clone()
}

/// A file, and what is said of it.
const FAULTS: &[(&str, &str)] = &[
    (
        "[default]\n  max_mesage_rate = \"1/s\"",
        "a.toml:2:3: `default.max_mesage_rate` is not a known key; did you mean `max_message_rate`?",
    ),
    (
        "[\"x.test\"]\nmax_message_rate = \"5/fortnight\"",
        "a.toml:2:20: `x.test.max_message_rate` has no known unit: \"5/fortnight\"; units are s, m, h, d and their long forms",
    ),
    (
        "[default]\nmax_message_rate = \"-5/s\"",
        "a.toml:2:20: `default.max_message_rate` must not be negative: \"-5/s\"",
    ),
    (
        "[default]\nmax_message_rate = -5",
        "a.toml:2:20: `default.max_message_rate` must not be negative: -5",
    ),
    (
        "[default]\nconnection_limit = -1",
        "a.toml:2:20: `default.connection_limit` must not be negative: \"-1\"",
    ),
    (
        "[default]\nmax_ready = 0",
        "a.toml:2:13: `default.max_ready` 0 is out of bounds: 1 to 10000000",
    ),
    (
        "[default]\nidle_timeout = \"5 parsecs\"",
        "a.toml:2:16: `default.idle_timeout` has no known unit: \"5 parsecs\"; units are ms, s, m, h, d, w and their long forms",
    ),
    (
        "[default]\nenable_tls = \"required\"",
        "a.toml:2:14: `default.enable_tls` must be Opportunistic, OpportunisticInsecure, Required, RequiredInsecure or Disabled, found \"required\"",
    ),
    (
        "[default]\nprovider_connection_limit = 5",
        "a.toml:2:1: `default.provider_connection_limit` has no meaning here: it belongs in a provider's block",
    ),
    (
        "[provider.p]\nmx_rollup = false",
        "a.toml:2:1: `provider.p.mx_rollup` has no meaning here: it belongs in a domain's block",
    ),
    (
        "[default]\nuse_lmtp = true",
        "a.toml:2:1: `default.use_lmtp` is known, but not honoured: LMTP is not spoken",
    ),
    (
        "[gmail.com]\nmax_ready = 5",
        "a.toml:1:8: `gmail.com` is a table: quote the name, as in [\"gmail.com\"], or its dots make tables of their own",
    ),
    (
        "[[\"x.test\".automation]]\nregex = \"a(\"\naction = \"Suspend\"\nduration = \"1h\"",
        "a.toml:2:9: `x.test.automation[0].regex` does not compile: unclosed group",
    ),
    (
        "[[default.automation]]\nregex = \"a\"\naction = \"Suspendd\"\nduration = \"1h\"",
        "a.toml:3:10: `default.automation[0].action.Suspendd` is not a known key; did you mean `Suspend`?",
    ),
    (
        "[[default.automation]]\nregex = \"a\"\naction = \"Suspend\"",
        "a.toml:1:1: `default.automation[0].duration` must be given",
    ),
    (
        "[[default.automation]]\nregex = []\naction = \"Suspend\"\nduration = 5",
        "a.toml:1:1: `default.automation[0].regex` must be given",
    ),
    (
        "[[default.automation]]\nregex = \"a\"\nduration = 5\naction = {SetConfig={name=\"max_mesage_rate\", value=1}}",
        "a.toml:4:27: `default.automation[0].action.SetConfig.max_mesage_rate` is not a known key; did you mean `max_message_rate`?",
    ),
    (
        "[[default.automation]]\nregex = \"a\"\nduration = 5\naction = {SetConfig={name=\"max_message_rate\", value=1}}",
        "a.toml:4:53: `default.automation[0].action.SetConfig.max_message_rate` must be a rate such as \"100/s\", found 1",
    ),
    (
        "[[default.automation]]\nregex = \"a\"\nduration = 5\naction = \"Suspend\"\ntrigger = {Threshold=\"2\"}",
        "a.toml:5:22: `default.automation[0].trigger.Threshold` must be a rate such as \"100/s\" or \"10,000/h,max_burst=50\", found \"2\"",
    ),
    (
        "[default]\nbusiness_hours = { timezone = \"Mars/Olympus\" }",
        "a.toml:2:31: `default.business_hours.timezone` Mars/Olympus is no IANA time zone, such as Europe/Berlin",
    ),
    (
        "[default]\nbusiness_hours = { days = \"mon\" }",
        "a.toml:2:18: `default.business_hours.timezone` must be given",
    ),
    (
        "[default]\noff_hours = { max_ready = 5 }",
        "a.toml:2:13: `default.off_hours` without from and to is the rest of business_hours, which this block does not have",
    ),
    (
        "[tenant.x]\ndelivery_window = { timezone = \"UTC\", from = \"08:00\", to = \"08:00\" }",
        "a.toml:2:19: `tenant.x.delivery_window` is true in no hour of the week",
    ),
    (
        "[tenant.x]\ndelivery_window = { timezone = \"Europe/Berlni\", from = \"08:00\", to = \"17:00\" }",
        "a.toml:2:32: `tenant.x.delivery_window.timezone` Europe/Berlni is no IANA time zone, such as Europe/Berlin",
    ),
    (
        "[tenant.x]\nbusiness_hours = { timezone = \"UTC\", max_ready = 3 }",
        "a.toml:2:38: `tenant.x.business_hours.max_ready` has no meaning here: it belongs in the block of the default, a domain or a provider, or their sources",
    ),
    (
        "[provider.p]\nmatch = [{ MxSuffix = \".x\" }]",
        "a.toml:2:12: `provider.p.match.MxSuffix` is not a known key; did you mean `MXSuffix`?",
    ),
    (
        "[default]\npacing = { mode = \"fixed\", min = \"2/s\", max = \"1/s\" }",
        "a.toml:2:10: `default.pacing` min is more than max",
    ),
    (
        "[[label]]\nlogin = \"x\"",
        "a.toml:2:1: `label[0].login` is known, but not honoured: no listener takes logins",
    ),
    (
        "[[label]]\ntenant = \"a b\"",
        "a.toml:2:10: `label[0].tenant` must be 1 to 64 letters, digits or any of . _ - : @ +, found \"a b\"",
    ),
    (
        "[default]\nreviewed = \"soon\"",
        "a.toml:2:12: `default.reviewed` must be a date such as \"2026-11-24\", found \"soon\"",
    ),
    (
        "default = 5",
        "a.toml:1:11: `default` must be a table, found 5",
    ),
    (
        "[queue]",
        "a.toml:1:1: `queue` must be an array of tables ([[…]]), found a table",
    ),
];

#[test]
fn each_fault_names_place_key_and_cure() {
    for (text, says) in FAULTS {
        assert_eq!(fault(text), *says, "{text}");
    }
}

#[test]
fn all_faults_of_all_files_are_told_at_once() {
    let faults = read(&[
        ("a.toml", "[default]\nx = 1\nmax_ready = \"y\"\n"),
        ("b.toml", "[default\n"),
        ("c.toml", "[\"é.test\"]\nmax_ready = 1 # ü\n\n  y = 2"),
    ])
    .unwrap_err();
    let places: Vec<String> = faults.iter().map(|fault| fault.place.to_string()).collect();
    assert_eq!(&places[..2], ["a.toml:2:1", "a.toml:3:13"]);
    assert!(places[2].starts_with("b.toml:1:"), "{places:?}");
    assert_eq!(places.last().unwrap(), "c.toml:4:3");
    assert!(
        faults[2].to_string().contains("is not TOML"),
        "{}",
        faults[2]
    );
}

#[test]
fn no_text_is_a_panic() {
    let valid = "[provider.\"p\"]\nmatch=[{MXSuffix=\".a\"}]\nbusiness_hours={timezone=\"UTC\"}\n[[default.automation]]\nregex='^(?!a)b'\naction=[{SetConfig={name=\"x\",value=1}}]\ntrigger={Threshold=\"2/h\"}\nduration='1h'\n[label_defaults]\ntenant='é'\n";
    for end in 0..valid.len() {
        if valid.is_char_boundary(end) {
            drop(read(&[
                ("a.toml", &valid[..end]),
                ("a.json", &valid[..end]),
            ]));
        }
    }
    for (at, c) in valid.char_indices() {
        for with in ["\"", "]", "{", "=", "\u{0}", "ß", "-", "9", ""] {
            let mut text = valid.to_owned();
            text.replace_range(at..at + c.len_utf8(), with);
            drop(read(&[("a.toml", &text)]));
        }
    }
}
