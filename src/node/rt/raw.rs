//! The calls of the runtime that need `unsafe`: the ring's set-up and a listener from a socket.

#![expect(
    unsafe_code,
    reason = "glommio sets up its rings without a flag that saves a tenth to a third of our CPU, \
              and takes a listener over only as a raw descriptor"
)]

use core::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::TcpListener;
use socket2::Socket;

/// `struct io_uring_params` of the kernel's ABI: 120 octets, the flags are its third word.
#[repr(C)]
#[derive(Debug)]
struct RingParams {
    entries: [c_uint; 2],
    flags: c_uint,
    rest: [c_uint; 27],
}

/// The kernel does not interrupt a running task to finish its IO (Linux 5.19).
const COOP_TASKRUN: c_uint = 1 << 8;

unsafe extern "C" {
    /// What liburing itself would have called.
    fn __real___sys_io_uring_setup(entries: c_uint, params: *mut RingParams) -> c_int;
}

/// Called by liburing in place of its own system call (`build.rs` asks the linker for that).
///
/// # Safety
/// `params` points to a `struct io_uring_params`, as for the system call.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap___sys_io_uring_setup(
    entries: c_uint,
    params: *mut RingParams,
) -> c_int {
    // SAFETY: the caller's promise; the struct's size and layout are the kernel's ABI.
    unsafe {
        (*params).flags |= COOP_TASKRUN;
        let ring = __real___sys_io_uring_setup(entries, params);
        if ring >= 0 {
            return ring;
        }
        // Kernels before 5.19 do not know the flag.
        (*params).flags &= !COOP_TASKRUN;
        __real___sys_io_uring_setup(entries, params)
    }
}

/// Whether the kernel gives this process a ring at all; glommio only panics when it does not.
pub(super) fn probe_ring() -> io::Result<()> {
    let mut params = RingParams {
        entries: [0; 2],
        flags: 0,
        rest: [0; 27],
    };
    // SAFETY: the struct is whole and lives for the call.
    let ring = unsafe { __real___sys_io_uring_setup(4, &raw mut params) };
    match ring {
        // Newer liburing answers the negative error, older sets errno.
        -1 => Err(io::Error::last_os_error()),
        ..-1 => Err(io::Error::from_raw_os_error(-ring)),
        0.. => {
            // SAFETY: the descriptor is new and nobody else's.
            drop(unsafe { OwnedFd::from_raw_fd(ring) });
            Ok(())
        }
    }
}

/// Gives a bound and listening socket to this thread's executor.
pub(super) fn listener(socket: Socket) -> TcpListener {
    // SAFETY: the descriptor is a listening TCP socket whose ownership passes on.
    unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_a_ring() {
        probe_ring().unwrap();
    }

    #[test]
    fn the_ring_parameters_have_the_size_of_the_kernels() {
        assert_eq!(size_of::<RingParams>(), 120);
    }
}
