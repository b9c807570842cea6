//! The files that come with the program.

use super::*;

fn all() -> Shaping {
    let files: Vec<File<'_>> = shipped().collect();
    Shaping::read(&files).unwrap_or_else(|faults| panic!("{}", told(&faults).join("\n")))
}

#[test]
fn what_is_printed_from_code_is_up_to_date() {
    for (name, file, printed) in [
        (
            "default",
            include_str!("../../../../shaping/default.toml"),
            print_default(),
        ),
        (
            "schema",
            include_str!("../../../../shaping/schema.json"),
            print_schema(),
        ),
        (
            "readme",
            include_str!("../../../../shaping/README.md"),
            print_readme(),
        ),
    ] {
        assert!(
            file == printed,
            "cargo run -p posthaste-core --example shaping -- {name}"
        );
    }
}

#[test]
fn every_default_of_the_table_stands_in_the_default_file() {
    let shaping = Shaping::read(&[]).unwrap();
    let overrides = Overrides::default();
    let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), NOON);
    for row in KEYS {
        let stands = shown(&effective, row.name).contains("shaping/default.toml");
        let wanted = row.default.is_some() && row.is_kept();
        assert_eq!(stands, wanted, "{}", row.name);
    }
    let path = effective.path();
    assert_eq!(
        (path.enable_tls, path.enable_mta_sts, path.enable_dane),
        (Tls::Opportunistic, true, false)
    );
    assert!(
        path.prohibited_hosts
            .iter()
            .any(|net| net.contains("::1".parse().unwrap()))
    );
}

/// It would wait without end where this build is installed and nothing else is said.
#[test]
fn no_mail_waits_for_tls_where_nobody_asked_for_it() {
    for file in shipped() {
        let asks = |line: &&str| line.starts_with("enable_tls = \"Required");
        assert_eq!(file.text.lines().find(asks), None, "{}", file.name);
    }
    let shaping = all();
    for host in ["gmail-smtp-in.l.google.com", "mx1.comcast.net"] {
        let hosts = [host];
        let facts = facts("x.test", &hosts);
        let overrides = Overrides::default();
        let effective = shaping.resolve(&overrides, facts, party("s"), NOON);
        assert_eq!(effective.path().enable_tls, Tls::Opportunistic, "{host}");
    }
}

#[test]
fn each_rule_says_its_evidence_and_review() {
    for file in shipped() {
        let heads = file
            .text
            .lines()
            .filter(|line| line.starts_with("[[") || line.starts_with("[provider"));
        let heads = heads.count();
        let count = |key: &str| {
            file.text
                .lines()
                .filter(|line| line.starts_with(key))
                .count()
        };
        assert!(
            heads > 0 && count("evidence = \"") == heads,
            "{}",
            file.name
        );
        assert_eq!(count("reviewed = 20"), heads, "{}", file.name);
    }
    assert_eq!(all().lints(Known::default(), NOON), []);
}

/// Domain, its hosts, the provider, a reply of theirs, and how many rules it fires.
type Reply = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
    usize,
);

const REPLIES: &[Reply] = &[
    (
        "gmail.com",
        &[
            "gmail-smtp-in.l.google.com",
            "alt1.gmail-smtp-in.l.google.com",
        ],
        "google",
        "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect",
        2,
    ),
    (
        "gmail.com",
        &["gmail-smtp-in.l.google.com"],
        "google",
        "421 4.7.28 Gmail has detected an unusual rate of mail originating from your DKIM domain [x.test 36]",
        1,
    ),
    (
        "hotmail.com",
        &["hotmail-com.olc.protection.outlook.com"],
        "outlook",
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. For e-mail delivery information, see https://aka.ms/postmaster (S775)",
        2,
    ),
    (
        "firm.test",
        &["firm-test.mail.protection.outlook.com"],
        "office365",
        "550 5.7.705 Access denied, tenant has exceeded threshold",
        1,
    ),
    (
        "firm.test",
        &["firm-test.a-v1.mx.microsoft"],
        "office365-dane",
        "550 5.7.705 Access denied, tenant has exceeded threshold",
        1,
    ),
    (
        "yahoo.com",
        &["mta5.am0.yahoodns.net"],
        "yahoo",
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
        2,
    ),
    (
        "yahoo.co.jp",
        &["mx1.mail.yahoo.co.jp"],
        "yahoo-japan",
        "553 5.7.1 VS98-IP0 deferred",
        1,
    ),
    (
        "icloud.com",
        &["mx01.mail.icloud.com"],
        "apple",
        "421 4.7.1 [HCM1] Your mail from 192.0.2.1 was deferred",
        1,
    ),
    (
        "comcast.net",
        &["mx1.mxge.comcast.net"],
        "comcast",
        "421 4.1.0 RL000010 Throttled",
        2,
    ),
    (
        "comcast.net",
        &["mx1.mxge.comcast.net"],
        "comcast",
        "554 5.7.1 BL000001 Blocked",
        1,
    ),
    (
        "comcast.net",
        &["mx1.mxge.comcast.net"],
        "comcast",
        "554 5.7.1 BL000000 Blocked",
        1,
    ),
    (
        "cox.net",
        &["cxr.mx.a.cloudfilter.cox.net"],
        "cox",
        "421 CXCNCT too many",
        1,
    ),
    (
        "charter.net",
        &["mx0.charter.net"],
        "spectrum",
        "421 AUP#I-1310",
        1,
    ),
    (
        "orange.fr",
        &["smtp-in.orange.fr"],
        "orange",
        "421 Trop de connexions, veuillez verifier",
        1,
    ),
    (
        "gmx.de",
        &["mx00.emig.gmx.net"],
        "gmx.net_web.de",
        "554 Reject due to policy restrictions",
        1,
    ),
    (
        "qq.com",
        &["mx1.qq.com"],
        "qq.com",
        "550 Ip frequency limited. http://service",
        1,
    ),
    (
        "163.com",
        &["163mx01.mxmail.netease.com"],
        "163.com",
        "554 HL:ITC 163 smtp1",
        1,
    ),
    (
        "firm.test",
        &["eu-smtp-inbound-1.mimecast.com"],
        "mimecast",
        "451 Internal resources are temporarily unavailable",
        1,
    ),
    (
        "firm.test",
        &["mx0a-0001.pphosted.com"],
        "proofpoint",
        "550 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1",
        1,
    ),
    (
        "firm.test",
        &["d1.ess.barracudanetworks.com"],
        "barracuda",
        "421 rate control",
        1,
    ),
    (
        "firm.test",
        &["mx1.hc1.iphmx.com"],
        "cisco",
        "421 4.4.5 Too many connections from your host.",
        1,
    ),
    (
        "bigpond.com",
        &["extmail.bigpond.com"],
        "bigpond",
        "452 4.1.0 Max messages per session",
        1,
    ),
    (
        "facebook.com",
        &["smtpin.vvv.facebook.com"],
        "facebook",
        "421 POL-T2 later",
        1,
    ),
    (
        "att.net",
        &["ff-ip4-mx-vip1.prodigy.net"],
        "att",
        "450 too frequent connects from 192.0.2.1",
        1,
    ),
];

#[test]
fn each_provider_is_known_by_its_hosts_and_each_reply_by_its_rules() {
    let shaping = all();
    let overrides = Overrides::default();
    for (domain, hosts, provider, reply, rules) in REPLIES {
        let facts = facts(domain, hosts);
        let effective = shaping.resolve(&overrides, facts, party("s"), NOON);
        assert_eq!(effective.providers().collect::<Vec<_>>(), [*provider]);
        let all = shaping.rules(&facts);
        let fires = all.iter().filter(|(rule, _)| rule.matches(reply, false));
        assert_eq!(fires.count(), *rules, "{provider}: {reply}");
    }
    let named: std::collections::BTreeSet<&str> = REPLIES.iter().map(|reply| reply.2).collect();
    assert_eq!(
        named.len(),
        shipped().count() - 1,
        "every file but that of any site"
    );
}
