//! Directories that are not, or not any more, a spool for us.

use std::fs;
use std::path::Path;

use posthaste::spool::{self, OpenError};
use rocksdb::{DB, Options as RocksOptions};

use super::child::{play, play_and_kill};
use super::{options, start, stored};

fn refusal(path: &Path) -> OpenError {
    match spool::open(options(path)) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error) => error,
    }
}

#[test]
fn a_spool_has_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut child = play("open", folder.path());
    let error = refusal(&path);
    child.kill().expect("the child is killed");
    child.wait().expect("the child is gone");
    assert_eq!(error, OpenError::Locked { path: path.clone() });
    assert!(
        error.to_string().contains("stop the other server"),
        "{error}"
    );
    start(&path).stop();
    let opened = spool::open(options(&path)).expect("the spool opens");
    assert_eq!(refusal(&path), OpenError::Locked { path });
    drop(opened);
}

#[test]
fn a_first_start_cut_short_is_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    play_and_kill("open", folder.path());
    start(&path).stop();
    // As before `CURRENT` is written, and as before our tables are made.
    let early = folder.path().join("early");
    fs::create_dir(&early).expect("a folder");
    for name in ["LOCK", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(early.join(name), "").expect("a file");
    }
    start(&early).stop();
    let middle = folder.path().join("middle");
    drop(DB::open_default(&middle).expect("a database"));
    start(&middle).stop();
    let tables = folder.path().join("tables");
    let mut all = RocksOptions::default();
    all.create_if_missing(true);
    all.create_missing_column_families(true);
    let names = ["bodies", "envelopes", "states", "events", "meta"];
    drop(DB::open_cf(&all, &tables, names).expect("a database"));
    start(&tables).stop();
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("letter.txt"), "dear").expect("a file");
    let error = refusal(folder.path());
    assert!(matches!(&error, OpenError::NotASpool { found, .. } if **found == *"letter.txt"));
    assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 1);
    let other = folder.path().join("other");
    let database = DB::open_default(&other).expect("a database");
    drop(database);
    let mut options = RocksOptions::default();
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, &other, ["users"]).expect("a database"));
    assert!(matches!(refusal(&other), OpenError::NotASpool { .. }));
    let file = folder.path().join("letter.txt");
    assert!(matches!(refusal(&file), OpenError::Io { .. }));
}

#[test]
fn a_newer_spool_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    start(&path).stop();
    let mut options = RocksOptions::default();
    options.create_missing_column_families(true);
    let mut names = vec!["bodies", "envelopes", "states", "events", "meta"];
    let put = |names: &[&str]| {
        let database = DB::open_cf(&options, &path, names).expect("a database");
        let meta = database.cf_handle("meta").expect("a table");
        let newer = 2u32.to_be_bytes();
        database.put_cf(meta, b"format", newer).expect("a row");
    };
    put(&names);
    let expected = OpenError::TooNew { found: 2, known: 1 };
    assert_eq!(refusal(&path), expected);
    names.push("suspensions");
    put(&names);
    assert_eq!(refusal(&path), expected);
}

#[test]
fn a_damaged_spool_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut started = start(&path);
    started.commit(vec![stored(1, 1, 50)]).expect("it commits");
    started.stop();
    let manifest = fs::read_dir(&path)
        .expect("a list")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains("MANIFEST"))
        .expect("a manifest");
    let mut octets = fs::read(&manifest).expect("a file");
    for octet in &mut octets[10..60] {
        *octet ^= 0x55;
    }
    fs::write(&manifest, octets).expect("a file");
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

/// Tables were compared with their checksums, so none of this may be taken for mail.
#[test]
fn damaged_tables_are_no_panic_and_no_mail() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let mut started = start(&path);
    for id in 0..50 {
        started.commit(vec![stored(id, 1, 50)]).expect("it commits");
    }
    started.stop();
    for entry in fs::read_dir(&path).expect("a list") {
        let file = entry.expect("an entry").path();
        if file.extension().is_some_and(|ext| ext == "sst") {
            let mut octets = fs::read(&file).expect("a file");
            let middle = octets.len() / 3;
            for octet in octets.iter_mut().take(middle) {
                *octet ^= 0x55;
            }
            fs::write(&file, octets).expect("a file");
        }
    }
    let damaged = spool::open(options(&path)).and_then(|mut opened| {
        opened.recover(&mut |found| panic!("{found:?} is mail"))?;
        Ok(())
    });
    assert!(
        matches!(damaged, Err(OpenError::Corrupt { .. })),
        "{damaged:?}"
    );
}
