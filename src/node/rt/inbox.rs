//! Values into a shard from any thread: a bounded lock-free queue and one waker.

use core::future::poll_fn;
use core::task::{Context, Poll};
use std::sync::Arc;

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    waker: AtomicWaker,
}

/// The sending side. One per sender, all of one inbox.
#[derive(Debug)]
pub struct Post<T>(Arc<Shared<T>>);

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Post<T> {
    /// Puts `value` in without waking anybody; a full inbox gives it back.
    pub fn put(&self, value: T) -> Result<(), T> {
        self.0.queue.push(value)
    }

    /// Wakes the receiver: once after any number of values.
    pub fn ring(&self) {
        self.0.waker.wake();
    }

    /// Puts `value` in and wakes; a full inbox gives it back.
    pub fn send(&self, value: T) -> Result<(), T> {
        let sent = self.put(value);
        self.ring();
        sent
    }

    /// Puts `value` in however long that takes. For threads that may wait, never for a shard.
    pub fn put_patiently(&self, mut value: T) {
        while let Err(back) = self.put(value) {
            value = back;
            self.ring();
            std::thread::yield_now();
        }
    }
}

/// The receiving side. One per shard.
#[derive(Debug)]
pub struct Inbox<T>(Arc<Shared<T>>);

/// An inbox for at most `capacity` values under way; at least one.
pub fn inbox<T>(capacity: usize) -> (Post<T>, Inbox<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        waker: AtomicWaker::new(),
    });
    (Post(Arc::clone(&shared)), Inbox(shared))
}

impl<T> Inbox<T> {
    pub fn try_take(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// The next value, in the order they were put in.
    pub async fn take(&self) -> T {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<T> {
        if let Some(value) = self.try_take() {
            return Poll::Ready(value);
        }
        self.0.waker.register(cx.waker());
        // A value may have come between the look and the registration.
        self.try_take().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::run;

    #[test]
    fn values_cross_threads_in_order_and_none_is_lost() {
        let (post, inbox) = inbox(16);
        let sender = std::thread::spawn(move || {
            for number in 0..10_000u32 {
                post.put_patiently(number);
                post.ring();
            }
        });
        run(async {
            for expected in 0..10_000 {
                assert_eq!(inbox.take().await, expected);
            }
        })
        .unwrap();
        sender.join().unwrap();
    }

    #[test]
    fn a_full_inbox_gives_the_value_back() {
        let (post, inbox) = inbox(1);
        assert_eq!(post.send(1), Ok(()));
        assert_eq!(post.send(2), Err(2));
        assert_eq!(inbox.try_take(), Some(1));
    }
}
