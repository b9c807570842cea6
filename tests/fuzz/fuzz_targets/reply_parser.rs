//! Replies from hostile peers: no panic, and the same replies however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthaste_core::smtp::reply_parser::{ReplyError, ReplyLimits, ReplyParser};
use posthaste_core::words::Reply;

fn read(pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new(ReplyLimits {
        line_octets_max: 128,
        reply_octets_max: 1024,
    });
    let mut replies = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match parser.feed(rest) {
                Ok((taken, reply)) => {
                    rest = &rest[taken..];
                    replies.extend(reply);
                }
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(&[data]);
    for reply in &whole.0 {
        assert!((200..600).contains(&reply.code));
        assert!(!reply.to_string().contains(char::is_control));
    }
    let middle = data.len() / 2;
    let (replies, error) = read(&[&data[..middle], &data[middle..]]);
    assert_eq!(replies, whole.0);
    assert_eq!(error.is_some(), whole.1.is_some());
});
