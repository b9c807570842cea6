//! The spool's disk.

use crate::amount::{Unit, show};
use crate::check::Check;
use crate::host::{Host, Mount};

use super::sheet::{Case, Sheet, Value};
use super::{Measured, Wanted};

/// Mount options that keep flushes from the disk.
const UNFLUSHED: &[&str] = &["nobarrier", "barrier=0"];

pub(super) fn judge(host: &Host, wanted: &Wanted, measured: &Measured, sheet: &mut Sheet<'_>) {
    let mount = host.mount_of(&wanted.spool);
    let mut case = Case::word(Check::Filesystem, mount.map(|mount| mount.kind.as_str()));
    if let Some(mount) = mount {
        let point = mount.point.display();
        case = case.said(format!("{} at {point}", mount.kind));
    }
    sheet.judge(case);
    sheet.judge(cache(mount));
    sheet.judge(match &measured.sync {
        None => Case::new(Check::Sync, Value::Unknown("not measured")),
        Some(Err(error)) => Case::new(Check::Sync, Value::Bad(error.clone())),
        Some(Ok(latency)) => {
            let [p50, p99] = [latency.p50, latency.p99].map(|n| show(n, Unit::Micros));
            Case::number(Check::Sync, Some(latency.p99)).said(format!("p50 {p50}, p99 {p99}"))
        }
    });
    let least = sheet
        .least(Check::Space)
        .max(wanted.free_octets_min.saturating_mul(2));
    for (place, space) in &measured.spaces {
        let place = place.display();
        let case = Case::number(Check::Space, Some(space.free_octets));
        sheet.judge(case.of(&place).at_least(least));
        let case = Case::number(Check::Inodes, Some(space.free_inodes.unwrap_or(u64::MAX)));
        sheet.judge(case.of(&place));
    }
    if measured.spaces.is_empty() {
        sheet.judge(Case::number(Check::Space, None));
        sheet.judge(Case::number(Check::Inodes, None));
    }
}

fn cache(mount: Option<&Mount>) -> Case {
    let word = mount.and_then(|mount| {
        let is_unflushed = mount
            .options
            .iter()
            .any(|option| UNFLUSHED.contains(&option.as_str()));
        match mount.write_cache.as_deref()? {
            "write through" => Some("no cache"),
            _ if is_unflushed => Some("never flushed"),
            _ => Some("flushed"),
        }
    });
    Case::word(Check::WriteCache, word)
}
