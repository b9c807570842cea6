//! Plays `tests/dialogue/*.smtp` against the server session: `C: ` lines are sent, `S: ` lines are
//! expected, `#` begins a comment. The greeting is not part of a script. Recipients named `no` are
//! refused; all else that is asked of the node is granted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use posthaste_core::smtp::server::{Action, Config, Session};
use posthaste_core::words::{Committed, Domain, Enhanced, MessageId, Moment, Reply};

const DENIED: Enhanced = Enhanced::new(5, 7, 1);
const HOSTNAME: &str = "mx.test";
const NOW: Moment = Moment::from_secs(1_800_000_000);

struct Client {
    session: Session,
    committed: u128,
    heard: String,
}

#[expect(clippy::disallowed_methods, reason = "the test plays the spool")]
fn committed(id: MessageId) -> Result<(MessageId, Committed), Reply> {
    Ok((id, Committed::witnessed()))
}

impl Client {
    fn new(hostname: &str) -> Self {
        let hostname = Domain::parse(hostname).expect("a host name");
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let session = Session::new(Arc::new(Config::new(hostname)), peer, NOW);
        let mut client = Self {
            session,
            committed: 0,
            heard: String::new(),
        };
        client.drain();
        client.heard.clear();
        client
    }

    fn say(&mut self, line: &str) {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let taken = self.session.handle_bytes(rest, NOW);
            rest = &rest[taken..];
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send => {
                    let output = self.session.take_output();
                    self.heard += std::str::from_utf8(&output).expect("replies are text");
                }
                Action::Admit { recipient, .. } => {
                    let verdict = match recipient.local() {
                        "no" => Err(Reply::new(550, Some(DENIED), "Relaying denied")),
                        _ => Ok(None),
                    };
                    self.session.handle_admitted(verdict, NOW);
                }
                Action::Open { .. } => self.session.handle_opened(Ok(Vec::new()), NOW),
                Action::Commit(_) => {
                    self.committed += 1;
                    let id = MessageId::from_u128(self.committed);
                    self.session.handle_committed(committed(id), NOW);
                }
                Action::Close => {}
            }
        }
    }
}

/// Gives the first line that does not hold.
fn play(path: &Path) -> Result<(), String> {
    let script = std::fs::read_to_string(path).expect("a script reads");
    let mut client = Client::new(HOSTNAME);
    for (number, line) in script.lines().enumerate() {
        if let Some(sent) = line.strip_prefix("C: ") {
            client.say(&format!("{sent}\r\n"));
        } else if let Some(expected) = line.strip_prefix("S: ") {
            let (reply, rest) = client.heard.split_once("\r\n").unwrap_or_default();
            if reply != expected {
                let place = format!("{}:{}", path.display(), number + 1);
                return Err(format!("{place}: `{reply}` for `{expected}`"));
            }
            client.heard = rest.to_owned();
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
    if client.heard.is_empty() {
        return Ok(());
    }
    let path = path.display();
    Err(format!("{path}: nobody expects `{}`", client.heard))
}

#[test]
fn dialogues_go_as_written() {
    let scripts: Vec<_> = std::fs::read_dir("tests/dialogue")
        .expect("scripts lie in tests/dialogue")
        .map(|file| file.expect("scripts list").path())
        .collect();
    assert!(!scripts.is_empty());
    let wrong: Vec<_> = scripts
        .iter()
        .filter_map(|script| play(script).err())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
