//! Pools of egress sources and the warm-up of young ones: the `[[pool]]` and `[[warmup]]` tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use posthaste_core::egress::{Days, Hours, Ladder, Selection, Source};
use posthaste_core::shaping::Zone;

use super::check::{Reader, amount, as_text};
use super::egress::name;
use super::fault::Wrong;
use super::knobs::Kind;
use super::source::{Given, form};
use super::types::{Pool, PoolMember, Warmup};

/// The pool that mail leaves by of which nothing else is said.
pub const POOL_DEFAULT: &str = "default";
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const WEIGHT_MAX: u32 = 1_000_000;

impl Reader {
    pub(super) fn pools(&mut self, sources: &[Source]) -> Vec<Pool> {
        let mut seen = BTreeSet::new();
        let mut pools = Vec::new();
        for index in self.indices("pool") {
            let table = format!("pool[{index}]");
            let key = format!("{table}.name");
            let name = self.required(&key, |given, _| name(given), Arc::default());
            if !name.is_empty() && !seen.insert(Arc::clone(&name)) {
                self.fault(&key, Wrong::Twice(name.to_string()));
            }
            pools.push(Pool {
                name,
                selection: match self.choice(&format!("{table}.selection")).as_str() {
                    "reputation" => Selection::Reputation,
                    "sticky" => Selection::Sticky,
                    _ => Selection::Weighted,
                },
                hours: self.hours(&table),
                members: self.members(&table, sources),
            });
        }
        pools
    }

    fn members(&mut self, table: &str, sources: &[Source]) -> Vec<PoolMember> {
        let before = self.faults_so_far();
        let mut members: Vec<PoolMember> = Vec::new();
        for index in self.indices(&format!("{table}.member")) {
            let member = format!("{table}.member[{index}]");
            let key = format!("{member}.source");
            let source = self.known_source(&key, sources);
            if !source.is_empty() && members.iter().any(|known| known.source == source) {
                self.fault(&key, Wrong::Twice(source.to_string()));
            }
            members.push(PoolMember {
                source,
                weight: self.count(&format!("{member}.weight")),
                off_hours: self.one(&format!("{member}.weight_off_hours"), weight),
            });
        }
        let is_used = |m: &PoolMember| m.weight.max(m.off_hours.unwrap_or(0)) > 0;
        if before == self.faults_so_far() && !members.iter().any(is_used) {
            self.fault(&format!("{table}.member"), Wrong::Missing);
        }
        members
    }

    fn known_source(&mut self, key: &str, sources: &[Source]) -> Arc<str> {
        let source = self.required(key, |given, _| name(given), Arc::default());
        if !source.is_empty() && !sources.iter().any(|known| known.name == source) {
            let found = format!("\"{source}\"");
            let bound = "the name of a source".into();
            self.fault(key, Wrong::Bounds { found, bound });
        }
        source
    }

    fn hours(&mut self, table: &str) -> Option<(Hours, Zone)> {
        let days = self.list(&format!("{table}.hours.days"), weekday);
        let from = self.one(&format!("{table}.hours.from"), minute);
        let to = self.one(&format!("{table}.hours.to"), minute);
        let zone = self.one(&format!("{table}.hours.zone"), zone)?;
        let days = Days::of(days);
        let offset = 0;
        let hours = Hours {
            days,
            from,
            to,
            offset,
        };
        Some((hours, zone))
    }

    pub(super) fn warmups(&mut self, sources: &[Source]) -> Vec<Warmup> {
        let mut warmups = Vec::new();
        for index in self.indices("warmup") {
            let table = format!("warmup[{index}]");
            let source = self.known_source(&format!("{table}.source"), sources);
            let providers = self.list(&format!("{table}.providers"), |given, _| {
                as_text(given, "a provider's name").map(Box::from)
            });
            let key = format!("{table}.days");
            let before = self.faults_so_far();
            let days: Vec<u32> = self.list(&key, |given, kind| {
                amount(given, kind).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
            });
            let ladder = Ladder::new(&days).unwrap_or_else(|error| {
                if before == self.faults_so_far() {
                    let found = format!("a list of {}", days.len());
                    let bound = error.to_string();
                    self.fault(&key, Wrong::Bounds { found, bound });
                }
                Ladder::default()
            });
            warmups.push(Warmup {
                source,
                providers,
                ladder,
            });
        }
        warmups
    }
}

fn weight(given: &Given, _: &Kind) -> Result<Option<u32>, Wrong> {
    const EXPECTED: &str = "a number from 0 to 1000000, or empty";
    let weight = match given {
        Given::Text(text) if text.is_empty() => return Ok(None),
        Given::Number(number) => u32::try_from(*number).ok(),
        Given::Text(text) => text.parse().ok(),
        Given::Bool(_) | Given::Decimal(_) | Given::List(_) | Given::Foreign(_) => None,
    };
    let weight = weight.filter(|weight| *weight <= WEIGHT_MAX);
    weight.map(Some).ok_or_else(|| form(EXPECTED, given))
}

fn weekday(given: &Given, _: &Kind) -> Result<u8, Wrong> {
    const EXPECTED: &str = "a day such as \"mon\"";
    let text = as_text(given, EXPECTED)?;
    let place = WEEKDAYS.iter().position(|day| *day == text);
    place
        .and_then(|place| u8::try_from(place).ok())
        .ok_or_else(|| form(EXPECTED, given))
}

/// Of the day.
fn minute(given: &Given, _: &Kind) -> Result<u16, Wrong> {
    const EXPECTED: &str = "a time of day such as \"09:00\"";
    let text = as_text(given, EXPECTED)?;
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let hour: u16 = hour.parse().ok().filter(|hour| *hour <= 24)?;
        let minute: u16 = minute.parse().ok().filter(|minute| *minute < 60)?;
        Some(hour * 60 + minute).filter(|minutes| *minutes <= 1440)
    });
    parsed.ok_or_else(|| form(EXPECTED, given))
}

fn zone(given: &Given, _: &Kind) -> Result<Option<Zone>, Wrong> {
    const EXPECTED: &str = "a time zone such as \"Europe/Berlin\"";
    match as_text(given, EXPECTED)? {
        "" => Ok(None),
        text => Zone::find(text)
            .map(Some)
            .ok_or_else(|| form(EXPECTED, given)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, check};
    use super::*;

    const SOURCES: &str = "[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\n";

    fn read(text: &str) -> Result<(Vec<Pool>, Vec<Warmup>), Vec<String>> {
        let settings = Settings {
            file: Some(("t".into(), format!("{SOURCES}{text}"))),
            ..Settings::default()
        };
        let told = |faults: Vec<super::super::Fault>| -> Vec<String> {
            faults.iter().map(ToString::to_string).collect()
        };
        let config = check(&settings).map_err(told)?;
        Ok((config.pools, config.warmups))
    }

    #[test]
    fn pools_have_members_with_weights_and_hours() {
        let (pools, warmups) = read(
            "[[pool]]\nname = \"bulk\"\nselection = \"sticky\"\n\
             [pool.hours]\nzone = \"Europe/Berlin\"\nto = \"06:30\"\n\
             [[pool.member]]\nsource = \"a\"\nweight = 3\nweight_off_hours = 0\n\
             [[pool.member]]\nsource = \"b\"\n\
             [[warmup]]\nsource = \"b\"\nproviders = [\"google\"]\ndays = [5, 10]\n",
        )
        .unwrap();
        let pool = &pools[0];
        assert_eq!(pool.selection, Selection::Sticky);
        let weights: Vec<_> = pool
            .members
            .iter()
            .map(|m| (m.weight, m.off_hours))
            .collect();
        assert_eq!(weights, [(3, Some(0)), (1, None)]);
        let (hours, _) = pool.hours.as_ref().unwrap();
        assert_eq!((hours.from, hours.to), (540, 390));
        assert_eq!(warmups[0].ladder.days(), 2);
        assert_eq!(&*warmups[0].providers[0], "google");
    }

    #[test]
    fn what_is_wrong_with_a_pool_is_told_where_it_stands() {
        for (text, told) in [
            ("[[pool]]\nname = \"p\"\n", "`pool[0].member` must be given"),
            (
                "[[pool]]\nname = \"p\"\n[[pool.member]]\nsource = \"c\"\n",
                "\"c\" is out of bounds: the name of a source",
            ),
            (
                "[[pool]]\nname = \"p\"\n[[pool.member]]\nsource = \"a\"\nweight = 0\n",
                "must be given",
            ),
            (
                "[[pool]]\nname = \"p\"\n[[pool.member]]\nsource = \"a\"\n[[pool.member]]\nsource = \"a\"\n",
                "stands twice: a",
            ),
            (
                "[[pool]]\nname = \"p\"\n[pool.hours]\nzone = \"Mars\"\n[[pool.member]]\nsource = \"a\"\n",
                "a time zone",
            ),
            (
                "[[warmup]]\nsource = \"a\"\ndays = [10, 5]\n",
                "no fewer messages than the day before",
            ),
            (
                "[[warmup]]\nsource = \"a\"\ndays = []\n",
                "between 1 and 200 days",
            ),
        ] {
            let faults = read(text).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains(told), "{faults:?}");
        }
    }
}
