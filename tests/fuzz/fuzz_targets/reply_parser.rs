//! Replies from hostile peers: no panic, and the same replies however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| posthaste_core::smtp::reply_parser::exercise(input));
