//! A scenario as its TOML file describes it, checked.

use super::expect::Expectation;
use super::flags::Flags;
use crate::document::{self, Faults, Section, Wrong};
use crate::provider::{Range, Serve};
use crate::quantity;
use crate::source::{Plan, Sizes};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What is started, offered and expected.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// All of it ends after so long.
    pub(super) duration: Duration,
    /// It ends earlier when all load is done and no provider got anything for so long.
    pub(super) quiet: Duration,
    pub(super) target: String,
    /// Where loads over HTTP go.
    pub(super) target_http: Option<String>,
    /// Started before the load and ended after it; empty where the server runs already.
    pub(super) command: Vec<String>,
    /// How long a started server may take to listen.
    pub(super) ready: Duration,
    pub(super) providers: Serve,
    pub(super) loads: Vec<Load>,
    pub(super) expectations: Vec<Expectation>,
}

/// One source.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) messages: u64,
    /// A plan as `source --arrivals` takes it; none for a closed loop.
    pub(super) arrivals: Option<String>,
    pub(super) sessions: u64,
    pub(super) per_connection: u64,
    pub(super) size: String,
    pub(super) recipients: u64,
    /// Without domains among them: all domains of all providers.
    pub(super) flags: Flags,
    pub(super) after: Duration,
    /// Longest wait of the source for one answer.
    pub(super) timeout: String,
}

impl Scenario {
    /// Reads a scenario; profiles named by path are looked for beside it.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Faults> {
        document::read(&path.display().to_string(), text, |root| {
            scenario(root, path)
        })
    }
}

fn scenario(root: &Section<'_>, path: &Path) -> Option<Scenario> {
    let name = root.required_text("name");
    let target = root.section("target");
    let smtp = target.required_text("smtp");
    let target_http = target.text("http");
    let command = target.texts("command");
    let ready = target.duration("ready", Duration::from_secs(10));
    target.finish();
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let seed = root.count("seed", 1, 0..=u64::MAX);
    let providers = providers(&root.section("providers"), folder, seed);
    let loads = root.sections("load");
    let loads: Vec<_> = loads.iter().map(|section| load(section, folder)).collect();
    if loads.is_empty() {
        root.missing("load");
    }
    if target_http.is_none() && loads.iter().any(|load| load.flags.is_http) {
        target.missing("http");
    }
    Some(Scenario {
        name: name?,
        duration: root.duration("duration", Duration::from_secs(60)),
        quiet: root.duration("quiet", Duration::from_secs(3)),
        target: smtp?,
        target_http,
        command,
        ready,
        providers,
        loads,
        expectations: root
            .sections("expect")
            .iter()
            .filter_map(expectation)
            .collect(),
    })
}

fn providers(section: &Section<'_>, folder: &Path, seed: u64) -> Serve {
    let profiles = section.texts("profiles");
    if profiles.is_empty() {
        section.missing("profiles");
    }
    let beside = |name: String| {
        if name.contains('/') || name.ends_with(".toml") {
            folder.join(name).display().to_string()
        } else {
            name
        }
    };
    let made = Serve {
        profiles: profiles.into_iter().map(beside).collect(),
        dns: parsed(
            section,
            "dns",
            "an address with port",
            "127.0.0.1:5353",
            |text| text.parse::<SocketAddr>().ok(),
        ),
        addresses: parsed(
            section,
            "addresses",
            "a block such as \"127.1.0.0/24\"",
            "127.1.0.0/24",
            |text| Range::parse(text).ok(),
        ),
        addresses6: section.text("addresses6").and_then(|text| {
            let made = Range::parse_v6(&text);
            if made.is_err() {
                let expected = "a block such as \"fd00:1::/112\"".to_owned();
                let found = format!("{text:?}");
                section.refuse("addresses6", Wrong::Form { expected, found });
            }
            made.ok()
        }),
        port: section.count("port", 2526, 1..=65_535) as u16,
        threads: section.count("threads", 1, 1..=256) as u16,
        duration: None,
        return_to: section.text("return_to"),
        complaints_to: section.text("complaints_to"),
        json: false,
        report: None,
        seed,
        i_own_this_target: false,
    };
    section.finish();
    made
}

fn parsed<T>(
    section: &Section<'_>,
    key: &'static str,
    expected: &str,
    default: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> T {
    let text = section.text(key).unwrap_or_else(|| default.to_owned());
    if let Some(made) = parse(&text) {
        return made;
    }
    section.refuse(
        key,
        Wrong::Form {
            expected: expected.to_owned(),
            found: format!("{text:?}"),
        },
    );
    parse(default).expect("defaults are well formed")
}

fn load(section: &Section<'_>, folder: &Path) -> Load {
    let checked =
        |key: &'static str, expected: &str, default: &str, is_good: &dyn Fn(&str) -> bool| {
            parsed(section, key, expected, default, |text| {
                is_good(text).then(|| text.to_owned())
            })
        };
    let rate = section
        .quota("rate")
        .map(|(number, span)| format!("constant:{}/s", number / span.as_secs_f64()));
    let plan = section.text("arrivals");
    let refusal = plan.as_ref().and_then(|plan| match Plan::parse(plan) {
        _ if rate.is_some() => Some("a plan in place of `rate`, not beside it".to_owned()),
        Ok(_) => None,
        Err(why) => Some(format!("a plan ({why})")),
    });
    if let Some(expected) = refusal {
        let found = format!("{:?}", plan.as_deref().unwrap_or_default());
        section.refuse("arrivals", Wrong::Form { expected, found });
    }
    let made = Load {
        messages: section.count("messages", 1000, 1..=1_000_000_000),
        arrivals: plan.or(rate),
        sessions: section.count("sessions", 10, 1..=100_000),
        per_connection: section.count("per_connection", 20, 0..=u64::from(u32::MAX)),
        size: checked("size", "sizes such as \"10k\"", "10k", &|text| {
            Sizes::parse(text).is_ok()
        }),
        recipients: section.count("recipients", 1, 1..=1000),
        flags: Flags::read(section, folder),
        after: section.duration("after", Duration::ZERO),
        timeout: checked("timeout", "a time such as \"10s\"", "30s", &|text| {
            quantity::duration(text).is_ok()
        }),
    };
    section.finish();
    made
}

fn expectation(section: &Section<'_>) -> Option<Expectation> {
    let of = section.required_text("of");
    let bound = |key| {
        let bound = section.number(key, f64::NAN, f64::MIN..=f64::MAX);
        (!bound.is_nan()).then_some(bound)
    };
    let (min, max) = (bound("min"), bound("max"));
    if min.is_none() && max.is_none() {
        section.missing("min");
    }
    section.finish();
    let made = Expectation { of: of?, min, max };
    if let Some(wrong) = made.fault() {
        section.refuse("of", wrong);
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"x\"\n[target]\nsmtp = \"127.0.0.1:2525\"\n[providers]\nprofiles = [\"gmail\", \"my.toml\"]\n[[load]]\n\
                        rate = \"600/m\"\n[[expect]]\nof = \"loads.0.accepted\"\nmin = 1\n";

    fn faults(text: &str) -> String {
        Scenario::parse(Path::new("dir/s.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let made = Scenario::parse(Path::new("dir/s.toml"), GOOD).unwrap();
        assert_eq!(made.providers.profiles, ["gmail", "dir/my.toml"]);
        assert_eq!(made.loads[0].arrivals.as_deref(), Some("constant:10/s"));
        assert_eq!(made.expectations[0].min, Some(1.0));
    }

    #[test]
    fn faults_name_their_place() {
        let told = faults(&GOOD.replace("smtp =", "smpt ="));
        assert!(
            told.contains("dir/s.toml:3:1: `target.smpt` is not a known key; did you mean `smtp`?"),
            "{told}"
        );
        assert!(told.contains("`target.smtp` must be given"), "{told}");
        let told = faults(&GOOD.replace("min = 1", ""));
        assert!(told.contains("`expect[0].min` must be given"), "{told}");
        let told = faults(&format!("{GOOD}[extra]\n"));
        assert!(
            told.contains("dir/s.toml:11:2: `extra` is not a known key"),
            "{told}"
        );
        let told = faults(&GOOD.replace("profiles =", "addresses = \"8.8.8.0/24\"\nprofiles ="));
        assert!(
            told.contains("`providers.addresses` must be a block"),
            "{told}"
        );
        let told = faults(&GOOD.replace("profiles =", "addresses6 = \"fd00::/64\"\nprofiles ="));
        assert!(
            told.contains("`providers.addresses6` must be a block"),
            "{told}"
        );
        let told = faults(&GOOD.replace("rate = ", "arrivals = \"poisson:5/s\"\nrate = "));
        assert!(
            told.contains("`load[0].arrivals` must be a plan in place of `rate`"),
            "{told}"
        );
        let told = faults(&GOOD.replace("rate = \"600/m\"", "arrivals = \"poison:5/s\""));
        assert!(
            told.contains("`load[0].arrivals` must be a plan ("),
            "{told}"
        );
    }

    #[test]
    fn a_load_says_what_a_source_can() {
        let more = "domains = [\"gmailish.test=6\", \"yahooish.test\"]\nsender = \"a@load.test\"\ntenant = [\"t1=3\", \"t2\"]\n\
                    campaign = \"c\"\ncampaign_header = \"X-Job\"\nno_pipelining = true\nbdat = true\nbdat_chunk = \"64k\"\n\
                    starttls = true\ntls_ca = \"ca.pem\"\nauth = \"u:p\"\nauth_mechanism = \"login\"\n\
                    source_address = [\"127.0.0.5\", \"127.0.0.6\"]\nthreads = 2\n";
        let text = GOOD.replace("rate = ", &format!("{more}rate = "));
        let made = Scenario::parse(Path::new("dir/s.toml"), &text).unwrap();
        let flags = &made.loads[0].flags;
        assert!(flags.has_domains && !flags.is_http);
        assert_eq!(
            flags.line.join(" "),
            "--threads=2 --domain=gmailish.test=6,yahooish.test --sender=a@load.test --tenant=t1=3,t2 --campaign=c \
             --source-address=127.0.0.5,127.0.0.6 --campaign-header=X-Job --bdat-chunk=64k --auth=u:p --auth-mechanism=login \
             --tls-ca=dir/ca.pem --no-pipelining --bdat --starttls"
        );
        assert!(
            !Scenario::parse(Path::new("s.toml"), GOOD).unwrap().loads[0]
                .flags
                .has_domains
        );
    }

    #[test]
    fn what_a_source_would_refuse_is_a_fault_of_its_key() {
        for (more, wrong) in [
            (
                "domains = [\"a.test=0\"]",
                "dir/s.toml:7:11: `load[0].domains` is refused: invalid value 'a.test=0' for '--domain <",
            ),
            (
                "bdat_chunk = \"64k\"",
                "`load[0].bdat` is refused: the following required arguments were not provided: --bdat",
            ),
            (
                "http = true\nstarttls = true",
                "the argument '--starttls' cannot be used with '--http'",
            ),
            ("http = true", "dir/s.toml:2:1: `target.http` must be given"),
            (
                "auth = \"nobody\"",
                "dir/s.toml:7:8: `load[0].auth` is refused: ",
            ),
            (
                "source_address = \"here\"",
                "dir/s.toml:7:18: `load[0].source_address` is refused: ",
            ),
        ] {
            let told = faults(&GOOD.replace("rate = ", &format!("{more}\nrate = ")));
            assert!(told.contains(wrong), "{more}: {told}");
        }
    }

    #[test]
    fn an_expectation_that_nothing_could_fail_is_a_fault() {
        let expecting = |of: &str| GOOD.replace("loads.0.accepted", of);
        for (of, wrong) in [
            (
                "providers.outlookish.refused.mesage_limit",
                "dir/s.toml:9:6: `expect[0].of` names `mesage_limit`, which is not a class of replies; did you mean `message_limit`?",
            ),
            (
                "providers.outlookish.deferred.weather",
                "dir/s.toml:9:6: `expect[0].of` names `weather`, which is not a class of replies",
            ),
            (
                "loads.0.errors.time-uot",
                "dir/s.toml:9:6: `expect[0].of` must be the sum of all errors, such as `loads.0.errors`",
            ),
        ] {
            let told = faults(&expecting(of));
            assert!(told.contains(wrong), "{told}");
        }
        for sound in [
            "providers.outlookish.deferred.message_limit",
            "providers.outlookish.refused",
            "loads.0.errors",
        ] {
            assert!(Scenario::parse(Path::new("s.toml"), &expecting(sound)).is_ok());
        }
    }

    #[test]
    fn shipped_scenarios_are_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            Scenario::parse(&path, &text).unwrap_or_else(|faults| panic!("{faults}"));
            count += 1;
        }
        assert!(count >= 3);
    }
}
