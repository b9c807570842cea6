//! Expectations: a value of the report between bounds.

use crate::document::Wrong;
use crate::provider::Class;
use posthaste_core::words::nearest;
use serde::Serialize;
use serde_json::Value;

/// `of` is a path into the report: `providers.NAME.KEY` or `loads.NUMBER.KEY`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expectation {
    pub(super) of: String,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// What became of an expectation.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) of: String,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) value: Option<f64>,
    pub(super) met: bool,
    /// Why there is no value.
    pub(super) fault: Option<String>,
}

/// Counts by class in a provider's part of the report.
const BY_CLASS: [&str; 2] = ["deferred", "refused"];
/// Counts by the text of the error in a load's part: no closed list, so only their sum can be expected.
const BY_TEXT: &str = "errors";

impl Expectation {
    /// What is wrong with the path itself. A class that no provider knows would be one that was given zero times, which any `max` meets.
    pub(super) fn fault(&self) -> Option<Wrong> {
        let path: Vec<_> = self.of.split('.').collect();
        match path[..] {
            ["providers", _, key, class] if BY_CLASS.contains(&key) => {
                let known = || Class::ALL.iter().map(|class| class.name());
                let is_known = known().any(|name| name == class);
                (!is_known).then(|| Wrong::UnknownWord {
                    word: class.to_owned(),
                    kind: "a class of replies",
                    nearest: nearest(class, known()).map(str::to_owned),
                })
            }
            ["loads", _, BY_TEXT, _, ..] => Some(Wrong::Form {
                expected: "the sum of all errors, such as `loads.0.errors`: they have no names that are known before".to_owned(),
                found: format!("{:?}", self.of),
            }),
            _ => None,
        }
    }

    pub(super) fn judge(&self, report: &Value) -> Finding {
        let found = value_of(report, &self.of);
        let value = found.as_ref().ok().copied();
        let met = value.is_some_and(|value| {
            self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
        });
        Finding {
            of: self.of.clone(),
            min: self.min,
            max: self.max,
            value,
            met,
            fault: found.err(),
        }
    }
}

fn value_of(report: &Value, path: &str) -> Result<f64, String> {
    let mut at = report;
    let mut is_by_class = false;
    let mut last = "";
    for key in path.split('.') {
        let next = match at {
            Value::Array(list) => key.parse::<usize>().ok().and_then(|index| list.get(index)),
            Value::Object(map) => map.get(key),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        let Some(next) = next else {
            // A class that was never given is one that was given zero times.
            if is_by_class {
                return Ok(0.0);
            }
            return Err(nothing(at, key));
        };
        is_by_class = BY_CLASS.contains(&key);
        last = key;
        at = next;
    }
    match at {
        Value::Number(number) => number.as_f64().ok_or_else(|| "is no number".to_owned()),
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::Null => Err("has no value here".to_owned()),
        Value::Object(counts) if is_by_class || last == BY_TEXT => {
            Ok(counts.values().filter_map(Value::as_f64).sum())
        }
        Value::String(_) | Value::Array(_) | Value::Object(_) => Err("is no number".to_owned()),
    }
}

fn nothing(at: &Value, key: &str) -> String {
    let known = at.as_object().into_iter().flat_map(|map| map.keys());
    let nearest = nearest(key, known.map(String::as_str)).map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    });
    format!("`{key}` is not in the report{nearest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(of: &str, min: Option<f64>, max: Option<f64>) -> Finding {
        let report = serde_json::json!({
            "loads": [{"accepted": 5, "errors": {"time-out": 2, "connect: refused": 1}}],
            "providers": {"x": {"deferred": {"rate": 3}, "goodput_over_capacity": 0.5, "capacity": null}},
        });
        let of = of.to_owned();
        Expectation { of, min, max }.judge(&report)
    }

    #[test]
    fn values_are_found_and_held_against_their_bounds() {
        assert!(judge("loads.0.accepted", Some(5.0), Some(5.0)).met);
        assert!(!judge("loads.0.accepted", Some(6.0), None).met);
        assert!(judge("providers.x.deferred.rate", None, Some(3.0)).met);
        assert!(judge("providers.x.deferred.block", None, Some(0.0)).met);
        assert!(!judge("providers.x.goodput_over_capacity", Some(0.6), None).met);
        assert_eq!(judge("providers.x.deferred", None, None).value, Some(3.0));
        assert_eq!(judge("loads.0.errors", None, None).value, Some(3.0));
    }

    #[test]
    fn what_is_not_there_is_never_met() {
        let finding = judge("providers.x.goodput_over_capaciti", Some(0.0), None);
        assert!(!finding.met);
        assert!(
            finding
                .fault
                .unwrap()
                .contains("did you mean `goodput_over_capacity`?")
        );
        assert!(!judge("loads.1.accepted", Some(0.0), None).met);
        assert!(!judge("providers.x.capacity", Some(0.0), None).met);
    }
}
