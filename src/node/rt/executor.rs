//! Executors: one per shard, or one for the length of a single piece of work.

use core::future::Future;
use std::io;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

/// Octets of registered memory per executor; glommio's default pins 30 MiB.
const IO_MEMORY: usize = 64 << 10;

// No `preempt_timer`: with a short one the executor parks with work in hand (its queue reports
// "preempted before running" as "nothing to run"). Our tasks wait for IO nearly always.

/// Runs `work` to its end on this thread, unpinned.
///
/// # Errors
/// When the kernel gives no ring: io_uring is forbidden or the locked-memory limit is too low.
pub fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY)
        .make()?;
    Ok(executor.run(work))
}

/// A shard's thread.
#[derive(Debug)]
pub struct Pinned<T: Send + 'static>(ExecutorJoinHandle<T>);

impl<T: Send + 'static> Pinned<T> {
    /// Starts a thread `name` on `cpu` that runs the future `work` makes, to its end.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start<F>(
        name: &str,
        cpu: u16,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = T> + 'static,
    {
        let handle = LocalExecutorBuilder::new(Placement::Fixed(usize::from(cpu)))
            .name(name)
            .io_memory(IO_MEMORY)
            .spawn(work)?;
        Ok(Self(handle))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the kernel gave no ring, or the thread panicked.
    pub fn join(self) -> io::Result<T> {
        Ok(self.0.join()?)
    }
}
