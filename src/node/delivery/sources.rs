//! The egress sources of the node: as whom mail leaves, and which of them are of use at this moment.
//! One that fails for reasons of its own is suspended and probed; it says nothing about any site, and
//! which one mail leaves by is not decided here.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use posthaste_core::dispatch::Suspension;
use posthaste_core::egress::{Source, SourceId};
use posthaste_core::smtp::client;
use posthaste_core::words::Moment;

/// The first suspension; each that follows without a connection between takes twice as long.
const SUSPENSION_FIRST: Duration = Duration::from_secs(10);
const SUSPENSION_MAX: Duration = Duration::from_secs(600);
/// Lines kept for whoever tells them.
const NEWS_MAX: usize = 1000;

/// One per configured source, shared by all shards.
#[derive(Debug)]
pub struct Outlet {
    pub source: Source,
    /// With its EHLO name.
    pub dialogue: Arc<client::Config>,
    /// 1 while suspended.
    pub suspended: Gauge,
    pub(super) number: u32,
    /// Microseconds of the moment when it is probed; 0: it is well.
    until: AtomicU64,
    /// Suspensions and failed probes since the last connection.
    times: AtomicU32,
    /// Of the suspension. Who holds it may change the two above.
    why: Mutex<Box<str>>,
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().map_or("this host", |name| name))
    }
}

impl Outlet {
    pub fn new(source: Source, dialogue: Arc<client::Config>, suspended: Gauge) -> Self {
        Self {
            source,
            dialogue,
            suspended,
            number: 0,
            until: AtomicU64::new(0),
            times: AtomicU32::new(0),
            why: Mutex::default(),
        }
    }

    /// Of the source, for records.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        Some(&self.source.name).filter(|name| !name.is_empty())
    }

    fn suspended_until(&self) -> Option<Moment> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| Moment::from_micros(until))
    }

    /// Until when it is of no use, and why.
    pub fn suspension(&self) -> Option<Suspension> {
        let until = self.suspended_until()?;
        let why = Arc::from(&**self.why());
        Some(Suspension { until, why })
    }

    fn why(&self) -> MutexGuard<'_, Box<str>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection stands.
    pub(super) fn handle_connected(&self) {
        if self.times.load(Ordering::Relaxed) != 0 && self.suspended_until().is_none() {
            self.times.store(0, Ordering::Relaxed);
        }
    }

    /// For longer than the last time.
    fn set_aside(&self, now: Moment) -> Duration {
        let times = self.times.fetch_add(1, Ordering::Relaxed);
        let pause = SUSPENSION_FIRST.saturating_mul(1 << times.min(16));
        let pause = pause.min(SUSPENSION_MAX);
        self.until
            .store((now + pause).as_micros(), Ordering::Release);
        pause
    }
}

/// One per node.
#[derive(Debug)]
pub struct Sources {
    all: Vec<Outlet>,
    news: Mutex<VecDeque<String>>,
}

impl Sources {
    /// Those that are enabled.
    pub fn new(outlets: Vec<Outlet>) -> Self {
        let numbered = (0..).zip(outlets);
        Self {
            all: numbered
                .map(|(number, of)| Outlet { number, ..of })
                .collect(),
            news: Mutex::default(),
        }
    }

    /// `None`: the only one there is.
    pub fn get(&self, source: Option<SourceId>) -> &Outlet {
        &self.all[source.map_or(0, |SourceId(number)| number as usize)]
    }

    /// The pause until it is to be probed; `None` when it is suspended already.
    pub(super) fn suspend(&self, outlet: &Outlet, why: &str, now: Moment) -> Option<Duration> {
        let mut reason = outlet.why();
        if outlet.suspended_until().is_some() {
            return None;
        }
        *reason = why.into();
        let pause = outlet.set_aside(now);
        outlet.suspended.set(1.0);
        self.tell(format!(
            "source {outlet} is suspended for {} s: {why}",
            pause.as_secs()
        ));
        Some(pause)
    }

    /// A probe failed: the pause until the next one.
    pub(super) fn keep_suspended(&self, outlet: &Outlet, why: &str, now: Moment) -> Duration {
        let mut reason = outlet.why();
        *reason = why.into();
        outlet.set_aside(now)
    }

    pub(super) fn resume(&self, outlet: &Outlet) {
        let _guard = outlet.why();
        outlet.until.store(0, Ordering::Release);
        outlet.suspended.set(0.0);
        self.tell(format!("source {outlet} is back"));
    }

    fn tell(&self, line: String) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.len() < NEWS_MAX {
            news.push_back(line);
        }
    }

    /// What was suspended and what is back since the last call, a line each, for the operator.
    pub fn news(&self) -> VecDeque<String> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::take(&mut *news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(name: &str) -> Outlet {
        let dialogue = Arc::new(client::Config::new("mta.example"));
        Outlet::new(Source::new(name, None), dialogue, Gauge::noop())
    }

    fn at(secs: u64) -> Moment {
        Moment::from_secs(secs)
    }

    #[test]
    fn suspensions_grow_until_a_connection_stands() {
        let sources = Sources::new(vec![outlet("a"), outlet("b")]);
        let a = sources.get(Some(SourceId(0)));
        assert_eq!(sources.suspend(a, "dead", at(0)).unwrap().as_secs(), 10);
        assert_eq!(sources.suspend(a, "dead too", at(1)), None);
        let suspension = a.suspension().unwrap();
        assert_eq!((suspension.until, &*suspension.why), (at(10), "dead"));
        assert_eq!(sources.get(Some(SourceId(1))).suspension(), None);
        assert_eq!(sources.keep_suspended(a, "dead", at(10)).as_secs(), 20);
        let pauses: Vec<u64> = (0..6)
            .map(|_| sources.keep_suspended(a, "still dead", at(30)).as_secs())
            .collect();
        assert_eq!(pauses, [40, 80, 160, 320, 600, 600]);
        sources.resume(a);
        assert_eq!(a.suspension(), None);
        // A probe that succeeds proves less than a connection.
        assert_eq!(sources.suspend(a, "dead", at(0)).unwrap().as_secs(), 600);
        a.handle_connected();
        assert_eq!(
            sources.suspend(a, "dead", at(0)),
            None,
            "a latecomer is no return"
        );
        sources.resume(a);
        a.handle_connected();
        assert_eq!(sources.suspend(a, "dead", at(0)).unwrap().as_secs(), 10);
        assert_eq!(sources.news().len(), 5);
        assert!(sources.news().is_empty());
    }
}
