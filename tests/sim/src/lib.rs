//! Simulates many shards on one clock.
