//! One integration binary, so that RocksDB links once.

#![expect(clippy::print_stderr, reason = "a skipped test says so aloud")]

mod corpora;
mod crash;
mod dialogue;
mod disk;
mod journey;
mod tidy;
