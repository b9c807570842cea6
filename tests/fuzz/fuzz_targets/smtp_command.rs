//! Command lines of any octets: parsed or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| posthaste_core::smtp::command::exercise(line));
