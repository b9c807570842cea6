//! A process that brings a spool into a state and then waits to be killed: this test binary itself,
//! started again for one test that does nothing otherwise.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use posthaste::spool::{self, Batch, Failed, Health};

use super::{PATIENCE, SHARD, Started, deferred, line, options, settled, start, stored};

const SCENE: &str = "POSTHASTE_CRASH_SCENE";
const FOLDER: &str = "POSTHASTE_CRASH_FOLDER";
/// Written beside the spool when the state is reached.
const READY: &str = "ready";
/// Written beside the spool by the scene `kept`: how many messages are in it.
pub(super) const MANY: &str = "many";
/// In which a full disk is tried several times.
const TRIALS: Duration = Duration::from_millis(500);

/// Plays `scene` in the spool `folder/spool` in another process, and kills that process.
pub(super) fn play_and_kill(scene: &str, folder: &Path) {
    let mut child = play(scene, folder);
    child.kill().expect("the child is killed");
    child.wait().expect("the child is gone");
}

/// The same, and leaves it alive.
pub(super) fn play(scene: &str, folder: &Path) -> Child {
    let ready = folder.join(READY);
    let _ = std::fs::remove_file(&ready);
    let program = std::env::current_exe().expect("this binary has a path");
    let mut child = Command::new(program)
        .args(["--exact", "crash::child::scene", "--nocapture"])
        .env(SCENE, scene)
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("this binary starts again");
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        let ended = child.try_wait().expect("the child can be asked");
        assert_eq!(ended, None, "`{scene}` plays to its end");
        assert!(Instant::now() < deadline, "`{scene}` in time");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Does nothing unless [`play`] started it.
#[test]
fn scene() {
    let (Ok(scene), Some(folder)) = (std::env::var(SCENE), std::env::var_os(FOLDER)) else {
        return;
    };
    let folder = Path::new(&folder);
    let path = folder.join("spool");
    if scene == "open" {
        let opened = spool::open(options(&path)).expect("the spool opens");
        wait_for_death(folder);
        drop(opened);
        return;
    }
    let mut started = start(&path);
    if scene == "kept" {
        kept(&mut started, folder);
        wait_for_death(folder);
        return;
    }
    let mut commit = |changes| started.commit(changes).expect("the batch is committed");
    match scene.as_str() {
        "submitted" => {
            commit(vec![stored(1, 1, 100)]);
            std::fs::write(folder.join(READY), "").expect("the parent is told");
            for id in 2.. {
                let other = id + (1 << 64);
                started.submit(vec![stored(id, 2, 3000), stored(other, 1, 10), line("x")]);
            }
        }
        "stored" => commit(vec![stored(1, 1, 10_000), stored(2, 3, 10)]),
        "deferred" => {
            commit(vec![stored(1, 1, 100), stored(2, 2, 100)]);
            commit(vec![deferred(1, 0, 1), deferred(2, 1, 7)]);
            commit(vec![deferred(1, 0, 2)]);
        }
        "partly settled" => {
            commit(vec![stored(1, 3, 100)]);
            commit(vec![deferred(1, 2, 5), settled(1, 0, 3)]);
        }
        "gone" => {
            commit(vec![
                stored(1, 1, 5000),
                stored(2, 2, 5000),
                stored(3, 1, 1),
            ]);
            commit(vec![settled(2, 0, 2)]);
            commit(vec![settled(1, 0, 1), settled(2, 1, 2)]);
        }
        "recorded" => {
            for n in 1..=5 {
                commit(vec![line(&format!("line {n}"))]);
            }
        }
        "passed" => {
            for n in 1..=5 {
                commit(vec![line(&format!("line {n}"))]);
            }
            started.spool.log_cursor(3);
            // Longer than the committer waits between two cursors.
            std::thread::sleep(Duration::from_millis(200));
            started.commit(vec![stored(1, 1, 10)]).expect("it commits");
        }
        unknown => panic!("no scene `{unknown}`"),
    }
    wait_for_death(folder);
}

/// On a small disk, which is full when this ends: a settle, and a message that nobody can refuse, are kept
/// and not answered.
fn kept(started: &mut Started, folder: &Path) {
    let mut many = 0;
    let fills = |id| vec![stored(id, 1, 100_000), line("stored")];
    while started.commit(fills(many)).is_ok() {
        many += 1;
    }
    started.wait_for(Health::Full);
    started.submit(vec![settled(0, 0, 1), line("settled")]);
    started.submit(vec![deferred(1, 0, 3), line("deferred")]);
    let unasked = Batch {
        shard: SHARD,
        token: None,
        changes: vec![stored(1 << 70, 1, 10), line("unasked")],
    };
    started.spool.submit(unasked).expect("it is queued");
    // What is refused was taken after what is kept.
    let refused = started.commit(vec![stored(1 << 71, 1, 10)]);
    assert_eq!(refused, Err(Failed::Full));
    let answered = started.heard.recv_timeout(TRIALS);
    assert!(answered.is_err(), "what is kept is not answered");
    std::fs::write(folder.join(MANY), many.to_string()).expect("the parent reads it");
}

fn wait_for_death(folder: &Path) {
    std::fs::write(folder.join(READY), "").expect("the parent is told");
    std::thread::sleep(2 * PATIENCE);
}
