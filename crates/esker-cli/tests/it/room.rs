//! What is said where the device has no room left.

use std::path::Path;
use std::process::Command;

use esker::{Compression, Db, KeyspaceOptions, Options};

use crate::program::{Run, TestDir, run};

/// Runs the program where no file may be longer than 128 KiB, as if the device were full there.
fn run_with_little_room(arguments: &[&str]) -> Run {
    let little = ["-c", "trap '' XFSZ; ulimit -f 256; exec \"$@\"", "sh"];
    let program =
        Command::new("sh").args(little).arg(env!("CARGO_BIN_EXE_esker")).args(arguments).output();
    program.unwrap().into()
}

/// A database as a crash leaves it, whose log has room left and whose tables will not have it.
fn crashed(dir: &TestDir) -> std::path::PathBuf {
    let (open, copy) = (dir.path("open"), dir.path("db"));
    let options = Options { log_compression_threshold_bytes: Some(512), ..Options::default() };
    let keyspace = KeyspaceOptions {
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let db = Db::builder(&open).options(options).default_keyspace(keyspace).open().unwrap();
    let mut batch = db.batch();
    (0..1000)
        .for_each(|key| batch.put(db.default_keyspace(), format!("{key:04}"), "x".repeat(1000)));
    batch.commit().unwrap();
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&open).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

/// They said only why the close had failed, as if nothing had been written.
#[test]
fn a_write_that_is_stored_is_said_to_be() {
    for (command, arguments) in
        [("put", &["new", "value"][..]), ("put", &["new", "value", "--sync"]), ("del", &["0000"])]
    {
        let dir = TestDir::new("room-close");
        let db = crashed(&dir);
        let written = run_with_little_room(&[&[command, db.to_str().unwrap()], arguments].concat());
        assert_eq!((written.status, written.out.as_str()), (Some(1), ""));
        let start = "error: the write is stored, but the database could not be closed in order: ";
        assert!(written.errors.starts_with(start), "{}", written.errors);
        assert_eq!(written.errors.lines().count(), 1);
        let key = if command == "put" { "new" } else { "0000" };
        let expected = if command == "put" { Some(0) } else { Some(3) };
        assert_eq!(run("get", Path::new(&db), &[key]).status, expected);
    }
}

#[test]
fn a_load_that_finds_no_room_says_what_is_stored() {
    let dir = TestDir::new("room-load");
    let (db, input) = (dir.path("db"), dir.path("in.tsv"));
    let lines: String = (0..40_000).map(|n| format!("key{n:06}\tvalue {n}\n")).collect();
    std::fs::write(&input, lines).unwrap();
    let (db_name, input) = (db.to_str().unwrap(), input.to_str().unwrap());
    let load = ["load", db_name, "--format", "tsv", "--from", input];
    let loaded = run_with_little_room(&load);
    assert_eq!((loaded.status, loaded.out.as_str()), (Some(1), ""));
    let there = run("scan", &db, &["--keys-only"]).out.lines().count();
    assert!((1000..39_000).contains(&there), "{there}");
    let start = format!("error: {input}: from line {} on: not stored: ", there + 1);
    assert!(loaded.errors.starts_with(&start), "{}", loaded.errors);
    let text = there.to_string();
    let (thousands, rest) = text.split_at(text.len() - 3);
    let end = format!("({thousands},{rest} records before it are stored)\n");
    assert!(loaded.errors.ends_with(&end), "{}", loaded.errors);
    std::fs::remove_dir_all(&db).unwrap();
    let bulk = run_with_little_room(&[&load[..], &["--bulk"]].concat());
    assert_eq!(bulk.status, Some(1));
    assert!(bulk.errors.ends_with(" (no record is stored)\n"), "{}", bulk.errors);
    assert_eq!(run("scan", &db, &[]).out, "");
}
