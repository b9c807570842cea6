//! Queries under way: who asks what is already asked waits for that answer. One per shard.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use posthaste_core::route::{Answer, Query};

/// One query under way.
#[derive(Debug, Default)]
struct Flight {
    landed: RefCell<Option<Landing>>,
    wakers: RefCell<Vec<Waker>>,
}

#[derive(Clone, Debug)]
enum Landing {
    Answered(Rc<Answer>),
    /// Its asker was dropped; somebody else has to ask.
    Abandoned,
}

/// All queries under way.
#[derive(Debug, Default)]
pub(super) struct Flights(RefCell<HashMap<Query, Rc<Flight>>>);

/// Held by the one who asks; lands the flight, also when dropped in the midst.
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    query: &'a Query,
    flight: Rc<Flight>,
    landing: Landing,
}

pub(super) enum Boarding<'a> {
    Lead(Lead<'a>),
    /// Somebody else asked, and this is what he got.
    Answered(Rc<Answer>),
    /// Somebody else asked and gave up: look in the cache, then board again.
    Abandoned,
}

impl Flights {
    pub(super) async fn board<'a>(&'a self, query: &'a Query) -> Boarding<'a> {
        let existing = self.0.borrow().get(query).map(Rc::clone);
        let Some(flight) = existing else {
            let flight = Rc::new(Flight::default());
            self.0
                .borrow_mut()
                .insert(query.clone(), Rc::clone(&flight));
            return Boarding::Lead(Lead {
                flights: self,
                query,
                flight,
                landing: Landing::Abandoned,
            });
        };
        let landing = poll_fn(|context| match &*flight.landed.borrow() {
            Some(landing) => Poll::Ready(landing.clone()),
            None => {
                flight.wakers.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        match landing {
            Landing::Answered(answer) => Boarding::Answered(answer),
            Landing::Abandoned => Boarding::Abandoned,
        }
    }
}

impl Lead<'_> {
    pub(super) fn land(mut self, answer: &Rc<Answer>) {
        self.landing = Landing::Answered(Rc::clone(answer));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.flights.0.borrow_mut().remove(self.query);
        *self.flight.landed.borrow_mut() = Some(self.landing.clone());
        let wakers = self.flight.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// At most so many at once.
#[derive(Debug)]
pub(super) struct Gate {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// A place inside the [`Gate`], given back on drop.
pub(super) struct Place<'a>(&'a Gate);

impl Gate {
    pub(super) fn new(places: usize) -> Self {
        Self {
            free: Cell::new(places),
            waiting: RefCell::default(),
        }
    }

    pub(super) async fn enter(&self) -> Place<'_> {
        poll_fn(|context| {
            if let Some(left) = self.free.get().checked_sub(1) {
                self.free.set(left);
                return Poll::Ready(Place(self));
            }
            self.waiting.borrow_mut().push_back(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        // All, because one that was woken may be gone; those too late queue up again.
        let waiting = self.0.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
