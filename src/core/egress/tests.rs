//! Promises of pools.
