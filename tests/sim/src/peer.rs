//! A model of a mail server with a temper.

use crate::rng::Rng;

/// Chances are in permille, each time there is an occasion.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    pub(crate) pipelining: bool,
    pub(crate) dsn: bool,
    /// No connection comes about.
    pub(crate) unreachable: u64,
    /// 4xx or 5xx instead of a greeting.
    pub(crate) unfriendly: u64,
    /// 4xx to MAIL, RCPT or the final dot.
    pub(crate) defers: u64,
    /// 5xx to MAIL, RCPT or the final dot.
    pub(crate) refuses: u64,
    /// Hangs up instead of an answer.
    pub(crate) hangs_up: u64,
    /// Takes the message, and hangs up or falls silent.
    pub(crate) loses: u64,
    /// Never answers again.
    pub(crate) falls_silent: u64,
    /// 421, and hangs up.
    pub(crate) leaves: u64,
    pub(crate) babbles: u64,
}

impl Temper {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut rare = |choices: &[u64]| rng.pick(choices);
        Self {
            pipelining: rare(&[0, 1, 1]) == 1,
            dsn: rare(&[0, 1]) == 1,
            unreachable: rare(&[0, 0, 50, 500]),
            unfriendly: rare(&[0, 0, 50, 300]),
            defers: rare(&[0, 10, 100, 400]),
            refuses: rare(&[0, 10, 100]),
            hangs_up: rare(&[0, 0, 5, 50]),
            loses: rare(&[0, 0, 10, 100]),
            falls_silent: rare(&[0, 0, 0, 10]),
            leaves: rare(&[0, 0, 5, 30]),
            babbles: rare(&[0, 0, 0, 5]),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Say(String),
    /// The message is in the mailboxes; the next `Say` tells the client so, if there is one.
    Take {
        recipients: Vec<String>,
        data: Vec<u8>,
    },
    HangUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Command,
    Data,
    /// Hung up or silent.
    Over,
}

#[derive(Debug)]
pub(crate) struct Server {
    temper: Temper,
    mode: Mode,
    input: Vec<u8>,
    has_mail: bool,
    recipients: Vec<String>,
    answers: Vec<Answer>,
}

impl Server {
    pub(crate) const fn new(temper: Temper) -> Self {
        Self {
            temper,
            mode: Mode::Command,
            input: Vec::new(),
            has_mail: false,
            recipients: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(crate) fn greet(&mut self, rng: &mut Rng) -> Vec<Answer> {
        if rng.permille(self.temper.unfriendly) {
            let code = rng.pick(&["421", "450", "554", "521"]);
            self.say(&format!("{code} not you"));
            self.hang_up();
        } else {
            self.say("220 peer.example ready");
        }
        core::mem::take(&mut self.answers)
    }

    pub(crate) fn handle_bytes(&mut self, bytes: &[u8], rng: &mut Rng) -> Vec<Answer> {
        self.input.extend_from_slice(bytes);
        loop {
            let taken = match self.mode {
                Mode::Command => self.take_line(rng),
                Mode::Data => self.take_data(rng),
                Mode::Over => false,
            };
            if !taken {
                return core::mem::take(&mut self.answers);
            }
        }
    }

    fn take_line(&mut self, rng: &mut Rng) -> bool {
        let Some(end) = find(&self.input, b"\r\n") else {
            return false;
        };
        let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
        let line = String::from_utf8(line).expect("commands are text");
        if rng.permille(self.temper.hangs_up) {
            self.hang_up();
        } else if rng.permille(self.temper.falls_silent) {
            self.mode = Mode::Over;
        } else if rng.permille(self.temper.leaves) {
            self.say("421 4.3.2 going down");
            self.hang_up();
        } else if rng.permille(self.temper.babbles) {
            // Whatever it was is not done, RSET included.
            self.reset();
            self.say("who goes there");
        } else {
            self.obey(&line, rng);
        }
        true
    }

    fn obey(&mut self, line: &str, rng: &mut Rng) {
        let verb = line.split([' ', ':']).next().unwrap_or("");
        match verb {
            "EHLO" => {
                let mut text = "250-peer.example\r\n250-8BITMIME".to_owned();
                if self.temper.pipelining {
                    text.push_str("\r\n250-PIPELINING");
                }
                if self.temper.dsn {
                    text.push_str("\r\n250-DSN");
                }
                text.push_str("\r\n250 SIZE 10000000");
                self.say(&text);
            }
            "MAIL" => {
                assert!(!self.has_mail, "MAIL within a transaction");
                if let Some(no) = self.mood(rng) {
                    return self.say(no);
                }
                self.has_mail = true;
                self.say("250 2.1.0 ok");
            }
            "RCPT" if !self.has_mail => self.say("503 5.5.1 MAIL first"),
            "RCPT" => {
                if let Some(no) = self.mood(rng) {
                    return self.say(no);
                }
                let from = line.find('<').expect("a path has brackets") + 1;
                let to = line.find('>').expect("a path has brackets");
                self.recipients.push(line[from..to].to_owned());
                self.say("250 2.1.5 ok");
            }
            "DATA" if self.recipients.is_empty() && rng.permille(800) => {
                self.say("554 5.5.1 no valid recipients");
            }
            "DATA" => {
                self.mode = Mode::Data;
                self.say("354 go");
            }
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 ok");
            }
            "QUIT" => {
                self.say("221 2.0.0 bye");
                self.hang_up();
            }
            _ => panic!("no such command: {line:?}"),
        }
    }

    fn take_data(&mut self, rng: &mut Rng) -> bool {
        let (content, taken) = if self.input.starts_with(b".\r\n") {
            (0, 3)
        } else if let Some(end) = find(&self.input, b"\r\n.\r\n") {
            (end + 2, end + 5)
        } else {
            return false;
        };
        let data = unstuff(&self.input[..content]);
        self.input.drain(..taken);
        self.mode = Mode::Command;
        let recipients = core::mem::take(&mut self.recipients);
        self.reset();
        if recipients.is_empty() {
            self.say("554 5.5.1 nobody to give it to");
        } else if rng.permille(self.temper.hangs_up) {
            self.hang_up();
        } else if rng.permille(self.temper.loses) {
            self.answers.push(Answer::Take { recipients, data });
            if rng.permille(700) {
                self.hang_up();
            } else {
                self.mode = Mode::Over;
            }
        } else if let Some(no) = self.mood(rng) {
            self.say(no);
        } else {
            self.answers.push(Answer::Take { recipients, data });
            self.say("250 2.0.0 taken");
        }
        true
    }

    fn mood(&self, rng: &mut Rng) -> Option<&'static str> {
        if rng.permille(self.temper.defers) {
            Some("451 4.7.1 later")
        } else if rng.permille(self.temper.refuses) {
            Some("550 5.7.1 never")
        } else {
            None
        }
    }

    fn reset(&mut self) {
        self.has_mail = false;
        self.recipients.clear();
    }

    fn say(&mut self, text: &str) {
        self.answers.push(Answer::Say(format!("{text}\r\n")));
    }

    fn hang_up(&mut self) {
        self.mode = Mode::Over;
        self.answers.push(Answer::HangUp);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn unstuff(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for line in data.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}
