//! The questions of one resolution, out at once. Polls a question when that one is woken: what
//! happens to its neighbours costs it nothing. One per resolution.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use atomic_waker::AtomicWaker;

/// Bounded by what a resolution asks at once.
pub(super) struct Asking<'a, T> {
    questions: Vec<Question<'a, T>>,
    /// The task that waits for any of them.
    task: Arc<AtomicWaker>,
}

struct Question<'a, T> {
    work: Pin<Box<dyn Future<Output = T> + 'a>>,
    call: Arc<Call>,
    waker: Waker,
}

/// Wakes the task for the sake of one question. Sockets keep a clone for each poll; those are
/// counted here, in a word, and not in the task, where glommio has room for 32,767.
struct Call {
    is_due: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<T> Default for Asking<'_, T> {
    fn default() -> Self {
        Self {
            questions: Vec::new(),
            task: Arc::default(),
        }
    }
}

impl<'a, T> Asking<'a, T> {
    /// Begun at the next [`Self::next`].
    pub(super) fn push(&mut self, work: impl Future<Output = T> + 'a) {
        let call = Arc::new(Call {
            is_due: AtomicBool::new(true),
            task: Arc::clone(&self.task),
        });
        self.questions.push(Question {
            work: Box::pin(work),
            waker: Waker::from(Arc::clone(&call)),
            call,
        });
    }

    /// Waits for the first answer and takes its question out.
    ///
    /// # Panics
    /// When nothing was pushed that was not taken out.
    pub(super) async fn next(&mut self) -> T {
        assert!(
            !self.questions.is_empty(),
            "a resolution that waits has asked"
        );
        poll_fn(|context| self.poll_next(context.waker())).await
    }

    fn poll_next(&mut self, task: &Waker) -> Poll<T> {
        self.task.register(task);
        for (index, question) in self.questions.iter_mut().enumerate() {
            if !question.call.is_due.swap(false, Ordering::AcqRel) {
                continue;
            }
            let mut context = Context::from_waker(&question.waker);
            if let Poll::Ready(answer) = question.work.as_mut().poll(&mut context) {
                drop(self.questions.swap_remove(index));
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};

    use super::*;

    const QUESTIONS: usize = 32;

    #[test]
    fn a_question_is_polled_when_it_is_woken_itself() {
        let polls = Cell::new(0);
        let wakers = RefCell::new(Vec::new());
        let answered: Vec<_> = (0..QUESTIONS).map(|_| Cell::new(false)).collect();
        let (polls, wakers) = (&polls, &wakers);
        let mut asking = Asking::default();
        for (number, is_answered) in answered.iter().enumerate() {
            asking.push(poll_fn(move |context| {
                polls.set(polls.get() + 1);
                if is_answered.get() {
                    return Poll::Ready(number);
                }
                wakers.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }));
        }
        assert!(asking.poll_next(Waker::noop()).is_pending());
        for number in (0..QUESTIONS).rev() {
            assert!(asking.poll_next(Waker::noop()).is_pending());
            answered[number].set(true);
            wakers.borrow()[number].wake_by_ref();
            assert_eq!(asking.poll_next(Waker::noop()), Poll::Ready(number));
        }
        assert_eq!(polls.get(), 2 * QUESTIONS);
    }
}
