//! Resolvers, sources and their names.

use crate::check::Check;

use super::sheet::{Case, Sheet, Value};
use super::{Measured, Reverse, Wanted};

pub(super) fn judge(wanted: &Wanted, measured: &Measured, sheet: &mut Sheet<'_>) {
    for resolver in &wanted.resolvers {
        let tried = measured.resolvers.iter().find(|(of, _)| of == resolver);
        let case = match tried {
            None => Case::new(Check::Resolver, Value::Unknown("not measured")),
            Some((_, Err(error))) => Case::new(Check::Resolver, Value::Bad(error.clone())),
            Some((_, Ok(latency))) => Case::number(Check::Resolver, Some(latency.p50)),
        };
        sheet.judge(case.of(resolver));
    }
    if wanted.resolvers.is_empty() {
        let value = Value::Bad("no resolver is configured".into());
        sheet.judge(Case::new(Check::Resolver, value));
    }
    if wanted.sources.is_empty() {
        let value = Value::Word("on this host".into());
        sheet.judge(Case::new(Check::Source, value).said("the kernel chooses".into()));
        if wanted.proxied.is_empty() {
            let value = Value::Unknown("the kernel chooses the address");
            sheet.judge(Case::new(Check::Reverse, value));
        }
    }
    if wanted.shares_limits {
        let value = if wanted.names_sources {
            Value::Word("named".into())
        } else {
            Value::Bad("has no name".into())
        };
        sheet.judge(Case::new(Check::SharedSource, value));
    }
    for source in &wanted.sources {
        // Whether it is there was tried by the start-up check.
        let case = Case::word(Check::Source, Some("on this host"));
        sheet.judge(case.of(source));
    }
    for source in wanted.sources.iter().chain(&wanted.proxied) {
        let reverse = measured.reverse.iter().find(|(of, _)| of == source);
        sheet.judge(named(reverse.map(|(_, reverse)| reverse)).of(source));
    }
}

fn named(reverse: Option<&Reverse>) -> Case {
    let unknown = |why| Case::new(Check::Reverse, Value::Unknown(why));
    match reverse {
        None => unknown("not measured"),
        Some(Reverse::Private) => unknown("not a public address"),
        Some(Reverse::Unreachable(why)) => unknown("no answer").said(why.clone()),
        Some(Reverse::Confirmed(name)) => {
            Case::word(Check::Reverse, Some("confirmed")).said(name.clone())
        }
        Some(Reverse::Nameless) => Case::new(Check::Reverse, Value::Bad("has no name".into())),
        Some(Reverse::Unconfirmed(name)) => {
            let said = format!("{name}, which does not lead back");
            Case::new(Check::Reverse, Value::Bad(said))
        }
    }
}
