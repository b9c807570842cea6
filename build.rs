//! Lets `rt::raw` stand between liburing and the kernel where a ring is set up.

fn main() {
    println!("cargo::rustc-link-arg=-Wl,--wrap=__sys_io_uring_setup");
    println!("cargo::rerun-if-changed=build.rs");
}
