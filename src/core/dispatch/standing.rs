//! How sources stand: at each site, with each provider, and whether they are of use at all. What is
//! found out here is told to the other shards.

use core::time::Duration;
use std::sync::Arc;

use super::brain::Dispatch;
use super::firing::{Firing, Mail};
use super::fleet::{Fleet, PoolId, PoolPlan};
use super::interface::Action;
use super::lane::{LaneKey, Via, Wake};
use super::terms::{facts, hosts};
use super::verdict::{Finding, event};
use crate::egress::{
    Event, HealthState, Hours, Pool, Reputation, ReputationRules, SourceId, Standing, TallyState,
};
use crate::words::{Moment, Outcome, ShardId, SiteName};

/// What was counted is told so often.
const NEWS_EVERY: Duration = Duration::from_secs(10);
/// What has been forgotten is dropped so often.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// What a shard has found out about sources, for all others and for whoever keeps it over a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Standing {
        pool: Arc<str>,
        state: HealthState,
        /// What the peer said, or what became of it.
        why: Box<str>,
    },
    Counted(Vec<TallyState>),
    /// It is of no use to anybody, or of use again.
    Suspended {
        source: SourceId,
        suspension: Option<Suspension>,
    },
}

/// A source that is of no use to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// When it is probed.
    pub until: Moment,
    pub why: Arc<str>,
}

/// How a source of a pool stands with a site, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRow {
    pub pool: Arc<str>,
    pub source: Arc<str>,
    pub weight: u32,
    pub off_hours: Option<u32>,
    pub standing: Standing,
    /// Why it is of no use to anybody.
    pub suspended: Option<Arc<str>>,
    /// Of 1000, at the site's provider.
    pub score: u16,
}

/// One per shard.
#[derive(Debug)]
pub(super) struct Egress {
    /// `None`: no source of it may be used.
    pools: Vec<Option<Pool>>,
    reputation: Reputation,
    suspended: Vec<Option<Suspension>>,
    /// The pools' hours are those of the clock until then.
    hours_until: Moment,
    is_news_due: bool,
    swept: Moment,
}

impl Egress {
    pub(super) fn new(fleet: &Fleet, shard: ShardId) -> Self {
        let pool = |plan: &PoolPlan| {
            let hours = plan.hours.as_ref().map(|(hours, _)| *hours);
            let members = plan.members.clone();
            Pool::new(members, hours, plan.selection, plan.rules, shard).ok()
        };
        Self {
            pools: fleet.pools().iter().map(pool).collect(),
            reputation: Reputation::new(ReputationRules::default()),
            suspended: vec![None; fleet.sources().len()],
            hours_until: Moment::default(),
            is_news_due: false,
            swept: Moment::default(),
        }
    }

    /// The pool, with what else is to be known for choosing.
    pub(super) fn of(
        &mut self,
        pool: PoolId,
        fleet: &Fleet,
        now: Moment,
    ) -> (Option<&mut Pool>, &[Option<Suspension>], &Reputation) {
        if now >= self.hours_until {
            self.set_clocks(fleet, now);
        }
        let pool = self.pools.get_mut(usize::from(pool.0));
        let pool = pool.and_then(Option::as_mut);
        (pool, &self.suspended, &self.reputation)
    }

    /// Zones change their clocks twice a year.
    fn set_clocks(&mut self, fleet: &Fleet, now: Moment) {
        self.hours_until = Moment::NEVER;
        for (pool, plan) in self.pools.iter_mut().zip(fleet.pools()) {
            let (Some(pool), Some((hours, zone))) = (pool, &plan.hours) else {
                continue;
            };
            let (offset, until) = zone.offset(now);
            self.hours_until = self.hours_until.min(until);
            let hours = Some(Hours { offset, ..*hours });
            let changed = pool.change(plan.members.clone(), hours, plan.selection);
            changed.expect("the same members were taken before");
        }
    }

    fn pool(&mut self, pool: PoolId) -> Option<&mut Pool> {
        let pool = self.pools.get_mut(usize::from(pool.0));
        pool.and_then(Option::as_mut)
    }
}

impl Dispatch {
    /// What became of work that went by the lane, and whose it was where a message was under way: rules
    /// are set off, and who looks bad at the site steps aside there.
    pub(super) fn judge<'a>(
        &mut self,
        lane: u32,
        outcomes: impl Iterator<Item = (&'a Outcome, Option<&'a Mail>)>,
        now: Moment,
    ) {
        let is_of_source = matches!(self.lanes[lane].key.via, Via::Source(..));
        // One reply for all recipients is one verdict.
        let mut last: Option<(&Outcome, Option<&Mail>, Finding)> = None;
        for (outcome, mail) in outcomes {
            let is_well = matches!(outcome, Outcome::Delivered(_));
            if is_well && !is_of_source {
                continue;
            }
            let before = last.take();
            let before = before.filter(|(o, m, _)| *o == outcome && *m == mail);
            let is_told = before.is_some();
            let finding = match before {
                Some((_, _, finding)) => finding,
                None if is_well => Finding::well(),
                None => self.examine(lane, outcome, mail),
            };
            self.weigh(lane, outcome, &finding, is_told, now);
            last = Some((outcome, mail, finding));
        }
    }

    /// What went wrong. The rules that match are told.
    fn examine(&mut self, lane: u32, outcome: &Outcome, mail: Option<&Mail>) -> Finding {
        let state = &self.lanes[lane];
        let plan = Arc::clone(&state.plan);
        let apart = state.key.apart.as_deref().unwrap_or_default();
        let domain = mail.map_or(apart, |mail| mail.domain.as_str());
        let hosts = hosts(&plan);
        let facts = facts(&plan, &hosts, domain);
        let finding = self.shapes.find(&facts, outcome);
        self.fire(lane, &finding, (outcome, mail));
        finding
    }

    /// Rules that match are told to the node, which counts over all shards.
    fn fire(&mut self, lane: u32, finding: &Finding, (outcome, mail): (&Outcome, Option<&Mail>)) {
        let (Outcome::Deferred(cause) | Outcome::Refused(cause)) = outcome else {
            return;
        };
        let source = match self.lanes[lane].key.via {
            Via::Source(_, source) => Some(Arc::clone(&self.config.fleet.source(source).name)),
            Via::Sole | Via::Gate(_) => None,
        };
        for (rule, of) in &finding.rules {
            self.actions.push_back(Action::Fire(Box::new(Firing {
                rule: Arc::clone(rule),
                of: *of,
                blame: finding.blame,
                plan: Arc::clone(&self.lanes[lane].plan),
                source: source.clone(),
                mail: mail.cloned(),
                reply: Firing::line(cause),
            })));
        }
    }

    /// How the lane's source stands after the outcome. With `is_told`, what was said was said before.
    fn weigh(
        &mut self,
        lane: u32,
        outcome: &Outcome,
        finding: &Finding,
        is_told: bool,
        now: Moment,
    ) {
        let state = &self.lanes[lane];
        let Via::Source(pool_id, source) = state.key.via else {
            return;
        };
        if let Some(event) = event(outcome, finding.blame) {
            let provider = Arc::clone(&state.terms.provider);
            let name = Arc::clone(&self.config.fleet.source(source).name);
            self.egress.reputation.handle(&name, &provider, event, now);
            if let Some(warmup) = &self.lanes[lane].warmup {
                warmup.handle(event);
            }
            self.announce_soon(now);
        }
        if is_told {
            return;
        }
        let site = self.lanes[lane].key.site.clone();
        let random = self.random();
        let Some(pool) = self.egress.pool(pool_id) else {
            return;
        };
        pool.handle_outcome(&site, source, outcome, finding.blame, random, now);
        let why = match outcome {
            Outcome::Delivered(_) => String::new(),
            Outcome::Deferred(cause) | Outcome::Refused(cause) => cause.to_string(),
        };
        self.tell_standing(pool_id, &why, now);
    }

    /// A recipient of mail that the source sent to that provider called it spam.
    pub fn handle_complaint(&mut self, source: SourceId, provider: &str, now: Moment) {
        let name = Arc::clone(&self.config.fleet.source(source).name);
        let provider = Arc::from(provider);
        let event = Event::Complained;
        self.egress.reputation.handle(&name, &provider, event, now);
        if let Some(warmup) = self.config.fleet.climber(source, &provider) {
            warmup.handle(event);
        }
        self.announce_soon(now);
    }

    fn announce_soon(&mut self, now: Moment) {
        if self.shutting_down {
            self.announce(now);
        } else if !core::mem::replace(&mut self.egress.is_news_due, true) {
            self.due.push(now + NEWS_EVERY, Wake::News);
        }
    }

    pub(super) fn announce(&mut self, now: Moment) {
        self.egress.is_news_due = false;
        let counted = self.egress.reputation.take_news();
        if !counted.is_empty() {
            self.tell(News::Counted(counted));
        }
        if now.since(self.egress.swept) >= SWEEP_EVERY {
            self.egress.swept = now;
            self.egress.reputation.sweep(now);
        }
    }

    fn tell(&mut self, news: News) {
        self.actions.push_back(Action::Tell(Arc::new(news)));
    }

    /// Standings of the pool that have changed.
    pub(super) fn tell_standing(&mut self, pool: PoolId, why: &str, now: Moment) {
        while let Some(state) = self.egress.pool(pool).and_then(Pool::poll_told) {
            let (site, name) = (SiteName::new(&state.site), state.source.clone());
            self.tell(News::Standing {
                pool: Arc::clone(&self.config.fleet.pool(pool).name),
                state,
                why: why.into(),
            });
            self.obey_standing(pool, &site, &name, now);
        }
    }

    /// From another shard, or from before a restart.
    pub fn handle_news(&mut self, news: &News, now: Moment) {
        match news {
            News::Standing { pool, state, .. } => {
                let Some(id) = self.config.fleet.pool_named(pool) else {
                    return;
                };
                if let Some(pool) = self.egress.pool(id) {
                    pool.handle_told(state, now);
                    self.obey_standing(id, &SiteName::new(&state.site), &state.source, now);
                }
            }
            News::Counted(states) => {
                for state in states {
                    self.egress.reputation.handle_news(state, now);
                }
            }
            News::Suspended { source, suspension } => {
                self.suspend(*source, suspension.clone(), now);
            }
        }
    }

    /// The source is of no use to anybody before it has been probed: its work goes by others.
    pub fn handle_source_suspended(
        &mut self,
        source: SourceId,
        suspension: Suspension,
        now: Moment,
    ) {
        self.tell_suspended(source, Some(suspension), now);
    }

    pub fn handle_source_resumed(&mut self, source: SourceId, now: Moment) {
        self.tell_suspended(source, None, now);
    }

    /// Nothing is begun after a shutdown, by whatever source.
    fn tell_suspended(&mut self, source: SourceId, suspension: Option<Suspension>, now: Moment) {
        if self.shutting_down {
            return;
        }
        self.tell(News::Suspended {
            source,
            suspension: suspension.clone(),
        });
        self.suspend(source, suspension, now);
    }

    fn suspend(&mut self, source: SourceId, suspension: Option<Suspension>, now: Moment) {
        let Some(place) = self.egress.suspended.get_mut(source.0 as usize) else {
            return;
        };
        *place = suspension;
        for lane in self.lanes.numbers() {
            let Some(state) = self.lanes.get(lane) else {
                continue;
            };
            match state.key.via {
                Via::Source(_, of) if of == source => self.obey(lane, now),
                Via::Gate(_) if !state.strands.is_empty() => self.due.push(now, Wake::Lane(lane)),
                Via::Sole | Via::Gate(_) | Via::Source(..) => {}
            }
        }
    }

    /// Until when the lane's source is not to be used.
    pub(super) fn barred_until(
        &mut self,
        pool: PoolId,
        source: SourceId,
        lane: u32,
        now: Moment,
    ) -> Moment {
        if self.egress.suspended[source.0 as usize].is_some() {
            return Moment::NEVER;
        }
        let site = &self.lanes[lane].key.site;
        let pool = self.egress.pools.get(usize::from(pool.0));
        let pool = pool.and_then(Option::as_ref);
        let mut standings = pool.into_iter().flat_map(|pool| pool.standings(site));
        match standings.find(|(member, _)| member.source == source) {
            Some((_, Standing::Aside { until, .. })) => until,
            Some((_, Standing::Well | Standing::Probing { .. })) | None => now,
        }
    }

    /// The lanes of that source at that site do as it stands there.
    fn obey_standing(&mut self, pool: PoolId, site: &SiteName, name: &str, now: Moment) {
        let first = LaneKey {
            site: site.clone(),
            names: "".into(),
            apart: None,
            via: Via::Sole,
        };
        let of_site = self.lane_by_key.range(first..);
        let of_site = of_site.take_while(|(key, _)| key.site == *site);
        let fleet = &self.config.fleet;
        let is_its =
            |via| matches!(via, Via::Source(p, s) if p == pool && *fleet.source(s).name == *name);
        let lanes: Vec<u32> = of_site
            .filter(|(key, _)| is_its(key.via))
            .map(|(_, lane)| *lane)
            .collect();
        for lane in lanes {
            self.obey(lane, now);
        }
    }

    /// Work leaves the lane if its source is barred, and may come to it if not.
    fn obey(&mut self, lane: u32, now: Moment) {
        let Some(Via::Source(pool, source)) = self.lanes.get(lane).map(|lane| lane.key.via) else {
            return;
        };
        let until = self.barred_until(pool, source, lane, now);
        let state = &mut self.lanes[lane];
        state.barred_until = until;
        let gate = state.gate;
        if state.is_closed(now) {
            self.vacate(lane, now);
        } else if !self.lanes[gate].strands.is_empty() {
            self.due.push(now, Wake::Lane(gate));
        }
    }

    /// How the sources of a pool stand with a site.
    pub fn source_rows(&self, site: &SiteName, provider: &str, now: Moment) -> Vec<SourceRow> {
        let fleet = &self.config.fleet;
        let pools = self.egress.pools.iter().zip(fleet.pools());
        let pools = pools.filter_map(|(pool, plan)| Some((pool.as_ref()?, plan)));
        let rows = pools.flat_map(|(pool, plan)| {
            pool.standings(site).map(move |(member, standing)| {
                let suspended = &self.egress.suspended[member.source.0 as usize];
                let reputation = &self.egress.reputation;
                SourceRow {
                    pool: Arc::clone(&plan.name),
                    source: Arc::clone(&member.name),
                    weight: member.weight,
                    off_hours: member.off_hours,
                    standing,
                    suspended: suspended.as_ref().map(|s| Arc::clone(&s.why)),
                    score: reputation.score(&member.name, provider, now).permille(),
                }
            })
        });
        rows.collect()
    }
}
