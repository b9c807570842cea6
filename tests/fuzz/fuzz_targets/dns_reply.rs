//! Replies of hostile name servers: an answer or an error, never a panic. The one file of the node
//! that reads them is compiled in by itself, so that no database is built for it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the resolver, which uses the rest, is not here")]
#[path = "../../../src/node/dns/message.rs"]
mod message;

fuzz_target!(|input: &[u8]| message::exercise(input));
