//! What reading, laying over and resolving promise.

mod faults;
mod kumo;
mod labels;
mod limits;
mod lints;
mod order;
mod resolve;
mod scale;
mod shipped;
mod vocabulary;

use super::*;
use crate::words::{Moment, SiteName};

/// A Tuesday noon in Berlin.
const NOON: Moment = Moment::from_secs(1_795_518_000);

fn read(files: &[(&str, &str)]) -> Result<Shaping, Vec<Fault>> {
    let files: Vec<File<'_>> = files
        .iter()
        .map(|(name, text)| File {
            name,
            text,
            layer: Layer::Operator,
        })
        .collect();
    Shaping::read(&files)
}

/// As of a file that comes with the program: there keys may wait to be obeyed.
fn shaping(text: &str) -> Shaping {
    let file = File {
        name: "a.toml",
        text,
        layer: Layer::Shipped,
    };
    Shaping::read(&[file]).unwrap_or_else(|faults| panic!("{}", told(&faults).join("\n")))
}

fn told(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// A domain of its own, with one host.
fn facts<'a>(domain: &'a str, hosts: &'a [&'a str]) -> SiteFacts<'a> {
    let site = hosts.first().copied().unwrap_or(domain);
    SiteFacts {
        domain,
        mx_hosts: hosts,
        site,
    }
}

const fn party(source: &str) -> Party<'_> {
    Party {
        source,
        tenant: "t",
        campaign: "c",
    }
}

/// `value @ file:line` of a key, or a dash.
fn shown(effective: &Effective<'_>, key: &str) -> String {
    let rows = effective.rows();
    let row = rows.iter().find(|row| row.key == key);
    row.map_or_else(
        || "-".into(),
        |row| format!("{} @ {}:{}", row.value, row.place.file, row.place.line),
    )
}

fn value(effective: &Effective<'_>, key: &str) -> String {
    let shown = shown(effective, key);
    shown.split(" @ ").next().unwrap_or_default().to_owned()
}

fn found(pairs: &[(&str, &str)]) -> Sites {
    pairs
        .iter()
        .map(|(domain, site)| ((*domain).into(), Found::Site(SiteName::new(site))))
        .collect()
}
