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

pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}
