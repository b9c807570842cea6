//! The brain of the shard and the bell that says it has been told something.

use core::cell::RefCell;

use posthaste_core::dispatch::Dispatch;

use crate::rt::{Bell, Enrolled, Ring};

/// One per shard. Whoever tells it something leaves its actions to the shard's pump.
pub struct Brain {
    dispatch: RefCell<Dispatch>,
    pump: Enrolled,
}

impl Brain {
    pub const fn new(dispatch: Dispatch, pump: Enrolled) -> Self {
        Self {
            dispatch: RefCell::new(dispatch),
            pump,
        }
    }

    /// Tells or asks the brain, and wakes the pump.
    pub fn tell<T>(&self, what: impl FnOnce(&mut Dispatch) -> T) -> T {
        let answer = what(&mut self.dispatch.borrow_mut());
        self.pump.bell().ring(Ring::Work);
        answer
    }

    /// For the pump itself, and for those who only look.
    pub fn with<T>(&self, what: impl FnOnce(&mut Dispatch) -> T) -> T {
        what(&mut self.dispatch.borrow_mut())
    }

    /// Rings when the brain was told something, or its next moment has come.
    pub fn bell(&self) -> &Bell {
        self.pump.bell()
    }
}
