//! Shaping: how much may go where, and how fast. Decides when; never sends.

pub mod limit;
