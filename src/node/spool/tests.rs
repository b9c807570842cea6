//! Promises of the spool, on a disk in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, Sender};
use posthaste_core::words::{
    Address, BodyKind, Change, Committed, Content, Domain, Envelope, Labels, Message, MessageId,
    Moment, Notify, Reception, Recipient, RecipientState, Recovered, ShardId,
};

use super::*;

#[path = "group_tests.rs"]
mod groups;

const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than a full disk is left alone.
const A_WHILE: Duration = Duration::from_millis(300);
const RECEIVED: Moment = Moment::from_secs(1_800_000_000);
const SHARD: ShardId = ShardId(1);

#[derive(Debug)]
enum Heard {
    Committed(u64, Result<(), Failed>),
    Loaded(MessageId, Option<Arc<Message>>),
    Recalled(Arc<Message>, Vec<(u16, Box<str>)>),
    Flush,
}

struct Ear(Sender<Heard>);

impl Completion for Ear {
    fn committed(&self, token: u64, result: Result<Committed, Failed>) {
        let _ = self.0.send(Heard::Committed(token, result.map(|_| ())));
    }

    fn loaded(&self, id: MessageId, loaded: Loaded) {
        let _ = self.0.send(match loaded {
            Loaded::Message(message) => Heard::Loaded(id, Some(message)),
            Loaded::Recalled(message, last) => Heard::Recalled(message, last),
            Loaded::Gone | Loaded::Unreadable => Heard::Loaded(id, None),
        });
    }

    fn flush(&self) {
        let _ = self.0.send(Heard::Flush);
    }
}

/// A running spool and what its shard hears.
struct Bench {
    spool: Spool,
    running: Running,
    events: Events,
    heard: Receiver<Heard>,
    token: u64,
}

fn options() -> Options {
    let mut options = Options::new(Path::new("memory"), 2);
    options.batches_max = 64;
    options
}

fn opened(disk: &MemoryDisk) -> Opened {
    open_in_memory(options(), disk).unwrap()
}

fn start(mut opened: Opened) -> (Bench, Vec<Recovered>) {
    let mut found = Vec::new();
    opened
        .recover(&mut |recovered| found.push(recovered))
        .unwrap();
    let (sender, heard) = channel::unbounded();
    let spool = opened.spool();
    let ear: Arc<dyn Completion> = Arc::new(Ear(sender));
    let (deaf, _) = channel::unbounded();
    let (running, events) = opened.start(vec![Arc::new(Ear(deaf)), ear]);
    let bench = Bench {
        spool,
        running,
        events,
        heard,
        token: 0,
    };
    (bench, found)
}

fn begin(disk: &MemoryDisk) -> Bench {
    start(opened(disk)).0
}

fn recovered(disk: &MemoryDisk) -> Vec<Recovered> {
    let (bench, found) = start(opened(disk));
    bench.stop();
    found
}

impl Bench {
    fn submit(&mut self, changes: Vec<Change>) -> u64 {
        self.token += 1;
        let token = Some(self.token);
        let batch = Batch {
            shard: SHARD,
            token,
            changes,
        };
        self.spool.submit(batch).unwrap();
        self.token
    }

    fn answer(&self) -> (u64, Result<(), Failed>) {
        loop {
            match self.heard.recv_timeout(PATIENCE).unwrap() {
                Heard::Committed(token, result) => return (token, result),
                Heard::Loaded(..) | Heard::Recalled(..) | Heard::Flush => {}
            }
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), Failed> {
        let token = self.submit(changes);
        let (answered, result) = self.answer();
        assert_eq!(answered, token);
        result
    }

    fn load(&self, id: MessageId) -> Option<Arc<Message>> {
        assert!(self.spool.load(SHARD, id));
        loop {
            match self.heard.recv_timeout(PATIENCE).unwrap() {
                Heard::Loaded(loaded, message) => {
                    assert_eq!(loaded, id);
                    return message;
                }
                Heard::Committed(..) | Heard::Recalled(..) | Heard::Flush => {}
            }
        }
    }

    fn wait_for(&self, health: Health) {
        let deadline = Instant::now() + PATIENCE;
        while self.spool.health() != health {
            assert!(Instant::now() < deadline, "{health:?} in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read_events(&mut self, until: u64) -> Vec<Event> {
        let mut all = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while all.last().map_or(0, |event: &Event| event.sequence) < until {
            assert!(Instant::now() < deadline, "events in time");
            if let Next::Events(events) = self.events.next(Duration::from_millis(50)) {
                all.extend(events);
            }
        }
        all
    }

    /// Stops and reads the rest of the events.
    fn stop(mut self) -> Vec<Event> {
        self.running.stop();
        let mut all = Vec::new();
        loop {
            match self.events.next(PATIENCE) {
                Next::Events(events) => all.extend(events),
                Next::Nothing => {}
                Next::Over => return all,
            }
        }
    }
}

fn message(id: u128, recipients: usize) -> Arc<Message> {
    let recipient = |n: usize| Recipient {
        address: Address::parse(&format!("r{n}@d{n}.example")).unwrap(),
        notify: Notify::default(),
        orcpt: None,
    };
    Arc::new(Message {
        id: MessageId::from_u128(id),
        envelope: Envelope {
            sender: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: (0..recipients).map(recipient).collect(),
        },
        reception: Reception {
            at: RECEIVED,
            peer: None,
            helo: "client.example".into(),
            protocol: "ESMTP",
        },
        content: Content::default(),
        labels: Labels::default(),
        data: Bytes::from(format!("Subject: {id}\r\n\r\nhello\r\n")),
    })
}

fn stored(id: u128, recipients: usize) -> Change {
    Change::Store(message(id, recipients))
}

fn settled(id: u128, recipient: u16, of: u16) -> Change {
    Change::Settle {
        id: MessageId::from_u128(id),
        recipient,
        of,
        deferred_before: false,
    }
}

fn deferred(id: u128, recipient: u16, attempts: u16) -> Change {
    Change::Defer {
        id: MessageId::from_u128(id),
        recipient,
        state: RecipientState {
            attempts,
            due: RECEIVED + Duration::from_secs(u64::from(attempts) * 300),
            last: "451 later".into(),
        },
    }
}

fn line(text: &str) -> Change {
    Change::Append(text.as_bytes().into())
}

fn lines(events: &[Event]) -> Vec<&str> {
    let text = |event| core::str::from_utf8(event).unwrap();
    events.iter().map(|event| text(&event.line)).collect()
}

fn assert_empty(disk: &MemoryDisk) {
    for table in ["bodies", "envelopes", "states"] {
        assert_eq!(disk.rows(table), [], "{table}");
    }
}

#[test]
fn no_committed_before_the_sync() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    for id in 0..20 {
        assert_eq!(bench.commit(vec![stored(id, 1), line("r")]), Ok(()));
        let found = recovered(&disk.after_power_cut());
        assert_eq!(found.len(), usize::try_from(id).unwrap() + 1);
    }
    bench.stop();
}

#[test]
fn relaxed_is_faster_and_says_what_it_costs() {
    let disk = MemoryDisk::default();
    let mut options = options();
    options.durability = Durability::Relaxed;
    let (mut bench, _) = start(open_in_memory(options, &disk).unwrap());
    let before = disk.syncs();
    assert_eq!(bench.commit(vec![stored(1, 1)]), Ok(()));
    assert_eq!(disk.syncs(), before);
    assert_eq!(recovered(&disk.after_power_cut()), []);
    bench.stop();
    assert_eq!(recovered(&disk.after_power_cut()).len(), 1, "a stop syncs");
}

#[test]
fn a_batch_happens_as_a_whole_and_in_groups() {
    let disk = MemoryDisk::default();
    let mut options = options();
    options.batches_max = 1000;
    let opened = open_in_memory(options, &disk).unwrap();
    let spool = opened.spool();
    for token in 0..500u64 {
        let batch = Batch {
            shard: SHARD,
            token: Some(token),
            changes: vec![stored(token.into(), 1)],
        };
        spool.submit(batch).unwrap();
    }
    let before = disk.syncs();
    let (bench, _) = start(opened);
    let mut flushes = 0;
    for token in 0..500 {
        match bench.heard.recv_timeout(PATIENCE).unwrap() {
            Heard::Committed(answered, result) => assert_eq!((answered, result), (token, Ok(()))),
            Heard::Flush => {
                flushes += 1;
                let next = bench.heard.recv_timeout(PATIENCE).unwrap();
                assert!(matches!(next, Heard::Committed(answered, Ok(())) if answered == token));
            }
            Heard::Loaded(..) | Heard::Recalled(..) => panic!("nobody asked"),
        }
    }
    assert_eq!(flushes + 1, 4, "128 messages at most in each of four");
    assert_eq!(disk.syncs() - before, 4);
    bench.stop();
}

#[test]
fn a_full_queue_gives_the_batch_back() {
    let disk = MemoryDisk::default();
    let opened = opened(&disk);
    let spool = opened.spool();
    let batch = |token| Batch {
        shard: SHARD,
        token: Some(token),
        changes: vec![stored(u128::from(token), 1)],
    };
    for token in 0..64 {
        spool.submit(batch(token)).unwrap();
    }
    assert_eq!(spool.submit(batch(64)).unwrap_err().token, Some(64));
    let (bench, _) = start(opened);
    for token in 0..64 {
        assert_eq!(bench.answer(), (token, Ok(())));
    }
    bench.stop();
    assert!(spool.submit(batch(65)).is_err(), "it has stopped");
    assert!(!spool.load(SHARD, MessageId::from_u128(0)));
}

#[test]
fn a_stop_commits_what_is_queued() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    for id in 0..60 {
        bench.submit(vec![stored(id, 1), line("x")]);
    }
    let events = bench.stop();
    assert_eq!(events.len(), 60);
    assert_eq!(recovered(&disk.after_power_cut()).len(), 60);
}

#[test]
fn messages_load_as_they_were_stored() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 3)]).unwrap();
    assert_eq!(bench.load(MessageId::from_u128(1)), Some(message(1, 3)));
    assert_eq!(bench.load(MessageId::from_u128(2)), None);
    bench.commit(vec![stored(2, 1)]).unwrap();
    bench.commit(vec![settled(2, 0, 1)]).unwrap();
    assert_eq!(bench.load(MessageId::from_u128(2)), None);
    disk.put("envelopes", &3u128.to_be_bytes(), b"\x01torn");
    assert_eq!(bench.load(MessageId::from_u128(3)), None);
    bench.stop();
}

#[test]
fn a_recall_brings_the_last_outcomes_of_who_was_deferred() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench
        .commit(vec![stored(1, 4), stored(2, 1), deferred(2, 0, 1)])
        .unwrap();
    bench.commit(vec![deferred(1, 1, 1)]).unwrap();
    bench
        .commit(vec![settled(1, 2, 4), deferred(1, 3, 2)])
        .unwrap();
    assert!(bench.spool.recall(SHARD, MessageId::from_u128(1)));
    let recalled = bench.heard.iter().find_map(|heard| match heard {
        Heard::Recalled(message, last) => Some((message, last)),
        Heard::Committed(..) | Heard::Loaded(..) | Heard::Flush => None,
    });
    let later = |recipient| (recipient, "451 later".into());
    assert_eq!(recalled, Some((message(1, 4), vec![later(1), later(3)])));
    bench.stop();
}

#[test]
fn the_last_settle_takes_the_message_away() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1), stored(2, 3)]).unwrap();
    bench.commit(vec![settled(1, 0, 1)]).unwrap();
    bench.commit(vec![settled(2, 2, 3)]).unwrap();
    bench.commit(vec![settled(2, 0, 3)]).unwrap();
    assert_eq!(disk.rows("states").len(), 2);
    assert_eq!(disk.rows("bodies").len(), 1);
    bench.commit(vec![settled(2, 1, 3)]).unwrap();
    assert_empty(&disk);
    bench.stop();
}

#[test]
fn deferred_recipients_leave_no_state_behind() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1), stored(2, 2)]).unwrap();
    let deferrals = vec![deferred(1, 0, 1), deferred(2, 0, 1), deferred(2, 1, 1)];
    bench.commit(deferrals).unwrap();
    let last = |id, of| Change::Settle {
        id: MessageId::from_u128(id),
        recipient: 0,
        of,
        deferred_before: true,
    };
    bench.commit(vec![last(1, 1), settled(2, 1, 2)]).unwrap();
    bench.commit(vec![last(2, 2)]).unwrap();
    assert_empty(&disk);
    bench.stop();
}

#[test]
fn a_recipient_settles_once() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 2)]).unwrap();
    for _ in 0..3 {
        bench.commit(vec![settled(1, 0, 2)]).unwrap();
        bench.commit(vec![deferred(1, 0, 9)]).unwrap();
    }
    bench.stop();
    let (mut bench, found) = start(opened(&disk));
    assert_eq!(found[0].unsettled.len(), 1);
    assert_eq!(found[0].unsettled[0].recipient, 1);
    bench
        .commit(vec![settled(1, 0, 2), settled(1, 0, 2)])
        .unwrap();
    assert_eq!(disk.rows("bodies").len(), 1);
    bench.commit(vec![settled(1, 1, 2)]).unwrap();
    bench
        .commit(vec![settled(1, 1, 2), deferred(1, 1, 1)])
        .unwrap();
    assert_eq!(disk.rows("bodies"), []);
    bench.stop();
}

#[test]
fn recovery_tells_what_is_left() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1), stored(2, 3)]).unwrap();
    bench
        .commit(vec![deferred(2, 2, 4), settled(2, 0, 3)])
        .unwrap();
    bench.stop();
    let found = recovered(&disk);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].unsettled[0].due, RECEIVED);
    assert_eq!((found[1].of, found[1].received), (3, RECEIVED));
    let left: Vec<_> = found[1]
        .unsettled
        .iter()
        .map(|r| (r.recipient, r.attempts, r.domain.clone(), r.due))
        .collect();
    let domain = |text| Domain::parse(text).unwrap();
    let later = RECEIVED + Duration::from_secs(1200);
    assert_eq!(
        left,
        [
            (1, 0, domain("d1.example"), RECEIVED),
            (2, 4, domain("d2.example"), later)
        ]
    );
}

#[test]
fn torn_rows_are_told_and_left_alone() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 2), stored(5, 2)]).unwrap();
    bench.stop();
    let state =
        |id: u128, recipient: u16| [&id.to_be_bytes()[..], &recipient.to_be_bytes()[..]].concat();
    disk.put("envelopes", &2u128.to_be_bytes(), b"\x01\x00");
    disk.put("envelopes", &3u128.to_be_bytes(), b"\x07");
    disk.put("envelopes", b"short", b"");
    disk.put("states", b"short", b"");
    disk.put("states", &state(0, 0), b"\x01\x00");
    disk.put("states", &state(1, 1), b"\x01\x09");
    disk.put("states", &state(1, 2), b"\x01\x00");
    disk.put("states", &state(5, 0), b"\x01\x00");
    disk.put("states", &state(5, 1), b"\x01\x00");
    disk.put("states", &state(9, 1), b"\x01\x00");
    let rows = (disk.rows("envelopes"), disk.rows("states"));
    let mut opened = opened(&disk);
    let mut found = Vec::new();
    let recovery = opened.recover(&mut |r| found.push(r)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].unsettled.len(), 2, "rather twice than never");
    assert_eq!((recovery.messages, recovery.recipients), (1, 2));
    let mut why: Vec<_> = recovery.named.iter().map(ToString::to_string).collect();
    why.sort();
    assert_eq!(why.len(), 9, "{why:#?}");
    assert_eq!(recovery.unreadable, 9);
    assert!(why.iter().any(|w| w.contains("version 7")));
    assert_eq!((disk.rows("envelopes"), disk.rows("states")), rows);
}

#[test]
fn a_full_disk_refuses_mail_and_keeps_the_rest() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench
        .commit(vec![stored(1, 2), stored(2, 1), line("a")])
        .unwrap();
    disk.set_full(true);
    let refused = bench.commit(vec![stored(3, 2), line("never")]);
    assert_eq!(refused, Err(Failed::Full));
    bench.wait_for(Health::Full);
    let first = bench.submit(vec![settled(1, 0, 2), line("b")]);
    let second = bench.submit(vec![settled(1, 1, 2), line("c")]);
    let third = bench.submit(vec![settled(2, 0, 1), line("d")]);
    std::thread::sleep(A_WHILE);
    assert_eq!(bench.commit(vec![stored(4, 1)]), Err(Failed::Full));
    assert_eq!(bench.load(MessageId::from_u128(2)), Some(message(2, 1)));
    disk.set_full(false);
    for token in [first, second, third] {
        assert_eq!(bench.answer(), (token, Ok(())));
    }
    bench.wait_for(Health::Good);
    assert_empty(&disk);
    assert_eq!(bench.commit(vec![stored(5, 1)]), Ok(()));
    let events = bench.stop();
    assert_eq!(lines(&events), ["a", "b", "c", "d"]);
    let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn a_full_disk_is_found_empty_again_without_traffic() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    disk.set_full(true);
    assert_eq!(bench.commit(vec![stored(3, 2)]), Err(Failed::Full));
    bench.wait_for(Health::Full);
    disk.set_full(false);
    bench.wait_for(Health::Good);
    bench.stop();
}

#[test]
fn a_full_disk_keeps_no_more_than_the_queue() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1)]).unwrap();
    disk.set_full(true);
    let batch = |attempts| Batch {
        shard: SHARD,
        token: None,
        changes: vec![deferred(1, 0, attempts)],
    };
    let mut taken = 0;
    let deadline = Instant::now() + A_WHILE;
    while Instant::now() < deadline {
        match bench.spool.submit(batch(taken + 1)) {
            Ok(()) => taken += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!((128..=128 + 64).contains(&taken), "{taken}");
    disk.set_full(false);
    bench.wait_for(Health::Good);
    bench.stop();
    assert_eq!(recovered(&disk)[0].unsettled[0].attempts, taken);
}

#[test]
fn a_message_nobody_can_refuse_waits_for_space() {
    let disk = MemoryDisk::default();
    let bench = begin(&disk);
    disk.set_full(true);
    let batch = Batch {
        shard: SHARD,
        token: None,
        changes: vec![stored(1, 1)],
    };
    bench.spool.submit(batch).unwrap();
    bench.wait_for(Health::Full);
    disk.set_full(false);
    bench.wait_for(Health::Good);
    bench.stop();
    assert_eq!(recovered(&disk).len(), 1);
}

#[test]
fn a_stop_does_not_wait_for_space_for_ever() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1)]).unwrap();
    disk.set_full(true);
    let token = bench.submit(vec![settled(1, 0, 1)]);
    let heard = bench.heard.clone();
    bench.stop();
    let answers: Vec<_> = heard.try_iter().collect();
    let refused = |h: &Heard| matches!(h, Heard::Committed(t, Err(Failed::Full)) if *t == token);
    assert!(answers.iter().any(refused), "{answers:?}");
    disk.set_full(false);
    assert_eq!(recovered(&disk).len(), 1, "delivered again, never lost");
}

#[test]
fn below_the_floor_mail_is_settled_and_not_taken() {
    let disk = MemoryDisk::default();
    let mut options = options();
    options.free_octets_min = 1000;
    disk.set_free_octets(Some(1000));
    let (mut bench, _) = start(open_in_memory(options, &disk).unwrap());
    assert_eq!(bench.commit(vec![stored(1, 1)]), Ok(()));
    disk.set_free_octets(Some(999));
    bench.wait_for(Health::Full);
    assert_eq!(bench.commit(vec![stored(2, 1)]), Err(Failed::Full));
    assert_eq!(bench.commit(vec![settled(1, 0, 1)]), Ok(()));
    disk.set_free_octets(Some(1001));
    bench.wait_for(Health::Good);
    assert_eq!(bench.commit(vec![stored(3, 1)]), Ok(()));
    disk.set_free_octets(None);
    std::thread::sleep(A_WHILE);
    assert_eq!(bench.commit(vec![stored(4, 1)]), Ok(()));
    bench.stop();
}

#[test]
fn a_failed_sync_poisons_for_good() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![stored(1, 1)]).unwrap();
    disk.fail_sync();
    let answer = bench.commit(vec![settled(1, 0, 1)]);
    assert_eq!(answer, Err(Failed::Poisoned));
    bench.wait_for(Health::Poisoned);
    assert!(bench.spool.fault().unwrap().contains("Input/output error"));
    disk.set_full(false);
    assert_eq!(bench.commit(vec![stored(2, 1)]), Err(Failed::Poisoned));
    assert_eq!(bench.commit(vec![line("x")]), Err(Failed::Poisoned));
    assert_eq!(bench.load(MessageId::from_u128(1)), Some(message(1, 1)));
    bench.stop();
    assert_eq!(recovered(&disk).len(), 1);
}

#[test]
fn a_disk_that_has_failed_does_not_hold_up_the_end() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    // More than wait for the log in memory.
    for n in 1..=300 {
        bench.commit(vec![line(&n.to_string())]).unwrap();
    }
    disk.fail_sync();
    assert_eq!(bench.commit(vec![line("x")]), Err(Failed::Poisoned));
    bench.wait_for(Health::Poisoned);
    disk.fail_reads();
    assert!(bench.stop().len() < 300);
    assert_eq!(begin(&disk.after_power_cut()).stop().len(), 300);
}

#[test]
fn a_slow_log_gets_every_event_once_and_delays_nobody() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    let count = 300;
    for n in 1..=count {
        bench.commit(vec![line(&n.to_string())]).unwrap();
    }
    let mut events = bench.read_events(count);
    bench.commit(vec![line("more")]).unwrap();
    events.extend(bench.read_events(count + 1));
    events.extend(bench.stop());
    let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=count + 1).collect::<Vec<_>>());
    assert_eq!(events[41].line.as_ref(), b"42");
}

#[test]
fn events_go_on_behind_the_cursor() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    for n in 1..=10 {
        bench.commit(vec![line(&n.to_string())]).unwrap();
    }
    bench.read_events(10);
    bench.spool.log_cursor(4);
    bench.spool.log_cursor(7);
    let deadline = Instant::now() + PATIENCE;
    while disk.rows("events").len() != 3 {
        assert!(Instant::now() < deadline, "an idle spool writes the cursor");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut bench = begin(&disk.after_power_cut());
    bench.commit(vec![line("11")]).unwrap();
    let events = bench.stop();
    assert_eq!(lines(&events), ["8", "9", "10", "11"]);
    assert_eq!(events[3].sequence, 11);
}

#[test]
fn numbers_go_on_after_all_rows_are_dropped() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![line("1"), line("2")]).unwrap();
    bench.read_events(2);
    bench.spool.log_cursor(u64::MAX);
    bench.stop();
    assert_eq!(disk.rows("events"), [], "a stop writes the cursor");
    let mut bench = begin(&disk.after_power_cut());
    bench.commit(vec![line("3")]).unwrap();
    let events = bench.stop();
    assert_eq!((events.len(), events[0].sequence), (1, 3));
}

#[test]
fn what_the_log_passes_after_the_stop_does_not_come_again() {
    let disk = MemoryDisk::default();
    let mut bench = begin(&disk);
    bench.commit(vec![line("1"), line("2")]).unwrap();
    let spool = bench.spool.clone();
    bench.running.stop();
    assert!(matches!(bench.events.next(PATIENCE), Next::Events(_)));
    spool.log_cursor(2);
    assert_eq!(bench.events.next(PATIENCE), Next::Over);
    assert_eq!(begin(&disk.after_power_cut()).stop(), []);
    assert_eq!(begin(&disk).stop(), []);
}

#[test]
fn one_spool_per_disk_and_none_from_the_future() {
    let disk = MemoryDisk::default();
    let first = opened(&disk);
    let locked = open_in_memory(options(), &disk);
    assert!(matches!(locked, Err(OpenError::Locked { .. })));
    drop(first);
    drop(opened(&disk));
    disk.put("meta", b"format", &2u32.to_be_bytes());
    let newer = open_in_memory(options(), &disk);
    let expected = OpenError::TooNew { found: 2, known: 1 };
    assert_eq!(newer.err(), Some(expected));
    disk.put("meta", b"format", b"?");
    let damaged = open_in_memory(options(), &disk);
    assert!(matches!(damaged, Err(OpenError::Corrupt { .. })));
    let strange = MemoryDisk::default();
    strange.put("bodies", b"k", b"v");
    let refused = open_in_memory(options(), &strange);
    assert!(matches!(refused, Err(OpenError::NotASpool { .. })));
}
