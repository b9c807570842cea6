//! What a dialogue has still to write: a head, a part of the shared body, a tail. Copies no body.

use std::io::IoSlice;
use std::ops::Range;

/// One per connection.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) head: Vec<u8>,
    /// Of the shared body.
    pub(crate) body: Range<usize>,
    pub(crate) tail: Vec<u8>,
    /// Whether head and body end a message.
    pub(crate) ends_message: bool,
    written: usize,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.written >= self.len()
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }

    /// The segments still to be written, for one vectored write.
    pub(crate) fn segments<'a>(&'a self, body: &'a [u8]) -> [IoSlice<'a>; 3] {
        let mut skip = self.written;
        [&self.head[..], &body[self.body.clone()], &self.tail[..]].map(|part| {
            let from = skip.min(part.len());
            skip -= from;
            IoSlice::new(&part[from..])
        })
    }

    /// So many octets went out; true when a message's last octet was among them.
    pub(crate) fn handle_written(&mut self, octets: usize) -> bool {
        self.written += octets;
        // The next envelope may still be waiting behind the body.
        let is_end = self.ends_message && self.written >= self.head.len() + self.body.len();
        if is_end {
            self.ends_message = false;
        }
        if self.is_empty() {
            self.head.clear();
            self.tail.clear();
            (self.body, self.written) = (0..0, 0);
        }
        is_end
    }
}
