//! One HTTP session of the source, without its socket: requests out, answers in, one at a time over a kept connection.

use super::dialogue::{Context, Course, Transaction, Wish, excerpt};
use super::message::Template;
use super::supply::{Next, Task};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;

/// An answer, head and body together, is no longer than this.
const ANSWER_OCTETS_MAX: usize = 256 << 10;
/// The body that KumoMTA's HTTP injection takes.
const INJECTION: &str =
    r#"{"envelope_sender":"{from}","recipients":{recipients},"content":"{message}"}"#;

/// The request of a run: everything but the message. One per run.
pub(crate) struct Request {
    /// Request line and fields, up to the value of Content-Length.
    head: String,
    before: Vec<Piece>,
    after: Vec<Piece>,
    /// Whether the answer tells how many recipients were taken.
    counts: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    From,
    To,
    Recipients,
    Id,
}

impl Request {
    /// `template` with `{from}`, `{to}`, `{recipients}`, `{id}` and, once, `{message}`; without one the body is KumoMTA's.
    pub(crate) fn new(
        host: &str,
        path: &str,
        fields: &[String],
        template: Option<&str>,
    ) -> Result<Self, String> {
        let text = template.unwrap_or(INJECTION);
        let (before, after) = text
            .split_once("{message}")
            .ok_or_else(|| "{message} is missing".to_owned())?;
        if after.contains("{message}") {
            return Err("{message} may stand once".to_owned());
        }
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n");
        let has_type = |field: &String| field.to_ascii_lowercase().starts_with("content-type:");
        if !fields.iter().any(has_type) {
            head += "Content-Type: application/json\r\n";
        }
        for field in fields {
            head += &format!("{field}\r\n");
        }
        head += "Content-Length: ";
        Ok(Self {
            head,
            before: pieces(before),
            after: pieces(after),
            counts: template.is_none(),
        })
    }
}

fn pieces(mut text: &str) -> Vec<Piece> {
    let names = [
        ("{from}", (|| Piece::From) as fn() -> Piece),
        ("{to}", || Piece::To),
        ("{recipients}", || Piece::Recipients),
        ("{id}", || Piece::Id),
    ];
    let mut pieces = Vec::new();
    loop {
        let found = names
            .iter()
            .filter_map(|(name, piece)| Some((text.find(name)?, name.len(), piece)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, length, piece)) = found else {
            break;
        };
        pieces.push(Piece::Text(text[..at].to_owned()));
        pieces.push(piece());
        text = &text[at + length..];
    }
    pieces.push(Piece::Text(text.to_owned()));
    pieces
}

fn fill(pieces: &[Piece], template: &Template, task: Task, out: &mut Vec<u8>) {
    let domain = template.domain(task);
    let listed = |around: &dyn Fn(u32) -> String| {
        let all: Vec<_> = (0..template.recipients).map(around).collect();
        all.join(",")
    };
    for piece in pieces {
        // Writing into a Vec cannot fail.
        let _ = match piece {
            Piece::Text(text) => write!(out, "{text}"),
            Piece::From => write!(out, "{}", template.sender(task)),
            Piece::Id => write!(out, "{:08x}-{}", template.run, task.sequence),
            Piece::To => write!(out, "{}", listed(&|n| format!("load{n}@{domain}"))),
            Piece::Recipients => {
                let object = |n| format!(r#"{{"email":"load{n}@{domain}"}}"#);
                write!(out, "[{}]", listed(&object))
            }
        };
    }
}

/// The dialogue of one connection.
pub(crate) struct Http {
    has_begun: bool,
    pub(crate) course: Course,
    answer: Vec<u8>,
}

impl Http {
    pub(crate) fn new(per_connection: u64) -> Self {
        Self {
            has_begun: false,
            course: Course::new(per_connection),
            answer: Vec::new(),
        }
    }

    pub(crate) const fn is_expecting(&self) -> bool {
        !self.has_begun || self.course.current.is_some()
    }

    /// Starts the next request, or ends the session.
    pub(crate) fn begin(&mut self, context: &mut Context<'_>) -> Wish {
        self.has_begun = true;
        if self.course.left == 0 {
            return Wish::Close;
        }
        let (task, request) = match (context.next(), &context.manner.request) {
            (Next::At(at), _) => return Wish::Sleep(at),
            (Next::Done, _) | (_, None) => return Wish::Close,
            (Next::Task(task), Some(request)) => (task, request),
        };
        self.course.left -= 1;
        let template = context.template;
        let mut transaction = Transaction::new(task);
        let mut before = Vec::with_capacity(1024);
        fill(&request.before, template, task, &mut before);
        let envelope = before.len();
        template.header(task, &mut before);
        let output = &mut self.course.output;
        output.body = template.body_of(task);
        transaction.octets = before.len() - envelope + output.body.len();
        fill(&request.after, template, task, &mut output.tail);
        let octets = before.len() + output.body.len() + output.tail.len();
        let _ = write!(output.head, "{}{octets}\r\n\r\n", request.head);
        output.head.extend_from_slice(&before);
        output.ends_message = true;
        self.course.current = Some(transaction);
        Wish::Go
    }

    /// Takes octets of an answer.
    pub(crate) fn handle_bytes(&mut self, input: &[u8], context: &mut Context<'_>) -> Wish {
        self.answer.extend_from_slice(input);
        let data = std::mem::take(&mut self.answer);
        match parse(&data) {
            Ok(None) if data.len() <= ANSWER_OCTETS_MAX => {
                self.answer = data;
                Wish::Go
            }
            Ok(None) => {
                context.tally.error("endless HTTP answer");
                Wish::Fail
            }
            Ok(Some(answer)) => {
                let Some(current) = self
                    .course
                    .current
                    .take()
                    .filter(|_| answer.length == data.len())
                else {
                    context.tally.error("HTTP answer without a request");
                    return Wish::Fail;
                };
                self.settle(current, &answer, context);
                if answer.closes {
                    Wish::Close
                } else {
                    self.begin(context)
                }
            }
            Err(why) => {
                context.tally.error(&format!("{why}: {}", excerpt(&data)));
                Wish::Fail
            }
        }
    }

    fn settle(&mut self, mut current: Transaction, answer: &Answer<'_>, context: &mut Context<'_>) {
        let counts = context.manner.request.as_ref().is_some_and(|r| r.counts);
        let all = context.template.recipients;
        let injected = match answer.status {
            200..300 if counts => serde_json::from_slice(&answer.body).unwrap_or_default(),
            200..300 => Injected {
                success_count: all,
                ..Injected::default()
            },
            _ => Injected::default(),
        };
        current.accepted = injected.success_count.min(all);
        if !(200..300).contains(&answer.status) || current.accepted == 0 {
            let text = injected
                .errors
                .first()
                .map_or(&*answer.body, |error| error.as_bytes());
            let error = format!("HTTP {}: {}", answer.status, excerpt(text));
            context.tally.error(&error);
            context.tally.recipients_refused += u64::from(injected.fail_count);
            current.fail(context);
            return;
        }
        self.course.has_delivered = true;
        context.tally.recipients_refused += u64::from(all - current.accepted);
        current.accept(context);
    }

    /// The connection is gone.
    pub(crate) fn abandon(&mut self, context: &mut Context<'_>) {
        if let Some(current) = self.course.current.take() {
            current.abandon(context);
        }
    }
}

/// KumoMTA's answer to an injection.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Injected {
    success_count: u32,
    fail_count: u32,
    errors: Vec<String>,
}

/// One whole answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer<'a> {
    status: u16,
    body: Cow<'a, [u8]>,
    closes: bool,
    /// Octets it took.
    length: usize,
}

/// The first answer in `data` (RFC 9112), or None while octets are missing. Interim answers are passed over.
fn parse(data: &[u8]) -> Result<Option<Answer<'_>>, &'static str> {
    const NOT_HTTP: &str = "not an HTTP answer";
    const VERSION: &[u8] = b"HTTP/1.";
    let mut from = 0;
    loop {
        let rest = &data[from..];
        let begun = rest.len().min(VERSION.len());
        if rest[..begun] != VERSION[..begun] {
            return Err(NOT_HTTP);
        }
        let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&rest[..end]).map_err(|_| NOT_HTTP)?;
        let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse::<u16>().ok())
            .ok_or(NOT_HTTP)?;
        if (100..200).contains(&status) {
            from += end + 4;
            continue;
        }
        let field = |name: &str| {
            let mut fields = fields.split("\r\n").filter_map(|line| line.split_once(':'));
            fields
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let closes = first.starts_with("HTTP/1.0")
            || field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let start = from + end + 4;
        let body = if field("transfer-encoding").is_some() {
            chunks(&data[start..])?.map(|(body, used)| (Cow::Owned(body), used))
        } else if matches!(status, 204 | 304) {
            Some((Cow::Borrowed(&[][..]), 0))
        } else {
            let length = field("content-length").ok_or("HTTP answer without its length")?;
            let length: usize = length.parse().map_err(|_| NOT_HTTP)?;
            data[start..]
                .get(..length)
                .map(|body| (Cow::Borrowed(body), length))
        };
        return Ok(body.map(|(body, used)| Answer {
            status,
            body,
            closes,
            length: start + used,
        }));
    }
}

/// A chunked body and the octets it took; trailers are passed over.
fn chunks(data: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    const BAD: &str = "bad chunk in an HTTP answer";
    let (mut body, mut at) = (Vec::new(), 0);
    while let Some(end) = memchr::memmem::find(&data[at..], b"\r\n") {
        let line = std::str::from_utf8(&data[at..at + end]).map_err(|_| BAD)?;
        let digits = line.split(';').next().unwrap_or(line).trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| BAD)?;
        at += end + 2;
        if length == 0 {
            // Trailers, if any, end with an empty line.
            let rest = &data[at..];
            if rest.starts_with(b"\r\n") {
                return Ok(Some((body, at + 2)));
            }
            return Ok(memchr::memmem::find(rest, b"\r\n\r\n").map(|end| (body, at + end + 4)));
        }
        if length > ANSWER_OCTETS_MAX {
            return Err(BAD);
        }
        let Some(chunk) = data.get(at..at + length + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(&chunk[..length]);
        at += length + 2;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_at_every_seam() {
        for (text, status, body, closes) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
                200,
                "body",
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\ncontent-length:0\r\nconnection: Close\r\n\r\n",
                500,
                "",
                true,
            ),
            ("HTTP/1.1 204 None\r\n\r\n", 204, "", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
                200,
                "x",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                200,
                "abcde",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: v\r\n\r\n",
                200,
                "x",
                false,
            ),
        ] {
            for cut in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text} at {cut}");
            }
            let answer = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(
                (answer.status, &*answer.body, answer.closes),
                (status, body.as_bytes(), closes)
            );
            assert_eq!(answer.length, text.len());
        }
        for bad in [
            "SMTP\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn templates_are_cut_at_their_marks() {
        assert_eq!(
            pieces("a{to}{from}b{id}"),
            [
                Piece::Text("a".to_owned()),
                Piece::To,
                Piece::Text(String::new()),
                Piece::From,
                Piece::Text("b".to_owned()),
                Piece::Id,
                Piece::Text(String::new())
            ]
        );
        let made = |template| Request::new("h", "/", &[], Some(template));
        assert!(made("{message}").is_ok());
        assert!(made("none").is_err() && made("{message}{message}").is_err());
    }
}
