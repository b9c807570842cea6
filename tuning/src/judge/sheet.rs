//! Where cases become findings: one comparison for all checks.

use crate::amount::show;
use crate::check::Check;
use crate::finding::{Finding, Refusal, Step, Verdict};
use crate::profile::{Profile, Want};

/// What was found, as it is judged.
pub(super) enum Value {
    Number(u64),
    Word(String),
    /// Not as it should be, whatever the bound.
    Bad(String),
    /// Why it is not known.
    Unknown(&'static str),
}

/// One thing to judge.
pub(super) struct Case {
    check: Check,
    value: Value,
    subject: Option<String>,
    said: Option<String>,
    at_least: Option<u64>,
    mask: String,
}

impl Case {
    pub(super) const fn new(check: Check, value: Value) -> Self {
        Self {
            check,
            value,
            subject: None,
            said: None,
            at_least: None,
            mask: String::new(),
        }
    }

    pub(super) fn number(check: Check, number: Option<u64>) -> Self {
        let value = number.map_or(Value::Unknown("not seen from here"), Value::Number);
        Self::new(check, value)
    }

    pub(super) fn word(check: Check, word: Option<&str>) -> Self {
        let word = word.map(str::to_owned);
        Self::new(
            check,
            word.map_or(Value::Unknown("not seen from here"), Value::Word),
        )
    }

    pub(super) fn of(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// In place of the bare value.
    pub(super) fn said(mut self, said: String) -> Self {
        self.said = Some(said);
        self
    }

    /// In place of the profile's lower bound.
    pub(super) const fn at_least(mut self, least: u64) -> Self {
        self.at_least = Some(least);
        self
    }

    /// CPUs in hexadecimal, for the fix.
    pub(super) fn mask(mut self, mask: String) -> Self {
        self.mask = mask;
        self
    }
}

pub(super) struct Sheet<'a> {
    profile: &'a Profile,
    refusals: &'a [Refusal],
    findings: Vec<Finding>,
}

impl<'a> Sheet<'a> {
    pub(super) const fn new(profile: &'a Profile, refusals: &'a [Refusal]) -> Self {
        Self {
            profile,
            refusals,
            findings: Vec::new(),
        }
    }

    /// The profile's lower bound; 0 when it has none.
    pub(super) fn least(&self, check: Check) -> u64 {
        self.profile.want(check).at_least().unwrap_or(0)
    }

    pub(super) fn judge(&mut self, case: Case) {
        let want = self.profile.want(case.check);
        let refusal = self.refusals.iter().find(|refusal| {
            refusal.check == case.check
                && (refusal.subject.is_none() || refusal.subject == case.subject)
        });
        self.findings.push(finding(case, want, refusal));
    }

    pub(super) fn findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.check);
        self.findings
    }
}

fn finding(case: Case, want: &Want, refusal: Option<&Refusal>) -> Finding {
    let Case {
        check,
        value,
        subject,
        said,
        at_least,
        mask,
    } = case;
    let at_least = at_least.or_else(|| want.at_least());
    let (fits, bare) = match value {
        Value::Number(number) => (
            Some(want.allows_number(number, at_least)),
            show(number, check.unit()),
        ),
        Value::Word(word) => (Some(want.allows_word(&word)), word),
        Value::Bad(said) => (Some(false), said),
        Value::Unknown(why) => (None, why.to_owned()),
    };
    let verdict = match (refusal, &want.skip, fits) {
        (Some(_), _, _) => Verdict::Fatal,
        (None, Some(_), _) | (None, None, None) => Verdict::Unknown,
        (None, None, Some(true)) => Verdict::Ok,
        (None, None, Some(false)) => Verdict::Warn,
    };
    let (wanted, bound) = match &want.skip {
        Some(skip) => (skip.clone(), String::new()),
        None => want.shown(check, at_least),
    };
    let filled = |text: &str| {
        text.replace("{wanted}", &bound)
            .replace("{subject}", subject.as_deref().unwrap_or_default())
            .replace("{mask}", &mask)
    };
    let is_trouble = verdict >= Verdict::Warn;
    let (mut why, mut fix) = (want.why.clone(), String::new());
    let mut found = said.unwrap_or(bare);
    if is_trouble {
        fix = filled(&want.fix);
    }
    if let Some(refusal) = refusal {
        let (trouble, cure) = refusal.parts();
        why = trouble;
        if !refusal.found.is_empty() {
            found.clone_from(&refusal.found);
        }
        if !cure.is_empty() {
            fix = cure;
        }
    }
    let steps = if is_trouble {
        let sysctls = want.sysctl.iter().map(|line| Step::Sysctl(filled(line)));
        let units = want.unit.iter().map(|line| Step::Unit(filled(line)));
        let shells = want.shell.iter().map(|line| Step::Shell(filled(line)));
        sysctls.chain(units).chain(shells).collect()
    } else {
        Vec::new()
    };
    Finding {
        check,
        verdict,
        found,
        wanted,
        why,
        fix,
        steps,
        subject,
    }
}
