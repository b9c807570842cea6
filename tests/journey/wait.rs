//! Waiting for conditions with deadlines.

use std::time::{Duration, Instant};

/// Longest wait for anything that ought to happen at once, on a machine that is busy with the rest
/// of the tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What `look` finds, as soon as it finds it; panics with `what` after [`PATIENCE`].
pub(super) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited in vain until {what}"))
}

/// What `look` finds within `limit`.
pub(super) fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// `look` finds nothing for the whole of `span`.
pub(super) fn never<T: std::fmt::Debug>(
    what: &str,
    span: Duration,
    look: impl FnMut() -> Option<T>,
) {
    let found = within(span, look);
    assert!(found.is_none(), "{what}: {found:?}");
}
