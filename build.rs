//! Lets `rt::raw` stand between liburing and the kernel where a ring is set up, and `spool::quota`
//! between RocksDB and the C library where files are made and grow and space
//! is asked for.

const WRAPPED: [&str; 10] = [
    "__sys_io_uring_setup",
    "open",
    "write",
    "pwrite",
    "fallocate",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "statvfs",
];

fn main() {
    for name in WRAPPED {
        println!("cargo::rustc-link-arg=-Wl,--wrap={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
