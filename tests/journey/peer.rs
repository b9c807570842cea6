//! A mail server that answers as a test tells it to, and remembers what it was told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::node::own_ip;
use super::wait::until;

/// A listener's port; each peer has an address of its own.
const PORT: u16 = 2526;
const ALL_EXTENSIONS: &[&str] = &[
    "PIPELINING",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Banner,
    Hello,
    Mail,
    Rcpt,
    Data,
    Dot,
    Other,
}

/// What the peer was told, and how often at this stage before, all connections together.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) stage: Stage,
    pub(super) nth: usize,
    pub(super) line: String,
    pub(super) at: Instant,
    pub(super) from: SocketAddr,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// As a good server would.
    Yes,
    /// These lines, CR LF added to the last.
    Say(String),
    Close,
    SayAndClose(String),
    /// Nothing, for ever.
    Silence,
    /// This, and then not an octet is read any more.
    Deaf(String),
    /// These octets again and again, for ever.
    Endless(&'static [u8]),
    /// The line, after that long.
    Late(Duration, String),
    /// One octet at a time, each in a segment of its own.
    ByteByByte(String),
}

pub(super) fn say(line: &str) -> Answer {
    Answer::Say(line.into())
}

/// `answer` at `stage`, and good manners otherwise.
pub(super) fn always(stage: Stage, answer: Answer) -> impl Fn(&Step) -> Answer + Send + Sync {
    at_first(usize::MAX, stage, answer)
}

/// `answer` the first `times` the peer comes to `stage`, and good manners from then on.
pub(super) fn at_first(
    times: usize,
    stage: Stage,
    answer: Answer,
) -> impl Fn(&Step) -> Answer + Send + Sync {
    move |step| {
        if step.stage == stage && step.nth < times {
            answer.clone()
        } else {
            Answer::Yes
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) mail: String,
    /// Recipients that were accepted, each with its parameters.
    pub(super) rcpts: Vec<String>,
    /// Without dot-stuffing and the final dot.
    pub(super) data: Vec<u8>,
    pub(super) at: Instant,
    pub(super) from: SocketAddr,
}

impl Letter {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The first field, and the rest.
    pub(super) fn parts(&self) -> (String, &[u8]) {
        let mut end = 0;
        for line in self.data.split_inclusive(|octet| *octet == b'\n') {
            if end > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
                break;
            }
            end += line.len();
        }
        let (first, rest) = self.data.split_at(end);
        (String::from_utf8_lossy(first).into_owned(), rest)
    }
}

type Script = dyn Fn(&Step) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    extensions: Vec<String>,
    letters: Mutex<Vec<Letter>>,
    steps: Mutex<Steps>,
    uses: Mutex<Uses>,
    streams: Mutex<Vec<TcpStream>>,
    is_gone: AtomicBool,
}

#[derive(Default)]
struct Steps {
    all: Vec<Step>,
    /// Of each stage.
    so_far: [usize; Stage::Other as usize + 1],
}

#[derive(Default)]
struct Uses {
    open: usize,
    open_most: usize,
    messages_most: usize,
}

pub(super) struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Peer {
    /// Takes all mail.
    pub(super) fn good() -> Self {
        Self::new(|_| Answer::Yes)
    }

    pub(super) fn new(script: impl Fn(&Step) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(ALL_EXTENSIONS, script)
    }

    /// Has no sender's mail until it is willing.
    pub(super) fn unwilling() -> (Self, Arc<AtomicBool>) {
        let is_willing = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_willing);
        let peer = Self::new(move |step| {
            let is_refused = step.stage == Stage::Mail && !asked.load(Ordering::Acquire);
            if is_refused {
                say("451 4.3.0 later")
            } else {
                Answer::Yes
            }
        });
        (peer, is_willing)
    }

    pub(super) fn with(
        extensions: &[&str],
        script: impl Fn(&Step) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::at(SocketAddr::from((own_ip(), PORT)), extensions, script)
    }

    pub(super) fn good_at(address: SocketAddr) -> Self {
        Self::at(address, ALL_EXTENSIONS, |_| Answer::Yes)
    }

    pub(super) fn at(
        address: SocketAddr,
        extensions: &[&str],
        script: impl Fn(&Step) -> Answer + Send + Sync + 'static,
    ) -> Self {
        // A child that is just being started holds the last listener until it executes.
        let listener = until("the address is free", || TcpListener::bind(address).ok());
        let shared = Arc::new(Shared {
            script: Box::new(script),
            extensions: extensions.iter().map(|&e| e.into()).collect(),
            letters: Mutex::default(),
            steps: Mutex::default(),
            uses: Mutex::default(),
            streams: Mutex::default(),
            is_gone: AtomicBool::new(false),
        });
        let listens = Arc::clone(&shared);
        let listening = std::thread::spawn(move || listen(&listener, &listens));
        Self {
            address,
            shared,
            listening: Some(listening),
        }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages this peer said 250 to, whatever became of its reply.
    pub(super) fn letters(&self) -> Vec<Letter> {
        self.shared.letters.lock().expect("no panic").clone()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.shared.steps.lock().expect("no panic").all.clone()
    }

    pub(super) fn steps_at(&self, stage: Stage) -> Vec<Step> {
        let mut steps = self.steps();
        steps.retain(|step| step.stage == stage);
        steps
    }

    /// Most connections at one time, and most messages on one.
    pub(super) fn uses(&self) -> (usize, usize) {
        let uses = self.shared.uses.lock().expect("no panic");
        (uses.open_most, uses.messages_most)
    }

    /// Connections at this time.
    pub(super) fn open(&self) -> usize {
        self.shared.uses.lock().expect("no panic").open
    }

    /// Waits for so many messages.
    #[track_caller]
    pub(super) fn wait(&self, count: usize) -> Vec<Letter> {
        until(&format!("{count} messages arrive"), || {
            let letters = self.letters();
            (letters.len() >= count).then_some(letters)
        })
    }

    /// The listener and all connections vanish, as when the process dies.
    pub(super) fn crash(&mut self) -> Vec<Letter> {
        self.vanish();
        self.letters()
    }

    fn vanish(&mut self) {
        let Some(listening) = self.listening.take() else {
            return;
        };
        self.shared.is_gone.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        let _ = listening.join();
        for stream in self.shared.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.vanish();
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if shared.is_gone.load(Ordering::Acquire) {
            return;
        }
        let Ok(handle) = stream.try_clone() else {
            continue;
        };
        shared.streams.lock().expect("no panic").push(handle);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // However the connection ends, the test looks at what was recorded.
            let _ = Talk::new(stream, shared).and_then(Talk::run);
        });
    }
}

/// What follows an answer.
enum Then {
    Code(u16),
    End,
}

struct Talk {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    mail: Option<String>,
    rcpts: Vec<String>,
    /// Messages said 250 to.
    taken: usize,
    has_left: bool,
}

impl Talk {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            from: stream.peer_addr()?,
            writer: stream.try_clone()?,
            reader: BufReader::new(stream),
            shared,
            mail: None,
            rcpts: Vec::new(),
            taken: 0,
            has_left: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.count(|uses| {
            uses.open += 1;
            uses.open_most = uses.open_most.max(uses.open);
        });
        let ended = self.converse();
        self.leave();
        let _ = self.writer.shutdown(Shutdown::Both);
        ended
    }

    /// Before the client can know that the connection is over.
    fn leave(&mut self) {
        let taken = self.taken;
        if !std::mem::replace(&mut self.has_left, true) {
            self.count(|uses| {
                uses.open -= 1;
                uses.messages_most = uses.messages_most.max(taken);
            });
        }
    }

    fn count(&self, what: impl FnOnce(&mut Uses)) {
        what(&mut self.shared.uses.lock().expect("no panic"));
    }

    fn converse(&mut self) -> io::Result<()> {
        let greeting = "220 peer.example ESMTP".to_owned();
        if matches!(self.answer(Stage::Banner, "", greeting)?, Then::End) {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_owned();
            let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
            let then = match verb.as_str() {
                "EHLO" => {
                    let mut lines = vec!["peer.example".to_owned()];
                    lines.extend(self.shared.extensions.iter().cloned());
                    let last = lines.pop().unwrap_or_default();
                    let mut good: String =
                        lines.iter().map(|line| format!("250-{line}\r\n")).collect();
                    good += &format!("250 {last}");
                    self.answer(Stage::Hello, &line, good)?
                }
                "HELO" => self.answer(Stage::Hello, &line, "250 peer.example".into())?,
                "MAIL" => self.take_mail(&line)?,
                "RCPT" => self.take_rcpt(&line)?,
                "DATA" => self.take_data(&line)?,
                "RSET" => {
                    self.mail = None;
                    self.rcpts.clear();
                    self.answer(Stage::Other, &line, "250 ok".into())?
                }
                "QUIT" => {
                    self.leave();
                    self.answer(Stage::Other, &line, "221 bye".into())?;
                    Then::End
                }
                _ => self.answer(Stage::Other, &line, "500 what".into())?,
            };
            if matches!(then, Then::End) {
                return Ok(());
            }
        }
    }

    fn take_mail(&mut self, line: &str) -> io::Result<Then> {
        let then = self.answer(Stage::Mail, line, "250 2.1.0 sender ok".into())?;
        if matches!(then, Then::Code(200..=299)) {
            self.mail = Some(argument(line));
            self.rcpts.clear();
        }
        Ok(then)
    }

    fn take_rcpt(&mut self, line: &str) -> io::Result<Then> {
        let good = match self.mail {
            Some(_) => "250 2.1.5 recipient ok",
            None => "503 5.5.1 MAIL first",
        };
        let then = self.answer(Stage::Rcpt, line, good.into())?;
        if matches!(then, Then::Code(200..=299)) {
            self.rcpts.push(argument(line));
        }
        Ok(then)
    }

    fn take_data(&mut self, line: &str) -> io::Result<Then> {
        let good = match (&self.mail, self.rcpts.is_empty()) {
            (Some(_), false) => "354 go on",
            (Some(_), true) => "554 5.5.1 no valid recipients",
            (None, _) => "503 5.5.1 MAIL first",
        };
        let then = self.answer(Stage::Data, line, good.into())?;
        if !matches!(then, Then::Code(300..=399)) {
            return Ok(then);
        }
        let Some(data) = self.content()? else {
            return Ok(Then::End);
        };
        let mail = self.mail.take().unwrap_or_default();
        let rcpts = std::mem::take(&mut self.rcpts);
        let step = self.step(Stage::Dot, &String::from_utf8_lossy(&data));
        let answer = (self.shared.script)(&step);
        let is_taken = match &answer {
            Answer::Yes => true,
            Answer::Say(line)
            | Answer::SayAndClose(line)
            | Answer::Late(_, line)
            | Answer::ByteByByte(line) => line.starts_with('2'),
            Answer::Close | Answer::Silence | Answer::Deaf(_) | Answer::Endless(_) => false,
        };
        if is_taken {
            self.taken += 1;
            self.shared.letters.lock().expect("no panic").push(Letter {
                mail,
                rcpts,
                data,
                at: step.at,
                from: self.from,
            });
        }
        self.carry_out(answer, "250 2.0.0 taken".into())
    }

    /// `None` when the client closes in the midst.
    fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut data = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line == b".\r\n" {
                return Ok(Some(data));
            }
            let line = line.strip_prefix(b".").unwrap_or(&line);
            data.extend_from_slice(line);
        }
    }

    fn step(&self, stage: Stage, line: &str) -> Step {
        let mut steps = self.shared.steps.lock().expect("no panic");
        let so_far = &mut steps.so_far[stage as usize];
        let nth = *so_far;
        *so_far += 1;
        let step = Step {
            stage,
            nth,
            line: line.into(),
            at: Instant::now(),
            from: self.from,
        };
        steps.all.push(step.clone());
        step
    }

    fn answer(&mut self, stage: Stage, line: &str, good: String) -> io::Result<Then> {
        let step = self.step(stage, line);
        let answer = (self.shared.script)(&step);
        self.carry_out(answer, good)
    }

    fn carry_out(&mut self, answer: Answer, good: String) -> io::Result<Then> {
        let line = match answer {
            Answer::Yes => good,
            Answer::Say(line) => line,
            Answer::Close => return Ok(Then::End),
            Answer::SayAndClose(line) => {
                self.writer.write_all(format!("{line}\r\n").as_bytes())?;
                return Ok(Then::End);
            }
            Answer::Silence => {
                io::copy(&mut self.reader.by_ref(), &mut io::sink())?;
                return Ok(Then::End);
            }
            Answer::Deaf(line) => {
                self.writer.write_all(format!("{line}\r\n").as_bytes())?;
                while !self.shared.is_gone.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(Then::End);
            }
            Answer::Endless(octets) => {
                let block = octets.repeat(4096 / octets.len() + 1);
                loop {
                    self.writer.write_all(&block)?;
                }
            }
            Answer::Late(after, line) => {
                std::thread::sleep(after);
                line
            }
            Answer::ByteByByte(line) => {
                for octet in format!("{line}\r\n").bytes() {
                    self.writer.write_all(&[octet])?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Ok(Then::Code(code(&line)));
            }
        };
        self.writer.write_all(format!("{line}\r\n").as_bytes())?;
        Ok(Then::Code(code(&line)))
    }
}

fn code(line: &str) -> u16 {
    line.get(..3)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

/// What follows the colon of MAIL FROM: or RCPT TO:.
fn argument(line: &str) -> String {
    line.split_once(':')
        .map_or_else(String::new, |(_, rest)| rest.trim().to_owned())
}
