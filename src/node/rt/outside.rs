//! A thread beside the shards, with an executor of its own, for what speaks to the outside in other
//! ways than the shards do.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

/// One per purpose and node. Told to stop, and waited for, when dropped.
#[derive(Debug)]
pub struct OutsideThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl OutsideThread {
    /// Runs what `begin` makes, which sees `true` when it is to end. `begin` is called here, so that
    /// what it fails at is told at start. Tasks that are left over end with the thread.
    ///
    /// # Errors
    /// Those of `begin`, or there is no thread to be had.
    pub fn start<F>(
        name: &str,
        begin: impl FnOnce(watch::Receiver<bool>) -> io::Result<F>,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let run = {
            let _inside = runtime.enter();
            begin(stopped)?
        };
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(run);
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for OutsideThread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic was told by the thread itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_thread_is_told_to_stop_and_waited_for() {
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = OutsideThread::start("test", |mut stopped| {
            Ok(async move {
                let _ = stopped.wait_for(|stop| *stop).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                told.store(true, Ordering::Relaxed);
            })
        });
        assert!(!ended.load(Ordering::Relaxed));
        drop(thread.unwrap());
        assert!(ended.load(Ordering::Relaxed));
    }
}
