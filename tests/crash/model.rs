//! The simulator's model of the spool, held to the real one: the same changes into both, by chance, and
//! after each power cut the same is recovered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use posthaste::spool::{self, Health, MemoryDisk, Next, Options};
use posthaste_core::words::{Change, Labels, Message, MessageId, RecipientState, Recovered};
use posthaste_sim::model::{self, From, Ledger, Rng};

use super::{Heard, PATIENCE, RECEIVED, Started, message, start_opened};

const SEEDS: u64 = 12;
const CUTS: usize = 6;
const STEPS: usize = 60;
/// So many octets are free, and so many have to be: any number does.
const FREE: Option<u64> = Some(2);
const FREE_MIN: u64 = 1;

/// By message and place in its envelope.
type Recipients = Vec<(MessageId, u16)>;

/// A batch that both have, and that the model has not answered.
struct Asked {
    token: u64,
    lines: Vec<Box<[u8]>>,
    recipients: Recipients,
}

/// Both spools, with the same in them.
struct Pair {
    disk: MemoryDisk,
    real: Started,
    model: model::Spool,
    ledger: Ledger,
    rng: Rng,
    /// In order.
    asked: VecDeque<Asked>,
    /// The real spool's answers to some of them: what it refuses it refuses at once, before what it commits.
    heard: BTreeMap<u64, bool>,
    /// All records that are durable, in order.
    lines: Vec<Box<[u8]>>,
    messages: BTreeMap<MessageId, Arc<Message>>,
    /// Recipients whose last change is not known to be durable.
    busy: BTreeSet<(MessageId, u16)>,
    ids: u128,
}

fn begin(disk: &MemoryDisk) -> Started {
    let mut options = Options::new("memory".as_ref(), 1);
    options.free_octets_min = FREE_MIN;
    disk.set_free_octets(FREE);
    start_opened(spool::open_in_memory(options, disk).expect("it opens"))
}

impl Pair {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::default();
        Self {
            real: begin(&disk),
            disk,
            model: model::Spool::default(),
            ledger: Ledger::default(),
            rng: Rng::new(seed),
            asked: VecDeque::new(),
            heard: BTreeMap::new(),
            lines: Vec::new(),
            messages: BTreeMap::new(),
            busy: BTreeSet::new(),
            ids: 0,
        }
    }

    fn submit(&mut self, from: From, changes: Vec<Change>, recipients: Recipients) {
        let lines = changes.iter().filter_map(|change| match change {
            Change::Append(line) => Some(line.clone()),
            Change::Store(_) | Change::Defer { .. } | Change::Settle { .. } => None,
        });
        let lines = lines.collect();
        self.busy.extend(&recipients);
        self.model.submit(from, changes.clone());
        let token = self.real.submit(changes);
        self.asked.push_back(Asked {
            token,
            lines,
            recipients,
        });
    }

    /// The model answers the first batch that waits for one, as the real spool does if it has answered;
    /// `false` if none waits.
    fn complete(&mut self) -> bool {
        let Some(asked) = self.asked.pop_front() else {
            return false;
        };
        let done = self.model.complete(&mut self.ledger);
        let (batch, is_durable) = done.expect("the model has what the real spool has");
        let said = self.heard.remove(&asked.token);
        assert!(
            said.is_none_or(|said| said == is_durable),
            "the model says {is_durable}"
        );
        if is_durable {
            self.lines.extend(asked.lines);
        }
        // What has failed for good is not asked again before the next start.
        if is_durable || matches!(batch.from, From::Report { .. }) {
            for recipient in &asked.recipients {
                self.busy.remove(recipient);
            }
        }
        true
    }

    /// The real spool has said this; the model says the same of all that has its answer.
    fn compare(&mut self, heard: Heard) {
        let Heard::Committed(token, result) = heard else {
            panic!("nothing was asked for");
        };
        self.heard.insert(token, result.is_ok());
        let is_answered = |pair: &Self| {
            let first = pair.asked.front();
            first.is_some_and(|asked| pair.heard.contains_key(&asked.token))
        };
        while is_answered(self) {
            self.complete();
        }
    }

    /// Until both have answered all.
    fn settle_down(&mut self) {
        while !self.asked.is_empty() {
            let heard = self.real.heard.recv_timeout(PATIENCE);
            self.compare(heard.expect("an answer"));
        }
    }

    fn new_message(&mut self) -> Change {
        self.ids += 1;
        let (recipients, octets) = (1 + self.rng.below(3), self.rng.below(3000));
        let mut message = Arc::unwrap_or_clone(message(self.ids, recipients, octets));
        message.reception.at = RECEIVED + self.rng.micros(0, 1_000_000_000);
        if self.rng.permille(300) {
            message.labels = Labels::new(Some("tenant"), None, Some("pool"));
        }
        let message = Arc::new(message);
        self.messages.insert(message.id, Arc::clone(&message));
        Change::Store(message)
    }

    /// Recipients that something may become of, all of one message, with their attempts so far.
    fn pick(&mut self) -> Option<(Recovered, Vec<(u16, u16)>)> {
        let free = |found: &Recovered| {
            let all = found.unsettled.iter();
            let free = all.filter(|r| !self.busy.contains(&(found.id, r.recipient)));
            free.map(|r| (r.recipient, r.attempts)).collect::<Vec<_>>()
        };
        let found = self.model.recover().into_iter();
        let mut found: Vec<_> = found
            .map(|found| (free(&found), found))
            .filter(|(free, _)| !free.is_empty())
            .collect();
        if found.is_empty() {
            return None;
        }
        let (mut free, of) = found.swap_remove(self.rng.below(found.len()));
        free.truncate(1 + self.rng.below(free.len()));
        Some((of, free))
    }

    /// What an attempt brings: each recipient's change with its record.
    fn outcome(&mut self) -> Option<(Vec<Change>, Recipients)> {
        let (found, tried) = self.pick()?;
        let envelope = self.messages[&found.id].envelope.clone();
        let mut changes = Vec::new();
        for (recipient, attempts) in &tried {
            let address = &envelope.recipients[usize::from(*recipient)].address;
            let attempts = attempts + 1;
            let (kind, change) = if self.rng.permille(600) {
                let state = RecipientState {
                    attempts,
                    due: RECEIVED + self.rng.micros(0, 9_000_000_000),
                    last: format!("451 later, {}", self.rng.below(1000)).into(),
                };
                let (id, recipient) = (found.id, *recipient);
                let defer = Change::Defer {
                    id,
                    recipient,
                    state,
                };
                ("TransientFailure", defer)
            } else {
                let settle = Change::Settle {
                    id: found.id,
                    recipient: *recipient,
                    of: found.of,
                    deferred_before: attempts > 1,
                };
                (self.rng.pick(&["Delivery", "Bounce"]), settle)
            };
            let line = format!(
                r#"{{"id":"{}","recipient":"{address}","type":"{kind}","num_attempts":{attempts}}}"#,
                found.id
            );
            changes.push(Change::Append(line.into_bytes().into()));
            changes.push(change);
        }
        let of = tried.iter().map(|(recipient, _)| (found.id, *recipient));
        Some((changes, of.collect()))
    }

    fn step(&mut self) {
        const SHARD: usize = 0;
        match self.rng.below(10) {
            0..=2 => {
                let stored = self.new_message();
                self.submit(From::Intake { shard: SHARD }, vec![stored], Vec::new());
            }
            3..=7 => {
                if let Some((changes, of)) = self.outcome() {
                    self.submit(From::Outcome { shard: SHARD }, changes, of);
                }
            }
            8 => {
                if let Some((mut changes, of)) = self.outcome() {
                    changes.push(self.new_message());
                    let (shard, token) = (SHARD, 0);
                    self.submit(From::Report { shard, token }, changes, of);
                }
            }
            _ => self.settle_down(),
        }
    }

    /// For a while there is too little space for messages.
    fn be_full(&mut self) {
        for (free, health) in [(Some(0), Health::Full), (FREE, Health::Good)] {
            self.settle_down();
            self.disk.set_free_octets(free);
            self.real.wait_for(health);
            self.model.is_full = health == Health::Full;
            (0..STEPS / 4).for_each(|_| self.step());
        }
    }

    /// Nothing is durable from here on.
    fn fail(&mut self) {
        self.settle_down();
        self.disk.fail_sync();
        self.model.poison();
        (0..STEPS / 4).for_each(|_| self.step());
    }

    /// In the midst of what was asked last; then a start on what is left.
    fn cut_the_power(&mut self) {
        while let Ok(heard) = self.real.heard.try_recv() {
            self.compare(heard);
        }
        // Of what is not answered, some may be durable: the first ones.
        let disk = self.disk.after_power_cut();
        let begun = begin(&disk);
        let before = core::mem::replace(&mut self.real, begun);
        before.stop();
        self.disk = disk;
        let lines = self.records();
        let found: Vec<Recovered> = self.real.found.values().cloned().collect();
        while self.lines != lines || self.model.recover() != found {
            assert!(self.complete(), "{found:#?}\n{:#?}", self.model);
        }
        assert!(
            !self.heard.values().any(|said| *said),
            "what was durable is there"
        );
        self.heard.clear();
        self.model.crash(&mut self.ledger);
        self.model.begin_anew();
        self.model.is_full = false;
        self.asked.clear();
        self.busy.clear();
        assert_eq!(self.model.records, lines.len() as u64);
        for recovered in found {
            let loaded = self.real.load(recovered.id.as_u128());
            assert_eq!(loaded.as_ref(), self.messages.get(&recovered.id));
        }
    }

    /// What the real spool gives its log, from the first on.
    fn records(&mut self) -> Vec<Box<[u8]>> {
        let mut lines = Vec::new();
        while (lines.len() as u64) < self.real.events.found() {
            match self.real.events.next(PATIENCE) {
                Next::Events(events) => lines.extend(events.into_iter().map(|event| event.line)),
                Next::Nothing | Next::Over => panic!("records are missing"),
            }
        }
        lines
    }
}

#[test]
fn the_simulators_spool_keeps_and_loses_what_the_real_one_does() {
    let mut recovered = 0;
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        for cut in 0..CUTS {
            (0..STEPS).for_each(|_| pair.step());
            match cut {
                1 => pair.be_full(),
                3 => pair.fail(),
                _ => {}
            }
            pair.cut_the_power();
            recovered += pair.real.found.len();
        }
        pair.real.stop();
    }
    assert!(recovered > 300, "{recovered} are no test");
}
