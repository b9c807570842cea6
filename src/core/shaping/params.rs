//! What one block says of a path: settings, named limits, and overlays by the hour.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::fault::{Place, Wrong};
use super::hours::{self, Hours, State, Window};
use super::keys::{Key, MAPS};
use super::read::{Entry, Node};
use super::reader::{Reader, form, join};
use super::value::Setting;
use crate::words::Moment;

/// Settings of one block. Cheap to clone: settings are shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    /// Sorted by key.
    settings: Vec<(Key, Arc<Setting>)>,
    /// One map per key of [`MAPS`].
    named: [BTreeMap<Box<str>, Arc<Setting>>; MAPS.len()],
    pub(super) overlays: Vec<Arc<Overlay>>,
}

/// Settings that hold in some hours only.
#[derive(Debug)]
pub(super) struct Overlay {
    /// `off_hours`, not `business_hours`.
    off: bool,
    hours: Hours,
    /// Off hours without a window of their own: when the business hours do not hold.
    inverse: bool,
    params: Params,
    /// Where the window was written, and what as.
    offset: usize,
    place: Place,
    path: Box<str>,
}

/// An overlay at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverlayAt<'a> {
    /// `provider.google.business_hours`.
    pub path: &'a str,
    pub place: &'a Place,
    /// Whether it holds, and until when that is so.
    pub state: State,
}

impl Overlay {
    fn state(&self, now: Moment) -> State {
        let state = self.hours.state(now);
        State {
            holds: state.holds != self.inverse,
            until: state.until,
        }
    }
}

impl Params {
    pub(super) const NOTHING: Self = Self {
        settings: Vec::new(),
        named: [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()],
        overlays: Vec::new(),
    };

    pub(super) fn set(&mut self, key: Key, setting: Setting) {
        self.share(key, Arc::new(setting));
    }

    fn share(&mut self, key: Key, setting: Arc<Setting>) {
        match self.settings.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => self.settings[at].1 = setting,
            Err(at) => self.settings.insert(at, (key, setting)),
        }
    }

    pub(super) fn set_named(&mut self, map: Key, name: &str, setting: Setting) {
        let index = map.map_index().expect("only maps have names");
        self.named[index].insert(name.into(), Arc::new(setting));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Setting)> {
        self.settings
            .iter()
            .map(|(key, setting)| (*key, &**setting))
    }

    /// Names and settings of the map `index` of [`MAPS`].
    pub(super) fn named(&self, index: usize) -> impl Iterator<Item = (&str, &Setting)> {
        let map = self.named[index].iter();
        map.map(|(name, setting)| (&**name, &**setting))
    }

    pub(super) fn find(&self, key: Key) -> Option<&Setting> {
        let at = self.settings.binary_search_by_key(&key, |(key, _)| *key);
        at.ok().map(|at| &*self.settings[at].1)
    }

    /// Lays `later` over this: settings replace, named ones merge, overlays of a kind replace.
    pub(super) fn merge(&mut self, later: &Self) {
        for (key, setting) in &later.settings {
            self.share(*key, setting.clone());
        }
        for (mine, theirs) in self.named.iter_mut().zip(&later.named) {
            for (name, setting) in theirs {
                mine.insert(name.clone(), setting.clone());
            }
        }
        for off in [false, true] {
            if later.overlays.iter().any(|overlay| overlay.off == off) {
                self.overlays.retain(|overlay| overlay.off != off);
                let theirs = later.overlays.iter().filter(|overlay| overlay.off == off);
                self.overlays.extend(theirs.cloned());
            }
        }
    }

    pub(super) fn overlays_at(&self, now: Moment) -> impl Iterator<Item = OverlayAt<'_>> {
        self.overlays.iter().map(move |overlay| OverlayAt {
            path: &overlay.path,
            place: &overlay.place,
            state: overlay.state(now),
        })
    }

    /// This and the overlays that hold at `now`, in the order they are laid over each other.
    pub(super) fn at(&self, now: Moment) -> Layered<'_> {
        let mut layers = SmallVec::from_slice(&[self]);
        let mut until = Moment::NEVER;
        for overlay in &self.overlays {
            let state = overlay.state(now);
            until = until.min(state.until);
            if state.holds {
                layers.push(&overlay.params);
            }
        }
        Layered { layers, until }
    }
}

/// A block's settings at a moment.
#[derive(Debug)]
pub(super) struct Layered<'a> {
    layers: SmallVec<[&'a Params; 3]>,
    /// The overlays are the same at least until then.
    pub(super) until: Moment,
}

impl<'a> Layered<'a> {
    /// From the lowest layer to the highest.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Params> {
        self.layers.iter().copied()
    }

    /// Puts the layers of `over` over these.
    pub(super) fn extend(&mut self, over: &Self) {
        self.layers.extend_from_slice(&over.layers);
    }

    pub(super) fn find(&self, key: Key) -> Option<&'a Setting> {
        self.layers.iter().rev().find_map(|params| params.find(key))
    }
}

/// Keys of a window, beside the settings of an overlay.
const WINDOW_KEYS: &[&str] = &["timezone", "days", "from", "to"];

/// A window as written.
#[derive(Default)]
struct RawWindow {
    zone: Option<jiff::tz::TimeZone>,
    days: Option<u8>,
    from: Option<u16>,
    to: Option<u16>,
}

impl Reader<'_, '_> {
    pub(super) fn overlay(
        &mut self,
        path: &str,
        off: bool,
        node: &Node<'_>,
        places: u8,
    ) -> Option<Overlay> {
        let entries = self.table(path, node)?;
        let mut raw = RawWindow::default();
        let mut params = Params::default();
        let faults = self.faults.len();
        for entry in entries {
            if WINDOW_KEYS.contains(&&*entry.key) {
                self.window_key(path, entry, &mut raw);
            } else {
                self.setting(path, entry, (places, WINDOW_KEYS), &mut params);
            }
        }
        if self.faults.len() > faults {
            return None;
        }
        let no_window = raw.days.is_none() && raw.from.is_none() && raw.to.is_none();
        let inverse = off && no_window;
        let hours = if inverse {
            Hours(Vec::new())
        } else {
            let usual = if off { (0, 24 * 60) } else { (9 * 60, 17 * 60) };
            let days = if off {
                Window::EVERY_DAY
            } else {
                Window::WORKING_DAYS
            };
            Hours(vec![self.window(path, node.offset, raw, days, usual)?])
        };
        Some(Overlay {
            off,
            hours,
            inverse,
            params,
            offset: node.offset,
            place: self.place(node.offset),
            path: path.into(),
        })
    }

    /// `delivery_window`: one window or several.
    pub(super) fn hours(&mut self, path: &str, node: &Node<'_>) -> Option<Hours> {
        let mut windows = Vec::new();
        for item in Self::one_or_more(node) {
            let mut raw = RawWindow::default();
            let faults = self.faults.len();
            for entry in self.table(path, item)? {
                if WINDOW_KEYS.contains(&&*entry.key) {
                    self.window_key(path, entry, &mut raw);
                } else {
                    self.unknown(path, entry, 0, WINDOW_KEYS);
                }
            }
            // What is missing because it was wrong is told already.
            if self.faults.len() > faults {
                continue;
            }
            let whole_days = (0, 24 * 60);
            windows.extend(self.window(path, item.offset, raw, Window::EVERY_DAY, whole_days));
        }
        Some(Hours(windows))
    }

    fn window_key(&mut self, path: &str, entry: &Entry<'_>, raw: &mut RawWindow) {
        let path = join(path, &entry.key);
        let node = &entry.node;
        if entry.key == "days" {
            let items = Self::one_or_more(node).iter();
            raw.days = items
                .map(|item| item.tree.text().and_then(days))
                .try_fold(0, |all, days| Some(all | days?))
                .filter(|days| *days != 0);
            if raw.days.is_none() {
                self.fault(
                    node.offset,
                    path,
                    form("days such as \"mon\" or \"mon-fri\"", node),
                );
            }
            return;
        }
        let Some(text) = self.text(&path, node) else {
            return;
        };
        if entry.key == "timezone" {
            raw.zone = hours::zone(&text);
            if raw.zone.is_none() {
                self.fault(node.offset, path, Wrong::TimeZone(text.into()));
            }
            return;
        }
        let clock = hours::clock(&text);
        if clock.is_none() {
            self.fault(node.offset, path, form("a time such as \"08:30\"", node));
        }
        if entry.key == "from" {
            raw.from = clock;
        } else {
            raw.to = clock;
        }
    }

    fn window(
        &mut self,
        path: &str,
        offset: usize,
        raw: RawWindow,
        days: u8,
        usual: (u16, u16),
    ) -> Option<Window> {
        let (from, to) = match (raw.from, raw.to) {
            (Some(from), Some(to)) => (from, to),
            (None, None) => usual,
            (from, _) => {
                let missing = if from.is_none() { "from" } else { "to" };
                self.fault(offset, join(path, missing), Wrong::Missing);
                return None;
            }
        };
        let Some(zone) = raw.zone else {
            self.fault(offset, join(path, "timezone"), Wrong::Missing);
            return None;
        };
        if from == to || from == 24 * 60 {
            self.fault(offset, path, Wrong::NoHours);
            return None;
        }
        Some(Window::new(zone, raw.days.unwrap_or(days), from, to))
    }

    /// Adds a block's overlays; off hours without a window get the rest of the business hours.
    pub(super) fn lay(
        &mut self,
        path: &str,
        (business, mut off): (Vec<Overlay>, Vec<Overlay>),
        params: &mut Params,
    ) {
        let windows = || business.iter().flat_map(|overlay| overlay.hours.0.iter());
        for overlay in off.iter_mut().filter(|overlay| overlay.inverse) {
            overlay.hours = Hours(windows().cloned().collect());
            if overlay.hours.0.is_empty() {
                let path = join(path, "off_hours");
                self.fault(overlay.offset, path, Wrong::NoBusinessHours);
            }
        }
        let all = business.into_iter().chain(off);
        params.overlays.extend(all.map(Arc::new));
    }
}

/// `mon`, `mon-fri`, `sat-mon`.
fn days(text: &str) -> Option<u8> {
    let Some((first, last)) = text.split_once('-') else {
        return hours::day(text.trim());
    };
    let (first, last) = (hours::day(first.trim())?, hours::day(last.trim())?);
    let (mut day, mut all) = (first, first);
    while day != last {
        day = if day == 0x40 { 1 } else { day << 1 };
        all |= day;
    }
    Some(all)
}
