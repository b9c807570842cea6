//! Message content of any octets, cut anywhere: the first octet says how long the pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthaste_core::smtp::data::{LineEnds, exercise};

fuzz_target!(|input: &[u8]| {
    let Some((step, input)) = input.split_first() else {
        return;
    };
    exercise(input, usize::from(*step), LineEnds::Reject);
    exercise(input, usize::from(*step), LineEnds::Normalise);
});
