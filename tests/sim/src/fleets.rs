//! The sources of a run, and what befalls them.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_core::dispatch::{Fleet, LadderPlan, PoolPlan};
use posthaste_core::egress::{
    HealthRules, Ladder, Member, Selection, Source, SourceId, WarmupState,
};
use posthaste_core::words::Moment;

use crate::rng::Rng;

/// Messages of the first day of a young source.
const YOUNG: u32 = 20;
/// Days are those of UTC.
const DAY_SECS: u64 = 86_400;

/// Drawn apart from all else, so that seeds without sources are what they were.
pub(crate) struct Fleets {
    sources: u32,
    selection: Selection,
    is_first_young: bool,
    /// Of each source, when it is of no use.
    outages: Vec<(Moment, Moment)>,
    /// What the young source has sent, by day.
    sent: BTreeMap<u64, u32>,
}

impl Fleets {
    pub(crate) fn draw(seed: u64, start: Moment) -> Self {
        let mut rng = Rng::new(seed ^ 0x00F1_EE75);
        let sources = match seed % 5 {
            0 | 1 => 1 + rng.below(4),
            _ => 0,
        };
        let outages = (0..sources).map(|_| {
            let begin = start + rng.micros(0, 5 * 3_600_000_000);
            (begin, begin + rng.micros(0, 3_600_000_000))
        });
        Self {
            outages: outages.collect(),
            sources: u32::try_from(sources).unwrap_or(0),
            selection: rng.pick(&[
                Selection::Weighted,
                Selection::Reputation,
                Selection::Sticky,
            ]),
            is_first_young: sources > 1 && rng.permille(500),
            sent: BTreeMap::new(),
        }
    }

    pub(crate) fn make(&self, before: Vec<WarmupState>) -> Arc<Fleet> {
        if self.sources == 0 {
            return Arc::default();
        }
        let name = |n: u32| format!("s{n}");
        let source = |n| Source::new(&name(n), Some([198, 51, 100, n as u8].into()));
        let member = |n| Member {
            source: SourceId(n),
            name: name(n).into(),
            weight: n + 1,
            off_hours: None,
        };
        let pool = PoolPlan {
            name: "default".into(),
            members: (0..self.sources).map(member).collect(),
            hours: None,
            selection: self.selection,
            rules: HealthRules::default(),
        };
        let ladder = LadderPlan {
            source: SourceId(0),
            providers: Vec::new(),
            ladder: Arc::new(Ladder::new(&[YOUNG, 2 * YOUNG]).expect("it rises")),
        };
        let ladders = if self.is_first_young {
            vec![ladder]
        } else {
            Vec::new()
        };
        let sources = (0..self.sources).map(source).collect();
        Arc::new(Fleet::new(sources, vec![pool], ladders, before))
    }

    /// How many lanes a site has.
    pub(crate) fn lanes(&self) -> usize {
        self.sources.max(1) as usize
    }

    /// How long the source is of no use from here on.
    pub(crate) fn outage(&self, source: Option<SourceId>, now: Moment) -> Option<Duration> {
        let (from, to) = self.outages.get(source?.0 as usize)?;
        (*from..*to).contains(&now).then(|| to.since(now))
    }

    /// A transaction was never sent.
    pub(crate) fn discount(&mut self, source: Option<SourceId>, now: Moment) {
        if let Some(sent) = self.sent.get_mut(&(now.as_secs() / DAY_SECS))
            && source == Some(SourceId(0))
        {
            *sent = sent.saturating_sub(1);
        }
    }

    /// A transaction has begun.
    pub(crate) fn count(&mut self, source: Option<SourceId>, now: Moment) {
        if !self.is_first_young || source != Some(SourceId(0)) {
            return;
        }
        let sent = self.sent.entry(now.as_secs() / DAY_SECS).or_default();
        *sent += 1;
        let is_first = self.sent.len() == 1;
        let sent = self.sent.values().next_back().copied().unwrap_or(0);
        // What was under way at midnight, or at a start, is of the day before.
        assert!(
            !is_first || sent <= YOUNG,
            "{sent} on the first day at {now:?}"
        );
    }
}
