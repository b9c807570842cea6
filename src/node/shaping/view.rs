//! What shaping says of a domain, as JSON: the same over HTTP and from the command line.

use posthaste_core::dispatch::{Explanation, HoursRow, LimitRow, OverrideRow, WindowRow};
use posthaste_core::words::Moment;
use serde_json::{Value, json};

/// `waiting` are the lanes of a running node.
pub fn explanation_view(said: &Explanation, waiting: &[Value]) -> Value {
    let limits: Vec<Value> = said.limits.iter().map(limit_view).collect();
    let values = said.values.iter().map(
        |row| json!({ "key": row.key, "value": row.value, "place": row.place, "layer": row.layer }),
    );
    json!({
        "domain": said.domain, "site": said.site, "mx_hosts": said.mx_hosts,
        "own_lane": said.has_own_lane, "providers": said.providers,
        "source": said.source, "tenant": said.tenant, "campaign": said.campaign,
        "default_pool": said.default_pool,
        "weight": said.weight,
        "windows": said.windows.iter().map(window_view).collect::<Vec<_>>(),
        "hours": said.hours.iter().map(hours_view).collect::<Vec<_>>(),
        "suspended": said.suspended,
        "barred": said.barred,
        "limits": limits,
        "values": values.collect::<Vec<_>>(),
        "overrides": said.overrides.iter().map(override_view).collect::<Vec<_>>(),
        "until": said.until.map(text_of),
        "lanes": waiting,
    })
}

fn window_view(row: &WindowRow) -> Value {
    json!({
        "window": row.whose, "open": row.is_open, "until": text_of(row.until), "place": row.place,
    })
}

fn hours_view(row: &HoursRow) -> Value {
    json!({
        "overlay": row.path, "holds": row.holds, "until": row.until.map(text_of), "place": row.place,
    })
}

fn limit_view(row: &LimitRow) -> Value {
    json!({
        "limit": row.name, "amount": row.amount, "place": row.place, "layer": row.layer,
        "used": row.used, "next_permit": row.due.map(text_of),
    })
}

pub fn override_view(row: &OverrideRow) -> Value {
    json!({
        "target": row.target, "key": row.key, "value": row.value,
        "reason": row.reason, "by": row.by, "expires": text_of(row.expires),
    })
}

fn text_of(moment: Moment) -> String {
    moment.rfc3339().to_string()
}
