//! `posthaste-load`: load generator and sink.

fn main() {}
