//! What RocksDB hears of a disk without room. The calls by which it makes files and lets them grow, and
//! asks for free space, are wrapped (`build.rs` asks the linker for that). Two things are changed:
//!
//! * A quota that is used up (EDQUOT) is told as a full disk (ENOSPC). RocksDB stops then, looks for space
//!   every five seconds and goes on by itself; of EDQUOT it makes an error that only a restart ends.
//! * From such an error until [`tell_room`] the file system is said to have nothing free. RocksDB goes on
//!   as soon as free space is reported, which a quota does not change and a want of inodes neither; and
//!   when it then cannot make the next file of its log it has given up for good.
//!
//! Each file system counts for itself: a full disk of the delivery log does not stop the spool. Whoever
//! else writes in this process hears of a quota so too.

#![expect(
    unsafe_code,
    reason = "RocksDB offers no file system of ours to Rust, and no way to resume after EDQUOT"
)]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc::statvfs;

/// A file system, by its `st_dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileSystem(u64);

impl FileSystem {
    /// That of `path`, which must exist.
    ///
    /// # Errors
    /// As stat(2).
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        path.metadata().map(|found| Self(found.dev()))
    }
}

/// Where something found no room, and nobody has found any since.
static FULL: Mutex<BTreeSet<FileSystem>> = Mutex::new(BTreeSet::new());
/// Whether there is any: it is asked before each commit.
static IS_ANY_FULL: AtomicBool = AtomicBool::new(false);

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

fn full() -> MutexGuard<'static, BTreeSet<FileSystem>> {
    FULL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether RocksDB is told that nothing is free there.
pub(super) fn is_full(place: FileSystem) -> bool {
    IS_ANY_FULL.load(Ordering::Acquire) && full().contains(&place)
}

/// A file could be made and written there.
pub(super) fn tell_room(place: FileSystem) {
    let mut full = full();
    full.remove(&place);
    IS_ANY_FULL.store(!full.is_empty(), Ordering::Release);
}

fn tell_full(place: FileSystem) {
    full().insert(place);
    IS_ANY_FULL.store(true, Ordering::Release);
}

/// The result of a call that has left `errno`; `place` tells where it was made.
fn told<T: PartialEq + From<i8>>(result: T, place: impl FnOnce() -> Option<FileSystem>) -> T {
    if result == T::from(-1) && matches!(Errno::last(), Errno::EDQUOT | Errno::ENOSPC) {
        if let Some(place) = place() {
            tell_full(place);
        }
        Errno::ENOSPC.set();
    }
    result
}

/// Where an open file is.
fn place_of(file: c_int) -> Option<FileSystem> {
    let link = format!("/proc/self/fd/{file}");
    FileSystem::of(Path::new(&link)).ok()
}

/// Where a file of this name is, or would be.
///
/// # Safety
/// `path` ends with a NUL.
unsafe fn place_of_name(path: *const c_char) -> Option<FileSystem> {
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    FileSystem::of(folder.unwrap_or_else(|| Path::new("."))).ok()
}

/// # Safety
/// As statvfs(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_statvfs(path: *const c_char, found: *mut statvfs) -> c_int {
    // SAFETY: the caller's promise; what the call has succeeded on is filled.
    unsafe {
        let result = __real_statvfs(path, found);
        let is_told_full = || {
            let path = Path::new(OsStr::from_bytes(CStr::from_ptr(path).to_bytes()));
            IS_ANY_FULL.load(Ordering::Acquire) && FileSystem::of(path).is_ok_and(is_full)
        };
        if result == 0 && is_told_full() {
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
    unsafe { told(__real_open(path, flags, mode), || place_of_name(path)) }
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_write(file: c_int, octets: *const c_void, count: usize) -> isize {
    // SAFETY: the caller's promise.
    told(unsafe { __real_write(file, octets, count) }, || {
        place_of(file)
    })
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
    told(unsafe { __real_pwrite(file, octets, count, at) }, || {
        place_of(file)
    })
}

/// # Safety
/// As fallocate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fallocate(file: c_int, mode: c_int, at: i64, count: i64) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fallocate(file, mode, at, count) }, || {
        place_of(file)
    })
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_ftruncate(file: c_int, length: i64) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_ftruncate(file, length) }, || place_of(file))
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fsync(file: c_int) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fsync(file) }, || place_of(file))
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_fdatasync(file: c_int) -> c_int {
    // SAFETY: the caller's promise.
    told(unsafe { __real_fdatasync(file) }, || place_of(file))
}

/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { told(__real_rename(from, to), || place_of_name(to)) }
}
