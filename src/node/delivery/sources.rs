//! The egress sources of the node: as whom mail leaves, and which of them are of use at this moment.
//! One that fails for reasons of its own is suspended and probed; it says nothing about any site.

use core::fmt;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use posthaste_core::egress::Source;
use posthaste_core::smtp::client;
use posthaste_core::words::Moment;
use smallvec::SmallVec;

/// The first suspension; each that follows without a connection between takes twice as long.
const SUSPENSION_FIRST: Duration = Duration::from_secs(10);
const SUSPENSION_MAX: Duration = Duration::from_secs(600);
/// Lines kept for whoever tells them.
const NEWS_MAX: usize = 1000;
/// Suspended sources that a reason names.
const NAMED_MAX: usize = 3;

/// One per configured source, shared by all shards.
#[derive(Debug)]
pub struct Outlet {
    pub source: Source,
    /// With its EHLO name.
    pub dialogue: Arc<client::Config>,
    /// 1 while suspended.
    pub suspended: Gauge,
    pub(super) number: usize,
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

/// Why no source is of use for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Barred {
    /// None is of its family.
    Family,
    /// Those that could are suspended; the first is probed then.
    Suspended { until: Moment, why: String },
    /// All are disabled.
    Disabled,
}

pub(super) type Chosen<'a> = SmallVec<[&'a Outlet; 4]>;

/// One per node.
#[derive(Debug)]
pub struct Sources {
    all: Vec<Outlet>,
    news: Mutex<VecDeque<String>>,
}

impl Sources {
    /// Those that are enabled.
    pub fn new(outlets: Vec<Outlet>) -> Self {
        let numbered = outlets.into_iter().enumerate();
        Self {
            all: numbered
                .map(|(number, of)| Outlet { number, ..of })
                .collect(),
            news: Mutex::default(),
        }
    }

    pub(super) fn number(&self, number: usize) -> &Outlet {
        &self.all[number]
    }

    /// Those of use for `target`, in the order to try; with each `turn` another one goes first.
    pub(super) fn choose(&self, target: IpAddr, turn: usize) -> Result<Chosen<'_>, Barred> {
        if self.all.is_empty() {
            return Err(Barred::Disabled);
        }
        let fit = || {
            self.all
                .iter()
                .filter(|outlet| outlet.source.reaches(&target))
        };
        let mut chosen: Chosen<'_> = fit().filter(|s| s.suspended_until().is_none()).collect();
        if !chosen.is_empty() {
            let places = turn % chosen.len();
            chosen.rotate_left(places);
            return Ok(chosen);
        }
        let Some(until) = fit().filter_map(Outlet::suspended_until).min() else {
            return Err(Barred::Family);
        };
        let named = fit().take(NAMED_MAX);
        let mut why: Vec<String> = named.map(|s| format!("{s} ({})", s.why())).collect();
        let more = fit().count() - why.len();
        if more > 0 {
            why.push(format!("{more} more"));
        }
        let why = format!("no source is of use: {}", why.join(", "));
        Err(Barred::Suspended { until, why })
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
    use posthaste_core::egress::Proxy;
    use posthaste_core::egress::proxy::haproxy::Version;

    use super::*;

    fn outlet(name: &str, address: Option<&str>, proxy: Option<Proxy>) -> Outlet {
        let address = address.map(|address| address.parse().unwrap());
        let source = Source {
            proxy,
            ..Source::new(name, address)
        };
        let dialogue = Arc::new(client::Config::new("mta.example"));
        Outlet::new(source, dialogue, Gauge::noop())
    }

    fn names(chosen: Result<Chosen<'_>, Barred>) -> Vec<String> {
        chosen.unwrap().iter().map(ToString::to_string).collect()
    }

    fn at(secs: u64) -> Moment {
        Moment::from_secs(secs)
    }

    const V4: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(core::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn sources_of_the_family_take_turns() {
        let server = "192.0.2.1:1080".parse().unwrap();
        let socks = Proxy::Socks5 {
            server,
            login: None,
        };
        let ha = Proxy::HaProxy {
            version: Version::V2,
            server,
            source: "2001:db8::1".parse().unwrap(),
        };
        let sources = Sources::new(vec![
            outlet("four", Some("192.0.2.4"), None),
            outlet("six", Some("2001:db8::6"), None),
            outlet("socks", Some("192.0.2.5"), Some(socks)),
            outlet("ha", Some("2001:db8::1"), Some(ha)),
            outlet("any", None, None),
        ]);
        assert_eq!(names(sources.choose(V4, 0)), ["four", "socks", "any"]);
        assert_eq!(names(sources.choose(V4, 4)), ["socks", "any", "four"]);
        assert_eq!(names(sources.choose(V6, 0)), ["six", "socks", "ha", "any"]);
        let six = Sources::new(vec![outlet("six", Some("2001:db8::6"), None)]);
        assert_eq!(six.choose(V4, 0).unwrap_err(), Barred::Family);
        assert_eq!(
            Sources::new(Vec::new()).choose(V4, 0).unwrap_err(),
            Barred::Disabled
        );
    }

    #[test]
    fn suspensions_grow_until_a_connection_stands() {
        let sources = Sources::new(vec![outlet("a", None, None), outlet("b", None, None)]);
        let a = sources.number(0);
        assert_eq!(sources.suspend(a, "dead", at(0)).unwrap().as_secs(), 10);
        assert_eq!(sources.suspend(a, "dead too", at(1)), None);
        assert_eq!(names(sources.choose(V4, 0)), ["b"]);
        assert_eq!(sources.keep_suspended(a, "dead", at(10)).as_secs(), 20);
        let pauses: Vec<u64> = (0..6)
            .map(|_| sources.keep_suspended(a, "still dead", at(30)).as_secs())
            .collect();
        assert_eq!(pauses, [40, 80, 160, 320, 600, 600]);
        sources.suspend(sources.number(1), "gone", at(0));
        let barred = sources.choose(V4, 0).unwrap_err();
        let why = "no source is of use: a (still dead), b (gone)".to_owned();
        let until = at(10);
        assert_eq!(barred, Barred::Suspended { until, why });
        sources.resume(a);
        assert_eq!(names(sources.choose(V4, 0)), ["a"]);
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
        assert_eq!(sources.news().len(), 6);
        assert!(sources.news().is_empty());
    }
}
