//! States that a killed process leaves behind.

use std::time::Duration;

use super::child::{play, play_and_kill};
use posthaste::spool::Next;

use super::{PATIENCE, line, lines, message, settled, start, stored};

#[test]
fn of_a_group_all_is_there_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let folder = folder.path().join(round.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        let mut child = play("submitted", &folder);
        std::thread::sleep(Duration::from_millis(50 + 60 * round));
        child.kill().expect("the child is killed");
        child.wait().expect("the child is gone");
        let started = start(&folder.join("spool"));
        assert!(started.left(1).is_some(), "it was committed");
        let ids: Vec<_> = started.found.keys().map(|id| id.as_u128()).collect();
        let first = ids.iter().filter(|id| **id < 1 << 64).count();
        let second = ids.len() - first;
        assert_eq!(first, second + 1, "each batch stored one of each");
        for id in ids.iter().filter(|id| **id > 1 && **id < 1 << 64) {
            assert!(started.left(*id + (1 << 64)).is_some());
            assert_eq!(started.load(*id), Some(message(*id, 2, 3000)));
        }
        assert_eq!(started.stop().len(), second, "the books agree");
    }
}

#[test]
fn stored_mail_is_handed_on_as_never_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("stored", folder.path());
    let started = start(&folder.path().join("spool"));
    assert_eq!(started.left(1), Some(vec![(0, 0, 0)]));
    assert_eq!(started.left(2), Some(vec![(0, 0, 0), (1, 0, 0), (2, 0, 0)]));
    assert_eq!(started.load(1), Some(message(1, 1, 10_000)));
    assert_eq!(started.load(2), Some(message(2, 3, 10)));
    started.stop();
}

#[test]
fn deferred_mail_keeps_its_attempts_and_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("deferred", folder.path());
    let started = start(&folder.path().join("spool"));
    assert_eq!(started.left(1), Some(vec![(0, 2, 600)]));
    assert_eq!(started.left(2), Some(vec![(0, 0, 0), (1, 7, 2100)]));
    started.stop();
}

#[test]
fn settled_recipients_do_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("partly settled", folder.path());
    let path = folder.path().join("spool");
    let mut started = start(&path);
    assert_eq!(started.left(1), Some(vec![(1, 0, 0), (2, 5, 1500)]));
    // The count was made again: a repeated settle counts for nothing, the last one for all.
    started.commit(vec![settled(1, 0, 3)]).expect("it commits");
    started.commit(vec![settled(1, 1, 3)]).expect("it commits");
    assert!(started.load(1).is_some());
    started.commit(vec![settled(1, 2, 3)]).expect("it commits");
    assert_eq!(started.load(1), None);
    started.stop();
    assert_eq!(start(&path).found.len(), 0);
}

#[test]
fn settled_mail_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("gone", folder.path());
    let started = start(&folder.path().join("spool"));
    assert_eq!(started.found.len(), 1);
    assert_eq!(started.load(1), None);
    assert_eq!(started.load(3), Some(message(3, 1, 1)));
    started.stop();
}

#[test]
fn recorded_events_come_again_from_the_cursor_on() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("recorded", folder.path());
    let path = folder.path().join("spool");
    let mut started = start(&path);
    started.commit(vec![line("line 6")]).expect("it commits");
    let events = started.stop();
    assert_eq!(events.len(), 6);
    assert_eq!((events[0].sequence, events[5].sequence), (1, 6));
    assert_eq!(lines(&events)[5], "line 6");
    // Nobody passed them.
    assert_eq!(start(&path).stop(), events);
}

#[test]
fn passed_events_do_not_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    play_and_kill("passed", folder.path());
    let path = folder.path().join("spool");
    let mut started = start(&path);
    started.commit(vec![line("line 6")]).expect("it commits");
    let spool = started.spool.clone();
    started.running.stop();
    let Next::Events(mut events) = started.events.next(PATIENCE) else {
        panic!("there are events");
    };
    while let Next::Events(more) = started.events.next(PATIENCE) {
        events.extend(more);
        spool.log_cursor(events[events.len() - 1].sequence);
    }
    assert_eq!(lines(&events), ["line 4", "line 5", "line 6"]);
    let mut started = start(&path);
    started.commit(vec![line("line 7")]).expect("it commits");
    let events = started.stop();
    assert_eq!((events.len(), events[0].sequence), (1, 7));
}

#[test]
fn mail_that_reached_files_is_recovered_and_deleted_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut started = start(&path);
    for id in 0..600 {
        started.submit(vec![stored(id, 1, 20_000)]);
    }
    for _ in 0..600 {
        assert_eq!(started.answer().1, Ok(()));
    }
    started.stop();
    let mut started = start(&path);
    assert_eq!(started.found.len(), 600);
    assert_eq!(started.load(17), Some(message(17, 1, 20_000)));
    for id in 0..599 {
        started.submit(vec![settled(id, 0, 1)]);
    }
    for _ in 0..599 {
        assert_eq!(started.answer().1, Ok(()));
    }
    assert_eq!(started.load(17), None);
    started.stop();
    let started = start(&path);
    assert_eq!(started.found.len(), 1);
    assert_eq!(started.load(599), Some(message(599, 1, 20_000)));
    started.stop();
}
