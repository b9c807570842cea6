//! What a provider remembers of one client address: its connections, its penalty box, its block, the lists it is on.

use super::meter::Recent;
use super::profile::{Escalation, ListBit, Penalty};
use crate::quantity::Random;
use posthaste_core::words::Moment;
use std::net::IpAddr;
use std::time::Duration;

/// How far back a client's pace is looked at.
const PACE: Duration = Duration::from_secs(300);

/// What pressing on led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    Nothing,
    Boxed,
    Blocked,
}

/// One per client address.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
    pub(super) connections: u32,
    pub(super) connections_max: u32,
    offences: Recent,
    pub(super) boxed_until: Moment,
    probes: u32,
    pub(super) blocked_until: Moment,
    deferrals: Recent,
    pace: Recent,
    pace_most: f64,
    listed_until: Vec<Moment>,
    looked: Moment,
}

impl Source {
    pub(super) fn new(ip: IpAddr, lists: usize, now: Moment) -> Self {
        Self {
            ip,
            connections: 0,
            connections_max: 0,
            offences: Recent::default(),
            boxed_until: Moment::default(),
            probes: 0,
            blocked_until: Moment::default(),
            deferrals: Recent::default(),
            pace: Recent::default(),
            pace_most: 0.0,
            listed_until: vec![Moment::default(); lists],
            looked: now,
        }
    }

    pub(super) fn connect(&mut self) {
        self.connections += 1;
        self.connections_max = self.connections_max.max(self.connections);
    }

    pub(super) fn count_attempt(&mut self, now: Moment) {
        self.pace.add(PACE, now);
    }

    /// A probe in the penalty box; true when it made the stay longer.
    pub(super) fn probe(&mut self, penalty: &Penalty, now: Moment) -> bool {
        self.probes += 1;
        if self.probes <= penalty.probes {
            return false;
        }
        let longer = (self.boxed_until + penalty.extension).min(now + penalty.length_max);
        let is_longer = longer > self.boxed_until;
        self.boxed_until = self.boxed_until.max(longer);
        is_longer
    }

    /// An attempt that was put off for its pace.
    pub(super) fn press(
        &mut self,
        penalty: Option<&Penalty>,
        escalation: Option<&Escalation>,
        now: Moment,
    ) -> Consequence {
        if let Some(escalation) = escalation
            && self.escalates(escalation, now)
        {
            self.blocked_until = now + escalation.length;
            self.deferrals.clear();
            return Consequence::Blocked;
        }
        if let Some(penalty) = penalty
            && self.boxed_until <= now
            && self.offences.add(penalty.within, now) >= penalty.after
        {
            self.boxed_until = now + penalty.length;
            self.probes = 0;
            self.offences.clear();
            return Consequence::Boxed;
        }
        Consequence::Nothing
    }

    /// Many deferrals count only against a client that did not slow down since they began.
    fn escalates(&mut self, escalation: &Escalation, now: Moment) -> bool {
        let pace = self.pace.count(PACE, now);
        if self.deferrals.count(escalation.within, now) < 1.0 {
            self.pace_most = 0.0;
        }
        self.pace_most = self.pace_most.max(pace);
        if self.deferrals.add(escalation.within, now) < escalation.after {
            return false;
        }
        if pace >= self.pace_most * escalation.reduced {
            return true;
        }
        self.deferrals.clear();
        false
    }

    /// Lists an address of low reputation may get on, by chance and time.
    pub(super) fn look_at_lists(
        &mut self,
        lists: &[ListBit],
        reputation: f64,
        random: &mut Random,
        now: Moment,
    ) {
        let hours = now.since(self.looked).as_secs_f64() / 3600.0;
        self.looked = now;
        for (list, until) in lists.iter().zip(&mut self.listed_until) {
            let chance = 1.0 - (1.0 - list.hourly).powf(hours);
            if reputation < list.below && random.falls_in(chance) {
                *until = now + list.length;
            }
        }
    }

    /// The bit mask, first list first; `None` when on no list.
    pub(super) fn mask(&self, now: Moment) -> Option<String> {
        let is_listed = |until: &Moment| *until > now;
        self.listed_until.iter().any(is_listed).then(|| {
            let bit = |until| if is_listed(until) { '1' } else { '0' };
            self.listed_until.iter().map(bit).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::profile::Stage;

    fn source() -> Source {
        Source::new([192, 0, 2, 1].into(), 2, at(0))
    }

    fn at(secs: u64) -> Moment {
        Moment::from_secs(1_000_000 + secs)
    }

    fn penalty() -> Penalty {
        Penalty {
            after: 3.0,
            within: Duration::from_secs(3600),
            length: Duration::from_secs(7200),
            extension: Duration::from_secs(1800),
            length_max: Duration::from_secs(14_400),
            probes: 1,
            stage: Stage::Mail,
            of_connections: false,
        }
    }

    #[test]
    fn the_box_opens_after_its_offences_and_probing_extends_it() {
        let (mut source, penalty) = (source(), penalty());
        for secs in 0..2 {
            assert_eq!(
                source.press(Some(&penalty), None, at(secs)),
                Consequence::Nothing
            );
        }
        assert_eq!(
            source.press(Some(&penalty), None, at(2)),
            Consequence::Boxed
        );
        assert_eq!(source.boxed_until, at(7202));
        assert!(!source.probe(&penalty, at(10)), "one probe is free");
        assert!(source.probe(&penalty, at(11)));
        assert_eq!(source.boxed_until, at(9002));
        (0..100).for_each(|_| {
            source.probe(&penalty, at(12));
        });
        assert_eq!(source.boxed_until, at(12 + 14_400));
    }

    #[test]
    fn only_unreduced_pressure_is_blocked() {
        let escalation = Escalation {
            after: 50.0,
            within: Duration::from_secs(3600),
            reduced: 0.5,
            length: Duration::from_secs(86_400),
            stage: Stage::Mail,
            complaints: None,
        };
        let run = |slows: bool| {
            let mut source = source();
            let mut worst = Consequence::Nothing;
            for second in 0..5_000 {
                // One a second; a client that slows goes to one in a minute.
                if slows && second > 20 && second % 60 != 0 {
                    continue;
                }
                source.count_attempt(at(second));
                if source.press(None, Some(&escalation), at(second)) == Consequence::Blocked {
                    worst = Consequence::Blocked;
                }
            }
            worst
        };
        assert_eq!(run(false), Consequence::Blocked);
        assert_eq!(run(true), Consequence::Nothing);
    }

    #[test]
    fn the_mask_has_a_bit_for_each_list() {
        let list = |below| ListBit {
            below,
            hourly: 1.0,
            length: Duration::from_secs(100),
        };
        let mut source = source();
        assert_eq!(source.mask(at(0)), None);
        source.look_at_lists(&[list(0.2), list(0.8)], 0.5, &mut Random::new(1), at(60));
        assert_eq!(source.mask(at(60)).as_deref(), Some("01"));
        assert_eq!(source.mask(at(161)), None);
    }
}
