//! One integration binary, so that RocksDB links once.

#![expect(
    clippy::print_stderr,
    reason = "what a test measured is for who runs it by hand"
)]

mod corpora;
mod crash;
mod dialogue;
mod disk;
mod journey;
mod tidy;
mod tools;
