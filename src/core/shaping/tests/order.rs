//! The order of merging: a small model of it, and many random files that must agree with it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

/// xorshift64*: the same files at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// Where a block stands, in the order of merging; later wins. All of them hold for the query.
const STEPS: [&str; 7] = [
    "[default]",
    "[provider.p1]",
    "[provider.p2]",
    "[provider.p1.sources.s]",
    "[\"site.test\"]",
    "[\"exact.test\"]",
    "[\"site.test\".sources.s]",
];
const KEYS_USED: [&str; 3] = ["max_ready", "connection_limit", "max_recipients_per_batch"];
/// Replace in one block takes its sources along.
const SOURCES_OF: [(usize, usize); 2] = [(1, 3), (4, 6)];

/// What each step says after all files so far: key to value and line.
type Model = [BTreeMap<&'static str, (u32, usize)>; STEPS.len()];

fn random_file(dice: &mut Dice, model: &mut Model) -> String {
    let mut text = String::new();
    let mut line = 0;
    for (step, head) in STEPS.iter().enumerate() {
        if dice.roll(3) == 0 {
            continue;
        }
        let _ = writeln!(text, "{head}");
        line += 1;
        if step == 5 {
            text.push_str("mx_rollup = false\n");
            line += 1;
        }
        let is_source = head.contains(".sources.");
        if !is_source && dice.roll(5) == 0 {
            text.push_str("replace_base = true\n");
            line += 1;
            model[step].clear();
            let inner = SOURCES_OF.iter().filter(|(block, _)| *block == step);
            for (_, source) in inner {
                model[*source].clear();
            }
        }
        for key in KEYS_USED {
            if dice.roll(2) == 0 {
                continue;
            }
            let value = u32::try_from(dice.roll(90_000)).unwrap() + 1;
            let _ = writeln!(text, "{key} = {value}");
            line += 1;
            model[step].insert(key, (value, line));
        }
    }
    text
}

#[test]
fn later_steps_and_later_files_win() {
    for seed in 1..400 {
        let mut dice = Dice(seed);
        let mut model = Model::default();
        let matches = "[provider.p1]\nmatch = [{ MXSuffix = \".h.test\" }]\n[provider.p2]\nmatch = [{ DomainSuffix = \"exact.test\" }]\n";
        let names = ["f0", "f1", "f2"];
        let mut lines: Vec<(usize, &str, u32)> = Vec::new();
        let mut texts = Vec::new();
        for file in 0..names.len() {
            let before = model.clone();
            let text = random_file(&mut dice, &mut model);
            for (step, keys) in model.iter().enumerate() {
                for (key, (value, _)) in keys {
                    if before[step].get(key) != keys.get(key) {
                        lines.push((file, key, *value));
                    }
                }
            }
            texts.push(text);
        }
        // Matches stand last: a provider that is replaced keeps them.
        let mut files: Vec<(&str, &str)> = names
            .into_iter()
            .zip(texts.iter().map(String::as_str))
            .collect();
        files.push(("m", matches));
        let mut shaping = read(&files).unwrap_or_else(|f| panic!("seed {seed}: {:?}", told(&f)));
        shaping.place_sites(&found(&[("site.test", "mx.h.test")]));
        let overrides = Overrides::default();
        let facts = facts("exact.test", &["mx.h.test"]);
        let effective = shaping.resolve(&overrides, facts, party("s"), NOON);
        // The order in which providers first stand is that of the files, not of their names.
        let providers: Vec<usize> = effective
            .providers()
            .map(|name| if name == "p1" { 1 } else { 2 })
            .collect();
        let steps = [0, providers[0], providers[1], 3, 4, 5, 6];
        for key in KEYS_USED {
            let wins = steps.iter().rev().find_map(|step| model[*step].get(key));
            let Some((wanted, line)) = wins else {
                assert!(
                    shown(&effective, key).contains("shaping/default.toml"),
                    "seed {seed}"
                );
                continue;
            };
            let is = shown(&effective, key);
            let file = lines
                .iter()
                .rev()
                .find(|(_, k, v)| *k == key && v == wanted);
            let file = names[file.unwrap().0];
            assert_eq!(is, format!("{wanted} @ {file}:{line}"), "seed {seed} {key}");
        }
    }
}

#[test]
fn maps_merge_and_automation_appends_until_the_block_is_replaced() {
    let rule = |regex: &str| {
        format!(
            "[[\"x.test\".automation]]\nregex = \"{regex}\"\naction = \"Suspend\"\nduration = 1\n"
        )
    };
    let one = format!(
        "[default]\nadditional_connection_limits = {{ d = 1 }}\n[\"x.test\"]\nmax_ready = 7\nadditional_connection_limits = {{ a = 1, b = 2 }}\n{}",
        rule("one")
    );
    let two = format!(
        "[\"x.test\"]\nadditional_connection_limits = {{ b = 3, c = 4 }}\n{}",
        rule("two")
    );
    let three = format!(
        "[\"x.test\"]\nreplace_base = true\nmax_recipients_per_batch = 5\n{}",
        rule("three")
    );
    let overrides = Overrides::default();
    let look = |files: &[(&str, &str)]| {
        let shaping = read(files).unwrap();
        let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), NOON);
        let limits = ["a", "b", "c", "d"]
            .map(|n| value(&effective, &format!("additional_connection_limits.{n}")));
        let rules = shaping.rules(&facts("x.test", &[]));
        let rules: Vec<String> = rules
            .iter()
            .map(|(r, _)| r.patterns[0].as_str().into())
            .collect();
        (
            limits.join(" "),
            rules.join(" "),
            value(&effective, "max_ready"),
        )
    };
    let two_files = [("1", &*one), ("2", &*two)];
    assert_eq!(
        look(&two_files),
        ("1 3 4 1".into(), "one two".into(), "7".into())
    );
    let three_files = [("1", &*one), ("2", &*two), ("3", &*three)];
    assert_eq!(
        look(&three_files),
        ("- - - 1".into(), "three".into(), "1024".into()),
        "the default's own stays"
    );
}

#[test]
fn a_provider_named_in_two_files_keeps_its_rate() {
    let shaping = read(&[
        (
            "1",
            "[provider.p]\nmatch = [{ DomainSuffix = \"x.test\" }]\n",
        ),
        ("2", "[provider.p]\nprovider_max_message_rate = \"5/s\"\n"),
    ])
    .unwrap();
    let overrides = Overrides::default();
    let effective = shaping.resolve(&overrides, facts("x.test", &[]), party("s"), NOON);
    let tightest = effective.tightest(Limited::Messages).unwrap();
    assert_eq!(
        tightest.key.to_string(),
        "message rate of provider and source s->p"
    );
}

/// Rates of mail of acme's spring campaign to x.test from `s`: of its path, and of its queue.
fn rates(text: &str, live: &[(TargetKind, &str, Option<&str>, &str, bool)]) -> (String, String) {
    let shaping = shaping(text);
    let mut overrides = Overrides::default();
    let key = Key::find("max_message_rate").unwrap();
    for (kind, name, source, value, is_of_rule) in live {
        let (_, value) = Key::read(key.name(), value).unwrap();
        let place = Place {
            file: "p.toml".into(),
            line: 3,
            column: 1,
        };
        let wish = Wish {
            kind: *kind,
            name: (*name).into(),
            source: source.map(Into::into),
            key,
            value,
            expires: NOON + Duration::from_secs(60),
            reason: "r".into(),
            by: if *is_of_rule {
                Wish::by_rule(&place)
            } else {
                "op".into()
            },
        };
        overrides.set(wish, NOON).unwrap();
    }
    let party = Party {
        source: "s",
        tenant: "acme",
        campaign: "spring",
    };
    let effective = shaping.resolve(&overrides, facts("x.test", &[]), party, NOON);
    let of = |scope: Scope| {
        let limits = effective.limits().into_iter();
        let rates = limits
            .filter(|limit| limit.key.scope == scope && limit.key.limited == Limited::Messages);
        let mut rates: Vec<String> = rates.map(|limit| limit.amount.to_string()).collect();
        rates.sort();
        rates.join(" ")
    };
    (of(Scope::Lane), of(Scope::Queue))
}

#[test]
fn what_a_rule_sets_makes_nothing_faster_and_lies_under_an_operators_word() {
    use TargetKind::{Domain, Queue, Site};
    let file = "[\"x.test\"]\nmx_rollup = false\nmax_message_rate = \"5/m\"\n\
                [[queue]]\ntenant = \"acme\"\ncampaign = \"spring\"\ndomain = \"x.test\"\nmax_message_rate = \"3/m\"\n";
    let site = "x.test";
    for (live, path, queue) in [
        (&[][..], "5/m", "3/m"),
        (&[(Domain, site, None, "9/m", true)], "5/m", "3/m"),
        (&[(Domain, site, Some("s"), "2/m", true)], "2/m", "3/m"),
        (&[(Domain, site, Some("t"), "2/m", true)], "5/m", "3/m"),
        (&[(Domain, site, None, "9/m", false)], "9/m", "3/m"),
        // Somebody's word holds, however far from the path it is said, and whatever a rule says nearer to it.
        (
            &[
                (Site, "", None, "8/m", false),
                (Domain, site, Some("s"), "2/m", true),
            ],
            "2/m",
            "3/m",
        ),
        (
            &[
                (Domain, site, None, "8/m", false),
                (Domain, site, Some("s"), "2/m", true),
            ],
            "8/m",
            "3/m",
        ),
        (
            &[(Queue, "acme/*/x.test", None, "4/m", true)],
            "5/m",
            "3/m 4/m",
        ),
        (
            &[(Queue, "acme/*/x.test", None, "2/m", true)],
            "5/m",
            "2/m 3/m",
        ),
        (
            &[(Queue, "acme/spring/x.test", None, "2/m", true)],
            "5/m",
            "2/m",
        ),
        (
            &[
                (Queue, "acme/*/x.test", None, "1/m", true),
                (Queue, "acme/spring/x.test", None, "7/m", false),
            ],
            "5/m",
            "7/m",
        ),
    ] {
        let (of_path, of_queue) = rates(file, live);
        assert_eq!((&*of_path, &*of_queue), (path, queue), "{live:?}");
    }
}
