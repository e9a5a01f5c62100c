//! Exit statuses and output of the one-shot commands.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use crate::program::{Run, TestDir, program, run, shell};

#[expect(clippy::disallowed_types, reason = "what a program prints to is a file of the system")]
type OpenOptions = std::fs::OpenOptions;

fn done(out: &str) -> Run {
    Run { status: Some(0), out: out.into(), errors: String::new() }
}

#[test]
fn put_get_del_tell_by_their_status() {
    let dir = TestDir::new("put-get-del");
    let db = dir.path("db");
    let missing = run("get", &db, &["k"]);
    assert_eq!(missing.status, Some(1));
    assert!(missing.errors.starts_with("error: there is no database in "), "{}", missing.errors);
    assert_eq!(run("put", &db, &["k", "v"]).status, Some(1), "one-shot commands create nothing");
    assert!(!db.exists());

    assert_eq!(shell(&db, &[], "").status, Some(0));
    assert_eq!(run("put", &db, &["k", "v"]), done(""));
    assert_eq!(run("put", &db, &["--sync", "--hex", "00ff", "0a"]), done(""));
    assert_eq!(run("get", &db, &["k"]), done("v\n"));
    assert_eq!(run("get", &db, &["--hex", "00ff"]), done("0a\n"));
    assert_eq!(
        run("get", &db, &["--hex", "--json", "00ff"]),
        done("{\"key_hex\":\"00ff\",\"value_hex\":\"0a\"}\n")
    );
    assert_eq!(run("del", &db, &["k"]), done(""));
    let gone = run("get", &db, &["k"]);
    assert_eq!((gone.status, gone.errors.as_str()), (Some(3), "k not found\n"));
    assert_eq!(run("put", &db, &["", ""]), done(""), "empty key and empty value are taken");
    assert_eq!(run("get", &db, &[""]), done("\n"));
}

#[test]
fn scan_takes_bounds_direction_limit_and_forms() {
    let dir = TestDir::new("scan");
    let db = dir.path("db");
    shell(&db, &[], "put a 1\nput b 2\nput ba 3\nput c 4\nput \\x00 \\xff\nflush\nput b 5");
    let scan = |arguments: &[&str]| {
        let run = run("scan", &db, arguments);
        assert_eq!((run.status, run.errors.as_str()), (Some(0), ""));
        run.out
    };
    assert_eq!(scan(&[]), "\\x00=\\xff\na=1\nb=5\nba=3\nc=4\n");
    assert_eq!(scan(&["--from", "b", "--to", "c"]), "b=5\nba=3\n");
    assert_eq!(scan(&["--prefix", "b", "--reverse"]), "ba=3\nb=5\n");
    assert_eq!(scan(&["--reverse", "--limit", "2", "--keys-only"]), "c\nba\n");
    assert_eq!(scan(&["--hex", "--limit", "1"]), "00=ff\n");
    assert_eq!(scan(&["--json", "--from", "c"]), "{\"key\":\"c\",\"value\":\"4\"}\n");
    assert_eq!(scan(&["--prefix", "x"]), "");
}

#[test]
fn keyspaces_are_named_and_not_made_by_reading() {
    let dir = TestDir::new("keyspaces");
    let db = dir.path("db");
    shell(&db, &["--keyspace", "users"], "put 1 ada");
    assert_eq!(run("get", &db, &["--keyspace", "users", "1"]), done("ada\n"));
    assert_eq!(run("get", &db, &["1"]).status, Some(3));
    let unknown = run("put", &db, &["--keyspace", "user", "1", "x"]);
    assert_eq!(unknown.status, Some(1));
    assert_eq!(unknown.errors, "error: there is no keyspace 'user'; there are: default, users\n");
}

#[test]
fn usage_errors_have_status_1_and_help_has_0() {
    let dir = TestDir::new("usage");
    assert_eq!(run("nonsense", &dir.path("db"), &[]).status, Some(1));
    assert_eq!(run("get", &dir.path("db"), &[]).status, Some(1));
    let help = run("help", std::path::Path::new("scan"), &[]);
    assert_eq!(help.status, Some(0));
    assert!(help.out.contains("--keys-only"));
}

#[test]
fn damage_has_status_4_and_one_line() {
    let dir = TestDir::new("damage");
    let db = dir.path("db");
    shell(&db, &[], "fill 1 1000\nflush");
    let table = std::fs::read_dir(&db)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "table"))
        .unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let read = run("scan", &db, &[]);
    assert_eq!(read.status, Some(4));
    assert_eq!(read.errors.lines().count(), 1, "{}", read.errors);
    assert!(
        read.errors.contains(&*table.file_name().unwrap().to_string_lossy()),
        "{}",
        read.errors
    );
    assert_eq!(run("dump", &table, &[]).status, Some(4));
    let said = shell(&db, &[], "bogus\nget 100\nput new value\nbogus");
    assert_eq!((said.status, said.out.as_str()), (Some(4), "ok\n"), "the shell goes on");
    assert_eq!(said.errors.lines().count(), 3, "{}", said.errors);
}

#[test]
fn output_that_finds_no_room_is_an_error() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        // Not by a macro: what those print of a test that passes is shown to nobody.
        let test = "output_that_finds_no_room_is_an_error";
        drop(writeln!(std::io::stdout(), "{test}: SKIPPED, not passed: there is no /dev/full"));
        return;
    };
    let dir = TestDir::new("full-output");
    let db = dir.path("db");
    shell(&db, &[], "put a 1");
    for (command, argument) in [("help", Path::new("scan")), ("get", &*db), ("scan", &*db)] {
        let arguments: &[&str] = if command == "get" { &["a"] } else { &[] };
        let mut program = program(command, argument, arguments);
        let run = Run::from(program.stdout(full.try_clone().unwrap()).output().unwrap());
        let expected = "error: cannot write the output: No space left on device (os error 28)\n";
        assert_eq!((run.status, run.errors.as_str()), (Some(1), expected), "{command}");
    }
}

#[test]
fn maintenance_commands_work_on_a_closed_database() {
    let dir = TestDir::new("maintenance");
    let db = dir.path("db");
    shell(&db, &[], "fill 1 100");
    assert_eq!(run("flush", &db, &[]), done(""));
    let levels = run("levels", &db, &[]).out;
    assert!(levels.starts_with("keyspace default: 1 tables, "), "{levels}");
    assert_eq!(run("compact", &db, &[]), done(""));
    assert_eq!(
        run("compact", &db, &["--keyspace", "default", "--from", "1", "--to", "5"]),
        done("")
    );
    let stats = run("stats", &db, &[]).out;
    assert!(stats.starts_with("health good\n"), "{stats}");
    assert!(stats.contains("keyspace default table_entries 100\n"), "{stats}");
}

#[test]
fn reader_that_goes_away_ends_the_program_quietly() {
    let dir = TestDir::new("broken-pipe");
    let db = dir.path("db");
    shell(&db, &[], "fill 1 100000");
    let mut child = program("scan", &db, &[]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1=value1@0\n");
    // The reader and its pipe are gone; the program still has most of its output to print.
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.status, run.errors.as_str()), (Some(0), ""));
}
