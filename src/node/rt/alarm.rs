//! A timer for the one task of a shard that has to be on time: permits of a rate fall due between two
//! ticks of [`Roll::tick`](super::Roll::tick).

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use glommio::timer::Timer;
use posthaste_core::words::Moment;

use super::{Bell, Ring, now};

/// Nothing is set further ahead; what is due later is looked at again then.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// Lives on the executor that polls it.
#[derive(Debug, Default)]
pub struct Alarm {
    set: Option<(Moment, Timer)>,
}

impl Alarm {
    /// Waits for any ring of `bell`. By itself it rings with [`Ring::Deadline`] at `due`, or early: an
    /// alarm that was set for an earlier moment is not put off. `None` for never.
    pub async fn rung(&mut self, bell: &Bell, due: Option<Moment>) {
        let at = now();
        if let Some(due) = due
            && self.set.as_ref().is_none_or(|(set, _)| due < *set)
        {
            let ahead = due.since(at).min(AHEAD_MAX);
            self.set = Some((due, Timer::new(ahead)));
        }
        // Under load the bell rings before anybody sleeps, so time is looked at here too.
        if self.set.as_ref().is_some_and(|(set, _)| *set <= at) {
            self.ring(bell);
        }
        poll_fn(|cx| {
            let rung = bell.poll_rung(cx);
            if rung.is_pending() && self.poll(cx).is_ready() {
                self.ring(bell);
                return Poll::Ready(());
            }
            rung
        })
        .await;
    }

    fn ring(&mut self, bell: &Bell) {
        self.set = None;
        bell.ring(Ring::Deadline);
    }

    /// A timer costs nothing until it is asked for the first time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.set {
            Some((_, timer)) => Pin::new(timer).poll(cx).map(drop),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::rt::{Enrolled, Roll, run};

    fn enrolled() -> Enrolled {
        Rc::new(Roll::default()).enrol()
    }

    #[test]
    fn it_rings_on_time_and_once() {
        run(async {
            let enrolled = enrolled();
            let bell = enrolled.bell();
            let mut alarm = Alarm::default();
            let mut late = Vec::new();
            for _ in 0..40 {
                let due = now() + Duration::from_millis(2);
                alarm.rung(bell, Some(due)).await;
                assert!(bell.take(Ring::Deadline));
                assert!(now() >= due, "never before it is due");
                late.push(now().since(due));
            }
            late.sort();
            // The machine may be busy, but not each time.
            assert!(late[10] < Duration::from_millis(10), "{late:?}");
            assert!(!bell.take(Ring::Deadline));
        })
        .unwrap();
    }

    #[test]
    fn an_earlier_moment_counts_at_once_and_other_rings_come_through() {
        run(async {
            let enrolled = enrolled();
            let bell = enrolled.bell();
            let mut alarm = Alarm::default();
            bell.ring(Ring::Work);
            let begun = now();
            alarm.rung(bell, Some(begun + AHEAD_MAX * 2)).await;
            assert!(bell.take(Ring::Work) && !bell.take(Ring::Deadline));
            alarm
                .rung(bell, Some(begun + Duration::from_millis(5)))
                .await;
            assert!(bell.take(Ring::Deadline));
            assert!(now().since(begun) < AHEAD_MAX);
        })
        .unwrap();
    }
}
