//! Carries out what the brain asks for.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use posthaste_core::dispatch::{Action, Dispatch, News, Work};
use posthaste_core::egress::SourceId;
use posthaste_core::shaping::Manner;
use posthaste_core::shaping::limit::{LimitId, Shards};
use posthaste_core::words::{Change, ConnectionId, Domain, MessageId, Plan, ShardId};

use super::DiskNote;
use crate::delivery::{Brain, Delivery, Keeper};
use crate::dns::Resolver;
use crate::intake::Backlog;
use crate::mesh::{Firings, Mesh, Note};
use crate::rt::{Alarm, Bell, Ring, Roll, give_way, now, sleep, spawn};
use crate::spool::{Asker, Batch, Spool};

/// Changes that wait for each other at most, to go as one batch.
const GATHERED_MAX: usize = 256;
/// Pause before a full spool or shard is asked again.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// What could not be handed on at once. The brain goes on meanwhile, so this is bounded by what it
/// has in flight.
enum Parcel {
    Batch(Batch),
    Load(MessageId),
    Recall(MessageId),
    Note(ShardId, Note<DiskNote>),
}

/// One per shard.
pub(super) struct Pump {
    pub shard: ShardId,
    pub brain: Rc<Brain>,
    pub spool: Spool,
    pub mesh: Mesh<DiskNote>,
    pub dns: Rc<Resolver>,
    pub delivery: Rc<Delivery>,
    pub keeper: Arc<Keeper>,
    pub firings: Arc<Firings>,
    /// Told what this shard has queued.
    pub queued: Arc<Backlog>,
    /// Every outbound connection.
    pub roll: Rc<Roll>,
    bells: Rc<RefCell<BTreeMap<ConnectionId, Rc<Bell>>>>,
    backlog: RefCell<VecDeque<Parcel>>,
}

/// Ports and flows of the shard that the pump drives.
pub(super) struct Driven {
    pub spool: Spool,
    pub mesh: Mesh<DiskNote>,
    pub dns: Rc<Resolver>,
    pub delivery: Rc<Delivery>,
    pub keeper: Arc<Keeper>,
    pub firings: Arc<Firings>,
    pub backlog: Arc<Backlog>,
}

impl Pump {
    pub(super) fn new(shard: ShardId, brain: Rc<Brain>, driven: Driven) -> Self {
        Self {
            shard,
            brain,
            spool: driven.spool,
            mesh: driven.mesh,
            dns: driven.dns,
            delivery: driven.delivery,
            keeper: driven.keeper,
            firings: driven.firings,
            queued: driven.backlog,
            roll: Rc::default(),
            bells: Rc::default(),
            backlog: RefCell::default(),
        }
    }

    /// Without end.
    pub(super) async fn run(&self) {
        let mut alarm = Alarm::default();
        loop {
            if !self.flush() {
                sleep(BACKLOG_PAUSE).await;
                continue;
            }
            let bell = self.brain.bell();
            let due = self.brain.with(|brain| brain.poll_timeout());
            alarm.rung(bell, due).await;
            bell.take(Ring::Work);
            if bell.take(Ring::Deadline) && self.do_what_is_due() {
                give_way().await;
            }
        }
    }

    /// Whether there is more of it.
    fn do_what_is_due(&self) -> bool {
        let at = now();
        self.brain.with(|brain| {
            brain.handle_timeout(at);
            brain.poll_timeout().is_some_and(|due| due <= at)
        })
    }

    /// Hands on all that was asked for; whether that could be done.
    pub(super) fn flush(&self) -> bool {
        self.drain();
        let queued = self.brain.with(|brain| brain.queue_length());
        self.queued.tell(self.shard, queued);
        self.deliver_backlog()
    }

    fn drain(&self) {
        let (mut gathered, mut outcomes) = (Vec::new(), 0);
        while let Some(action) = self.brain.with(Dispatch::poll_action) {
            match action {
                Action::Settle(mut changes) => {
                    gathered.append(&mut changes);
                    outcomes += 1;
                    if gathered.len() >= GATHERED_MAX {
                        self.settle(&mut gathered, &mut outcomes);
                    }
                }
                Action::Store { changes, token } => {
                    // Changes of one message keep their order.
                    self.settle(&mut gathered, &mut outcomes);
                    self.submit(changes, Asker::Report(token));
                }
                Action::Resolve(domain) => self.resolve(domain),
                Action::Connect {
                    connection,
                    plan,
                    order,
                    manner,
                    source,
                } => self.connect((connection, source), plan, order, manner),
                Action::Tell(news) => self.announce(&news),
                Action::Fire(firing) => self.firings.put(firing),
                Action::Freed { limit, shards } => self.spread(limit, shards),
                Action::Wake(connection) => self.ring(connection, Ring::Work),
                Action::Quit(connection) => self.ring(connection, Ring::End),
                Action::Load(id) => self.hand_on(Parcel::Load(id)),
                Action::Recall(id) => self.hand_on(Parcel::Recall(id)),
                Action::Forward { to, work } => self.forward(to, work),
            }
        }
        self.settle(&mut gathered, &mut outcomes);
    }

    fn settle(&self, gathered: &mut Vec<Change>, outcomes: &mut u32) {
        if *outcomes > 0 {
            let asker = Asker::Outcomes(core::mem::take(outcomes));
            self.submit(core::mem::take(gathered), asker);
        }
    }

    fn submit(&self, changes: Vec<Change>, asker: Asker) {
        self.hand_on(Parcel::Batch(Batch {
            shard: self.shard,
            token: Some(asker.token()),
            changes,
        }));
    }

    fn forward(&self, to: ShardId, work: Work) {
        self.hand_on(Parcel::Note(to, Note::Work(work)));
    }

    fn spread(&self, limit: LimitId, shards: Shards) {
        let all = u16::try_from(self.mesh.shards()).unwrap_or(u16::MAX);
        for shard in (0..all).map(ShardId) {
            if shard != self.shard && shards.contains(shard) {
                self.hand_on(Parcel::Note(shard, Note::Freed(limit)));
            }
        }
    }

    /// To all other shards, and to whoever keeps it.
    fn announce(&self, news: &Arc<News>) {
        self.keeper.hear(news, now());
        let all = u16::try_from(self.mesh.shards()).unwrap_or(u16::MAX);
        for shard in (0..all).map(ShardId).filter(|shard| *shard != self.shard) {
            self.hand_on(Parcel::Note(shard, Note::News(Arc::clone(news))));
        }
    }

    fn hand_on(&self, parcel: Parcel) {
        let mut backlog = self.backlog.borrow_mut();
        if !backlog.is_empty() {
            backlog.push_back(parcel);
        } else if let Err(back) = self.try_hand_on(parcel) {
            backlog.push_back(back);
        }
    }

    fn try_hand_on(&self, parcel: Parcel) -> Result<(), Parcel> {
        match parcel {
            Parcel::Batch(batch) => self.spool.submit(batch).map_err(Parcel::Batch),
            Parcel::Load(id) if self.spool.load(self.shard, id) => Ok(()),
            Parcel::Load(id) => Err(Parcel::Load(id)),
            Parcel::Recall(id) if self.spool.recall(self.shard, id) => Ok(()),
            Parcel::Recall(id) => Err(Parcel::Recall(id)),
            Parcel::Note(to, note) => {
                let sent = self.mesh.to(to).send(note);
                sent.map_err(|note| Parcel::Note(to, note))
            }
        }
    }

    /// Whether nothing is left.
    fn deliver_backlog(&self) -> bool {
        let mut backlog = self.backlog.borrow_mut();
        while let Some(parcel) = backlog.pop_front() {
            if let Err(back) = self.try_hand_on(parcel) {
                backlog.push_front(back);
                return false;
            }
        }
        true
    }

    fn resolve(&self, domain: Domain) {
        let (dns, brain) = (Rc::clone(&self.dns), Rc::clone(&self.brain));
        spawn(async move {
            let (route, until) = dns.resolve(&domain, now()).await;
            brain.tell(|brain| brain.handle_route(&domain, route, until, now()));
        })
        .detach();
    }

    fn connect(
        &self,
        (id, source): (ConnectionId, Option<SourceId>),
        plan: Arc<Plan>,
        order: Vec<usize>,
        manner: Arc<Manner>,
    ) {
        let enrolled = self.roll.enrol();
        let bells = Rc::clone(&self.bells);
        bells.borrow_mut().insert(id, Rc::clone(enrolled.bell()));
        let delivery = Rc::clone(&self.delivery);
        spawn(async move {
            let bell = enrolled.bell();
            let hosts = order.iter().map(|index| &plan.hosts[*index]);
            delivery.run((id, source), hosts, &manner, bell).await;
            bells.borrow_mut().remove(&id);
        })
        .detach();
    }

    fn ring(&self, connection: ConnectionId, why: Ring) {
        if let Some(bell) = self.bells.borrow().get(&connection) {
            bell.ring(why);
        }
    }
}
