//! How much one commit takes.

use super::*;

/// How many commits it takes when all of `batches` is queued before the start; with a disk that is full
/// then, how many it takes once there is space.
fn commits_of(batches: Vec<Vec<Change>>, is_full: bool) -> u64 {
    let disk = MemoryDisk::default();
    let mut options = options();
    options.batches_max = batches.len();
    let opened = open_in_memory(options, &disk).unwrap();
    let spool = opened.spool();
    let count = batches.len();
    for (token, changes) in (0..).zip(batches) {
        let batch = Batch {
            shard: SHARD,
            token: Some(token),
            changes,
        };
        spool.submit(batch).unwrap();
    }
    let before = disk.syncs();
    disk.set_full(is_full);
    let (bench, _) = start(opened);
    if is_full {
        bench.wait_for(Health::Full);
        disk.set_full(false);
    }
    for token in 0..count {
        let token = u64::try_from(token).unwrap();
        assert_eq!(bench.answer(), (token, Ok(())));
    }
    let commits = disk.syncs() - before;
    bench.stop();
    commits
}

#[test]
fn a_group_takes_a_mebibyte_and_its_last_message() {
    let large = |id| {
        let mut message = (*message(id, 1)).clone();
        message.data = Bytes::from(vec![b'x'; 300_000]);
        vec![Change::Store(Arc::new(message))]
    };
    // Four of them are more than a mebibyte, three are less.
    assert_eq!(commits_of((0..8).map(large).collect(), false), 2);
    assert_eq!(commits_of((0..9).map(large).collect(), false), 3);
    let record = |_| vec![line(&"x".repeat(300_000))];
    assert_eq!(commits_of((0..9).map(record).collect(), false), 3);
}

#[test]
fn a_group_takes_128_messages_however_many_a_batch_has() {
    let pair = |id| vec![stored(id, 1), stored(id + 1000, 1)];
    assert_eq!(commits_of((0..64).map(pair).collect(), false), 1);
    assert_eq!(commits_of((0..65).map(pair).collect(), false), 2);
}

#[test]
fn a_group_takes_1024_batches_whatever_they_hold() {
    let small = |_| vec![line("x")];
    assert_eq!(commits_of((0..1024).map(small).collect(), false), 1);
    assert_eq!(commits_of((0..1025).map(small).collect(), false), 2);
}

#[test]
fn what_waited_for_space_is_taken_in_groups_too() {
    let small = |_| vec![line("x")];
    assert_eq!(commits_of((0..1500).map(small).collect(), true), 2);
    let large = |_| vec![line(&"x".repeat(300_000))];
    assert_eq!(commits_of((0..8).map(large).collect(), true), 2);
}
