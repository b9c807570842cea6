//! What else may wake a connection's task besides its socket: a deadline, work, the end.
//!
//! Deadlines are looked at by one tick for all connections of a shard, so that reads and writes
//! cost no timer.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::rc::Rc;

use posthaste_core::words::Moment;
use slab::Slab;

use super::{now, sleep};

/// How late a deadline may be noticed.
pub const TICK: Duration = Duration::from_millis(50);

/// Why a bell rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Deadline = 1,
    /// There may be something to do.
    Work = 2,
    /// Come to an end.
    End = 4,
    /// End at once.
    Cut = 8,
}

/// One per connection.
#[derive(Debug)]
pub struct Bell {
    rings: Cell<u8>,
    deadline: Cell<Moment>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    const fn new() -> Self {
        Self {
            rings: Cell::new(0),
            deadline: Cell::new(Moment::NEVER),
            waker: RefCell::new(None),
        }
    }

    pub fn ring(&self, why: Ring) {
        self.rings.set(self.rings.get() | why as u8);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it rang for `why` since this was last asked.
    pub fn take(&self, why: Ring) -> bool {
        let rings = self.rings.get();
        self.rings.set(rings & !(why as u8));
        rings & why as u8 != 0
    }

    /// Rings with [`Ring::Deadline`] at `deadline` or up to a [`TICK`] later; `None` for never.
    pub fn set_deadline(&self, deadline: Option<Moment>) {
        self.deadline.set(deadline.unwrap_or(Moment::NEVER));
    }

    /// Ready while there is a ring that nobody took.
    pub fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        if self.rings.get() != 0 {
            return Poll::Ready(());
        }
        self.remember(cx)
    }

    /// Ready while there is a ring for `why` that nobody took; other rings stay as they are.
    pub fn poll(&self, why: Ring, cx: &Context<'_>) -> Poll<()> {
        if self.rings.get() & why as u8 != 0 {
            return Poll::Ready(());
        }
        self.remember(cx)
    }

    fn remember(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            Some(_) | None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for any ring.
    pub async fn rung(&self) {
        poll_fn(|cx| self.poll_rung(cx)).await;
    }
}

/// The bells of one shard.
#[derive(Debug, Default)]
pub struct Roll {
    bells: RefCell<Slab<Rc<Bell>>>,
}

/// A bell's place on the roll; leaves it when dropped.
#[derive(Debug)]
pub struct Enrolled {
    roll: Rc<Roll>,
    key: usize,
    bell: Rc<Bell>,
}

impl Enrolled {
    pub const fn bell(&self) -> &Rc<Bell> {
        &self.bell
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.roll.bells.borrow_mut().remove(self.key);
    }
}

impl Roll {
    pub fn enrol(self: &Rc<Self>) -> Enrolled {
        let bell = Rc::new(Bell::new());
        let key = self.bells.borrow_mut().insert(Rc::clone(&bell));
        Enrolled {
            roll: Rc::clone(self),
            key,
            bell,
        }
    }

    pub fn len(&self) -> usize {
        self.bells.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ring_all(&self, why: Ring) {
        for (_, bell) in self.bells.borrow().iter() {
            bell.ring(why);
        }
    }

    fn ring_overdue(&self, now: Moment) {
        for (_, bell) in self.bells.borrow().iter() {
            if bell.deadline.get() <= now {
                bell.set_deadline(None);
                bell.ring(Ring::Deadline);
            }
        }
    }

    /// Rings for deadlines; one task per shard, without end.
    pub async fn tick(&self) {
        loop {
            sleep(TICK).await;
            self.ring_overdue(now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{run, spawn};

    #[test]
    fn a_deadline_rings_once_and_the_dead_leave_the_roll() {
        run(async {
            let roll = Rc::new(Roll::default());
            let ticking = spawn({
                let roll = Rc::clone(&roll);
                async move { roll.tick().await }
            });
            let enrolled = roll.enrol();
            let begun = now();
            enrolled
                .bell()
                .set_deadline(Some(begun + Duration::from_millis(20)));
            enrolled.bell().rung().await;
            assert!(now().since(begun) >= Duration::from_millis(20));
            assert!(enrolled.bell().take(Ring::Deadline));
            assert!(!enrolled.bell().take(Ring::Deadline));
            roll.ring_all(Ring::End);
            enrolled.bell().rung().await;
            assert!(enrolled.bell().take(Ring::End));
            assert_eq!(roll.len(), 1);
            drop(enrolled);
            assert!(roll.is_empty());
            drop(ticking);
        })
        .unwrap();
    }
}
