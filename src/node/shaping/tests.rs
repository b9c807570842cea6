//! Files of a folder, their order, their faults, and their changes.

use std::fs;
use std::path::PathBuf;

use super::*;

fn options(files: Vec<PathBuf>) -> Options {
    Options {
        base: "[\"default\"]\nconnection_limit = 7\n".into(),
        is_shipped_used: true,
        files,
        pools: Some(["default".into(), "bulk".into()].into()),
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_names_and_seen_to_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_path_buf();
    fs::write(path.join("b.toml"), "[\"default\"]\nconnection_limit = 2\n").unwrap();
    fs::write(path.join("a.toml"), "[\"default\"]\nconnection_limit = 1\n").unwrap();
    fs::write(
        path.join("c.json"),
        "{\"default\": {\"max_message_rate\": \"1/s\"}}",
    )
    .unwrap();
    fs::write(path.join("notes.txt"), "not for us").unwrap();
    let wanted = options(vec![path.clone()]);
    let loaded = load(&wanted).expect("all is well");
    assert_eq!(loaded.files, 3);
    assert_eq!(Stamps::take(&wanted.files), loaded.stamps);
    fs::write(
        path.join("a.toml"),
        "[\"default\"]\nconnection_limit = 11\n",
    )
    .unwrap();
    assert_ne!(Stamps::take(&wanted.files), loaded.stamps, "changed");
    let loaded = load(&wanted).expect("all is well");
    fs::remove_file(path.join("b.toml")).unwrap();
    assert_ne!(Stamps::take(&wanted.files), loaded.stamps, "gone");
}

#[test]
fn what_is_wrong_names_its_file_and_what_is_missing_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wrong.toml");
    fs::write(
        &path,
        "[\"default\"]\nconection_limit = 1\n[\"x.example\"]\nmax_message_rate = \"1/y\"\n",
    )
    .unwrap();
    let told = load(&options(vec![path.clone()])).unwrap_err().to_string();
    assert!(
        told.contains("wrong.toml:2:1: ") && told.contains("connection_limit"),
        "{told}"
    );
    assert!(
        told.contains("wrong.toml:4:"),
        "all faults are told: {told}"
    );
    fs::write(
        &path,
        "[[label]]\npool = \"bulk\"\n[[label]]\npool = \"blk\"\n",
    )
    .unwrap();
    let told = load(&options(vec![path.clone()])).unwrap_err().to_string();
    assert!(
        told.contains("wrong.toml:3:1: ") && told.contains("there are bulk, default"),
        "{told}"
    );
    let unknown = Options {
        pools: None,
        ..options(vec![path.clone()])
    };
    load(&unknown).expect("which pools there are is not known");
    fs::remove_file(&path).unwrap();
    let told = load(&options(vec![path])).unwrap_err().to_string();
    assert!(told.contains("wrong.toml: No such file"), "{told}");
}
