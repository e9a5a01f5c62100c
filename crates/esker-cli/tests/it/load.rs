//! Loading: every format, from files and pipes, and what a wrong line leaves.

use std::io::Write as _;
use std::process::Stdio;

use crate::program::{Run, TestDir, program, run};

#[test]
fn every_format_is_loaded_and_counted() {
    let dir = TestDir::new("load");
    let db = dir.path("db");
    let file = dir.path("input");
    let path = file.to_str().unwrap();
    for (format, text, key, value) in [
        ("tsv", "a\t1\nb\t2\tx\n", "b", "2\tx"),
        ("jsonl", "{\"key\":\"c\",\"value\":{\"n\":1}}\n", "c", "{\"n\":1}"),
        (
            "debian-packages",
            "Package: d\nVersion: 1\nArchitecture: all\n",
            "d/1/all",
            "Package: d\nVersion: 1\nArchitecture: all\n",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let load = run("load", &db, &["--format", format, "--from", path, "--keyspace", format]);
        assert_eq!((load.status, load.errors.as_str()), (Some(0), ""));
        assert!(load.out.starts_with("loaded "), "{}", load.out);
        let get = run("get", &db, &["--json", "--keyspace", format, key]);
        assert!(get.out.contains(&format!("{value:?}").replace('\'', "")), "{}", get.out);
    }
}

#[test]
fn scan_as_json_loads_again_from_a_pipe() {
    let dir = TestDir::new("load-json");
    let (from, to) = (dir.path("from"), dir.path("to"));
    crate::program::shell(&from, &[], "put a 1\nput \\x00 \\xff\nput '' ''");
    let lines = run("scan", &from, &["--json"]).out;
    let mut child = program("load", &to, &["--format", "jsonl", "--from", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let load = Run::from(child.wait_with_output().unwrap());
    assert!(load.out.starts_with("loaded 3 records"), "{load:?}");
    assert_eq!(run("scan", &to, &["--json"]).out, lines);
}

#[test]
fn wrong_line_is_named_and_what_is_before_it_stays() {
    let dir = TestDir::new("load-error");
    let db = dir.path("db");
    let file = dir.path("input.tsv");
    std::fs::write(&file, "a\t1\nb\t2\nwrong\nc\t3\n").unwrap();
    let load = run("load", &db, &["--format", "tsv", "--from", file.to_str().unwrap()]);
    assert_eq!(load.status, Some(1));
    assert_eq!(
        load.errors,
        format!(
            "error: {}: line 3: there is no tab between key and value (2 records before it are \
             stored)\n",
            file.display()
        )
    );
    assert_eq!(run("scan", &db, &[]).out, "a=1\nb=2\n");
    let missing = run("load", &dir.path("none"), &["--format", "tsv", "--from", "no-such-file"]);
    assert_eq!(missing.status, Some(1));
    assert!(!dir.path("none").exists(), "nothing is created for an input that is not there");
}

/// They were stored as they stood, a line a record.
#[test]
fn input_that_cannot_be_decompressed_is_refused() {
    let dir = TestDir::new("load-compressed");
    let (db, input) = (dir.path("db"), dir.path("in.tsv.xz"));
    std::fs::write(&input, b"\xfd7zXZ\0\0\x04\t\n\t").unwrap();
    let from = input.to_str().unwrap();
    let load = run("load", &db, &["--format", "tsv", "--from", from]);
    let expected = format!("error: {from} is xz: decompress it first\n");
    assert_eq!((load.status, load.errors), (Some(1), expected));
    assert!(!db.exists());
}

#[test]
fn bulk_loads_in_any_order_and_all_or_nothing() {
    let dir = TestDir::new("load-bulk");
    let (db, input) = (dir.path("db"), dir.path("in.tsv"));
    let from = input.to_str().unwrap();
    let options = ["--format", "tsv", "--bulk", "--from", from];
    std::fs::write(&input, "b\t2\na\t1\nno tab\n").unwrap();
    let load = run("load", &db, &options);
    assert_ne!(load.status, Some(0));
    assert!(load.errors.contains("line 3: "), "{}", load.errors);
    assert!(load.errors.contains("(no record is stored)"), "{}", load.errors);
    assert_eq!(run("scan", &db, &[]).out, "");
    std::fs::write(&input, "b\t2\na\t1\nb\t3\n").unwrap();
    let load = run("load", &db, &options);
    assert_eq!((load.status, load.errors.as_str()), (Some(0), ""));
    assert!(load.out.starts_with("loaded 3 records"), "{}", load.out);
    assert_eq!(run("scan", &db, &[]).out, "a=1\nb=3\n");
}
