//! Envelope and message of a task. The body is made once and shared; only the header differs from message to message.

use super::mix::{Mix, Sizes};
use super::options::Options;
use super::supply::Task;
use crate::measure;
use crate::quantity::Random;
use std::io::Write as _;
use std::ops::Range;
use std::time::Instant;

const LINE: usize = 76;
const END: &[u8] = b".\r\n";

/// How the message travels: as it is, or within a JSON string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Json,
}

impl Form {
    const fn line_end(self) -> &'static [u8] {
        match self {
            Self::Plain => b"\r\n",
            Self::Json => br"\r\n",
        }
    }
}

/// What all messages of a run have in common. One per run.
pub(crate) struct Template {
    pub(crate) run: u64,
    pub(crate) recipients: u32,
    /// Filler lines with the final dot, `….\r\n`; a message takes as much of its end as it needs.
    pub(crate) body: Vec<u8>,
    senders: Mix<String>,
    domains: Mix<String>,
    /// The same domains where none weighs more than another: they come in turn.
    in_turn: Vec<String>,
    fields: Vec<(String, Mix<String>)>,
    sizes: Sizes,
    /// Of a header, about; the body makes up the rest of a size.
    header_octets: usize,
    form: Form,
    seed: u64,
}

/// Keeps the choices that hang on one seed apart.
#[derive(Clone, Copy)]
enum Choice {
    Sender = 1,
    Domain,
    Size,
    /// And further ones for each field.
    Field,
}

impl Template {
    pub(crate) fn new(options: &Options, form: Form) -> Self {
        let run = Random::new(measure::epoch_us() ^ u64::from(std::process::id()) << 44).draw()
            & 0xFFFF_FFFF;
        let mix = |parts: &[(String, f64)]| Mix::new(parts.iter().cloned());
        let fields = [
            (&options.tenant_header, mix(&options.tenant)),
            (&options.campaign_header, mix(&options.campaign)),
        ];
        let is_even = options
            .domain
            .iter()
            .all(|(_, weight)| *weight == options.domain[0].1);
        let mut template = Self {
            run,
            recipients: options.recipients,
            body: Vec::new(),
            senders: mix(&options.sender).expect("--sender has a default"),
            domains: mix(&options.domain).expect("--domain has a default"),
            in_turn: options
                .domain
                .iter()
                .filter(|_| is_even)
                .map(|(name, _)| name.clone())
                .collect(),
            fields: fields
                .into_iter()
                .filter_map(|(name, mix)| Some((name.clone(), mix?)))
                .collect(),
            sizes: options.size.clone(),
            header_octets: 0,
            form,
            seed: options.seed,
        };
        let mut header = Vec::new();
        let task = Task {
            sequence: 10_000,
            planned: None,
        };
        template.raw_header(task, &mut header);
        template.header_octets = header.len();
        let octets = template.sizes.largest().saturating_sub(header.len());
        template.body = filler(octets, options.seed, form);
        template
    }

    pub(crate) fn mail(&self, task: Task, out: &mut Vec<u8>) {
        // Writing into a Vec cannot fail, here and below.
        let _ = write!(out, "MAIL FROM:<{}>\r\n", self.sender(task));
    }

    pub(crate) fn recipient(&self, task: Task, number: u32, out: &mut Vec<u8>) {
        let _ = write!(out, "RCPT TO:<load{number}@{}>\r\n", self.domain(task));
    }

    /// The header with its empty line, stamped with this moment or the planned one.
    pub(crate) fn header(&self, task: Task, out: &mut Vec<u8>) {
        if self.form == Form::Plain {
            self.raw_header(task, out);
            return;
        }
        let mut header = Vec::new();
        self.raw_header(task, &mut header);
        // Names with anything else to escape are refused when options are read.
        for line in header.split_inclusive(|octet| *octet == b'\n') {
            out.extend_from_slice(line.trim_ascii_end());
            out.extend_from_slice(self.form.line_end());
        }
    }

    fn raw_header(&self, task: Task, out: &mut Vec<u8>) {
        let late = task.planned.map_or(0, |at| {
            Instant::now().saturating_duration_since(at).as_micros() as u64
        });
        let (run, sequence, domain) = (self.run, task.sequence, self.domain(task));
        let _ = write!(
            out,
            "X-Load-Id: {run:08x}-{sequence}\r\nX-Load-Time: {}\r\nX-Load-Recipients: {}\r\nFrom: <{}>\r\nTo: <load0@{domain}>\r\n\
             Subject: Load {sequence}\r\nMessage-ID: <{sequence}.{run:08x}@load.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n",
            measure::epoch_us() - late,
            self.recipients,
            self.sender(task),
        );
        for (index, (name, mix)) in self.fields.iter().enumerate() {
            let seed = self.seed_of(Choice::Field).wrapping_add(index as u64);
            let _ = write!(out, "{name}: {}\r\n", mix.pick(seed, task.sequence));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The part of `body` that is this message's, with the final dot.
    pub(crate) fn body_with_dot(&self, task: Task) -> Range<usize> {
        let body = self.body_of(task);
        body.start..self.body.len()
    }

    /// The part of `body` that is this message's, without a final dot.
    pub(crate) fn body_of(&self, task: Task) -> Range<usize> {
        let size = self.sizes.pick(self.seed_of(Choice::Size), task.sequence);
        let octets = encoded(size.saturating_sub(self.header_octets), self.form);
        let end = self.body.len() - END.len();
        end - octets.min(end)..end
    }

    pub(crate) fn sender(&self, task: Task) -> &str {
        self.senders
            .pick(self.seed_of(Choice::Sender), task.sequence)
    }

    pub(crate) fn domain(&self, task: Task) -> &str {
        if self.in_turn.is_empty() {
            return self
                .domains
                .pick(self.seed_of(Choice::Domain), task.sequence);
        }
        &self.in_turn[(task.sequence % self.in_turn.len() as u64) as usize]
    }

    const fn seed_of(&self, choice: Choice) -> u64 {
        self.seed.wrapping_add((choice as u64) << 32)
    }
}

/// Octets that so many octets of filler take in a form; half a line end counts as none.
fn encoded(octets: usize, form: Form) -> usize {
    let (whole, rest) = (octets / (LINE + 2), octets % (LINE + 2));
    let end = form.line_end().len();
    whole * (LINE + end) + if rest < 2 { 0 } else { rest - 2 + end }
}

/// Filler of so many octets when decoded: whole lines behind a shorter first one.
fn filler(octets: usize, seed: u64, form: Form) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random::new(seed);
    let mut body = Vec::with_capacity(encoded(octets, form) + END.len());
    let mut left = octets;
    while left >= 2 {
        let length = match left % (LINE + 2) {
            0 => LINE,
            1 => {
                left -= 1;
                continue;
            }
            rest => rest - 2,
        };
        left -= length + 2;
        body.extend((0..length).map(|_| LETTERS[(random.draw() >> 58) as usize]));
        body.extend_from_slice(form.line_end());
    }
    body.extend_from_slice(END);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_end_of_the_filler_is_whole_lines_of_the_size_asked_for() {
        for form in [Form::Plain, Form::Json] {
            for octets in 0..400 {
                let body = filler(400, 1, form);
                let end = body.len() - END.len();
                let part = &body[end - encoded(octets, form)..end];
                let decoded = String::from_utf8(part.to_vec())
                    .unwrap()
                    .replace("\\r\\n", "\r\n");
                assert!(octets - decoded.len() <= 1, "{octets}: {}", decoded.len());
                assert!(decoded.is_empty() || decoded.ends_with("\r\n"));
                assert!(
                    decoded
                        .split("\r\n")
                        .all(|line| line.len() <= LINE && !line.contains(['\r', '\n', '\\'])),
                    "{octets}: {decoded:?}"
                );
            }
        }
    }
}
