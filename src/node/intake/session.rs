//! One inbound connection: bytes in, actions out, in the session's own order.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::admission::Admission;
use posthaste_core::dispatch::Arrival;
use posthaste_core::mail::{Noted, Trace, received_field};
use posthaste_core::smtp::server::{self, Action, Session, Submission};
use posthaste_core::words::{
    Change, Committed, Domain, Enhanced, IdSequence, Labels, Message, MessageId, Moment, Reception,
    Record, RecordKind, Reply, Response, SessionId, ShardId,
};

use super::rejections::Client;
use super::{Backlog, Pending, Rejections};
use crate::observe::{MessageRefusal, Meters};
use crate::rt::{Bell, Ring, Roll, TcpStream, now, sleep};
use crate::spool::{Asker, Batch, Failed, Health, Spool};

/// Octets read at once, into one buffer for all sessions of a shard.
pub const READ_OCTETS: usize = 64 << 10;
/// A client that takes no reply for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// A message of so many octets or less is never given up for want of memory.
const SMALL_OCTETS: usize = 256 << 10;
/// What a client still sends after our last word is read for so long, and so much of it: closing on
/// unread octets would reset the connection, and the word with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS_MAX: usize = 1 << 20;
/// Pause before a batch is offered again to a spool with all hands full.
const SUBMIT_PAUSE: Duration = Duration::from_millis(1);

/// Takes each message once it is durable.
pub type Stage = Box<dyn Fn(Arc<Message>)>;
/// Says whose a message is, and takes out of it what must not leave.
pub type Labeller = Box<dyn Fn(&Arrival<'_>, &mut Vec<u8>) -> Labels>;

/// What all sessions of one shard share.
pub struct Intake {
    pub shard: ShardId,
    pub hostname: Domain,
    pub nodeid: Box<str>,
    /// Told by Reception records.
    pub noted: Noted,
    pub admission: Arc<Admission>,
    pub spool: Spool,
    pub pending: Rc<Pending>,
    /// Every open session.
    pub roll: Rc<Roll>,
    pub ids: RefCell<IdSequence>,
    pub stage: Stage,
    pub labeller: Labeller,
    pub meters: Meters,
    pub rejections: Rejections,
    /// Octets of content that sessions may hold at once, beyond which none begins.
    pub receiving_octets_max: usize,
    pub receiving_octets: Cell<usize>,
    /// What all shards have queued.
    pub backlog: Arc<Backlog>,
    pub buffer: RefCell<Box<[u8]>>,
}

impl core::fmt::Debug for Intake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Intake")
            .field("shard", &self.shard)
            .field("sessions", &self.roll.len())
            .finish_non_exhaustive()
    }
}

/// A session and what of its client's bytes it has not taken yet.
struct Talk {
    session: Session,
    /// By which its connection came.
    listener: Arc<str>,
    /// In records.
    name: SessionId,
    left: Vec<u8>,
    /// Of the message under way; its `Received:` field names it before it is whole.
    id: Option<MessageId>,
    /// Counted in [`Intake::receiving_octets`].
    held_octets: usize,
}

/// What ended a wait.
enum Woken {
    Fed(Option<Action>),
    Rung,
    Gone,
}

impl Intake {
    /// Serves one connection to its end.
    pub async fn serve(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        listener: Arc<str>,
        config: Arc<server::Config>,
    ) {
        let enrolled = self.roll.enrol();
        self.meters.sessions_open.increment(1.0);
        let bell = enrolled.bell();
        let mut talk = Talk {
            session: Session::new(config, peer, now()),
            listener,
            name: self.ids.borrow_mut().next_session(now()),
            left: Vec::new(),
            id: None,
            held_octets: 0,
        };
        let mut action = self.hear_early(&stream, &mut talk);
        loop {
            action = match action {
                Some(Action::Send) => {
                    let output = talk.session.take_output();
                    if write(&mut stream, bell, &output).await.is_err() {
                        break;
                    }
                    self.feed_left(&mut talk)
                }
                Some(Action::Commit(submission)) => {
                    self.hold(&mut talk, submission.data.capacity());
                    let answer = self.commit(&mut talk, submission).await;
                    talk.session.handle_committed(answer, now());
                    self.feed_left(&mut talk)
                }
                Some(Action::Close) => {
                    linger(&mut stream, bell, &self.buffer).await;
                    break;
                }
                Some(other) => {
                    self.answer(&mut talk, &other);
                    self.feed_left(&mut talk)
                }
                None => match self.wait(&mut stream, bell, &mut talk).await {
                    Woken::Fed(action) => action,
                    Woken::Rung => heed(bell, &mut talk.session),
                    Woken::Gone => break,
                },
            };
        }
        talk.session.handle_closed(now());
        self.count(&mut talk);
        self.meters.sessions_open.decrement(1.0);
        stream.finish();
    }

    /// RFC 5321 §4.3.1: what has come before our greeting was not said to us.
    fn hear_early(&self, stream: &TcpStream, talk: &mut Talk) -> Option<Action> {
        let mut buffer = self.buffer.borrow_mut();
        match stream.read_now(&mut buffer) {
            Ok(octets @ 1..) => self.take(talk, &buffer[..octets]),
            Ok(_) | Err(_) => talk.session.poll_action(),
        }
    }

    async fn wait(&self, stream: &mut TcpStream, bell: &Bell, talk: &mut Talk) -> Woken {
        bell.set_deadline(talk.session.poll_timeout());
        poll_fn(|cx| {
            if bell.poll_rung(cx).is_ready() {
                return Poll::Ready(Woken::Rung);
            }
            self.poll_bytes(cx, stream, talk)
        })
        .await
    }

    /// Reads into the shard's buffer and hands it on before anybody else may use it.
    fn poll_bytes(
        &self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        talk: &mut Talk,
    ) -> Poll<Woken> {
        let mut buffer = self.buffer.borrow_mut();
        let octets = match stream.poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::Gone),
            Poll::Ready(Ok(octets)) => octets,
        };
        Poll::Ready(Woken::Fed(self.take(talk, &buffer[..octets])))
    }

    fn take(&self, talk: &mut Talk, bytes: &[u8]) -> Option<Action> {
        if !talk.left.is_empty() {
            talk.left.extend_from_slice(bytes);
            return self.feed_left(talk);
        }
        let (used, action) = self.feed(talk, bytes);
        talk.left.extend_from_slice(&bytes[used..]);
        action
    }

    fn feed_left(&self, talk: &mut Talk) -> Option<Action> {
        let mut left = core::mem::take(&mut talk.left);
        let (used, action) = self.feed(talk, &left);
        left.drain(..used);
        // An idle session holds no buffer.
        if !left.is_empty() {
            talk.left = left;
        }
        action
    }

    /// Feeds until all is taken or an action needs the connection or the spool.
    fn feed(&self, talk: &mut Talk, bytes: &[u8]) -> (usize, Option<Action>) {
        let at = now();
        let mut used = 0;
        loop {
            if used < bytes.len() {
                used += talk.session.handle_bytes(&bytes[used..], at);
            }
            match talk.session.poll_action() {
                Some(asked @ (Action::Admit { .. } | Action::Open { .. })) => {
                    self.answer(talk, &asked);
                }
                action => {
                    self.count(talk);
                    // Giving up a message is an action too.
                    return (used, action.or_else(|| talk.session.poll_action()));
                }
            }
        }
    }

    /// Answers what needs no waiting.
    fn answer(&self, talk: &mut Talk, asked: &Action) {
        let at = now();
        match asked {
            Action::Admit { recipient, .. } => {
                let verdict = self.admission.judge(talk.session.peer().ip(), recipient);
                if verdict.is_err() {
                    self.meters.message_refused(MessageRefusal::Relay);
                }
                talk.session.handle_admitted(verdict, at);
            }
            Action::Open {
                esmtp, smtputf8, ..
            } => {
                let prefix = self.begin(talk, protocol(*esmtp, *smtputf8), at);
                talk.session.handle_opened(prefix, at);
            }
            Action::Send | Action::Commit(_) | Action::Close => {}
        }
    }

    /// The field the message begins with, if there is room for a message.
    fn begin(&self, talk: &mut Talk, protocol: &'static str, at: Moment) -> Result<Vec<u8>, Reply> {
        let has_room =
            self.receiving_octets.get() < self.receiving_octets_max && !self.backlog.is_full();
        match self.spool.health() {
            Health::Good if has_room => {}
            Health::Good => {
                self.meters.message_refused(MessageRefusal::Memory);
                let text = "Too much mail at once, try again later";
                return Err(Reply::new(452, Some(Enhanced::new(4, 3, 1)), text));
            }
            Health::Full => return Err(self.refuse(Failed::Full)),
            Health::Poisoned => return Err(self.refuse(Failed::Poisoned)),
        }
        let id = self.ids.borrow_mut().next(at);
        talk.id = Some(id);
        let recipient = match talk.session.envelope().map(|e| e.recipients.as_slice()) {
            Some([one]) => Some(&one.address),
            Some(_) | None => None,
        };
        Ok(received_field(&Trace {
            helo: talk.session.helo(),
            peer: talk.session.peer(),
            hostname: &self.hostname,
            protocol,
            id,
            recipient,
            at,
        }))
    }

    /// Makes the message durable, then queues it. Only then may the client hear 250.
    async fn commit(
        &self,
        talk: &mut Talk,
        submission: Submission,
    ) -> Result<(MessageId, Committed), Reply> {
        let at = now();
        let id = talk.id.take().expect("content comes after its opening");
        let message = Arc::new(self.message(talk, id, submission, at));
        let mut changes = vec![Change::Store(Arc::clone(&message))];
        changes.extend(self.records(&message, talk.name).map(Change::Append));
        let place = self.pending.reserve();
        let mut batch = Batch {
            shard: self.shard,
            token: Some(Asker::Session(place).token()),
            changes,
        };
        while let Err(back) = self.spool.submit(batch) {
            batch = back;
            sleep(SUBMIT_PAUSE).await;
        }
        let result = self.pending.answer(place).await;
        let waited = now().since(at);
        self.meters
            .spool
            .commit_seconds
            .record(waited.as_secs_f64());
        match result {
            Ok(committed) => {
                self.meters.messages_accepted.increment(1);
                self.meters.octets_accepted.increment(message.size() as u64);
                (self.stage)(message);
                Ok((id, committed))
            }
            Err(failed) => {
                let reply = self.refuse(failed);
                self.tell_uncommitted(talk, &message, &reply);
                Err(reply)
            }
        }
    }

    fn refuse(&self, failed: Failed) -> Reply {
        let (reason, code, enhanced, text) = match failed {
            Failed::Full => (
                MessageRefusal::Full,
                452,
                Enhanced::new(4, 3, 1),
                "Insufficient system storage",
            ),
            Failed::Poisoned => (
                MessageRefusal::Spool,
                451,
                Enhanced::new(4, 3, 0),
                "Local storage failed, try again later",
            ),
        };
        self.meters.message_refused(reason);
        Reply::new(code, Some(enhanced), text)
    }

    fn message(&self, talk: &Talk, id: MessageId, submission: Submission, at: Moment) -> Message {
        let session = &talk.session;
        let mut data = submission.data;
        let arrival = Arrival {
            listener: &talk.listener,
            client: session.peer().ip(),
            sender: submission.envelope.sender.as_ref(),
        };
        let labels = (self.labeller)(&arrival, &mut data);
        // What grew by doubling may be half empty, and stays as long as the message is queued.
        if data.capacity() - data.len() > data.len() / 4 {
            data.shrink_to_fit();
        }
        Message {
            id,
            reception: Reception {
                at,
                peer: Some(session.peer()),
                helo: session.helo().as_ref().into(),
                protocol: protocol(session.is_esmtp(), submission.envelope.smtputf8),
            },
            envelope: submission.envelope,
            content: submission.content,
            labels,
            data: Bytes::from(data),
        }
    }

    /// One Reception per recipient, as deliveries are told.
    fn records<'a>(
        &'a self,
        message: &'a Message,
        session: SessionId,
    ) -> impl Iterator<Item = Box<[u8]>> + 'a {
        let envelope = &message.envelope;
        let sender = envelope.sender.as_ref().map_or("", |s| s.as_str());
        let headers = self.noted.of(&message.data);
        envelope.recipients.iter().map(move |recipient| {
            let queue = message.labels.queue(recipient.address.domain_str());
            Record {
                kind: RecordKind::Reception,
                id: Some(message.id),
                sender,
                recipient: recipient.address.as_str(),
                queue,
                site: "",
                size: message.size(),
                response: Response {
                    code: 250,
                    enhanced_code: None,
                    content: String::new(),
                    command: None,
                },
                peer_address: message.reception.peer.map(|peer| {
                    posthaste_core::words::PeerAddress {
                        name: &message.reception.helo,
                        addr: peer.ip(),
                    }
                }),
                timestamp: message.reception.at.as_secs(),
                created: message.reception.at.as_secs(),
                num_attempts: 0,
                egress_source: None,
                egress_pool: message.labels.pool(),
                source_address: None,
                delivery_protocol: None,
                reception_protocol: message.reception.protocol,
                nodeid: &self.nodeid,
                session_id: Some(session),
                provider_name: None,
                headers: headers.clone(),
                labels: message.labels.clone(),
            }
            .to_json()
        })
    }

    /// Keeps the account of what the session holds and refuses. Where all hold far too much, one
    /// that is growing is given up.
    fn count(&self, talk: &mut Talk) {
        let held = talk.session.held_octets();
        let is_growing = held > talk.held_octets;
        self.hold(talk, held);
        let over = self.receiving_octets.get() / 2 > self.receiving_octets_max;
        if over && is_growing && held > SMALL_OCTETS {
            self.meters.message_refused(MessageRefusal::Memory);
            talk.session.handle_no_room(now());
            self.hold(talk, 0);
        }
        let refused = talk.session.take_refusals();
        self.meters
            .messages_refused(MessageRefusal::Limit, refused.limit);
        self.meters
            .messages_refused(MessageRefusal::Content, refused.content);
        self.meters
            .messages_refused(MessageRefusal::Unfinished, refused.unfinished);
        let rejections = talk.session.take_rejections();
        if !rejections.kept.is_empty() {
            self.tell(talk, &rejections);
        }
    }

    fn tell(&self, talk: &Talk, rejections: &server::Rejections) {
        let session = &talk.session;
        let client = Client {
            peer: session.peer(),
            helo: session.helo(),
            protocol: protocol(session.is_esmtp(), false),
            nodeid: &self.nodeid,
            session: talk.name,
        };
        self.rejections.tell(rejections, &client, now());
    }

    /// A message that was whole and that the spool could not take.
    fn tell_uncommitted(&self, talk: &Talk, message: &Message, reply: &Reply) {
        let rejection = server::Rejection {
            command: "DATA",
            sender: message.envelope.sender.clone(),
            recipient: None,
            reply: reply.clone(),
        };
        let kept = vec![rejection];
        self.tell(talk, &server::Rejections { kept, lost: 0 });
    }

    fn hold(&self, talk: &mut Talk, octets: usize) {
        let others = self.receiving_octets.get() - talk.held_octets;
        self.receiving_octets.set(others + octets);
        talk.held_octets = octets;
    }
}

/// RFC 3848, RFC 6531 §4.3.
const fn protocol(esmtp: bool, smtputf8: bool) -> &'static str {
    match (esmtp, smtputf8) {
        (_, true) => "UTF8SMTP",
        (true, false) => "ESMTP",
        (false, false) => "SMTP",
    }
}

fn heed(bell: &Bell, session: &mut Session) -> Option<Action> {
    if bell.take(Ring::End) {
        session.handle_shutdown(now());
    }
    if bell.take(Ring::Cut) {
        session.handle_cut(now());
    }
    if bell.take(Ring::Deadline) {
        session.handle_timeout(now());
    }
    bell.take(Ring::Work);
    session.poll_action()
}

async fn write(stream: &mut TcpStream, bell: &Bell, mut bytes: &[u8]) -> io::Result<()> {
    // A deadline of the wait before is none of this write.
    bell.take(Ring::Deadline);
    bell.set_deadline(Some(now() + WRITE_PATIENCE));
    while !bytes.is_empty() {
        let written = stream.write_some(&[IoSlice::new(bytes)], bell).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

async fn linger(stream: &mut TcpStream, bell: &Bell, buffer: &RefCell<Box<[u8]>>) {
    stream.finish();
    bell.take(Ring::Deadline);
    bell.set_deadline(Some(now() + LINGER));
    let mut octets = 0;
    while octets < LINGER_OCTETS_MAX {
        let read = poll_fn(|cx| {
            if bell.poll(Ring::Deadline, cx).is_ready() {
                return Poll::Ready(0);
            }
            let read = stream.poll_read(cx, &mut buffer.borrow_mut());
            read.map(|read| read.unwrap_or(0))
        })
        .await;
        if read == 0 {
            return;
        }
        octets += read;
    }
}
