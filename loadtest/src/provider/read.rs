//! From TOML to a checked profile: what is missing gets a default that does nothing. Every key of the format is asked for here.

use super::profile::{
    Authentication, Backends, Cache, Capacity, ComplaintBound, Connections, Counted, Delays,
    Dislike, Escalation, FaultRates, Greylist, Limit, ListBit, MailHost, Mailboxes, NameFaults,
    Penalty, Profile, Ptr, Reputation, Return, Scope, Stage, Tls, Window,
};
use super::text::{self, Texts, Variant};
use crate::document::{self, Faults, Section, Wrong};
use posthaste_core::words::nearest;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Domains that `hosted_domains` may make.
const HOSTED_MAX: u64 = 10_000;
/// Lists in a bit mask.
const LISTS_MAX: usize = 16;

const STAGES: &[(&str, Stage)] = &[
    ("connect", Stage::Connect),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("dot", Stage::Dot),
];
const SCOPES: &[(&str, Scope)] = &[
    ("ip", Scope::Ip),
    ("net", Scope::Net),
    ("domain", Scope::Domain),
    ("recipient", Scope::Recipient),
    ("message_id", Scope::MessageId),
    ("site", Scope::Site),
];
const WINDOWS: &[(&str, Window)] = &[
    ("bucket", Window::Bucket),
    ("sliding", Window::Sliding),
    ("fixed", Window::Fixed),
];
const COUNTED: &[(&str, Counted)] = &[
    ("connections", Counted::Connections),
    ("messages", Counted::Messages),
    ("recipients", Counted::Recipients),
];

impl Profile {
    /// Reads a profile; `name` is that of its file, for faults.
    ///
    /// # Errors
    /// All that is wrong with the text, each with its place.
    pub fn parse(name: &str, text: &str) -> Result<Self, Faults> {
        document::read(name, text, profile)
    }
}

fn profile(root: &Section<'_>) -> Option<Profile> {
    let name = root.required_text("name");
    // Read before the rest, which refers to its keys.
    let texts = texts(&root.section("text"));
    let authentication = authentication(&root.section("authentication"));
    let has_bulk = authentication.as_ref().is_some_and(|it| it.bulk.is_some());
    let (complaints, dislike) = complaints(&root.section("complaint"));
    let made = Profile {
        name: name.clone().unwrap_or_default().into(),
        host: root
            .text("host")
            .unwrap_or_else(|| format!("mx.{}.test", name.clone().unwrap_or_default()))
            .into(),
        domains: domains(root),
        null_mx: named_domains(root, "null_mx"),
        hosts: hosts(root),
        name_faults: name_faults(&root.section("dns")),
        capacities: capacities(root, &texts),
        limits: limits(root, &texts),
        reputation: reputation(&root.section("reputation")),
        connections: connections(&root.section("connections")),
        penalty: penalty(&root.section("penalty")),
        escalation: escalation(&root.section("escalation")),
        greylist: greylist(&root.section("greylist")),
        cache: cache(&root.section("cache")),
        mailboxes: mailboxes(&root.section("mailbox")),
        authentication,
        spam: spam(&root.section("content")),
        delays: delays(&root.section("delay")),
        faults: faults(&root.section("fault")),
        tls: tls(&root.section("tls"), has_bulk),
        ptr: ptr(&root.section("ptr")),
        lists: lists(root),
        backends: backends(&root.section("backend")),
        complaints,
        dislike,
        bounces: returned(&root.section("bounce")),
        texts,
    };
    name.map(|_| made)
}

fn domains(root: &Section<'_>) -> Vec<Box<str>> {
    let mut domains = named_domains(root, "domains");
    if domains.is_empty() {
        root.missing("domains");
        return domains;
    }
    let hosted = root.count("hosted_domains", 0, 0..=HOSTED_MAX);
    let site = domains[0].clone();
    domains.extend((1..=hosted).map(|number| format!("hosted-{number}.{site}").into()));
    domains
}

fn named_domains(root: &Section<'_>, key: &'static str) -> Vec<Box<str>> {
    let mut domains: Vec<Box<str>> = Vec::new();
    for domain in root.texts(key) {
        if posthaste_core::words::Domain::parse(&domain).is_err() || domain.starts_with('[') {
            root.refuse(
                key,
                Wrong::Form {
                    expected: "domain names".to_owned(),
                    found: format!("{domain:?}"),
                },
            );
        }
        domains.push(domain.to_ascii_lowercase().into());
    }
    domains
}

fn hosts(root: &Section<'_>) -> Vec<MailHost> {
    let mut hosts = Vec::new();
    for section in root.sections("mx") {
        let name = section.required_text("name").unwrap_or_default();
        let addresses = section.count("addresses", 1, 1..=200) as u8;
        let refused = section.count("refused", 0, 0..=u64::from(addresses)) as u8;
        let ipv6 = section.count("ipv6", 0, 0..=50) as u8;
        hosts.push(MailHost {
            name: name.to_ascii_lowercase().into(),
            preference: section.count("preference", 10, 0..=65_535) as u16,
            addresses,
            refused,
            unreachable: section.count("unreachable", 0, 0..=u64::from(addresses - refused)) as u8,
            ipv6,
            ipv6_refused: section.count("ipv6_refused", 0, 0..=u64::from(ipv6)) as u8,
        });
        section.finish();
    }
    if hosts.is_empty() {
        root.missing("mx");
    }
    hosts
}

fn name_faults(section: &Section<'_>) -> NameFaults {
    let faults = NameFaults {
        servfail: section.share("servfail", 0.0),
        silent: section.share("silent", 0.0),
        truncated: section.share("truncated", 0.0),
    };
    section.finish();
    faults
}

fn capacities(root: &Section<'_>, texts: &Texts) -> Vec<Capacity> {
    let mut capacities = Vec::new();
    for section in root.sections("capacity") {
        let limit = limit(&section, "cold", Counted::Messages, "capacity", texts);
        let warm = section.quota("warm");
        let warmth_max = warm.map_or(1.0, |(number, span)| {
            (number / span.as_secs_f64()) / limit.rate()
        });
        if warmth_max < 1.0 {
            let bound = "at least `cold`".to_owned();
            let found = "`warm`".to_owned();
            section.refuse("warm", Wrong::Bounds { found, bound });
        }
        let is_narrow = matches!(limit.scope, Scope::Recipient | Scope::MessageId);
        if is_narrow || limit.stage == Stage::Connect {
            let expected =
                "of messages, not of a recipient, a message or of connections".to_owned();
            let found = "that".to_owned();
            section.refuse("per", Wrong::Form { expected, found });
        }
        capacities.push(Capacity {
            limit,
            warmth_max: warmth_max.max(1.0),
            growth: section.number("growth", 1.3, 1.0..=100.0),
            complaints_max: section.share("complaints_max", 0.001),
            randomised: section.number("randomised", 0.0, 0.0..=0.9),
            blocked: reply_key(&section, "blocked", "block", texts),
        });
        section.finish();
    }
    capacities
}

fn limits(root: &Section<'_>, texts: &Texts) -> Vec<Limit> {
    let mut limits = Vec::new();
    for section in root.sections("limit") {
        let counted = section.choice("of", COUNTED, Counted::Messages);
        let key = match counted {
            Counted::Connections => "connection_limit",
            Counted::Messages | Counted::Recipients => "rate",
        };
        limits.push(limit(&section, "amount", counted, key, texts));
        section.finish();
    }
    limits
}

fn limit(
    section: &Section<'_>,
    key: &'static str,
    counted: Counted,
    reply: &str,
    texts: &Texts,
) -> Limit {
    let quota = section.quota(key);
    if quota.is_none() {
        section.missing(key);
    }
    let (amount, span) = quota.unwrap_or((1.0, HOUR));
    let stage = match counted {
        Counted::Connections => Stage::Connect,
        Counted::Messages => section.choice("at", &STAGES[1..], Stage::Mail),
        Counted::Recipients => Stage::Rcpt,
    };
    let knee = section.number("knee", 1.0, 0.0..=10.0);
    let full = section.number("full", knee.max(1.0), 0.0..=10.0);
    if full < knee {
        let bound = "at least `knee`".to_owned();
        let found = full.to_string();
        section.refuse("full", Wrong::Bounds { found, bound });
    }
    let scope = section.choice("per", SCOPES, Scope::Ip);
    let needs = match scope {
        Scope::Domain => stage == Stage::Connect,
        Scope::Recipient => stage != Stage::Rcpt,
        Scope::MessageId => stage != Stage::Dot,
        Scope::Ip | Scope::Net | Scope::Site => false,
    };
    if needs {
        let expected = "a scope that is known at this stage".to_owned();
        let found = format!("{scope:?}").to_lowercase();
        section.refuse("per", Wrong::Form { expected, found });
    }
    Limit {
        counted,
        scope,
        window: section.choice("window", WINDOWS, Window::Bucket),
        amount,
        span,
        burst: section.number("burst", (amount / 60.0).max(1.0), 1.0..=1e9),
        knee,
        full,
        counts_deferred: section.flag("counts_deferred", false),
        stage,
        reply: reply_key(section, "reply", reply, texts),
        closes: section.flag("closes", counted == Counted::Connections),
    }
}

fn reply_key(section: &Section<'_>, name: &'static str, default: &str, texts: &Texts) -> Box<str> {
    let key = section.text(name).unwrap_or_else(|| default.to_owned());
    if texts.has(&key) {
        return key.into();
    }
    let nearest = nearest(&key, texts.keys().into_iter()).map_or_else(String::new, |nearest| {
        format!("; did you mean {nearest:?}?")
    });
    section.refuse(
        name,
        Wrong::Form {
            expected: format!("a key under [text]{nearest}"),
            found: format!("{key:?}"),
        },
    );
    default.into()
}

fn reputation(section: &Section<'_>) -> Reputation {
    let made = Reputation {
        initial: section.share("initial", 1.0),
        floor: section.share("floor", 0.1),
        recovery: section
            .duration("recovery", 12 * HOUR)
            .max(Duration::from_secs(1)),
        complaint: section.share("complaint", 0.0),
        unknown: section.share("unknown", 0.0),
        deferred: section.share("deferred", 0.0),
        probe: section.share("probe", 0.0),
        spam: section.share("spam", 0.0),
    };
    section.finish();
    made
}

fn connections(section: &Section<'_>) -> Connections {
    let many = u64::from(u32::MAX);
    let made = Connections {
        per_ip: section.count("per_ip", many, 1..=many) as u32,
        per_site: section.count("per_site", many, 1..=many) as u32,
        is_scaled: section.flag("scaled", false),
        messages: section.count("messages", many, 1..=many) as u32,
        recipients: section.count("recipients", 1000, 1..=many) as u32,
    };
    section.finish();
    made
}

fn penalty(section: &Section<'_>) -> Option<Penalty> {
    let length = section.duration("length", HOUR);
    let made = Penalty {
        after: section.number("after", 1.0, 1.0..=1e9),
        within: section.duration("within", HOUR).max(Duration::from_secs(1)),
        length,
        extension: section.duration("extension", Duration::ZERO),
        length_max: section.duration("length_max", 24 * HOUR),
        probes: section.count("probes", 1, 0..=1_000_000) as u32,
        stage: section.choice("at", &STAGES[..2], Stage::Mail),
        of_connections: section.choice("of", &[("messages", false), ("connections", true)], false),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn escalation(section: &Section<'_>) -> Option<Escalation> {
    let length = section.duration("length", 24 * HOUR);
    let bound = ComplaintBound {
        share: section.share("complaints", 0.0),
        within: section
            .duration("complaints_within", 24 * HOUR)
            .max(Duration::from_secs(1)),
        least: section.number("complaints_least", 5.0, 1.0..=1e9),
        length,
    };
    let made = Escalation {
        after: section.number("after", 100.0, 1.0..=1e9),
        within: section.duration("within", HOUR).max(Duration::from_secs(1)),
        reduced: section.number("reduced", 0.5, 0.0..=10.0),
        length,
        stage: section.choice("at", &STAGES[..2], Stage::Mail),
        complaints: (bound.share > 0.0).then_some(bound),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn greylist(section: &Section<'_>) -> Option<Greylist> {
    let made = Greylist {
        delay: section.duration("delay", 5 * MINUTE),
        window: section.duration("window", 4 * HOUR),
        lifetime: section.duration("lifetime", 36 * 24 * HOUR),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn cache(section: &Section<'_>) -> Option<Cache> {
    let made = Cache {
        temporary: section.duration("temporary", 5 * MINUTE),
        permanent: section.duration("permanent", 90 * MINUTE),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn mailboxes(section: &Section<'_>) -> Mailboxes {
    let made = Mailboxes {
        unknown: section.share("unknown", 0.0),
        full: section.share("full", 0.0),
        inactive: section.share("inactive", 0.0),
        full_span: section
            .duration("full_span", 72 * HOUR)
            .max(Duration::from_secs(1)),
        stage: section.choice("at", &STAGES[2..], Stage::Rcpt),
    };
    section.finish();
    made
}

fn authentication(section: &Section<'_>) -> Option<Authentication> {
    let made = Authentication {
        spf_fails: section.share("spf_fails", 0.0),
        dkim_fails: section.share("dkim_fails", 0.0),
        dmarc_rejects: section.share("dmarc_rejects", 0.0),
        bulk: section.quota("bulk"),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn spam(section: &Section<'_>) -> f64 {
    let share = section.share("spam", 0.0);
    section.finish();
    share
}

fn delays(section: &Section<'_>) -> Delays {
    let made = Delays {
        banner: section.span("banner"),
        command: section.span("command"),
        rcpt: section.span("rcpt"),
        dot: section.span("dot"),
        tarpit_below: section.share("tarpit_below", 0.0),
        tarpit: section.span("tarpit"),
    };
    section.finish();
    made
}

fn faults(section: &Section<'_>) -> FaultRates {
    let made = FaultRates {
        slow: section.share("slow", 0.0),
        slow_by: section.span("slow_by"),
        silent: section.share("silent", 0.0),
        reset: section.share("reset", 0.0),
        reset_takes: section.share("reset_takes", 0.0),
        interrupt: section.share("interrupt", 0.0),
        temporary: section.share("temporary", 0.0),
    };
    section.finish();
    made
}

fn tls(section: &Section<'_>, has_bulk: bool) -> Tls {
    let made = Tls {
        offer: section.share("offer", 0.0),
        refuse: section.share("refuse", 0.0),
        garbage: section.share("garbage", 0.0),
        reset: section.share("reset", 0.0),
        required: section.share("required", 0.0),
        required_of_bulk: section.share("required_of_bulk", 0.0),
    };
    if made.required_of_bulk > 0.0 && !has_bulk {
        let expected = "`[authentication] bulk`, which says who sends much".to_owned();
        let found = "none".to_owned();
        section.refuse("required_of_bulk", Wrong::Form { expected, found });
    }
    let failing = made.refuse + made.garbage + made.reset;
    // Shares such as 0.1 and 0.2 need not add up exactly.
    if failing > 1.0 + 1e-9 {
        let bound = "at most 1 together with `refuse` and `garbage`".to_owned();
        let found = failing.to_string();
        section.refuse("reset", Wrong::Bounds { found, bound });
    }
    section.finish();
    made
}

fn ptr(section: &Section<'_>) -> Option<Ptr> {
    const STAGES: &[(&str, Stage)] = &[("connect", Stage::Connect), ("dot", Stage::Dot)];
    let made = Ptr {
        missing: section.share("missing", 0.0),
        stage: section.choice("at", STAGES, Stage::Connect),
    };
    section.finish();
    section.is_given().then_some(made)
}

fn lists(root: &Section<'_>) -> Vec<ListBit> {
    let mut lists = Vec::new();
    for section in root.sections("list") {
        lists.push(ListBit {
            below: section.share("below", 0.5),
            hourly: section.share("hourly", 0.1),
            length: section.duration("length", 24 * HOUR),
        });
        // Its name is for readers of the file.
        section.required_text("name");
        section.finish();
    }
    if lists.len() > LISTS_MAX {
        let bound = format!("at most {LISTS_MAX} lists");
        let found = lists.len().to_string();
        root.refuse("list", Wrong::Bounds { found, bound });
    }
    lists
}

fn backends(section: &Section<'_>) -> Backends {
    let count = section.count("count", 1, 1..=1000) as u32;
    let made = Backends {
        count,
        dead: section.count("dead", 0, 0..=u64::from(count)) as u32,
    };
    section.finish();
    made
}

fn complaints(section: &Section<'_>) -> (Return, Dislike) {
    let dislike = Dislike {
        senders: section.share("disliked", 0.0),
        share: section.share("disliked_share", 0.0),
    };
    (returned(section), dislike)
}

fn returned(section: &Section<'_>) -> Return {
    let made = Return {
        share: section.share("share", 0.0),
        after: section.span("after"),
    };
    section.finish();
    made
}

fn texts(section: &Section<'_>) -> Texts {
    let mut texts = Texts::defaults();
    for (key, ..) in text::defaults() {
        wordings(section, key, &mut texts);
    }
    // Keys of the profile's own, for limits to refer to.
    for key in ["limit_1", "limit_2", "limit_3", "limit_4", "limit_5"] {
        wordings(section, key, &mut texts);
    }
    section.finish();
    texts
}

fn wordings(section: &Section<'_>, key: &'static str, texts: &mut Texts) {
    let variants: Vec<_> = section.sections(key).iter().filter_map(variant).collect();
    if variants.is_empty() {
        return;
    }
    if variants.iter().all(|variant| variant.from > Duration::ZERO) {
        let expected = "wordings of which one is in use from the start".to_owned();
        let found = "later ones only".to_owned();
        section.refuse(key, Wrong::Form { expected, found });
    }
    texts.insert(key, variants);
}

fn variant(section: &Section<'_>) -> Option<Variant> {
    let code = section.required_text("code");
    let lines = section.texts("lines");
    if lines.is_empty() {
        section.missing("lines");
    }
    if let Some(code) = code.as_deref().filter(|code| !is_code(code)) {
        let expected = "a code such as \"421\" or \"421 4.7.28\"".to_owned();
        let found = format!("{code:?}");
        section.refuse("code", Wrong::Form { expected, found });
    }
    for line in &lines {
        if let Some(place) = text::unknown_place(line) {
            let expected = format!("text with places {{{}}}", text::PLACES.join("}, {"));
            let found = format!("{{{place}}}");
            section.refuse("lines", Wrong::Form { expected, found });
        }
        if line.contains(['\r', '\n']) {
            let expected = "one list element for each line".to_owned();
            let found = "a line end within".to_owned();
            section.refuse("lines", Wrong::Form { expected, found });
        }
    }
    let made = Variant {
        code: code.clone().unwrap_or_default().into(),
        lines: lines.into_iter().map(Into::into).collect(),
        weight: section.number("weight", 1.0, 0.001..=1e6),
        from: section.duration("from", Duration::ZERO),
        until: section.optional_duration("until").unwrap_or(Duration::MAX),
        is_latin1: section.flag("latin1", false),
    };
    section.finish();
    (code.is_some() && !made.lines.is_empty()).then_some(made)
}

fn is_code(code: &str) -> bool {
    let (basic, enhanced) = code.split_once(' ').unwrap_or((code, "2.0.0"));
    let is_basic = basic.len() == 3
        && basic.starts_with(['2', '4', '5'])
        && basic.bytes().all(|octet| octet.is_ascii_digit());
    let parts: Vec<_> = enhanced.split('.').collect();
    let is_enhanced = parts.len() == 3
        && parts.iter().all(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
        });
    is_basic && is_enhanced
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"x\"\ndomains = [\"x.test\"]\n[[mx]]\nname = \"mx.x.test\"\n";

    fn faults(more: &str) -> String {
        match Profile::parse("x.toml", &format!("{LEAST}{more}")) {
            Ok(_) => String::new(),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn a_profile_needs_little() {
        let profile = Profile::parse("x.toml", LEAST).unwrap();
        assert_eq!(&*profile.host, "mx.x.test");
        assert_eq!(profile.hosts.len(), 1);
    }

    #[test]
    fn misspelt_keys_are_told_with_the_nearest() {
        let told = faults("[[capacity]]\ncold = \"5/s\"\ngrowht = 1.2\n");
        assert_eq!(
            told,
            "x.toml:7:1: `capacity[0].growht` is not a known key; did you mean `growth`?"
        );
        let told = faults("[[limit]]\namount = \"5/s\"\nreply = \"rat\"\n");
        assert!(told.starts_with("x.toml:7:9: `limit[0].reply`"), "{told}");
        assert!(told.contains("did you mean \"rate\"?"), "{told}");
    }

    #[test]
    fn contradictions_are_refused() {
        for (bad, place) in [
            (
                "[[capacity]]\ncold = \"5/s\"\nwarm = \"1/s\"\n",
                "capacity[0].warm",
            ),
            (
                "[[limit]]\namount = \"5/s\"\nknee = 2.0\nfull = 1.0\n",
                "limit[0].full",
            ),
            (
                "[[limit]]\namount = \"5/s\"\nper = \"recipient\"\n",
                "limit[0].per",
            ),
            (
                "[[text.rate]]\ncode = \"99\"\nlines = [\"a\"]\n",
                "text.rate[0].code",
            ),
            (
                "[[text.rate]]\ncode = \"451\"\nlines = [\"{up}\"]\n",
                "text.rate[0].lines",
            ),
            ("[backend]\ncount = 2\ndead = 3\n", "backend.dead"),
            ("[fault]\nslow = 1.5\n", "fault.slow"),
            ("[tls]\nrefuse = 0.6\nreset = 0.6\n", "tls.reset"),
            (
                "[authentication]\n[tls]\nrequired_of_bulk = 1.0\n",
                "tls.required_of_bulk",
            ),
            (
                "[[limit]]\namount = \"5/s\"\nper = \"message_id\"\n",
                "limit[0].per",
            ),
            (
                "[[capacity]]\ncold = \"5/s\"\nper = \"message_id\"\nat = \"dot\"\n",
                "capacity[0].per",
            ),
            (
                "[[capacity]]\ncold = \"5/s\"\nblocked = \"limit_1\"\n",
                "capacity[0].blocked",
            ),
        ] {
            let told = faults(bad);
            assert!(told.contains(&format!("`{place}`")), "{bad}: {told}");
        }
    }
}
