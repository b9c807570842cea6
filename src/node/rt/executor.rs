//! Executors: one per shard, or one for the length of a single piece of work.

use core::future::Future;
use std::io;

use glommio::{LocalExecutorBuilder, Placement};

/// Octets of registered memory per executor; glommio's default pins 30 MiB.
const IO_MEMORY: usize = 64 << 10;

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
