//! A shard from its first task to its last.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use posthaste_core::dispatch::Dispatch;
use posthaste_core::words::IdSequence;

use super::pump::{Driven, Pump};
use super::{DiskNote, Parts};
use crate::delivery::{Brain, Delivery};
use crate::dns::{Resolver, find_sites};
use crate::intake::{Door, Doorway, Intake, Pending, READ_OCTETS, Rejections};
use crate::mesh::{Answer, Ask, Note, Question};
use crate::report::Desk;
use crate::rt::{Inbox, Ring, Roll, now, sleep, spawn};
use crate::spool::{Asker, Loaded};

/// How long sessions that are in the midst of a message may take to end it.
const SESSIONS_GRACE: Duration = Duration::from_secs(25);
/// How long the spool's word on what sessions have given it may take. A client waits so long for the
/// reply to its final dot (RFC 5321 §4.5.3.2.6); nobody is there to hear it later.
const COMMITS_GRACE: Duration = Duration::from_secs(600);
/// How long a reply may take to arrive.
const REPLIES_GRACE: Duration = Duration::from_secs(5);
/// How long transactions under way may take to come to their final dot.
const DELIVERIES_GRACE: Duration = Duration::from_secs(25);
/// How long peers may take to answer a final dot: what RFC 5321 §4.5.3.2.6 lets them, and the body's way
/// there. Who is not heard gets the message twice.
const DOTS_GRACE: Duration = Duration::from_secs(660);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The shard's wiring, for its notes and its end.
struct Shard {
    brain: Rc<Brain>,
    pump: Rc<Pump>,
    intake: Rc<Intake>,
    pending: Rc<Pending>,
    /// One bell, rung for the end.
    ending: Rc<Roll>,
    closing: Rc<Cell<bool>>,
    doorways: RefCell<Vec<Doorway>>,
    opened: Cell<Option<Sender<()>>>,
}

/// Runs until it is told to shut down and all is finished. Gives the number of clients that were not
/// told what became of their message, because the spool did not say.
///
/// # Errors
/// When a listener cannot be opened.
pub async fn run(parts: Parts) -> io::Result<usize> {
    let rolls = Rc::new(Roll::default());
    let inbox = parts.inbox;
    let brain = Rc::new(Brain::new(
        Dispatch::new(
            Arc::new(parts.dispatch.clone()),
            parts.shapes,
            IdSequence::new(parts.shard, parts.seeds[0]),
            parts.seeds[0],
            Box::new(Desk {
                hostname: parts.hostname.clone(),
                max_age: parts.dispatch.schedule.max_age,
            }),
        ),
        rolls.enrol(),
    ));
    for news in &parts.memory.news {
        brain.with(|brain| brain.handle_news(news, now()));
    }
    let delivery = Rc::new(Delivery::new(Rc::clone(&brain), parts.sources));
    let driven = Driven {
        spool: parts.spool.clone(),
        mesh: parts.mesh,
        dns: Rc::new(Resolver::new(parts.dns, parts.policy)),
        delivery,
        keeper: parts.keeper,
        firings: parts.firings,
        backlog: Arc::clone(&parts.backlog),
    };
    let pump = Rc::new(Pump::new(parts.shard, Rc::clone(&brain), driven));
    let pending = Rc::new(Pending::default());
    let stage = Rc::clone(&brain);
    let labels = Rc::clone(&brain);
    let intake = Rc::new(Intake {
        shard: parts.shard,
        hostname: parts.hostname,
        nodeid: parts.nodeid,
        noted: parts.dispatch.noted.clone(),
        admission: parts.admission,
        spool: parts.spool,
        pending: Rc::clone(&pending),
        roll: Rc::default(),
        ids: RefCell::new(IdSequence::new(parts.shard, parts.seeds[1])),
        stage: Box::new(move |message| stage.tell(|brain| brain.handle_committed(message, now()))),
        labeller: Box::new(move |arrival, data| {
            let shapes = labels.with(|brain| brain.shapes());
            shapes.label(arrival, data)
        }),
        rejections: Rejections::new(parts.aside, parts.meters.rejections_unlogged.clone()),
        meters: parts.meters,
        receiving_octets_max: parts.receiving_octets_max,
        receiving_octets: Cell::new(0),
        backlog: parts.backlog,
        buffer: RefCell::new(vec![0; READ_OCTETS].into()),
    });
    let shard = Rc::new(Shard {
        brain,
        pump,
        intake,
        pending,
        ending: rolls,
        closing: Rc::default(),
        doorways: RefCell::new(parts.doorways),
        opened: Cell::new(Some(parts.opened)),
    });
    shard.live(inbox).await
}

impl Shard {
    async fn live(self: Rc<Self>, inbox: Inbox<Note<DiskNote>>) -> io::Result<usize> {
        let ticks: Vec<_> = [&self.ending, &self.intake.roll, &self.pump.roll]
            .map(|roll| {
                let roll = Rc::clone(roll);
                spawn(async move { roll.tick().await })
            })
            .into();
        let pump = Rc::clone(&self.pump);
        let pumping = spawn(async move { pump.run().await });
        let end = self.ending.enrol();
        let shard = Rc::clone(&self);
        let bell = Rc::clone(end.bell());
        let failed = Rc::new(Cell::new(None));
        let failing = Rc::clone(&failed);
        let reading = spawn(async move {
            loop {
                match inbox.take().await {
                    Note::Shutdown => bell.ring(Ring::End),
                    Note::Open => {
                        if let Err(error) = shard.open() {
                            failing.set(Some(error));
                            bell.ring(Ring::End);
                        }
                    }
                    note @ (Note::Disk(_)
                    | Note::Work(_)
                    | Note::Recovered(_)
                    | Note::Ask(_)
                    | Note::Freed(_)
                    | Note::News(_)
                    | Note::Shaping(_)) => {
                        shard.take(note);
                    }
                }
            }
        });
        end.bell().rung().await;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        // Notes are read to the end: sessions wait for the spool's word on what they have given it.
        let unanswered = self.shut_down().await;
        drop((reading, pumping, ticks));
        Ok(unanswered)
    }

    fn open(&self) -> io::Result<()> {
        for doorway in self.doorways.take() {
            let intake = Rc::clone(&self.intake);
            let door = Door::open(doorway, intake, Rc::clone(&self.closing))?;
            spawn(door.accept()).detach();
        }
        if let Some(opened) = self.opened.take() {
            // Whoever waited may have given up.
            let _ = opened.send(());
        }
        Ok(())
    }

    fn take(&self, note: Note<DiskNote>) {
        match note {
            Note::Disk(DiskNote::Committed { token, result }) => match Asker::of(token) {
                Asker::Session(place) => self.pending.complete(place, result),
                Asker::Report(token) => self
                    .brain
                    .tell(|brain| brain.handle_stored(token, result.is_ok(), now())),
                Asker::Outcomes(count) => self
                    .brain
                    .tell(|brain| brain.handle_settled(count as usize, now())),
            },
            Note::Disk(DiskNote::Loaded { id, loaded }) => self.brain.tell(|brain| match loaded {
                Loaded::Message(message) => brain.handle_loaded(id, Some(message), now()),
                Loaded::Recalled(message, last) => {
                    brain.handle_recalled(id, Some(message), &last, now());
                }
                Loaded::Unreadable => brain.handle_loaded(id, None, now()),
                Loaded::Gone => brain.handle_gone(id, now()),
            }),
            Note::Work(work) => self.brain.tell(|brain| brain.handle_forwarded(work, now())),
            Note::Recovered(found) => self.brain.tell(|brain| {
                for recovered in found {
                    brain.handle_recovered(recovered, now());
                }
            }),
            Note::Ask(ask) => self.answer(ask),
            Note::Freed(limit) => self.brain.tell(|brain| brain.handle_freed(limit, now())),
            Note::Shaping(shapes) => self.brain.tell(|brain| brain.handle_shaping(shapes, now())),
            Note::News(news) => self.brain.tell(|brain| brain.handle_news(&news, now())),
            Note::Open | Note::Shutdown => {}
        }
    }

    fn answer(&self, ask: Ask) {
        let at = now();
        let answer = match ask.question {
            Question::Domains { limit, whose } => {
                Answer::Domains(self.brain.with(|brain| brain.list(limit, &whose, at)))
            }
            Question::Lanes { limit } => {
                Answer::Lanes(self.brain.with(|brain| brain.lanes(limit, at)))
            }
            Question::Message(id) => Answer::Message(self.brain.with(|brain| brain.find(id))),
            Question::Flush(domain) => {
                self.brain
                    .tell(|brain| brain.handle_flush(domain.as_ref(), at));
                Answer::Flushed
            }
            Question::Order { whose, order } => Answer::Tally(
                self.brain
                    .tell(|brain| brain.handle_order(&whose, &order, at)),
            ),
            Question::Counters => Answer::Counters(self.brain.with(|brain| brain.counters())),
            Question::Standings { site, provider } => Answer::Standings(
                self.brain
                    .with(|brain| brain.source_rows(&site, &provider, at)),
            ),
            Question::Complaint { source, provider } => {
                self.brain
                    .tell(|brain| brain.handle_complaint(source, &provider, at));
                Answer::Complained
            }
            // These take their time.
            Question::Sites(domains) => {
                let dns = Rc::clone(&self.pump.dns);
                let answering = async move {
                    (ask.reply)(Answer::Sites(find_sites(&dns, &domains).await));
                };
                return spawn(answering).detach();
            }
            Question::Route(domain) => {
                let dns = Rc::clone(&self.pump.dns);
                let answering = async move {
                    let (route, _) = dns.resolve(&domain, now()).await;
                    (ask.reply)(Answer::Route(route));
                };
                return spawn(answering).detach();
            }
        };
        (ask.reply)(answer);
    }

    /// No delivery begins from here on. Sessions end where RFC 5321 allows it; deliveries end what is in
    /// flight meanwhile, and have their time once sessions are over. Gives the number of messages of
    /// which the spool has said nothing.
    async fn shut_down(&self) -> usize {
        self.closing.set(true);
        self.brain.tell(|brain| brain.handle_shutdown(now()));
        self.intake.roll.ring_all(Ring::End);
        wait_until(SESSIONS_GRACE, || self.intake.roll.is_empty()).await;
        // Who is still in the midst of a message is cut off; who has sent its dot hears the reply.
        self.intake.roll.ring_all(Ring::Cut);
        wait_until(COMMITS_GRACE, || self.pending.is_empty()).await;
        let unanswered = self.pending.len();
        wait_until(REPLIES_GRACE, || self.intake.roll.is_empty()).await;
        let is_quiet = || self.pump.flush() && self.brain.with(|brain| brain.is_quiet());
        wait_until(DELIVERIES_GRACE, is_quiet).await;
        self.pump.roll.ring_all(Ring::Cut);
        wait_until(DOTS_GRACE, is_quiet).await;
        unanswered
    }
}

async fn wait_until(grace: Duration, is_done: impl Fn() -> bool) {
    let deadline = now() + grace;
    while !is_done() && now() < deadline {
        sleep(LOOK_AGAIN).await;
    }
}
