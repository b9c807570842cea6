//! Replays the fuzz corpora: what a fuzzer once found stays found.

use std::path::Path;

use posthaste::dns;
use posthaste_core::smtp::data::{self, LineEnds};
use posthaste_core::smtp::{command, reply_parser};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new("tests/fuzz/corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("each target has a corpus")
        .map(|file| std::fs::read(file.expect("a corpus lists").path()).expect("a seed reads"))
        .collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

#[test]
fn command_lines_never_panic() {
    for seed in seeds("smtp_command") {
        command::exercise(&seed);
    }
}

#[test]
fn content_is_the_same_however_it_is_cut() {
    for seed in seeds("smtp_data") {
        // The fuzz target takes the first octet for the length of the pieces.
        let (step, content) = seed.split_first().expect("a seed is not empty");
        for step in (1..40).chain([usize::from(*step)]) {
            data::exercise(content, step, LineEnds::Reject);
            data::exercise(content, step, LineEnds::Normalise);
        }
    }
}

#[test]
fn replies_are_the_same_however_they_are_cut() {
    for seed in seeds("reply_parser") {
        reply_parser::exercise(&seed);
    }
}

#[test]
fn dns_replies_never_panic() {
    for seed in seeds("dns_reply") {
        dns::exercise(&seed);
        // Cut and flipped anywhere, as a network and a liar would.
        for at in 0..seed.len() {
            dns::exercise(&seed[..at]);
            let mut flipped = seed.clone();
            flipped[at] ^= 0xFF;
            dns::exercise(&flipped);
        }
    }
}
