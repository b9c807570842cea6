//! What holds for a path at a moment: every value, and where it was set.

use smallvec::SmallVec;

use super::block::Merged;
use super::fault::Place;
use super::hours::State;
use super::index::{ByName, Shaping, SiteFacts, labelled};
use super::keys::{BASE, KEY_COUNT, Key, MAPS, SOURCES};
use super::overrides::{Live, Override, Overrides, TargetKind};
use super::params::{Layered, OverlayAt, Params};
use super::queue_name::QueueName;
use super::value::{Layer, Setting, Value};
use crate::words::Moment;

static NOTHING: Params = Params::NOTHING;

/// Fields by which a queue is named.
const TENANT: u8 = 0b100;
const CAMPAIGN: u8 = 0b010;
const DOMAIN: u8 = 0b001;
/// All that name a queue, from the least to the most specific.
const QUEUES: [u8; 8] = [
    0,
    DOMAIN,
    CAMPAIGN,
    TENANT,
    CAMPAIGN | DOMAIN,
    TENANT | DOMAIN,
    TENANT | CAMPAIGN,
    TENANT | CAMPAIGN | DOMAIN,
];

/// Who sends: the egress source, and whose message it is.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    pub source: &'a str,
    pub tenant: &'a str,
    pub campaign: &'a str,
}

/// What a provider, source, tenant, campaign or queue has of its own.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) name: &'a str,
    layered: Layered<'a>,
    live: Live<'a>,
}

/// The answer of [`Shaping::resolve`]. It borrows from files and overrides and holds until
/// [`Effective::until`].
#[derive(Debug)]
pub struct Effective<'a> {
    pub(super) facts: SiteFacts<'a>,
    pub(super) party: Party<'a>,
    slots: [Option<&'a Setting>; KEY_COUNT],
    /// Which of [`MAPS`], the name, and what it is.
    pub(super) named: SmallVec<[(usize, &'a str, &'a Setting); 4]>,
    pub(super) providers: SmallVec<[View<'a>; 2]>,
    pub(super) source: Option<View<'a>>,
    pub(super) tenant: Option<View<'a>>,
    pub(super) campaign: Option<View<'a>>,
    /// From the least to the most specific: the fields that it names, as of [`TENANT`], and what it says.
    queues: SmallVec<[(u8, View<'a>); 2]>,
    /// Blocks that say something at some hours only, in their order.
    hourly: SmallVec<[&'a Params; 2]>,
    live: SmallVec<[&'a Override; 2]>,
    windows: SmallVec<[Window<'a>; 2]>,
    weight: u16,
    until: Moment,
    now: Moment,
}

/// A delivery window at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window<'a> {
    /// A tenant or a campaign.
    pub kind: TargetKind,
    pub name: &'a str,
    /// Whether it is open, and until when that is so.
    pub state: State,
    pub place: &'a Place,
}

/// Mail that must not leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspension<'a> {
    /// `tenant acme`, `mail to example.com`.
    pub whose: String,
    /// It is said of the path, whosever mail it is.
    pub is_of_path: bool,
    pub place: &'a Place,
}

/// One effective value, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub key: String,
    pub value: String,
    pub place: &'a Place,
    pub layer: Layer,
}

impl Shaping {
    /// Every value that holds for `party` towards `facts` at `now`. The order, later wins: built-in,
    /// default, providers, their sources, site, domain, the site's source, the domain's source; over
    /// each block its overlays of the hour, over all files the live overrides, in the same order.
    pub fn resolve<'a>(
        &'a self,
        overrides: &'a Overrides,
        facts: SiteFacts<'a>,
        party: Party<'a>,
        now: Moment,
    ) -> Effective<'a> {
        let mut effective = Effective::new(facts, party, now);
        effective.lay_files(self, overrides);
        effective.lay_overrides(overrides);
        effective.look_at_labels(self, overrides);
        effective
    }

    /// What holds for mail of `party` whatever its path: of its source, tenant, campaign and queue.
    /// `None` if nothing is said of any tenant, campaign or queue.
    pub fn resolve_labels<'a>(
        &'a self,
        overrides: &'a Overrides,
        facts: SiteFacts<'a>,
        party: Party<'a>,
        now: Moment,
    ) -> Option<Effective<'a>> {
        let kinds = [TargetKind::Tenant, TargetKind::Campaign, TargetKind::Queue];
        let has_blocks = !(self.tenants.is_empty() && self.campaigns.is_empty());
        if !has_blocks && self.queues.is_empty() && !overrides.has_any(&kinds) {
            return None;
        }
        let mut effective = Effective::new(facts, party, now);
        effective.look_at_labels(self, overrides);
        Some(effective)
    }
}

impl<'a> Effective<'a> {
    fn new(facts: SiteFacts<'a>, party: Party<'a>, now: Moment) -> Self {
        Self {
            facts,
            party,
            slots: [None; KEY_COUNT],
            named: SmallVec::new(),
            providers: SmallVec::new(),
            source: None,
            tenant: None,
            campaign: None,
            queues: SmallVec::new(),
            hourly: SmallVec::new(),
            live: SmallVec::new(),
            windows: SmallVec::new(),
            weight: 1,
            until: Moment::NEVER,
            now,
        }
    }
}

impl<'a> Effective<'a> {
    fn lay_files(&mut self, shaping: &'a Shaping, overrides: &'a Overrides) {
        let facts = self.facts;
        self.lay(&shaping.builtin);
        self.lay(&shaping.default.params);
        let providers = shaping.providers_of(&facts);
        for index in &providers {
            let provider = &shaping.providers[*index as usize];
            let view = View {
                name: &provider.name,
                layered: provider.merged.params.at(self.now),
                live: overrides.of(TargetKind::Provider, &provider.name),
            };
            self.watch(&provider.merged.params, &view.layered);
            self.lay_layers(&view.layered);
            self.providers.push(view);
        }
        for (position, index) in providers.iter().enumerate() {
            let sources = &shaping.providers[*index as usize].merged.sources;
            let Some(params) = sources.get(self.party.source) else {
                continue;
            };
            let layered = params.at(self.now);
            self.watch(params, &layered);
            self.lay_layers(&layered);
            // The selection rate of a provider's source is the provider's limit, not the site's.
            self.providers[position].layered.extend(&layered);
        }
        let sites: SmallVec<[&'a Merged; 2]> = shaping.of_site(&facts).collect();
        let domain = shaping.of_domain(&facts);
        for merged in sites.iter().copied().chain(domain) {
            self.lay(&merged.params);
        }
        for merged in sites.iter().copied().chain(domain) {
            if let Some(params) = merged.sources.get(self.party.source) {
                self.lay(params);
            }
        }
    }

    fn lay(&mut self, params: &'a Params) {
        let layered = params.at(self.now);
        self.watch(params, &layered);
        self.lay_layers(&layered);
    }

    /// The hour may change what they say.
    fn watch(&mut self, params: &'a Params, layered: &Layered<'a>) {
        self.until = self.until.min(layered.until);
        if !params.overlays.is_empty() {
            self.hourly.push(params);
        }
    }

    fn lay_layers(&mut self, layered: &Layered<'a>) {
        for params in layered.iter() {
            for (key, setting) in params.iter() {
                self.slots[key.index()] = Some(setting);
            }
            for index in 0..MAPS.len() {
                for (name, setting) in params.named(index) {
                    self.name(index, name, setting);
                }
            }
        }
    }

    fn name(&mut self, index: usize, name: &'a str, setting: &'a Setting) {
        let mut known = self.named.iter_mut();
        match known.find(|(map, known, _)| *map == index && *known == name) {
            Some(known) => known.2 = setting,
            None => self.named.push((index, name, setting)),
        }
    }

    fn lay_overrides(&mut self, overrides: &'a Overrides) {
        let (facts, source) = (self.facts, self.party.source);
        let providers: SmallVec<[Live<'a>; 2]> = self.providers.iter().map(|v| v.live).collect();
        let all = core::iter::once(overrides.of(TargetKind::Default, ""))
            .chain(providers)
            .chain([
                overrides.of(TargetKind::Site, facts.site),
                overrides.of(TargetKind::Domain, facts.domain),
            ]);
        for live in all {
            for set in live.iter(source, self.now) {
                let slot = &mut self.slots[set.wish.key.index()];
                if set.covers(*slot) {
                    *slot = Some(&set.setting);
                }
                self.note(set);
            }
        }
    }

    fn note(&mut self, set: &'a Override) {
        self.until = self.until.min(set.wish.expires);
        self.live.push(set);
    }

    fn look_at_labels(&mut self, shaping: &'a Shaping, overrides: &'a Overrides) {
        let Party {
            source,
            tenant,
            campaign,
        } = self.party;
        self.source = self.view(&shaping.sources, overrides, TargetKind::Source, source);
        self.tenant = self.view(&shaping.tenants, overrides, TargetKind::Tenant, tenant);
        self.campaign = self.view(
            &shaping.campaigns,
            overrides,
            TargetKind::Campaign,
            campaign,
        );
        for (kind, name, map) in [
            (TargetKind::Tenant, tenant, &shaping.tenants),
            (TargetKind::Campaign, campaign, &shaping.campaigns),
        ] {
            let Some(block) = labelled(map, name) else {
                continue;
            };
            self.weight = block.weight.unwrap_or(self.weight);
            if let Some(window) = &block.delivery_window {
                self.windows.push(Window {
                    kind,
                    name,
                    state: window.hours.state(self.now),
                    place: &window.place,
                });
            }
        }
        self.look_at_queues(shaping, overrides);
    }

    fn look_at_queues(&mut self, shaping: &'a Shaping, overrides: &'a Overrides) {
        let has_live = overrides.has_any(&[TargetKind::Queue]);
        if shaping.queues.is_empty() && !has_live {
            return;
        }
        for mask in QUEUES {
            let name = self.queue(mask);
            let live = if has_live {
                overrides.of(TargetKind::Queue, &name.to_string())
            } else {
                Live::default()
            };
            let found = shaping
                .queues
                .get(&(name.tenant, name.campaign, name.domain));
            for set in live.iter(self.party.source, self.now) {
                self.note(set);
            }
            if found.is_none() && live.is_empty() {
                continue;
            }
            let params = found.unwrap_or(&NOTHING);
            let layered = params.at(self.now);
            self.watch(params, &layered);
            let name = "";
            let view = View {
                name,
                layered,
                live,
            };
            self.queues.push((mask, view));
        }
    }

    /// Of mail of this party, what `mask` says of it.
    pub(super) fn queue(&self, mask: u8) -> QueueName {
        let field = |bit: u8, name: &str| (mask & bit != 0).then(|| Box::from(name));
        QueueName {
            tenant: field(TENANT, self.party.tenant),
            campaign: field(CAMPAIGN, self.party.campaign),
            domain: field(DOMAIN, self.facts.domain),
        }
    }

    /// What queues say of `key`, and which fields name the one that does: an operator's word before those of
    /// files, of each the most specific; what rules say lies over files where it is less.
    pub(super) fn of_queues(&self, key: Key) -> Option<(u8, &'a Setting)> {
        let all = self.queue_limits(key).into_iter();
        all.reduce(
            |below, (mask, setting)| match key.tightens(&setting.value, &below.1.value) {
                true => (mask, setting),
                false => below,
            },
        )
    }

    /// The same, and beside it what rules say of wider or narrower queues, each of which counts for itself.
    pub(super) fn queue_limits(&self, key: Key) -> SmallVec<[(u8, &'a Setting); 2]> {
        let queues = || self.queues.iter().rev();
        let source = self.party.source;
        let live = queues().find_map(|(mask, view)| {
            let set = view.live.find(key, source, self.now)?;
            Some((*mask, &set.setting))
        });
        if let Some(live) = live {
            return SmallVec::from_slice(&[live]);
        }
        let of_file = queues().find_map(|(mask, view)| Some((*mask, view.layered.find(key)?)));
        let mut all: SmallVec<[(u8, &'a Setting); 2]> = of_file.into_iter().collect();
        for (mask, view) in queues() {
            for set in view.live.of_rules(key, source, self.now) {
                match all.iter_mut().find(|(known, _)| known == mask) {
                    Some((_, below)) if set.covers(Some(below)) => *below = &set.setting,
                    Some(_) => {}
                    None => all.push((*mask, &set.setting)),
                }
            }
        }
        all
    }

    fn view(
        &mut self,
        map: &'a ByName,
        overrides: &'a Overrides,
        kind: TargetKind,
        name: &'a str,
    ) -> Option<View<'a>> {
        let found = labelled(map, name);
        let live = overrides.of(kind, name);
        for set in live.iter(self.party.source, self.now) {
            self.note(set);
        }
        if found.is_none() && live.is_empty() {
            return None;
        }
        let params = found.map_or(&NOTHING, |labelled| &labelled.params);
        let layered = params.at(self.now);
        self.watch(params, &layered);
        Some(View {
            name,
            layered,
            live,
        })
    }

    pub(super) fn setting(&self, key: Key) -> Option<&'a Setting> {
        self.slots[key.index()]
    }

    /// What a view says of `key`.
    pub(super) fn of_view(&self, view: &View<'a>, key: Key) -> Option<&'a Setting> {
        let (source, now) = (self.party.source, self.now);
        let live = view.live.find(key, source, now).map(|set| &set.setting);
        let below = live.or_else(|| view.layered.find(key));
        let of_rules = view.live.of_rules(key, source, now);
        of_rules.fold(below, |below, set| match set.covers(below) {
            true => Some(&set.setting),
            false => below,
        })
    }

    /// What is said of `key` where an override of such a target would say something else.
    pub(crate) fn said(&self, key: Key, kind: TargetKind) -> Option<&'a Setting> {
        match kind {
            TargetKind::Queue => self.of_queues(key).map(|(_, setting)| setting),
            TargetKind::Default
            | TargetKind::Provider
            | TargetKind::Site
            | TargetKind::Domain
            | TargetKind::Source
            | TargetKind::Tenant
            | TargetKind::Campaign => self.setting(key),
        }
    }

    /// The names of the providers that match, in the order of their blocks.
    pub fn providers(&self) -> impl Iterator<Item = &'a str> {
        self.providers.iter().map(|view| view.name)
    }

    /// Live overrides that hold here.
    pub fn overrides(&self) -> &[&'a Override] {
        &self.live
    }

    /// What is said of some hours only, in the order it is laid over each other.
    pub fn hours(&self) -> Vec<OverlayAt<'a>> {
        let blocks = self.hourly.iter();
        blocks
            .flat_map(|params| params.overlays_at(self.now))
            .collect()
    }

    /// The delivery windows of the tenant and the campaign: mail may go while all are open.
    pub fn windows(&self) -> &[Window<'a>] {
        &self.windows
    }

    /// Messages of the tenant in its turn in a lane.
    pub const fn weight(&self) -> u16 {
        self.weight
    }

    /// Whatever suspends such mail.
    pub fn suspensions(&self) -> Vec<Suspension<'a>> {
        let key = const { Key::of("suspended") };
        let SiteFacts { domain, site, .. } = self.facts;
        let to = if domain.is_empty() { site } else { domain };
        let of_view = |view: &View<'a>| self.of_view(view, key);
        let tenant = self.tenant.as_ref().and_then(of_view);
        let campaign = self.campaign.as_ref().and_then(of_view);
        let queue = self.of_queues(key);
        let whose = queue.map(|(mask, _)| self.queue(mask).told());
        let all = [
            (format!("mail to {to}"), true, self.setting(key)),
            (format!("tenant {}", self.party.tenant), false, tenant),
            (format!("campaign {}", self.party.campaign), false, campaign),
            (
                whose.unwrap_or_default(),
                false,
                queue.map(|(_, setting)| setting),
            ),
        ];
        let held = all.into_iter().filter_map(|(whose, is_of_path, setting)| {
            let setting = setting.filter(|setting| setting.value == Value::Flag(true))?;
            Some(Suspension {
                whose,
                is_of_path,
                place: &setting.place,
            })
        });
        held.collect()
    }

    /// The values are the same at least until then: an overlay begins or ends, a window opens or
    /// closes, an override expires.
    pub fn until(&self) -> Moment {
        let windows = self.windows.iter().map(|window| window.state.until);
        windows.fold(self.until, Moment::min)
    }

    /// All values of the path with their places, in the order of the table of keys. Limits of
    /// providers, sources, tenants, campaigns and queues are told by [`Effective::limits`].
    pub fn rows(&self) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        for key in Key::all().filter(|key| key.row().may_stand(BASE | SOURCES)) {
            if let Some(setting) = self.setting(key) {
                rows.push(row(key.name().to_owned(), setting));
            }
            let mut named: Vec<_> = self.named.iter().collect();
            named.sort_by_key(|(_, name, _)| *name);
            for (_, name, setting) in named.into_iter().filter(|n| MAPS[n.0] == key) {
                rows.push(row(format!("{}.{name}", key.name()), setting));
            }
        }
        rows
    }
}

fn row(key: String, setting: &Setting) -> Row<'_> {
    Row {
        key,
        value: setting.value.to_string(),
        place: &setting.place,
        layer: setting.layer,
    }
}
