//! Sends complaints and bounces by SMTP to the server under test. One thread, one connection per report, every wait bounded.

use super::complaint;
use super::returned::{Event, EventKind};
use posthaste_core::words::Moment;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of one reply.
const LINES_MAX: usize = 100;

/// The way out, and what became of what went there.
pub(super) struct Post {
    events: SyncSender<Event>,
    sent: Arc<AtomicU64>,
}

impl Post {
    pub(super) fn sender(&self) -> SyncSender<Event> {
        self.events.clone()
    }

    /// How many were taken by the server under test.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Starts the thread; `complaints_to` is where complaints go instead of to the sender.
pub(super) fn start(
    target: SocketAddr,
    complaints_to: Option<String>,
    events_max: usize,
    finished: Arc<AtomicBool>,
) -> (Post, JoinHandle<io::Result<()>>) {
    let (events, inbox) = mpsc::sync_channel(events_max);
    let post = Post {
        events,
        sent: Arc::default(),
    };
    let sent = Arc::clone(&post.sent);
    let thread = std::thread::spawn(move || {
        while let Some(event) = next(&inbox, &finished) {
            let recipient = match (&event.kind, &complaints_to) {
                (EventKind::Complaint, Some(address)) => address.as_str(),
                (EventKind::Complaint | EventKind::Bounce, _) => &event.sender,
            };
            // The null sender is nobody to write to (RFC 5321 §4.5.5).
            if recipient.is_empty() {
                continue;
            }
            let now = Moment::from_micros(crate::measure::epoch_us());
            let message = complaint::render(&event, recipient, now);
            if send(target, recipient, &message).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    (post, thread)
}

fn next(inbox: &Receiver<Event>, finished: &AtomicBool) -> Option<Event> {
    while !finished.load(Ordering::Relaxed) {
        match inbox.recv_timeout(LOOK) {
            Ok(event) => return Some(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

fn send(target: SocketAddr, recipient: &str, message: &[u8]) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut out = stream.try_clone()?;
    let mut replies = BufReader::new(stream);
    expect(&mut replies, b'2')?;
    for (command, good) in [
        ("EHLO provider.test".to_owned(), b'2'),
        ("MAIL FROM:<>".to_owned(), b'2'),
        (format!("RCPT TO:<{recipient}>"), b'2'),
        ("DATA".to_owned(), b'3'),
    ] {
        write!(out, "{command}\r\n")?;
        expect(&mut replies, good)?;
    }
    out.write_all(message)?;
    out.write_all(b".\r\n")?;
    expect(&mut replies, b'2')?;
    out.write_all(b"QUIT\r\n")
}

fn expect(replies: &mut BufReader<TcpStream>, good: u8) -> io::Result<()> {
    for _ in 0..LINES_MAX {
        let mut line = Vec::new();
        replies.read_until(b'\n', &mut line)?;
        if line.get(3) == Some(&b'-') {
            continue;
        }
        if line.first() == Some(&good) {
            return Ok(());
        }
        return Err(io::Error::other("refused"));
    }
    Err(io::Error::other("endless reply"))
}
