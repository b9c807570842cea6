//! How messages share connections, and writes.

use super::peer;
use crate::{Sink, source, words};

const PIPELINING: &str = "250-hello\r\n250 PIPELINING\r\n";

#[test]
fn a_connection_carries_as_many_messages_as_told() {
    for more in ["", "--no-pipelining"] {
        for (limit, connections) in [(10, 6), (60, 1), (7, 9), (0, 1)] {
            let sink = Sink::start(&[]);
            let arguments = format!("--messages 60 --sessions 1 --per-connection {limit} {more}");
            let (is_clean, sent) = source(&sink.address, &words(&arguments));
            let (is_whole, got) = sink.end();
            assert!(is_clean && is_whole, "{sent} {got}");
            assert_eq!(got["messages"], 60);
            assert_eq!(got["connections"], connections, "{arguments}: {got}");
            assert_eq!(sent["connections"], connections, "{arguments}: {sent}");
        }
    }
}

/// How many reads of a run of 10 messages on one connection brought a dot with the next MAIL behind
/// it, how many one with QUIT, and how many one with nothing.
fn behind_dots(offer: &'static str, more: &str) -> [usize; 3] {
    let (address, reads) = peer::reads(offer);
    let arguments =
        format!("--messages 10 --sessions 1 --per-connection 10 --size 500 --retries 1 {more}");
    let (is_clean, sent) = source(&address, &words(&arguments));
    assert!(is_clean, "{sent}");
    let reads: Vec<String> = reads.try_iter().collect();
    let behind = reads.iter().filter_map(|read| read.split_once("\r\n.\r\n"));
    let mut counts = [0; 3];
    for (_, rest) in behind {
        let kind = match rest.get(..4) {
            Some("MAIL") => 0,
            Some("QUIT") => 1,
            _ => 2,
        };
        counts[kind] += 1;
        assert!(kind < 2 || rest.is_empty(), "{rest}");
    }
    counts
}

#[test]
fn the_next_envelope_is_one_write_with_the_dot_where_pipelining_is_to_be_had() {
    assert_eq!(behind_dots(PIPELINING, ""), [9, 1, 0]);
    assert_eq!(behind_dots(PIPELINING, "--no-pipelining"), [0, 0, 10]);
    assert_eq!(behind_dots("250 hello\r\n", ""), [0, 0, 10]);
}
