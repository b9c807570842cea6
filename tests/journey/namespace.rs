//! A network of a test's own: fixed ports are free there, and it may have any address.

use std::process::Command;
use std::{panic, thread};

use nix::sched::{CloneFlags, unshare};

/// Runs `test` where nothing but a loopback device is, with `addresses` on it besides its own. `None`
/// where that cannot be had; `test` has not begun then.
pub(super) fn alone(addresses: &[&str], test: impl FnOnce() + Send) -> Option<()> {
    // What the thread starts, processes and threads, is where it is.
    let ended = thread::scope(|scope| {
        let running = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            ip(&["link", "set", "lo", "up"])?;
            for address in addresses {
                ip(&["address", "add", address, "dev", "lo", "nodad"])?;
            }
            test();
            Some(())
        });
        running.join()
    });
    ended.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}

fn ip(arguments: &[&str]) -> Option<()> {
    let done = Command::new("ip").args(arguments).status();
    done.is_ok_and(|status| status.success()).then_some(())
}
