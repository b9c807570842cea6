//! Envelope and message of a task. The body is made once and shared; only the header differs from message to message.

use super::options::Options;
use super::supply::Task;
use crate::measure;
use crate::quantity::Random;
use std::io::Write as _;
use std::time::Instant;

const LINE: usize = 76;

/// What all messages of a run have in common. One per run.
pub(crate) struct Template {
    pub(crate) run: u64,
    sender: String,
    domains: Vec<String>,
    pub(crate) recipients: u32,
    /// Filler lines with the final dot: `….\r\n`.
    pub(crate) body: Vec<u8>,
}

impl Template {
    pub(crate) fn new(options: &Options) -> Self {
        let run = Random::new(measure::epoch_us() ^ u64::from(std::process::id()) << 44).draw()
            & 0xFFFF_FFFF;
        let mut template = Self {
            run,
            sender: options.sender.clone(),
            domains: options.domain.clone(),
            recipients: options.recipients,
            body: Vec::new(),
        };
        let mut header = Vec::new();
        template.header(
            Task {
                sequence: 10_000,
                planned: None,
            },
            &mut header,
        );
        template.body = filler(options.size.saturating_sub(header.len()), options.seed);
        template
    }

    pub(crate) fn mail(&self, out: &mut Vec<u8>) {
        // Writing into a Vec cannot fail, here and below.
        let _ = write!(out, "MAIL FROM:<{}>\r\n", self.sender);
    }

    pub(crate) fn recipient(&self, task: Task, number: u32, out: &mut Vec<u8>) {
        let _ = write!(out, "RCPT TO:<load{number}@{}>\r\n", self.domain(task));
    }

    /// The header with its empty line, stamped with this moment or the planned one.
    pub(crate) fn header(&self, task: Task, out: &mut Vec<u8>) {
        let late = task.planned.map_or(0, |at| {
            Instant::now().saturating_duration_since(at).as_micros() as u64
        });
        let (run, sequence, domain) = (self.run, task.sequence, self.domain(task));
        let _ = write!(
            out,
            "X-Load-Id: {run:08x}-{sequence}\r\nX-Load-Time: {}\r\nX-Load-Recipients: {}\r\nFrom: <{}>\r\nTo: <load0@{domain}>\r\n\
             Subject: Load {sequence}\r\nMessage-ID: <{sequence}.{run:08x}@load.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
            measure::epoch_us() - late,
            self.recipients,
            self.sender,
        );
    }

    fn domain(&self, task: Task) -> &str {
        &self.domains[(task.sequence % self.domains.len() as u64) as usize]
    }
}

fn filler(octets: usize, seed: u64) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random::new(seed);
    let mut body = Vec::with_capacity(octets + LINE + 5);
    while body.len() + 2 < octets {
        let length = LINE.min(octets - body.len() - 2);
        body.extend((0..length).map(|_| LETTERS[(random.draw() >> 58) as usize]));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b".\r\n");
    body
}
