//! Benchmarks of Posthaste.
