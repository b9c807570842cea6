//! Tasks of the executor of this thread.

use core::future::Future;
use core::time::Duration;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task<T>(glommio::Task<T>);

impl<T: 'static> Task<T> {
    /// Waits for its end.
    pub async fn join(self) -> T {
        self.0.await
    }

    /// Lets it run to its own end.
    pub fn detach(self) {
        self.0.detach();
    }
}

/// Starts `work` beside what runs on this thread.
pub fn spawn<T: 'static>(work: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(work))
}

/// Long enough to be waited for: the executor looks at sockets and timers only when it has no task
/// that could run.
const A_MOMENT: Duration = Duration::from_micros(1);

/// Lets all else on this thread have its turn, whatever waits for sockets and timers included.
pub async fn give_way() {
    sleep(A_MOMENT).await;
}

pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::rt::{now, run};

    #[test]
    fn who_gives_way_lets_timers_have_their_turn() {
        run(async {
            let has_rung = Rc::new(Cell::new(false));
            let ringing = Rc::clone(&has_rung);
            let other = spawn(async move {
                sleep(Duration::from_millis(5)).await;
                ringing.set(true);
            });
            // A task that only wakes itself keeps the executor from its ring for ever.
            let deadline = now() + Duration::from_secs(10);
            while !has_rung.get() && now() < deadline {
                give_way().await;
            }
            assert!(has_rung.get(), "the other task had its turn");
            other.join().await;
        })
        .unwrap();
    }
}
