//! What RocksDB hears of a disk without room. The calls by which it makes files and lets them grow, and
//! asks for free space, are wrapped (`build.rs` asks the linker for that). Two things are changed:
//!
//! * A quota that is used up (EDQUOT) is told as a full disk (ENOSPC). RocksDB stops then, looks for space
//!   every five seconds and goes on by itself; of EDQUOT it makes an error that only a restart ends.
//! * From such an error until [`tell_room`] the disk is said to have nothing free. RocksDB goes on as soon
//!   as free space is reported, which a quota does not change and a want of inodes neither; and when it
//!   then cannot make the next file of its log it has given up for good.
//!
//! Whoever else writes in this process hears of a quota so too. One per process.

#![expect(
    unsafe_code,
    reason = "RocksDB offers no file system of ours to Rust, and no way to resume after EDQUOT"
)]

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::statvfs;

/// Something found no room, and nobody has found any since.
static IS_FULL: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn __real_open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn __real_write(file: c_int, octets: *const c_void, count: usize) -> isize;
    fn __real_pwrite(file: c_int, octets: *const c_void, count: usize, at: i64) -> isize;
    fn __real_fallocate(file: c_int, mode: c_int, at: i64, count: i64) -> c_int;
    fn __real_ftruncate(file: c_int, length: i64) -> c_int;
    fn __real_fsync(file: c_int) -> c_int;
    fn __real_fdatasync(file: c_int) -> c_int;
    fn __real_statvfs(path: *const c_char, found: *mut statvfs) -> c_int;
    fn __real_rename(from: *const c_char, to: *const c_char) -> c_int;
}

/// Whether RocksDB is told that nothing is free.
pub(super) fn is_full() -> bool {
    IS_FULL.load(Ordering::Relaxed)
}

/// A file could be made and written.
pub(super) fn tell_room() {
    IS_FULL.store(false, Ordering::Relaxed);
}

/// The result of a call that has left `errno`.
fn told<T: PartialEq + From<i8>>(result: T) -> T {
    if result == T::from(-1) && matches!(Errno::last(), Errno::EDQUOT | Errno::ENOSPC) {
        IS_FULL.store(true, Ordering::Relaxed);
        Errno::ENOSPC.set();
    }
    result
}

/// # Safety
/// As statvfs(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_statvfs(path: *const c_char, found: *mut statvfs) -> c_int {
    // SAFETY: the caller's promise; what the call has succeeded on is filled.
    unsafe {
        let result = __real_statvfs(path, found);
        if result == 0 && is_full() {
            (*found).f_bfree = 0;
            (*found).f_bavail = 0;
        }
        result
    }
}

/// # Safety
/// As open(2). The mode is passed in the same register whether the list of arguments is variable or
/// not (x86-64 and AArch64 on Linux), and is not looked at without `O_CREAT`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_open(path, flags, mode) })
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_write(file: c_int, octets: *const c_void, count: usize) -> isize {
    // SAFETY: the caller's promise.
    told(unsafe { __real_write(file, octets, count) })
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_pwrite(
    file: c_int,
    octets: *const c_void,
    count: usize,
    at: i64,
) -> isize {
    // SAFETY: the caller's promise.
    told(unsafe { __real_pwrite(file, octets, count, at) })
}

/// # Safety
/// As fallocate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fallocate(file: c_int, mode: c_int, at: i64, count: i64) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fallocate(file, mode, at, count) })
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_ftruncate(file: c_int, length: i64) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_ftruncate(file, length) })
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fsync(file: c_int) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fsync(file) })
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fdatasync(file: c_int) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fdatasync(file) })
}

/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_rename(from, to) })
}
