//! Batches whose durability is awaited by a session. One per shard.

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use posthaste_core::words::Committed;
use slab::Slab;

use crate::spool::Failed;

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waker>),
    Done(Result<Committed, Failed>),
}

#[derive(Debug, Default)]
pub struct Pending {
    slots: RefCell<Slab<Slot>>,
}

impl Pending {
    /// A place for one answer; [`Pending::answer`] must be awaited with it.
    pub fn reserve(&self) -> u32 {
        let place = self.slots.borrow_mut().insert(Slot::Waiting(None));
        u32::try_from(place).expect("fewer sessions than 4 billion")
    }

    /// Batches that are not answered, or whose answer nobody has taken yet.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The spool's word on the batch at `place`.
    pub fn complete(&self, place: u32, result: Result<Committed, Failed>) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(place as usize) else {
            return;
        };
        if let Slot::Waiting(Some(waker)) = core::mem::replace(slot, Slot::Done(result)) {
            waker.wake();
        }
    }

    /// Waits for the answer and gives the place back.
    pub async fn answer(&self, place: u32) -> Result<Committed, Failed> {
        poll_fn(|cx| {
            let mut slots = self.slots.borrow_mut();
            match &mut slots[place as usize] {
                Slot::Waiting(waker) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Slot::Done(_) => Poll::Ready(()),
            }
        })
        .await;
        match self.slots.borrow_mut().remove(place as usize) {
            Slot::Done(result) => result,
            Slot::Waiting(_) => unreachable!("the wait ends with the answer"),
        }
    }
}
