//! The `posthaste` binary: a table of contents.

fn main() {}
