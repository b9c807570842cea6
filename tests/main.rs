//! One integration binary, so that RocksDB links once.

mod corpora;
mod dialogue;
mod tidy;
