//! The clock: monotonic, anchored to the wall clock when it is first read.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use core::time::Duration;

use posthaste_core::words::Moment;

/// This moment. Never goes back within a process, whatever happens to the wall clock.
pub fn now() -> Moment {
    static ANCHOR: OnceLock<(Moment, Instant)> = OnceLock::new();
    let (moment, instant) = ANCHOR.get_or_init(|| {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is no clock: start from zero.
        let wall = wall.unwrap_or(Duration::ZERO);
        (Moment::from_micros(0) + wall, Instant::now())
    });
    *moment + instant.elapsed()
}
