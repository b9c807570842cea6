//! Queries under way: who asks what is already asked waits for that answer. One per shard.
//! All who wait are woken by name: a change costs as many wake-ups as it has beneficiaries.

use core::cell::{Cell, OnceCell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use posthaste_core::route::{Answer, Query};

/// Who waits for a turn, oldest first; each holds one waker, however often it is polled.
#[derive(Debug, Default)]
struct Line {
    drawn: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Line {
    /// Keeps a place under `ticket`, drawn when there is none; ready when that ticket was called.
    fn poll_called(&self, ticket: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        let Some(number) = *ticket else {
            let number = self.drawn.get();
            self.drawn.set(number + 1);
            self.waiting.borrow_mut().insert(number, waker.clone());
            *ticket = Some(number);
            return Poll::Pending;
        };
        match self.waiting.borrow_mut().get_mut(&number) {
            None => {
                *ticket = None;
                Poll::Ready(())
            }
            Some(known) => {
                // glommio counts a task's wakers in an i16 and panics past it.
                if !known.will_wake(waker) {
                    known.clone_from(waker);
                }
                Poll::Pending
            }
        }
    }

    /// Gives `ticket` up; false if its turn had come, which then is somebody else's.
    fn leave(&self, ticket: u64) -> bool {
        let left = self.waiting.borrow_mut().remove(&ticket);
        left.is_some()
    }

    /// Calls the oldest; false if nobody waits.
    fn call(&self) -> bool {
        let oldest = self.waiting.borrow_mut().pop_first();
        oldest.map(|(_, waker)| waker.wake()).is_some()
    }

    fn call_all(&self) {
        let all = self.waiting.take();
        all.into_values().for_each(Waker::wake);
    }
}

/// One query under way. It has a lead, or somebody was called to be it.
#[derive(Debug, Default)]
struct Flight {
    landed: OnceCell<Rc<Answer>>,
    /// Called one by one to take the lead, all when the answer is there.
    boarders: Line,
}

/// All queries under way.
#[derive(Debug, Default)]
pub(super) struct Flights(RefCell<HashMap<Query, Rc<Flight>>>);

/// Held by the one who asks; dropped without an answer, the oldest boarder asks instead.
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    query: &'a Query,
    flight: Rc<Flight>,
}

pub(super) enum Boarding<'a> {
    Lead(Lead<'a>),
    /// Somebody else asked, and this is what he got.
    Answered(Rc<Answer>),
}

/// A place in the line of a flight that somebody else leads.
struct Boarder<'a> {
    flights: &'a Flights,
    query: &'a Query,
    flight: Rc<Flight>,
    ticket: Option<u64>,
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
            });
        };
        let mut boarder = Boarder {
            flights: self,
            query,
            flight,
            ticket: None,
        };
        poll_fn(|context| boarder.poll(context.waker())).await
    }

    /// The lead of `flight` is free: the oldest boarder takes it, or the query is under way no more.
    fn hand_on(&self, query: &Query, flight: &Flight) {
        if !flight.boarders.call() {
            self.0.borrow_mut().remove(query);
        }
    }
}

impl<'a> Boarder<'a> {
    fn poll(&mut self, waker: &Waker) -> Poll<Boarding<'a>> {
        if let Some(answer) = self.flight.landed.get() {
            return Poll::Ready(Boarding::Answered(Rc::clone(answer)));
        }
        let called = self.flight.boarders.poll_called(&mut self.ticket, waker);
        called.map(|()| {
            Boarding::Lead(Lead {
                flights: self.flights,
                query: self.query,
                flight: Rc::clone(&self.flight),
            })
        })
    }
}

impl Drop for Boarder<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let was_called = !self.flight.boarders.leave(ticket);
        if was_called && self.flight.landed.get().is_none() {
            self.flights.hand_on(self.query, &self.flight);
        }
    }
}

impl Lead<'_> {
    pub(super) fn land(self, answer: &Rc<Answer>) {
        let first = self.flight.landed.set(Rc::clone(answer));
        assert!(first.is_ok(), "a flight lands once");
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if self.flight.landed.get().is_none() {
            self.flights.hand_on(self.query, &self.flight);
            return;
        }
        self.flights.0.borrow_mut().remove(self.query);
        self.flight.boarders.call_all();
    }
}

/// At most so many at once, in the order they came.
#[derive(Debug)]
pub(super) struct Gate {
    /// Above zero only while nobody waits: a freed place goes straight to the oldest.
    free: Cell<usize>,
    line: Line,
}

/// A place inside the [`Gate`], given back on drop.
pub(super) struct Place<'a>(&'a Gate);

/// A place in the line before the [`Gate`].
struct Entrant<'a> {
    gate: &'a Gate,
    ticket: Option<u64>,
}

impl Gate {
    pub(super) fn new(places: usize) -> Self {
        Self {
            free: Cell::new(places),
            line: Line::default(),
        }
    }

    pub(super) async fn enter(&self) -> Place<'_> {
        let mut entrant = Entrant {
            gate: self,
            ticket: None,
        };
        poll_fn(|context| entrant.poll(context.waker())).await
    }

    fn free_one(&self) {
        if !self.line.call() {
            self.free.set(self.free.get() + 1);
        }
    }
}

impl<'a> Entrant<'a> {
    fn poll(&mut self, waker: &Waker) -> Poll<Place<'a>> {
        let gate = self.gate;
        if let Some(left) = gate.free.get().checked_sub(1)
            && self.ticket.is_none()
        {
            gate.free.set(left);
            return Poll::Ready(Place(gate));
        }
        let called = gate.line.poll_called(&mut self.ticket, waker);
        called.map(|()| Place(gate))
    }
}

impl Drop for Entrant<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && !self.gate.line.leave(ticket)
        {
            self.gate.free_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.free_one();
    }
}

#[cfg(test)]
mod tests {
    use core::future::Future;
    use core::pin::{Pin, pin};
    use core::sync::atomic::{AtomicUsize, Ordering};
    use core::task::Context;
    use core::time::Duration;
    use std::sync::Arc;
    use std::task::Wake;

    use posthaste_core::route::RecordType;
    use posthaste_core::words::Domain;

    use super::*;

    const POLLS: usize = 40_000;

    /// Counts its wake-ups; its clones are counted by the [`Arc`].
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>, count: &Arc<Count>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(count));
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn woken(counts: &[Arc<Count>]) -> Vec<usize> {
        counts.iter().map(|c| c.0.load(Ordering::Relaxed)).collect()
    }

    fn counts() -> Vec<Arc<Count>> {
        (0..4).map(|_| Arc::default()).collect()
    }

    fn query() -> Query {
        Query {
            name: Domain::parse("a.example").unwrap(),
            kind: RecordType::Mx,
        }
    }

    #[test]
    fn a_freed_place_wakes_the_oldest_alone_and_is_handed_on_if_he_is_gone() {
        let (gate, counts) = (Gate::new(1), counts());
        let mut inside = Box::pin(gate.enter());
        let Poll::Ready(place) = poll(&mut inside, &counts[0]) else {
            panic!("an empty gate is open");
        };
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(gate.enter())).collect();
        for (future, count) in waiting.iter_mut().zip(&counts) {
            assert!(poll(future, count).is_pending());
        }
        drop(waiting.remove(1));
        drop(place);
        assert_eq!(woken(&counts), [1, 0, 0, 0]);
        let mut newcomer = Box::pin(gate.enter());
        assert!(
            poll(&mut newcomer, &counts[0]).is_pending(),
            "no place is free for who did not wait"
        );
        drop(waiting.remove(0));
        assert_eq!(woken(&counts), [1, 0, 1, 0]);
        assert!(poll(&mut waiting[1], &counts[3]).is_pending());
        assert!(poll(&mut waiting[0], &counts[2]).is_ready());
        assert_eq!(woken(&counts), [1, 0, 1, 1]);
        drop((waiting, newcomer));
        assert_eq!((gate.free.get(), gate.line.waiting.borrow().len()), (1, 0));
    }

    #[test]
    fn who_is_polled_often_holds_one_waker() {
        let (gate, flights, query) = (Gate::new(0), Flights::default(), query());
        let mut lead = Box::pin(flights.board(&query));
        let count = Arc::default();
        let Poll::Ready(Boarding::Lead(_lead)) = poll(&mut lead, &count) else {
            panic!("the first to board leads");
        };
        let mut boarder = Box::pin(flights.board(&query));
        let mut entrant = Box::pin(gate.enter());
        for _ in 0..POLLS {
            assert!(poll(&mut boarder, &count).is_pending());
            assert!(poll(&mut entrant, &count).is_pending());
        }
        assert_eq!(Arc::strong_count(&count), 3);
        let other = Arc::default();
        assert!(poll(&mut boarder, &other).is_pending());
        assert!(poll(&mut entrant, &other).is_pending());
        let held = (Arc::strong_count(&count), Arc::strong_count(&other));
        assert_eq!(held, (1, 3), "the latest waker counts");
        drop((boarder, entrant));
        assert_eq!(Arc::strong_count(&other), 1);
    }

    #[test]
    fn one_boarder_at_a_time_takes_the_lead_and_an_answer_reaches_all() {
        let (flights, query, counts) = (Flights::default(), query(), counts());
        let mut first = Box::pin(flights.board(&query));
        let Poll::Ready(Boarding::Lead(lead)) = poll(&mut first, &counts[0]) else {
            panic!("the first to board leads");
        };
        let mut boarders: Vec<_> = (0..4).map(|_| Box::pin(flights.board(&query))).collect();
        for (boarder, count) in boarders.iter_mut().zip(&counts) {
            assert!(poll(boarder, count).is_pending());
        }
        drop(lead);
        assert_eq!(woken(&counts), [1, 0, 0, 0]);
        drop(boarders.remove(0));
        assert_eq!(woken(&counts), [1, 1, 0, 0]);
        assert!(poll(&mut boarders[1], &counts[2]).is_pending());
        let Poll::Ready(Boarding::Lead(lead)) = poll(&mut boarders[0], &counts[1]) else {
            panic!("who was called leads");
        };
        lead.land(&Rc::new(Answer::failed("x", Duration::ZERO)));
        assert_eq!(woken(&counts), [1, 1, 1, 1]);
        for (boarder, count) in boarders[1..].iter_mut().zip(&counts[2..]) {
            let answered = poll(boarder, count);
            assert!(matches!(answered, Poll::Ready(Boarding::Answered(_))));
        }
        assert!(flights.0.borrow().is_empty());
    }

    #[test]
    fn a_flight_all_have_left_is_forgotten() {
        let (flights, query, count) = (Flights::default(), query(), Arc::default());
        let mut first = Box::pin(flights.board(&query));
        let lead = poll(&mut first, &count);
        let mut boarder = Box::pin(flights.board(&query));
        assert!(poll(&mut boarder, &count).is_pending());
        drop(lead);
        assert_eq!(flights.0.borrow().len(), 1, "somebody was called");
        drop(boarder);
        assert!(flights.0.borrow().is_empty());
        let again = pin!(flights.board(&query));
        let waker = Waker::from(count);
        let again = again.poll(&mut Context::from_waker(&waker));
        assert!(matches!(again, Poll::Ready(Boarding::Lead(_))));
    }
}
