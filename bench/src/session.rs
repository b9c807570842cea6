//! A server session, and a client that pipelines.

use std::sync::Arc;

use posthaste_core::smtp::server;
use posthaste_core::words::{Committed, Domain, MessageId, Reply};

use crate::T0;

/// A server session that has greeted and heard EHLO.
pub fn session() -> server::Session {
    let hostname = Domain::parse("mta.sender.example").expect("a well-formed domain");
    let config = Arc::new(server::Config::new(hostname));
    let mut session = server::Session::new(config, ([127, 0, 0, 1], 40_000).into(), T0);
    answer(&mut session);
    session.handle_bytes(b"EHLO app.sender.example\r\n", T0);
    answer(&mut session);
    session
}

/// A whole pipelined transaction through a session; gives the octets of the message.
pub fn transact(session: &mut server::Session, message: &[u8]) -> usize {
    let mut bytes: &[u8] = b"MAIL FROM:<bounce-1234567@news.sender.example> SIZE=10240\r\n\
        RCPT TO:<somebody.or.other@provider.example>\r\nDATA\r\n";
    let mut taken = 0;
    for part in [&mut bytes, &mut &*message] {
        while !part.is_empty() {
            let used = session.handle_bytes(part, T0);
            *part = &part[used..];
            taken += answer(session);
        }
    }
    taken
}

#[expect(clippy::disallowed_methods, reason = "what is measured has no spool")]
fn committed() -> Result<(MessageId, Committed), Reply> {
    Ok((MessageId::from_u128(1), Committed::witnessed()))
}

/// Says yes to everything.
fn answer(session: &mut server::Session) -> usize {
    let mut taken = 0;
    while let Some(action) = session.poll_action() {
        match action {
            server::Action::Send => drop(session.take_output()),
            server::Action::Admit { .. } => session.handle_admitted(Ok(None), T0),
            server::Action::Open { .. } => {
                let prefix = b"Received: from app.sender.example ([127.0.0.1])\r\n\tby mta.sender.example\r\n";
                session.handle_opened(Ok(prefix.to_vec()), T0);
            }
            server::Action::Commit(submission) => {
                taken += submission.data.len();
                session.handle_committed(committed(), T0);
            }
            server::Action::Close => {}
        }
    }
    taken
}
