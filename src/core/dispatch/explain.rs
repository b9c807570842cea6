//! Why mail to a domain goes as it does, for people.

use crate::shaping::limit::{Limit, Meter};
use crate::shaping::{OverlayAt, Override, Window};
use crate::words::Moment;

/// Whose mail is asked about; what is not said is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct By<'a> {
    pub source: Option<&'a str>,
    pub tenant: Option<&'a str>,
    pub campaign: Option<&'a str>,
}

/// The answer of [`Shapes::explain`](super::Shapes::explain).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub domain: String,
    pub site: String,
    pub mx_hosts: Vec<String>,
    /// Something is said of the domain that does not hold for its whole site.
    pub has_own_lane: bool,
    pub providers: Vec<String>,
    /// Who keeps count of what sources send there.
    pub provider: String,
    pub source: String,
    pub tenant: String,
    pub campaign: String,
    /// Of mail whose label names none, or one that there is not.
    pub default_pool: String,
    /// Messages of the tenant in its turn where it shares a lane.
    pub weight: u16,
    pub windows: Vec<WindowRow>,
    /// What is said of some hours only, in the order it is laid over each other.
    pub hours: Vec<HoursRow>,
    /// `tenant acme (place)`: none of this mail leaves.
    pub suspended: Vec<String>,
    /// What keeps mail of this path from leaving though nobody suspended it.
    pub barred: Option<String>,
    pub limits: Vec<LimitRow>,
    pub values: Vec<ValueRow>,
    pub overrides: Vec<OverrideRow>,
    /// All this is the same at least until then; `None`: until something is changed.
    pub until: Option<Moment>,
}

/// A delivery window of the tenant or the campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// `tenant acme`.
    pub whose: String,
    pub is_open: bool,
    /// When that changes.
    pub until: Moment,
    pub place: String,
}

/// Business hours, off hours or others of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoursRow {
    /// `provider.google.business_hours`.
    pub path: String,
    pub holds: bool,
    /// When that changes; `None`: never.
    pub until: Option<Moment>,
    pub place: String,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    pub name: String,
    pub amount: String,
    /// Where it was set.
    pub place: String,
    pub layer: &'static str,
    /// `3 of 32`; `None` while nothing has asked for it.
    pub used: Option<String>,
    /// When the next permit is there, if none is now.
    pub due: Option<Moment>,
}

/// One value, and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRow {
    pub key: String,
    pub value: String,
    pub place: String,
    pub layer: &'static str,
}

/// One live override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRow {
    /// `site mx.example.com`.
    pub target: String,
    pub key: String,
    pub value: String,
    pub reason: String,
    pub by: String,
    pub expires: Moment,
}

impl WindowRow {
    pub(super) fn of(window: &Window<'_>) -> Self {
        Self {
            whose: format!("{} {}", window.kind.name(), window.name),
            is_open: window.state.holds,
            until: window.state.until,
            place: window.place.to_string(),
        }
    }
}

impl HoursRow {
    pub(super) fn of(overlay: &OverlayAt<'_>) -> Self {
        Self {
            path: overlay.path.into(),
            holds: overlay.state.holds,
            until: Some(overlay.state.until).filter(|until| *until < Moment::NEVER),
            place: overlay.place.to_string(),
        }
    }
}

impl OverrideRow {
    pub fn of(set: &Override) -> Self {
        let wish = &set.wish;
        let mut target = format!("{} {}", wish.kind.name(), wish.name);
        target.truncate(target.trim_end().len());
        if let Some(source) = &wish.source {
            target.push_str(" from ");
            target.push_str(source);
        }
        Self {
            target,
            key: wish.key.name().into(),
            value: wish.value.to_string(),
            reason: wish.reason.to_string(),
            by: wish.by.to_string(),
            expires: wish.expires,
        }
    }
}

pub(super) fn used(limit: &Limit, now: Moment) -> String {
    match &limit.meter {
        Meter::Connections(connections) => {
            let here = format!("{} of {}", connections.open(), connections.max());
            match connections.total() {
                Some(total) => format!("{here} here, {total} of all nodes"),
                None => here,
            }
        }
        Meter::Rate(gcra) => format!("{} of {}", gcra.consumed(now), gcra.rate().burst()),
        Meter::Leased(leased) => format!(
            "{} of {} by all nodes, {} left here",
            leased.consumed(now),
            leased.rate().burst(),
            leased.left(now)
        ),
    }
}
